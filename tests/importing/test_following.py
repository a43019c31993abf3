"""A follower records each state of a database that it finds, once, whatever became of the last."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

import eventstore
from eventstore import errors
from eventstore.importing import follow_mlmd_database, import_mlmd_database
from eventstore.importing.following import Follower
from eventstore.importing.importer import drafts
from eventstore.importing.mlmd_database import MlmdDatabase
from eventstore.importing.mlmd_rows import MlmdReader
from eventstore.importing.sources import opened_source
from eventstore.log.stores import open_log
from tests.importing.conftest import Change
from tests.sql_servers import Server

PARENTS = "parent_context"


def changed_by(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


@contextmanager
def following(source: str | Path, store: Path) -> Iterator[Callable[[], int]]:
    """Called, it looks once; how many records that has brought."""
    with closing(open_log(store)) as log, closing(opened_source(source)) as opened:
        follower = Follower(log, opened, "follower")

        def look() -> int:
            log.refresh()
            before = log.position
            while True:
                changes = follower.look()
                follower.append(changes)
                if not changes.is_part:
                    return log.position - before

        yield look


def in_database(source: str | Path) -> dict[Any, bytes]:
    """All that an import would bring; parent contexts have no ids."""
    with closing(opened_source(source)) as opened:
        database = MlmdDatabase(opened)
        return {
            (d.kind, d.payload if d.kind == PARENTS else d.entity_id): d.payload
            for d in drafts(database, MlmdReader(database))
        }


def in_log(store: Path) -> dict[Any, bytes]:
    with closing(open_log(store, read_only=True)) as log:
        return {
            (r.kind, r.payload if r.kind == PARENTS else r.entity_id): r.payload or b""
            for commit in log.commits()
            for r in commit.records
        }


@pytest.fixture
def source(changed: Change) -> Path:
    return changed()


@pytest.fixture
def store(source: Path, tmp_path: Path) -> Path:
    import_mlmd_database(source, tmp_path / "store", copies=True)
    return tmp_path / "store"


ARTIFACT = (
    "INSERT INTO Artifact (id, type_id, uri, create_time_since_epoch, last_update_time_since_epoch)"
)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE Artifact SET uri = 'new', last_update_time_since_epoch = 2e13",
        # In the same millisecond, and by a clock that was set back.
        "UPDATE Artifact SET uri = 'new' WHERE id = 1",
        "UPDATE Execution SET last_known_state = 2, last_update_time_since_epoch = 1",
        "UPDATE ContextProperty SET int_value = 2",
        "DELETE FROM ArtifactProperty WHERE artifact_id = 1",
        f"{ARTIFACT} VALUES (2000, 11, 'far', 5, 5), (7, 11, 'near', 5, 5)",
        "INSERT INTO Event (id, artifact_id, execution_id, type) VALUES (5000, 2, 2, 1)",
        "INSERT INTO Attribution (id, context_id, artifact_id) VALUES (40, 3, 2), (99, 1, 3)",
        "INSERT INTO Association (context_id, execution_id) VALUES (3, 1)",
        "INSERT INTO ParentContext VALUES (2, 1), (3, 2)",
        "INSERT INTO Type (name, type_kind) VALUES ('New', 1)",
        "INSERT INTO TypeProperty VALUES (11, 'new', 1)",
    ],
)
def test_a_change_is_recorded_once(statement: str, source: Path, store: Path) -> None:
    with following(source, store) as look:
        assert look() == 0
        changed_by(source, statement)
        assert look() > 0
        assert look() == 0
    assert in_log(store) == in_database(source)
    with following(source, store) as look:
        assert look() == 0
    with eventstore.open(store) as opened:
        assert opened.verify().ok


def test_ids_that_come_later_than_higher_ones(source: Path, store: Path) -> None:
    with following(source, store) as look:
        for row_id in (3005, 1500, 3004, 8, 1499):
            changed_by(
                source,
                f"{ARTIFACT} VALUES ({row_id}, 11, 'x', 5, {5 - row_id})",
                f"INSERT INTO Event (id, artifact_id, execution_id, type)"
                f" VALUES ({row_id}, {row_id}, 1, 3)",
            )
            assert look() == 2
    assert in_log(store) == in_database(source)


def test_nodes_beyond_what_is_compared_in_turn(
    source: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventstore.importing.changes.COMPARED_IN_TURN", 2)
    monkeypatch.setattr("eventstore.importing.changes.READ_AT_ONCE", 3)
    changed_by(source, *(f"{ARTIFACT} VALUES ({n}, 11, 'x', 5, 5)" for n in range(100, 120)))
    with following(source, store) as look:
        assert look() == 20
        # A minute later they are recent no more, but their turn comes.
        monkeypatch.setattr("eventstore.importing.known._RECENT_MICROSECONDS", 0)
        look()
        changed_by(source, "UPDATE Artifact SET uri = 'silent' WHERE id = 110")
        found = [look() for _ in range(20)]
        assert sum(found) == 1
    assert in_log(store) == in_database(source)


def test_a_database_that_was_made_anew_is_refused(
    source: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventstore.importing.changes._GONE_AT_ONCE_MAX", 2)
    changed_by(source, *(f"DELETE FROM {table}" for table in ("Artifact", "Execution", "Context")))
    with following(source, store) as look, pytest.raises(errors.FailedPreconditionError) as raised:
        look()
    assert "has 8 of 8 nodes no longer" in raised.value.message


def test_what_is_gone_is_recorded_with_the_reason(source: Path, store: Path) -> None:
    with following(source, store) as look:
        changed_by(
            source,
            "CREATE TABLE kept AS SELECT * FROM Artifact WHERE id = 3",
            "CREATE TABLE kept_event AS SELECT * FROM Event WHERE id = 1",
        )
        changed_by(source, "DELETE FROM Artifact WHERE id = 3", "DELETE FROM Event WHERE id = 1")
        assert (look(), look()) == (1, 0)
    with eventstore.open(store) as opened:
        gone, before = opened.history("artifact", 3)[::-1][:2]
        assert gone.reason == "no longer in mlmd-v10.db, MLMD schema version 10"
        assert gone.message == before.message
    with following(source, store) as look:
        assert look() == 0
        # A link that comes back with another id is there already.
        changed_by(
            source,
            "INSERT INTO Artifact SELECT * FROM kept",
            "INSERT INTO Event SELECT 77, artifact_id, execution_id, type, 1 FROM kept_event",
        )
        assert (look(), look()) == (1, 0)
    with eventstore.open(store) as opened:
        assert opened.history("artifact", 3)[-1].message == before.message
        assert opened.verify().ok


def test_what_was_erased_here_does_not_come_back(source: Path, store: Path) -> None:
    with eventstore.open(store, actor="ana") as opened:
        opened.erase("artifact", 1, reason="GDPR-17")
    with following(source, store) as look:
        assert look() == 0
        changed_by(source, "UPDATE Artifact SET uri = 'personal' WHERE id = 1")
        assert look() == 0
        with eventstore.open(store, actor="ana") as opened:
            opened.erase("artifact", 2, reason="GDPR-17")
        changed_by(source, "UPDATE Artifact SET uri = 'personal' WHERE id = 2")
        assert look() == 0


def test_another_database_is_refused(source: Path, store: Path) -> None:
    changed_by(source, "UPDATE Artifact SET create_time_since_epoch = 1 WHERE id = 2")
    with following(source, store) as look, pytest.raises(errors.FailedPreconditionError) as raised:
        look()
    assert "artifact 2" in raised.value.message
    assert "only the database that it was imported from" in raised.value.message


def test_followers_that_are_killed(source: Path, store: Path) -> None:
    command = [sys.executable, "-m", "eventstore", "import", "--follow", "--interval", "0.01"]
    for number in range(2):
        with subprocess.Popen([*command, source, store], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            changed_by(source, f"UPDATE Artifact SET uri = '{number}'")
            assert process.stdout.readline().startswith(b"position ")
            changed_by(
                source, *(f"{ARTIFACT} VALUES ({number}{n}0, 11, 'x', 5, 5)" for n in range(1, 9))
            )
            process.send_signal(signal.SIGKILL if number else signal.SIGTERM)
            assert process.wait(60) == (-signal.SIGKILL if number else 0)
    with following(source, store) as look:
        look()
    assert in_log(store) == in_database(source)
    with closing(open_log(store, read_only=True)) as log:
        uris = [
            r for c in log.commits() for r in c.records if (r.kind, r.entity_id) == ("artifact", 1)
        ]
    assert len(uris) == 3
    with eventstore.open(store) as opened:
        assert opened.verify().ok


def test_two_followers_record_each_change_once(source: Path, store: Path) -> None:
    with closing(open_log(store)) as log, closing(open_log(store)) as other_log:
        sources = opened_source(source), opened_source(source)
        with closing(sources[0]), closing(sources[1]):
            first = Follower(log, sources[0], "first")
            second = Follower(other_log, sources[1], "second")
            for number in range(3):
                changed_by(source, f"UPDATE Artifact SET uri = '{number}' WHERE id = 1")
                found = first.look(), second.look()
                brought = first.append(found[0]), second.append(found[1])
                assert brought[0] is not None
                assert brought[1] is None
                first, second = second, first
            assert not first.look().drafts
            assert not second.look().drafts
    assert in_log(store) == in_database(source)
    with closing(open_log(store, read_only=True)) as log:
        kinds = [[r.kind for r in c.records] for c in log.commits()]
    assert kinds[-3:] == [["artifact"]] * 3


def test_a_file_that_is_locked_as_it_begins(source: Path, store: Path) -> None:
    changed_by(source, "UPDATE Artifact SET uri = 'new' WHERE id = 1")
    said: list[str] = []
    with closing(sqlite3.connect(source, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")

        def notice(sentence: str) -> None:
            said.append(sentence)
            if writer.in_transaction:
                writer.execute("COMMIT")

        stop = threading.Event()
        looks = follow_mlmd_database(source, store, interval_seconds=0.01, stop=stop, notice=notice)
        assert next(looks).records == {"artifact": 1}
        stop.set()
        assert list(looks) == []
    assert said[0].endswith("trying again")
    assert said[1].endswith("is in reach again")


def test_a_server_that_restarts(sql_server: Server, tmp_path: Path) -> None:
    from tests.importing.minimal import make_database

    database = sql_server.new_database()
    make_database(sql_server, database)
    url = sql_server.url(database)
    import_mlmd_database(url, tmp_path / "store")
    stop, lost = threading.Event(), threading.Event()
    said: list[str] = []

    def notice(sentence: str) -> None:
        said.append(sentence)
        lost.set()

    looks = follow_mlmd_database(
        url, tmp_path / "store", interval_seconds=0.05, stop=stop, notice=notice
    )
    sql_server.execute("UPDATE Artifact SET uri = 'one'", database=database)
    assert next(looks).records == {"artifact": 1}
    restarted = threading.Thread(target=lambda: (lost.wait(60), sql_server.start()))
    sql_server.kill()
    restarted.start()
    changing = threading.Thread(
        target=lambda: (
            restarted.join(),
            sql_server.execute("UPDATE Artifact SET uri = 'two'", database=database),
        )
    )
    changing.start()
    assert next(looks).records == {"artifact": 1}
    changing.join()
    stop.set()
    assert list(looks) == []
    assert [line.rpartition("; ")[2] for line in said[:1]] == ["trying again"]
    assert said[-1].endswith("is in reach again")
    assert "s3cr3t" not in "".join(said)
