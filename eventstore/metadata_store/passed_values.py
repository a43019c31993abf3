"""Arguments and answers as bytes, between a store and whoever asks it over the network.

The forms are described in protos/eventstore_service.proto. What is read back is made of the types
that signatures name, of plain values and of messages of known kinds: of nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import Any, Final

import msgspec
from google.protobuf.message import DecodeError, Message

from eventstore.log.kinds import KINDS

_CODES: Final = {kind.message: kind.number for kind in KINDS.values()}
_MESSAGES: Final[Mapping[int, Any]] = {kind.number: kind.message for kind in KINDS.values()}

_TEXT_CODE: Final = 100
"""Of values that are written as the name of their type and a text."""

_WHOLE_NUMBERS: Final = range(-(2**63), 2**64)
_WHOLE_NUMBER: Final = re.compile(r"-?[0-9]{1,100}")


def packed(value: object) -> bytes:
    """A value as bytes. Raises ValueError for what has no such form."""
    try:
        return _ENCODER.encode(value)
    except (OverflowError, RecursionError, TypeError) as error:
        raise ValueError(str(error)) from None


def unpacked(content: bytes, type_: Any) -> Any:
    """The value of a type that bytes stand for. Raises ValueError for others."""
    try:
        return _decoder(type_).decode(content)
    except (DecodeError, msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise ValueError(str(error)) from None


def typed(value: Any) -> Any:
    """A parameter of a query such that it keeps its type: a date is not read back as a text."""
    if isinstance(value, Mapping):
        return {key: typed(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [typed(member) for member in value]
    name = next((name for name, (known, _, _) in _TYPED.items() if type(value) is known), None)
    if name is None or (name == "int" and value in _WHOLE_NUMBERS):
        return value
    if name == "datetime" and value.tzinfo is not None:
        return value
    return msgspec.msgpack.Ext(_TEXT_CODE, msgspec.msgpack.encode((name, _TYPED[name][1](value))))


def _decimal(text: str) -> Any:
    from decimal import Decimal, InvalidOperation

    try:
        return Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{text!r} is no number") from None


def _whole_number(text: str) -> int:
    if not _WHOLE_NUMBER.fullmatch(text):
        raise ValueError(f"{text!r} is no whole number")
    return int(text)


def _typed_forms() -> dict[str, tuple[type, Callable[[Any], str], Callable[[str], Any]]]:
    from decimal import Decimal
    from uuid import UUID

    return {
        "date": (date, date.isoformat, date.fromisoformat),
        "time": (time, time.isoformat, time.fromisoformat),
        "datetime": (datetime, datetime.isoformat, datetime.fromisoformat),
        "timedelta": (
            timedelta,
            lambda value: str(value // timedelta(microseconds=1)),
            lambda text: timedelta(microseconds=_whole_number(text)),
        ),
        "Decimal": (Decimal, str, _decimal),
        "UUID": (UUID, str, UUID),
        "int": (int, str, _whole_number),
    }


_TYPED: Final = _typed_forms()


def _encoded(value: object) -> object:
    """What stands for a value that MessagePack has no type for."""
    if isinstance(value, Message):
        return msgspec.msgpack.Ext(_CODES[type(value)], value.SerializeToString())
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "__index__"):
        return value.__index__()
    if isinstance(value, Iterable):
        return [*value]
    raise TypeError(f"there is no form for values of the type {type(value).__name__}")


def _extended(code: int, content: memoryview) -> object:
    """What an extension stands for."""
    if code in _MESSAGES:
        return _MESSAGES[code].FromString(bytes(content))
    if code == _TEXT_CODE:
        name, text = _TYPED_DECODER.decode(content)
        if name in _TYPED and len(text) <= _TYPED_LENGTH_MAX:
            try:
                return _TYPED[name][2](text)
            except OverflowError as error:
                raise ValueError(str(error)) from None
    raise ValueError(f"there is no extension of type {code} like this")


def _checked(type_: type, value: object) -> object:
    """A message where the type of one is named."""
    if isinstance(value, type_):
        return value
    raise ValueError(f"this is no {type_.__name__}")


_TYPED_LENGTH_MAX: Final = 200
_TYPED_DECODER: Final = msgspec.msgpack.Decoder(tuple[str, str])
_ENCODER: Final = msgspec.msgpack.Encoder(enc_hook=_encoded)


@lru_cache(maxsize=256)
def _decoder(type_: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(type_, ext_hook=_extended, dec_hook=_checked)
