"""What each kind of Python value is recorded as: nothing, a number, text, a mapping or a list."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence, Set
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from numbers import Complex, Integral, Real
from typing import Any, TypeAlias
from uuid import UUID

from google.protobuf.message import EncodeError, Message

from eventstore.errors import InvalidArgumentError
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.recording.texts import encodable, shown

Scalar: TypeAlias = bool | int | float | str | None
Plain: TypeAlias = Scalar | Message | Mapping[Any, Any] | Sequence[Any] | Set[Any]

DOUBLE_WHOLE_MAX = 2**53
"""Beyond it not every whole number has a double of its own."""

_MESSAGES_DEEP_MAX = 99
"""The store takes no messages that are nested deeper."""

_MEMBERS_MAX = 2**24
"""A record of 64 MiB, the largest, cannot hold more of them: each takes four bytes at least."""

_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1

_BYTES_MAX = 2**24
"""An argument that is larger is data, not a setting; a record takes 64 MiB."""

_LIST_KEY = "values"
"""A property holds a struct, not a list: a list becomes a struct with this one member."""


class _NotRecordedError(Exception):
    """A value has no form in which nothing of it is lost; the message says what to do."""


def to_value(name: str, value: Any) -> mlmd.Value | None:
    """A Python value as the value of a property; None for those that stand for no value.

    Nothing is rounded: what no number can hold becomes text. docs/recording.md has the table.
    Raises InvalidArgumentError for what has no text that says the same.
    """
    answer = mlmd.Value()
    try:
        given = _plain(value)
        if given is None:
            return None
        if isinstance(given, bool):
            answer.bool_value = given
        elif isinstance(given, int):
            if _INT64_MIN <= given <= _INT64_MAX:
                answer.int_value = given
            else:
                answer.string_value = _whole_text(given)
        elif isinstance(given, float):
            answer.double_value = given
        elif isinstance(given, str):
            answer.string_value = given
        elif isinstance(given, Message):
            answer.proto_value.Pack(given)
        else:
            members = given if isinstance(given, Mapping) else {_LIST_KEY: given}
            # An empty struct is a value, too.
            answer.struct_value.SetInParent()
            answer.struct_value.update(_struct(members))
    except _NotRecordedError as refused:
        raise InvalidArgumentError(f"property {name!r}: {refused}") from None
    except EncodeError as error:
        raise InvalidArgumentError(
            f"property {name!r}: the message is incomplete: {error}"
        ) from error
    return answer


def is_value(value: Any) -> bool:
    """Whether an argument of a function is recorded as a property: a setting, and no large data."""
    try:
        # What says its size is not taken apart for nothing.
        if getattr(value, "nbytes", 0) > _BYTES_MAX:
            return False
        found = to_value("", value)
        return found is not None and found.ByteSize() <= _BYTES_MAX
    except Exception:  # what objects of any class do when they are asked for their parts
        return False


def _plain(value: Any) -> Plain:
    """A value as one of the few kinds that are recorded; members of containers are as they were."""
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        value = _without_numpy(value)
    if value is None or _is_missing(value):
        return None
    if isinstance(value, bool | Message):
        return value
    if isinstance(value, Enum) and not isinstance(value, int | float | str):
        # A combination of flags may have no name.
        return encodable(value.name or str(value))
    number_or_text = _number(value) if isinstance(value, Complex | Decimal) else _text(value)
    if number_or_text is not None:
        return number_or_text
    if isinstance(value, Mapping) or _is_list(value):
        return value
    raise _NotRecordedError(
        f"a value of type {type(value).__name__} cannot be recorded; pass a number, text, date, "
        "mapping, list or protobuf message"
    )


def _struct(value: Mapping[Any, Any]) -> dict[str, Any]:
    """A mapping as a struct holds it: keys are text, and whole numbers, as all, are doubles.

    Raises _NotRecordedError where members would be lost: for keys that have the same text, and for
    containers that are nested too deep or contain themselves.
    """
    # Around it lie the node, the entry of its map of properties, and the value.
    answer: dict[str, Any] = _Members().plain(value, 3)
    return answer


def _whole_text(number: int) -> str:
    """A whole number in digits, however many: Python's own conversion takes 4,300 at most."""
    return str(Decimal(number))


