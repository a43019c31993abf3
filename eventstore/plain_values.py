"""Structs as plain values, and when two plain values are the same."""

from __future__ import annotations

import math
import struct
from typing import Any


def plain_struct(fields: Any) -> dict[str, Any]:
    """A `google.protobuf.Struct` as a dictionary, sorted by name at every depth.

    Not by protobuf's own JSON, which refuses a NaN or an infinity; a put accepts them.
    """
    return {name: _plain_value(fields.fields[name]) for name in sorted(fields.fields)}


def number_text(value: float) -> str:
    """The name of a float that JSON has no number for, as in protobuf's JSON."""
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def shown_struct(value: Any) -> Any:
    """The plain value of a field as it is shown: a struct has whole numbers as such."""
    return _with_struct_numbers(value) if isinstance(value, dict) else value


def _struct_number(number: float) -> float | int:
    """A number of a Struct, which has one kind of them: 3 is what was put as 3, or as 3.0.

    From 2^63 on, where no integer of a store is, it keeps the short form of a double.
    """
    is_whole = number.is_integer() and abs(number) < 2**63
    return int(number) if is_whole and (number or math.copysign(1, number) > 0) else number


def _with_struct_numbers(value: Any) -> Any:
    if isinstance(value, float):
        return _struct_number(value)
    if isinstance(value, dict):
        return {name: _with_struct_numbers(member) for name, member in value.items()}
    return [_with_struct_numbers(member) for member in value] if isinstance(value, list) else value


def struct_json(fields: Any) -> str:
    """A `google.protobuf.Struct` as JSON in ASCII, sorted by name at every depth.

    A number that JSON does not have is its name, as by `number_text`.
    """
    import json

    plain = plain_struct(fields)
    try:
        return json.dumps(plain, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(plain), allow_nan=False)


def is_same(left: Any, right: Any) -> bool:
    """Whether two plain values are the same: of one type all through, and doubles to the bit."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return struct.pack("<d", left) == struct.pack("<d", right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(is_same(left[k], right[k]) for k in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(is_same, left, right))
    return bool(left == right)


def _plain_value(value: Any) -> Any:
    member = value.WhichOneof("kind")
    if member == "struct_value":
        return plain_struct(value.struct_value)
    if member == "list_value":
        return [_plain_value(element) for element in value.list_value.values]
    return None if member in (None, "null_value") else getattr(value, member)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return number_text(value)
    if isinstance(value, dict):
        return {name: _finite(member) for name, member in value.items()}
    return [_finite(member) for member in value] if isinstance(value, list) else value
