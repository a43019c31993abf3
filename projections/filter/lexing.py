"""The first pass over a filter: tokens as GoogleSQL has them, with MLMD's own names among them.

Property names and aliases are not GoogleSQL (`properties.0.int_value`), and no text of a user's may
reach the database as SQL. So each token is of a kind that is known, and literals stand apart from
the tokens, so that all filters of one shape are compiled once.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any, Final

from eventstore.errors import InvalidArgumentError
from eventstore.projections.filter import enums
from eventstore.projections.filter.tokens import (
    FLOAT,
    FORMAT,
    INT,
    INT64_END,
    INT64_END_LITERAL,
    OPERATOR,
    PROPERTY,
    QUOTED,
    STRING,
    UINT,
    WORD,
    Token,
    refused,
)
from eventstore.wording import excerpt

TEXT_BYTES_MAX: Final = 1024 * 1024
TOKENS_MAX: Final = 400_000

_UINT64_DIGITS: Final = 20

_FORMATS: Final = ("%d", "%i", "%s")

# GoogleSQL counts these among the blanks.
_BLANKS: Final = " \n\r\t\b\f\v\u00a0\u2000-\u200a\u202f\u205f\u3000"
_PREFIXES: Final = "parent_contexts|child_contexts|contexts|artifacts|executions|events"

# Where an enum is compared, as MLMD finds it: by its text, in lower case, without comments.
_ENUM: Final = r"""
    (?P<subject>(?:events_\w+\.type|last_known_state|state)\b)\s*
    (?P<comparison>=|!=|\s[nN][oO][tT]\s*[iI][nN]\s|\s[iI][nN]\s)\s*
    (?P<values>\w+|\([\w\s,]*\))
