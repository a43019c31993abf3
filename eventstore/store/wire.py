"""Build a response from payloads that are serialized already.

Stored payloads are the very messages that responses repeat, so a response is made by framing them
as one length-delimited field and parsing once, inside the protobuf library.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, TypeVar

from google.protobuf.message import Message

Response = TypeVar("Response", bound=Message)

_LENGTH_DELIMITED = 2


def fill_repeated(response: Response, field: str, payloads: Iterable[bytes]) -> Response:
    """Append each serialized message of `payloads` to the repeated `field` of `response`."""
    tag = _varint(_field_number(response, field) << 3 | _LENGTH_DELIMITED)
    parts: list[bytes] = []
    for payload in payloads:
        parts += (tag, _length_prefix(len(payload)), payload)
    response.MergeFromString(b"".join(parts))
    return response


def _field_number(message: Any, field: str) -> int:
    number: int = message.DESCRIPTOR.fields_by_name[field].number
    return number


@lru_cache(maxsize=65536)
def _length_prefix(length: int) -> bytes:
    return _varint(length)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
