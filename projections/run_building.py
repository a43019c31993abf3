"""Build the runs of a stretch of the log: of what it has sealed, or of a tail grown long.

The tables of many records are made at once, column by column. The result is that of `add_entries`
record by record, some ten times as fast.
"""

from __future__ import annotations

import contextlib
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as compute
from xxhash import xxh3_64_intdigest

from eventstore.errors import DataLossError
from eventstore.log import Log, kinds
from eventstore.log.arrow_values import scalar_of
from eventstore.log.cache_file import UnwantedFileError
from eventstore.log.columns import one_batch
from eventstore.log.forking import no_fork_in_libraries
from eventstore.projections.erased_records import ErasedRecords
from eventstore.projections.index_entries import PAYLOAD, RULES, Rule
from eventstore.projections.index_tables import HALF, REQUEST_IDS
from eventstore.projections.index_tail import Tail
from eventstore.projections.limits import LIMITS, IndexLimits
from eventstore.projections.run_batches import sorted_batch
from eventstore.projections.run_file import RUN_FORMAT_VERSION, RunMetadata, known_up_to
from eventstore.projections.run_folder import run_path
from eventstore.projections.run_writing import WriteRun, write_named, write_run
from eventstore.projections.sorted_run import SortedRun

_RULES: Final = [rule for rules in RULES.values() for rule in rules]
INDEXED_COLUMNS: Final = sorted(
    {"position", "kind", "entity_id", "type_id", "previous", "request_id"}.union(
        *((*rule.key, rule.value, rule.present or rule.value) for rule in _RULES)
    )
)
"""What tells the entries of records."""


def sealed_stretches(log: Log, after: int, limits: IndexLimits) -> Iterator[int]:
    """Where to end runs that together cover the sealed segments after a position."""
    last_position, records, size = after, 0, 0
    for end, file_bytes in log.dense_ends(after):
        records += end - last_position
        last_position = end
        size += file_bytes
        if records >= limits.built_records_max or size >= limits.built_bytes_max:
            yield last_position
            records = size = 0
    if records:
        yield last_position


def tail_run(
    content_id: UUID,
    folder: Path,
    tail: Tail,
    limits: IndexLimits,
    write: WriteRun = write_named,
) -> SortedRun:
    """A run of what a tail holds."""
    with no_fork_in_libraries():
        tables = tail.tables()
    return _written(
        content_id,
        folder,
        tables,
        limits,
        write,
        first_position=tail.first_position,
        last_position=tail.last_position,
        preceding_recorded_at=tail.preceding_recorded_at,
        last_recorded_at=tail.last_recorded_at,
        highest_ids=tail.highest_ids,
        erasures_known=known_up_to(tail.last_position, tail.erasures_known),
    )


def built_run(
    log: Log,
    content_id: UUID,
    folder: Path,
    first_position: int,
    last_position: int,
    highest_before: Mapping[str, int],
    limits: IndexLimits = LIMITS.index,
    erased: ErasedRecords | None = None,
    write: WriteRun = write_named,
) -> SortedRun:
    """A run of the records at these positions; `highest_before` are the ids given out before."""
    after = first_position - 1
    erased = ErasedRecords(log) if erased is None else erased
    while True:
        known = erased.all_by_now().position
        records = one_batch(log.scan(after, last_position, INDEXED_COLUMNS))
        tables = run_tables(records, erased)
        if erased.erasures.position != known:
            # Of what turned out to be erased some had been read before.
            continue
        with contextlib.suppress(UnwantedFileError):
            return _written(
                content_id,
                folder,
                tables,
                limits,
                write,
                first_position=first_position,
                last_position=last_position,
                preceding_recorded_at=log.recorded_at(after) if after else 0,
                last_recorded_at=log.recorded_at(last_position),
                highest_ids=highest_ids(records, highest_before),
                erasures_known=known_up_to(last_position, known),
            )


def _written(
    content_id: UUID,
    folder: Path,
    tables: Mapping[int, pa.RecordBatch],
    limits: IndexLimits,
    write: WriteRun,
    **said: Any,
) -> SortedRun:
    metadata = RunMetadata(format_version=RUN_FORMAT_VERSION, content_id=content_id, **said)
    path = run_path(folder, metadata.first_position, metadata.last_position)
    return write_run(path, metadata, tables, limits, write)


def rebuilt_runs(
    log: Log,
    folder: Path,
    damaged: SortedRun,
    highest_before: Mapping[str, int],
    limits: IndexLimits,
    erased: ErasedRecords | None = None,
    write: WriteRun = write_named,
) -> list[SortedRun]:
    """Runs in place of one: several when it holds too many records for one."""
    runs: list[SortedRun] = []
    first, records_max = damaged.first_position, limits.built_records_max
    while first <= damaged.last_position:
        last = damaged.last_position
        if last - first >= records_max:
            # Runs end where commits do, unless one commit is longer than a run.
            end = log.commit_end(first + records_max - 1)
            last = end if end >= first else last
        stretch = damaged.metadata.content_id, folder, first, last, highest_before
        runs.append(built_run(log, *stretch, limits, erased, write))
        first, highest_before = last + 1, runs[-1].highest_ids
    return runs


def run_tables(records: pa.RecordBatch, erased: ErasedRecords) -> dict[int, pa.RecordBatch]:
    """The sorted tables of records, a batch of INDEXED_COLUMNS in position order.

    `erased` tells what takes the place of content that is erased.
    """
    found = {}
    requested = records.filter(records["request_id"].is_valid())
    if requested.num_rows:
        nothing = pa.repeat(scalar_of(b"", pa.large_binary()), requested.num_rows)
        keys = hash64s(requested["request_id"])
        found[REQUEST_IDS] = sorted_batch(keys, requested["position"], nothing)
    records = erased.completed(records)
    records = records.filter(records["payload"].is_valid())
    for kind, rules in RULES.items():
        of_kind = records.filter(compute.equal(records["kind"], scalar_of(kind.name, pa.string())))
        for rule in rules:
            adding = _adding(rule, of_kind)
            if adding.num_rows:
                found[rule.table] = _entries(rule, adding)
    return found


def highest_ids(records: pa.RecordBatch, before: Mapping[str, int]) -> dict[str, int]:
    """The highest id of each id sequence, of those `before` and those of records."""
    by_kind = pa.Table.from_batches([records.select(["kind", "entity_id"])])
    highest = dict(before)
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
    encoded = compute.cast(texts, pa.binary()).to_pylist()
    keys = array("q", [xxh3_64_intdigest(text) - HALF for text in encoded])
    return pa.Array.from_buffers(pa.int64(), len(keys), [None, pa.py_buffer(keys)])


def _adding(rule: Rule, records: pa.RecordBatch) -> pa.RecordBatch:
    """Those of the records that add an entry."""
    # Of what is erased there is no uri, either.
    present = rule.present or ("uri" if rule.key == ("uri",) else None)
    if present is not None:
        records = records.filter(records[present].is_valid())
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
