"""`eventstore serve`: its flags, in all forms that gflags has, and a process that is ended."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import click
import pytest

import eventstore
from eventstore import MetadataStore, errors
from eventstore.cli import upstream_flags
from eventstore.cli.serve_command import serve_command
from eventstore.cli.upstream_flags import Configured, configured
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.server.server import Server
from tests.command_line.runner import ENVIRONMENT, program, run
from tests.differential.oracle import Oracle
from tests.server.certificates import Authority
from tests.server.serving import client_config
from tests.sql_servers import PASSWORD
from tests.sql_servers import Server as Database

KUBEFLOW = (
    "--grpc_port=8080",
    "--mysql_config_database=metadb",
    "--mysql_config_host=mysql",
    "--mysql_config_port=3306",
    "--mysql_config_user=root",
    "--mysql_config_password=",
    "--enable_database_upgrade=true",
)
"""As Kubeflow's manifest has them."""


def parsed(*arguments: str) -> dict[str, Any]:
    """What the command gets of its arguments."""
    with mock.patch.object(serve_command, "callback"):
        # The first context that a command has decides for all which options show its help.
        helps = ["-h", "--help"]
        return serve_command.make_context("serve", [*arguments], help_option_names=helps).params


def configured_by(*arguments: str) -> Configured:
    given = parsed(*arguments)
    return configured(given, names_store=given["place"] is not None)


def test_kubeflows_manifest() -> None:
    assert parsed(*KUBEFLOW)["grpc_port"] == 8080
    asked = configured_by(*KUBEFLOW)
    expected = mlmd.ConnectionConfig()
    mysql = expected.mysql
    mysql.host, mysql.port, mysql.database, mysql.user = "mysql", 3306, "metadb", "root"
    mysql.password = ""
    expected.retry_options.max_num_retries = 5
    assert asked.connection == expected
    assert asked.upgrades
    assert asked.tls is None
    assert asked.notes == ()


def test_the_examples_of_its_help(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("tokens", "tls.crt", "tls.key"):
        Path(file).touch()
    for example in serve_command.examples:
        with suppress(errors.NotFoundError):
            configured_by(*shlex.split(example)[2:])


@pytest.mark.parametrize(
    "arguments",
    [
        ("--grpc_port=5", "--mysql_config_host=h", "--enable_database_upgrade=true"),
        ("--grpc_port", "5", "--mysql_config_host", "h", "--enable_database_upgrade"),
        ("-grpc_port=5", "-mysql_config_host", "h", "-enable_database_upgrade"),
        ("--enable_database_upgrade=T", "--grpc_port=5", "--mysql_config_host=h"),
        ("--noenable_database_upgrade=0", "--grpc_port=5", "--mysql_config_host=h"),
        ("--enable_database_upgrade=yes", "--grpc_port=4", "--grpc_port=5", "-mysql_config_host=h"),
    ],
)
def test_flags_are_written_as_gflags_has_them(arguments: tuple[str, ...]) -> None:
    given = parsed(*arguments, "my-store")
    assert given["grpc_port"] == 5
    assert given["mysql_config_host"] == "h"
    assert given["enable_database_upgrade"] is True
    assert str(given["place"]) == "my-store"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--noenable_database_upgrade",),
        ("--enable_database_upgrade=false",),
        ("--enable_database_upgrade", "--noenable_database_upgrade"),
        ("--noenable_database_upgrade=true",),
    ],
)
def test_what_is_on_can_be_off(arguments: tuple[str, ...]) -> None:
    assert parsed(*arguments)["enable_database_upgrade"] is False


