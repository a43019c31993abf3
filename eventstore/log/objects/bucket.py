"""Objects below a prefix of a bucket: requests that are sent again, and what became of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

from eventstore import errors
from eventstore.log.forking import no_fork_in_libraries
from eventstore.log.objects.object_errors import failure_of, translated
from eventstore.times import Microseconds

if TYPE_CHECKING:
    from obstore import UpdateVersion
    from obstore.store import ObjectStore

_Answer = TypeVar("_Answer")

RETRIED_SECONDS: Final = 10.0
"""For so long what failed in passing is asked again."""

_FIRST_WAIT_SECONDS: Final = 0.05
_LONGEST_WAIT_SECONDS: Final = 2.0

_AT_ONCE: Final = 16
"""So many requests are sent at once where many objects are asked for."""

_PART: Final = 256
"""So many objects are held in memory then."""

_used_in: int | None = None
"""The process that made the library's threads, without which it answers nothing."""


class Listed(NamedTuple):
    """An object as a listing tells of it."""

    key: str
    size: int
    tag: str


class Bucket:
    """Objects whose keys begin with a prefix. Safe to use from several threads.

    `small` and `large` reach them, with times that are enough for short objects and for files;
    neither asks again by itself: whoever asks has to know what became of the first time. `above`
    gives those of the prefix without its last part, None where there is no prefix.
    """

    def __init__(
        self,
        name: str,
        small: ObjectStore,
        large: ObjectStore,
        endpoint: str,
        *,
        above: Callable[[], Bucket | None] = lambda: None,
    ) -> None:
        self.name = name
        self.above = above
        self._small = small
        self._large = large
        self.place = f"{name} at {endpoint}"
        """The same and where it is, which tells it from others of that name."""
        self._endpoint = endpoint
        self._was_there = False
        """Whether anything was ever answered: else the endpoint may be mistyped."""

    def get(self, key: str, *, is_file: bool = False) -> bytes | None:
        """The content of an object, None where there is none."""

        def ask() -> bytes | None:
            try:
                found = obstore.get(self._large if is_file else self._small, key)
                return found.bytes().to_bytes()
            except FileNotFoundError as error:
                self._refuse_missing(error, "reading")
                return None

        return self._retried("reading", ask)

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """The contents of objects, in the order of their keys, many at a time."""
        yield from self._at_once(self.get, keys)

    def list(self, folder: str, after: str | None = None) -> list[Listed]:
        """The objects below a folder whose keys come after one, in the order of their keys."""

        def ask() -> list[Listed]:
            found = obstore.list(self._small, folder, offset=after).collect()
            return sorted(Listed(o["path"], o["size"], o["e_tag"] or "") for o in found)

        # A store that does not know `after` gives more.
        return [one for one in self._retried("listing", ask) if after is None or one.key > after]

    def create(self, key: str, content: bytes, *, is_file: bool = False) -> bytes | None:
        """Make an object; None, or the content of the one that somebody else has made before.

        Raises OutcomeUnknownError where it cannot be told whether it was made.
        """
        store = self._large if is_file else self._small
        is_sent = False
        until, wait = self._begun()
        while True:
            self._refuse_fork()
            try:
                obstore.put(store, key, content, mode="create", use_multipart=False)
                return None
            except (AlreadyExistsError, PreconditionError, FileNotFoundError) as error:
                # What is there may be ours, of the first time.
                found = self._found(key, error, is_sent, is_file=is_file)
                if found is not None:
                    if found == content:
                        return None
                    if not found and is_sent:
                        raise self._unknown("it was erased meanwhile") from None
                    return found
                failure = failure_of(error)
            except BaseError as error:
                failure = failure_of(error)
                is_sent = is_sent or (failure.is_passing and not failure.is_unsent)
            if not failure.is_passing or time.monotonic() + wait > until:
                met = translated(failure, "putting in", self.name)
                if is_sent:
                    raise self._unknown(met.message)
                raise errors.make_exception(f"{met.message}; nothing was put", met.error_code)
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT_SECONDS)

    def writes_over(self, key: str, content: bytes) -> bool:
        """Whether an object that is there takes this content, though it must not be made anew."""

        def ask() -> bool:
            try:
                obstore.put(self._small, key, content, mode="create", use_multipart=False)
            except (AlreadyExistsError, PreconditionError):
                return False
            return True

        return self._retried("asking", ask)

    def replace(self, key: str, before: bytes, content: bytes) -> bool:
        """Give an object other content; whether it has that now, which else had changed meanwhile.

        Stores that know conditions refuse it themselves.
        """

        def ask() -> bool:
            try:
                found = obstore.get(self._small, key)
                stored = found.bytes().to_bytes()
                if stored != before:
                    return stored == content
                mode: UpdateVersion = {}
                if found.meta["e_tag"]:
                    mode["e_tag"] = found.meta["e_tag"]
                if found.meta["version"]:
                    mode["version"] = found.meta["version"]
                obstore.put(self._small, key, content, mode=mode, use_multipart=False)
            except (PreconditionError, FileNotFoundError):
                # What is there may be ours, of the first time.
                return self.get(key) == content
            return True

        return self._retried("erasing in", ask)

    def overwrite(
        self, key: str, content: bytes, *, doing: str = "erasing in", is_file: bool = False
    ) -> None:
        """Give an object this content, whether it was there or not."""

        def ask() -> None:
            store = self._large if is_file else self._small
            obstore.put(store, key, content, use_multipart=False)

        self._retried(doing, ask)

    def remove(self, key: str) -> None:
        """Remove an object, which may not be there."""

        def ask() -> None:
            try:
                obstore.delete(self._small, key)
            except FileNotFoundError as error:
                self._refuse_missing(error, "erasing in")

        self._retried("erasing in", ask)

    def overwrite_many(self, keys: Iterable[str], content: bytes) -> None:
        """The same of many objects."""
        for _ in self._at_once(lambda key: self.overwrite(key, content), keys):
            pass

    def now(self) -> Microseconds:
        """The time by the clock of whoever answers at the endpoint, to the second."""
        import urllib.error
        import urllib.request
        from email.utils import parsedate_to_datetime

        def ask() -> str:
            request = urllib.request.Request(self._endpoint, method="HEAD")  # noqa: S310
            try:
                with urllib.request.urlopen(request, timeout=RETRIED_SECONDS) as found:  # noqa: S310
                    return found.headers["Date"] or ""
            except urllib.error.HTTPError as refused:
                # Whoever refuses says when.
                return refused.headers["Date"] or ""

        try:
            told = parsedate_to_datetime(ask())
        except (OSError, TypeError, ValueError):
            raise errors.UnavailableError(
                f"{self.name}: the clock of {self._endpoint} cannot be asked: check the endpoint"
            ) from None
        return Microseconds(int(told.timestamp()) * 1_000_000)

    def _at_once(
        self, do: Callable[[str], _Answer], keys: Iterable[str]
    ) -> Iterator[tuple[str, _Answer]]:
        """What `do` gives of each key, in order."""
        left = iter(keys)
        part = [*islice(left, _PART)]
        if len(part) < 2:
            for key in part:
                yield key, do(key)
            return
        with no_fork_in_libraries():
            from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="eventstore-objects") as pool:
            while part:
                yield from zip(part, pool.map(do, part), strict=True)
                part = [*islice(left, _PART)]

    def _retried(self, doing: str, ask: Callable[[], _Answer]) -> _Answer:
        """The answer of `ask`, asked again while it fails in passing."""
        until, wait = self._begun()
        while True:
            self._refuse_fork()
            try:
                answer = ask()
                self._was_there = True
                return answer
            except BaseError as error:
                failure = failure_of(error)
                is_in_vain = failure.is_unsent and not self._was_there
                if not failure.is_passing or is_in_vain or time.monotonic() + wait > until:
                    raise translated(failure, doing, self.name) from None
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT_SECONDS)

    def _begun(self) -> tuple[float, float]:
        """Until when something is tried, and how long to wait after the first time."""
        return time.monotonic() + RETRIED_SECONDS, _FIRST_WAIT_SECONDS

    def _refuse_missing(self, error: FileNotFoundError, doing: str) -> None:
        """Raise NotFoundError if it is the bucket that is not there."""
        failure = failure_of(error)
        if failure.is_missing_bucket:
            raise translated(failure, doing, self.name) from None

    def _found(self, key: str, error: Exception, is_sent: bool, *, is_file: bool) -> bytes | None:
        """What is at a key that was taken. Raises OutcomeUnknownError when it cannot be asked."""
        if isinstance(error, FileNotFoundError):
            self._refuse_missing(error, "putting in")
        try:
            return self.get(key, is_file=is_file)
        except errors.StatusError as met:
            if is_sent:
                raise self._unknown(met.message) from None
            raise

    def _unknown(self, why: str) -> errors.OutcomeUnknownError:
        return errors.OutcomeUnknownError(
            f"{why}; whether the commit was kept is not known: look for it before you put it once "
            "more"
        )

    def _refuse_fork(self) -> None:
        """Raise FailedPreconditionError where the library's threads are those of a parent."""
        global _used_in
        process = os.getpid()
        if _used_in is None:
            _used_in = process
        elif _used_in != process:
            raise errors.FailedPreconditionError(
                f"{self.name} cannot be used in a process that was forked from one that has used "
                "object storage: begin processes by spawn (multiprocessing.set_start_method)"
            )
