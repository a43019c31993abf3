"""Check what a sealed segment says of itself besides its rows: footer, page headers, statistics.

Engines skip row groups by their statistics, count by the footer, and read past what lies between
pages. So everything that a footer or page header says must be true, nothing may be in them that the
writer does not write, and no byte of the file may belong to nothing.
"""

from __future__ import annotations

import base64
import math
import struct
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as parquet

from eventstore.log.columns import RECORD_SCHEMA
from eventstore.log.thrift import Fields, read_struct

_MAGIC: Final = b"PAR1"
_VERSION: Final = 2
_ZSTD: Final = 6
_DATA_PAGE, _DICTIONARY_PAGE = 0, 2
_PLAIN, _RLE, _RLE_DICTIONARY = 0, 3, 8
_CREATED_BY: Final = b"parquet-cpp-arrow version "

# Fields by their numbers in parquet.thrift: those that are always there, and those that may be.
_FOOTER: Final = ({1, 2, 3, 4, 5, 6, 7}, set[int]())
_ROW_GROUP: Final = ({1, 2, 3, 5, 6}, {7})
_CHUNK: Final = ({2, 3}, set[int]())
_CHUNK_METADATA: Final = ({1, 2, 3, 4, 5, 6, 7, 9, 12, 13}, {11, 16})
_STATISTICS: Final = ({3}, {1, 2, 5, 6, 7, 8})
_SIZES: Final = (set[int](), {1, 2, 3})
_DATA_PAGE_HEADER: Final = ({1, 2, 3, 4, 5}, set[int]())
_DICTIONARY_PAGE_HEADER: Final = ({1, 2, 3}, set[int]())
_KEY_VALUE: Final = ({1, 2}, set[int]())
_MIN_MAX, _DEPRECATED_MIN_MAX, _EXACT = (6, 5), (2, 1), (8, 7)


NOT_AS_WRITTEN: Final = (
    pa.ArrowException,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OverflowError,
)
"""What checking raises; all but the first two where there is a value of another kind."""


class _Page(NamedTuple):
    values: int
    statistics: Fields


class _Chunk(NamedTuple):
    """A column of a row group: what the footer says of it, and its data pages."""

    name: str
    metadata: Fields
    pages: list[_Page]


