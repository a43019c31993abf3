"""Answers each RPC of MLMD's service, whatever carries it: bytes in, bytes or a status out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from eventstore import call_metadata
from eventstore.cancellation import Waiter, waited_for_by
from eventstore.errors import (
    CancelledError,
    InternalError,
    OutcomeUnknownError,
    ResourceExhaustedError,
    StatusError,
    UnknownError,
)
from eventstore.late_logger import late_logger
from eventstore.log.readable import UNREADABLE, unreadable_request
from eventstore.proto import metadata_store_service_pb2 as service
from eventstore.server.caller import Caller, Callers
from eventstore.server.concurrency_limit import ConcurrencyLimit
from eventstore.server.gate import Gate
from eventstore.server.incoming import Incoming
from eventstore.store.rpcs import GETS

_LOGGER = late_logger("eventstore.server")


Answer: TypeAlias = Callable[[Incoming, bytes], bytes]
"""Answers a message by one; raises the classes of `eventstore.errors`."""


class Answering:
    """Lets calls in and answers them. Safe to use from several threads."""

    def __init__(
        self,
        callers: Callers,
        gate: Gate,
        answer_bytes_max: int,
        call_seconds_max: float = math.inf,
    ) -> None:
        """No answer is longer than a maximum, if that is not -1; no call takes more seconds."""
        self._callers = callers
        self._gate = gate
        self._answer_bytes_max = answer_bytes_max
        self._call_seconds_max = call_seconds_max

    def answer(self, incoming: Incoming, content: bytes) -> bytes:
        """The answer to a call of MLMD's service.

        Raises the classes of `eventstore.errors` and nothing else.
        """
        try:
            caller = self.admitted(incoming)
            with self.waited_for(incoming):
                return self._run(caller, incoming, content)
        except StatusError:
            raise
        except Exception as error:
            raise _fault(incoming.rpc, error) from None

    @contextmanager
    def waited_for(
        self, incoming: Incoming, claim: Callable[[int], None] | None = None
    ) -> Iterator[None]:
        """A block whose work ends when the call's client is gone, or its time is over.

        `claim` is told how long the parts of its answer are, where they are counted.
        """
        most = self._answer_bytes_max
        is_get = incoming.rpc in GETS
        waiter = Waiter(
            seconds_max=self._call_seconds_max,
            bytes_max=most if is_get and most >= 0 else math.inf,
            too_long=lambda: _too_long(incoming.rpc, most),
            claim=claim,
        )
        if not incoming.when_ended(waiter.leave):
            waiter.leave()
        with waited_for_by(waiter):
            waiter.check()
            yield

    def admitted(self, incoming: Incoming) -> Caller:
        """Who calls; the server stops only after the call has ended.

        Raises UnavailableError when the server is stopping, CancelledError when the client is gone,
        and what `Callers.of` raises.
        """
        self._gate.enter()
        if not incoming.when_ended(self._gate.leave):
            # The call has waited for longer than its client.
            self._gate.leave()
            raise CancelledError(f"{incoming.rpc}: the client is gone; nothing was done")
        caller = incoming.caller = self._callers.of(incoming)
        return caller

    def _run(self, caller: Caller, incoming: Incoming, content: bytes) -> bytes:
        rpc = incoming.rpc
        try:
            request = getattr(service, f"{rpc}Request").FromString(content)
        except UNREADABLE as error:
            raise unreadable_request(error) from None
        try:
            if rpc in GETS:
                response = caller.engine.call(rpc, request, as_of=caller.as_of)
            else:
                with caller.acting():
                    response = caller.engine.call(rpc, request, as_of=caller.as_of)
        except OutcomeUnknownError as error:
            raise (error if rpc in GETS else outcome_told(error, caller)) from error
        if rpc not in GETS:
            position = caller.engine.projections.index.position
            incoming.told.append((call_metadata.POSITION, str(position)))
        answer: bytes = response.SerializeToString()
        # What a put has done cannot be taken back, and its answer is short.
        if 0 <= self._answer_bytes_max < len(answer) and rpc in GETS:
            raise _too_long(rpc, self._answer_bytes_max)
        return answer


def in_turn(answer: Answer, calls_max: int) -> Answer:
    """The same, but so many calls at once at most; others wait."""
    limit = ConcurrencyLimit(calls_max)

    def run(incoming: Incoming, content: bytes) -> bytes:
        with limit.turn(incoming):
            return answer(incoming, content)

    return run


@contextmanager
def as_statuses(rpc: str) -> Iterator[None]:
    """Turn what is no StatusError into InternalError, which says little; the log says more."""
    try:
        yield
    except StatusError:
        raise
    except Exception as error:
        raise _fault(rpc, error) from None


def _fault(rpc: str, error: Exception) -> InternalError:
    """What is told of an error that nobody has foreseen, and which is logged."""
    _LOGGER.error("%s failed", rpc, exc_info=error)
    return InternalError(f"{rpc} failed in the server ({type(error).__name__}); its log says more")


def outcome_told(error: OutcomeUnknownError, caller: Caller) -> StatusError:
    """What is told of a put that may have happened.

    Clients make a call again that is UNAVAILABLE: that is right for a put with a request id alone.
    """
    if caller.attribution.request_id is not None:
        return error
    return UnknownError(
        f"{error.message}; look whether it was put before you put it again, or send "
        "eventstore-request-id with every put, and the same when you try again"
    )


def _too_long(rpc: str, most: int) -> StatusError:
    return ResourceExhaustedError(
        f"the answer to {rpc} is too long: this server sends {most:,} bytes at most: ask in pages "
        "(options.max_result_size and next_page_token) or for fewer ids, or start the server with "
        "a greater --max-message-mib; a client has a limit of its own, too"
    )
