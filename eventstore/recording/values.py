"""Plain Python values as properties: typed ones that fit the type, custom ones for the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from google.protobuf.message import EncodeError, Message

from eventstore.errors import InvalidArgumentError
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.recording.plain_values import (
    DOUBLE_WHOLE_MAX,
    NotRecordedError,
    plain,
    struct,
    whole_text,
)
from eventstore.recording.texts import encodable, shown

_KINDS = {
    "bool_value": mlmd.BOOLEAN,
    "int_value": mlmd.INT,
    "double_value": mlmd.DOUBLE,
    "string_value": mlmd.STRING,
    "struct_value": mlmd.STRUCT,
    "proto_value": mlmd.PROTO,
}
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1

_BYTES_MAX = 2**24
"""An argument of a function that is larger is data, not a setting; a record takes 64 MiB."""

LIST_KEY = "values"
"""A property holds a struct, not a list: a list becomes a struct with this one member."""


class Properties(NamedTuple):
    """`typed` fit the type once it declares `added`, too; `custom` do not fit what it declares."""

    typed: dict[str, mlmd.Value]
    custom: dict[str, mlmd.Value]
    added: dict[str, mlmd.PropertyType]


def is_value(value: Any) -> bool:
    """Whether `to_value` makes a value of it, and not one that would fill a record."""
    try:
        # What says its size is not taken apart for nothing.
        if getattr(value, "nbytes", 0) > _BYTES_MAX:
            return False
        found = to_value("", value)
        return found is not None and found.ByteSize() <= _BYTES_MAX
    except Exception:  # what objects of any class do when they are asked for their parts
        return False


def to_value(name: str, value: Any) -> mlmd.Value | None:
    """A Python value as the value of a property; None for those that stand for no value.

    Nothing is rounded: what no number can hold becomes text. docs/recording.md has the table.
    Raises InvalidArgumentError for what has no text that says the same.
    """
    answer = mlmd.Value()
    try:
        given = plain(value)
        if given is None:
            return None
        if isinstance(given, bool):
            answer.bool_value = given
        elif isinstance(given, int):
            if _INT64_MIN <= given <= _INT64_MAX:
                answer.int_value = given
            else:
                answer.string_value = whole_text(given)
        elif isinstance(given, float):
            answer.double_value = given
        elif isinstance(given, str):
            answer.string_value = given
        elif isinstance(given, Message):
            answer.proto_value.Pack(given)
        else:
            members = given if isinstance(given, Mapping) else {LIST_KEY: given}
            # An empty struct is a value, too.
            answer.struct_value.SetInParent()
            answer.struct_value.update(struct(members))
    except NotRecordedError as refused:
        raise InvalidArgumentError(f"property {name!r}: {refused}") from None
    except EncodeError as error:
        raise InvalidArgumentError(
            f"property {name!r}: the message is incomplete: {error}"
        ) from error
    return answer


def properties_of(
    values: Mapping[str, Any], declared: Mapping[str, mlmd.PropertyType]
) -> Properties:
    """Divide values by what a type declares; None stands for no value.

    What it does not declare yet is to be added. A whole number fits a property that is declared as
    a double, unless it is so large that it might be rounded; anything else of another kind than
    declared becomes a custom property, since those take every kind.
    """
    answer = Properties({}, {}, {})
    for name, value in _named_values(values):
        kind = _KINDS[str(value.WhichOneof("value"))]
        known = declared.get(name)
        if known is None:
            answer.added[name] = kind
        elif known == mlmd.DOUBLE and kind == mlmd.INT and _fits_a_double(value.int_value):
            value = mlmd.Value(double_value=value.int_value)
        elif known != kind:
            answer.custom[name] = value
            continue
        answer.typed[name] = value
    return answer


def _named_values(values: Mapping[str, Any]) -> Iterator[tuple[str, mlmd.Value]]:
    names = dict[str, str]()
    for given_name, given in values.items():
        if not isinstance(given_name, str):
            raise InvalidArgumentError(f"the name of a property is text, not {shown(given_name)}")
        name = encodable(given_name)
        if name in names:
            raise InvalidArgumentError(
                f"the names {names[name]!r} and {given_name!r} of properties are stored as the "
                f"same text, {name!r}: give them different ones"
            )
        names[name] = given_name
        value = to_value(name, given)
        if value is not None:
            yield name, value


def _fits_a_double(number: int) -> bool:
    return -DOUBLE_WHOLE_MAX <= number <= DOUBLE_WHOLE_MAX
