"""The newest commits of a log that a server keeps: those after its newest segment."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, chain
from pathlib import Path
from typing import Final
from uuid import UUID

from eventstore import errors
from eventstore.log.commit import has_valid_checksum
from eventstore.log.commit_ends import no_commits
from eventstore.log.ipc_message import (
    Envelope,
    UndecodableError,
    commit_of_message,
    message_envelope,
)
from eventstore.log.ipc_stream import Messages
from eventstore.log.leaf import leaf_hashes
from eventstore.log.manifest import Segment
from eventstore.log.merkle import Frontier
from eventstore.log.record import LATEST, Commit
from eventstore.log.remote.keeper import CommitRow
from eventstore.log.remote.sealing import frontier_after
from eventstore.times import Microseconds

_MESSAGES_MAX: Final = 512
_MESSAGES_BYTES_MAX: Final = 4 * 1024 * 1024
"""How many commits are read at a time."""

_KEPT_BYTES_MAX: Final = 64 * 1024 * 1024
"""More is read again; it is reached only where nobody seals."""


class RemoteTail:
    """Where the commits end that follow a segment, and the messages of the newest of them.

    Where it is changed or asked for messages, its owner holds a lock. `read_again` gives the
    messages of consecutive commits, by the number of the first one, and where those begin that were
    not kept together with the one before. `kept_as` names what has a commit, for messages, by its
    number and the position at which what is kept together with it begins.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        store_id: UUID,
        before: Segment | None,
        read_again: Callable[[int, Sequence[int]], Sequence[bytes]],
        kept_as: Callable[[int, int], str],
    ) -> None:
        self.path = path
        self._name = name
        self._store_id = store_id
        self._read_again = read_again
        self._kept_as = kept_as
        self.frontier = frontier_after(before)
        """The edge of the tree after the newest commit, whose head is that of the commit."""
        self.first_commit = before.last_commit + 1 if before else 1
        self.first_position = before.last_position + 1 if before else 1
        self._before_at = before.last_recorded_at if before else Microseconds(0)
        head = bytes.fromhex(before.tree_head) if before else b""
        self._newest = (self.first_commit - 1, head, b"", 0)
        self._ends = no_commits()
        self._begins: list[int] = []
        """The places of commits that were not kept together with the one before, ascending."""
        self._messages: list[bytes] = []
        self._kept_bytes = 0
        self.message_bytes = 0
        """Of all messages of the tail, kept or not."""

    @property
    def newest(self) -> tuple[int, bytes]:
        """The number of the newest commit and its tree head, which another thread may read."""
        number, head, message, _ = self._newest
        return number, head or head_in(message)

    @property
    def newest_together(self) -> tuple[int, bytes] | None:
        """Where what was kept together last begins, and the newest tree head; None without any."""
        _, head, message, first_position = self._newest
        return (first_position, head or head_in(message)) if first_position else None

    @property
    def last_position(self) -> int:
        return self._ends.positions[-1] if self._ends.positions else self.first_position - 1

    @property
    def last_commit(self) -> int:
        return self.first_commit + len(self._ends.positions) - 1

    @property
    def last_recorded_at(self) -> Microseconds:
        return (
            Microseconds(self._ends.recorded_ats[-1]) if self._ends.positions else self._before_at
        )

    def add(self, rows: Sequence[CommitRow]) -> None:
        """Take the next commits, each of which is kept by itself.

        Raises DataLossError at the first that cannot be what follows; those before it are taken.
        """
        number, position, recorded_at = self._last
        for place, row in enumerate(rows):
            told = Envelope(row.number, row.last_position, row.recorded_at, row.first_position)
            if self._envelope(row.message, number, position, recorded_at) != told:
                self._take_sound([[row] for row in rows[:place]])
                if row.number > number + 1:
                    raise self.missing(number + 1, position + 1)
                raise self._damaged(row.number, position + 1)
            number, position, recorded_at = row.number, row.last_position, row.recorded_at
        self._take_sound([[row] for row in rows])

    def add_together(self, first_position: int, messages: Sequence[bytes]) -> None:
        """Take the next commits, kept together under a position. Raises what `add` does."""
        number, position, recorded_at = self._last
        if first_position > position + 1:
            raise self.missing(number + 1, position + 1)
        rows: list[CommitRow] = []
        for message in messages:
            envelope = self._envelope(message, number, position, recorded_at)
            if envelope is None:
                raise self._damaged(number + 1, first_position)
            number, position, recorded_at, first = envelope
            rows.append(CommitRow(number, first, position, recorded_at, b"", message))
        self._take_sound([rows])

    def _take_sound(self, kept: Sequence[Sequence[CommitRow]]) -> None:
        """Take commits that can follow, by what is kept together of them, if their heads agree.

        The head of the last covers all: only where it does not agree is each looked at.
        """
        rows = [*chain.from_iterable(kept)]
        if not rows:
            return
        commits = [*self._decoded(rows, kept[0][0].first_position)]
        frontier = self.frontier.copy()
        frontier.extend(
            leaf_hashes(self._store_id, chain.from_iterable(c.records for c in commits))
        )
        heads_agree = all(
            row.tree_head in (b"", commit.tree_head)
            for row, commit in zip(rows, commits, strict=True)
        )
        if heads_agree and frontier.head() == commits[-1].tree_head:
            for some in kept:
                self.take(some, frontier)
            return
        if len(kept) > 1:
            for some in kept:
                self._take_sound([some])
        raise self._damaged(
            *(rows[-1].number, rows[0].first_position),
            "it does not give its tree head, or is of another store",
        )

    def _decoded(self, rows: Sequence[CommitRow], begin: int) -> Iterator[Commit]:
        messages = [row.message for row in rows]
        return Messages(
            memoryview(b"".join(messages)),
            [*accumulate(map(len, messages))],
            rows[-1].last_position,
            0,
            lambda index, reason: self._damaged(rows[index].number, begin, reason),
        ).commits()

    @property
    def _last(self) -> tuple[int, int, Microseconds]:
        """The newest commit's number, last position and time."""
        return self.last_commit, self.last_position, self.last_recorded_at

    def _envelope(
        self, message: bytes, number: int, position: int, recorded_at: Microseconds
    ) -> Envelope | None:
        """What the message of a commit says of it; None unless it can follow on another one."""
        data = memoryview(message)
        try:
            envelope = message_envelope(data) if has_valid_checksum(data) else None
        except UndecodableError:
            return None
        follows = envelope is not None and (
            envelope.number == number + 1
            and envelope.first_position == position + 1
            and recorded_at <= envelope.recorded_at <= LATEST
        )
        return envelope if follows else None

    def take(self, rows: Sequence[CommitRow], frontier: Frontier) -> None:
        """Take the next commits, which are sound and kept together, and the frontier after them."""
        self.frontier = frontier
        self._begins.append(len(self._ends.positions))
        for row in rows:
            self.message_bytes += len(row.message)
            self._kept_bytes += len(row.message)
            self._messages.append(row.message)
            self._ends.add(self.message_bytes, row.last_position, row.recorded_at)
        self._newest = (row.number, row.tree_head, row.message, rows[0].first_position)
        if self._kept_bytes > _KEPT_BYTES_MAX and len(self._messages) > 1:
            del self._messages[: len(self._messages) // 2]
            self._kept_bytes = sum(map(len, self._messages))

    def after(self, segment: Segment) -> RemoteTail:
        """The tail without the commits of a segment that they have become, and those before it."""
        if segment.last_commit < self.first_commit:
            return self
        rest = RemoteTail(
            *(self.path, self._name, self._store_id, segment, self._read_again, self._kept_as)
        )
        ends, messages = self._ends, self._messages
        count = segment.last_commit - self.first_commit + 1
        if count < len(ends.positions):
            for place in range(count, len(ends.positions)):
                rest._ends.add(
                    ends.offsets[place] - ends.offsets[count - 1],
                    ends.positions[place],
                    Microseconds(ends.recorded_ats[place]),
                )
            rest._begins = [place - count for place in self._begins if place >= count]
            rest._messages = messages[max(count - len(ends.positions) + len(messages), 0) :]
            rest._kept_bytes = sum(map(len, rest._messages))
            rest.message_bytes = rest._ends.offsets[-1]
            rest._newest, rest.frontier = self._newest, self.frontier
        return rest

    def messages(self, after: int, upto: int) -> Messages:
        """The first of the commits that have records in (after, upto], of which there are some."""
        offsets, positions = self._ends.offsets, self._ends.positions
        first = bisect.bisect_right(positions, after)
        start = offsets[first - 1] if first else 0
        end = min(
            bisect.bisect_left(positions, upto) + 1,
            first + _MESSAGES_MAX,
            max(bisect.bisect_right(offsets, start + _MESSAGES_BYTES_MAX), first + 1),
            len(positions),
        )
        return self._joined(first, end)

    def upto_commit(self, number: int) -> Messages:
        """All commits up to one."""
        return self._joined(0, number - self.first_commit + 1)

    def upto_size(self, records_max: int, bytes_max: int) -> int:
        """The number of the last commit that a segment of so many records or bytes would have."""
        positions, offsets = self._ends.positions, self._ends.offsets
        by_records = bisect.bisect_left(positions, self.first_position + records_max - 1)
        by_bytes = bisect.bisect_left(offsets, bytes_max)
        return self.first_commit + min(by_records, by_bytes, len(positions) - 1)

    def end_of_together(self, number: int) -> int:
        """The number of the last commit that is kept together with one."""
        return self.first_commit + self._end_of_together(number - self.first_commit) - 1

    def _end_of_together(self, place: int) -> int:
        after = bisect.bisect_right(self._begins, place)
        return self._begins[after] if after < len(self._begins) else len(self._ends.positions)

    def _joined(self, first: int, end: int) -> Messages:
        kept_from = len(self._ends.positions) - len(self._messages)
        if first >= kept_from:
            some = [self._messages[place - kept_from] for place in range(first, end)]
        else:
            begins = bisect.bisect_right(self._begins, first) - 1
            start, upto = self._begins[begins], self._end_of_together(end - 1)
            places = self._begins[begins : bisect.bisect_left(self._begins, upto)]
            firsts = [self.first_position_of(place) for place in places]
            found = self._read_again(self.first_commit + start, firsts)
            if len(found) != upto - start:
                raise self._damaged_at(first)
            some = [*found[first - start : end - start]]
            for place, message in enumerate(some, first):
                if not has_valid_checksum(memoryview(message)):
                    raise self._damaged_at(place)
        ends = [*accumulate(map(len, some))]
        return Messages(
            memoryview(b"".join(some)), ends, self._ends.positions[end - 1], first, self._damaged_at
        )

    def first_position_of(self, place: int) -> int:
        """The first position of one of its commits, counted from 0."""
        return self._ends.positions[place - 1] + 1 if place else self.first_position

    def commit_end(self, position: int) -> int | None:
        """The last position of the newest commit that ends at or before `position`."""
        index = bisect.bisect_right(self._ends.positions, position) - 1
        return self._ends.positions[index] if index >= 0 else None

    def position_at(self, recorded_at: Microseconds) -> int | None:
        """The last position of the newest commit recorded at or before a moment (µs)."""
        index = bisect.bisect_right(self._ends.recorded_ats, recorded_at) - 1
        return self._ends.positions[index] if index >= 0 else None

    def recorded_at(self, position: int) -> Microseconds:
        """When the record at one of its positions was recorded (µs)."""
        index = bisect.bisect_left(self._ends.positions, position)
        return Microseconds(self._ends.recorded_ats[index])

    def missing(self, number: int, first_position: int) -> errors.DataLossError:
        """What to raise where a commit should be kept and is not."""
        return errors.DataLossError(
            f"{self._name}: commit {number} is missing ({self._kept_as(number, first_position)}), "
            "and later ones are there; run `eventstore verify` and restore it from a backup"
        )

    def _damaged_at(self, place: int, reason: str = "") -> errors.DataLossError:
        """The same for a damaged one of its commits, counted from 0."""
        begin = self._begins[bisect.bisect_right(self._begins, place) - 1]
        return self._damaged(self.first_commit + place, self.first_position_of(begin), reason)

    def _damaged(self, number: int, begin: int, reason: str = "") -> errors.DataLossError:
        """The same for one that is kept in what begins at a position."""
        return errors.DataLossError(
            f"{self._name}: commit {number} is damaged ({self._kept_as(number, begin)})"
            f"{reason and f': {reason}'}; run `eventstore verify` and restore it from a backup"
        )


def head_in(message: bytes) -> bytes:
    """The tree head that a commit's message has; b"" for what is none."""
    commit = commit_of_message(message) if message else None
    return commit.tree_head if commit is not None else b""
