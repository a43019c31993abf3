"""What cannot be done is refused in one sentence: odd paths, waits, a disk that is full or lies."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

import eventstore
from eventstore import errors
from eventstore.log import DirectoryLog, cache_file
from eventstore.log.cache_file import remove_abandoned, written_whole
from eventstore.projections import base_check, point_index, tables_file
from eventstore.projections.projections import Projections
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import open_with


def _too_long(folder: Path) -> Path:
    return folder / ("x" * 300)


def _too_deep(folder: Path) -> Path:
    return folder.joinpath(*["x" * 200] * 25)


def _loop(folder: Path) -> Path:
    (folder / "loop").symlink_to(folder / "loop")
    return folder / "loop"


def _loop_within(folder: Path) -> Path:
    (folder / "loop").symlink_to(folder / "loop")
    return folder / "loop" / "store"


def _below_a_file(folder: Path) -> Path:
    (folder / "file").touch()
    return folder / "file" / "store"


@pytest.mark.parametrize("path_of", [_too_long, _too_deep, _loop, _loop_within, _below_a_file])
@pytest.mark.parametrize(
    "use",
    [
        DirectoryLog.open,
        eventstore.open,
        lambda path: eventstore.open(path, read_only=True),
        DirectoryLog.create,
    ],
)
def test_a_path_that_cannot_be_is_refused(
    tmp_path: Path, path_of: Callable[[Path], Path], use: Callable[[Path], object]
) -> None:
    path = path_of(tmp_path)
    with pytest.raises(errors.StatusError) as raised:
        use(path)
    assert str(tmp_path) in str(raised.value)
    with pytest.raises(errors.StatusError):
        eventstore.restore(path, tmp_path / "copy")
    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = str(path)
    with pytest.raises(RuntimeError) as raised_by_downgrading:
        eventstore.downgrade_schema(config, 0)
    assert isinstance(raised_by_downgrading.value.__cause__, errors.StatusError)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look everywhere")
def test_a_folder_that_may_not_be_looked_at_is_not_said_to_be_missing(tmp_path: Path) -> None:
    eventstore.open(tmp_path / "closed" / "store").close()
    (tmp_path / "closed").chmod(0)
    with pytest.raises(errors.PermissionDeniedError):
        DirectoryLog.open(tmp_path / "closed" / "store")


def test_what_the_system_does_not_tell_is_translated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", refused)
    with pytest.raises(errors.PermissionDeniedError, match="opening"):
        DirectoryLog.open(tmp_path / "store")


@pytest.mark.parametrize(
    "seconds", [0, -1, -0.0, math.nan, math.inf, -math.inf, 1e300, 10**400, "1", None, True, [1]]
)
def test_no_odd_time_is_waited_for(tmp_path: Path, seconds: object) -> None:
    with eventstore.open(tmp_path / "store") as store:
        with pytest.raises(errors.InvalidArgumentError, match="use a number of seconds"):
            next(iter(store.follow(0, poll_seconds=seconds)))  # type: ignore[arg-type]
        assert next(iter(store.follow(0, poll_seconds=1))).number == 1


def test_what_a_file_of_the_index_says_is_asked_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def is_in_log(_: object, base: base_check.Base) -> bool:
        asked.append(base.position)
        return True

    monkeypatch.setattr(base_check.BaseCheck, "is_in_log", is_in_log)
    with open_with(tmp_path / "store", closing_records_min=1) as store:
        type_id = store.put_artifact_type(mlmd.ArtifactType(name="T"))
        (artifact_id,) = store.put_artifacts([mlmd.Artifact(type_id=type_id, uri="u")])
        assert store._engine.projections.index.last_stored_position == 0
        position = store.log_position()
    changed = mlmd.Artifact(id=artifact_id, type_id=type_id, uri="v")
    with open_with(tmp_path / "store", closing_records_min=1) as store:
        assert store._engine.projections.index.last_stored_position == position
        store.put_artifacts([changed])
        assert position in asked
        asked.clear()
        changed.uri = "w"
        store.put_artifacts([changed])
        assert position + 1 not in asked, "what this process appended is not doubted"


def test_an_index_that_stays_wrong_is_built_again_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_with(tmp_path / "store", closing_records_min=1) as store:
        type_id = store.put_artifact_type(mlmd.ArtifactType(name="T"))
        (artifact_id,) = store.put_artifacts([mlmd.Artifact(type_id=type_id, uri="u")])
    built: list[int] = []
    rebuild = Projections._rebuild_index

    def counting(self: Projections, *arguments: object) -> None:
        built.append(1)
        rebuild(self, *arguments)  # type: ignore[arg-type]

    changed = mlmd.Artifact(id=artifact_id, type_id=type_id, uri="v")
    with eventstore.open(tmp_path / "store") as store, monkeypatch.context() as patched:
        patched.setattr(Projections, "_rebuild_index", counting)
        patched.setattr(base_check.BaseCheck, "is_in_log", lambda *_: False)
        # The log's own words, that is: only what is in files is doubted.
        patched.setattr(point_index.PointIndex, "last_stored_position", 1 << 40)
        with pytest.raises(errors.DataLossError, match="built again: nothing was put; check the"):
            store.put_artifacts([changed])
        assert built == [1]
        patched.undo()
        store.put_artifacts([changed])
        assert [found.uri for found in store.get_artifacts()] == ["v"]


def test_a_put_that_failed_keeps_no_other_from_building_the_index_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([False, KeyboardInterrupt(), False])

    def is_in_log(*_: object) -> bool:
        answer = next(answers, True)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    with eventstore.open(tmp_path / "store") as store:
        type_id = store.put_artifact_type(mlmd.ArtifactType(name="T"))
        (artifact_id,) = store.put_artifacts([mlmd.Artifact(type_id=type_id, uri="u")])
        changed = mlmd.Artifact(id=artifact_id, type_id=type_id, uri="v")
        monkeypatch.setattr(base_check.BaseCheck, "is_in_log", is_in_log)
        monkeypatch.setattr(point_index.PointIndex, "last_stored_position", 1 << 40)
        with pytest.raises(KeyboardInterrupt):
            store.put_artifacts([changed])
        store.put_artifacts([changed])
        assert [found.uri for found in store.get_artifacts()] == ["v"]
        assert next(answers, None) is None, "not all was asked"


@pytest.mark.parametrize("is_made", [True, False])
def test_a_left_over_write_ahead_log_is_not_played_into_other_tables(
    tmp_path: Path, is_made: bool
) -> None:
    path = tmp_path / "store" / "projections" / "tables.duckdb"
    with eventstore.open(tmp_path / "store") as store:
        type_id = store.put_artifact_type(mlmd.ArtifactType(name="T"))
        store.put_artifacts([mlmd.Artifact(type_id=type_id, uri="u")])
        expected = store.sql("SELECT id, uri FROM artifacts").rows()
    child = os.fork()
    if not child:
        connection = duckdb.connect(str(path))
        connection.execute("SET checkpoint_threshold = '1GB'")
        connection.execute("UPDATE artifacts SET uri = 'of the dead'")
        os._exit(0)
    os.waitpid(child, 0)
    left = Path(f"{path}.wal")
    content = left.read_bytes()
    assert content
    path.unlink()
    if is_made:
        left.unlink()
        with eventstore.open(tmp_path / "store") as store:
            store.sql("FROM artifacts")
        left.write_bytes(content)
    for _ in range(2):
        with eventstore.open(tmp_path / "store") as store:
            assert store.sql("SELECT id, uri FROM artifacts").rows() == expected
    assert not left.exists() or left.read_bytes() != content


def test_writers_with_equal_numbers_write_files_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those in two containers have."""
    monkeypatch.setattr(os, "getpid", lambda: 7)
    with written_whole(tmp_path / "run") as first, written_whole(tmp_path / "run") as second:
        assert first.name != second.name
        first.write(b"first")
        second.write(b"second")
    assert (tmp_path / "run").read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_file_that_is_taken_for_abandoned_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = cache_file.lock

    def late(descriptor: int) -> None:
        monkeypatch.setattr(cache_file, "lock", lock)
        remove_abandoned(tmp_path)
        lock(descriptor)

    monkeypatch.setattr(cache_file, "lock", late)
    with written_whole(tmp_path / "run") as file:
        remove_abandoned(tmp_path)
        file.write(b"whole")
    assert (tmp_path / "run").read_bytes() == b"whole"


