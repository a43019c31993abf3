"""Runs RPCs on one log: puts as commits, reads as of a position."""

from __future__ import annotations

import math
import threading
import time
from typing import Any

from msgspec.structs import replace

from eventstore.cancellation import check_wanted
from eventstore.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    UnimplementedError,
)
from eventstore.log import Log
from eventstore.log.forking import renew_in_children
from eventstore.log.readable import UNREADABLE, unreadable_request
from eventstore.log.record import Position
from eventstore.projections import Projections
from eventstore.store.attribution import Attribution, current_attribution
from eventstore.store.putting import Putting, RunPut
from eventstore.store.snapshot import Snapshot
from eventstore.store.system_types import put_system_types

_FIRST_PAUSE_SECONDS = 0.005
_LONGEST_PAUSE_SECONDS = 1.0


class Engine(Putting):
    """One log with its projections. Safe to use from several threads."""

    def __init__(
        self, log: Log, projections: Projections, attribution: Attribution | None = None
    ) -> None:
        """`attribution` is that of puts outside of any `acting_for` this engine."""
        super().__init__(log, projections)
        self._attribution = attribution or Attribution()
        self.max_staleness = 0.0
        """For how many seconds after it was asked the log need not be asked again by reads."""
        self._asked_at = -math.inf
        self._appended = threading.Condition()
        self._appends = 0
        """How many commits this engine has appended, of which those are told who wait."""
        self._newest: Snapshot | None = None
        """The newest state that was asked for, which is mostly asked for again.

        Threads may replace each other's: whether it is the newest is asked before each use.
        """
        renew_in_children(self)

    def after_fork_in_child(self) -> None:
        """Take new locks: a thread of the parent may have been putting."""
        super().after_fork_in_child()
        self._appended = threading.Condition()
        self._asked_at = -math.inf

    @property
    def attribution(self) -> Attribution:
        """Whom and what this thread's puts are attributed to."""
        return current_attribution(self, self._attribution)

    def ensure_system_types(self) -> None:
        """Put the system types that the store lacks, as every connect of MLMD does."""
        self.put(put_system_types, None)

    def call(
        self,
        rpc: str,
        request: Any,
        *,
        as_of: Position | None = None,
        seen: Snapshot | None = None,
    ) -> Any:
        """Run one RPC by name and return its response.

        A put is one commit, durable when this returns; one that changes nothing appends nothing.
        A read sees the newest position, `as_of`, or what was `seen` before. Raises the classes of
        `eventstore.errors`.
        """
        # Not at the top: what is asked for without a request needs none of them.
        from eventstore.store.rpcs import GETS, PUTS

        if rpc in PUTS:
            if as_of is not None:
                raise FailedPreconditionError(
                    f"{rpc}: a store as of position {as_of} takes no puts; put to the store that "
                    "as_of was called on"
                )
            return self.put(PUTS[rpc], request, shares=True)
        if rpc not in GETS:
            raise UnimplementedError(f"there is no RPC {rpc!r}")
        try:
            return GETS[rpc](self.snapshot(as_of=as_of) if seen is None else seen, request)
        except UNREADABLE as error:
            raise unreadable_request(error) from None

    def put(
        self,
        put: RunPut,
        request: Any,
        *,
        is_of_request: bool = True,
        shares: bool = False,
    ) -> Any:
        """The response of `put`; its drafts become one commit, durable when this returns.

        One that `shares` reads by the transaction alone: it may be run on top of others' drafts,
        and by another thread.

        One that is not `is_of_request` follows from another put, and does not have its request id.
        """
        attribution = self.attribution
        if not is_of_request:
            attribution = replace(attribution, request_id=None)
        response, records = self._put_in_turn(put, request, attribution, shares=shares)
        if records:
            with self._appended:
                self._appends += 1
                self._appended.notify_all()
            # Only now, when nothing is held any more that others could wait for.
            self.projections.pacing.rest(records)
        return response

    def snapshot(self, *, as_of: Position | None = None) -> Snapshot:
        """The state at the newest position, other processes' commits included, or `as_of`.

        What others have appended within `max_staleness` may be missing.
        """
        if as_of is not None:
            # What others have erased since is not answered any more, however early the moment.
            if not self._is_fresh():
                self._catch_up()
            return Snapshot(self.projections, as_of)
        newest = self._newest
        if self.max_staleness:
            if not self._is_fresh():
                self._catch_up()
            index = self.projections.index
            if newest is None or newest.index is not index or newest.position != index.position:
                newest = self._newest = Snapshot(self.projections, index.position)
            return newest
        if (
            newest is None
            or newest.index is not self.projections.index
            # The log's position, not the index's: another thread may be about to fold a commit.
            or not self.log.is_still_at(newest.position, newest.index.content_epoch)
        ):
            newest = self._newest = Snapshot(self.projections, self.projections.catch_up())
        return newest

    def _is_fresh(self) -> bool:
        """Whether reads need not ask the log. What this engine has put is folded in any case."""
        return self.max_staleness > 0 and time.monotonic() < self._asked_at + self.max_staleness

    def _catch_up(self) -> Position:
        """Fold what anybody has acknowledged by now; the position that is reached."""
        asked_at = time.monotonic()
        position = self.projections.catch_up()
        self._asked_at = asked_at
        return position

    def _now(self) -> float:
        return time.monotonic()

    def _note_appended(self, asked_at: float) -> None:
        self._asked_at = asked_at

    def wait_for(self, position: int, seconds: float) -> Position:
        """The newest position once it is not before another; reads see that from then on.

        A commit of this engine ends the wait; others are looked for with growing pauses. Raises
        DeadlineExceededError when the seconds are over.
        """
        until, pause = time.monotonic() + seconds, _FIRST_PAUSE_SECONDS
        while True:
            appends, reached = self._appends, self.projections.index.position
            if reached < position:
                reached = self._catch_up()
            if reached >= position:
                return reached
            check_wanted()
            left = until - time.monotonic()
            if left <= 0:
                raise DeadlineExceededError(
                    f"the log is at position {reached} and did not reach {position} within "
                    f"{seconds:g} s: wait for longer, or see whether it is still put to"
                )
            with self._appended:
                if self._appends == appends:
                    self._appended.wait(min(pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def close(self) -> None:
        """Release files and threads. Nothing is lost without it: puts are durable at once."""
        self.projections.close()
        self.log.close()
