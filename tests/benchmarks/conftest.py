"""A made-up history that the tests here share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import eventstore
from benchmarks.large_history.making import make_store
from tests.benchmarks import BLOCK, RECORDS, SEED


@pytest.fixture(scope="package")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("history") / "store"
    make_store(directory, RECORDS, seed=SEED, block_records=BLOCK, blocks_per_segment=2)
    return directory


@pytest.fixture(scope="package")
def store(directory: Path) -> Iterator[eventstore.MetadataStore]:
    with eventstore.open(directory, read_only=True) as store:
        yield store
