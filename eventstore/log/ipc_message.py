"""Write a commit as the Arrow IPC message that Arrow would write, and read it, without Arrow.

Fifteen arrays of one row cost Arrow several times what the rest of a put costs, and importing it
takes longer than opening a store. A message is a flatbuffer, the same for every record batch of a
schema but for lengths and offsets at fixed places, and a body of buffers.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from operator import itemgetter, le
from typing import Any, Final, NamedTuple

from eventstore.log.record import KIND_NAMES, Commit, Record
from eventstore.times import Microseconds

CHECKSUM_BYTES = 32

_INT64, _VARIABLE = -1, 0
"""What a column holds, besides values of a fixed number of bytes."""

_WIDTHS: Final = (
    *(_INT64, _INT64, _INT64, _VARIABLE, _INT64, _INT64, _INT64),
    *(_VARIABLE, _VARIABLE, _VARIABLE, 16, _VARIABLE, 16, _VARIABLE, _VARIABLE),
)
"""Those of all columns of ACTIVE_SCHEMA."""

BODY_LENGTH_AT, ROWS_AT, BUFFERS_AT, NODES_AT = 40, 72, 88, 688
"""Where the numbers stand in the metadata that are not the same in each message."""

_BUFFERS_COUNT: Final = (NODES_AT - BUFFERS_AT) // 16
_METADATA: Final = (
    bytes.fromhex(
        "ffffffff 98030000 14000000 00000000 0c001600 06000500 08000c00 0c000000"
        "00030400 18000000 00000000 00000000 00000a00 18000c00 04000800 0a000000"
        "6c020000 10000000 00000000 00000000 00000000 25000000"
    ).ljust(NODES_AT - 4, b"\0")
    + len(_WIDTHS).to_bytes(4, "little")
    + bytes(16 * len(_WIDTHS))
)
"""What Arrow puts before the body of a record batch of ACTIVE_SCHEMA, with zeros for numbers."""

_KIND_BYTES = {kind: kind.encode() for kind in KIND_NAMES}
_KIND_NAMES = {encoded: kind for kind, encoded in _KIND_BYTES.items()}
_NO_CHECKSUM = bytes(CHECKSUM_BYTES)
_PREFIX_BYTES = 8
# Places in the vtable of a flatbuffer table: of a Message, and of a RecordBatch.
_MESSAGE_VERSION, _HEADER, _BODY_LENGTH, _CUSTOM_METADATA = 4, 8, 10, 12
_LENGTH, _NODES, _BUFFERS, _COMPRESSION = 4, 6, 8, 10
_VERSION_5 = 4
_NEVER_NULL = 5
"""The first columns, in which every record has a value."""


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
    recorded_at: Microseconds
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


def says_more(message: memoryview) -> bool:
    """Whether a message that Arrow has read has metadata of its own, or is of another version."""
    table = _table_at(message, _PREFIX_BYTES)
    if _has(message, table, _CUSTOM_METADATA) or not _has(message, table, _MESSAGE_VERSION):
        return True
    version = struct.unpack_from("<h", message, _field(message, table, _MESSAGE_VERSION))[0]
    return bool(version != _VERSION_5)


def is_compressed(message: memoryview) -> bool:
    """Whether a record batch that Arrow has read is compressed, or says that it might be."""
    return _has(message, _record_batch(message), _COMPRESSION)


def _has(message: memoryview, table: int, place: int) -> bool:
    vtable = table - struct.unpack_from("<i", message, table)[0]
    (size,) = struct.unpack_from("<H", message, vtable)
    return bool(place < size and struct.unpack_from("<H", message, vtable + place)[0])


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
        (_VARIABLE, [record.payload for record in records]),
        (16, [record.who_salt for record in records]),
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


def commit_of_message(message: bytes | memoryview) -> Commit | None:
    """The commit that a message was made of; None for a message that `commit_message` never makes.

    Arrow reads such a one, or says what is wrong with it.
    """
    try:
        return _read_commit(bytes(message))
    except (struct.error, OverflowError, UnicodeDecodeError, KeyError, _OtherLayoutError):
        return None


class _OtherLayoutError(Exception):
    """A message is laid out as Arrow may do it, and `commit_message` does not."""


def _expect(is_ours: bool) -> None:
    if not is_ours:
        raise _OtherLayoutError


def _read_commit(message: bytes) -> Commit:
    body = len(_METADATA)
    layout = _layout_of_one(message[:body])
    if layout is not None:
        return layout.read(message)
    rows, nulls, buffers = _read_metadata(message[:body])
    _expect(rows > 0 and not any(nulls[:_NEVER_NULL]))
    _expect(len(message) == (buffers[-1].stop + 7) & -8)
    held = iter(buffers)
    columns = [
        _read_column(width, rows, missing, message, held)
        for width, missing in zip(_WIDTHS, nulls, strict=True)
    ]
    positions, numbers, moments = columns[:3]
    heads, checksums = columns[-2:]
    _expect(positions == [*range(positions[0], positions[0] + rows)])
    # What is said once of a commit is the same in all records, or in the last one alone.
    _expect(all(column.count(column[0]) == rows for column in (numbers, moments, *columns[7:10])))
    _expect(all(column.count(None) == rows - 1 for column in (heads, checksums)))
    _expect(heads[-1] is not None and checksums[-1] is not None)
    columns[3] = [_KIND_NAMES[kind] for kind in columns[3]]
    for number in (7, 8, 9):
        text = columns[number][0]
        columns[number] = [None if text is None else text.decode()] * rows
    nothing_erased = [None] * rows
    columns[12:13] = [nothing_erased, columns[12], nothing_erased]
    records = tuple(map(Record, *columns[:15]))
    return Commit(numbers[0], moments[0], heads[-1], records)


class _LayoutOfOne(NamedTuple):
    """Where everything is in the messages of one record with the same metadata.

    Of all that `unpack_from` reads, `constants` are as `expected` in every such message. `columns`
    takes the values of the columns, and None from behind the last one.
    """

    unpack_from: Callable[[bytes, int], tuple[Any, ...]]
    constants: Callable[[tuple[Any, ...]], tuple[Any, ...]]
    expected: tuple[Any, ...]
    columns: Callable[[tuple[Any, ...]], tuple[Any, ...]]
    message_bytes: int

    def read(self, message: bytes) -> Commit:
        _expect(len(message) == self.message_bytes)
        values = self.unpack_from(message, len(_METADATA))
        _expect(self.constants(values) == self.expected)
        position, number, moment, kind, entity_id, type_id, previous, *more = self.columns(
            (*values, None)
        )
        actor, reason, request_id, salt, payload, who_salt, head, _ = more
        record = Record(
            position,
            number,
            moment,
            _KIND_NAMES[kind],
            entity_id,
            type_id,
            previous,
            None if actor is None else actor.decode(),
            None if reason is None else reason.decode(),
            None if request_id is None else request_id.decode(),
            salt,
            payload,
            None,
            who_salt,
            None,
        )
        return Commit(number, moment, head, (record,))


@lru_cache(maxsize=256)
def _layout_of_one(metadata: bytes) -> _LayoutOfOne | None:
    """That of messages with these metadata; None where they are not of one record.

    Puts of one program look alike, and most have one record.
    """
    rows, nulls, buffers = _read_metadata(metadata)
    if rows != 1:
        return None
    _expect(not any((*nulls[:_NEVER_NULL], *nulls[-2:])) and max(nulls) <= 1)
    lengths = [buffer.stop - buffer.start for buffer in buffers]
    formats, expected, columns = list[str](), dict[int, Any](), list[int]()

    def held(form: str, size: int) -> int:
        """The place of the next value, which has as many bytes as its buffer."""
        _expect(lengths.pop(0) == size)
        formats.append(f"{form}{-size & 7}x")
        return len(formats) - 1

    for width, missing in zip(_WIDTHS, nulls, strict=True):
        if missing:
            columns.append(-1)
            for part in _absent(width, 1):
                expected[held(f"{len(part)}s", len(part))] = part
            continue
        _expect(lengths.pop(0) == 0)
        if width == _INT64:
            columns.append(held("q", 8))
        elif width == _VARIABLE:
            size = lengths[1]
            # Two offsets of 32 bits: 0, and where the value ends.
            expected[held("q", 8)] = size << 32
            columns.append(held(f"{size}s", size))
        else:
            columns.append(held(f"{width}s", width))
    return _LayoutOfOne(
        struct.Struct("<" + "".join(formats)).unpack_from,
        itemgetter(*expected),
        tuple(expected.values()),
        itemgetter(*columns),
        (buffers[-1].stop + 7) & -8,
    )


def _read_metadata(metadata: bytes) -> tuple[int, tuple[int, ...], list[slice]]:
    """The number of rows, how many values of each column are null, and where the buffers are."""
    rows: int = struct.unpack_from("<q", metadata, ROWS_AT)[0]
    nodes = struct.unpack_from(f"<{2 * len(_WIDTHS)}q", metadata, NODES_AT)
    places = struct.unpack_from(f"<{2 * _BUFFERS_COUNT}q", metadata, BUFFERS_AT)
    lengths, nulls = places[1::2], nodes[1::2]
    _expect(min(lengths) >= 0)
    # All that is not compared here is as it is always.
    _expect(_metadata(rows, nulls, lengths)[0] == metadata)
    starts = [len(metadata) + start for start in places[::2]]
    return rows, nulls, [slice(a, a + n) for a, n in zip(starts, lengths, strict=True)]


def _read_column(
    width: int, rows: int, missing: int, message: bytes, buffers: Iterator[slice]
) -> list[Any]:
    """The values of a column, the next of whose buffers are taken."""
    validity = message[next(buffers)]
    if missing == rows:
        held = [message[next(buffers)] for _ in range(2 if width == _VARIABLE else 1)]
        _expect((validity, *held) == _absent(width, rows))
        return [None] * rows
    is_there = _read_validity(validity, rows, missing)
    values: list[Any]
    if width == _INT64:
        values = [*_int64s(rows).unpack(message[next(buffers)])]
    elif width == _VARIABLE:
        offsets = _int32s(rows + 1).unpack(message[next(buffers)])
        data = message[next(buffers)]
        _expect(offsets[0] == 0 and offsets[-1] == len(data) and all(map(le, offsets, offsets[1:])))
        values = [data[start:end] for start, end in pairwise(offsets)]
    else:
        data = message[next(buffers)]
        _expect(len(data) == rows * width)
        values = [data[start : start + width] for start in range(0, len(data), width)]
    if is_there is None:
        return values
    return [value if there == "1" else None for value, there in zip(values, is_there, strict=True)]


def _read_validity(validity: bytes, rows: int, missing: int) -> str | None:
    """A 1 for each value that is there and a 0 for each other one; None where all are there."""
    if not missing:
        _expect(not validity)
        return None
    _expect(len(validity) == (rows + 7) // 8)
    bits = f"{int.from_bytes(validity, 'little'):0{rows}b}"[::-1]
    _expect(len(bits) == rows and bits.count("0") == missing)
    return bits


@lru_cache(maxsize=256)
def _metadata(
    rows: int, nulls: tuple[int, ...], lengths: tuple[int, ...]
) -> tuple[bytes, list[tuple[int, bytes]]]:
    """The bytes before the body, and which of its buffers are padded, with what.

    Puts of one program look alike, so most are found in the cache.
    """
    ends = list(accumulate([(length + 7) & -8 for length in lengths], initial=0))
    nodes = [number for missing in nulls for number in (rows, missing)]
    places = [number for place in zip(ends, lengths, strict=False) for number in place]
    metadata = bytearray(_METADATA)
    struct.pack_into("<q", metadata, ROWS_AT, rows)
    struct.pack_into("<q", metadata, BODY_LENGTH_AT, ends[-1])
    struct.pack_into(f"<{len(nodes)}q", metadata, NODES_AT, *nodes)
    struct.pack_into(f"<{len(places)}q", metadata, BUFFERS_AT, *places)
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
