"""MLMD's databases on servers: MySQL, MariaDB and PostgreSQL, through SQLAlchemy."""

from __future__ import annotations

import base64
import importlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote

from eventstore import errors
from eventstore.importing.mlmd_source import Row

if TYPE_CHECKING:
    import sqlalchemy


class _Kind(NamedTuple):
    """What servers of a kind have of their own."""

    name: str
    driver: str
    extra: str
    steps_in_order: str
    schema: str
    """The schema that holds the tables, in SQL."""

    last_ids: str
    set_up: str
    """Run once after connecting."""

    connect_arguments: dict[str, object]
    value: Callable[[Any], Any]
    """What a value means, of texts those that are not ASCII alone."""


_CONNECT_SECONDS: Final = 10
_ANSWER_SECONDS: Final = 600
"""A server that says nothing for longer is out of reach."""

# Where MySQL's latin1 differs from ISO 8859-1.
_LATIN1: Final = {
    ord(bytes([byte]).decode("cp1252")): byte
    for byte in range(0x80, 0xA0)
    if byte not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)
}


def _mysql_value(value: Any) -> Any:
    """A text as MLMD reads it.

    MLMD says to the server that its UTF-8 is latin1, so that `ä` is stored as `Ã¤`. A text that
    cannot have come to be in that way, as where the server pays no heed to it, is what it says.
    """
    if not isinstance(value, str):
        return value
    try:
        return value.translate(_LATIN1).encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value


def _postgresql_value(value: Any) -> Any:
    """Bytes as base64, as the other databases have them: MLMD stores messages as they are here."""
    return base64.b64encode(value) if isinstance(value, bytes) else value


_MYSQL: Final = _Kind(
    name="a MySQL database",
    driver="pymysql",
    extra="mysql",
    # InnoDB has no number of a row to ask for, and gives those of an index in their order.
    steps_in_order="",
    schema="database()",
    last_ids="""
        SELECT table_name AS name, auto_increment - 1 AS last FROM information_schema.tables
        WHERE table_schema = database()
    """,
    set_up="SET SESSION TRANSACTION READ ONLY",
    connect_arguments={
        "charset": "utf8mb4",
        "connect_timeout": _CONNECT_SECONDS,
        "read_timeout": _ANSWER_SECONDS,
    },
    value=_mysql_value,
)
_POSTGRESQL: Final = _Kind(
    name="a PostgreSQL database",
    driver="psycopg",
    extra="postgresql",
    steps_in_order="ORDER BY ctid",
    schema="current_schema()",
    last_ids="""
        SELECT replace(sequencename, '_id_seq', '') AS name, last_value AS last FROM pg_sequences
        WHERE schemaname = current_schema()
    """,
    set_up="SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    connect_arguments={
        # Whatever the server's is: psycopg decodes no texts of SQL_ASCII.
        "client_encoding": "UTF8",
        "connect_timeout": _CONNECT_SECONDS,
        "keepalives_idle": 60,
        "keepalives_interval": 15,
        "keepalives_count": 4,
    },
    value=_postgresql_value,
)

KINDS: Final = {
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
    "postgresql": _POSTGRESQL,
    "postgres": _POSTGRESQL,
}
"""By the scheme of a URL."""


