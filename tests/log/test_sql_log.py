"""What a log in a SQL database keeps, fetches and finds wrong, beyond what every log does."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from eventstore import errors
from eventstore.log import Commit, DirectoryLog
from eventstore.log.file_lock import try_exclusive
from eventstore.log.places import StoreUrl
from eventstore.log.remote import tail
from eventstore.log.sql import SqlLog
from eventstore.log.sql.opening import open_database
from eventstore.log.sql.schema import COMMITS
from eventstore.log.stores import verify_store
from eventstore.testing.drafts import erased_of
from tests.builders import append, append_erasure, draft
from tests.contract.sql_logs import database_of
from tests.sql_servers import Server


@pytest.fixture
def name(sql_server: Server) -> str:
    return sql_server.new_database()


@pytest.fixture
def log(sql_server: Server, name: str) -> Iterator[SqlLog]:
    """Two sealed segments of four commits each, and three commits after them."""
    with opened(sql_server, name) as log:
        for number in range(1, 12):
            append(log, draft(number))
            if number in (4, 8):
                log.seal()
        yield log


@contextlib.contextmanager
def opened(server: Server, name: str, cache: Path | None = None) -> Iterator[SqlLog]:
    database = database_of(server, name)
    with contextlib.closing(open_database(database, cache_folder=cache)) as log:
        yield log


def segments_of(log: SqlLog) -> Path:
    folder = log.cache_folder()
    assert folder is not None
    return folder / "segments"


def test_a_backup_has_the_same_commits_and_segments(log: SqlLog, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    report = log.backup(tmp_path / "copy", lambda done, of: told.append((done, of)))
    assert report == log.verify()
    assert told[-1] == (22, 22)
    with contextlib.closing(DirectoryLog.open(tmp_path / "copy")) as copy:
        assert copy.store_id == log.store_id
        assert [*copy.commits()] == [*log.commits()]
        assert [f.file_sha256 for f in copy.sealed_files()] == [
            f.file_sha256 for f in log.sealed_files()
        ]
        append(copy, draft(12))
        assert copy.verify().ok
    with pytest.raises(errors.AlreadyExistsError):
        log.backup(tmp_path / "copy")


def test_segments_are_fetched_once_and_again_when_they_are_damaged(
    sql_server: Server, name: str, log: SqlLog, tmp_path: Path
) -> None:
    commits = [*log.commits()]
    for _ in range(2):
        with opened(sql_server, name, tmp_path) as other:
            folder = segments_of(other)
            assert folder.is_relative_to(tmp_path)
            assert [*other.commits(8)] == commits[8:]
            assert [*other.commits()] == commits
            (first, second) = sorted(folder.iterdir())
            first.write_bytes(b"damaged")
            second.unlink()
            assert [*other.commits()] == commits
            assert other.verify().ok


def test_what_the_dead_were_writing_is_removed(
    sql_server: Server, name: str, log: SqlLog, tmp_path: Path
) -> None:
    with opened(sql_server, name, tmp_path) as other:
        folder = segments_of(other)
        folder.mkdir()
        for owner in ("dead", "alive"):
            (folder / f"0000000001.parquet.{owner}.tmp").touch()
        with open(folder / "0000000001.parquet.alive.tmp", "rb") as file:
            assert try_exclusive(file.fileno())
            with opened(sql_server, name, tmp_path):
                assert [path.name for path in folder.iterdir()] == ["0000000001.parquet.alive.tmp"]
        assert len([*other.commits()]) == 11


def test_what_others_seal_and_erase_leaves_no_copy_behind(
    sql_server: Server, name: str, log: SqlLog, tmp_path: Path
) -> None:
    with opened(sql_server, name, tmp_path) as other:
        assert len([*other.commits()]) == 11
        folder = segments_of(other)
        before = {path.name for path in folder.iterdir()}
        log.destroy(erased_of([2, 10]))
        append_erasure(log, erased_of([2, 10]))
        other.refresh()
        assert not before & {path.name for path in folder.iterdir()} - {"0000000002.parquet"}
        assert [*other.commits()] == [*log.commits()]
        assert [r.position for c in other.commits() for r in c.records if r.payload is None] == [
            2,
            10,
        ]
    kept = sql_server.execute(
        "SELECT number FROM eventstore_commits WHERE message IS NULL ORDER BY number", database=name
    )
    assert kept == [(number,) for number in (1, 2, 3, 4, 9, 10, 11)]


def test_parts_without_an_entry_are_not_sealed_over_for_ever(
    sql_server: Server, name: str, log: SqlLog
) -> None:
    sql_server.execute("DELETE FROM eventstore_segments WHERE number = 2", database=name)
    with opened(sql_server, name) as other, pytest.raises(errors.DataLossError, match="no entry"):
        other.seal()


def test_messages_that_are_not_kept_are_read_again(
    log: SqlLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = [*log.commits()]
    monkeypatch.setattr(tail, "_KEPT_BYTES_MAX", 1)
    commits += [append(log, draft(number)) for number in range(12, 18)]
    assert [*log.commits()] == commits
    assert [*log.commits(9)] == commits[9:]
    log.seal()
    assert [*log.commits()] == commits
    assert log.verify().ok


@pytest.mark.share(3)
@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("UPDATE eventstore_commits SET recorded_at = recorded_at - 1 WHERE number = 2", "its row"),
        ("UPDATE eventstore_commits SET first_position = 9 WHERE number = 10", "its row"),
        ("UPDATE eventstore_commits SET tree_head = message WHERE number = 11", "tree head"),
        ("UPDATE eventstore_commits SET message = tree_head WHERE number = 3", "its checksum"),
        ("UPDATE eventstore_commits SET message = tree_head WHERE number = 10", "commit 10"),
        ("DELETE FROM eventstore_commits WHERE number = 3", "no row"),
        ("DELETE FROM eventstore_commits WHERE number = 10", "commit 10"),
        ("UPDATE eventstore_commits SET message = NULL WHERE number = 11", "no message"),
        ("UPDATE eventstore_commits SET number = 20 WHERE number = 11", "its row"),
        ("DELETE FROM eventstore_segment_parts WHERE number = 1", "segment 1"),
        ("DELETE FROM eventstore_segments WHERE number = 1", "segment 2"),
        ("UPDATE eventstore_segment_parts SET content = number WHERE number = 2", "commits 5 to 8"),
    ],
)
def test_verify_finds_what_was_changed(
    sql_server: Server, name: str, log: SqlLog, change: str, found: str
) -> None:
    if sql_server.scheme == "postgresql":
        change = change.replace("content = number", "content = '2'")
    sql_server.execute(change, database=name)
    report = log.verify()
    assert not report.ok
    assert found in report.findings[0].what, report.findings
    # Also where it is too damaged to be opened for anything else.
    url = StoreUrl(sql_server.url(name))
    assert verify_store(url, None, after=0, upto=None, signed_heads=()) == report


@pytest.mark.share(2)
@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("UPDATE eventstore_commits SET recorded_at = 1 WHERE number = 11", "number 11)"),
        ("UPDATE eventstore_commits SET message = NULL WHERE number = 11", "number 11 has no"),
        ("UPDATE eventstore_commits SET message = '' WHERE number = 11", "11 is damaged"),
        ("UPDATE eventstore_commits SET tree_head = message WHERE number = 11", "11 is damaged"),
        ("DELETE FROM eventstore_commits WHERE number = 10", "commit 10 is missing"),
        ("UPDATE eventstore_log SET store_id = replace(store_id, '4', '5')", "of another store"),
    ],
)
def test_a_changed_row_is_not_read(
    sql_server: Server, name: str, log: SqlLog, change: str, found: str
) -> None:
    sql_server.execute(change, database=name)
    with pytest.raises(errors.DataLossError) as met, opened(sql_server, name):
        pass
    assert found in met.value.message


def test_the_row_of_another_store_is_not_read(sql_server: Server, name: str, log: SqlLog) -> None:
    with opened(sql_server, sql_server.new_database()) as other:
        for number in range(1, 12):
            append(other, draft(number))
        rows = other._database.rows(sa.select(COMMITS).where(COMMITS.c.number == 11))
    with log._database.transaction("changing") as connection:
        connection.execute(COMMITS.delete().where(COMMITS.c.number == 11))
        connection.execute(COMMITS.insert(), dict(rows[0]._mapping))
    with (
        pytest.raises(errors.DataLossError, match=r"11 is damaged .*of another store"),
        opened(sql_server, name),
    ):
        pass


def test_a_commit_that_is_longer_than_the_server_takes_is_refused(
    mariadb: Server,
) -> None:
    with opened(mariadb, mariadb.new_database()) as log:
        for size in (1 << 23, 1 << 24):
            payload = os.urandom(size)
            with pytest.raises(errors.ResourceExhaustedError, match="max_allowed_packet"):
                append(log, draft(1).__class__("artifact", 1, 10, None, payload))
            assert log.position == 0
        append(log, draft(1).__class__("artifact", 1, 10, None, payload[: (1 << 23) - 4096]))
        append(log, draft(1))


def test_sealing_on_a_server_with_narrow_settings(mariadb: Server) -> None:
    narrow = {"max_allowed_packet": 1 << 20, "completion_type": 2}
    usual = {name: mariadb.execute(f"SELECT @@GLOBAL.{name}")[0][0] for name in narrow}

    def set_up(settings: dict[str, object]) -> None:
        pairs = (
            (name, f"'{value}'" if isinstance(value, str) else value)
            for name, value in settings.items()
        )
        mariadb.execute(*(f"SET GLOBAL {name} = {value}" for name, value in pairs))

    set_up({**narrow})
    try:
        with opened(mariadb, mariadb.new_database()) as log:
            for number in range(1, 6):
                append(log, draft(number, name=os.urandom(200_000).hex()))
            log.seal()
            append(log, draft(6))
            assert log.verify().ok
    finally:
        set_up(usual)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_has_a_connection_of_its_own(log: SqlLog) -> None:
    commits: list[Commit] = [*log.commits()]
    child = os.fork()
    if not child:
        status = 1
        try:
            if [*log.commits()] == commits and append(log, draft(12)).number == 12:
                status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert log.refresh()
    append(log, draft(13))
    assert log.commit_number == 13
    assert [*log.commits()][:11] == commits


def test_a_writer_goes_on_where_others_have_sealed(
    sql_server: Server, name: str, log: SqlLog
) -> None:
    with opened(sql_server, name) as other:
        append(other, draft(12))
        append(other, draft(13))
        log.refresh()
        other.seal()
        # It learns of the segment, which has more than it had put itself.
        assert len(log.sealed_files()) == 3
        append(log, draft(14))
        assert log.verify().ok
