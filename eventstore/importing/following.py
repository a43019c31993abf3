"""Keep a store at what a running MLMD database says, so that each change becomes history."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from eventstore import errors
from eventstore.importing.changes import Changes, Comparison
from eventstore.importing.importer import commits_of
from eventstore.importing.known import GONE, SEEN, Known
from eventstore.importing.mlmd_database import MlmdDatabase
from eventstore.importing.mlmd_source import MlmdSource
from eventstore.importing.sources import opened_source
from eventstore.log import Draft, Log, Position
from eventstore.log.log import PositionConflictError
from eventstore.log.readable import refuse_unreadable
from eventstore.log.stores import open_log
from eventstore.times import moment_of, now_in_microseconds
from eventstore.wording import counted

_PAUSE_SECONDS_MAX: Final = 60.0

Notice = Callable[[str], None]


class Followed(msgspec.Struct, frozen=True):
    """What one look at a database has brought: how many records of each kind, and of what is gone.

    `position` is that of the store then, `recorded_at` the time of its newest record.
    """

    recorded_at: datetime
    position: Position
    records: dict[str, int]
    gone: int


def follow_mlmd_database(
    source: str | Path,
    store_directory: Path,
    *,
    interval_seconds: float,
    stop: threading.Event,
    notice: Notice,
    actor: str | None = None,
) -> Iterator[Followed]:
    """Append what changes in the database that a store was imported from, until `stop` is set.

    Yields what each look has brought, if anything. A look is one snapshot of the database, which
    is read in a transaction of its own that holds up no writer of a server; those of an SQLite
    file wait for a moment. Commits say `seen in` the database as their reason. A type or node
    that is no longer there is recorded as it last was, and `no longer in` is the reason; of links
    that go only `notice` hears.

    It may be ended at any moment and begun again, and a second one beside it does no harm: each
    change is recorded once. While the database is out of reach it tries again, from the first look
    on, and has `notice` called with a line about it.

    Raises FailedPreconditionError where the database is not the one that the store was imported
    from, what `opened_source` does, and the errors of the store.
    """
    with closing(open_log(store_directory)) as log, closing(opened_source(source)) as opened:
        follower = Follower(log, opened, actor)
        pause = 0.0
        lost = 0
        while not stop.wait(pause):
            try:
                changes = follower.look()
            except errors.UnavailableError as error:
                if not lost:
                    notice(f"{error}; trying again")
                pause = min(interval_seconds * 2**lost, max(interval_seconds, _PAUSE_SECONDS_MAX))
                lost = min(lost + 1, 10)
                continue
            if lost:
                notice(f"{opened.name} is in reach again")
                lost = 0
            if changes.gone_links:
                links = counted(changes.gone_links, "link")
                notice(f"{links} of {opened.name} went: the store keeps them")
            found = follower.append(changes)
            if found is not None:
                yield found
            pause = 0.0 if changes.is_part else interval_seconds


class Follower:
    """Looks at a database, and appends what has changed to the log of a store."""

    def __init__(self, log: Log, source: MlmdSource, actor: str | None) -> None:
        self._log = log
        self._source = source
        self._actor = actor
        self._known = Known(log)
        self._database: MlmdDatabase | None = None
        self._comparison: Comparison | None = None

    def look(self) -> Changes:
        """What has changed in the database since the newest record of the log."""
        self._known.catch_up()
        began_at = now_in_microseconds()
        try:
            if self._database is None or self._comparison is None:
                self._database = MlmdDatabase(self._source)
                self._comparison = Comparison(self._database, self._known)
            else:
                self._database.look_again()
            changes = self._comparison.changes()
            self._known.prune(began_at)
            return changes
        finally:
            self._source.end()

    def append(self, changes: Changes) -> Followed | None:
        assert self._database is not None, "look comes first"
        described = self._database.described
        counts: Counter[str] = Counter()
        try:
            for drafts in commits_of(iter(changes.drafts)):
                self._append(drafts, f"{SEEN}{described}")
                counts.update(draft.kind for draft in drafts)
            gone = [self._known.again(position) for position in changes.gone]
            for drafts in commits_of(iter(gone)):
                self._append(drafts, f"{GONE}{described}")
        except PositionConflictError:
            # Somebody else has appended. The next look sees what is left.
            return None
        if not changes.drafts and not changes.gone:
            return None
        position = self._log.position
        recorded_at = moment_of(self._log.recorded_at(position))
        return Followed(recorded_at, position, dict(counts), len(gone))

    def _append(self, drafts: list[Draft], reason: str) -> None:
        refuse_unreadable(drafts)
        self._known.take(
            self._log.append(
                drafts,
                expected_position=Position(self._known.position),
                actor=self._actor,
                reason=reason,
            )
        )