class ServerSource:
    """An MLMD database on a server. `begin` makes a snapshot, which holds up nobody."""

    hidden = " that this user may read"

    def __init__(
        self, url: str | sqlalchemy.URL, options: Mapping[str, object] | None = None
    ) -> None:
        """Connects with `begin`, by the driver's `options` as well.

        Raises FailedPreconditionError without the driver.
        """
        scheme = url.partition(":")[0] if isinstance(url, str) else url.get_backend_name()
        self._kind = KINDS[scheme]
        self.kind = self._kind.name
        self.steps_in_order = self._kind.steps_in_order
        alchemy = _required("sqlalchemy", self._kind.extra)
        _required(self._kind.driver, self._kind.extra)
        try:
            parsed = alchemy.make_url(url)
        except (alchemy.exc.ArgumentError, ValueError):
            # What is wrong with it may be the password.
            raise errors.InvalidArgumentError(
                f"the URL that starts with {scheme}:// cannot be read: write "
                f"{scheme}://user:password@host:port/database, with %40 for an @ in the password"
            ) from None
        if not parsed.database:
            raise errors.InvalidArgumentError(
                f"the URL of {parsed.host or scheme} names no database: put its name at the end, "
                f"as in {scheme}://user@host/metadb"
            )
        self.name = parsed._replace(drivername=scheme, password=None, query={}).render_as_string()
        self.short_name = self.name
        dialect = "mysql+pymysql" if self._kind is _MYSQL else "postgresql+psycopg"
        is_asked = isinstance(url, str) and parsed.password is None and self._kind is _MYSQL
        if is_asked and "MYSQL_PWD" in os.environ:
            parsed = parsed.set(password=os.environ["MYSQL_PWD"])
        self._secret = str(parsed.password or "")
        self._sqlalchemy = alchemy
        self._engine = alchemy.create_engine(
            parsed.set(drivername=dialect),
            connect_args={
                **(options or {}),
                **self._kind.connect_arguments,
                # PyMySQL would encode a text in Latin-1.
                **(
                    {"password": self._secret.encode(errors="surrogateescape")}
                    if self._kind is _MYSQL
                    else {}
                ),
            },
            isolation_level="REPEATABLE READ",
            poolclass=alchemy.NullPool,
            hide_parameters=True,
        )
        self._connection: sqlalchemy.Connection | None = None

    def begin(self) -> None:
        try:
            if self._connection is None:
                self._connection = self._engine.connect()
                self._connection.exec_driver_sql(self._kind.set_up)
                self._connection.commit()
            self._connection.begin()
        except Exception as error:
            raise self._translated(error) from None

    def end(self) -> None:
        if self._connection is not None:
            try:
                self._connection.rollback()
            except self._sqlalchemy.exc.SQLAlchemyError:
                self._disconnect()

    def rows(self, sql: str, parameters: Mapping[str, int | Sequence[int]]) -> Sequence[Row]:
        assert self._connection is not None, "begin comes first"
        lists = [
            self._sqlalchemy.bindparam(name, expanding=True)
            for name, value in parameters.items()
            if not isinstance(value, int)
        ]
        try:
            result = self._connection.execute(
                self._sqlalchemy.text(sql).bindparams(*lists), dict(parameters)
            )
            names = list(result.keys())
            rows = result.fetchall()
        except Exception as error:
            raise self._translated(error) from None
        return [dict(zip(names, map(self._value, row), strict=True)) for row in rows]

    def tables(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for row in self.rows(
            f"""
            SELECT lower(table_name) AS table_name, lower(column_name) AS column_name
            FROM information_schema.columns WHERE table_schema = {self._kind.schema}
            """,
            {},
        ):
            found.setdefault(row["table_name"], set()).add(row["column_name"])
        return found

    def last_ids(self) -> dict[str, int]:
        return {
            str(row["name"]).title(): int(row["last"])
            for row in self.rows(self._kind.last_ids, {})
            if row["last"] is not None
        }

    def close(self) -> None:
        self._disconnect()
        self._engine.dispose()

    def _disconnect(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            # What is broken may not even be closed.
            connection.invalidate()
            connection.close()

    def _value(self, value: Any) -> Any:
        if isinstance(value, int | float) or value is None:
            return value
        return value if isinstance(value, str) and value.isascii() else self._kind.value(value)

    def _translated(self, error: Exception) -> errors.StatusError:
        cause: Any = getattr(error, "orig", None) or error
        said = self._without_password(" ".join(str(part) for part in cause.args))
        codes = (*cause.args[:1], getattr(cause, "sqlstate", None))
        by_code = [_ERRORS[code] for code in codes if code in _ERRORS]
        by_text = [known for pattern, known in _SAID.items() if re.search(pattern, said)]
        found = next(iter(by_code + by_text), None)
        if found is not None:
            return found.error(f"{self.name}: {found.what} ({said})")
        if isinstance(error, self._sqlalchemy.exc.DataError | UnicodeError):
            return errors.DataLossError(f"{self.name} cannot be read: {said}")
        known = self._sqlalchemy.exc
        if isinstance(
            error,
            known.OperationalError
            | known.InterfaceError
            | known.InternalError
            | known.InvalidRequestError,
        ):
            # The connection cannot be used any more, or may not be.
            self._disconnect()
            return errors.UnavailableError(
                f"{self.name} is out of reach: {said}; check that the server runs, and try again"
            )
        return errors.FailedPreconditionError(f"{self.name} cannot be read: {said}")

    def _without_password(self, text: str) -> str:
        for secret in (self._secret, quote(self._secret, safe="")):
            if secret:
                text = text.replace(secret, "***")
        return " ".join(text.split())


class _Refusal(NamedTuple):
    """What a server refuses for good."""

    error: Callable[[str], errors.StatusError]
    what: str


_WRONG_PASSWORD: Final = _Refusal(
    errors.UnauthenticatedError,
    "the server does not let this user in: check the name and the password",
)
_NO_DATABASE: Final = _Refusal(
    errors.NotFoundError,
    "there is no such database: check its name",
)
_NO_RIGHT: Final = _Refusal(
    errors.PermissionDeniedError,
    "this user may not read it: grant SELECT on all of its tables",
)
_ERRORS: Final[dict[object, _Refusal]] = {
    **dict.fromkeys((1045, 1698, "28P01", "28000"), _WRONG_PASSWORD),
    **dict.fromkeys((1049, "3D000"), _NO_DATABASE),
    **dict.fromkeys((1044, 1142, 1143, "42501"), _NO_RIGHT),
}
"""By MySQL's number of an error, or PostgreSQL's SQLSTATE."""

_SAID: Final = {
    "password authentication failed|no password supplied": _WRONG_PASSWORD,
    'database ".*" does not exist': _NO_DATABASE,
    "permission denied for database": _NO_RIGHT,
}
"""PostgreSQL's library gives no SQLSTATE of what a server says before it lets somebody in."""


def _required(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise errors.FailedPreconditionError(
            f"importing from this server needs the package {module}: "
            f"pip install 'mlmd-eventstore[{extra}]'"
        ) from None
