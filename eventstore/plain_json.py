"""Values and messages as JSON: one way for all commands, valid at every edge.

Numbers are numbers, int64 whole. NaN and the infinities, for which JSON has no number, are the
texts that protobuf's JSON has for them: "NaN", "Infinity", "-Infinity". Times are ISO 8601 in
UTC, bytes are base64, hashes hexadecimal, enums are names, and fields have the names of the .proto
files.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import msgspec
from google.protobuf import any_pb2, struct_pb2
from google.protobuf.message import Message

from eventstore.plain_values import number_text, plain_struct, shown_struct
from eventstore.shown_text import harmless_json

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)

_ENCODER: Final = msgspec.json.Encoder(decimal_format="number")
_WHOLE_MAX: Final = 2**63


class MillisecondTime(datetime):
    """A time that is stored in milliseconds: it is shown with these, not to the microsecond."""


def json_text(value: Any) -> str:
    """One line of JSON that a terminal can show as well."""
    return harmless_json(_ENCODER.encode(plain(value)).decode())


def plain(value: Any) -> Any:
    """The value made only of what JSON has; messages as by `plain_message`."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        # A path may have bytes that are no text.
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, int):
        return value if -_WHOLE_MAX <= value < _WHOLE_MAX else Decimal(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else number_text(value)
    if isinstance(value, Decimal):
        return value if value.is_finite() else number_text(float(value))
    # First: a Struct counts as a mapping, too.
    if isinstance(value, Message):
        return plain_message(value)
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(held) for key, held in value.items()}
    if isinstance(value, tuple) and hasattr(value, "nanoseconds"):
        return _interval_text(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(held) for held in value]
    if isinstance(value, msgspec.Struct):
        return plain(members(value))
    if isinstance(value, datetime):
        return moment_text(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, UUID):
        return str(value)
    return str(value)


def members(value: msgspec.Struct) -> dict[str, Any]:
    """The fields of a struct that are set, under the names that JSON has for them."""
    held = zip(value.__struct_encode_fields__, msgspec.structs.astuple(value), strict=True)
    return {name: member for name, member in held if member is not msgspec.UNSET}


def _interval_text(interval: Any) -> str:
    """Arrow's interval of months, days and nanoseconds as DuckDB writes it: `2 days 00:00:01.5`."""
    years, months = divmod(abs(interval.months), 12)
    sign = -1 if interval.months < 0 else 1
    words = [
        f"{count} {unit}{'' if abs(count) == 1 else 's'}"
        for count, unit in (
            (sign * years, "year"),
            (sign * months, "month"),
            (interval.days, "day"),
        )
        if count
    ]
    seconds, microseconds = divmod(abs(interval.nanoseconds) // 1000, 1_000_000)
    if seconds or microseconds or not words:
        minutes, seconds = divmod(seconds, 60)
        clock = f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"
        fraction = f".{microseconds:06}".rstrip("0") if microseconds else ""
        words.append(f"{'-' if interval.nanoseconds < 0 else ''}{clock}{fraction}")
    return " ".join(words)


def moment_text(moment: datetime) -> str:
    """ISO 8601, as exact as it is stored: `Z` for UTC, else the offset; none without a zone."""
    is_whole = isinstance(moment, MillisecondTime)
    text = moment.isoformat(timespec="milliseconds" if is_whole else "microseconds")
    return (
        text.removesuffix("+00:00") + "Z"
        if moment.tzinfo is not None and not (moment.utcoffset())
        else text
    )


def moment_of_milliseconds(milliseconds: int) -> datetime | int:
    """An aware datetime in UTC; the number itself where the calendar does not reach."""
    try:
        start = MillisecondTime(1970, 1, 1, tzinfo=timezone.utc)
        return start + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return milliseconds


def plain_message(message: Message) -> Any:
    """The fields of a message that are set."""
    if isinstance(message, struct_pb2.Struct):
        return plain(shown_struct(plain_struct(message)))
    if isinstance(message, any_pb2.Any):
        return {"type_url": message.type_url, "value": plain(message.value)}
    return {field.name: _field(field, value) for field, value in message.ListFields()}


def _field(field: Any, value: Any) -> Any:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        held = field.message_type.fields_by_name["value"]
        return {str(key): _single(held, value[key]) for key in sorted(value)}
    is_repeated = field.is_repeated if hasattr(field, "is_repeated") else field.label == 3
    if is_repeated:
        return [_single(field, one) for one in value]
    return _single(field, value)


def _single(field: Any, value: Any) -> Any:
    if field.enum_type is None:
        return value.hex() if field.name.endswith("_sha256") else plain(value)
    known = field.enum_type.values_by_number.get(value)
    return value if known is None else known.name
