"""What an import refuses, what it leaves, and what it reads while others write."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import eventstore
from eventstore import errors
from eventstore.importing import import_mlmd_database
from eventstore.importing import importer as importer_module
from eventstore.log import DirectoryLog
from tests.conftest import DATA
from tests.importing.conftest import Change

SOURCE = DATA / "mlmd-v10.db"


def only_the_source_is_left(folder: Path) -> bool:
    return all(path.suffix == ".db" for path in folder.iterdir())


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(errors.NotFoundError, match="there is no file"):
        import_mlmd_database(tmp_path / "no.db", tmp_path / "store")


@pytest.mark.parametrize("content", [b"", b"hello", b"x" * 5000])
def test_a_file_that_is_no_mlmd_database(content: bytes, tmp_path: Path) -> None:
    source = tmp_path / "other.db"
    source.write_bytes(content)
    with pytest.raises(errors.FailedPreconditionError) as raised:
        import_mlmd_database(source, tmp_path / "store")
    assert "other.db" in raised.value.message
    assert "SQLite database" in raised.value.message
    assert only_the_source_is_left(tmp_path)


@pytest.mark.parametrize("version", [-1, 11, 99])
def test_a_schema_version_that_is_not_supported(
    version: int, changed: Change, tmp_path: Path
) -> None:
    source = changed(f"UPDATE MLMDEnv SET schema_version = {version}")
    with pytest.raises(errors.FailedPreconditionError, match="versions 0 to 10"):
        import_mlmd_database(source, tmp_path / "store")
    assert only_the_source_is_left(tmp_path)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM MLMDEnv",
        "INSERT INTO MLMDEnv VALUES (9)",
        "DROP TABLE Attribution",
        "ALTER TABLE Artifact RENAME COLUMN uri TO url",
    ],
)
def test_a_database_with_parts_missing(statement: str, changed: Change, tmp_path: Path) -> None:
    source = changed(statement)
    with pytest.raises(errors.DataLossError) as raised:
        import_mlmd_database(source, tmp_path / "store")
    assert "mlmd-v10.db" in raised.value.message
    assert only_the_source_is_left(tmp_path)


def test_a_database_cut_short(tmp_path: Path) -> None:
    source = tmp_path / "cut.db"
    source.write_bytes(SOURCE.read_bytes()[: 40 * 1024])
    with pytest.raises(errors.DataLossError, match="is damaged"):
        import_mlmd_database(source, tmp_path / "store")
    assert only_the_source_is_left(tmp_path)


def test_a_target_in_use(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "note.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for target in ("store", "file"):
        with pytest.raises(errors.AlreadyExistsError, match="exists already"):
            import_mlmd_database(SOURCE, tmp_path / target)
    assert (tmp_path / "store" / "note.txt").read_text() == "mine"


@pytest.mark.parametrize("kind", ["missing", "empty", "nested", "link"])
def test_targets_that_are_free(kind: str, tmp_path: Path) -> None:
    target = tmp_path / "store"
    if kind == "empty":
        target.mkdir()
    elif kind == "nested":
        target = tmp_path / "a" / "b" / "store"
    elif kind == "link":
        (tmp_path / "elsewhere").mkdir()
        target.symlink_to(tmp_path / "elsewhere")
    import_mlmd_database(SOURCE, target)
    with eventstore.open(target) as store:
        assert len(store.get_artifacts()) == 3
        assert store.verify().ok
    assert not [path for path in target.resolve().parent.iterdir() if ".import-" in path.name]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError(28, "full"), ValueError])
def test_an_import_that_stops_leaves_nothing(
    failure: type[BaseException] | BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importer_module, "RECORDS_PER_COMMIT", 5)
    seen = []

    def stop(done: int, total: int) -> None:
        seen.append(done)
        if done > 20:
            raise failure

    expected = errors.ResourceExhaustedError if isinstance(failure, OSError) else failure
    with pytest.raises(expected):  # type: ignore[arg-type]
        import_mlmd_database(SOURCE, tmp_path / "store", progress=stop)
    assert len(seen) > 3
    assert list(tmp_path.iterdir()) == []


def test_progress_commits_actor_and_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importer_module, "RECORDS_PER_COMMIT", 7)
    calls: list[tuple[int, int]] = []
    report = import_mlmd_database(
        SOURCE,
        tmp_path / "store",
        progress=lambda done, total: calls.append((done, total)),
        actor="curator",
        reason="house move",
    )
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert calls[-1] == (report.position, report.position)
    log = DirectoryLog.open(tmp_path / "store", read_only=True)
    commits = list(log.commits())
    log.close()
    assert [len(commit.records) for commit in commits[:-1]] == [7] * (len(commits) - 1)
    records = [record for commit in commits for record in commit.records]
    assert {(record.actor, record.reason) for record in records} == {("curator", "house move")}


def test_without_a_reason_the_source_is_named(tmp_path: Path) -> None:
    import_mlmd_database(SOURCE, tmp_path / "store")
    log = DirectoryLog.open(tmp_path / "store", read_only=True)
    record = next(iter(log.commits())).records[0]
    log.close()
    assert record.reason == "import of mlmd-v10.db, MLMD schema version 10"


def test_the_source_is_not_changed(tmp_path: Path) -> None:
    source = tmp_path / "copy.db"
    shutil.copy(SOURCE, source)
    os.chmod(source, 0o444)
    before = source.read_bytes()
    import_mlmd_database(source, tmp_path / "store")
    assert source.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.db", "store"]


def test_what_stands_in_the_write_ahead_log_is_imported(changed: Change, tmp_path: Path) -> None:
    source = changed()
    with closing(sqlite3.connect(source)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("UPDATE Artifact SET uri = 'from the log' WHERE id = 1")
        connection.commit()
        assert source.with_name(f"{source.name}-wal").stat().st_size > 0
        import_mlmd_database(source, tmp_path / "store")
    with eventstore.open(tmp_path / "store") as store:
        assert store.get_artifacts_by_id([1])[0].uri == "from the log"


def test_what_is_written_meanwhile_is_not_seen(
    changed: Change, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importer_module, "RECORDS_PER_COMMIT", 5)
    source = changed()
    with closing(sqlite3.connect(source)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")

        def write(done: int, total: int) -> None:
            writer.execute("UPDATE Artifact SET uri = 'too late'")
            writer.execute("INSERT OR IGNORE INTO Context(type_id, name) VALUES (13, 'new')")
            writer.commit()

        report = import_mlmd_database(source, tmp_path / "store", progress=write)
    assert report.records["context"] == 3
    with eventstore.open(tmp_path / "store") as store:
        assert "too late" not in {artifact.uri for artifact in store.get_artifacts()}


def test_a_database_that_is_being_written(
    changed: Change, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = changed()
    real_connect = sqlite3.connect
    # Not the five seconds that SQLite waits for a writer by default.
    monkeypatch.setattr(
        sqlite3, "connect", lambda *args, **named: real_connect(*args, **named, timeout=0)
    )
    with closing(real_connect(source, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        with pytest.raises(errors.UnavailableError, match="try again"):
            import_mlmd_database(source, tmp_path / "store")
    assert only_the_source_is_left(tmp_path)
