"""Columns of protobuf messages, written for all rows at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_VARINT, _FIXED64, _BYTES = 0, 1, 2

Column = Any
"""An Arrow array of bytes, or bytes that are the same in all rows."""


def message(fields: Sequence[Column]) -> pa.BinaryArray:
    """Messages of these fields, of which at least one is an array."""
    parts = [pa.scalar(part, pa.binary()) if isinstance(part, bytes) else part for part in fields]
    return pc.binary_join_element_wise(*parts, pa.scalar(b"", pa.binary()))


def number_field(number: int, values: Any) -> Column:
    """A field of whole numbers from 0 on: an array of numpy's, or one for all rows."""
    tag = number << 3 | _VARINT
    if isinstance(values, int):
        return bytes([tag]) + _varint(values)
    return _varints(values, tag)


def text_field(number: int, values: Column | str) -> Column:
    """A field of texts, bytes or messages."""
    if isinstance(values, str):
        values = values.encode()
    tag = number << 3 | _BYTES
    if isinstance(values, bytes):
        return bytes([tag]) + _varint(len(values)) + values
    lengths = pc.binary_length(values).to_numpy(zero_copy_only=False)
    return message([_varints(lengths, tag), values.cast(pa.binary())])


def double_field(number: int, values: np.ndarray[Any, Any]) -> pa.BinaryArray:
    """A field of doubles."""
    rows = np.empty((len(values), 9), np.uint8)
    rows[:, 0] = number << 3 | _FIXED64
    rows[:, 1:] = values.astype("<f8").view(np.uint8).reshape(-1, 8)
    return _binary(rows.tobytes(), np.arange(len(values) + 1) * 9)


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    written.append(value)
    return bytes(written)


def _varints(values: np.ndarray[Any, Any], tag: int) -> pa.BinaryArray:
    """Each number after the byte of a tag."""
    left = values.astype(np.uint64)
    width = max(1, -(-int(left.max(initial=0)).bit_length() // 7))
    rows = np.empty((len(left), 1 + width), np.uint8)
    rows[:, 0] = tag
    is_there = np.ones(rows.shape, bool)
    for place in range(1, width + 1):
        rows[:, place] = left & np.uint64(127)
        left >>= np.uint64(7)
        rows[:, place] |= (left > 0).astype(np.uint8) << 7
        if place < width:
            is_there[:, place + 1] = left > 0
    ends = np.cumsum(is_there.sum(axis=1))
    return _binary(rows[is_there].tobytes(), np.concatenate(([0], ends)))


def _binary(content: bytes, offsets: np.ndarray[Any, Any]) -> pa.BinaryArray:
    buffers = [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(content)]
    return pa.BinaryArray.from_buffers(pa.binary(), len(offsets) - 1, buffers)