class _Members:
    """Takes containers apart, and counts what it finds."""

    def __init__(self) -> None:
        self._left = _MEMBERS_MAX

    def plain(self, value: Any, messages: int) -> Any:
        """The members of a value that lies in so many messages."""
        self._left -= 1
        if self._left < 0:
            raise _NotRecordedError(f"it has more than {_MEMBERS_MAX:,} members")
        value = _plain(value)
        if value is None or isinstance(value, bool | float | str):
            return value
        if isinstance(value, int):
            return float(value) if abs(value) <= DOUBLE_WHOLE_MAX else _whole_text(value)
        if isinstance(value, Message):
            raise _NotRecordedError(
                f"a message, here {type(value).__name__}, cannot be recorded in a mapping or list; "
                "pass it as a property of its own"
            )
        # Of a member: the container, in a mapping the entry, and the value.
        around = messages + (3 if isinstance(value, Mapping) else 2)
        if (around if value else messages + 1) > _MESSAGES_DEEP_MAX:
            raise _NotRecordedError(
                "it is nested too deep, or contains itself; pass parts of it, or its text"
            )
        if not isinstance(value, Mapping):
            return [self.plain(member, around) for member in value]
        named = _by_text(value)
        return {name: self.plain(member, around) for name, member in named.items()}


def _by_text(value: Mapping[Any, Any]) -> dict[str, Any]:
    """A mapping with keys that are text."""
    keys = dict[str, Any]()
    answer = dict[str, Any]()
    for key, member in value.items():
        text = _key_text(key)
        if text in keys:
            raise _NotRecordedError(
                f"its keys {shown(keys[text])} and {shown(key)} have the same text; give them "
                "different ones"
            )
        keys[text] = key
        answer[text] = member
    return answer


def _key_text(key: Any) -> str:
    """The text of a mapping's key. Raises _NotRecordedError for what has none of its own."""
    if isinstance(key, str) and not isinstance(key, Enum):
        return encodable(key)
    parts = key if isinstance(key, tuple) else (key,)
    if not all(_is_scalar(part) for part in parts):
        raise _NotRecordedError(
            f"its key {shown(key)} is no text, number or date; use one of these"
        )
    if isinstance(key, tuple | bool | float):
        return encodable(str(key))
    known = _plain(key)
    return _whole_text(known) if isinstance(known, int) else str(known)


def _is_scalar(value: Any) -> bool:
    try:
        return isinstance(_plain(value), bool | int | float | str)
    except _NotRecordedError:
        return False


def _is_missing(value: object) -> bool:
    """Whether it is one of pandas' values that stand for none: NaT, NA."""
    of = type(value)
    return of.__name__ in {"NaTType", "NAType"} and of.__module__.partition(".")[0] == "pandas"


def _without_numpy(value: Any) -> Any:
    """Scalars and arrays of NumPy, and of what looks like it, as Python's."""
    found = value.tolist()
    if getattr(value.dtype, "kind", "") not in ("m", "M"):
        return found
    # Times of some units, of nanoseconds among them, come as bare numbers: Python has no such type.
    if isinstance(found, list):
        return list(value)
    return str(value) if isinstance(found, int) else found


def _number(value: Any) -> int | float | str:
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Real):
        # A fraction, say, or a float that is longer than a double.
        double = _as_double(value)
        return str(value) if double is None else double
    return str(value)


def _as_double(value: Any) -> float | None:
    """The double that equals it; None where there is none."""
    try:
        double = float(value)
    except (OverflowError, ValueError):
        return None
    return double if double == value or double != double else None


def _text(value: Any) -> str | None:
    """The text that says the same; None for what is no text."""
    if isinstance(value, str):
        # Of an enumeration's member that is text, its own text.
        return encodable(str.__str__(value))
    if isinstance(value, os.PathLike):
        return encodable(os.fsdecode(value))
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return _duration(value)
    return str(value) if isinstance(value, UUID) else None


def _duration(span: timedelta) -> str:
    """A duration as ISO 8601 has it: `P1DT2H3M4.5S`."""
    sign, span = ("-", -span) if span < timedelta(0) else ("", span)
    hours, seconds = divmod(span.seconds, 3600)
    # pandas' durations have nanoseconds, too.
    fraction = span.microseconds * 1000 + getattr(span, "nanoseconds", 0)
    digits = f".{fraction:09d}".rstrip("0") if fraction else ""
    return f"{sign}P{span.days}DT{hours}H{seconds // 60}M{seconds % 60}{digits}S"


def _is_list(value: object) -> bool:
    is_bytes = isinstance(value, bytes | bytearray | memoryview)
    return isinstance(value, Sequence | Set) and not is_bytes
