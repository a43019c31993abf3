"""Servers of PostgreSQL and MariaDB that tests start and kill, each in a folder of its own."""

from __future__ import annotations

import contextlib
import glob
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest

PASSWORD = "s3cr3t/pass word"
"""Of the servers' administrator, whose name is `admin`."""

_STARTED_WITHIN_SECONDS = 60


Prepare = Callable[["Server"], list[str]]


class Server:
    """A server that is running; `url` is that of one of its databases, by the administrator."""

    scheme: str
    system_user: str
    connecting: type[Exception]

    def __init__(self, options: Sequence[str] = (), prepare: Prepare | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sql-"))
        self.data = self.folder / "data"
        self.port = _free_port()
        self.options = list(options)
        self._names = itertools.count(1)
        if os.geteuid() == 0:
            shutil.chown(self.folder, self.system_user)
        self.make()
        if prepare is not None:
            self.options += prepare(self)
        self.start()

    def make(self) -> None:
        raise NotImplementedError

    def command(self) -> list[str]:
        raise NotImplementedError

    def execute(self, *statements: str, database: str = "") -> list[tuple[object, ...]]:
        """Run statements as the administrator; the rows of the last one."""
        raise NotImplementedError

    def url(
        self, database: str, *, user: str = "admin", password: str = PASSWORD, options: str = ""
    ) -> str:
        return (
            f"{self.scheme}://{user}:{quote(password, safe='')}@127.0.0.1:{self.port}"
            f"/{database}{options}"
        )

    def new_database(self) -> str:
        """The name of a database that was made just now."""
        name = f"test_{next(self._names)}"
        self.execute(f"CREATE DATABASE {name}")
        return name

    def start(self) -> None:
        self._begin()
        until = time.monotonic() + _STARTED_WITHIN_SECONDS
        while True:
            try:
                self.execute("SELECT 1")
                return
            except self.connecting:
                assert time.monotonic() < until, self.log()
                time.sleep(0.02)
                if self.process.poll() is not None:
                    # Processes of the one that was killed may be about to end.
                    time.sleep(0.2)
                    self._begin()

    def _begin(self) -> None:
        with open(self.folder / "server.log", "ab") as log:
            begun = _STARTER.submit(
                subprocess.Popen,
                [*_DIES_WITH_PARENT, *self.command()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
                **self._as_user(),
            )
            self.process = begun.result()

    def kill(self) -> None:
        """End the server at once, as a loss of power would, but for the disk."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self) -> str:
        return (self.folder / "server.log").read_text("utf-8", "replace")[-2_000:]

    def run(self, *command: str) -> None:
        """Run a program as the user that the server runs as."""
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=self.folder, check=False, **self._as_user()
        )
        assert done.returncode == 0, done.stderr

    def system_ids(self) -> tuple[int, int]:
        """The user and group that own the server's files."""
        user = pwd.getpwnam(self.system_user)
        return user.pw_uid, user.pw_gid

    def _as_user(self) -> dict[str, str]:
        """PostgreSQL does not run as root."""
        return {"user": self.system_user} if os.geteuid() == 0 else {}


class PostgreSQL(Server):
    """A PostgreSQL server that syncs nothing: what is killed is the server, not the machine."""

    scheme = "postgresql"
    system_user = "postgres"

    def make(self) -> None:
        import psycopg

        self.connecting = psycopg.OperationalError
        password = self.folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        self.run(
            *(_program("initdb"), "-D", str(self.data), "-U", "admin", "--no-sync"),
            *("--auth=scram-sha-256", f"--pwfile={password}", "-E", "UTF8", "--locale=C"),
        )

    def command(self) -> list[str]:
        settings = ["fsync=off", "shared_buffers=16MB", f"port={self.port}", "max_connections=60"]
        settings += [f"unix_socket_directories={self.folder}", "listen_addresses=127.0.0.1"]
        settings += self.options
        flags = [part for setting in settings for part in ("-c", setting)]
        # What was killed leaves this behind, with a number that may be another process's by now.
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        return [_program("postgres"), "-D", str(self.data), *flags]

    def execute(self, *statements: str, database: str = "postgres") -> list[tuple[object, ...]]:
        import psycopg

        with psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user="admin",
            password=PASSWORD,
            dbname=database,
            autocommit=True,
        ) as connection:
            for statement in statements:
                cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []


class MariaDB(Server):
    """A MariaDB server; what is committed survives its death, not the machine's."""

    scheme = "mysql"
    system_user = "mysql"

    def make(self) -> None:
        import pymysql

        self.connecting = pymysql.err.OperationalError
        self.run(
            *(_program("mariadb-install-db"), "--no-defaults", f"--datadir={self.data}"),
            *("--auth-root-authentication-method=normal", "--skip-test-db", *_SMALL),
            # Where others are installing they remove each other's temporary files.
            f"--tmpdir={self.folder}",
        )
        escaped = PASSWORD.replace("'", "''")
        (self.folder / "first.sql").write_text(
            f"CREATE USER IF NOT EXISTS 'admin'@'%' IDENTIFIED BY '{escaped}';\n"
            "GRANT ALL ON *.* TO 'admin'@'%' WITH GRANT OPTION;\n"
        )

    def command(self) -> list[str]:
        return [
            *(_program("mariadbd"), "--no-defaults", f"--datadir={self.data}"),
            *(f"--port={self.port}", "--bind-address=127.0.0.1"),
            *(f"--socket={self.folder / 'socket'}", f"--pid-file={self.folder / 'pid'}"),
            *(f"--init-file={self.folder / 'first.sql'}", "--skip-name-resolve"),
            *(f"--tmpdir={self.folder}", *_SMALL, *self.options),
        ]

    def execute(self, *statements: str, database: str = "") -> list[tuple[object, ...]]:
        import pymysql

        connection = pymysql.connect(
            host="127.0.0.1",
            port=self.port,
            user="admin",
            password=PASSWORD,
            database=database or None,
            autocommit=True,
        )
        with connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())


_SMALL = (
    *("--innodb-buffer-pool-size=32M", "--innodb-log-file-size=16M"),
    *("--innodb-flush-log-at-trx-commit=2", "--loose-innodb-doublewrite=0"),
)

# Not by a signal handler: what is killed has no time to end its servers.
_STARTER = ThreadPoolExecutor(1)
"""A server ends with the thread that began it: this one lives as long as the process."""

_DIES_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL", "--") if shutil.which("setpriv") else ()

SERVERS = {"postgresql": PostgreSQL, "mariadb": MariaDB}


@contextlib.contextmanager
def running(
    name: str, options: Sequence[str] = (), prepare: Prepare | None = None
) -> Iterator[Server]:
    """A server of its own for a test; the test is skipped where it is not installed.

    `prepare` is called before the server starts, and gives further options.
    """
    program = {"postgresql": "postgres", "mariadb": "mariadbd"}[name]
    if _find(program) is None:
        pytest.skip(f"{program} is not installed: run `make engines`")
    server = SERVERS[name](options, prepare)
    try:
        yield server
    finally:
        server.close()


def _program(name: str) -> str:
    found = _find(name)
    assert found is not None, f"{name} is not installed: run `make engines`"
    return found


def _find(name: str) -> str | None:
    """A program on the usual paths, of the newest version where there are several."""
    places = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=_version, reverse=True)
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", *places])
    return shutil.which(name, path=path)


def _version(folder: str) -> int:
    number = Path(folder).parent.name
    return int(number) if number.isdecimal() else 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
