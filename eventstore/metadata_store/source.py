"""What methods beyond MLMD's answer from, where requests alone do not reach."""

from __future__ import annotations

from typing import ClassVar

from eventstore.log.record import Position
from eventstore.moments import Moment, position_of
from eventstore.store import Engine
from eventstore.store.snapshot import Snapshot


class Source:
    """A store in this process, now or as of a position: its log and what is folded from it."""

    is_here: ClassVar = True

    def __init__(self, engine: Engine, as_of: Position | None = None) -> None:
        self.name = engine.log.name
        self.log = engine.log
        self.projections = engine.projections
        self.engine = engine
        self._as_of = as_of

    def snapshot(self) -> Snapshot:
        """The state now, other processes' commits included, or as of the position."""
        return self.engine.snapshot(as_of=self._as_of)

    def position(self, moment: Moment | None = None) -> Position:
        """The newest position to answer from, or that of a moment, if that is older.

        Raises InvalidArgumentError for a moment that `position_of` refuses.
        """
        newest = self.snapshot().position
        return newest if moment is None else min(newest, position_of(self.log, moment))


class SourceMethods:
    """Methods that answer from a source.

    A store inherits several classes of them, over one source, and does not hold them: to forward
    each method would be to write its signature and its docstring twice.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