class ParquetStructure:
    """The footer and page headers of a file, every byte of which they account for.

    Raises ValueError, saying what it is, or another one of NOT_AS_WRITTEN for anything that the
    writer of segments does not write.
    """

    def __init__(self, data: bytes, metadata: dict[str, str]) -> None:
        """`metadata` are the keys and values that the file has to have."""
        self._data = data
        footer_start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
        if data[:4] != _MAGIC or data[-4:] != _MAGIC or footer_start < 4:
            raise ValueError("it does not start and end as Parquet does")
        footer, end = read_struct(data[:-8], footer_start)
        if end != len(data) - 8:
            raise ValueError(f"{len(data) - 8 - end} bytes after the footer belong to nothing")
        _expect_fields("the footer", footer, _FOOTER)
        _check_key_values(footer[5], metadata)
        if (footer[1], footer[2]) != (_VERSION, _written_elements()):
            raise ValueError("its columns are of other types to readers that do not use Arrow")
        if not footer[6].startswith(_CREATED_BY) or footer[7] != [{1: {}}] * len(_leaf_names()):
            raise ValueError("its footer names another writer or order of values")
        self.rows: list[int] = [group.get(3, 0) for group in footer[4]]
        if footer[3] != sum(self.rows):
            raise ValueError(f"its footer counts {footer[3]} rows, its groups {sum(self.rows)}")
        offset = len(_MAGIC)
        self._groups: list[list[_Chunk]] = []
        for number, group in enumerate(footer[4]):
            chunks, offset = self._read_group(number, group, offset)
            self._groups.append(chunks)
        if offset != footer_start:
            raise ValueError(
                f"{footer_start - offset} bytes between pages and footer belong to nothing"
            )

    def check_group(self, number: int, table: pa.Table) -> None:
        """Compare all that is said of a row group with its rows. Raises ValueError."""
        if len(table) != self.rows[number]:
            raise ValueError(f"group {number} has {len(table)} rows, not {self.rows[number]}")
        leaves = [leaf for name in table.column_names for leaf in _leaves(table[name])]
        for chunk, leaf in zip(self._groups[number], leaves, strict=True):
            try:
                _check_chunk(chunk, leaf, len(table))
            except ValueError as error:
                raise ValueError(f"what it says of column {chunk.name}: {error}") from None

    def _read_group(self, number: int, group: Fields, offset: int) -> tuple[list[_Chunk], int]:
        what = f"row group {number}"
        _expect_fields(what, group, _ROW_GROUP)
        start = offset
        chunks = []
        if len(group[1]) != len(_leaf_names()):
            raise ValueError(f"{what} has other columns")
        for name, chunk in zip(_leaf_names(), group[1], strict=True):
            _expect_fields(f"column {name}", chunk, _CHUNK)
            read, offset = self._read_chunk(name, chunk[3], offset)
            if chunk[2] != 0:
                raise ValueError(f"column {name} is said to be elsewhere")
            chunks.append(read)
        sizes = [sum(chunk.metadata[field] for chunk in chunks) for field in (6, 7)]
        if (group[5], group[2], group[6]) != (start, *sizes) or group.get(7, number) != number:
            raise ValueError(f"{what} is not where, or not as large as, the footer says")
        return chunks, offset

    def _read_chunk(self, name: str, metadata: Fields, start: int) -> tuple[_Chunk, int]:
        what = f"column {name}"
        _expect_fields(what, metadata, _CHUNK_METADATA)
        end = start + metadata[7]
        pages: list[_Page] = []
        kinds: Counter[tuple[int, int]] = Counter()
        offset, uncompressed = start, 0
        data_start = dictionary_start = None
        while offset < end:
            header, body = read_struct(self._data, offset)
            # Its checksum, field 4, is compared as the rows are read.
            if header[1] == _DATA_PAGE and header.keys() == {1, 2, 3, 4, 5}:
                page = header[5]
                _expect_fields(f"a page of {what}", page, _DATA_PAGE_HEADER)
                if page[2] not in (_PLAIN, _RLE, _RLE_DICTIONARY) or (page[3], page[4]) != (3, 3):
                    raise ValueError(f"a page of {what} is encoded in another way")
                pages.append(_Page(page[1], page[5]))
                kinds[_DATA_PAGE, page[2]] += 1
                data_start = offset if data_start is None else data_start
            elif (
                header[1] == _DICTIONARY_PAGE
                and header.keys() == {1, 2, 3, 4, 7}
                and offset == start
            ):
                dictionary_start = offset
                _expect_fields(f"the dictionary of {what}", header[7], _DICTIONARY_PAGE_HEADER)
                if header[7][3] is not False:
                    raise ValueError(f"the dictionary of {what} is said to be sorted")
                kinds[_DICTIONARY_PAGE, header[7][2]] += 1
            else:
                raise ValueError(
                    f"{what} has a page at byte {offset} that the writer does not make"
                )
            uncompressed += body - offset + header[2]
            offset = body + header[3]
            if header[3] < 0 or offset > end:
                raise ValueError(f"a page of {what} ends outside of it")
        stated = Counter({(kind[1], kind[2]): kind[3] for kind in metadata[13]})
        encodings = {_RLE, *(encoding for _, encoding in kinds)}
        if (
            (metadata[4], metadata[6]) != (_ZSTD, uncompressed)
            or [part.decode() for part in metadata[3]] != name.split(".")
            or (metadata[9], metadata.get(11)) != (data_start, dictionary_start)
            or metadata[5] != sum(page.values for page in pages)
            or stated != kinds
            or any(kind.keys() != {1, 2, 3} for kind in metadata[13])
            or len(stated) != len(metadata[13])
            or sorted(map(repr, metadata[2])) != sorted(map(repr, encodings))
            or metadata[1] != _leaf_types()[name]
        ):
            raise ValueError(f"the pages of {what} are not those that the footer describes")
        return _Chunk(name, metadata, pages), end


