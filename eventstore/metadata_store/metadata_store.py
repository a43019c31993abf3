"""`MetadataStore`: MLMD's API on an event-sourced store."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from eventstore import errors
from eventstore.late_logger import late_logger
from eventstore.log import Commit, Log, Position
from eventstore.log.places import StoreUrl, is_server, named_path, place_of
from eventstore.metadata_store.audit_methods import AuditMethods
from eventstore.metadata_store.calls import MAX_NUM_RESULT, Calls
from eventstore.metadata_store.credentials import Credentials, credentials_of
from eventstore.metadata_store.erasure_methods import ErasureMethods
from eventstore.metadata_store.file_methods import FileMethods
from eventstore.metadata_store.history_methods import HistoryMethods
from eventstore.metadata_store.lineage_methods import LineageMethods
from eventstore.metadata_store.local_calls import LocalCalls
from eventstore.metadata_store.notebook_methods import NotebookMethods
from eventstore.metadata_store.opening import open_configured, open_place
from eventstore.metadata_store.reader import MetadataReader
from eventstore.metadata_store.recording_methods import RecordingMethods
from eventstore.metadata_store.retention_methods import RetentionMethods, RetentionReads
from eventstore.metadata_store.retrying import RETRIES
from eventstore.metadata_store.served import served
from eventstore.metadata_store.source import Source, SourceMethods
from eventstore.metadata_store.sql_methods import SqlMethods
from eventstore.metadata_store.writer import MetadataWriter
from eventstore.moments import Moment, position_of, range_of
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.store import Engine
from eventstore.store.attribution import Attribution, acting_for, checked_attribution
from eventstore.times import moment_of

if TYPE_CHECKING:
    from eventstore.metadata_store.downgrading import downgrade_schema
    from eventstore.metadata_store.options import ExtraOptions, ListOptions, OrderByField
    from eventstore.metadata_store.remote_calls import RemoteCalls

__all__ = [
    "MAX_NUM_RESULT",
    "AsOfStore",
    "ExtraOptions",
    "ListOptions",
    "MetadataStore",
    "OrderByField",
    "downgrade_schema",
    "open_store",
]

_LOGGER = late_logger("eventstore")

_WAIT_SECONDS: Final = 5.0
"""How long a server is asked to wait at once."""

_IMPORTED_LATE = {
    "ExtraOptions": "options",
    "ListOptions": "options",
    "OrderByField": "options",
    "downgrade_schema": "downgrading",
}


def __getattr__(name: str) -> Any:
    """MLMD has these here; attrs, which options need, takes long to import."""
    if name not in _IMPORTED_LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"eventstore.metadata_store.{_IMPORTED_LATE[name]}"), name)


class MetadataStore(
    RecordingMethods,
    AuditMethods,
    ErasureMethods,
    FileMethods,
    HistoryMethods,
    LineageMethods,
    NotebookMethods,
    RetentionMethods,
    SqlMethods,
):
    """A store of artifacts, executions, contexts and how they are connected.

    Takes what MLMD's takes: `ConnectionConfig` with `fake_database`, or `sqlite` whose
    `filename_uri` names the store's directory, or a URL as `eventstore.open` takes them; without it
    the store is in memory. Every put is one atomic commit, durable when the
    method returns. Safe to use from several threads; any number of processes may open one store.

    >>> import eventstore
    >>> config = eventstore.proto.ConnectionConfig()
    >>> config.fake_database.SetInParent()
    >>> store = eventstore.MetadataStore(config)
    >>> store.log_position()
    9
    """

    _remote: RemoteCalls | None = None

    def __init__(
        self,
        config: mlmd.ConnectionConfig | mlmd.MetadataStoreClientConfig,
        enable_upgrade_migration: bool = False,
        *,
        token: str | Path | None = None,
        store: str | None = None,
        replica: mlmd.MetadataStoreClientConfig | None = None,
    ) -> None:
        """Open the store that `config` names, creating it when there is none.

        `enable_upgrade_migration` unpacks a store that `downgrade_schema` has packed, and makes a
        store of what ML Metadata has in a database of MySQL or PostgreSQL that has none. A
        server is asked for nothing yet: the first call raises UnavailableError if it cannot be
        reached. `token` says to a server who calls, or names a file that does, which is read again
        when it changes; `store` is the one that is meant, of several. Without them they are those
        of `EVENTSTORE_TOKEN`, `EVENTSTORE_TOKEN_FILE` and `EVENTSTORE_STORE` in the environment.
        Gets of MLMD's API are answered by a `replica` of the server, if there is one; what was put
        through this store is seen there.

        Raises ValueError for anything but the two configurations, and for a migration behind a
        server; RuntimeError when the store cannot be opened.
        """
        if isinstance(config, mlmd.MetadataStoreClientConfig):
            if enable_upgrade_migration:
                raise ValueError(
                    "enable_upgrade_migration cannot be used with a server: migrate there"
                )
            credentials = credentials_of(token, store, os.environ)
            self._connect(config, credentials, Attribution(), replica)
            return
        if not (token is store is replica is None):
            raise ValueError(
                "token, store and replica are for a server: a ConnectionConfig names the store"
            )
        if not isinstance(config, mlmd.ConnectionConfig):
            # What it is may have a password in it.
            raise ValueError(
                "MetadataStore takes a ConnectionConfig or a MetadataStoreClientConfig, not a "
                f"{type(config).__name__}: eventstore.open takes a path or a URL"
            )
        try:
            engine = open_configured(config, upgrade=enable_upgrade_migration)
        except errors.StatusError as error:
            raise RuntimeError(error.message) from error
        retries = RETRIES
        if config.HasField("retry_options"):
            retries = config.retry_options.max_num_retries
        self._set_up(engine, retries)

    @classmethod
    def _of(cls, engine: Engine) -> MetadataStore:
        store = cls.__new__(cls)
        store._set_up(engine, RETRIES)
        return store

    @classmethod
    def _at(cls, url: StoreUrl, attribution: Attribution) -> MetadataStore:
        """The store behind a server, as whose user or whoever is named."""
        from eventstore.metadata_store.server_urls import server_of

        config, name = server_of(url, os.environ)
        store = cls.__new__(cls)
        store._connect(config, credentials_of(None, name, os.environ), attribution)
        return store

    def _set_up(self, engine: Engine, retries: int) -> None:
        self._engine = engine
        # Under this name, which tests of MLMD's ask for.
        self._max_num_retries = retries
        MetadataWriter.__init__(self, LocalCalls(engine, retries=retries))
        SourceMethods.__init__(self, Source(engine))

    def _connect(
        self,
        config: mlmd.MetadataStoreClientConfig,
        credentials: Credentials,
        attribution: Attribution,
        replica: mlmd.MetadataStoreClientConfig | None = None,
    ) -> None:
        # Not at the top: a store in this process needs no gRPC.
        try:
            from eventstore.metadata_store.behind_server import RemoteSource
            from eventstore.metadata_store.remote_calls import RemoteCalls
        except ImportError as error:
            raise RuntimeError(
                "a client of a server needs a package that is missing: pip install "
                f"'mlmd-eventstore[server]' ({error})"
            ) from None
        calls = RemoteCalls(config, credentials, attribution, replica)
        self._remote = calls
        self._max_num_retries = RETRIES
        source: Any = RemoteSource(calls)
        self._engine = source.engine
        MetadataWriter.__init__(self, calls)
        SourceMethods.__init__(self, source)

    def __repr__(self) -> str:
        # Not even a server is asked for it.
        at = f", position {self._engine.log.position}" if self._source.is_here else ""
        return f"<MetadataStore {self._source.name}{at}>"

    def __enter__(self) -> MetadataStore:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release files and threads, or the connection to a server.

        Puts are durable without it; a later opening is faster.
        """
        if self._remote is not None:
            self._remote.close()
        else:
            self._engine.close()

    @property
    def pipeline_asset(self) -> None:
        """Always None, as in MLMD's open source."""
        _LOGGER.warning("pipeline_asset is None: this store has no pipeline assets")

    # Positions and moments, and who puts

    @served("read")
    def log_position(self) -> Position:
        """The position of the newest record, other processes' included."""
        return self._source.position()

    @property
    def max_staleness(self) -> float:
        """For how many seconds reads may miss what others have put; 0 unless it was set.

        With 0 each read asks the log what is new, so that it sees all that was acknowledged before
        it began, wherever that was. Else a read asks only if nobody has asked through this store
        for so long. What is put by this store is always read. Raises InvalidArgumentError for what
        is no number of seconds.
        """
        return self._engine.max_staleness if self._source.is_here else 0.0

    @max_staleness.setter
    def max_staleness(self, seconds: float) -> None:
        self._engine.max_staleness = checked_seconds(seconds, "max_staleness")

    def wait_for(self, position: int, *, timeout: float | None = None) -> Position:
        """Wait until reads of this store see a position; the newest that they see then.

        For a process that was told of a position by whoever put. What this store puts ends the wait
        at once; what others put is looked for after 5 ms, then with pauses that grow to 1 s.

        Raises InvalidArgumentError for what is no position or no number of seconds, and
        DeadlineExceededError when `timeout` seconds are over; without it waits for ever.
        """
        if isinstance(position, bool) or not isinstance(position, int) or position < 0:
            raise errors.InvalidArgumentError(f"{position!r} is no position: pass a whole number")
        seconds = threading.TIMEOUT_MAX if timeout is None else checked_seconds(timeout, "timeout")
        if self._source.is_here:
            return self._engine.wait_for(position, seconds)
        until = time.monotonic() + seconds
        while True:
            left = max(until - time.monotonic(), 0.0)
            reached = self._reached(position, min(left, _WAIT_SECONDS))
            if reached >= position:
                return reached
            if not left:
                raise errors.DeadlineExceededError(
                    f"the log is at position {reached} and did not reach {position} within "
                    f"{seconds:g} s: wait for longer, or see whether it is still put to"
                )

    @served("read", rpc="WaitFor")
    def _reached(self, position: int, seconds: float) -> Position:
        """The newest position, once it is not before another, or after some seconds."""
        with suppress(errors.DeadlineExceededError):
            return self._engine.wait_for(position, min(seconds, _WAIT_SECONDS))
        return self._source.position()

    def as_of(self, moment: int | datetime) -> AsOfStore:
        """A read-only store that answers every get as of a moment.

        A moment is a position of the log, an aware datetime, or milliseconds since the epoch: whole
        numbers from 100,000,000,000 (March 1973) on are milliseconds. A time stands for the last
        commit recorded at or before it, a position inside a commit for the last whole commit before
        it. What is put later does not change the answers.

        Raises InvalidArgumentError for a datetime without time zone, a moment before the first
        commit or in the future, and a position beyond the newest.

        >>> then = store.log_position()
        >>> dataset.state = dataset.MARKED_FOR_DELETION
        >>> store.put_artifacts([dataset])
        [1]
        >>> store.as_of(then).get_artifacts_by_id([1])[0].state == dataset.LIVE
        True
        """
        position = self._position_of(moment)
        if self._remote is None:
            return AsOfStore._of(self._engine, position)
        from eventstore.metadata_store.behind_server import RemoteSource

        calls = self._remote.as_of(position)
        source: Any = RemoteSource(calls)
        return AsOfStore(calls, source, position)

    @served("read", rpc="PositionOf")
    def _position_of(
        self, moment: Moment, *, or_start: bool = False, said: str | None = None
    ) -> Position:
        position = position_of(self._source.log, moment, or_start=or_start, said=said)
        # Another thread may have just appended it. An answer must not change once it is seen.
        self._source.projections.catch_up()
        return position

    @served("read", rpc="RangeOf")
    def _range_of(
        self,
        since: Moment | None,
        until: Moment | None,
        *,
        said: tuple[str | None, str | None] = (None, None),
    ) -> tuple[Position, Position]:
        return range_of(self._source.log, since, until, said=said)

    @served("read", rpc="RecordedAt")
    def _recorded_at(self, position: int) -> datetime:
        return moment_of(self._source.log.recorded_at(position))

    @contextmanager
    def acting(
        self,
        *,
        actor: str | None = None,
        reason: str | None = None,
        request_id: str | None = None,
    ) -> Iterator[None]:
        """Record who puts and why with every put of the block, by this thread or task alone.

        Blocks nest: what one does not say, the block around it says, and in the end the
        store. Without any actor it is the user of the operating system.

        A request id identifies a put when it is repeated, even by another process or after a
        restart: the same put is acknowledged with the same response and not applied again. So it is
        for one put; a put that changed nothing leaves no trace of it. A different put under a known
        request id raises AlreadyExistsError. Raises InvalidArgumentError for an empty text, or one
        beyond 64 KiB.

        >>> with store.acting(actor="nightly", reason="retraining", request_id="run-7"):
        ...     store.put_artifacts([dataset])
        [1]
        """
        attribution = checked_attribution(actor, reason, request_id)
        with acting_for(self._remote or self._engine, attribution):
            yield

    @served("read")
    def follow(
        self,
        after: int | None = None,
        *,
        stop: threading.Event | None = None,
        poll_seconds: float = 0.2,
    ) -> Iterator[Commit]:
        """The commits after a position (the newest), then each new one, whoever puts it.

        Waits for new ones until `stop` is set, looking every `poll_seconds`; a writer may stop and
        start meanwhile. Raises InvalidArgumentError for a position that is not in the log.

        >>> for commit in store.follow(after=0):
        ...     print(commit.number, commit.records[0].actor)
        ...     break
        1 ana
        """
        from eventstore.history import follow

        start = self.log_position() if after is None else after
        return follow(self._source.log, start, stop=stop, poll_seconds=poll_seconds)

    @property
    def log(self) -> Log:
        """The log itself: records and commits as they were appended. A server has no such thing."""
        return self._source.log


