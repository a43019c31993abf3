"""What callers give as names, uris and properties, checked and made text that can be stored."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from eventstore.errors import InvalidArgumentError


def encodable(text: str) -> str:
    """The text itself; lone surrogates in it, which UTF-8 cannot hold, are escaped."""
    return text.encode(errors="backslashreplace").decode()


def text_of(parameter: str, value: object) -> str:
    """A text that was given for a parameter. Raises InvalidArgumentError for anything else."""
    if not isinstance(value, str):
        raise InvalidArgumentError(f"{parameter} is text, not {_with_type(value)}")
    return encodable(value)


def text_or_none(parameter: str, value: object) -> str | None:
    """As `text_of`; None for None."""
    return None if value is None else text_of(parameter, value)


def uri_or_none(value: object) -> str | None:
    """A uri that was given: text, or a path, which is taken as it is written."""
    if isinstance(value, os.PathLike):
        return encodable(os.fsdecode(value))
    if value is not None and not isinstance(value, str):
        raise InvalidArgumentError(f"uri is text or a path, not {_with_type(value)}")
    return text_or_none("uri", value)


def all_properties(properties: object, more: Mapping[str, Any]) -> dict[str, Any]:
    """Properties that were given as a mapping, and those that were given as keyword arguments."""
    if properties is not None and not isinstance(properties, Mapping):
        raise InvalidArgumentError(
            "properties maps names to values, such as {'l2 weight': 0.1}; "
            f"{_with_type(properties)} does not"
        )
    return {**(properties or {}), **more}


def shown(value: object) -> str:
    """The beginning of an object's representation, for a message; its class where it has none."""
    try:
        return repr(value)[:100]
    except Exception:  # such as RecursionError: the representation is the object's own code
        return f"<{type(value).__name__}>"


def _with_type(value: object) -> str:
    return f"{type(value).__name__}: {shown(value)}"