def check_schema(file: parquet.ParquetFile, metadata: dict[str, str]) -> None:
    """Raise ValueError unless a file has the columns of a segment, and these metadata alone.

    Arrow reads by a schema of its own next to that of Parquet, which `ParquetStructure` compares.
    """
    found = file.schema_arrow
    # Readers that Arrow stands behind take types from its schema, and names from that of Parquet.
    encoded = base64.b64decode((file.metadata.metadata or {}).get(b"ARROW:schema", b""))
    stored = pa.ipc.read_schema(pa.py_buffer(encoded))
    if not (
        found.remove_metadata().equals(RECORD_SCHEMA)
        and stored.remove_metadata().equals(RECORD_SCHEMA, check_metadata=True)
    ):
        raise ValueError("its columns are not those of a segment")
    expected = {name.encode(): value.encode() for name, value in metadata.items()}
    if found.metadata != expected or stored.metadata != expected:
        raise ValueError("its metadata are those of another segment or store")


@cache
def _written_bytes() -> bytes:
    sink = pa.BufferOutputStream()
    parquet.write_table(RECORD_SCHEMA.empty_table(), sink)
    written: bytes = sink.getvalue().to_pybytes()
    return written


@cache
def _written_schema() -> parquet.ParquetSchema:
    return parquet.ParquetFile(pa.BufferReader(_written_bytes())).schema


@cache
def _written_elements() -> list[Fields]:
    """The schema as Parquet has it: a tree of columns, in order."""
    written = _written_bytes()
    start = len(written) - 8 - int.from_bytes(written[-8:-4], "little")
    elements: list[Fields] = read_struct(written, start)[0][2]
    return elements


@cache
def _leaf_names() -> tuple[str, ...]:
    schema = _written_schema()
    return tuple(schema.column(number).path for number in range(len(schema.names)))


@cache
def _leaf_types() -> dict[str, int]:
    types = [element[1] for element in _written_elements() if 1 in element]
    return dict(zip(_leaf_names(), types, strict=True))


def _expect_fields(what: str, fields: Fields, allowed: tuple[set[int], set[int]]) -> None:
    always, sometimes = allowed
    if missing := always - fields.keys():
        raise ValueError(f"{what} lacks {sorted(missing)}")
    if unknown := fields.keys() - always - sometimes:
        raise ValueError(f"{what} says what the writer does not say: {sorted(unknown)}")


def _check_key_values(entries: Sequence[Fields], metadata: dict[str, str]) -> None:
    for entry in entries:
        _expect_fields("its metadata", entry, _KEY_VALUE)
    found = {entry[1].decode(): entry[2] for entry in entries}
    if len(found) != len(entries) or found.keys() != metadata.keys() | {"ARROW:schema"}:
        raise ValueError(f"its footer has other metadata than a segment: {sorted(found)}")
    if any(found[name] != value.encode() for name, value in metadata.items()):
        raise ValueError("its metadata are those of another segment or store")


class _Leaf(NamedTuple):
    """A column as Parquet stores it: the values of rows, or of the entries of their maps."""

    values: pa.Array
    parent: pa.MapArray | None

    def places(self) -> pa.Array:
        """For each value that pages count, where it stands; null for the one of an empty map."""
        if self.parent is None:
            return pa.array(range(len(self.values)), pa.int64())
        places: list[int | None] = []
        entry = 0
        for end in self.parent.offsets.to_pylist()[1:]:
            places += range(entry, end) if end > entry else (None,)
            entry = end
        return pa.array(places, pa.int64())


def _leaves(column: pa.ChunkedArray) -> Iterator[_Leaf]:
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if not pa.types.is_map(array.type):
        yield _Leaf(array, None)
        return
    yield _Leaf(array.keys, array)
    for member in array.items.flatten():
        yield _Leaf(member, array)


