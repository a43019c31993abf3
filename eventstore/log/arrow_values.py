"""Arrow arrays and scalars of Python values.

To tell its values, `pyarrow.array` and `pyarrow.scalar` import pandas where that is installed. It
takes 35 MB, and half a second of the background's time and of puts meanwhile.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate, repeat
from operator import is_not
from typing import Any, Final

import pyarrow as pa

_NUMBERS: Final = {
    pa.uint16(): "H",
    pa.int32(): "i",
    pa.int64(): "q",
    pa.uint64(): "Q",
    pa.float64(): "d",
}
_OFFSETS: Final = {pa.utf8(): "i", pa.binary(): "i", pa.large_binary(): "q"}
_EMPTY: Final = {pa.utf8(): "", pa.binary(): b"", pa.large_binary(): b"", pa.bool_(): False}


def array_of(values: Sequence[Any], of: pa.DataType) -> pa.Array:
    """What `pyarrow.array` makes of values that are of a type or None."""
    nulls, validity = values.count(None), None
    if nulls == len(values):
        return pa.nulls(nulls, of)
    if nulls:
        validity = _bits(map(is_not, values, repeat(None)))
        empty = _EMPTY.get(of, 0)
        values = [empty if value is None else value for value in values]
    if of in _NUMBERS:
        buffers = [validity, pa.py_buffer(array(_NUMBERS[of], values))]
    elif of in _OFFSETS:
        offsets, joined = _joined(values, _OFFSETS[of], is_text=of == pa.utf8())
        buffers = [validity, pa.py_buffer(offsets), pa.py_buffer(joined)]
    else:
        buffers = [validity, _bits(values)]
    return pa.Array.from_buffers(of, len(values), buffers, nulls)


def scalar_of(value: Any, of: pa.DataType) -> pa.Scalar:
    """What `pyarrow.scalar` makes of a value of a type."""
    return array_of([value], of)[0]


def _joined(values: Sequence[Any], code: str, *, is_text: bool) -> tuple[array[int], bytes]:
    """Where each value begins and the last one ends, and all of them in one."""
    if is_text:
        text = "".join(values)
        if text.isascii():
            return array(code, [*accumulate(map(len, values), initial=0)]), text.encode()
        values = [*map(str.encode, values)]
    return array(code, [*accumulate(map(len, values), initial=0)]), b"".join(values)


def _bits(flags: Iterable[bool]) -> pa.Buffer:
    numbers = bytes(flags)
    whole = pa.Array.from_buffers(pa.uint8(), len(numbers), [None, pa.py_buffer(numbers)])
    return whole.cast(pa.bool_()).buffers()[1]
