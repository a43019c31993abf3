"""From a connection configuration, or a path, to an open store."""

from __future__ import annotations

import contextlib
import getpass
import os
import sys
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from eventstore import errors
from eventstore.log import Log, MemoryLog
from eventstore.log.os_errors import translated, translating
from eventstore.log.packing import is_packed, unpack
from eventstore.log.places import Place, StoreUrl, is_url, open_at, refuse_authority
from eventstore.log.stores import is_store, open_log, settle
from eventstore.projections import Projections
from eventstore.projections.limits import LIMITS, Limits
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.store import Engine
from eventstore.store.attribution import Attribution

_SQLITE_MAGIC = b"SQLite format 3\x00"
_Mode = mlmd.SqliteMetadataSourceConfig
_IN_MEMORY = ":memory:"
_MEMORY_URL = StoreUrl("memory://")
_UNABLE = "unable to open database file"
"""What programs written for MLMD look for in the error."""


def open_configured(
    config: mlmd.ConnectionConfig, *, upgrade: bool, read_only: bool = False
) -> Engine:
    """Open what `config` names; only with `upgrade` what that has to make a store of.

    That is a packed store, and a database on a server that has ML Metadata's tables alone.

    Raises `eventstore.errors` classes; InvalidArgumentError when nothing is configured.
    """
    chosen = config.WhichOneof("config")
    if chosen is None:
        raise errors.InvalidArgumentError(
            "Unset connection config: set fake_database or sqlite.filename_uri"
        )
    if chosen in ("mysql", "postgresql"):
        log = _sql_log(config, upgrade=upgrade and not read_only, read_only=read_only)
        return engine_of(log, read_only=read_only, saves_caches=read_only)
    if chosen == "fake_database" or not config.sqlite.filename_uri:
        return engine_of(MemoryLog())
    path, is_uri_read_only, must_exist = _parse_uri(config.sqlite.filename_uri)
    mode = config.sqlite.connection_mode
    read_only = read_only or is_uri_read_only or mode == _Mode.READONLY
    must_exist = must_exist or read_only or mode in (_Mode.READONLY, _Mode.READWRITE)
    if isinstance(path, StoreUrl):
        return open_place(path, read_only=read_only, must_exist=must_exist)
    with translating("opening", path):
        has_folder = path.absolute().parent.is_dir()
    if not has_folder:
        raise errors.NotFoundError(
            f"{_UNABLE}: there is no folder {path.absolute().parent} for the store {path.name}: "
            f"create it{', or write ~ out' if str(path).startswith('~') else ''}"
        )
    if upgrade:
        settle(path, read_only=read_only)
        if is_packed(path):
            unpack(path)
    try:
        return open_directory(path, read_only=read_only, must_exist=must_exist)
    except (errors.NotFoundError, errors.PermissionDeniedError) as error:
        raise type(error)(f"{_UNABLE}: {error.message}") from error
    except errors.FailedPreconditionError as error:
        if not path.is_dir() or is_store(path):
            raise
        raise errors.FailedPreconditionError(f"{_UNABLE}: {error.message}") from error


def _sql_log(config: mlmd.ConnectionConfig, *, upgrade: bool, read_only: bool) -> Log:
    """The log in the database of PostgreSQL or MySQL that is configured, made if it is missing.

    With `upgrade` it is made of what ML Metadata has there, if anything.
    """
    try:
        from eventstore.log.sql import connecting, opening
    except ImportError as error:
        extra = config.WhichOneof("config")
        raise errors.FailedPreconditionError(
            f"{extra} needs a package that is missing: pip install 'mlmd-eventstore[{extra}]' "
            f"({error})"
        ) from None
    database = connecting.of_config(config)
    try:
        if upgrade and opening.has_mlmd_alone(database):
            from eventstore.importing.in_place import import_in_place

            import_in_place(database, actor=operating_system_user())
    except BaseException:
        database.close()
        raise
    return opening.open_database(database, read_only=read_only, creates=not read_only)


def configured_path(config: mlmd.ConnectionConfig) -> Path:
    """Where the store that `config` names is kept. InvalidArgumentError when it is not on disk."""
    if config.WhichOneof("config") != "sqlite" or not config.sqlite.filename_uri:
        raise errors.InvalidArgumentError("the configuration names no sqlite.filename_uri")
    path = _parse_uri(config.sqlite.filename_uri)[0]
    if path == _MEMORY_URL:
        raise errors.InvalidArgumentError(
            f"{config.sqlite.filename_uri} is a store in memory: it is gone when it is closed"
        )
    if isinstance(path, StoreUrl):
        raise errors.InvalidArgumentError(f"{path} is no directory: only these have versions")
    return path


