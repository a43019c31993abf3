"""Read the compact protocol of Apache Thrift, in which Parquet writes its footer and page headers.

Arrow shows its reading of them, not all they say: of two statements of one thing it shows one, and
it passes over what it does not know.
"""

from __future__ import annotations

import struct
from typing import Any, Final

Fields = dict[int, Any]
"""A struct's values by the numbers of their fields."""

_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 12
_INTEGERS: Final = (4, 5, 6)
_DEPTH_MAX: Final = 16
_VARINT_BYTES_MAX: Final = 10


def read_struct(data: bytes | memoryview, offset: int, depth: int = 0) -> tuple[Fields, int]:
    """The struct that starts at an offset, and where it ends.

    Raises ValueError for what is no struct, has a field twice, or a type that Parquet does not use.
    """
    if depth > _DEPTH_MAX:
        raise ValueError("structs within structs without an end")
    fields: Fields = {}
    number = 0
    try:
        while True:
            head = data[offset]
            offset += 1
            if head == 0:
                return fields, offset
            if head >> 4:
                number += head >> 4
            else:
                number, offset = _zigzag(data, offset)
            if number in fields:
                raise ValueError(f"field {number} comes twice")
            fields[number], offset = _read(data, offset, head & 15, depth)
    except (IndexError, struct.error):
        raise ValueError("it ends in the middle of a struct") from None


def _read(data: bytes | memoryview, offset: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in (_TRUE, _FALSE):
        return kind == _TRUE, offset
    if kind == _STRUCT:
        return read_struct(data, offset, depth + 1)
    if kind in _INTEGERS:
        return _zigzag(data, offset)
    if kind == _BINARY:
        length, offset = _varint(data, offset)
        if offset + length > len(data):
            raise ValueError("a text is longer than what holds it")
        return bytes(data[offset : offset + length]), offset + length
    if kind in (_LIST, _SET):
        head = data[offset]
        offset += 1
        length = head >> 4
        if length == 15:
            length, offset = _varint(data, offset)
        values = []
        for _ in range(length):
            value, offset = _read_element(data, offset, head & 15, depth)
            values.append(value)
        return values, offset
    if kind == _BYTE:
        return data[offset], offset + 1
    if kind == _DOUBLE:
        return struct.unpack_from("<d", data, offset)[0], offset + 8
    raise ValueError(f"there is no type {kind}")


def _read_element(data: bytes | memoryview, offset: int, kind: int, depth: int) -> tuple[Any, int]:
    # In a list a boolean is a byte, not part of a field's head.
    if kind in (_TRUE, _FALSE):
        return data[offset] == _TRUE, offset + 1
    return _read(data, offset, kind, depth)


def _varint(data: bytes | memoryview, offset: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 7 * _VARINT_BYTES_MAX, 7):
        byte = data[offset]
        offset += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, offset
    raise ValueError("a number has no end")


def _zigzag(data: bytes | memoryview, offset: int) -> tuple[int, int]:
    value, offset = _varint(data, offset)
    return value >> 1 ^ -(value & 1), offset
