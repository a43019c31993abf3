"""Answers the service of our own: runs a store's method, and sends what it answers in parts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from io import BufferedWriter, RawIOBase
from typing import Any, Final, TypeAlias

from msgspec import Raw

from eventstore.errors import (
    CancelledError,
    FailedPreconditionError,
    InvalidArgumentError,
    OutcomeUnknownError,
    ResourceExhaustedError,
    UnavailableError,
)
from eventstore.log.readable import UNREADABLE, unreadable_request
from eventstore.memory_limit import memory_limit_bytes
from eventstore.metadata_store.metadata_store import AsOfStore, MetadataStore
from eventstore.metadata_store.passed_values import packed, unpacked
from eventstore.metadata_store.served import Served
from eventstore.proto import eventstore_service_pb2 as own
from eventstore.server.answering import Answering, as_statuses, outcome_told
from eventstore.server.byte_budget import ByteBudget
from eventstore.server.caller import Caller
from eventstore.server.incoming import Incoming
from eventstore.server.roles import METHODS, Role, is_withheld

Send: TypeAlias = Callable[[bytes], None]
"""Sends a part of an answer, and returns once there is room for the next."""

_PART_BYTES: Final = 256 * 1024
_PIECE_BYTES: Final = 1024 * 1024
_PROGRESS_SECONDS: Final = 0.1
_SQL_SECONDS_MAX: Final = 600.0
_READING_SECONDS_MAX: Final = 600.0
"""How long a client may take for a result, which takes room that others wait for."""
_POLL_SECONDS_MIN: Final = 0.05
_FOLLOWERS_MAX: Final = 100


class BeyondMlmd:
    """Answers calls in parts. Safe to use from several threads."""

    def __init__(self, answering: Answering, calls_max: int) -> None:
        """So many calls are at work at once; others wait. Who waits for a client is not at work."""
        self._answering = answering
        self._turns = threading.BoundedSemaphore(calls_max)
        self._results = ByteBudget(memory_limit_bytes() // 2)
        """For results of SQL until they are sent: whoever does not read keeps them here."""
        self._lock = threading.Lock()
        self._followers = set[threading.Event]()
        self._is_stopping = False

    def answer(self, incoming: Incoming, content: bytes, send: Send) -> None:
        """Run the method that a call names, and send its answer.

        What only reads ends once the client is gone. Raises `eventstore.errors` classes: those of
        the method, and InvalidArgumentError for arguments that it does not take.
        """
        with as_statuses(incoming.rpc):
            caller = self._answering.admitted(incoming)
            method = METHODS[incoming.rpc]
            store = _store(caller, method)
            with caller.acting():
                if method.rpc == "Follow":
                    self._follow(store, method, incoming, content, send, caller.roles)
                    return
                with self._turns:
                    parts = _Parts(self._out_of_turn(send), incoming)
                    arguments = _arguments(method, content, parts)
                    if method.rpc == "Sql":
                        _limit_time(arguments, incoming)
                    with self._results.claimed() as claim:
                        answer = self._answer(store, method, arguments, incoming, caller, claim)
                        with _in_time(incoming) if method.rpc == "Sql" else nullcontext():
                            parts.send_answer(method, _for_roles(method, answer, caller.roles))

    def _answer(
        self,
        store: MetadataStore | AsOfStore,
        method: Served,
        arguments: Mapping[str, Any],
        incoming: Incoming,
        caller: Caller,
        claim: Callable[[int], None],
    ) -> Any:
        # What changes something goes on, and what is read lazily ends as it is sent.
        is_given_up = method.need != "admin" and not method.is_lazy
        waited = self._answering.waited_for(incoming, claim) if is_given_up else nullcontext()
        try:
            with waited:
                return method.function(store, **arguments)
        except OutcomeUnknownError as error:
            raise outcome_told(error, caller) from error

    def end_following(self) -> None:
        """End calls that would go on for ever, and begin none: the server is stopping."""
        with self._lock:
            self._is_stopping = True
            for stop in self._followers:
                stop.set()

    def _follow(
        self,
        store: MetadataStore | AsOfStore,
        method: Served,
        incoming: Incoming,
        content: bytes,
        send: Send,
        roles: Collection[Role],
    ) -> None:
        parts = _Parts(send, incoming)
        arguments = _arguments(method, content, parts)
        if "poll_seconds" in arguments:
            # A shorter pause would be for one client alone, and cost all others.
            arguments["poll_seconds"] = max(arguments["poll_seconds"], _POLL_SECONDS_MIN)
        with self._follower() as stop:
            incoming.when_ended(stop.set)
            answer = method.function(store, **arguments, stop=stop)
            parts.send_answer(method, _for_roles(method, answer, roles))
        if self._is_stopping:
            raise UnavailableError("the server is stopping: follow on after the last commit")

    @contextmanager
    def _follower(self) -> Iterator[threading.Event]:
        stop = threading.Event()
        with self._lock:
            if len(self._followers) >= _FOLLOWERS_MAX:
                raise ResourceExhaustedError(
                    f"{_FOLLOWERS_MAX} calls follow already, which is as many as may: try later"
                )
            if self._is_stopping:
                stop.set()
            self._followers.add(stop)
        try:
            yield stop
        finally:
            with self._lock:
                self._followers.discard(stop)

    def _out_of_turn(self, send: Send) -> Send:
        def sent(part: bytes) -> None:
            self._turns.release()
            try:
                send(part)
            finally:
                self._turns.acquire()

        return sent


def _for_roles(method: Served, answer: Any, roles: Collection[Role]) -> Any:
    """An answer without what these roles may not know: what holds and rules say."""
    if method.rpc not in ("Changes", "Follow") or Role.AUDIT in roles:
        return answer
    return (
        replace(
            commit,
            changes=tuple(
                replace(one, message=None, fields=()) if is_withheld(one.kind, roles) else one
                for one in commit.changes
            ),
        )
        for commit in answer
    )


def _store(caller: Caller, method: Served) -> MetadataStore | AsOfStore:
    if caller.as_of is None:
        return MetadataStore._of(caller.engine)
    if not hasattr(AsOfStore, method.function.__name__):
        raise FailedPreconditionError(
            f"{method.rpc} is not answered as of a moment: leave eventstore-as-of out"
        )
    return AsOfStore._of(caller.engine, caller.as_of)


def _arguments(method: Served, content: bytes, parts: _Parts) -> dict[str, Any]:
    try:
        request = own.Arguments.FromString(content)
    except UNREADABLE as error:
        raise unreadable_request(error) from None
    try:
        given: dict[str, Raw] = unpacked(request.values, dict[str, Raw]) if request.values else {}
    except ValueError as error:
        raise InvalidArgumentError(
            f"{method.rpc}: these are no arguments by name: {error}"
        ) from None
    arguments = {}
    for name, value in given.items():
        if name not in method.arguments:
            raise InvalidArgumentError(f"{method.rpc} has no parameter {name!r}")
        try:
            arguments[name] = unpacked(bytes(value), method.arguments[name])
        except ValueError as error:
            raise InvalidArgumentError(f"{method.rpc}: {name} cannot be this: {error}") from None
    if missing := method.required - arguments.keys():
        raise InvalidArgumentError(f"{method.rpc} needs {', '.join(sorted(missing))}")
    if method.takes_progress:
        is_told = request.wants_progress
        # What has begun to change something goes on, whoever is gone.
        watch = _ignored if method.need == "admin" else parts.refuse_unwanted
        arguments["progress"] = parts.progress if is_told else watch
    return arguments


@contextmanager
def _in_time(incoming: Incoming) -> Iterator[None]:
    """A block in which a call is cut off that takes too long."""
    timer = threading.Timer(_READING_SECONDS_MAX, incoming.cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _limit_time(arguments: dict[str, Any], incoming: Incoming) -> None:
    left = incoming.seconds_left()
    limits = (arguments.get("timeout_seconds"), left, _SQL_SECONDS_MAX)
    arguments["timeout_seconds"] = min(limit for limit in limits if limit is not None)


def _ignored(done: int, in_all: int) -> None:
    pass


class _Parts:
    """The parts of one answer."""

    def __init__(self, send: Send, incoming: Incoming) -> None:
        self._send_part = send
        self._incoming = incoming
        self._told_at = -_PROGRESS_SECONDS

    def send_answer(self, method: Served, answer: Any) -> None:
        if hasattr(answer, "write_stream"):
            with BufferedWriter(_Stream(self._send), _PART_BYTES) as file:
                answer.write_stream(file)
        elif method.is_lazy:
            # The arguments are fine.
            self._send()
            self._send_values(map(packed, answer), at_once=method.rpc == "Follow")
        elif method.is_list:
            self._send_values(map(packed, answer))
        elif method.answer is not type(None):
            self._send_values([packed(answer)])

    def progress(self, done: int, in_all: int) -> None:
        """Tell how far it has got, not too often."""
        now = time.monotonic()
        if done >= in_all or now >= self._told_at + _PROGRESS_SECONDS:
            self._told_at = now
            self._send(progress=own.Progress(done=done, in_all=in_all))

    def refuse_unwanted(self, done: int, in_all: int) -> None:  # noqa: ARG002
        """Raise CancelledError once nobody waits for the answer."""
        if not self._incoming.is_wanted():
            raise CancelledError(f"{self._incoming.rpc}: the client is gone")

    def _send(self, **content: Any) -> None:
        self._send_part(own.AnswerPart(**content).SerializeToString())

    def _send_values(self, values: Iterable[bytes], *, at_once: bool = False) -> None:
        held, length = list[bytes](), 0
        for value in values:
            if at_once or length + len(value) > _PART_BYTES:
                if held:
                    self._send(values=held)
                held, length = [], 0
                value = self._all_but_end(value)
            held.append(value)
            length += len(value)
            if at_once:
                self._send(values=held)
                held, length = [], 0
        if held:
            self._send(values=held)

    def _all_but_end(self, value: bytes) -> bytes:
        """Send the beginning of a value that is too long for a part; the end of it."""
        at = 0
        while len(value) - at > _PIECE_BYTES:
            self._send(values=[value[at : at + _PIECE_BYTES]], is_continued=True)
            at += _PIECE_BYTES
        return value[at:] if at else value


class _Stream(RawIOBase):
    """What is written into it is sent in pieces."""

    def __init__(self, send: Callable[..., None]) -> None:
        self._send = send

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        piece = bytes(content[:_PIECE_BYTES])
        self._send(arrow=piece)
        return len(piece)
