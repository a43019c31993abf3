"""Where the next page of a list begins, as a text that callers pass on as it is.

It carries the position that the first page was read at, so that all pages are of one state, and a
digest of itself and of what was asked for, so that it is refused elsewhere, and once it is cut.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any, TypeVar

import msgspec

from eventstore.errors import InvalidArgumentError
from eventstore.wording import quoted

_T = TypeVar("_T")


class _Cursor(msgspec.Struct, array_like=True, frozen=True):
    position: int
    after: msgspec.Raw
    digest: bytes


def cursor_text(position: int, asked: msgspec.Struct, after: Any) -> str | None:
    """The cursor that leads on after something; None where nothing follows."""
    if after is None:
        return None
    held = msgspec.Raw(msgspec.msgpack.encode(after))
    encoded = msgspec.msgpack.encode(_Cursor(position, held, _digest(position, held, asked)))
    return base64.urlsafe_b64encode(encoded).decode().rstrip("=")


def cursor_after(text: str | None, asked: msgspec.Struct, of: type[_T]) -> _T | None:
    """What a cursor leads on after; None without one.

    Raises InvalidArgumentError for one that was given out for something else.
    """
    if text is None:
        return None
    cursor = _parsed(text)
    if cursor.digest != _digest(cursor.position, cursor.after, asked):
        raise InvalidArgumentError(
            "the cursor belongs to another list: keep everything else as it was from page to page"
        )
    try:
        return msgspec.msgpack.decode(cursor.after, type=of)
    except msgspec.MsgspecError:
        raise _none_of_ours(text) from None


def position_of_cursor(text: str) -> int:
    """The position that the first page was read at. Raises InvalidArgumentError for no cursor."""
    return _parsed(text).position


def _parsed(text: str) -> _Cursor:
    try:
        decoded = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return msgspec.msgpack.decode(decoded, type=_Cursor)
    except (ValueError, msgspec.MsgspecError):
        raise _none_of_ours(text) from None


def _none_of_ours(text: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"cursor {quoted(text)} is none that was given out: pass that of the last answer unchanged"
    )


def _digest(position: int, after: msgspec.Raw, asked: msgspec.Struct) -> bytes:
    """What a cursor is known by, whatever the limit of its query."""
    said = {
        name: getattr(asked, name)
        for name in asked.__struct_fields__
        if name not in ("cursor", "limit")
    }
    encoded = msgspec.msgpack.encode([position, bytes(after), type(asked).__name__, said])
    return hashlib.sha256(encoded).digest()[:8]
