"""Stored text as it is shown: what a reader could not see, or a terminal would obey, is escaped.

Names, reasons and property values are whatever somebody put. Shown as they are, they could move
the cursor, reverse a line or start a new one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

_EMOJI: Final = "\u2190-\u21ff\u2300-\u27bf\u2b00-\u2bff\ufe0f\U0001f000-\U0001faff"
_UNSEEN: Final = (
    "\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200c\u200e\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufeff\uffa0\ufff0-\ufffb"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff"
)
# The joiner between two emoji makes one of them and is seen; anywhere else it is not.
_JOINER: Final = f"(?<![{_EMOJI}])\u200d|\u200d(?![{_EMOJI}])"
_ESCAPED: Final = f"[\x00-\x1f{_UNSEEN}]|{_JOINER}"
_ESCAPED_IN_LINES: Final = f"[\x00-\x08\x0b-\x1f{_UNSEEN}]|{_JOINER}"
_ESCAPED_IN_JSON: Final = f"[{_UNSEEN}]|{_JOINER}"
_SHORT: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def shown_text(text: str) -> str:
    r"""The text on one line: `\n`, `\x1b`, `\u202e` for what cannot be seen or would be obeyed."""
    return _substituted(_ESCAPED, _escape, text)


def shown_lines(text: str) -> str:
    """The text with its own line breaks and tabs, all else escaped as in `shown_text`."""
    return _substituted(_ESCAPED_IN_LINES, _escape, text)


def harmless_json(text: str) -> str:
    """JSON that says the same, in which such characters are spelled as JSON spells them."""
    return _substituted(_ESCAPED_IN_JSON, _escape_in_json, text)


def _substituted(pattern: str, replace: Callable[[re.Match[str]], str], text: str) -> str:
    # Most texts have nothing of it, and the patterns take long to compile.
    if text.isascii() and text.isprintable():
        return text
    return re.sub(pattern, replace, text)


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    if character in _SHORT:
        return _SHORT[character]
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _escape_in_json(match: re.Match[str]) -> str:
    encoded = match.group().encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{encoded[i : i + 2].hex()}" for i in range(0, len(encoded), 2))
