"""Write a commit as the Arrow IPC message that Arrow would write, without building Arrow arrays.

Fifteen arrays of one row cost Arrow several times what the rest of a put costs. A message is a
flatbuffer, the same for every record batch of a schema but for lengths and offsets at fixed places,
and a body of buffers: Arrow makes the first one, and the places are filled in here.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import accumulate
from typing import Any, NamedTuple

from eventstore.log.record import KINDS, Commit

CHECKSUM_BYTES = 32

_INT64, _VARIABLE = -1, 0
"""What a column holds, besides values of a fixed number of bytes."""

_KIND_BYTES = {kind: kind.encode() for kind in KINDS}
_NO_CHECKSUM = bytes(CHECKSUM_BYTES)
_PREFIX_BYTES = 8
# Places in a flatbuffer table's vtable: Message.header, Message.bodyLength; RecordBatch.length,
# RecordBatch.nodes, RecordBatch.buffers.
_HEADER, _BODY_LENGTH = 8, 10
_LENGTH, _NODES, _BUFFERS = 4, 6, 8
_NEVER_NULL = 5
"""The first columns, in which every record has a value."""


class _Template:
    """The metadata of a record batch's message, and where in it the numbers stand."""

    def __init__(self) -> None:
        import pyarrow as pa

        from eventstore.log.columns import ACTIVE_SCHEMA

        columns = [pa.nulls(1, field.type) for field in ACTIVE_SCHEMA]
        batch_of_one = pa.RecordBatch.from_arrays(columns, names=ACTIVE_SCHEMA.names)
        message = batch_of_one.serialize().to_pybytes()
        end = _PREFIX_BYTES + int.from_bytes(message[4:8], "little")
        self.metadata = message[:end]
        table = _table_at(message, _PREFIX_BYTES)
        self.body_length = _field(message, table, _BODY_LENGTH)
        batch = _table_at(message, _field(message, table, _HEADER))
        self.length = _field(message, batch, _LENGTH)
        # A vector starts with the number of its elements.
        self.nodes = _table_at(message, _field(message, batch, _NODES)) + 4
        self.buffers = _table_at(message, _field(message, batch, _BUFFERS)) + 4


@cache
def message_template() -> _Template:
    """Made once: the first call imports Arrow, which takes long."""
    return _Template()


def _field(message: bytes | memoryview, table: int, place: int) -> int:
    """Where the field with this place in the vtable of a flatbuffer table stands."""
    vtable: int = table - struct.unpack_from("<i", message, table)[0]
    offset: int = struct.unpack_from("<H", message, vtable + place)[0]
    return table + offset


def _table_at(message: bytes | memoryview, reference: int) -> int:
    """Where a reference to a table or vector leads."""
    offset: int = struct.unpack_from("<I", message, reference)[0]
    return reference + offset


