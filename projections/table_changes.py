"""The schema of the DuckDB tables, and what a batch of records changes in them.

Arrow alone makes the rows, flat, so that DuckDB only has to store them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as compute

from eventstore.log import record as kind_names
from eventstore.log.arrow_values import array_of, scalar_of
from eventstore.log.columns import VALUE_TYPE

TABLES_FORMAT_VERSION: Final = 6

NOT_ENDED: Final = 9_223_372_036_854_775_807
"""`valid_to` of the version that is current."""

NODE_TABLES: Final = {
    kind_names.ARTIFACT: ("artifacts", "artifact_properties"),
    kind_names.EXECUTION: ("executions", "execution_properties"),
    kind_names.CONTEXT: ("contexts", "context_properties"),
}
"""The tables of a node kind: a row per version, and a row per property and version."""

# Nearly all names and uris differ, and a LIKE must read them all.
_NODE_DEFINITIONS: Final = """
    id BIGINT, type_id BIGINT, name VARCHAR USING COMPRESSION uncompressed, external_id VARCHAR,
    uri VARCHAR USING COMPRESSION uncompressed, state INTEGER,
    create_time BIGINT, update_time BIGINT, valid_from BIGINT, valid_to BIGINT,
    erased_by BIGINT, replaced_by BIGINT
"""
_PROPERTY_DEFINITIONS: Final = """
    node_id BIGINT, is_custom BOOLEAN, name VARCHAR, int_value BIGINT, double_value DOUBLE,
    string_value VARCHAR, bool_value BOOLEAN, struct_value VARCHAR, proto_value BLOB,
    valid_from BIGINT, valid_to BIGINT
"""
SCHEMA: Final = f"""
CREATE TABLE folded_position (
    format_version INTEGER, store_id VARCHAR, position BIGINT, recorded_at BIGINT
);
CREATE TABLE types (
    id BIGINT, kind VARCHAR, name VARCHAR, version VARCHAR, external_id VARCHAR,
    valid_from BIGINT, valid_to BIGINT
);
CREATE TABLE artifacts ({_NODE_DEFINITIONS});
CREATE TABLE executions ({_NODE_DEFINITIONS});
CREATE TABLE contexts ({_NODE_DEFINITIONS});
CREATE TABLE artifact_properties ({_PROPERTY_DEFINITIONS});
CREATE TABLE execution_properties ({_PROPERTY_DEFINITIONS});
CREATE TABLE context_properties ({_PROPERTY_DEFINITIONS});
CREATE TABLE events (
    artifact_id BIGINT, execution_id BIGINT, type INTEGER, time BIGINT, valid_from BIGINT
);
CREATE TABLE attributions (context_id BIGINT, artifact_id BIGINT, valid_from BIGINT);
CREATE TABLE associations (context_id BIGINT, execution_id BIGINT, valid_from BIGINT);
CREATE TABLE parent_contexts (child_id BIGINT, parent_id BIGINT, valid_from BIGINT);
"""

_TYPE_KINDS: Final = (kind_names.ARTIFACT_TYPE, kind_names.EXECUTION_TYPE, kind_names.CONTEXT_TYPE)
_TYPE_COLUMNS: Final = ("entity_id", "kind", "name", "version", "external_id", "position")
_NODE_COLUMNS: Final = (
    "entity_id",
    "type_id",
    "name",
    "external_id",
    "uri",
    "state",
    "create_time",
    "update_time",
    "position",
)
_LINK_COLUMNS: Final = {
    kind_names.EVENT: ("events", ("artifact_id", "execution_id", "event_type", "event_time")),
    kind_names.ATTRIBUTION: ("attributions", ("context_id", "artifact_id")),
    kind_names.ASSOCIATION: ("associations", ("context_id", "execution_id")),
    kind_names.PARENT_CONTEXT: ("parent_contexts", ("context_id", "parent_context_id")),
}
LINK_TABLES: Final = {kind: table for kind, (table, _) in _LINK_COLUMNS.items()}
"""The table of each kind of links."""

_PROPERTY_COLUMNS: Final = ("properties", "custom_properties")
FOLDED_COLUMNS: Final = sorted(
    {"previous", "recorded_at", *_PROPERTY_COLUMNS, *_TYPE_COLUMNS, *_NODE_COLUMNS}.union(
        *(columns for _, columns in _LINK_COLUMNS.values())
    )
)
VALUES: Final = tuple(field.name for field in VALUE_TYPE)
"""The columns of a property's value."""


class TableChange(NamedTuple):
    """What a batch does to one table.

    `rows` are to be inserted: a record batch whose columns are the table's, in its order, or None.
    `ended` are the (valid_from, valid_to) of versions in the table that the batch replaces.
    """

    table: str
    rows: pa.RecordBatch | None
    ended: list[tuple[int, int]]


