"""A published table, as readers of Iceberg see it, and the same records as the log has them."""

from __future__ import annotations

import os
from typing import Any

import polars
from pyiceberg.table import Table

from eventstore.log import Log

os.environ["POLARS_ICEBERG_PLANNER"] = "pyiceberg"

_COMPARED = ["position", "commit", "recorded_at", "kind", "entity_id", "actor", "name", "uri"]
_COMPARED += ["artifact_id", "event_time", "properties", "salt", "commitment", "payload"]


def expected(log: Log, upto: int) -> list[dict[str, Any]]:
    """The records of a log up to a position, by Arrow."""
    return [row for batch in log.scan(0, upto, _COMPARED) for row in batch.to_pylist()]


def assert_agrees(table: Table, log: Log) -> int:
    """Each reader sees the records up to the position of the snapshot; the position."""
    snapshot = table.current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    said = snapshot.summary.additional_properties
    position = int(said["eventstore.position"])
    records = expected(log, position)
    found = table.scan(selected_fields=tuple(_COMPARED)).to_arrow().sort_by("position")
    assert found.select(_COMPARED).to_pylist() == records
    lazy = polars.scan_iceberg(table, reader_override="native").select(_COMPARED)
    by_polars = lazy.sort("position").collect().to_dicts()
    for row in by_polars:
        row["properties"] = [*dict(row["properties"]).items()]
    assert by_polars == records
    assert [commit.tree_head.hex() for commit in log.commits(0, position)][-1] == said[
        "eventstore.tree-head"
    ]
    assert said["eventstore.store-id"] == str(log.store_id)
    return position