def test_a_value_is_a_value_whatever_it_looks_like() -> None:
    given = parsed("--mysql_config_password", "--grpc_port", "--mysql_config_user=a=b", "--", "-x")
    assert given["mysql_config_password"] == "--grpc_port"
    assert given["mysql_config_user"] == "a=b"
    assert given["grpc_port"] == 8080
    assert str(given["place"]) == "-x"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--enable_database_upgrade=perhaps",),
        ("--enable_database_upgrade", "--downgrade_db_schema_version=7"),
        ("--mysql_config_host=h",),
        ("--mysql_config_host=h", "--mysql_config_port=1"),
        ("--metadata_source_config_type=mysql",),
        ("--metadata_source_config_type=config_file",),
        ("--metadata_source_config_type=postgresql", "--postgres_config_host=h"),
        (
            "--metadata_source_config_type=postgresql",
            *("--postgres_config_port=1", "--postgres_config_dbname=d", "--postgres_config_user=u"),
        ),
        (*KUBEFLOW, "my-store"),
        ("--grpc_port=70000",),
        ("--grpc_prot=1",),
    ],
)
def test_flags_that_contradict_each_other(arguments: tuple[str, ...]) -> None:
    with pytest.raises(click.UsageError):
        configured_by(*arguments)


def test_postgresql() -> None:
    asked = configured_by(
        *("--metadata_source_config_type=postgresql", "--postgres_config_host=h"),
        *("--postgres_config_port=5432", "--postgres_config_dbname=d", "--postgres_config_user=u"),
        *("--postgres_config_skip_db_creation=true", "--postgres_config_sslmode=require"),
        "--metadata_store_connection_retries=2",
    )
    expected = mlmd.ConnectionConfig()
    postgresql = expected.postgresql
    postgresql.host, postgresql.port, postgresql.dbname, postgresql.user = "h", "5432", "d", "u"
    postgresql.skip_db_creation, postgresql.ssloption.sslmode = True, "require"
    expected.retry_options.max_num_retries = 2
    assert asked.connection == expected


def test_a_file(tmp_path: Path) -> None:
    file = tmp_path / "server.pbtxt"
    file.write_text(
        'connection_config { sqlite { filename_uri: "s" } retry_options { max_num_retries: 9 } }\n'
        "migration_options { enable_upgrade_migration: true }\n"
        'ssl_config { server_key: "k" server_cert: "c" client_verify: true }'
    )
    by_file = f"--metadata_store_server_config_file={file}"
    asked = configured_by(by_file, *KUBEFLOW[1:-1])
    assert asked.connection is not None
    assert asked.connection.sqlite.filename_uri == "s"
    assert asked.connection.retry_options.max_num_retries == 9
    assert asked.upgrades
    assert asked.tls is not None
    assert asked.tls.client_verify
    assert "--mysql_config_* are passed over" in asked.notes[0]
    file.write_text('ssl_config { server_key: "k" server_cert: "c" }')
    asked = configured_by(by_file, "my-store")
    assert asked.connection is None
    assert asked.tls is not None
    file.write_text('connection_config { mysql { password: "secret } }')
    with pytest.raises(errors.InvalidArgumentError, match=r"server\.pbtxt.*line 1") as raised:
        configured_by(by_file)
    assert "secret" not in raised.value.message
    with pytest.raises(errors.NotFoundError):
        configured_by(f"{by_file}.missing")
    nothing = configured_by("--metadata_store_server_config_file=", "--mysql_config_host=")
    assert nothing == Configured(None, None, False, ())


def test_what_does_nothing_here_is_said() -> None:
    asked = configured_by("--downgrade_db_schema_version", "7", "--logtostderr", "--v=2", "s")
    asked_again = configured_by("--enable_database_upgrade", "s")
    assert asked_again.notes[0].startswith("--enable_database_upgrade does nothing")
    said = [note.partition(" does nothing")[0] for note in asked.notes]
    assert said == ["--downgrade_db_schema_version=7", "--logtostderr", "--v"]