def table_changes(batch: pa.RecordBatch) -> Iterator[TableChange]:
    """The changes of a batch of FOLDED_COLUMNS, which is not empty and in position order.

    The row of a node whose content is erased is as bare as its record, until the erasure follows.
    """
    present = set(compute.unique(batch["kind"]).to_pylist())
    replacing = batch.select(["previous", "position", "kind"]).filter(batch["previous"].is_valid())
    batch = batch.append_column("valid_to", _valid_to(batch["position"], replacing))
    if not present.isdisjoint(_TYPE_KINDS):
        types = batch.select([*_TYPE_COLUMNS, "valid_to"])
        rows = types.filter(_with_content(batch, _TYPE_KINDS, "name"))
        yield TableChange("types", rows, _ended(batch, replacing, _TYPE_KINDS))
    node_kinds = [kind for kind in NODE_TABLES if kind in present]
    entries = property_entries(batch) if node_kinds else None
    for kind in node_kinds:
        is_node = _is_in(batch["kind"], (kind,))
        ended = _ended(batch, replacing, (kind,))
        nodes, properties = NODE_TABLES[kind]
        rows = batch.select([*_NODE_COLUMNS, "valid_to", "recorded_at"]).filter(is_node)
        yield TableChange(nodes, _node_rows(rows), ended)
        yield TableChange(properties, _property_rows(batch, entries, is_node), ended)
    for kind, (links, columns) in _LINK_COLUMNS.items():
        if kind in present:
            rows = batch.select([*columns, "position"])
            yield TableChange(links, rows.filter(_with_content(batch, (kind,), columns[0])), [])


def _node_rows(nodes: pa.RecordBatch) -> pa.RecordBatch:
    """The rows of a node table."""
    if nodes["create_time"].null_count:
        recorded_ms = nodes["recorded_at"].cast(pa.timestamp("ms", "UTC"), safe=False)
        for name in ("create_time", "update_time"):
            times = nodes[name].fill_null(recorded_ms.view(pa.int64()))
            nodes = nodes.set_column(nodes.schema.get_field_index(name), name, times)
    nothing = pa.nulls(nodes.num_rows, pa.int64())
    nodes = nodes.select([*_NODE_COLUMNS, "valid_to"])
    return nodes.append_column("erased_by", nothing).append_column("replaced_by", nothing)


def _with_content(batch: pa.RecordBatch, of_kinds: Sequence[str], column: str) -> pa.Array:
    """Which records are of these kinds and not erased: these have a value in a column."""
    return compute.and_(_is_in(batch["kind"], of_kinds), batch[column].is_valid())


def _is_in(values: pa.Array, found: Sequence[str]) -> pa.Array:
    return compute.is_in(values, array_of(found, pa.utf8()))


def _valid_to(positions: pa.Array, replacing: pa.RecordBatch) -> pa.Array:
    """For each position, that of the record which replaces it within the batch."""
    if not replacing.num_rows:
        return pa.repeat(scalar_of(NOT_ENDED, pa.int64()), len(positions))
    rows = compute.index_in(positions, value_set=replacing["previous"])
    return replacing["position"].take(rows).fill_null(scalar_of(NOT_ENDED, pa.int64()))


def _ended(
    batch: pa.RecordBatch, replacing: pa.RecordBatch, of_kinds: Sequence[str]
) -> list[tuple[int, int]]:
    """The (previous, position) of records of these kinds that replace one before the batch."""
    if not replacing.num_rows:
        return []
    is_before = compute.less(replacing["previous"], batch["position"][0])
    found = replacing.filter(compute.and_(is_before, _is_in(replacing["kind"], of_kinds)))
    return list(zip(found["previous"].to_pylist(), found["position"].to_pylist(), strict=True))


def property_entries(batch: pa.RecordBatch) -> pa.Table:
    """One row a property: its row in the batch, is_custom, name, and its value by type."""
    parts = []
    for column, is_custom in zip(_PROPERTY_COLUMNS, (False, True), strict=True):
        maps = batch[column]
        first, end = maps.offsets[0].as_py(), maps.offsets[-1].as_py()
        names = maps.keys.slice(first, end - first)
        values = maps.items.slice(first, end - first)
        offsets = compute.subtract(maps.offsets, maps.offsets[0])
        parts.append(
            pa.table(
                {
                    "row": compute.list_parent_indices(pa.ListArray.from_arrays(offsets, names)),
                    "is_custom": pa.repeat(scalar_of(is_custom, pa.bool_()), len(names)),
                    "name": names,
                    **{value: compute.struct_field(values, value) for value in VALUES},
                }
            )
        )
    return pa.concat_tables(parts)


def _property_rows(
    batch: pa.RecordBatch, entries: pa.Table | None, is_node: pa.Array
) -> pa.RecordBatch | None:
    """The rows of a property table for the nodes of one kind."""
    assert entries is not None
    found = entries.filter(is_node.take(entries["row"].combine_chunks()))
    if not found.num_rows:
        return None
    of_nodes = batch.select(["entity_id", "position", "valid_to"]).take(
        found["row"].combine_chunks()
    )
    columns = [
        of_nodes["entity_id"],
        *(found[name].combine_chunks() for name in ("is_custom", "name", *VALUES)),
        of_nodes["position"],
        of_nodes["valid_to"],
    ]
    names = ["node_id", "is_custom", "name", *VALUES, "valid_from", "valid_to"]
    return pa.RecordBatch.from_arrays(columns, names)
