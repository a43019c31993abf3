"""The bodies of gRPC-Web: messages in frames, and the status as the last of them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Final

from eventstore.errors import InvalidArgumentError, UnimplementedError

FRAME_START_BYTES: Final = 5
"""What is before the content of a frame: its flags, and its length as four bytes."""

_COMPRESSED: Final = 0x01
_TRAILERS: Final = 0x80

_PIECE_BYTES: Final = 3 * 64 * 1024
"""Divisible by three, so that pieces can be turned into base64 one by one."""


def message_in(body: bytes | bytearray, *, is_text: bool) -> bytes:
    """The only message in the body of a request, which is in base64 if `is_text`.

    Raises InvalidArgumentError for a body that is not exactly one whole frame, and
    UnimplementedError for one that is compressed.
    """
    content = _without_base64(body) if is_text else bytes(body)
    if len(content) < FRAME_START_BYTES:
        raise InvalidArgumentError(
            f"the body has {len(content)} bytes, and no message: a frame of gRPC-Web has "
            f"{FRAME_START_BYTES} before its content"
        )
    flags, length = content[0], int.from_bytes(content[1:FRAME_START_BYTES])
    if flags & _COMPRESSED:
        raise UnimplementedError(
            "the message is compressed, which this server does not read: send it as it is"
        )
    if flags:
        raise InvalidArgumentError(
            f"the flags of the first frame are {flags:#04x}: a message has 0"
        )
    found = len(content) - FRAME_START_BYTES
    if found != length:
        raise InvalidArgumentError(
            f"the frame has {length:,} bytes by its start, and {found:,} follow: a request is one "
            "message"
        )
    return content[FRAME_START_BYTES:]


def message_frame(content: bytes) -> Iterator[bytes]:
    """A message as a frame, in pieces of moderate length."""
    start = b"\0" + len(content).to_bytes(4)
    first = _PIECE_BYTES - FRAME_START_BYTES
    yield start + content[:first]
    for at in range(first, len(content), _PIECE_BYTES):
        yield content[at : at + _PIECE_BYTES]


def trailers_frame(trailers: Mapping[str, str]) -> bytes:
    """The last frame: names and values, such as the status. Names are of lower case."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in trailers.items()).encode("ascii")
    return bytes([_TRAILERS]) + len(lines).to_bytes(4) + lines


def as_text(piece: bytes) -> bytes:
    """A piece of a frame as base64; pieces may follow each other, whatever their lengths."""
    return base64.b64encode(piece)


def _without_base64(body: bytes | bytearray) -> bytes:
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error as error:
        raise InvalidArgumentError(f"the body is not one text in base64 ({error})") from None
