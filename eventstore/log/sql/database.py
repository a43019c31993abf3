"""A connection to a SQL database that mends itself, and what its errors mean."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.sql.compiler import SQLCompiler

from eventstore import errors
from eventstore.late_logger import late_logger
from eventstore.log.forking import renew_in_children
from eventstore.log.sql.database_errors import (
    is_missing_database,
    is_nobody_there,
    is_passing,
    is_taken,
    translated,
)
from eventstore.times import Microseconds

_LOGGER = late_logger("eventstore.log")
_Answer = TypeVar("_Answer")

RETRIES_DEFAULT: Final = 10
_FIRST_WAIT_SECONDS: Final = 0.05
_LONGEST_WAIT_SECONDS: Final = 2.0

_NEVER_THERE_SECONDS: Final = 10.0
"""A server that has never answered is asked no more after that time."""

_STATEMENT_BYTES: Final = 1_024
"""The words and numbers of an insertion are shorter."""

_OPTIONS_OF_PLACE: Final = ("hostaddr", "options", "service", "unix_socket")
"""Those that may lead to another server or schema."""

_OF_MYSQL: Final = {"init_command": "SET SESSION completion_type = 'NO_CHAIN'"}
"""A server may be set to close a connection as it commits."""

_SYNCHRONOUS: Final = sa.text(
    "SELECT set_config('synchronous_commit', 'on', false) "
    "WHERE current_setting('synchronous_commit') = 'off'"
)
"""A commit is durable when a put returns, whatever the server does for others."""

_PARENTS: Final[list[sa.Connection]] = []
"""Connections of the process that this one was forked from: closing them would end its sessions."""


class Database:
    """A database on a server. Safe to use from several threads.

    One connection is held, for what is asked often; other work gets connections of its own. What
    meets a connection that is lost is tried again, `retries_max` times, with growing pauses. Where
    that is not given, a server that has never answered is not waited for: it may be mistyped.
    """

    def __init__(
        self,
        url: sa.URL,
        connect_options: Mapping[str, Any] | None = None,
        *,
        retries_max: int | None = None,
    ) -> None:
        self.name = _shown(url)
        self.place = _place(url, connect_options or {})
        """The same and what else tells it from other databases; no password."""
        self.url = url
        self.is_mysql = url.get_backend_name() in ("mysql", "mariadb")
        self._retries_max = RETRIES_DEFAULT if retries_max is None else retries_max
        self._was_there = retries_max is not None
        """Whether a server is waited for that is not there."""
        self._is_closed = False
        self._mutex = threading.RLock()
        self._held: sa.Connection | None = None
        self._cursor: Any = None
        self._statement_bytes_max = 0
        """How long a statement may be; 0 where nothing limits it."""
        self.on_connect: Callable[[sa.Connection], None] | None = None
        """Called with each connection that is to be held."""
        self.connect_options = dict(connect_options or {})
        """With the URL, how a driver connects."""
        if self.is_mysql and "init_command" not in url.query:
            self.connect_options = _OF_MYSQL | self.connect_options
        self._engine = sa.create_engine(
            url,
            connect_args=self.connect_options,
            poolclass=sa.NullPool,
            isolation_level="AUTOCOMMIT",
            # Closing says it to the server, if it is there.
            pool_reset_on_return=None,
            hide_parameters=True,
        )
        assert self._engine.dialect.dbapi is not None
        self._driver = self._engine.dialect.dbapi
        self._texts: dict[object, SQLCompiler] = {}
        renew_in_children(self)

    def after_fork_in_child(self) -> None:
        """Leave the connection to the parent."""
        self._mutex = threading.RLock()
        if self._held is not None:
            _PARENTS.append(self._held)
        self._held = self._cursor = None

    def close(self) -> None:
        """Close the connection. Nothing can be asked any more."""
        with self._mutex:
            self._is_closed = True
            self._let_go()

    def make_missing(self) -> None:
        """Make the database where its server has none of that name.

        Raises PermissionDeniedError when the user may not.
        """
        try:
            with self._engine.connect():
                return
        except sa.exc.DBAPIError as error:
            if not is_missing_database(_met(error)):
                # Whoever asks something next is told, or finds the server back.
                return
        url = self._engine.url
        name = self._engine.dialect.identifier_preparer.quote_identifier(str(url.database))
        elsewhere = sa.create_engine(
            url.set(database="" if self.is_mysql else "postgres"),
            connect_args=self.connect_options,
            poolclass=sa.NullPool,
            isolation_level="AUTOCOMMIT",
        )
        try:
            with elsewhere.connect() as connection:
                connection.exec_driver_sql(f"CREATE DATABASE {name}")
        except sa.exc.DBAPIError as error:
            if not is_taken(_met(error)):
                raise translated(_met(error), "making the database", self.name) from None

    def first_value(self, statement: sa.Select[Any]) -> Any:
        """The only value of the only row that a statement without parameters gives."""

        def ask() -> Any:
            self._connection()
            return self._run(statement, {}).fetchone()[0]

        return self._retried("reading", ask)

    def now(self) -> Microseconds:
        """The time by the server's clock."""
        seconds = "unix_timestamp(now(6))" if self.is_mysql else "extract(epoch FROM now())"
        found = self.first_value(sa.select(sa.literal_column(seconds)))
        return Microseconds(int(found * 1_000_000))

    def rows(self, statement: sa.Select[Any]) -> Sequence[Any]:
        """All rows of a statement."""
        return self._retried("reading", lambda: self._connection().execute(statement).all())

    def insert_once(
        self, insert: sa.Insert, row: Mapping[str, Any], *, is_there: sa.Select[Any]
    ) -> bool | None:
        """Insert a row whose key may be taken; whether it is there afterwards, and nobody else's.

        None when a condition of the statement did not hold. `is_there` has a row when it is there;
        its parameters are values of the row.
        Where the connection is lost meanwhile, the same row is inserted again: the key tells then
        whether the first time has succeeded. Raises OutcomeUnknownError when that cannot be asked,
        ResourceExhaustedError when the row is longer than the server takes.
        """
        is_sent = False

        def put() -> bool | None:
            nonlocal is_sent
            connection = self._connection()
            self._refuse_too_long(row)
            was_sent, is_sent = is_sent, True
            try:
                is_inserted = self._run(insert, row).rowcount == 1
            except self._driver.IntegrityError:
                is_sent = was_sent
                return was_sent and connection.execute(is_there, row).first() is not None
            except self._driver.Error as error:
                is_sent = was_sent or is_passing(error)
                raise
            return True if is_inserted else None

        try:
            return self._retried("putting in", put)
        except errors.UnavailableError as error:
            if not is_sent:
                raise errors.UnavailableError(f"{error.message}; nothing was put") from None
            raise errors.OutcomeUnknownError(
                f"{error.message}; whether the commit was kept is not known: look for it before "
                "you put it once more"
            ) from None

    def ask(self, statement: sa.Select[Any]) -> Any:
        """The only value of the only row of a statement."""
        return self._retried("asking", lambda: self._connection().execute(statement).scalar_one())

    @contextmanager
    def transaction(self, doing: str) -> Iterator[sa.Connection]:
        """A connection of its own, whose statements take effect together, when the block ends.

        Nothing is tried again. Errors name what was `doing`, a verb in -ing; IntegrityError passes.
        """
        try:
            with self._engine.connect() as connection:
                connection = connection.execution_options(isolation_level="READ COMMITTED")
                with connection.begin():
                    yield connection
        except sa.exc.IntegrityError:
            raise
        except sa.exc.DBAPIError as error:
            raise translated(_met(error), doing, self.name) from None

    def connected(self, doing: str, ask: Callable[[sa.Connection], _Answer]) -> _Answer:
        """The answer of `ask` on a connection of its own, where each statement takes effect."""

        def connect() -> _Answer:
            with self._engine.connect() as connection:
                self._was_there = True
                return ask(connection)

        return self._retried(doing, connect)

    def _run(self, statement: sa.Select[Any] | sa.Insert, parameters: Mapping[str, Any]) -> Any:
        """Run a statement on the held connection, which must be there; the cursor with its rows.

        Without SQLAlchemy, which would take as long again as the server: errors are the driver's.
        """
        compiled = self._texts.get(statement)
        if compiled is None:
            compiled = self._texts[statement] = statement.compile(self._engine)
        given: Any = parameters
        if compiled.positiontup is not None:
            given = [parameters[name] for name in compiled.positiontup]
        self._cursor.execute(compiled.string, given)
        return self._cursor

    def _connection(self) -> sa.Connection:
        if self._is_closed:
            raise errors.FailedPreconditionError(f"the store {self.name} is closed: open it again")
        if self._held is None:
            connection = self._engine.connect()
            self._was_there = True
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
            self._cursor = connection.connection.cursor()
            self._held = connection
        return self._held

    def _prepare(self, connection: sa.Connection) -> None:
        """Learn from a new connection what is to be known before it is used."""
        if self.is_mysql:
            statement = sa.text("SELECT @@max_allowed_packet")
            self._statement_bytes_max = int(connection.execute(statement).scalar_one())
        else:
            connection.execute(_SYNCHRONOUS)
        if self.on_connect is not None:
            self.on_connect(connection)

    def _refuse_too_long(self, row: Mapping[str, Any]) -> None:
        if not self._statement_bytes_max:
            return
        size = sum(len(value) for value in row.values() if isinstance(value, bytes))
        # PyMySQL writes bytes in hexadecimal.
        if 2 * size > self._statement_bytes_max - _STATEMENT_BYTES:
            raise errors.ResourceExhaustedError(
                f"the commit has {size} bytes, which take two each in a statement, and {self.name} "
                f"takes {self._statement_bytes_max}; nothing was put: put less at a time, or raise "
                "max_allowed_packet of the server"
            )

    def _let_go(self) -> None:
        """Close the held connection, whatever state it is in."""
        held, self._held, self._cursor = self._held, None, None
        if held is not None:
            try:
                held.invalidate()
                held.close()
            except sa.exc.SQLAlchemyError as error:
                _LOGGER.debug("closing a lost connection to %s: %s", self.name, error)

    def _retried(self, doing: str, ask: Callable[[], _Answer]) -> _Answer:
        """The answer of `ask`, asked again while the connection is lost."""
        wait = _FIRST_WAIT_SECONDS
        with self._mutex:
            began = time.monotonic()
            for retry in range(self._retries_max + 1):
                try:
                    return ask()
                except errors.StatusError:
                    raise
                except (sa.exc.DBAPIError, self._driver.Error) as error:
                    met = _met(error)
                    # Of others nothing is known, such as whether an answer is still to come.
                    self._let_go()
                    is_in_vain = not is_passing(met) or (
                        not self._was_there
                        and (
                            is_nobody_there(met) or time.monotonic() - began > _NEVER_THERE_SECONDS
                        )
                    )
                    if retry == self._retries_max or is_in_vain:
                        raise translated(met, doing, self.name) from None
                except BaseException:
                    # An interrupt may come between a question and its answer.
                    self._let_go()
                    raise
                time.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT_SECONDS)
        raise AssertionError("the last try returns or raises")


def _met(error: Exception) -> Exception:
    """The driver's own error."""
    met = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    assert isinstance(met, Exception)
    return met


def _place(url: sa.URL, options: Mapping[str, Any]) -> str:
    told = [f"{name}={options[name]}" for name in _OPTIONS_OF_PLACE if name in options]
    return " ".join((_shown(url), *told))


def _shown(url: sa.URL) -> str:
    """The URL without the password and without options, for messages."""
    plain = sa.URL.create(
        url.get_backend_name(), url.username, None, url.host, url.port, url.database
    )
    return plain.render_as_string()
