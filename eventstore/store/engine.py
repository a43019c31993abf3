"""Runs RPCs on one log: puts as commits, reads as of a position."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial
from typing import Any

from eventstore.errors import (
    AbortedError,
    FailedPreconditionError,
    InvalidArgumentError,
    UnimplementedError,
)
from eventstore.log import Log, PositionConflictError
from eventstore.log.forking import renew_in_children
from eventstore.log.readable import UNREADABLE, refuse_unreadable, unreadable_request
from eventstore.plain_json import moment_of_milliseconds, moment_text
from eventstore.projections import Projections
from eventstore.projections.projections import IndexBuiltAgainError
from eventstore.store.attribution import Attribution, current_attribution
from eventstore.store.repetition import acknowledged_again, commit_of_request
from eventstore.store.rpcs import GETS, PUTS
from eventstore.store.snapshot import Snapshot
from eventstore.store.system_types import put_system_types
from eventstore.store.transaction import Transaction

MILLISECONDS_MIN = 100_000_000_000
"""Whole numbers from here on are milliseconds since the epoch (from March 1973), not positions."""

_CLOCK_STEP = 1_000
"""How far a moment may be ahead of the clock, in µs: milliseconds are no more exact."""

MAX_CONFLICTS = 100
"""How often a put starts over because another process appended first before it gives up."""

_CONFLICTS_BEFORE_RESERVING = 3
"""After how many conflicts a put keeps others from appending until it is done."""


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
        self._newest: Snapshot | None = None
        """The newest state that was asked for, which is mostly asked for again."""
        renew_in_children(self)

    def after_fork_in_child(self) -> None:
        """Take a new lock: a thread of the parent may have been putting."""
        self._put_lock = threading.Lock()

    def ensure_system_types(self) -> None:
        """Put the system types that the store lacks, as every connect of MLMD does."""
        self.put(put_system_types, None)

    def call(self, rpc: str, request: Any, *, as_of: int | None = None) -> Any:
        """Run one RPC by name and return its response.

        A put is one commit, durable when this returns; one that changes nothing appends nothing.
        A read sees the newest position, or `as_of`. Raises the classes of `eventstore.errors`.
        """
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
            return GETS[rpc](self.snapshot(as_of=as_of), request)
        except UNREADABLE as error:
            raise unreadable_request(error) from None

    def put(self, put: Callable[[Transaction, Any], Any], request: Any) -> Any:
        """The response of `put`; its drafts become one commit, durable when this returns."""
        attribution = current_attribution(self, self._attribution)
        with self._put_lock:
            is_built_again = False
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
    ) -> Any:
        position = self.projections.catch_up()
        if attribution.request_id is not None:
            known = commit_of_request(self.log, self.projections, attribution.request_id)
            if known is not None:
                return acknowledged_again(self.projections, put, request, known)
        transaction = Transaction(self.projections, position)
        try:
            response = put(transaction, request)
        except UNREADABLE as error:
            raise unreadable_request(error) from None
        if transaction.drafts:
            refuse_unreadable(transaction.drafts)
            if not self.projections.bases_hold(
                transaction.index, transaction.bases.values(), is_built_again=is_built_again
            ):
                raise PositionConflictError("the index is another by now: read again")
            commit = self.log.append(
                transaction.drafts,
                expected_position=transaction.position,
                actor=attribution.actor,
                reason=attribution.reason,
                request_id=attribution.request_id,
            )
            self.projections.add(commit, transaction.pending)
        return response

    def snapshot(self, *, as_of: int | None = None) -> Snapshot:
        """The state at the newest position, other processes' commits included, or `as_of`."""
        if as_of is not None:
            return Snapshot(self.projections, as_of)
        newest = self._newest
        if (
            newest is None
            or newest.index is not self.projections.index
            # The log's position, not the index's: another thread may be about to fold a commit.
            or not self.log.is_still_at(newest.position)
        ):
            newest = self._newest = Snapshot(self.projections, self.projections.catch_up())
        return newest

    def position_of(
        self, moment: int | datetime, *, or_start: bool = False, said: str | None = None
    ) -> int:
        """The last position of the last commit at or before a moment.

        A moment is a position, an aware datetime, or, from MILLISECONDS_MIN on, milliseconds since
        the epoch. Raises InvalidArgumentError for a moment before the first commit or in the
        future, a position beyond the newest, and a datetime without a time zone. With `or_start`
        the answer is 0 for a moment before the first commit. `said` is what errors call the moment.
        """
        newest = self.projections.catch_up()
        if isinstance(moment, datetime):
            if moment.tzinfo is None:
                raise InvalidArgumentError(
                    f"{moment_text(moment)} has no time zone: pass an aware datetime, such as "
                    "datetime.now(timezone.utc)"
                )
            position = self._position_at(_microseconds(moment), said or moment_text(moment))
        elif isinstance(moment, bool) or not isinstance(moment, int):
            raise InvalidArgumentError(
                f"as of {moment!r}: pass a position, an aware datetime, or milliseconds since the "
                "epoch"
            )
        elif moment >= MILLISECONDS_MIN:
            shown = said or _shown_moment(moment)
            position = self._position_at(moment * 1000 + 999, shown)
        elif moment > newest:
            raise InvalidArgumentError(
                f"position {moment} is beyond the end of the log: the newest is {newest}"
            )
        else:
            position = self.log.commit_end(moment) if moment > 0 else 0
        if position < 1 and not or_start:
            raise InvalidArgumentError(
                f"as of {said or _shown_moment(moment)}: the store has no commit at or before that "
                "moment"
            )
        if position > newest:
            # Another thread has just appended it. An answer must not change once it is seen.
            self.projections.catch_up()
        return position

    def range_of(
        self,
        since: int | datetime | None,
        until: int | datetime | None,
        *,
        said: tuple[str | None, str | None] = (None, None),
    ) -> tuple[int, int]:
        """The positions after one moment and up to another; without moments all of them.

        Raises InvalidArgumentError for moments in the wrong order and for those that `position_of`
        refuses; only `since` may be before the first commit.
        """
        newest = self.projections.catch_up()
        after = 0 if since is None else self.position_of(since, or_start=True, said=said[0])
        upto = newest if until is None else self.position_of(until, said=said[1])
        if since is not None and until is not None and (after > upto or _is_later(since, until)):
            raise InvalidArgumentError(
                f"since {said[0] or _shown_moment(since)} until {said[1] or _shown_moment(until)}: "
                "that ends before it begins; swap the moments"
            )
        return after, upto

    def _position_at(self, recorded_at: int, shown: str) -> int:
        """The last position recorded at or before a time in microseconds since the epoch."""
        position = self.log.position_at(recorded_at)
        now = time.time_ns() // 1000
        if recorded_at > now + _CLOCK_STEP and position == self.log.position:
            raise InvalidArgumentError(
                f"as of {shown}: that is in the future, and what will be known then is not known "
                "yet; leave the moment out for now"
            )
        return position

    def close(self) -> None:
        """Release files and threads. Nothing is lost without it: puts are durable at once."""
        self.projections.close()
        self.log.close()


def _shown_moment(moment: int | datetime) -> str:
    if isinstance(moment, datetime):
        return moment_text(moment)
    if moment < MILLISECONDS_MIN:
        return str(moment)
    at = moment_of_milliseconds(moment)
    return f"{moment} ms since the epoch" + (
        f" ({moment_text(at)})" if isinstance(at, datetime) else ""
    )


def _is_later(first: int | datetime, second: int | datetime) -> bool:
    """Whether a moment is later by itself, whatever was put between the two."""
    if isinstance(first, datetime) and isinstance(second, datetime):
        return first > second
    if isinstance(first, datetime) or isinstance(second, datetime):
        return False
    are_positions = first < MILLISECONDS_MIN, second < MILLISECONDS_MIN
    return are_positions[0] == are_positions[1] and first > second


def _microseconds(moment: datetime) -> int:
    since_epoch = moment - datetime(1970, 1, 1, tzinfo=timezone.utc)
    return (since_epoch.days * 86_400 + since_epoch.seconds) * 1_000_000 + since_epoch.microseconds