class AsOfStore(
    MetadataReader,
    AuditMethods,
    HistoryMethods,
    LineageMethods,
    NotebookMethods,
    RetentionReads,
    SqlMethods,
):
    """The gets of a store as of one position. A put fails with FailedPreconditionError."""

    def __init__(self, calls: Calls, source: Source, position: Position) -> None:
        MetadataReader.__init__(self, calls)
        SourceMethods.__init__(self, source)
        self._position = position

    @classmethod
    def _of(cls, engine: Engine, position: Position) -> AsOfStore:
        return cls(LocalCalls(engine, as_of=position), Source(engine, position), position)

    def __repr__(self) -> str:
        return f"<AsOfStore {self._source.name}, as of position {self._position}>"

    def log_position(self) -> Position:
        """The position that this store answers as of."""
        return self._position

    def __getattr__(self, name: str) -> Any:
        if name.startswith("put_") and hasattr(MetadataStore, name):
            raise errors.FailedPreconditionError(
                f"{name}: this store answers as of position {self._position} and takes no puts; "
                "put to the store that as_of was called on"
            )
        raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")


def open_store(
    path: str | Path,
    *,
    read_only: bool = False,
    actor: str | None = None,
    reason: str | None = None,
    cache_folder: str | Path | None = None,
    max_staleness: float = 0.0,
) -> MetadataStore:
    """Open a store, creating it when there is none.

    `path` is that of a directory, or a URL: `file://`, `memory://` (a new store that is gone
    once it is closed), or one for which a package is installed, such as `postgresql://`. In a path
    nothing is expanded, `~` neither. No message shows a URL's password. `grpc://host:port` is the
    store behind a server, `grpcs://` with TLS, and `grpc://host:port/name` one of several; the
    environment says who calls: see docs/server.md. It takes `actor` and `reason` alone.

    With `read_only` nothing is written there, and a missing store is an error. `actor` and `reason`
    are recorded with every put that is not in an `acting` block which says otherwise; without an
    actor it is the user of the operating system. `cache_folder` is where caches of a store lie that
    is in no directory; else they are in the user's folder for caches. `max_staleness` is for how
    many seconds reads may miss what others have put: see `MetadataStore.max_staleness`.

    Raises InvalidArgumentError (an empty actor or reason, a scheme that nothing installed opens),
    NotFoundError, PermissionDeniedError, FailedPreconditionError (a path that is no store, a newer
    format, a package that is missing) and DataLossError (a damaged store).
    """
    attribution = checked_attribution(actor, reason, None)
    staleness = checked_seconds(max_staleness, "max_staleness")
    place = place_of(path)
    if is_server(place):
        if read_only or cache_folder is not None or staleness:
            raise errors.InvalidArgumentError(
                f"{place} is a server: read_only, cache_folder and max_staleness are for a store "
                "that is opened here"
            )
        return MetadataStore._at(place, attribution)
    engine = open_place(
        place,
        read_only=read_only,
        attribution=attribution,
        cache_folder=None if cache_folder is None else named_path(cache_folder),
    )
    engine.max_staleness = staleness
    return MetadataStore._of(engine)


def checked_seconds(seconds: float, said: str) -> float:
    """A time that somebody gives. Raises InvalidArgumentError for what is none."""
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    # NaN is in no range.
    if not is_number or not 0 <= seconds <= threading.TIMEOUT_MAX:
        raise errors.InvalidArgumentError(
            f"{said} is {seconds!r}: use a number of seconds, from 0 to {threading.TIMEOUT_MAX:.0f}"
        )
    return float(seconds)
