"""What is told of each call, whatever carried it: to the log, to metrics and to traces."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TypeAlias

from msgspec import Struct

from eventstore.errors import CANCELLED, DEADLINE_EXCEEDED, OK, StatusError
from eventstore.server.answering import Answer
from eventstore.server.incoming import Incoming

HTTP: Final = "http"
"""The service of requests to the page and its API; their `rpc` is a method and a route."""


class Ended(Struct, frozen=True):
    """A call that has been answered, if by an error.

    `code` is gRPC's number of its status; `message` is that of an error. It took `seconds` from
    when its request was there. What is said of who called is looked up only if it is asked for:
    `store` and `actor` are None where it is not known who calls.
    """

    incoming: Incoming
    code: int
    message: str
    seconds: float
    request_bytes: int
    answer_bytes: int

    @property
    def service(self) -> str:
        return self.incoming.service

    @property
    def rpc(self) -> str:
        return self.incoming.rpc

    @property
    def store(self) -> str | None:
        caller = self.incoming.caller
        return None if caller is None else caller.store

    @property
    def actor(self) -> str | None:
        caller = self.incoming.caller
        return None if caller is None else caller.attribution.actor

    @property
    def request_id(self) -> str | None:
        caller = self.incoming.caller
        return None if caller is None else caller.attribution.request_id

    @property
    def client(self) -> str:
        """Its IP address."""
        return self.incoming.peer().address


Observer: TypeAlias = Callable[[Incoming], Callable[[Ended], None]]
"""Is told of a call before it is answered; what it returns is told how it ended, in its thread."""

Send: TypeAlias = Callable[[bytes], None]
AnswerInParts: TypeAlias = Callable[[Incoming, bytes, Send], None]

Count: TypeAlias = Callable[[int], None]
"""Is told how many bytes of an answer were made."""


class Observing:
    """Tells observers of calls."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers

    @contextmanager
    def call(self, incoming: Incoming, request_bytes: int) -> Iterator[Count]:
        """A block in which a call is answered."""
        endings = [begin(incoming) for begin in self._observers]
        sizes = list[int]()
        code, message, began = OK, "", time.perf_counter()
        try:
            yield sizes.append
        except StatusError as error:
            code, message = error.error_code, error.message
            if code == CANCELLED and incoming.is_overdue():
                # gRPC tells both alike: that nobody waits any more.
                code = DEADLINE_EXCEEDED
            raise
        finally:
            if endings:
                seconds = time.perf_counter() - began
                ended = Ended(incoming, code, message, seconds, request_bytes, sum(sizes))
                for end in endings:
                    end(ended)


def observed(answer: Answer, observing: Observing) -> Answer:
    """The same, and it is told."""

    def run(incoming: Incoming, content: bytes) -> bytes:
        with observing.call(incoming, len(content)) as count:
            answered = answer(incoming, content)
            count(len(answered))
            return answered

    return run


def observed_in_parts(answer: AnswerInParts, observing: Observing) -> AnswerInParts:
    """The same for an answer in parts."""

    def run(incoming: Incoming, content: bytes, send: Send) -> None:
        with observing.call(incoming, len(content)) as count:

            def sent(part: bytes) -> None:
                send(part)
                count(len(part))

            answer(incoming, content, sent)

    return run
