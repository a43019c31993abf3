"""Arrays of Python values are those that pyarrow makes of them."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa
import pytest

from eventstore.log.arrow_values import array_of, scalar_of

VALUES: dict[pa.DataType, list[Any]] = {
    pa.bool_(): [True, False, True],
    pa.uint16(): [0, 65_535],
    pa.int32(): [-(2**31), 0, 2**31 - 1],
    pa.int64(): [-(2**63), 0, 2**63 - 1],
    pa.uint64(): [0, 2**64 - 1],
    pa.float64(): [-0.0, math.inf, 5e-324],
    pa.utf8(): ["", "plain", "Grüße, \U0001f600", "\0"],
    pa.binary(): [b"", b"\xff\0"],
    pa.large_binary(): [b"", b"\xff\0"],
}


@pytest.mark.parametrize("of", VALUES, ids=str)
def test_an_array_is_what_pyarrow_makes(of: pa.DataType) -> None:
    values = VALUES[of]
    # More than a byte of the bitmap that tells nulls.
    for given in (values, [], [None], [None, *values, None], [*values, None] * 9, values[::-1]):
        made = array_of(given, of)
        made.validate(full=True)
        assert made.equals(pa.array(given, of))
        assert made.null_count == given.count(None)
    assert [scalar_of(value, of) for value in values] == [pa.scalar(value, of) for value in values]


@pytest.mark.parametrize("values", [[b"bytes"], ["text", b"\xff"], [1]], ids=str)
def test_what_is_no_text_is_refused(values: list[Any]) -> None:
    with pytest.raises(TypeError):
        array_of(values, pa.utf8())