def _check_chunk(chunk: _Chunk, leaf: _Leaf, rows: int) -> None:
    in_all = chunk.metadata[5]
    present = len(leaf.values) - leaf.values.null_count
    expected = rows
    if leaf.parent is not None:
        offsets = leaf.parent.offsets
        empty = pc.sum(pc.equal(offsets[1:], offsets[:-1])).as_py() or 0
        expected = len(leaf.values) + empty
    if in_all != expected:
        raise ValueError(f"{in_all} values, it has {expected}")
    empty_maps = in_all - len(leaf.values)
    _check_statistics(chunk.metadata[12], leaf.values, empty_maps)
    if 16 in chunk.metadata:
        _check_sizes(chunk.metadata[16], leaf, in_all, present, rows)
    if len(chunk.pages) == 1:
        _check_statistics(chunk.pages[0].statistics, leaf.values, empty_maps)
        return
    places = leaf.places()
    start = 0
    for page in chunk.pages:
        on_page = places.slice(start, page.values)
        _check_statistics(
            page.statistics, leaf.values.take(on_page.drop_null()), on_page.null_count
        )
        start += page.values


_BEYOND_FINITE: Final = (
    (math.inf, struct.pack("<d", sys.float_info.max)),
    (-math.inf, struct.pack("<d", -sys.float_info.max)),
)
"""A minimum and a maximum, and the wider ones that an older Arrow states in their place."""


def _check_statistics(stated: Fields, values: pa.Array, empty_maps: int) -> None:
    """Compare statistics with the values that are there and the number of maps without any."""
    _expect_fields("its statistics", stated, _STATISTICS)
    # Whether an empty map counts as a null in its columns depends on the version of Arrow.
    nulls = values.null_count
    if stated[3] not in (nulls, nulls + empty_maps):
        raise ValueError(f"{stated[3]} nulls, it has {nulls + empty_maps}")
    if any(stated.get(field, True) is not True for field in _EXACT):
        raise ValueError("its statistics are not exact")
    if not any(field in stated for field in (*_MIN_MAX, *_DEPRECATED_MIN_MAX)):
        return
    if pa.types.is_timestamp(values.type):
        values = values.view(pa.int64())
    # Many columns have no value at all in most segments.
    limits = pc.min_max(values).as_py().values() if len(values) > values.null_count else (None,) * 2
    for fields in (_MIN_MAX, _DEPRECATED_MIN_MAX):
        given = [stated.get(field) for field in fields]
        if fields == _DEPRECATED_MIN_MAX and given == [None, None]:
            continue
        if not all(
            _is_encoded(encoded, limit, values.type)
            or (pa.types.is_float64(values.type) and (limit, encoded) == beyond)
            for encoded, limit, beyond in zip(given, limits, _BEYOND_FINITE, strict=True)
        ):
            raise ValueError("its statistics state other limits than its values have")


def _is_encoded(encoded: bytes | None, value: Any, data_type: pa.DataType) -> bool:
    """Whether bytes of statistics say this value; zeros of both signs are one value there."""
    if encoded is None:
        # It misleads nobody. The writer leaves out each limit that is longer than 4 KiB.
        return True
    if value is None:
        return False
    if pa.types.is_float64(data_type):
        return len(encoded) == 8 and struct.unpack("<d", encoded)[0] == value
    if pa.types.is_integer(data_type):
        is_encoded: bool = encoded == value.to_bytes(
            data_type.bit_width // 8, "little", signed=True
        )
        return is_encoded
    if isinstance(value, bool):
        return encoded == bytes([value])
    return encoded == (value.encode() if isinstance(value, str) else value)


def _check_sizes(stated: Fields, leaf: _Leaf, in_all: int, present: int, rows: int) -> None:
    """Compare the histograms of levels, of which the ends are known, with the values."""
    _expect_fields("its sizes", stated, _SIZES)
    repetitions, definitions = stated.get(2), stated.get(3)
    if repetitions and (sum(repetitions) != in_all or repetitions[0] != rows):
        raise ValueError("its histogram of repetitions is not that of its values")
    if definitions and (sum(definitions) != in_all or definitions[-1] != present):
        raise ValueError("its histogram of definitions is not that of its values")
    if 1 in stated and stated[1] != (pc.sum(pc.binary_length(leaf.values)).as_py() or 0):
        raise ValueError("its size is not that of its values")
