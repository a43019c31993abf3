"""What a filter is made of, and how one is refused."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from eventstore.errors import InvalidArgumentError

INT64_END: Final = 2**63

WORD, QUOTED, OPERATOR, PROPERTY = "word", "quoted", "operator", "property"
STRING, INT, FLOAT = "string", "int", "float"
UINT, INT64_END_LITERAL = "uint", "int64 end"
"""Integers above 64 bits with a sign, and the one that is in their range after a minus alone."""
FORMAT, NUMBER = "format", "number"
"""Literals that are part of a shape: the formats that FORMAT knows, the numbers of enums."""


class Token(NamedTuple):
    """A token; `value` is the index of a literal's value, or what the token says."""

    kind: str
    value: Any


def refused(what: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"Invalid `filter_query`: {what}")
