"""What a differential run drives: the oracle or a store of ours, through one interface."""

from __future__ import annotations

import copy
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import eventstore
from eventstore import errors
from eventstore.metadata_store.metadata_store import MetadataStore
from eventstore.metadata_store.reader import MetadataReader
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import metadata_store_service_pb2 as service
from tests.differential.codec import encoded


class Client(Protocol):
    """A store under test. Calls raise the classes of `eventstore.errors`."""

    def call(self, rpc: str, request: Any) -> Any:
        """Run an RPC; its response."""

    def method(self, name: str, *arguments: Any) -> Any:
        """Run a method of MetadataStore with positional arguments; what it returns."""

    def start_over(self) -> None:
        """Begin again with an empty store."""

    def reopen(self) -> None:
        """Close the store and open it again, where it outlives that."""

    def seal(self) -> None:
        """Seal the log, where there is one."""

    def changed_past(self) -> tuple[str, str] | None:
        """What the first get answered, and what it answers as of that position, if that differs."""


class _Taken(NamedTuple):
    position: int
    by_method: bool
    name: str
    arguments: tuple[Any, ...]
    answer: Any


class OurStore:
    """A store in memory, or in a directory of its own.

    It remembers what its gets answered and at which position, so that the past can be asked again.
    """

    def __init__(self, *, in_directory: bool = False) -> None:
        self._in_directory = in_directory
        self._folder: Path | None = None
        self._opened: MetadataStore | None = None
        self._taken: list[_Taken] = []

    def call(self, rpc: str, request: Any) -> Any:
        return self._run(False, rpc, (request,))

    def method(self, name: str, *arguments: Any) -> Any:
        return self._run(True, name, arguments)

    def start_over(self) -> None:
        self.close()
        self._taken.clear()
        if self._in_directory:
            self._folder = Path(tempfile.mkdtemp())
        self._open()

    def reopen(self) -> None:
        if self._folder is not None:
            self._store.close()
            self._open()

    def seal(self) -> None:
        self._store.seal()

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None
        if self._folder is not None:
            shutil.rmtree(self._folder)
            self._folder = None

    def changed_past(self) -> tuple[str, str] | None:
        for taken in self._taken:
            asked = self._asked(taken.position)
            found = _recorded(asked, taken.by_method, taken.name, taken.arguments)
            if found != taken.answer:
                return str(taken), str(found)
        return None

    def _asked(self, as_of: int | None = None) -> MetadataReader:
        """What the calls are made on, now or as of a position."""
        return self._store if as_of is None else self._store.as_of(as_of)

    @property
    def _store(self) -> MetadataStore:
        assert self._opened is not None, "start_over comes first"
        return self._opened

    def _open(self) -> None:
        config = mlmd.ConnectionConfig()
        if self._folder is None:
            config.fake_database.SetInParent()
        else:
            config.sqlite.filename_uri = str(self._folder / "store")
        self._opened = eventstore.MetadataStore(config)

    def _run(self, by_method: bool, name: str, arguments: tuple[Any, ...]) -> Any:
        if not name.lower().startswith("get"):
            return _run(self._asked(), by_method, name, arguments)
        position = self._store.log_position()
        # The caller goes on with its requests from page to page.
        arguments = copy.deepcopy(arguments)
        try:
            result = _run(self._asked(), by_method, name, arguments)
        except errors.StatusError as error:
            self._taken.append(_Taken(position, by_method, name, arguments, type(error)))
            raise
        self._taken.append(_Taken(position, by_method, name, arguments, encoded(result)))
        return result


def _run(store: Any, by_method: bool, name: str, arguments: tuple[Any, ...]) -> Any:
    if by_method:
        return getattr(store, name)(*arguments)
    response = getattr(service, f"{name}Response")()
    store._call(name, *arguments, response)
    return response


def _recorded(store: Any, by_method: bool, name: str, arguments: tuple[Any, ...]) -> Any:
    try:
        return encoded(_run(store, by_method, name, arguments))
    except errors.StatusError as error:
        return type(error)
