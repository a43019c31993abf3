"""The first pass over a filter: literals and MLMD's own names become plain identifiers.

Property names and aliases are not GoogleSQL (`properties.0.int_value`), and no text of a user's
shall reach the database as SQL. So string literals, properties and neighbours are taken out before
the expression is parsed, and stand in it as numbered identifiers.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from eventstore.errors import InvalidArgumentError

TEXT_BYTES_MAX = 64 * 1024
DEPTH_MAX = 200
_INT64_DIGITS = 19

STRING_PREFIX = "f_string_"
PROPERTY_PREFIX = "f_property_"
NEIGHBOUR_PREFIX = "f_neighbour_"
INT_PREFIX = "f_int_"
FLOAT_PREFIX = "f_float_"
_PREFIXES = (
    "f_decimal_format",
    "f_not_in",
    STRING_PREFIX,
    PROPERTY_PREFIX,
    NEIGHBOUR_PREFIX,
    INT_PREFIX,
    FLOAT_PREFIX,
)
NOT_IN = "f_not_in"
"""Stands as the first member of the list of a NOT IN, which the parser does not tell from NOT."""

DECIMAL_FORMAT = "f_decimal_format"
"""Stands for '%d' as the first argument of FORMAT."""

_BEFORE_FORMAT = re.compile(r"\bFORMAT\s*\(\s*$", re.IGNORECASE)
_NOT_IN = re.compile(r"\bNOT\s+IN\s*\(", re.IGNORECASE)
# Upstream knows the names of enums behind = and != alone; in parentheses they pass for columns.
_UNEQUAL_NAME = re.compile(r"<>\s*((?!case\b)[A-Za-z_]\w*)\b(?!\s*\()", re.IGNORECASE)

_TOKEN = re.compile(
    r"""
    (?P<string>[rR]?(?:'''(?:[^\\]|\\.)*?'''|\"\"\"(?:[^\\]|\\.)*?\"\"\"
        |'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"))
  | (?P<comment>--[^\n]*|\#[^\n]*|/\*.*?\*/)
  | (?P<property>\b(?P<map>custom_properties|properties)\.
        (?P<name>[0-9A-Za-z_]+|`(?:[^`\\]|\\.)*`)(?P<after_name>\.)?(?P<member>\w+)?(?P<deep>\.\w*)?)
  | (?P<neighbour>\b(?P<prefix>parent_contexts|child_contexts|contexts|artifacts|executions|events)
        _(?P<alias>[0-9A-Za-z_]+)\.(?P<field>\w+)?(?P<deeper>\.\w*)?)
  | (?P<quoted>`[^`]*`)
  | (?P<hex>\b0[xX][0-9a-fA-F]+\b)
  | (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
  | (?P<word>[A-Za-z_]\w*)
  | (?P<operator><>|!=|<=|>=|<<|>>|\|\||&&|==|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\?\"'`])|([0-7]{3})|[xX]([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.?))",
    re.DOTALL,
)
_SIMPLE_ESCAPES = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
}
_REFUSED_OPERATORS = frozenset(("==", "&&", ";", "%", "@", "?", "$", "'", '"', "`", "\\", "{", "["))


@dataclass
class Lexed:
    """The expression with identifiers in place of what was taken out, and that."""

    text: str = ""
    strings: list[str] = field(default_factory=list)
    numbers: list[int | float] = field(default_factory=list)
    """Those of several digits: what one digit means, the parser must see."""
    properties: list[tuple[str, str, str]] = field(default_factory=list)
    """(map, name, member)."""
    neighbours: list[tuple[str, str, str]] = field(default_factory=list)
    """(prefix, alias, field)."""


def lex(text: str) -> Lexed:
    """Raises InvalidArgumentError for what no filter may hold."""
    if len(text.encode()) > TEXT_BYTES_MAX:
        raise refused(f"it is longer than {TEXT_BYTES_MAX} bytes")
    lexed = Lexed()
    parts: list[str] = []
    depth = 0
    for match in _TOKEN.finditer(text):
        kind, token, place = match.lastgroup, match.group(), match.start()
        if match.group("string") is not None:
            content = _decoded(token, place)
            if content == "%d" and _BEFORE_FORMAT.search("".join(parts[-4:])):
                # Which format it is decides what the expression means, so it must be seen.
                parts.append(f" {DECIMAL_FORMAT} ")
                continue
            parts.append(f" {STRING_PREFIX}{len(lexed.strings)} ")
            lexed.strings.append(content)
        elif match.group("property") is not None:
            parts.append(f" {PROPERTY_PREFIX}{len(lexed.properties)} ")
            lexed.properties.append(_property(match))
        elif match.group("neighbour") is not None:
            parts.append(f" {NEIGHBOUR_PREFIX}{len(lexed.neighbours)} ")
            lexed.neighbours.append(_neighbour(match))
        elif kind == "comment":
            parts.append(" ")
        elif match.group("hex") is not None or match.group("number") is not None:
            parts.append(_number(lexed, token, place))
        elif token.strip("`").startswith(_PREFIXES):
            raise refused(f"Unrecognized name: {token} {_at(place)}")
        elif kind == "operator":
            if token in _REFUSED_OPERATORS:
                raise refused(f"Syntax error: unexpected {token!r} {_at(place)}")
            depth += {"(": 1, ")": -1}.get(token, 0)
            if depth < 0 or depth > DEPTH_MAX:
                what = "a ) without its (" if depth < 0 else f"more than {DEPTH_MAX} nested ("
                raise refused(f"Syntax error: {what} {_at(place)}")
            parts.append(token)
        else:
            parts.append(token)
    if depth:
        raise refused("Syntax error: a ( without its ) at the end")
    lexed.text = _UNEQUAL_NAME.sub(r"<> (\1)", _NOT_IN.sub(f" IN ({NOT_IN}, ", "".join(parts)))
    if not lexed.text.strip():
        raise refused("Syntax error: Unexpected end of expression, there is nothing but blanks")
    return lexed


def _number(lexed: Lexed, token: str, place: int) -> str:
    """How a number stands in the expression."""
    is_hexadecimal = token[:2] in ("0x", "0X")
    if token.isdigit() or is_hexadecimal:
        digits = str(int(token, 16)) if is_hexadecimal else token.lstrip("0") or "0"
        # Longer ones are not parsed: Python refuses to, in words of its own.
        if len(digits) > _INT64_DIGITS or int(digits) > 2**63:
            raise refused(f"Invalid integer literal: {token} {_at(place)}")
        if len(token) == 1 or (is_hexadecimal and len(digits) == 1):
            return digits
        lexed.numbers.append(int(digits))
        return f" {INT_PREFIX}{len(lexed.numbers) - 1} "
    value = float(token)
    if math.isinf(value):
        raise refused(f"Invalid floating point literal: {token} {_at(place)}")
    lexed.numbers.append(value)
    return f" {FLOAT_PREFIX}{len(lexed.numbers) - 1} "


def refused(what: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"Invalid `filter_query`: {what}")


def _at(place: int) -> str:
    return f"at character {place + 1}"


def _property(match: re.Match[str]) -> tuple[str, str, str]:
    place = match.start()
    if match.group("after_name") is None:
        if match.string[match.end() : match.end() + 1] == ":":
            raise refused(f"Syntax error: unexpected : behind {match.group()}, quote such names")
        raise refused(
            f"Unrecognized name: {match.group()} {_at(place)}; name a value of the property, such "
            "as .int_value"
        )
    if match.group("member") is None:
        raise refused(f"Syntax error: Unexpected end of expression behind {match.group()}")
    if match.group("deep") is not None:
        raise refused(f"Cannot access field {match.group('deep')[1:]} {_at(place)}")
    name = match.group("name")
    if name.startswith("`"):
        name = _unescaped(name[1:-1], place)
    return match.group("map"), name, match.group("member")


def _neighbour(match: re.Match[str]) -> tuple[str, str, str]:
    place = match.start()
    if match.group("field") is None:
        raise refused(f"Syntax error: Unexpected end of expression behind {match.group()}")
    if match.group("deeper") is not None:
        deeper = match.group("deeper")[1:]
        if not deeper:
            raise refused(f"Syntax error: Unexpected end of expression behind {match.group()}")
        raise refused(f"Cannot access field {deeper} {_at(place)}")
    return match.group("prefix"), match.group("alias"), match.group("field")


def _decoded(token: str, place: int) -> str:
    is_raw = token[0] in "rR"
    body = token[1:] if is_raw else token
    quotes = 3 if body[:3] in ("'''", '"""') and len(body) >= 6 else 1
    content = body[quotes:-quotes]
    return content if is_raw else _unescaped(content, place)


def _unescaped(content: str, place: int) -> str:
    def replaced(match: re.Match[str]) -> str:
        simple, octal, hexadecimal, short, long, unknown = match.groups()
        if simple is not None:
            return _SIMPLE_ESCAPES.get(simple, simple)
        if unknown is not None:
            raise refused(f"Syntax error: Illegal escape sequence \\{unknown} {_at(place)}")
        code = int(octal, 8) if octal else int(hexadecimal or short or long, 16)
        if code > 0x10FFFF or 0xD800 <= code < 0xE000:
            raise refused(f"Syntax error: no character has the number {code:#x} {_at(place)}")
        return chr(code)

    return _ESCAPE.sub(replaced, content)
