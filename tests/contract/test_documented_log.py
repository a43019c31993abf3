"""The log that docs/logs.md writes passes what every log has to pass."""

from __future__ import annotations

import re
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import pytest

import eventstore
from eventstore import errors
from eventstore.log import Log, Position
from eventstore.log.places import StoreUrl
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.testing import ErasingContract, LogContract, SharedLogContract, StoreContract
from tests.builders import append, draft

DOCUMENT = Path(__file__).parents[2] / "docs" / "logs.md"
_PROGRAM = re.compile(r"^```python\n(# sqlite_log\.py\n.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module", autouse=True)
def _program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The module of the document, which other processes can import, too."""
    (program,) = _PROGRAM.findall(DOCUMENT.read_text(encoding="utf-8"))
    folder = tmp_path_factory.mktemp("documented")
    (folder / "sqlite_log.py").write_text(program, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(folder)
        patched.setenv("EVENTSTORE_CACHE", str(folder / "caches"))
        yield
    sys.modules.pop("sqlite_log", None)


def program():
    import sqlite_log

    return sqlite_log


class Documented:
    def made(self, folder: Path) -> Log:
        return program().SqliteLog(folder / "log.sqlite")

    def again(self, log: Log) -> Log:
        return program().SqliteLog(log._path, read_only=True)

    def opens(self, log: Log) -> Callable[[], Log]:
        return partial(program().SqliteLog, log._path)

    def faults(self) -> Iterator[AbstractContextManager[object]]:
        yield failing(is_kept=False)
        yield failing(is_kept=True)
        yield failing(is_kept=True, is_silent=True)


@contextmanager
def failing(*, is_kept: bool, is_silent: bool = False) -> Iterator[None]:
    """Putting fails before or after it is done; then nothing more is told, if it is silent."""
    kept = program().SqliteLog._put

    def put(log, commits):
        if is_kept:
            kept(log, commits)
        if is_silent:
            log._database.close()
        raise sqlite3.OperationalError("disk I/O error")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(program().SqliteLog, "_put", put)
        yield


class TestLog(Documented, LogContract): ...


class TestErasing(Documented, ErasingContract): ...


class TestStore(Documented, StoreContract): ...


class TestSharing(Documented, SharedLogContract): ...


def test_it_is_opened_by_its_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    about = tmp_path / "sqlite_log-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: sqlite-log\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[eventstore.logs]\nsqlite-log = sqlite_log:open_log\n")
    monkeypatch.syspath_prepend(tmp_path)
    url = f"sqlite-log://{tmp_path}/my%20store"
    with eventstore.open(url) as store:
        store.put_artifact_type(mlmd.ArtifactType(name="DataSet"))
    with eventstore.open(url, read_only=True) as store:
        assert store.get_artifact_type("DataSet").name == "DataSet"
        assert store.verify().ok
        with pytest.raises(errors.FailedPreconditionError, match="read only"):
            store.put_artifact_type(mlmd.ArtifactType(name="Model"))
    (tmp_path / "other").write_bytes(b"no database at all, though longer than nothing")
    given = {"read_only": False, "creates": False, "cache_folder": None}
    for name, error in (("none", errors.NotFoundError), ("other", errors.FailedPreconditionError)):
        with pytest.raises(error):
            program().open_log(StoreUrl(f"sqlite-log://{tmp_path}/{name}"), **given)


def test_a_row_that_was_changed_is_not_read(tmp_path: Path) -> None:
    log = program().SqliteLog(tmp_path / "log.sqlite")
    append(log, draft(1))
    append(log, draft(2))
    with log._database as database:
        database.execute("UPDATE commits SET tree_head = x'00' WHERE number = 2")
    assert not log.verify().ok
    with pytest.raises(errors.DataLossError, match="commit 2"):
        program().SqliteLog(tmp_path / "log.sqlite")
    assert log.commit_end(Position(9)) == 2
