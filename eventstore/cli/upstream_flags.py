"""The flags of MLMD's server: as they are written, and the configuration that they say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click
from msgspec import Struct

from eventstore.cli.help import Command
from eventstore.cli.paths import naming, text_of
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.server.configuration import parsed_server_config

_CONFIG_TYPES: Final = ("default", "config_file", "mysql", "postgresql")

_TEXTS: Final = {
    "mysql_config_host": "The host of MySQL; with port and database it names the store.",
    "mysql_config_database": "The database there, which is made if it is missing.",
    "mysql_config_user": "The user of MySQL.",
    "mysql_config_password": "The password of MySQL.",
    "postgres_config_host": "The host of PostgreSQL, or the folder of its socket.",
    "postgres_config_hostaddr": "Its numeric address, instead of the host.",
    "postgres_config_port": "The port of PostgreSQL.",
    "postgres_config_user": "The user of PostgreSQL.",
    "postgres_config_password": "The password of PostgreSQL.",
    "postgres_config_passfile": "A file with passwords, as libpq reads it.",
    "postgres_config_dbname": "The database there, which is made if it is missing.",
    "postgres_config_sslmode": "What libpq calls sslmode.",
    "postgres_config_sslcert": "The file of the client's certificate.",
    "postgres_config_sslkey": "The file of its key.",
    "postgres_config_sslpassword": "The password of that key.",
    "postgres_config_sslrootcert": "The file of the certificates to trust.",
}
_SWITCHES: Final = {
    "postgres_config_skip_db_creation": "Do not make the database of PostgreSQL.",
    "enable_database_upgrade": "Make a store of what MLMD has in the database, or that is packed.",
}
_OF_LOGGING: Final = {
    **dict.fromkeys(("alsologtostderr", "logtostderr", "colorlogtostderr"), click.BOOL),
    **dict.fromkeys(("log_dir", "vmodule"), click.STRING),
    **dict.fromkeys(("minloglevel", "stderrthreshold", "v"), click.INT),
}
"""Those of glog, which MLMD's server is built with."""

_TRUE: Final = ("1", "t", "true", "y", "yes")
_FALSE: Final = ("0", "f", "false", "n", "no")


class Configured(Struct, frozen=True):
    """What is to be served, None for what STORE names or nothing does; notes say what is not done.

    `upgrades` tells whether a store is made of what is there: MLMD's tables, or a packed store.
    """

    connection: mlmd.ConnectionConfig | None
    tls: mlmd.MetadataStoreServerConfig.SSLConfig | None
    upgrades: bool
    notes: tuple[str, ...]


class FlaggedCommand(Command):
    """A command whose options can be written as gflags has them.

    `--flag=value` and `--flag value`, with one hyphen or two; `--flag`, `--noflag` and
    `--flag=true` for those that are on or off.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [*self._as_click_has_them(args)])

    def _as_click_has_them(self, args: list[str]) -> Iterator[str]:
        switches = {name for p in self.params if _is_switch(p) for name in (p.name, f"no{p.name}")}
        valued = {p.name for p in self.params if "_" in (p.name or "")} - switches
        left = iter(args)
        for arg in left:
            if arg == "--":
                yield from (arg, *left)
                return
            name, equals, value = arg.lstrip("-").partition("=")
            is_flag = arg.startswith("-")
            if is_flag and name in switches:
                yield f"--{_switched(name, value) if equals else name}"
            elif is_flag and name in valued:
                yield f"--{name}{equals}{value}"
                if not equals:
                    # Its value, whatever it looks like.
                    yield from _next_of(left)
            else:
                yield arg


def upstream_flags(run: Callable[..., None]) -> Callable[..., None]:
    """Add MLMD's flags that say which store is served; they reach the command by their names."""
    options = [
        click.option(
            "--metadata_store_server_config_file",
            metavar="FILE",
            default="",
            help="A MetadataStoreServerConfig of MLMD's as text: the store, TLS with ssl_config.",
        ),
        click.option(
            "--metadata_source_config_type",
            type=click.Choice(_CONFIG_TYPES),
            default="default",
            help="What names the store; by default the file, if one is said, then MySQL's flags.",
        ),
        click.option(
            "--metadata_store_connection_retries",
            type=click.IntRange(min=0),
            default=5,
            show_default=True,
            help="How often a database that does not answer is tried again, with growing pauses.",
        ),
        click.option("--mysql_config_port", type=int, default=0, help="The port of MySQL."),
        click.option(
            "--downgrade_db_schema_version",
            type=int,
            default=-1,
            help="Taken and passed over: a store has no schema of MLMD's.",
        ),
        *(click.option(f"--{name}", default="", help=told) for name, told in _TEXTS.items()),
        *(
            click.option(f"--{name}/--no{name}", default=False, help=told)
            for name, told in _SWITCHES.items()
        ),
        *(
            click.option(f"--{name}/--no{name}", default=None, hidden=True)
            if kind is click.BOOL
            else click.option(f"--{name}", type=kind, hidden=True)
            for name, kind in _OF_LOGGING.items()
        ),
    ]
    for option in reversed(options):
        run = option(run)
    return run