class UndecodableError(Exception):
    """A message that matches its checksum is no commit; `number` is its place among those read."""

    def __init__(self, reason: str, number: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.number = number


class Envelope(NamedTuple):
    """What tells one commit from another; `recorded_at` is in microseconds since the epoch."""

    number: int
    last_position: int
    recorded_at: int
    first_position: int


def message_envelope(message: memoryview) -> Envelope:
    """Read from a commit's message, whoever wrote it, without decoding the rest.

    Raises UndecodableError, though by far not for all that cannot be decoded.
    """
    try:
        body = _PREFIX_BYTES + int.from_bytes(message[4:8], "little")
        batch = _record_batch(message)
        rows: int = struct.unpack_from("<q", message, _field(message, batch, _LENGTH))[0]
        buffers = _table_at(message, _field(message, batch, _BUFFERS)) + 4
        # The first three columns are integers without nulls: no bits of validity, and the values.
        starts = [struct.unpack_from("<q", message, buffers + 16 * n)[0] for n in (1, 3, 5)]
        unpack = _int64s(rows).unpack_from
        positions, numbers, moments = (unpack(message, body + start) for start in starts)
    except (struct.error, OverflowError) as error:
        raise UndecodableError(str(error)) from None
    if not rows:
        raise UndecodableError("it has no records")
    first = positions[0]
    if rows > 1 and (
        positions != tuple(range(first, first + rows))
        or numbers.count(numbers[0]) != rows
        or moments.count(moments[0]) != rows
    ):
        raise UndecodableError("its records are not those of one commit")
    return Envelope(numbers[0], positions[-1], moments[0], first)


def lacks_values(message: memoryview) -> bool:
    """Whether a record batch that Arrow has read has nulls in columns that must have none."""
    nodes = _table_at(message, _field(message, _record_batch(message), _NODES)) + 4
    # A node is the number of values, and how many of them are null.
    return any(struct.unpack_from(f"<{2 * _NEVER_NULL}q", message, nodes)[1::2])


def _record_batch(message: memoryview) -> int:
    return _table_at(message, _field(message, _table_at(message, _PREFIX_BYTES), _HEADER))


def commit_message(commit: Commit) -> bytes:
    """The records of a commit as a record batch of ACTIVE_SCHEMA; the checksum is 32 zeros."""
    records = commit.records
    first, count = records[0], len(records)
    last_only = [None] * (count - 1)
    kinds = [_KIND_BYTES[record.kind] for record in records]
    pack_integers, pack_offsets = _int64s(count).pack, _int32s(count + 1).pack
    nulls = [0] * _NEVER_NULL
    buffers = [
        b"",
        pack_integers(*range(first.position, first.position + count)),
        b"",
        pack_integers(*[commit.number] * count),
        b"",
        pack_integers(*[commit.recorded_at] * count),
        b"",
        pack_offsets(0, *accumulate(map(len, kinds))),
        b"".join(kinds),
        b"",
        pack_integers(*[record.entity_id for record in records]),
    ]
    columns: tuple[tuple[int, Sequence[Any]], ...] = (
        (_INT64, [record.type_id for record in records]),
        (_INT64, [record.previous for record in records]),
        (_VARIABLE, [_encoded(first.actor)] * count),
        (_VARIABLE, [_encoded(first.reason)] * count),
        (_VARIABLE, [_encoded(first.request_id)] * count),
        (16, [record.salt for record in records]),
        (32, [record.commitment for record in records]),
        (_VARIABLE, [record.payload for record in records]),
        (_VARIABLE, [*last_only, commit.tree_head]),
        (_VARIABLE, [*last_only, _NO_CHECKSUM]),
    )
    for width, values in columns:
        missing = values.count(None)
        nulls.append(missing)
        if missing == count:
            buffers += _absent(width, count)
            continue
        if missing:
            buffers.append(_validity(values))
            absent = 0 if width == _INT64 else bytes(width)
            values = [absent if value is None else value for value in values]
        else:
            buffers.append(b"")
        if width == _INT64:
            buffers.append(pack_integers(*values))
        elif width == _VARIABLE:
            buffers.append(pack_offsets(0, *accumulate(map(len, values))))
            buffers.append(b"".join(values))
        else:
            buffers.append(b"".join(values))
    metadata, padded = _metadata(count, tuple(nulls), tuple(map(len, buffers)))
    for index, padding in padded:
        buffers[index] += padding
    return metadata + b"".join(buffers)


@lru_cache(maxsize=256)
def _metadata(
    rows: int, nulls: tuple[int, ...], lengths: tuple[int, ...]
) -> tuple[bytes, list[tuple[int, bytes]]]:
    """The bytes before the body, and which of its buffers are padded, with what.

    Puts of one program look alike, so most are found in the cache.
    """
    template = message_template()
    ends = list(accumulate([(length + 7) & -8 for length in lengths], initial=0))
    nodes = [number for missing in nulls for number in (rows, missing)]
    places = [number for place in zip(ends, lengths, strict=False) for number in place]
    metadata = bytearray(template.metadata)
    struct.pack_into("<q", metadata, template.length, rows)
    struct.pack_into("<q", metadata, template.body_length, ends[-1])
    struct.pack_into(f"<{len(nodes)}q", metadata, template.nodes, *nodes)
    struct.pack_into(f"<{len(places)}q", metadata, template.buffers, *places)
    padded = [(i, bytes(-length & 7)) for i, length in enumerate(lengths) if length & 7]
    return bytes(metadata), padded


@lru_cache(maxsize=64)
def _int64s(count: int) -> struct.Struct:
    return struct.Struct(f"<{count}q")


@lru_cache(maxsize=64)
def _int32s(count: int) -> struct.Struct:
    return struct.Struct(f"<{count}i")


@lru_cache(maxsize=256)
def _absent(width: int, count: int) -> tuple[bytes, ...]:
    """The buffers of a column without a single value."""
    validity = bytes((count + 7) // 8)
    if width == _VARIABLE:
        return validity, bytes(4 * (count + 1)), b""
    return validity, bytes(count * (8 if width == _INT64 else width))


def _encoded(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


def _validity(values: Sequence[object]) -> bytes:
    """A bit for each value that is there, the first one lowest."""
    bits = "".join(["0" if value is None else "1" for value in reversed(values)])
    return int(bits, 2).to_bytes((len(values) + 7) // 8, "little")
