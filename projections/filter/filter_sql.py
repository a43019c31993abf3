"""A filter as SQL, apart from what compiles it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class FilterSql:
    """A compiled filter: a condition on the row `node`, the inner joins it needs, and its values.

    `$as_of` in it is the position to read at; the other parameters are in `parameters`.
    """

    condition: str
    joins: str
    parameters: dict[str, Any]
