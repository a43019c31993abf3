"""Build the tables of a sorted run from many records at once, column by column.

The result is that of `index_entries` record by record, some ten times as fast.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Final

import pyarrow as pa
import pyarrow.compute as compute
from xxhash import xxh3_64_intdigest

from eventstore.errors import DataLossError
from eventstore.log import record as kinds
from eventstore.projections import index_tables as tables
from eventstore.projections.index_tables import HALF
from eventstore.projections.sorted_run import run_batch, sorted_batch

INDEXED_COLUMNS: Final = [
    "position",
    "kind",
    "entity_id",
    "type_id",
    "previous",
    "name",
    "external_id",
    "version",
    "uri",
    "artifact_id",
    "execution_id",
    "context_id",
    "parent_context_id",
    "event_type",
    "request_id",
    "payload",
]

_NODES: Final = {
    kinds.ARTIFACT: (tables.ARTIFACTS, tables.ARTIFACT_NAMES, tables.ARTIFACT_EXTERNAL_IDS),
    kinds.EXECUTION: (tables.EXECUTIONS, tables.EXECUTION_NAMES, tables.EXECUTION_EXTERNAL_IDS),
    kinds.CONTEXT: (tables.CONTEXTS, tables.CONTEXT_NAMES, tables.CONTEXT_EXTERNAL_IDS),
}
_TYPES: Final = {
    kinds.ARTIFACT_TYPE: (
        tables.ARTIFACT_TYPES,
        tables.ARTIFACT_TYPE_NAMES,
        tables.ARTIFACT_TYPE_EXTERNAL_IDS,
    ),
    kinds.EXECUTION_TYPE: (
        tables.EXECUTION_TYPES,
        tables.EXECUTION_TYPE_NAMES,
        tables.EXECUTION_TYPE_EXTERNAL_IDS,
    ),
    kinds.CONTEXT_TYPE: (
        tables.CONTEXT_TYPES,
        tables.CONTEXT_TYPE_NAMES,
        tables.CONTEXT_TYPE_EXTERNAL_IDS,
    ),
}
# Each link is found from either end: (table, column of the key, column of the value).
_LINKS: Final = {
    kinds.ATTRIBUTION: (
        (tables.ARTIFACTS_BY_CONTEXT, "context_id", "artifact_id"),
        (tables.CONTEXTS_BY_ARTIFACT, "artifact_id", "context_id"),
    ),
    kinds.ASSOCIATION: (
        (tables.EXECUTIONS_BY_CONTEXT, "context_id", "execution_id"),
        (tables.CONTEXTS_BY_EXECUTION, "execution_id", "context_id"),
    ),
    kinds.PARENT_CONTEXT: (
        (tables.PARENTS_BY_CONTEXT, "context_id", "parent_context_id"),
        (tables.CHILDREN_BY_CONTEXT, "parent_context_id", "context_id"),
    ),
    kinds.EVENT: (
        (tables.EVENTS_BY_ARTIFACT, "artifact_id", "payload"),
        (tables.EVENTS_BY_EXECUTION, "execution_id", "payload"),
    ),
}


def run_tables(records: pa.RecordBatch) -> dict[int, pa.RecordBatch]:
    """The sorted tables of records, a batch of INDEXED_COLUMNS in position order."""
    found = dict(_request_ids(records))
    # Erased records have no other entries.
    found.update(_tables(records.filter(records["payload"].is_valid())))
    return found


def highest_ids(records: pa.RecordBatch) -> dict[str, int]:
    """The highest id of each id sequence among records, a batch of INDEXED_COLUMNS."""
    by_kind = pa.Table.from_batches([records.select(["kind", "entity_id"])])
    highest: dict[str, int] = {}
    for row in by_kind.group_by("kind").aggregate([("entity_id", "max")]).to_pylist():
        sequence = tables.SEQUENCES.get(row["kind"])
        if sequence is None:
            raise DataLossError(
                f"the log is damaged: there are no records of kind {row['kind']!r}; run "
                "`eventstore verify` and restore it from a backup"
            )
        highest[sequence] = max(highest.get(sequence, 0), row["entity_id_max"])
    return highest


def hash64s(texts: pa.Array) -> pa.Array:
    """`hash64` of each text, none of which is null."""
    keys = array("q", [xxh3_64_intdigest(text) - HALF for text in _binary(texts).to_pylist()])
    return pa.Array.from_buffers(pa.int64(), len(keys), [None, pa.py_buffer(keys)])


def _request_ids(records: pa.RecordBatch) -> Iterator[tuple[int, pa.RecordBatch]]:
    found = records.filter(records["request_id"].is_valid())
    if found.num_rows:
        values = pa.repeat(pa.scalar(b"", pa.large_binary()), found.num_rows)
        keys = hash64s(found["request_id"])
        yield tables.REQUEST_IDS, sorted_batch(keys, found["position"], values)


def _tables(records: pa.RecordBatch) -> Iterator[tuple[int, pa.RecordBatch]]:
    present = set(compute.unique(records["kind"]).to_pylist())
    for kind, node_tables in _NODES.items():
        if kind in present:
            nodes = _of_kind(records, kind)
            yield from _node_tables(nodes, kind, *node_tables)
    for kind, type_tables in _TYPES.items():
        if kind in present:
            types = _of_kind(records, kind)
            yield from _type_tables(types, *type_tables)
    for kind, link_tables in _LINKS.items():
        if kind in present:
            links = _of_kind(records, kind)
            for table, key, value in link_tables:
                values = links[value] if value == "payload" else _ids(links[value])
                yield table, sorted_batch(links[key], links["position"], values)
    if kinds.EVENT in present:
        events = _of_kind(records, kinds.EVENT)
        keys = hash64s(_joined("/", events, "artifact_id", "execution_id", "event_type"))
        yield tables.EVENT_KEYS, sorted_batch(keys, events["position"], events["payload"])


def _node_tables(
    nodes: pa.RecordBatch, kind: str, by_id: int, by_name: int, by_external_id: int
) -> Iterator[tuple[int, pa.RecordBatch]]:
    yield by_id, sorted_batch(nodes["entity_id"], nodes["position"], nodes["payload"])
    has_name = nodes["name"].is_valid()
    if kind != kinds.CONTEXT:
        has_name = compute.and_(has_name, nodes["previous"].is_null())
    named = nodes.filter(has_name)
    yield by_name, _hashed(named, _joined("/", named, "type_id", "name"))
    identified = nodes.filter(nodes["external_id"].is_valid())
    yield by_external_id, _hashed(identified, identified["external_id"])
    if kind == kinds.ARTIFACT:
        yield tables.ARTIFACT_URIS, _hashed(nodes, nodes["uri"])


def _type_tables(
    types: pa.RecordBatch, by_id: int, by_name: int, by_external_id: int
) -> Iterator[tuple[int, pa.RecordBatch]]:
    yield by_id, sorted_batch(types["entity_id"], types["position"], types["payload"])
    types = types.set_column(
        types.schema.get_field_index("version"), "version", types["version"].fill_null("")
    )
    yield by_name, _hashed(types, _joined("\0", types, "version", "name"))
    identified = types.filter(types["external_id"].is_valid())
    yield by_external_id, _hashed(identified, identified["external_id"])


def _of_kind(records: pa.RecordBatch, kind: str) -> pa.RecordBatch:
    return records.filter(compute.equal(records["kind"], kind))


def _joined(separator: str, records: pa.RecordBatch, *columns: str) -> pa.Array:
    texts = [compute.cast(records[column], pa.utf8()) for column in columns]
    return compute.binary_join_element_wise(*texts, separator)


def _hashed(records: pa.RecordBatch, texts: pa.Array) -> pa.RecordBatch:
    """A table of the ids of records by the hash of a text of theirs."""
    if not records.num_rows:
        return run_batch([], [], [])
    return sorted_batch(hash64s(texts), records["position"], _ids(records["entity_id"]))


def _ids(ids: pa.Array) -> pa.Array:
    """The values that `encode_id` makes."""
    return compute.cast(ids.view(pa.binary(8)), pa.large_binary())


def _binary(texts: pa.Array) -> pa.Array:
    return compute.cast(texts, pa.binary())
