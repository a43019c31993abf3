"""From a URL, or MLMD's configuration, to a database of PostgreSQL or MySQL."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

import sqlalchemy as sa

from eventstore import errors
from eventstore.log.sql.database import Database
from eventstore.proto import metadata_store_pb2 as mlmd

_POSTGRESQL_OPTIONS: Final = frozenset(
    (
        *("application_name", "channel_binding", "connect_timeout", "gssencmode", "hostaddr"),
        *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "options"),
        *("passfile", "require_auth", "service", "sslcert", "sslcrl", "sslkey", "sslmode"),
        *("sslnegotiation", "sslpassword", "sslrootcert", "ssl_min_protocol_version"),
        *("target_session_attrs", "tcp_user_timeout"),
    )
)
_POSTGRESQL_DEFAULTS: Final = {
    "application_name": "eventstore",
    # Whatever the server's is: psycopg decodes no texts of SQL_ASCII.
    "client_encoding": "UTF8",
    "connect_timeout": "10",
    # A server that is gone without a word is noticed.
    "keepalives_idle": "30",
    "tcp_user_timeout": "30000",
}
_MYSQL_OPTIONS: Final = frozenset(
    (
        *("connect_timeout", "read_timeout", "socket", "ssl_ca", "ssl_capath", "ssl_cert"),
        *("ssl_cipher", "ssl_key", "ssl_verify_server_cert", "write_timeout"),
    )
)
_MYSQL_DEFAULTS: Final = {"connect_timeout": 10, "read_timeout": 120, "write_timeout": 120}
_TRUE: Final = frozenset(("1", "true", "yes", "on"))
_FALSE: Final = frozenset(("0", "false", "no", "off"))


def parted(text: str) -> tuple[str, str | None]:
    """A URL without its option `segments`, and that: where in object storage segments are kept."""
    address, mark, query = text.partition("?")
    options = query.split("&") if mark else []
    kept = [option for option in options if option.partition("=")[0] != "segments"]
    rest = f"{address}?{'&'.join(kept)}" if kept else address
    return rest, dict(parse_qsl(query, keep_blank_values=True)).get("segments")


def of_url(text: str) -> Database:
    """The database that a URL names: `postgresql://user:password@host:port/name?options`.

    Options are those of libpq for `postgresql://`; for `mysql://` they are `socket`, timeouts, and
    `ssl_ca` and others as MLMD's configuration has them. Raises InvalidArgumentError for others,
    which it names without their values.
    """
    scheme, _, rest = text.partition("://")
    address, _, query = rest.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    try:
        url = sa.make_url(f"{scheme}://{address}")
    except (sa.exc.ArgumentError, ValueError):
        raise errors.InvalidArgumentError(
            f"this {scheme} URL cannot be read: write {scheme}://user:password@host:port/database"
        ) from None
    is_mysql = url.get_backend_name() in ("mysql", "mariadb")
    unknown = options.keys() - (_MYSQL_OPTIONS if is_mysql else _POSTGRESQL_OPTIONS)
    if unknown:
        raise errors.InvalidArgumentError(
            f"there is no option {sorted(unknown)[0]} of {scheme} URLs: leave it out"
        )
    if not url.database:
        raise errors.InvalidArgumentError(
            f"this {scheme} URL names no database: write {scheme}://user:password@host:port/database"
        )
    if not is_mysql:
        return _postgresql(url, options)
    return _mysql(
        url,
        {name: value for name, value in options.items() if not name.startswith("ssl_")},
        {name[4:]: value for name, value in options.items() if name.startswith("ssl_")},
    )


def of_config(config: mlmd.ConnectionConfig) -> Database:
    """The database that `config.mysql` or `config.postgresql` names.

    It is made where it is missing, unless `skip_db_creation` says not to. Raises
    InvalidArgumentError when no database is named, and what `Database` does.
    """
    retries = None
    if config.retry_options.HasField("max_num_retries"):
        retries = max(config.retry_options.max_num_retries, 0)
    if config.WhichOneof("config") == "mysql":
        database, skips = _of_mysql(config.mysql, retries), config.mysql.skip_db_creation
    else:
        database = _of_postgresql(config.postgresql, retries)
        skips = config.postgresql.skip_db_creation
    if not skips:
        database.make_missing()
    return database


def _of_mysql(config: mlmd.MySQLDatabaseConfig, retries: int | None) -> Database:
    _refuse_unnamed(config.database, "mysql.database")
    url = sa.URL.create(
        "mysql",
        config.user or None,
        config.password or None,
        config.host or "localhost",
        config.port or None,
        config.database,
    )
    options = {"socket": config.socket} if config.socket else {}
    chosen = {field.name: str(value) for field, value in config.ssl_options.ListFields()}
    return _mysql(url, options, chosen, retries)


def _of_postgresql(config: mlmd.PostgreSQLDatabaseConfig, retries: int | None) -> Database:
    _refuse_unnamed(config.dbname, "postgresql.dbname")
    if config.port and not config.port.isdecimal():
        raise errors.InvalidArgumentError(f"postgresql.port is {config.port!r}: write a number")
    url = sa.URL.create(
        "postgresql",
        config.user or None,
        config.password or None,
        config.host or None,
        int(config.port) if config.port else None,
        config.dbname,
    )
    options = {name: getattr(config, name) for name in ("hostaddr", "passfile")}
    options |= {field.name: value for field, value in config.ssloption.ListFields()}
    return _postgresql(url, {name: value for name, value in options.items() if value}, retries)


def _refuse_unnamed(name: str, field: str) -> None:
    if not name:
        raise errors.InvalidArgumentError(f"the configuration names no database: set {field}")


def _postgresql(url: sa.URL, options: Mapping[str, str], retries: int | None = None) -> Database:
    return _database(
        url.set(drivername="postgresql+psycopg"), _POSTGRESQL_DEFAULTS | dict(options), retries
    )


def _mysql(
    url: sa.URL, options: Mapping[str, str], tls: Mapping[str, str], retries: int | None = None
) -> Database:
    given: dict[str, Any] = dict(_MYSQL_DEFAULTS)
    for name, value in options.items():
        if name == "socket":
            given["unix_socket"] = value
        elif value.isdecimal() and int(value):
            given[name] = int(value)
        else:
            raise errors.InvalidArgumentError(f"{name} is {value!r}: write a number of seconds")
    if url.password:
        # PyMySQL would encode a text in Latin-1.
        given["password"] = url.password.encode()
    if tls:
        given["ssl"] = _tls_context(tls)
    return _database(url.set(drivername="mysql+pymysql"), given, retries)


def _database(url: sa.URL, options: Mapping[str, Any], retries: int | None) -> Database:
    if url.port is not None and not 0 < url.port < 65_536:
        raise errors.InvalidArgumentError(f"there is no port {url.port}: write 1 to 65535")
    try:
        return Database(url, options, retries_max=retries)
    except ImportError as error:
        extra = url.get_backend_name()
        raise errors.FailedPreconditionError(
            f"{extra} needs a package that is missing: pip install 'mlmd-eventstore[{extra}]' "
            f"({error})"
        ) from None


def _tls_context(options: Mapping[str, str]) -> ssl.SSLContext:
    """TLS with these options of MLMD's, and never without it.

    A certificate of the server is checked if `ca` or `capath` is given, and its name as well if
    `verify_server_cert` is true.
    """
    ca, capath = options.get("ca") or None, options.get("capath") or None
    said = options.get("verify_server_cert", "false").lower()
    if said not in _TRUE | _FALSE:
        raise errors.InvalidArgumentError(
            f"the option ssl_verify_server_cert is {said!r}: write true or false, or leave it out"
        )
    verifies = said in _TRUE
    try:
        context = ssl.create_default_context(cafile=ca, capath=capath)
        context.check_hostname = verifies
        if not (verifies or ca or capath):
            context.verify_mode = ssl.CERT_NONE
        if options.get("cert"):
            context.load_cert_chain(options["cert"], options.get("key") or None, lambda: "")
        if options.get("cipher"):
            context.set_ciphers(options["cipher"])
    except (OSError, ssl.SSLError, ValueError) as error:
        files = [options[name] for name in ("ca", "capath", "cert", "key") if options.get(name)]
        raise errors.InvalidArgumentError(
            f"the options of TLS ({', '.join(files)}) cannot be used: {error}"
        ) from None
    return context
