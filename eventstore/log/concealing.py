"""Read records as erased, although there still is what they hold, and who put them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from eventstore.log.erased import Erased, Spans
from eventstore.log.kinds import NODE_KINDS_BY_NAME, RETENTION_KINDS
from eventstore.log.leaf import encode_attribution
from eventstore.log.record import Commit, Record
from eventstore.log.scattered import records_at

if TYPE_CHECKING:
    import pyarrow as pa

    from eventstore.log.log import Log

_WHO: Final = ("actor", "reason", "request_id")
_SOURCES: Final = {
    "commitment": ("salt", "payload"),
    "who_commitment": ("who_salt", *_WHO),
}
"""By commitment, what it is made of."""

_NEVER_ERASED: Final = frozenset(kind.name for kind in RETENTION_KINDS)


def refuse_what_stays(log: Log, erased: Erased) -> None:
    """Raise ValueError unless the log has all of these records, and they may be erased so."""
    both = erased.content.union(erased.who)
    if both and not (both.firsts[0] >= 1 and both.lasts[-1] <= log.position):
        raise ValueError(
            f"there are no positions {both.firsts[0]} to {both.lasts[-1]}: the log has 1 to "
            f"{log.position}"
        )
    for batch in records_at(log, both, ["position", "kind"]):
        kinds = batch["kind"].to_pylist()
        for position, kind in zip(batch["position"].to_pylist(), kinds, strict=True):
            _refuse_kind(position, kind, erased)


def _refuse_kind(position: int, kind: str, erased: Erased) -> None:
    if kind in _NEVER_ERASED:
        raise ValueError(f"the record at position {position}, of kind {kind}, is never erased")
    if kind not in NODE_KINDS_BY_NAME and position in erased.content:
        raise ValueError(
            f"the content of the record at position {position}, of kind {kind}, is never erased"
        )


def concealed_commit(commit: Commit, erased: Erased) -> Commit:
    """The commit with the records that are erased as such."""
    here = erased.within(commit.first_position, commit.last_position)
    if not here:
        return commit
    records = tuple(_concealed_record(record, here) for record in commit.records)
    return msgspec.structs.replace(commit, records=records)


def _concealed_record(record: Record, erased: Erased) -> Record:
    if record.position in erased.content and record.salt is not None:
        assert record.payload is not None
        record = msgspec.structs.replace(
            record,
            salt=None,
            payload=None,
            commitment=hashlib.sha256(record.salt + record.payload).digest(),
        )
    if record.position in erased.who and record.who_salt is not None:
        who = encode_attribution(record.actor, record.reason, record.request_id)
        record = msgspec.structs.replace(
            record,
            actor=None,
            reason=None,
            request_id=None,
            who_salt=None,
            who_commitment=hashlib.sha256(record.who_salt + who).digest(),
        )
    return record


def columns_to_conceal(columns: Iterable[str]) -> list[str]:
    """The columns that `concealed_batches` needs to give some of them."""
    names = [*columns]
    for commitment, sources in _SOURCES.items():
        if commitment in names:
            names += [name for name in sources if name not in names]
    return names


def concealed_batches(
    batches: Iterable[pa.RecordBatch], erased: Erased, first_position: int
) -> Iterator[pa.RecordBatch]:
    """Batches of consecutive records, from a position on, with those that are erased as such.

    They have columns of RECORD_SCHEMA, and with a commitment those that it is made of.
    """
    for batch in batches:
        last_position = first_position + batch.num_rows - 1
        here = erased.within(first_position, last_position)
        if here:
            batch = _without(batch, _rows(here.content, first_position), "commitment")
            batch = _without(batch, _rows(here.who, first_position), "who_commitment")
        yield batch
        first_position = last_position + 1


def _rows(spans: Spans, first_position: int) -> list[int]:
    return [position - first_position for position in spans.positions()]


def _without(batch: pa.RecordBatch, rows: list[int], commitment: str) -> pa.RecordBatch:
    """The batch without what a commitment stands for in some rows, and with that commitment."""
    import pyarrow as pa

    from eventstore.log.columns import DERIVED_NAMES, PROPERTIES_TYPE, no_properties

    is_content = commitment == "commitment"
    erased = {*_SOURCES[commitment], *(DERIVED_NAMES if is_content else ())}
    if not rows:
        return batch
    arrays = []
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if field.name == commitment:
            made = b"".join(_commitments(batch, rows, commitment))
            values = pa.Array.from_buffers(field.type, len(rows), [None, pa.py_buffer(made)])
        elif field.name not in erased:
            arrays.append(column)
            continue
        elif field.type == PROPERTIES_TYPE:
            values = no_properties(len(rows))
        else:
            values = pa.nulls(len(rows), field.type)
        arrays.append(values if len(rows) == len(column) else _replaced(column, rows, values))
    return pa.RecordBatch.from_arrays(arrays, schema=batch.schema)


def _commitments(batch: pa.RecordBatch, rows: Sequence[int], name: str) -> list[bytes]:
    """The commitment of each row; the one that there is where the row is erased already."""
    import pyarrow as pa

    from eventstore.log.arrow_values import array_of

    taken = batch.select([name, *_SOURCES[name]]).take(array_of(rows, pa.int64()))
    made = []
    for known, salt, *values in zip(*(column.to_pylist() for column in taken), strict=True):
        if salt is None:
            made.append(known)
        else:
            stands_for: Any = values[0] if name == "commitment" else encode_attribution(*values)
            made.append(hashlib.sha256(salt + stands_for).digest())
    return made


def _replaced(column: pa.Array, rows: Sequence[int], values: pa.Array) -> pa.Array:
    """The column with other values in some rows; nothing of those that were there is kept."""
    import pyarrow as pa

    from eventstore.log.arrow_values import array_of

    indices = [*range(len(column))]
    for place, row in enumerate(rows, len(column)):
        indices[row] = place
    return pa.concat_arrays([column, values]).take(array_of(indices, pa.int64()))
