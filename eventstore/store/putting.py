"""Runs the puts of a process one after the other, and appends together those that wait.

A put that finds another one under way waits. Whoever is done lets the first that waits lead: it
runs its own put and those of the others, each on top of the ones before it, and appends a commit
for each, for which the disk is waited for once.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeAlias

from eventstore.cancellation import check_wanted, current_waiter, waited_for_by
from eventstore.errors import AbortedError
from eventstore.log import Commit, Log, Position, PositionConflictError
from eventstore.log.log import AppendsTogether, Put
from eventstore.log.readable import UNREADABLE, refuse_unreadable, unreadable_request
from eventstore.projections import Projections
from eventstore.projections.projections import IndexBuiltAgainError
from eventstore.store.attribution import Attribution
from eventstore.store.repetition import acknowledged_again, commit_of_request
from eventstore.store.staged import Ahead, StagedTransaction
from eventstore.store.transaction import Transaction

MAX_CONFLICTS = 100
"""How often a put starts over because another process appended first before it gives up."""

_CONFLICTS_BEFORE_RESERVING = 3
"""After how many conflicts a put keeps others from appending until it is done."""

_TOGETHER_MAX: Final = 64
_TOGETHER_RECORDS_MAX: Final = 1_000
"""No further put joins others that have drafted so many records."""

_WOKEN_SECONDS_MAX: Final = 1.0
"""After so long a put looks for itself whether it may go on, should nobody have told it."""

_LEADER: Final = "leader"

_GATHERING_SECONDS_MAX: Final = 0.0005
"""How long a put waits for others to come along, where some did last."""

_OTHERS_TURN_SECONDS: Final = 0.01
"""How long another process that is appending is left alone before it is asked for its lock.