def open_place(
    place: Place,
    *,
    read_only: bool,
    must_exist: bool = False,
    saves_caches: bool = False,
    attribution: Attribution | None = None,
    cache_folder: Path | None = None,
) -> Engine:
    """Open the store at a place, creating it when there is none and that is allowed.

    `cache_folder` is where a log without a directory keeps its caches, if not where it usually
    does. All else is as in `open_directory`.
    """
    if isinstance(place, StoreUrl):
        creates = not read_only and not must_exist
        log = open_at(place, read_only=read_only, creates=creates, cache_folder=cache_folder)
        # Its caches are this user's own, so that who may only read the log keeps them, too.
        return engine_of(log, read_only=read_only, saves_caches=True, attribution=attribution)
    if cache_folder is not None:
        raise errors.InvalidArgumentError(
            f"{place} is a directory, in which its caches are: leave cache_folder out"
        )
    return open_directory(
        place,
        read_only=read_only,
        must_exist=must_exist,
        saves_caches=saves_caches,
        attribution=attribution,
    )


def open_directory(
    path: Path,
    *,
    read_only: bool,
    must_exist: bool = False,
    saves_caches: bool = False,
    attribution: Attribution | None = None,
    limits: Limits = LIMITS,
) -> Engine:
    """Open the store in a directory, creating it when there is none and that is allowed.

    With `saves_caches` what a read-only store folds is saved for later ones, if the store is this
    user's own: in another user's store our caches would be in the way of that user's processes.
    `attribution` is that of its puts; the actor is the operating system's user if it names none.
    """
    with translating("opening", path):
        settle(path, read_only=read_only)
        if path.is_file():
            raise _not_a_directory(path)
        log = open_log(path, read_only=read_only, creates=not read_only and not must_exist)
    saves = saves_caches and _is_own(path)
    return engine_of(
        log, read_only=read_only, saves_caches=saves, attribution=attribution, limits=limits
    )


def _is_own(path: Path) -> bool:
    try:
        return path.stat().st_uid == os.geteuid() and os.access(path, os.W_OK)
    except OSError:
        return False


def engine_of(
    log: Log,
    *,
    read_only: bool = False,
    saves_caches: bool = False,
    attribution: Attribution | None = None,
    limits: Limits = LIMITS,
) -> Engine:
    """What answers the calls of a store over a log, which it closes in the end."""
    if "IPython" in sys.modules:
        from eventstore.notebook import register

        register()
    default = Attribution(actor=operating_system_user()).overlaid(attribution or Attribution())
    with contextlib.ExitStack() as opened:
        opened.callback(log.close)
        projections = Projections(log, limits, read_only=read_only, saves=saves_caches)
        opened.callback(projections.close)
        engine = Engine(log, projections, default)
        if not read_only:
            engine.ensure_system_types()
            if projections.index.erasures.pending:
                from eventstore.retention.erasing import complete_at_opening

                complete_at_opening(engine)
        # By now the engine has to close them.
        opened.pop_all()
    return engine


def _parse_uri(filename_uri: str) -> tuple[Place, bool, bool]:
    """The place that a file name or URL names, whether read-only, whether it must exist.

    Where it begins with `file:`, as SQLite reads it.
    """
    if not is_url(filename_uri):
        in_memory = filename_uri == _IN_MEMORY
        return (_MEMORY_URL if in_memory else Path(filename_uri)), False, False
    url = StoreUrl(filename_uri)
    if url.scheme != "file":
        return url, False, False
    parts = urlsplit(filename_uri)
    refuse_authority(parts, url)
    mode = parse_qs(parts.query).get("mode", [""])[-1]
    if mode not in ("", "ro", "rw", "rwc", "memory"):
        raise errors.InvalidArgumentError(
            f"no such access mode: mode={mode} in {filename_uri!r}: use ro, rw, rwc or memory"
        )
    name = unquote(parts.path)
    if not name or name == _IN_MEMORY or mode == "memory":
        return _MEMORY_URL, False, False
    return Path(name), mode == "ro", mode in ("ro", "rw")


def _not_a_directory(path: Path) -> errors.StatusError:
    try:
        with open(path, "rb") as file:
            is_sqlite = file.read(len(_SQLITE_MAGIC)) == _SQLITE_MAGIC
    except OSError as error:
        return translated(error, "reading", path)
    if is_sqlite:
        return errors.FailedPreconditionError(
            f"{path} is an SQLite database, not a store: import it with "
            f"`eventstore import {path} {path.with_suffix('.store')}` and open the result"
        )
    if is_packed(path):
        return errors.FailedPreconditionError(
            f"{path} is a packed store (format version 0) and schema migration is disabled: open "
            "it with MetadataStore(config, enable_upgrade_migration=True)"
        )
    return errors.FailedPreconditionError(
        f"{path} is a file, a store is a directory: choose another path"
    )


def operating_system_user() -> str | None:
    """Who runs this process: the actor of its commits."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid()) if hasattr(os, "getuid") else None
