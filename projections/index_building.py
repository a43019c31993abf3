"""Build the tables of a sorted run from many records at once, column by column.

The result is that of `add_entries` record by record, some ten times as fast.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Final

import pyarrow as pa
import pyarrow.compute as compute
from xxhash import xxh3_64_intdigest

from eventstore.errors import DataLossError
from eventstore.log import kinds
from eventstore.projections.index_entries import PAYLOAD, RULES, Rule
from eventstore.projections.index_tables import HALF, REQUEST_IDS
from eventstore.projections.sorted_run import sorted_batch

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


def run_tables(records: pa.RecordBatch) -> dict[int, pa.RecordBatch]:
    """The sorted tables of records, a batch of INDEXED_COLUMNS in position order."""
    found = dict(_request_ids(records))
    # Erased records have no other entries.
    records = records.filter(records["payload"].is_valid())
    for kind, rules in RULES.items():
        of_kind = records.filter(compute.equal(records["kind"], kind.name))
        for rule in rules:
            adding = _adding(rule, of_kind)
            if adding.num_rows:
                found[rule.table] = _entries(rule, adding)
    return found


def highest_ids(records: pa.RecordBatch) -> dict[str, int]:
    """The highest id of each id sequence among records, a batch of INDEXED_COLUMNS."""
    by_kind = pa.Table.from_batches([records.select(["kind", "entity_id"])])
    highest: dict[str, int] = {}
    for row in by_kind.group_by("kind").aggregate([("entity_id", "max")]).to_pylist():
        kind = kinds.KINDS.get(row["kind"])
        if kind is None:
            raise DataLossError(
                f"the log is damaged: there are no records of kind {row['kind']!r}; run "
                "`eventstore verify` and restore it from a backup"
            )
        sequence = kind.sequence
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
        yield REQUEST_IDS, sorted_batch(hash64s(found["request_id"]), found["position"], values)


def _adding(rule: Rule, records: pa.RecordBatch) -> pa.RecordBatch:
    """Those of the records that add an entry."""
    if rule.present is not None:
        records = records.filter(records[rule.present].is_valid())
    return records.filter(records["previous"].is_null()) if rule.is_of_first_version else records


def _entries(rule: Rule, records: pa.RecordBatch) -> pa.RecordBatch:
    keys = records[rule.key[0]]
    if rule.hashed is not None:
        texts = [compute.cast(records[name], pa.utf8()).fill_null("") for name in rule.key]
        keys = hash64s(compute.binary_join_element_wise(*texts, rule.separator))
    values = records[rule.value]
    return sorted_batch(
        keys, records["position"], values if rule.value == PAYLOAD else _ids(values)
    )


def _ids(ids: pa.Array) -> pa.Array:
    """The values that `encode_id` makes."""
    return compute.cast(ids.view(pa.binary(8)), pa.large_binary())


def _binary(texts: pa.Array) -> pa.Array:
    return compute.cast(texts, pa.binary())