To change hands after each commit would cost more than the commit."""

RunPut: TypeAlias = Callable[[Transaction, Any], Any]


class _StaleStateError(Exception):
    """A put has to be tried again on the newest state: what it found may be of an older one."""


class _Waiting:
    """A put, and what comes of it."""

    __slots__ = (
        "_woken",
        "attribution",
        "error",
        "is_done",
        "put",
        "records",
        "request",
        "response",
        "shares",
        "waiter",
    )

    def __init__(self, put: RunPut, request: Any, attribution: Attribution, shares: bool) -> None:
        """One that `shares` may be run together with others, on what they have drafted."""
        self.put = put
        self.request = request
        self.attribution = attribution
        self.shares = shares
        self.waiter = current_waiter()
        self.response: Any = None
        self.error: BaseException | None = None
        self.records = 0
        self.is_done = False
        self._woken = threading.Lock()
        self._woken.acquire()

    def wait(self, seconds: float = _WOKEN_SECONDS_MAX) -> None:
        self._woken.acquire(timeout=seconds)

    def wake(self) -> None:
        with suppress(RuntimeError):
            self._woken.release()

    def succeed(self, response: Any, records: int) -> None:
        self.response, self.records = response, records
        self.is_done = True

    def fail(self, error: BaseException) -> None:
        self.error = error
        self.is_done = True


class _Run:
    """What puts have led to that were run one after the other, before it is appended."""

    def __init__(self) -> None:
        self.drafted: list[tuple[_Waiting, Any, Transaction]] = []
        self.settled: list[tuple[_Waiting, Any]] = []
        """Those that append nothing, by what was there."""
        self.failed: list[tuple[_Waiting, BaseException]] = []

    def settle(self) -> None:
        for waiting, response in self.settled:
            waiting.succeed(response, 0)
        for waiting, error in self.failed:
            waiting.fail(error)


class Putting:
    """The putting half of an engine. Safe to use from several threads."""

    def __init__(self, log: Log, projections: Projections) -> None:
        self.log = log
        self.projections = projections
        self._together = log if isinstance(log, AppendsTogether) else None
        self._leading: dict[str, _Waiting] = {}
        """The one put that leads, which no two can become; none has a name twice."""
        self._waiting = deque[_Waiting]()
        """Puts that none has begun with, the first one next."""
        self._were_together = 1
        """How many puts were appended together last."""
        self._gathering: _Waiting | None = None
        """The put that leads, while it waits for so many others as are `_awaited`."""
        self._awaited = 0
        self._is_alone = False
        """Whether nobody else has appended between the last puts of this engine."""
        self._meets_others = False
        """Whether somebody else has."""
        self._appended_to = Position(-1)
        """Where its last commit ends."""

    def after_fork_in_child(self) -> None:
        """Forget the puts of the parent's threads."""
        self._leading, self._waiting, self._gathering = {}, deque(), None

    def _catch_up(self) -> Position:
        """Fold what anybody has acknowledged by now; the position that is reached."""
        raise NotImplementedError

    def _now(self) -> float:
        """The time as `_note_appended` is told it."""
        raise NotImplementedError

    def _note_appended(self, asked_at: float) -> None:
        """Take notice that all that the log had at some time is folded."""
        raise NotImplementedError

    def _put_in_turn(
        self, put: RunPut, request: Any, attribution: Attribution, *, shares: bool
    ) -> tuple[Any, int]:
        """The response of `put`, and how many records it appended."""
        waiting = _Waiting(put, request, attribution, shares)
        self._waiting.append(waiting)
        try:
            gathering = self._gathering
            if gathering is not None and len(self._waiting) > self._awaited:
                gathering.wake()
            while not waiting.is_done:
                # Known to be taken as soon as it is, since an interrupt can come at once.
                if self._leading.setdefault(_LEADER, waiting) is not waiting:
                    waiting.wait()
                elif not waiting.is_done:
                    self._lead(waiting)
        finally:
            self._leave(waiting)
        if waiting.error is not None:
            raise waiting.error
        return waiting.response, waiting.records

    def _leave(self, waiting: _Waiting) -> None:
        """Let others go on. It may have been interrupted before anybody began with its put."""
        if not waiting.is_done:
            with suppress(ValueError):
                self._waiting.remove(waiting)
        if self._leading.get(_LEADER) is waiting:
            del self._leading[_LEADER]
        # Who leads does so afterwards.
        if self._waiting and not self._leading:
            with suppress(IndexError):
                self._waiting[0].wake()

    def _lead(self, own: _Waiting) -> None:
        """Run a put, and others that wait with it."""
        if own.shares and self._were_together > 1:
            self._let_others_come(own)
        group = [*self._taken(own)]
        self._were_together = len(group)
        try:
            self._run_and_append(group)
        finally:
            left = [waiting for waiting in group if not waiting.is_done]
            self._waiting.extendleft(reversed(left))
            for waiting in group:
                if waiting.is_done and waiting is not own:
                    waiting.wake()

    def _let_others_come(self, own: _Waiting) -> None:
        """Wait a moment for as many puts as came last: their threads were just let go on."""
        self._awaited, self._gathering = self._were_together - 1, own
        if len(self._waiting) <= self._awaited:
            own.wait(_GATHERING_SECONDS_MAX)
        self._gathering = None

    def _taken(self, own: _Waiting) -> Iterator[_Waiting]:
        with suppress(ValueError):
            self._waiting.remove(own)
        yield own
        if self._together is None or not own.shares:
            return
        request_ids = {own.attribution.request_id}
        for _ in range(_TOGETHER_MAX - 1):
            try:
                waiting = self._waiting.popleft()
            except IndexError:
                return
            request_id = waiting.attribution.request_id
            if not waiting.shares or (request_id is not None and request_id in request_ids):
                self._waiting.appendleft(waiting)
                return
            request_ids.add(request_id)
            yield waiting

    def _run_and_append(self, group: Sequence[_Waiting]) -> None:
        """See that each put is done, or is to be tried again; the first one is done."""
        is_built_again = False
        if self._is_alone:
            try:
                self._put_once(group, is_built_again, asks=False)
                return
            except (PositionConflictError, _StaleStateError):
                self._is_alone = False
        for conflicts in range(MAX_CONFLICTS):
            put_once = partial(self._put_once, group, is_built_again)
            try:
                if self._meets_others and self._together is not None:
                    self._leave_others_their_turn(self._together)
                    self.log.reserved(put_once)
                elif conflicts < _CONFLICTS_BEFORE_RESERVING:
                    put_once()
                else:
                    self.log.reserved(put_once)
                return
            except IndexBuiltAgainError:
                is_built_again = True
            except PositionConflictError:
                continue
            except Exception as error:
                _fail_all(group, error)
                return
        given_up = AbortedError(
            f"other writers appended first {MAX_CONFLICTS} times in a row; nothing was put: retry"
        )
        _fail_all(group, given_up)

    def _leave_others_their_turn(self, log: AppendsTogether) -> None:
        """Read what others put while they go on, and not while they would wait for it."""
        if log.is_being_written():
            time.sleep(_OTHERS_TURN_SECONDS)
            self._catch_up()

    def _put_once(
        self, group: Sequence[_Waiting], is_built_again: bool, *, asks: bool = True
    ) -> None:
        """Run puts one after the other on one state, and append what they have drafted.

        Unless it `asks` what others have appended, the log tells as it refuses the commits; where
        nothing is appended it is asked afterwards. Raises _StaleStateError when others have.
        """
        asked_at = self._now()
        if asks:
            position = self._catch_up()
            self._is_alone = position == self._appended_to
            self._meets_others = self._appended_to >= 0 and not self._is_alone
        else:
            position = self.projections.index.position
        run = self._run(group, position, is_built_again)
        if not run.drafted:
            if not asks and self._catch_up() != position:
                raise _StaleStateError
            run.settle()
            return
        kept: list[Commit] = []
        try:
            commits = self._append(run, position, kept)
        except PositionConflictError:
            raise
        except Exception as error:
            _fail_all([waiting for waiting, _, _ in run.drafted], error)
            # The others, if the log was not asked, are run again.
            if asks:
                run.settle()
            self._is_alone = False
            return
        except BaseException:
            # It is read and folded when it is asked for.
            for (waiting, response, transaction), _ in zip(run.drafted, kept, strict=False):
                waiting.succeed(response, len(transaction.drafts))
            self._is_alone = False
            raise
        for waiting, response, transaction in run.drafted:
            waiting.succeed(response, len(transaction.drafts))
        run.settle()
        self._appended_to = Position(commits[-1].last_position)
        self._note_appended(asked_at)
        for commit, (_, _, transaction) in zip(commits, run.drafted, strict=True):
            self.projections.add(commit, transaction.pending)

    def _run(self, group: Sequence[_Waiting], position: Position, is_built_again: bool) -> _Run:
        """Run puts one after the other; what one drafts is seen by the next.

        Of very many records, the last puts may be left out.
        """
        run, ahead = _Run(), Ahead(position)
        for waiting in group:
            if ahead.position - position >= _TOGETHER_RECORDS_MAX:
                break
            try:
                response, transaction = self._answered(waiting, ahead, position, is_built_again)
            except PositionConflictError:
                raise
            except UNREADABLE as error:
                run.failed.append((waiting, unreadable_request(error)))
            except Exception as error:
                run.failed.append((waiting, error))
            else:
                if transaction is None or not transaction.drafts:
                    run.settled.append((waiting, response))
                    continue
                run.drafted.append((waiting, response, transaction))
                if len(group) > 1:
                    ahead.add(transaction)
        return run

    def _answered(
        self, waiting: _Waiting, ahead: Ahead, position: Position, is_built_again: bool
    ) -> tuple[Any, Transaction | None]:
        """The response to one put, and what it has drafted; None for one that is known already."""
        put, request, request_id = waiting.put, waiting.request, waiting.attribution.request_id
        if request_id is not None:
            known = commit_of_request(self.log, self.projections, request_id)
            if known is not None:
                return acknowledged_again(self.projections, put, request, known), None
        if ahead.position == position:
            transaction = Transaction(self.projections, position)
        else:
            transaction = StagedTransaction(self.projections, ahead)
        # Another thread may run it than that of who waits for it.
        with waited_for_by(waiting.waiter):
            response = put(transaction, request)
            # From here on it is done, whether anybody hears of it or not.
            check_wanted()
        if transaction.drafts:
            refuse_unreadable(transaction.drafts)
            self.projections.check_bases(
                transaction.index, transaction.bases.values(), is_built_again=is_built_again
            )
        return response, transaction

    def _append(self, run: _Run, position: Position, kept: list[Commit]) -> list[Commit]:
        puts = []
        for waiting, _, transaction in run.drafted:
            who = waiting.attribution
            puts.append(Put(transaction.drafts, who.actor, who.reason, who.request_id))
        if self._together is not None and len(puts) > 1:
            return self._together.append_together(puts, expected_position=position, kept=kept)
        (put,) = puts
        commit = self.log.append(
            put.drafts,
            expected_position=position,
            actor=put.actor,
            reason=put.reason,
            request_id=put.request_id,
        )
        return [commit]


def _fail_all(group: Sequence[_Waiting], error: Exception) -> None:
    """Have each put raise an error of its own, since each thread adds to it where it comes from."""
    for waiting in group:
        if not waiting.is_done:
            waiting.fail(error if len(group) == 1 else _another(error))


def _another(error: Exception) -> Exception:
    """The same error once more. Its class is not called: it may want other arguments."""
    made = type(error).__new__(type(error), *error.args)
    made.__dict__.update(vars(error))
    return made.with_traceback(error.__traceback__)
