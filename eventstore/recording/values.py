"""Plain Python values as properties: typed ones that fit the type, custom ones for the rest."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import date
from numbers import Integral, Real
from typing import Any, NamedTuple

from google.protobuf.message import Message

from eventstore.errors import InvalidArgumentError
from eventstore.proto import metadata_store_pb2 as mlmd

_KINDS = {
    "bool_value": mlmd.BOOLEAN,
    "int_value": mlmd.INT,
    "double_value": mlmd.DOUBLE,
    "string_value": mlmd.STRING,
    "struct_value": mlmd.STRUCT,
    "proto_value": mlmd.PROTO,
}
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1

LIST_KEY = "values"
"""A property holds a struct, not a list: a list becomes a struct with this one member."""


class Properties(NamedTuple):
    """`typed` fit the type once it declares `added`, too; `custom` do not fit what it declares."""

    typed: dict[str, mlmd.Value]
    custom: dict[str, mlmd.Value]
    added: dict[str, mlmd.PropertyType]


def is_value(value: Any) -> bool:
    """Whether `to_value` takes it."""
    try:
        to_value("", value)
    except InvalidArgumentError:
        return False
    return True


def to_value(name: str, value: Any) -> mlmd.Value:
    """A Python value as the value of a property.

    Takes bool, int, float and their NumPy kin, str, paths, dates and times (as ISO text),
    mappings, sequences, and protobuf messages. Raises InvalidArgumentError for another, and for an
    int beyond 64 bits.
    """
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()
    answer = mlmd.Value()
    if isinstance(value, bool):
        answer.bool_value = value
    elif isinstance(value, Integral):
        if not _INT64_MIN <= int(value) <= _INT64_MAX:
            raise InvalidArgumentError(f"property {name!r}: {value} does not fit 64 bits")
        answer.int_value = int(value)
    elif isinstance(value, Real):
        answer.double_value = float(value)
    elif isinstance(value, str):
        answer.string_value = str(value)
    elif isinstance(value, date):
        answer.string_value = value.isoformat()
    elif isinstance(value, os.PathLike):
        answer.string_value = os.fsdecode(value)
    elif isinstance(value, Message):
        answer.proto_value.Pack(value)
    elif isinstance(value, Mapping):
        answer.struct_value.update(_plain_struct(name, value))
    elif isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        answer.struct_value.update({LIST_KEY: [_plain(name, member) for member in value]})
    else:
        raise InvalidArgumentError(
            f"property {name!r}: a {type(value).__name__} cannot be recorded; pass a number, text, "
            "date, mapping, list or protobuf message"
        )
    return answer


def properties_of(
    values: Mapping[str, Any], declared: Mapping[str, mlmd.PropertyType]
) -> Properties:
    """Divide values by what a type declares; None stands for no value.

    What it does not declare yet is to be added. A whole number fits a property that is declared as
    a double; anything else of another kind than declared becomes a custom property, for those take
    every kind.
    """
    answer = Properties({}, {}, {})
    for name, given in values.items():
        if given is None:
            continue
        value = to_value(name, given)
        kind = _KINDS[str(value.WhichOneof("value"))]
        known = declared.get(name)
        if known is None:
            answer.added[name] = kind
        elif known == mlmd.DOUBLE and kind == mlmd.INT:
            value = mlmd.Value(double_value=value.int_value)
        elif known != kind:
            answer.custom[name] = value
            continue
        answer.typed[name] = value
    return answer


def _plain_struct(name: str, value: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(key): _plain(name, member) for key, member in value.items()}


def _plain(name: str, value: Any) -> Any:
    """What a struct can hold: numbers become doubles there."""
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    if isinstance(value, Mapping):
        return _plain_struct(name, value)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [_plain(name, member) for member in value]
    raise InvalidArgumentError(
        f"property {name!r}: it holds a {type(value).__name__}, which cannot be recorded"
    )
