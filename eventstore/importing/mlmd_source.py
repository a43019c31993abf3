"""What is asked of a database, whichever it is; the only thing that knows their differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

Row = Mapping[str, Any]


class MlmdSource(Protocol):
    """A database that is only read.

    Every method raises UnavailableError where it helps to try again.
    """

    name: str
    """What messages call it: its path, or its URL without the password."""

    short_name: str
    """What records call it."""

    kind: str
    """Such as `an SQLite database`."""

    hidden: str
    """What may be the matter with a table that is not there, to end a sentence."""

    steps_in_order: str
    """An ORDER BY that gives the rows of EventPath in the order in which they were inserted."""

    def begin(self) -> None:
        """See from here on, until `end`, what is committed now and nothing later."""

    def end(self) -> None:
        """Let go of what `begin` saw; does nothing without it."""

    def rows(self, sql: str, parameters: Mapping[str, int | Sequence[int]]) -> Sequence[Row]:
        """All rows of a query. A sequence stands for a list: `id IN :ids`."""

    def tables(self) -> dict[str, set[str]]:
        """The names of the columns of each table, all in lower case."""

    def last_ids(self) -> dict[str, int]:
        """The last id that was given out in each table, as far as it is known."""

    def close(self) -> None:
        """Let go of the database."""