def configured(flags: Mapping[str, Any], *, names_store: bool) -> Configured:
    """What flags say; `names_store` if the store is named without them.

    Raises click.UsageError for flags that contradict each other, InvalidArgumentError for a file
    that is no configuration.
    """
    if flags["enable_database_upgrade"] and flags["downgrade_db_schema_version"] >= 0:
        raise click.UsageError(
            "--enable_database_upgrade and --downgrade_db_schema_version exclude each other"
        )
    source: str = flags["metadata_source_config_type"]
    # An empty flag is none, here and below, as in manifests whose variables are not set.
    named: str = flags["metadata_store_server_config_file"]
    file = Path(named) if named else None
    notes = [*_passed_over(flags)]
    config = mlmd.MetadataStoreServerConfig()
    if file is not None and source in ("default", "config_file"):
        with naming(file):
            config = parsed_server_config(text_of(file))
    elif file is not None:
        notes.append(
            f"--metadata_store_server_config_file is passed over: {source} names the store."
        )
    elif source == "config_file":
        raise click.UsageError("config_file needs --metadata_store_server_config_file")
    has_mysql = any(flags[f"mysql_config_{name}"] for name in ("host", "port", "database"))
    if source == "mysql" or (source == "default" and has_mysql and file is None):
        config.connection_config.mysql.CopyFrom(_mysql(flags))
    elif has_mysql:
        notes.append("--mysql_config_* are passed over: something else names the store.")
    if source == "postgresql":
        config.connection_config.postgresql.CopyFrom(_postgresql(flags))
    connection = config.connection_config if config.HasField("connection_config") else None
    if names_store and connection is not None:
        raise click.UsageError("STORE names a store, and so do flags: leave one of them out")
    if connection is not None and not connection.HasField("retry_options"):
        retries = flags["metadata_store_connection_retries"]
        connection.retry_options.max_num_retries = retries
    if config.migration_options.downgrade_to_schema_version >= 0:
        notes.append(
            "migration_options.downgrade_to_schema_version does nothing: a store has no schema of "
            "MLMD's, and is served as it is."
        )
    upgrades = flags["enable_database_upgrade"] or config.migration_options.enable_upgrade_migration
    if flags["enable_database_upgrade"] and connection is None:
        notes.append("--enable_database_upgrade does nothing: it is for a store that flags name.")
    return Configured(
        connection,
        config.ssl_config if config.HasField("ssl_config") else None,
        upgrades,
        tuple(notes),
    )


def _passed_over(flags: Mapping[str, Any]) -> Iterator[str]:
    """What is said of flags that do nothing here."""
    version = flags["downgrade_db_schema_version"]
    if version >= 0:
        yield (
            f"--downgrade_db_schema_version={version} does nothing: a store has no schema of "
            "MLMD's, and is served as it is."
        )
    for name in _OF_LOGGING:
        if flags[name] is not None:
            yield f"--{name} does nothing: what there is to say goes to standard error."


def _mysql(flags: Mapping[str, Any]) -> mlmd.MySQLDatabaseConfig:
    given = {name: flags[f"mysql_config_{name}"] for name in ("host", "port", "database")}
    missing = [name for name, value in given.items() if not value]
    if missing:
        raise click.UsageError(
            f"--mysql_config_{missing[0]} is missing: host, port and database name a store together"
        )
    user, password = flags["mysql_config_user"], flags["mysql_config_password"]
    return mlmd.MySQLDatabaseConfig(**given, user=user, password=password)


def _postgresql(flags: Mapping[str, Any]) -> mlmd.PostgreSQLDatabaseConfig:
    given = {
        name.removeprefix("postgres_config_"): flags[name]
        for name in (*_TEXTS, "postgres_config_skip_db_creation")
        if name.startswith("postgres_config_") and flags[name]
    }
    for name in ("port", "dbname", "user"):
        if name not in given:
            raise click.UsageError(f"--postgres_config_{name} is missing")
    if ("host" in given) == ("hostaddr" in given):
        raise click.UsageError("say either --postgres_config_host or --postgres_config_hostaddr")
    tls = {name: given.pop(name) for name in [*given] if name.startswith("ssl")}
    config = mlmd.PostgreSQLDatabaseConfig(**given)
    if tls:
        config.ssloption.CopyFrom(mlmd.PostgreSQLDatabaseConfig.SSLOptions(**tls))
    return config


def _is_switch(parameter: click.Parameter) -> bool:
    return isinstance(parameter, click.Option) and bool(parameter.secondary_opts)


def _switched(name: str, value: str) -> str:
    """A flag that is on or off, which `=` gives a value."""
    if value.lower() in _TRUE:
        return name
    if value.lower() in _FALSE:
        return name.removeprefix("no") if name.startswith("no") else f"no{name}"
    raise click.UsageError(f"--{name} is {value!r}: use true or false")


def _next_of(left: Iterator[str]) -> Iterator[str]:
    following = next(left, None)
    if following is not None:
        yield following
