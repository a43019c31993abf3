"""Runs RPCs on one log: puts as commits, reads as of a position."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from msgspec.structs import replace

from eventstore.errors import (
    AbortedError,
    DeadlineExceededError,
    FailedPreconditionError,
    UnimplementedError,
)
from eventstore.log import Log, PositionConflictError
from eventstore.log.forking import renew_in_children
from eventstore.log.readable import UNREADABLE, refuse_unreadable, unreadable_request
from eventstore.log.record import Position
from eventstore.projections import Projections
from eventstore.projections.projections import IndexBuiltAgainError
from eventstore.store.attribution import Attribution, current_attribution
from eventstore.store.repetition import acknowledged_again, commit_of_request
from eventstore.store.snapshot import Snapshot
from eventstore.store.system_types import put_system_types
from eventstore.store.transaction import Transaction

MAX_CONFLICTS = 100
"""How often a put starts over because another process appended first before it gives up."""

_CONFLICTS_BEFORE_RESERVING = 3
"""After how many conflicts a put keeps others from appending until it is done."""

_FIRST_PAUSE_SECONDS = 0.005
_LONGEST_PAUSE_SECONDS = 1.0


class _StaleStateError(Exception):
    """A put has to be tried again on the newest state: what it found may be of an older one."""


class Engine:
    """One log with its projections. Safe to use from several threads."""

    def __init__(
        self, log: Log, projections: Projections, attribution: Attribution | None = None
    ) -> None:
        """`attribution` is that of puts outside of any `acting_for` this engine."""
        self.log = log
        self.projections = projections
        self._attribution = attribution or Attribution()
        self._put_lock = threading.Lock()
        self._is_alone = False
        """Whether nobody else has appended between the last puts of this engine."""
        self._appended_to = Position(-1)
        """Where its last commit ends."""
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
        self._put_lock = threading.Lock()
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
            return self.put(PUTS[rpc], request)
        if rpc not in GETS:
            raise UnimplementedError(f"there is no RPC {rpc!r}")
        try:
            return GETS[rpc](self.snapshot(as_of=as_of) if seen is None else seen, request)
        except UNREADABLE as error:
            raise unreadable_request(error) from None

    def put(
        self,
        put: Callable[[Transaction, Any], Any],
        request: Any,
        *,
        is_of_request: bool = True,
    ) -> Any:
        """The response of `put`; its drafts become one commit, durable when this returns.

        One that is not `is_of_request` follows from another put, and does not have its request id.
        """
        attribution = self.attribution
        if not is_of_request:
            attribution = replace(attribution, request_id=None)
        response, records = self._put_in_turn(put, request, attribution)
        if records:
            with self._appended:
                self._appends += 1
                self._appended.notify_all()
            # Only now, when nothing is held any more that others could wait for.
            self.projections.pacing.rest(records)
        return response

    def _put_in_turn(
        self, put: Callable[[Transaction, Any], Any], request: Any, attribution: Attribution
    ) -> tuple[Any, int]:
        """The response of `put`, and how many records it appended."""
        with self._put_lock:
            is_built_again = False
            if self._is_alone:
                try:
                    return self._put_once(put, request, attribution, is_built_again, asks=False)
                except (PositionConflictError, _StaleStateError):
                    self._is_alone = False
            for conflicts in range(MAX_CONFLICTS):
                try:
                    put_once = partial(self._put_once, put, request, attribution, is_built_again)
                    if conflicts < _CONFLICTS_BEFORE_RESERVING:
                        return put_once()
                    return self.log.reserved(put_once)
                except IndexBuiltAgainError:
                    is_built_again = True
                except PositionConflictError:
                    continue
        raise AbortedError(
            f"other writers appended first {MAX_CONFLICTS} times in a row; nothing was put: retry"
        )

    def _put_once(
        self,
        put: Callable[[Transaction, Any], Any],
        request: Any,
        attribution: Attribution,
        is_built_again: bool,
        *,
        asks: bool = True,
    ) -> tuple[Any, int]:
        """The response of `put`, and how many records it appended.

        Unless it `asks` what others have appended, the log tells as it refuses the commit; for what
        appends nothing it is asked afterwards. Raises _StaleStateError when others have.
        """
        asked_at = time.monotonic()
        if asks:
            position = self._catch_up()
            self._is_alone = position == self._appended_to
        else:
            position = self.projections.index.position
        if attribution.request_id is not None:
            known = commit_of_request(self.log, self.projections, attribution.request_id)
            if known is not None:
                return acknowledged_again(self.projections, put, request, known), 0
        transaction = Transaction(self.projections, position)
        try:
            response = put(transaction, request)
        except Exception as error:
            if not asks and self._catch_up() != position:
                raise _StaleStateError from None
            if isinstance(error, UNREADABLE):
                raise unreadable_request(error) from None
            raise
        if not asks and not transaction.drafts and self._catch_up() != position:
            raise _StaleStateError
        if transaction.drafts:
            refuse_unreadable(transaction.drafts)
            self.projections.check_bases(
                transaction.index, transaction.bases.values(), is_built_again=is_built_again
            )
            commit = self.log.append(
                transaction.drafts,
                expected_position=transaction.position,
                actor=attribution.actor,
                reason=attribution.reason,
                request_id=attribution.request_id,
            )
            self._appended_to, self._asked_at = Position(commit.last_position), asked_at
            self.projections.add(commit, transaction.pending)
        return response, len(transaction.drafts)

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
