"""Files that this user may not read: an error that says so, and never damage."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import eventstore
from eventstore.audit import SigningKey, standalone_verifier
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.command_line.runner import ENVIRONMENT, run

# Root reads everything, unless it gives that up.
UNPRIVILEGED = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--"]

pytestmark = pytest.mark.skipif(
    os.geteuid() == 0 and shutil.which("setpriv") is None, reason="root may read everything"
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("barred") / "store"
    with eventstore.open(directory, actor="ana") as opened:
        opened.put_artifact_type(mlmd.ArtifactType(name="a"))
        opened.seal()
        opened.put_artifact_type(mlmd.ArtifactType(name="b"))
    assert run("sql", directory, "FROM types").code == 0
    return directory


@contextmanager
def barred(path: Path) -> Iterator[None]:
    assert path.exists(), path
    mode = stat.S_IMODE(path.stat().st_mode)
    path.chmod(0)
    try:
        yield
    finally:
        path.chmod(mode)


def asked(*program: object) -> subprocess.CompletedProcess[str]:
    prefix = UNPRIVILEGED if os.geteuid() == 0 else []
    return subprocess.run(
        [*prefix, sys.executable, *map(str, program)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env=ENVIRONMENT,
        check=False,
    )


@pytest.mark.share(2)
@pytest.mark.parametrize(
    "name",
    [
        "",
        "manifest.json",
        "log",
        "log/0000000001.parquet",
        "log/0000000002.arrows",
        "log/acknowledged",
    ],
)
def test_what_may_not_be_read_is_not_called_damaged(name: str, store: Path) -> None:
    with barred(store / name):
        done = asked("-m", "eventstore", "verify", store)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "Permission denied; check the owner and mode of the path" in done.stderr
    assert "damage" not in done.stderr


def test_a_store_that_may_not_be_read_is_no_wrong_usage(store: Path) -> None:
    with barred(store):
        for command in (("info",), ("list", "artifact"), ("backup", "copy"), ("restore", "copy")):
            done = asked("-m", "eventstore", command[0], store, *command[1:])
            assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done
            assert "Permission denied" in done.stderr


def test_files_that_are_named_and_may_not_be_read(store: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("SELECT 1")
    with barred(file):
        for said, *command in (
            ("Permission denied", "sql", store, "--file", file),
            ("Permission denied", "checkpoint", store, "--key", file),
            ("check its mode", "import", file, tmp_path / "new"),
        ):
            done = asked("-m", "eventstore", *command)
            assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done
            assert f"{file}" in done.stderr
            assert said in done.stderr


@pytest.mark.share(2)
@pytest.mark.parametrize("name", ["projections", "projections/tables.duckdb"])
def test_caches_that_may_not_be_read_are_not_checked(name: str, store: Path) -> None:
    with barred(store / name):
        done = asked("-m", "eventstore", "verify", store)
        assert asked("-m", "eventstore", "sql", store, "FROM types").returncode == 0
    said = f"not checked: {store / name}, which this user may not read\n"
    assert (done.returncode, done.stderr) == (0, said)
    assert "is sound" in done.stdout


def test_the_stand_alone_verifier_cannot_check(store: Path, tmp_path: Path) -> None:
    key = SigningKey.generate("ana")
    (tmp_path / "key").write_text(str(key.verifier_key))
    with eventstore.open(store, read_only=True) as opened:
        (tmp_path / "signed").write_text(opened.checkpoint(key).text)
    files = (store, tmp_path / "signed", tmp_path / "key")
    program = (standalone_verifier.__file__, "store", *files)
    assert asked(*program).returncode == 0
    for name in ("", "manifest.json", "log", "log/0000000001.parquet", "log/0000000002.arrows"):
        with barred(store / name):
            done = asked(*program)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), name
        assert done.stderr.startswith("CANNOT CHECK: ")
