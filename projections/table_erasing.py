"""Erase content from the DuckDB tables: what a requested erasure makes of rows that are there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.compute as compute

from eventstore.log import Log, records_at
from eventstore.log.arrow_values import scalar_of
from eventstore.log.columns import VALUE_TYPE
from eventstore.log.erased import Spans
from eventstore.log.readable import read_message
from eventstore.log.record import ERASURE
from eventstore.projections.erased_nodes import ERASED_BY
from eventstore.projections.erasures import requested_spans
from eventstore.projections.table_changes import (
    FOLDED_COLUMNS,
    NODE_TABLES,
    VALUES,
    property_entries,
)
from eventstore.proto import retention_pb2 as retention

_CONTENT: Final = {
    "name": pa.utf8(),
    "external_id": pa.utf8(),
    "uri": pa.utf8(),
    "state": pa.int32(),
    "create_time": pa.int64(),
    "update_time": pa.int64(),
}
"""The columns of a node that its content says."""

_ROWS: Final = pa.schema(
    [
        ("position", pa.int64()),
        *_CONTENT.items(),
        ("erased_by", pa.int64()),
        ("replaced_by", pa.int64()),
    ]
)
_PROPERTIES: Final = pa.schema(
    [("position", pa.int64()), ("is_custom", pa.bool_()), ("name", pa.utf8()), *VALUE_TYPE]
)
_ANSWERED: Final = """
SELECT valid_from, replaced_by FROM {nodes} WHERE replaced_by IS NOT NULL
"""
_SET: Final = ", ".join(f"{name} = e.{name}" for name in _ROWS.names[1:])
_UPDATE: Final = f"""
UPDATE {{nodes}} SET {_SET} FROM erased_rows AS e WHERE valid_from = e.position
"""
_DELETE: Final = """
DELETE FROM {properties} WHERE valid_from IN (SELECT position FROM erased_rows)
"""
_INSERT: Final = f"""
INSERT INTO {{properties}}
SELECT n.id, p.is_custom, p.name, {", ".join(f"p.{value}" for value in VALUES)},
    n.valid_from, n.valid_to
FROM erased_properties AS p JOIN {{nodes}} AS n ON n.valid_from = p.position
"""


class _Erased(NamedTuple):
    """A node's record whose content is erased, and what is answered for it."""

    position: int
    entity_id: int
    recorded_ms: int
    number: int
    replaced_by: int

    @property
    def row(self) -> dict[str, Any]:
        return {
            "position": self.position,
            "create_time": self.recorded_ms,
            "update_time": self.recorded_ms,
            "erased_by": self.number,
        }

    @property
    def tombstone(self) -> dict[str, Any]:
        """Its only property."""
        named = {"is_custom": True, "name": ERASED_BY}
        return named | {"position": self.position, "int_value": self.number}


class _Replacement(NamedTuple):
    """What a record holds that takes the place of another's content."""

    kind: str
    entity_id: int
    columns: dict[str, Any]
    properties: list[dict[str, Any]]


def apply_erasures(connection: duckdb.DuckDBPyConnection, log: Log, batch: pa.RecordBatch) -> None:
    """Erase from the tables what records of a batch ask for, whose other changes are made."""
    is_erasure = compute.equal(batch["kind"], scalar_of(ERASURE, pa.utf8()))
    for position in batch["position"].filter(is_erasure).to_pylist():
        (found,) = log.scan(position - 1, position, ["payload"])
        erasure = read_message(retention.Erasure, found["payload"][0].as_py())
        if erasure.stage == retention.Erasure.REQUESTED:
            _apply_erasure(connection, log, position, erasure)


def _apply_erasure(
    connection: duckdb.DuckDBPyConnection, log: Log, position: int, erasure: retention.Erasure
) -> None:
    """Leave of versions of nodes what an erasure that is requested at a position leaves of them."""
    answers: dict[int, tuple[int, int]] = {}
    for span in requested_spans(position, erasure):
        answers |= dict.fromkeys(range(span.first, span.last + 1), span[2:])
    content = Spans.of((at, at) for at in answers)
    for nodes, _ in NODE_TABLES.values():
        for at, replaced_by in connection.execute(_ANSWERED.format(nodes=nodes)).fetchall():
            if at not in answers and replaced_by in content:
                answers[at] = answers[replaced_by]
    replacements = _replacements(log, {by for _, by in answers.values() if by})
    for kind, found in _erased(log, answers).items():
        nodes, properties = NODE_TABLES[kind]
        rows, values = [], []
        for one in found:
            by = replacements.get(one.replaced_by)
            if by is not None and (by.kind, by.entity_id) == (kind, one.entity_id):
                rows.append(one.row | by.columns | {"replaced_by": one.replaced_by})
                values += [value | {"position": one.position} for value in by.properties]
            else:
                rows.append(one.row)
                values.append(one.tombstone)
        _erase(
            connection,
            nodes,
            properties,
            pa.RecordBatch.from_pylist(rows, _ROWS),
            pa.RecordBatch.from_pylist(values, _PROPERTIES),
        )


def _erase(
    connection: duckdb.DuckDBPyConnection,
    nodes: str,
    properties: str,
    rows: pa.RecordBatch,
    values: pa.RecordBatch,
) -> None:
    connection.register("erased_rows", rows)
    connection.register("erased_properties", values)
    try:
        connection.execute(_UPDATE.format(nodes=nodes))
        connection.execute(_DELETE.format(properties=properties))
        connection.execute(_INSERT.format(nodes=nodes, properties=properties))
    finally:
        connection.unregister("erased_rows")
        connection.unregister("erased_properties")


def _erased(log: Log, answers: Mapping[int, tuple[int, int]]) -> dict[str, list[_Erased]]:
    """By kind the nodes' records at some positions."""
    found: dict[str, list[_Erased]] = {}
    columns = ["kind", "position", "entity_id", "recorded_at"]
    for batch in records_at(log, Spans.of((at, at) for at in answers), columns):
        instants = batch["recorded_at"].view(pa.int64()).to_pylist()
        for kind, position, entity_id, recorded_at in zip(
            *(batch[name].to_pylist() for name in columns[:3]), instants, strict=True
        ):
            if kind in NODE_TABLES:
                one = _Erased(position, entity_id, recorded_at // 1_000, *answers[position])
                found.setdefault(kind, []).append(one)
    return found


def _replacements(log: Log, positions: Collection[int]) -> dict[int, _Replacement]:
    """By position what nodes' records hold that take the place of others' content."""
    found: dict[int, _Replacement] = {}
    for batch in records_at(log, Spans.of((at, at) for at in positions), FOLDED_COLUMNS):
        properties: dict[int, list[dict[str, Any]]] = {}
        for value in property_entries(batch).to_pylist():
            properties.setdefault(value.pop("row"), []).append(value)
        said = [*_CONTENT, "position", "kind", "entity_id"]
        for number, row in enumerate(batch.select(said).to_pylist()):
            columns = {name: row[name] for name in _CONTENT}
            found[row["position"]] = _Replacement(
                row["kind"], row["entity_id"], columns, properties.get(number, [])
            )
    return found
