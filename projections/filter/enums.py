"""Comparisons of states and event types with names, as MLMD writes them out before it parses."""

from __future__ import annotations

import re
from typing import Final

from eventstore.projections.filter.tokens import NUMBER, OPERATOR, QUOTED, WORD, Token, refused
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.wording import did_you_mean

_NAMES: Final = {
    "state": dict(mlmd.Artifact.State.items()),
    "last_known_state": dict(mlmd.Execution.State.items()),
    "type": dict(mlmd.Event.Type.items()),
}
_WORDS: Final = re.compile(r"\(\s*\w+(?:(?:\s+|\s*,+\s*)\w+)*\s*\)", re.ASCII)
_WORD_AND_GAP: Final = re.compile(r"(\w+)([\s,]*)", re.ASCII)
_OPEN, _CLOSE, _COMMA = Token(OPERATOR, "("), Token(OPERATOR, ")"), Token(OPERATOR, ",")
_OR_IS_NULL: Final = [_CLOSE, Token(WORD, "OR"), _OPEN]
_IS_NULL: Final = [Token(WORD, "IS"), Token(WORD, "NULL"), _CLOSE, _CLOSE]


def rewritten(
    tokens: list[Token], path: list[Token], comparison: str, values: str
) -> list[Token] | None:
    """Append a comparison with the numbers of enum names to the tokens before it.

    None, and nothing is appended, where the values are not names but numbers that MLMD takes as
    they are. Raises InvalidArgumentError for other values.
    """
    words = comparison.upper().split()
    is_list = values.startswith("(")
    if is_list and not values[1:-1].strip():
        raise refused("Syntax error: the list after IN is empty")
    if is_list and not _is_enum_list(values):
        return None
    if words[0] in ("=", "!="):
        members = [Token(NUMBER, _number(path, values))]
    elif not is_list:
        raise refused(
            f"Expected a list of enum values enclosed in parentheses but got {values} after IN"
        )
    elif words not in (["IN"], ["NOT", "IN"]):
        return None
    else:
        members = [_OPEN]
        for value in values[1:-1].split(","):
            members += (Token(NUMBER, _number(path, value.strip())), _COMMA)
        members[-1] = _CLOSE
    subject = [*_path_before(tokens), *path]
    told = [Token(OPERATOR, word) if word in ("=", "!=") else Token(WORD, word) for word in words]
    if words[0] in ("!=", "NOT"):
        # Upstream counts a node without a state among those that have another.
        tokens += [_OPEN, _OPEN, *subject, *told, *members, *_OR_IS_NULL, *subject, *_IS_NULL]
    else:
        tokens += [*subject, *told, *members]
    return tokens


def _path_before(tokens: list[Token]) -> list[Token]:
    """Take the alias that a column follows off the tokens, if there is one."""
    dot = Token(OPERATOR, ".")
    start = len(tokens)
    while start >= 2 and tokens[start - 1] == dot and tokens[start - 2].kind in (WORD, QUOTED):
        start -= 2
    path = tokens[start:]
    del tokens[start:]
    return path


def _number(path: list[Token], name: str) -> int:
    field = path[-1].value
    names: dict[str, int] = _NAMES[field]
    if name in names:
        return names[name]
    near = did_you_mean(name, names)
    others = [other for other, known in _NAMES.items() if other != field and name in known]
    if others and field != "type":
        near = f", which is a value of {others[0]}."
    raise refused(
        f"Unsupported enum value specified: {name}{near or '.'} {field} is one of "
        f"{', '.join(names)}"
    )


def _is_enum_list(values: str) -> bool:
    """Whether MLMD takes a list to be one of enum names, and so refuses numbers.

    It does where its words can be taken in pairs, each perhaps with commas in between, of which a
    word of two characters may begin one and end another: (2, 3) and (22), but not (2).
    """
    if _WORDS.fullmatch(values) is None:
        return False
    # Which of a pair the word may end as: a long one as either, a short one as it begins.
    first, second = False, True
    for word, gap in _WORD_AND_GAP.findall(values):
        first, second = (second, first) if len(word) == 1 else (True, True)
        if "," in gap:
            if not first:
                return False
            second = False
    return second