def test_every_flag_of_upstreams_server_is_known() -> None:
    mysql = [f"mysql_config_{name}" for name in ("host", "port", "database", "user", "password")]
    postgresql = [f"postgres_config_{name}" for name in _OF_POSTGRESQL]
    others = (
        *("grpc_port", "grpc_channel_arguments", "metadata_source_config_type"),
        *("metadata_store_server_config_file", "metadata_store_connection_retries"),
        *("enable_database_upgrade", "downgrade_db_schema_version"),
    )
    known = {parameter.name for parameter in serve_command.params}
    assert {*mysql, *postgresql, *others} <= known
    assert {*upstream_flags._OF_LOGGING} <= known


_OF_POSTGRESQL = (
    *("host", "hostaddr", "port", "user", "password", "passfile", "dbname", "skip_db_creation"),
    *("sslmode", "sslcert", "sslkey", "sslpassword", "sslrootcert"),
)


@contextmanager
def served(*arguments: object, before: str = "pass") -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that serves, once it has run some code, and its port."""
    starting = f"{before}; from eventstore.cli.main import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", starting, "serve", "--grpc_port=0", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("Serving "), line + (process.stderr or process.stdout).read()
            yield process, int(line.rpartition(":")[2])
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_is_ended_by_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    """Clients are told UNAVAILABLE and nothing else; what was acknowledged is there afterwards."""
    path = tmp_path / "store"
    with served(path) as (process, port):
        client = MetadataStore(client_config(port))
        type_id = client.put_artifact_type(mlmd.ArtifactType(name="T"))
        made = list[int]()
        with suppress(errors.UnavailableError):
            while True:
                made += client.put_artifacts([mlmd.Artifact(type_id=type_id)])
                if len(made) == 20:
                    process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0
        assert out == ""
        told = [re.sub(r"\d+$", "N", line.partition("Z INFO ")[2]) for line in err.splitlines()]
        assert told == [
            "Only this machine reaches it: --grpc_host=0.0.0.0 serves others, too.",
            f"{number.name} came: the server ends; calls that are being answered: N",
            "The server has ended: all calls that had begun are answered",
        ]
    with eventstore.open(path) as store:
        assert [node.id for node in store.get_artifacts_by_id(made)] == made


@pytest.mark.parametrize("workers", [1, 2])
def test_a_log_of_json_has_all_that_there_is_to_say(tmp_path: Path, workers: int) -> None:
    arguments = ("serve", tmp_path / "s", "--grpc_port=0", f"--workers={workers}", "--v=1")
    with subprocess.Popen(
        program(*arguments, "--log-format=json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    ) as process:
        assert process.stderr is not None
        told = []
        while not told or not told[-1]["message"].startswith("Serving "):
            told.append(json.loads(process.stderr.readline()))
        process.terminate()
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    passed_over, here, serving = told
    assert (passed_over["level"], here["level"], serving["level"]) == ("warning", "info", "info")
    assert passed_over["message"].startswith("--v does nothing")
    ended = [json.loads(line)["message"] for line in err.splitlines()]
    assert sum(message.startswith("SIGTERM came") for message in ended) == workers
    assert ended[-1].startswith("The server has ended: all calls")


def test_a_store_in_memory_behind_tls(tmp_path: Path) -> None:
    authority = Authority()
    config = mlmd.MetadataStoreServerConfig()
    config.ssl_config.server_key, config.ssl_config.server_cert = authority.pair("server")
    file = tmp_path / "server.pbtxt"
    file.write_text(str(config))
    arguments = ("--grpc_host", "0.0.0.0", "--metadata_store_server_config_file", file)
    with served(*arguments) as (process, port):
        client = client_config(port, "localhost")
        client.ssl_config.custom_ca = authority.certificate
        assert MetadataStore(client).get_artifact_types() == []
        process.terminate()
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0
    assert "No store is named: this one is in memory" in err
    assert "clients need no certificate (ssl_config.client_verify," in err


@pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"),
    reason="the number of the system call is that of Linux on x86-64",
)
def test_a_signal_that_another_thread_takes_ends_it() -> None:
    with served() as (process, port):
        with MetadataStore(client_config(port)) as client:
            client.get_artifact_types()
        threads = {int(name) for name in os.listdir(f"/proc/{process.pid}/task")}
        other = max(threads - {process.pid})
        tgkill = 234
        assert ctypes.CDLL(None).syscall(tgkill, process.pid, other, signal.SIGTERM) == 0
        process.communicate(timeout=60)
        assert process.returncode == 0


def test_a_fault_is_logged_with_where_it_was() -> None:
    failing = "from eventstore.store import Engine; Engine.call = lambda *_, **__: 1 / 0"
    with served(before=failing) as (process, port):
        with MetadataStore(client_config(port)) as client, pytest.raises(errors.InternalError):
            client.get_artifact_types()
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert re.search(
        r"^\d{4}-\d\d-\d\dT[\d:]+\.\d{3}Z ERROR GetArtifactTypes failed$", err, re.MULTILINE
    )
    assert "Traceback" in err
    assert "ZeroDivisionError: division by zero" in err


def test_a_port_in_use_leaves_no_store_behind(tmp_path: Path, server: Server) -> None:
    done = run("serve", tmp_path / "store", f"--grpc_port={server.port}")
    assert done.code == 1
    assert f"cannot listen on 127.0.0.1:{server.port}" in done.err
    assert not (tmp_path / "store").exists()


def test_channel_arguments() -> None:
    for wrong in ("x", "=1", "x=", "a=1,b"):
        done = run("serve", "memory://", f"--grpc_channel_arguments={wrong}")
        assert done.code == 1
        assert "is not of the form name=value" in done.err
    done = run("serve", "--grpc_channel_arguments=grpc.max_send_message_length=much")
    assert done.code == 1
    assert "write a number of bytes" in done.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "connection_config { sqlite { filename_uri: \n",
            "line 2, column 1): what follows filename_",
        ),
        (
            "connection_config { nosuch { } }",
            "column 21): ConnectionConfig has no such field; it has fake_database, mysql, sqlite",
        ),
        ("connection_config { mysql { port: hunter2 } }", "what follows port cannot be read"),
        ("connection_config { mysql { password: hunter2 } }", "what follows password"),
        ('connection_config { mysql { password: "x" hunter2: 1 } }', "MySQLDatabaseConfig has no"),
        ("hunter2", "MetadataStoreServerConfig has no such field"),
        ("{", "it cannot be read"),
        ('ssl_config { server_key: "hunter2\n', "what follows server_key"),
    ],
)
def test_what_is_wrong_in_a_configuration_is_named(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "server.pbtxt"
    file.write_text(text)
    with pytest.raises(errors.InvalidArgumentError) as raised:
        configured_by(f"--metadata_store_server_config_file={file}")
    assert said in raised.value.message
    assert "hunter2" not in raised.value.message


def test_what_is_no_store_ends_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    done = run("serve", tmp_path / "file", "--grpc_port=0")
    assert done.code == 1
    assert "is a file" in done.err


def test_kubeflows_manifest_serves_what_mlmd_has_recorded(
    mariadb: Database, oracle: Oracle
) -> None:
    name = mariadb.new_database()
    config = mlmd.ConnectionConfig()
    mysql = config.mysql
    mysql.host, mysql.port, mysql.database = "127.0.0.1", mariadb.port, name
    mysql.user, mysql.password = "admin", PASSWORD
    oracle.connect(config)
    type_id = oracle.method("put_artifact_type", mlmd.ArtifactType(name="system.Dataset"))
    oracle.start_over()
    flags = [f"--mysql_config_{field.name}={value}" for field, value in mysql.ListFields()]
    with served(*flags, "--enable_database_upgrade=true") as (process, port):
        with MetadataStore(client_config(port)) as client:
            assert client.get_artifact_type("system.Dataset").id == type_id
            made = client.put_artifacts([mlmd.Artifact(type_id=type_id)])
        process.terminate()
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0
    assert PASSWORD not in err
    with eventstore.open(mariadb.url(name)) as store:
        assert store.get_artifacts_by_id(made)[0].type == "system.Dataset"