"""
_TOKEN: Final = re.compile(
    rf"""
    (?P<blank>[{_BLANKS}]+)
  | (?P<string>[rR]?(?:'''(?:[^\\]|\\.)*?'''|\"\"\"(?:[^\\]|\\.)*?\"\"\"
        |'(?!'')(?:[^'\\\n\r]|\\[^\n\r])*'|"(?!"")(?:[^"\\\n\r]|\\[^\n\r])*"))
  | (?P<comment>--[^\n\r]*|\#[^\n\r]*|/\*.*?\*/)
  | (?P<property>(?P<map>custom_properties|properties)\.
        (?P<name>\w+|`[^`]+`)\.(?P<mention>(?=int|double|string|bool))?)
  | (?P<enum>{_ENUM})
  | (?P<alias>(?:{_PREFIXES})_\w+(?=\.))
  | (?P<word>[A-Za-z_]\w*)
  | (?P<quoted>`(?:[^`\\\n\r]|\\.)+`)
  | (?P<hex>0[xX][0-9a-fA-F]+)
  | (?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
  | (?P<operator><>|!=|<=|>=|<<|>>|[-+*<>(),.&|~]|=(?!=)|/(?!\*))
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_ESCAPE: Final = re.compile(
    r"\\(?:([abfnrtv\\?\"'`])|([0-3][0-7]{2})|[xX]([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.?))",
    re.DOTALL,
)
_SIMPLE_ESCAPES: Final = dict(zip("abfnrtv", "\a\b\f\n\r\t\v", strict=True))


@dataclass
class Lexed:
    """The tokens of a filter, and the values of the literals that they number."""

    tokens: list[Token] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)
    """The names of neighbours, by those in lower case."""


def lex(text: str) -> Lexed:
    """Raises InvalidArgumentError for what no filter may hold."""
    if len(text) > TEXT_BYTES_MAX or len(text.encode(errors="replace")) > TEXT_BYTES_MAX:
        raise refused(f"it is longer than {TEXT_BYTES_MAX} bytes")
    lexed = Lexed()
    tokens, mentioned, loose = lexed.tokens, set[tuple[str, str]](), list[tuple[str, str]]()
    place, end = 0, len(text)
    match_at = _TOKEN.match
    while place < end:
        match = match_at(text, place)
        if match is None:
            raise _unexpected(text, place)
        group = match.lastgroup
        if group is None or group in ("blank", "comment"):
            place = match.end()
            continue
        token = match.group()
        if len(tokens) > TOKENS_MAX:
            raise refused(f"it has more than {TOKENS_MAX} words and signs")
        if group == "word" or group == "alias":
            if group == "alias":
                _mention(lexed, token)
            tokens.append(Token(WORD, token))
        elif group == "string":
            _append_string(lexed, token, place)
        elif group == "property":
            name = match.group("name")
            bare = _unescaped(name[1:-1], place) if name.startswith("`") else name
            named = (match.group("map"), bare)
            (loose.append if match.group("mention") is None else mentioned.add)(named)
            tokens += (Token(PROPERTY, named), Token(OPERATOR, "."))
        elif group == "enum":
            subject = match.group("subject")
            path = [Token(WORD, subject)]
            if "." in subject:
                alias, name = subject.split(".")
                _mention(lexed, alias)
                path = [Token(WORD, alias), Token(OPERATOR, "."), Token(WORD, name)]
            rewritten = enums.rewritten(tokens, path, match["comparison"], match["values"])
            if rewritten is None:
                # Plain numbers: only the column is taken, the rest is read as it stands.
                tokens += path
                place = match.end("subject")
                continue
        elif group == "operator":
            tokens.append(Token(OPERATOR, token))
        elif group == "quoted":
            tokens.append(Token(QUOTED, _unescaped(token[1:-1], place)))
        else:
            _append_number(lexed, text, match)
        place = match.end()
    for map_name, name in loose:
        if (map_name, name) not in mentioned:
            raise _without_value(text, map_name, name)
    if not tokens:
        raise refused("Syntax error: Unexpected end of expression, there is nothing but blanks")
    return lexed


def pieces(text: str) -> list[tuple[int, int]]:
    """Where the words and signs of a filter begin and end, without blanks and comments.

    Raises InvalidArgumentError where there is none that a filter may hold.
    """
    found, place = [], 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise _unexpected(text, place)
        if match.lastgroup not in (None, "blank", "comment"):
            found.append(match.span())
        place = match.end()
    return found


def _mention(lexed: Lexed, alias: str) -> None:
    known = lexed.aliases.setdefault(alias.lower(), alias)
    if known != alias:
        raise refused(f"aliases {known} and {alias} differ only in case")


def _append_string(lexed: Lexed, token: str, place: int) -> None:
    content = _decoded(token, place)
    if content in _FORMATS:
        lexed.tokens.append(Token(FORMAT, content))
        return
    lexed.tokens.append(Token(STRING, len(lexed.values)))
    lexed.values.append(content)


def _append_number(lexed: Lexed, text: str, match: re.Match[str]) -> None:
    token, place = match.group(), match.start()
    if token[-1] != "." and text[match.end() : match.end() + 1].replace("_", "a").isalpha():
        raise refused(
            f"Syntax error: Missing whitespace between a number and a name {_at(match.end())}"
        )
    kind, value = INT, 0.0
    if token.isdigit() or match.lastgroup == "hex":
        is_hexadecimal = token[:2] in ("0x", "0X")
        digits = token[2:] if is_hexadecimal else token
        digits = digits.lstrip("0") or "0"
        # Longer ones are not parsed: Python refuses to, in words of its own.
        too_long = len(digits) > _UINT64_DIGITS
        value = 0 if too_long else int(digits, 16 if is_hexadecimal else 10)
        if too_long or value >= 2 * INT64_END:
            raise refused(f"Invalid integer literal: {token} {_at(place)}")
        if value >= INT64_END:
            kind = INT64_END_LITERAL if value == INT64_END else UINT
    else:
        kind, value = FLOAT, float(token)
        if math.isinf(value):
            raise refused(f"Invalid floating point literal: {token} {_at(place)}")
    lexed.tokens.append(Token(kind, len(lexed.values)))
    lexed.values.append(value)


def _unexpected(text: str, place: int) -> InvalidArgumentError:
    if text.startswith("``", place):
        what = "empty name"
    elif text.startswith("/*", place):
        what = "unclosed comment"
    else:
        unclosed = {"'": "unclosed string", '"': "unclosed string", "`": "unclosed name"}
        what = unclosed.get(text[place], f"unexpected {text[place]!r}")
    return refused(f"Syntax error: {what} {_at(place)}")


def _without_value(text: str, map_name: str, name: str) -> InvalidArgumentError:
    if re.search(rf"{map_name}\.(?:{re.escape(name)}|`[^`]+`)\.\s*$", text):
        return refused(
            f"Syntax error: Unexpected end of expression after {map_name}.{excerpt(name)}."
        )
    return refused(
        f"Unrecognized name: {map_name}.{excerpt(name)}; name a value of the property right "
        "after it, such as .int_value"
    )


def _at(place: int) -> str:
    return f"at character {place + 1}"


def _decoded(token: str, place: int) -> str:
    is_raw = token[0] in "rR"
    body = token[1:] if is_raw else token
    quotes = 3 if body[:3] in ("'''", '"""') and len(body) >= 6 else 1
    content = body[quotes:-quotes]
    if quotes == 3 and "\r" in content:
        content = content.replace("\r\n", "\n").replace("\r", "\n")
    return content if is_raw else _unescaped(content, place)


def _unescaped(content: str, place: int) -> str:
    if "\\" not in content:
        return content

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