@pytest.mark.parametrize(
    "error",
    [
        duckdb.IOException("IO Error: Could not write file: No space left on device"),
        duckdb.TransactionException("Failed to commit: Could not write: No space left on device"),
    ],
)
def test_tables_that_could_not_be_made_leave_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: duckdb.Error
) -> None:
    path = tmp_path / "store" / "projections" / "tables.duckdb"
    with eventstore.open(tmp_path / "store") as store:
        store.put_artifact_type(mlmd.ArtifactType(name="T"))
        created = tables_file._created

        def full(log: DirectoryLog, database: str) -> duckdb.DuckDBPyConnection:
            if database == str(path):
                path.write_bytes(b"DUCK")
                Path(f"{path}.wal").write_bytes(b"DUCK")
                raise error
            return created(log, database)

        with monkeypatch.context() as patched:
            patched.setattr(tables_file, "_created", full)
            assert store.sql("SELECT count(*) FROM types WHERE name = 'T'").rows() == [(1,)]
            assert list(path.parent.glob("tables.duckdb*")) == []
    with eventstore.open(tmp_path / "store") as store:
        store.sql("FROM types")
    assert path.exists()


def test_tables_that_duckdb_does_not_open_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it says: a database that was cut off while it was made may be refused in any way."""
    path = tmp_path / "store" / "projections" / "tables.duckdb"
    with eventstore.open(tmp_path / "store") as store:
        store.sql("FROM types")
    connected, asked = tables_file._connected, []

    def refusing(log: DirectoryLog, database: str, **named: bool) -> duckdb.DuckDBPyConnection:
        asked.append(database)
        if len(asked) == 1:
            raise duckdb.BinderException("replaying the log: there is no table of that name")
        return connected(log, database, **named)

    monkeypatch.setattr(tables_file, "_connected", refusing)
    with eventstore.open(tmp_path / "store") as store:
        store.sql("FROM types")
    assert asked == [str(path)] * 2
