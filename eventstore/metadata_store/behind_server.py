"""A store behind a server, as far as it goes beyond MLMD's calls: asks the server's own service."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from io import BufferedReader, RawIOBase
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from msgspec import Raw

from eventstore.errors import InternalError, InvalidArgumentError, StatusError, UnimplementedError
from eventstore.metadata_store.passed_values import packed, typed, unpacked
from eventstore.moments import Moment, refuse_no_moment
from eventstore.proto import eventstore_service_pb2 as own
from eventstore.repr_html import ShownInNotebooks, ShownList

if TYPE_CHECKING:
    from eventstore.metadata_store.remote_calls import Parts, RemoteCalls
    from eventstore.metadata_store.served import Served


class BehindServer:
    """The log, or what is folded from it, of a store that is elsewhere: nothing reaches it."""

    def __init__(self, address: str) -> None:
        object.__setattr__(self, "_address", address)

    def __repr__(self) -> str:
        return f"<behind {self._address}>"

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        self._refuse(name)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        self._refuse(name)

    def _refuse(self, name: str) -> NoReturn:
        raise UnimplementedError(
            f"this needs the log itself ({name}), and the store is behind a server "
            f"({self._address}): open the store itself, where it is"
        )


class RemoteSource:
    """What answers for a source, now or as of a position: a server."""

    is_here: ClassVar = False

    def __init__(self, calls: RemoteCalls) -> None:
        self.address = calls.address
        self.name = f"behind {self.address}"
        behind: Any = BehindServer(self.address)
        self.log = self.projections = self.engine = behind
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        # What else a source has is refused alike.
        return getattr(BehindServer(self.address), name)

    def ask(self, method: Served, given: Mapping[str, Any]) -> Any:
        """What a method answers to arguments.

        Raises `eventstore.errors` classes: those that it raises, and those of the connection.
        """
        values = {
            name: _sent(name, value, method.arguments[name])
            for name, value in given.items()
            if name in method.arguments
        }
        progress = given.get("progress")
        request = own.Arguments(values=packed(values), wants_progress=progress is not None)
        content = request.SerializeToString()
        if method.is_lazy:
            parts = self._calls.parts(method, content)
            return _lazy(parts, method.element, given.get("stop"), given.get("poll_seconds", 0.2))
        return self._calls.whole(
            method, content, lambda parts: _whole(method, _with_progress(parts, progress))
        )


def _sent(name: str, value: object, type_: Any) -> Raw:
    if type_ == Moment or (type_ == (Moment | None) and value is not None):
        # Most arguments are looked at where they arrive; a text could be read as a time there.
        refuse_no_moment(value)
    try:
        return Raw(packed(typed(value) if name == "parameters" else value))
    except ValueError as error:
        raise InvalidArgumentError(f"{name} cannot be sent to a server: {error}") from None


def _whole(method: Served, parts: Iterator[Any]) -> Any:
    if hasattr(method.answer, "of_stream"):
        return method.answer.of_stream(BufferedReader(_Stream(parts)))
    element = method.element
    values = (_value(content, element) for content in _contents(parts))
    if method.is_list:
        is_shown = isinstance(element, type) and issubclass(element, ShownInNotebooks)
        return ShownList(values) if is_shown else [*values]
    found = [*values]
    if method.answer is type(None):
        return None
    if len(found) != 1:
        raise InternalError(f"the server's answer to {method.rpc} has {len(found)} values, not 1")
    return found[0]


def _lazy(
    parts: Parts, element: Any, stop: threading.Event | None, poll_seconds: float
) -> Iterator[Any]:
    """Values as they are read; what is wrong with the arguments is told at once."""
    with parts.kept_open():
        # It says that the method has begun.
        next(parts)
    return _values(parts, element, stop, poll_seconds)


def _values(
    parts: Parts, element: Any, stop: threading.Event | None, poll_seconds: float
) -> Iterator[Any]:
    with parts:
        if stop is not None:
            watch = threading.Thread(
                target=_end_at, args=(parts, stop, poll_seconds), name="following", daemon=True
            )
            watch.start()
        try:
            for content in _contents(parts):
                if stop is not None and stop.is_set():
                    return
                yield _value(content, element)
        except StatusError:
            if stop is None or not stop.is_set():
                raise


def _end_at(parts: Parts, stop: threading.Event, poll_seconds: float) -> None:
    while not stop.wait(poll_seconds):
        if parts.is_over():
            return
    parts.end()


def _with_progress(
    parts: Iterator[Any], progress: Callable[[int, int], object] | None
) -> Iterator[Any]:
    for part in parts:
        if progress is not None and part.HasField("progress"):
            progress(part.progress.done, part.progress.in_all)
        yield part


def _contents(parts: Iterator[Any]) -> Iterator[bytes]:
    """The values of parts, as bytes; those that are continued in the next put together."""
    begun = list[bytes]()
    for part in parts:
        whole = [*part.values]
        if begun and whole:
            begun.append(whole.pop(0))
            if whole or not part.is_continued:
                yield b"".join(begun)
                begun = []
        if part.is_continued and whole:
            begun = [whole.pop()]
        yield from whole


def _value(content: bytes, type_: Any) -> Any:
    try:
        return unpacked(content, type_)
    except ValueError as error:
        raise InternalError(
            f"the server's answer cannot be read ({error}): it may be of another version"
        ) from None


class _Stream(RawIOBase):
    """The pieces of a stream of Arrow's as one file."""

    def __init__(self, parts: Iterator[Any]) -> None:
        self._pieces = (part.arrow for part in parts if part.arrow)
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._left:
            self._left = memoryview(next(self._pieces, b""))
        length = min(len(buffer), len(self._left))
        buffer[:length], self._left = self._left[:length], self._left[length:]
        return length
