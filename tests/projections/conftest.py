"""A log whose tables are tested, where they are, and what they answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventstore.log import DirectoryLog, Log
from eventstore.log import record as kind_names
from eventstore.projections import Projections
from tests.builders import append, draft, list_ids


@pytest.fixture
def log(tmp_path: Path) -> DirectoryLog:
    """A log of five artifacts, the first of which has a second version."""
    log = DirectoryLog.create(tmp_path / "store")
    append(log, *(draft(entity_id) for entity_id in range(1, 6)))
    append(log, draft(1, previous=1))
    return log


def artifact_ids(projections: Projections) -> list[int]:
    position = projections.catch_up()
    return [node_id for node_id, _ in list_ids(projections, kind_names.ARTIFACT, as_of=position)]


def database(log: Log) -> Path:
    assert log.directory is not None
    return log.directory / "projections" / "tables.duckdb"
