"""Plain Python values as properties: typed ones that fit the type, custom ones for the rest."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence, Set
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

    Takes bool, int, float, str, paths, dates and times (as ISO text), mappings, lists, tuples,
    sets, NumPy's scalars and arrays, and protobuf messages; an int beyond 64 bits becomes text.
    Raises InvalidArgumentError for anything else.
    """
    value = _without_numpy(value)
    answer = mlmd.Value()
    if isinstance(value, bool):
        answer.bool_value = value
    elif isinstance(value, Integral):
        if _INT64_MIN <= int(value) <= _INT64_MAX:
            answer.int_value = int(value)
        else:
            answer.string_value = str(int(value))
    elif isinstance(value, Real):
        answer.double_value = float(value)
    elif isinstance(value, str | date | os.PathLike):
        answer.string_value = _text(value)
    elif isinstance(value, Message):
        answer.proto_value.Pack(value)
    elif isinstance(value, Mapping):
        # An empty struct is a value, too.
        answer.struct_value.SetInParent()
        answer.struct_value.update(_plain(name, value))
    elif _is_list(value):
        answer.struct_value.update({LIST_KEY: _plain(name, value)})
    else:
        raise _refused(name, value)
    return answer


def properties_of(
    values: Mapping[str, Any], declared: Mapping[str, mlmd.PropertyType]
) -> Properties:
    """Divide values by what a type declares; None stands for no value.

    What it does not declare yet is to be added. A whole number fits a property that is declared as
    a double; anything else of another kind than declared becomes a custom property, since those
    take every kind.
    """
    answer = Properties({}, {}, {})
    for name, given in values.items():
        if not isinstance(name, str):
            raise InvalidArgumentError(f"the name of a property is text, not {name!r}")
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


def _plain(name: str, value: Any) -> Any:
    """What a struct can hold: numbers become doubles there."""
    value = _without_numpy(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, str | date | os.PathLike):
        return _text(value)
    if isinstance(value, Mapping):
        return {_text(str(key)): _plain(name, member) for key, member in value.items()}
    if _is_list(value):
        return [_plain(name, member) for member in value]
    raise _refused(name, value)


def _without_numpy(value: Any) -> Any:
    """NumPy's scalars and arrays as Python's; all else as it is."""
    return value.tolist() if hasattr(value, "tolist") and hasattr(value, "dtype") else value


def _is_list(value: Any) -> bool:
    is_bytes = isinstance(value, bytes | bytearray)
    return isinstance(value, Sequence | Set) and not is_bytes


def _text(value: str | date | os.PathLike[Any]) -> str:
    if isinstance(value, date):
        return value.isoformat()
    text = value if isinstance(value, str) else os.fsdecode(value)
    # Of a file's name, say, some bytes may be no text.
    return text.encode(errors="backslashreplace").decode()


def _refused(name: str, value: Any) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"property {name!r}: a value of type {type(value).__name__} cannot be recorded; pass a "
        "number, text, date, mapping, list or protobuf message"
    )
