"""The DuckDB tables: damaged, foreign, small or beyond their memory, they answer the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from eventstore.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    ResourceExhaustedError,
)
from eventstore.log import DirectoryLog, Draft, MemoryLog
from eventstore.log import record as kind_names
from eventstore.log.kinds import ARTIFACT
from eventstore.projections import Projections, folded_tables, tables_file
from eventstore.projections import tables as tables_module
from eventstore.projections.filter import compile_filter
from eventstore.projections.listing import Listing
from eventstore.projections.tables import Tables
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import append, draft, list_ids
from tests.projections.conftest import artifact_ids, database

ROOT = Path(__file__).parents[2]


def damaged_at(content: bytes, start: int, length: int) -> bytes:
    return (
        content[:start]
        + bytes(byte ^ 0x55 for byte in content[start:][:length])
        + content[start + length :]
    )


def test_a_damaged_file_is_built_again(tmp_path: Path) -> None:
    log = DirectoryLog.create(tmp_path / "store")
    append(log, *(draft(entity_id, name=f"n{entity_id}") for entity_id in range(1, 3_000)))
    projections = Projections(log)
    assert len(artifact_ids(projections)) == 2_999
    projections.close()
    whole = database(log).read_bytes()
    step = 100_000
    damages = [
        damaged_at(whole, start, 64) for start in (0, 12, 4_104, *range(0, len(whole), step))
    ]
    damages += [b"", whole[:4_096], whole[: len(whole) // 2], b"no database"]
    for damaged in damages:
        database(log).write_bytes(damaged)
        projections = Projections(log)
        position = projections.catch_up()
        where = compile_filter("custom_properties.n.int_value = 77", "artifact")
        assert list_ids(projections, kind_names.ARTIFACT, as_of=position, where=where) == [(77, 77)]
        assert len(artifact_ids(projections)) == 2_999
        projections.close()
        projections = Projections(log)
        assert len(artifact_ids(projections)) == 2_999
        projections.close()


def test_damage_in_the_write_ahead_log(log: DirectoryLog) -> None:
    assert log.directory is not None
    code = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from eventstore.log import DirectoryLog
from eventstore.projections import Projections
from eventstore.log.kinds import ARTIFACT
from eventstore.projections.listing import Listing
projections = Projections(DirectoryLog.open(Path(sys.argv[1])))
projections.planner.find(Listing(ARTIFACT, projections.catch_up(), order_by="create_time"))
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", code, str(log.directory)], check=True, cwd=ROOT)
    wal = Path(f"{database(log)}.wal")
    whole, content = wal.read_bytes(), database(log).read_bytes()
    for damaged in (
        whole,
        whole[: len(whole) // 2],
        whole[:-1],
        *(damaged_at(whole, start, 8) for start in range(0, len(whole), 97)),
    ):
        wal.write_bytes(damaged)
        database(log).write_bytes(content)
        projections = Projections(log)
        assert artifact_ids(projections) == [1, 2, 3, 4, 5]
        projections.close()
        remove_leftovers(wal)


@pytest.mark.parametrize("read_only", [False, True])
def test_a_link_to_itself_in_place_of_the_tables(log: DirectoryLog, read_only: bool) -> None:
    projections = Projections(log)
    expected = artifact_ids(projections)
    projections.close()
    database(log).unlink()
    database(log).symlink_to(database(log))
    projections = Projections(log, read_only=read_only)
    assert artifact_ids(projections) == expected
    projections.close()
    assert database(log).is_symlink() is read_only


def remove_leftovers(wal: Path) -> None:
    for path in wal.parent.glob("tables.duckdb*"):
        path.unlink()


def test_the_tables_of_another_log_or_history_are_built_again(
    log: DirectoryLog, tmp_path: Path
) -> None:
    projections = Projections(log)
    artifact_ids(projections)
    projections.close()
    content = database(log).read_bytes()
    foreign = DirectoryLog.create(tmp_path / "foreign")
    append(foreign, *(draft(entity_id) for entity_id in range(11, 18)))
    database(foreign).parent.mkdir()
    database(foreign).write_bytes(content)
    assert artifact_ids(Projections(foreign)) == [11, 12, 13, 14, 15, 16, 17]

    database(log).write_bytes(content)
    connection = duckdb.connect(str(database(log)))
    connection.execute("UPDATE folded_position SET recorded_at = recorded_at - 1")
    connection.execute("DELETE FROM artifacts WHERE id = 3")
    connection.close()
    assert artifact_ids(Projections(log)) == [1, 2, 3, 4, 5]


def test_an_unwritable_folder_costs_persistence_alone(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    database(log).parent.parent.joinpath("projections").write_text("a file, no folder")
    tables = Tables(log, database(log))
    tables.fold(6)
    assert tables.query("SELECT count(*) FROM artifacts", {}) == [(6,)]
    tables.close()


def test_read_only_ones_write_nothing(log: DirectoryLog) -> None:
    assert log.directory is not None
    reading = Projections(DirectoryLog.open(log.directory, read_only=True), read_only=True)
    assert artifact_ids(reading) == [1, 2, 3, 4, 5]
    assert not database(log).parent.exists()
    reading.close()
    writing = Projections(log)
    artifact_ids(writing)
    writing.close()
    before = database(log).read_bytes()
    reading = Projections(DirectoryLog.open(log.directory, read_only=True), read_only=True)
    assert artifact_ids(reading) == [1, 2, 3, 4, 5]
    append(log, draft(6))
    assert artifact_ids(reading) == [1, 2, 3, 4, 5, 6]
    reading.close()
    assert database(log).read_bytes() == before


def test_tables_apart_are_removed_with_their_folder(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tables_file, "IN_MEMORY_RECORDS_MAX", 0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    opened = tables_file.open_tables_apart(log)
    assert opened.temporary is not None
    assert opened.temporary.path.exists()
    opened.close()
    assert not opened.temporary.path.exists()


def test_the_position_asked_for_decides_whether_to_fold(log: DirectoryLog) -> None:
    tables = Tables(log, None)
    progress: list[tuple[int, int]] = []
    tables.fold(3, lambda done, of: progress.append((done, of)))
    assert progress == [(6, 6)]
    assert tables.folded_position() == 6
    append(log, draft(6))
    tables.fold(6, lambda done, of: progress.append((done, of)))
    assert tables.folded_position() == 6
    tables.fold(7, lambda done, of: progress.append((done, of)))
    assert progress[1:] == [(1, 1)]
    tables.close()


def test_a_long_fold_is_told_in_positions(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "eventstore.projections")
    monkeypatch.setattr(folded_tables, "FOLDED_ROWS_MAX", 4)
    tables = Tables(log, None)
    tables.fold(6)
    append(log, *(draft(entity_id) for entity_id in range(6, 11)))
    tables.fold(11)
    append(log, draft(11))
    tables.fold(12)
    tables.close()
    assert caplog.messages == [
        "folding positions 1 to 6 into the projections",
        "folding positions 7 to 11 into the projections",
    ]


def test_a_value_that_cannot_be_computed_is_the_callers_fault() -> None:
    tables = Tables(MemoryLog(), None)
    with pytest.raises(InvalidArgumentError, match=r"^Out of Range Error: "):
        tables.query("SELECT 9223372036854775807 + $one", {"one": 1})
    with pytest.raises(duckdb.BinderException):
        tables.query("SELECT nothing", {})
    assert tables.query("SELECT $one + 1", {"one": 1}) == [(2,)]
    tables.close()


def test_a_query_beyond_its_memory_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables_file, "memory_limit_bytes", lambda: 20 * 2**20)
    tables = Tables(MemoryLog(), None)
    with pytest.raises(ResourceExhaustedError, match="more memory"):
        tables.query("SELECT list(md5(i::VARCHAR)) FROM range(2000000) AS numbers(i)", {})
    assert tables.query("SELECT $one + 1", {"one": 1}) == [(2,)]
    tables.close()


def test_a_fold_beyond_its_memory_says_so(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise duckdb.OutOfMemoryException("Out of Memory Error: failed to allocate")

    tables = Tables(log, None)
    with monkeypatch.context() as patched:
        patched.setattr(Tables, "_fold_in_transaction", failing)
        with pytest.raises(ResourceExhaustedError, match="memory"):
            tables.fold(log.position)
    with pytest.raises(ResourceExhaustedError, match="memory"):
        tables.asked(failing, log.position)
    tables.close()


def test_nothing_outside_the_database_can_be_read(log: DirectoryLog, tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("a,b\n1,2\n")
    for tables in (Tables(log, None), Tables(log, database(log))):
        for sql in (
            f"FROM read_csv('{tmp_path / 'secret.csv'}')",
            f"COPY artifacts TO '{tmp_path / 'copy.csv'}'",
            "INSTALL httpfs",
        ):
            with pytest.raises(duckdb.PermissionException):
                tables.query(sql, {})
        tables.close()


def test_small_tables_are_queried_by_one_thread_until_they_grow(
    log: DirectoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(log, draft(1))
    threads = "SELECT current_setting('threads')::INTEGER"
    tables = Tables(log, database(log))
    tables.fold(log.position)
    assert tables.query(threads, {}) == [(1,)]
    for module in (tables_file, folded_tables):
        monkeypatch.setattr(module, "ONE_THREAD_RECORDS_MAX", log.position)
    append(log, draft(2))
    tables.fold(log.position)
    assert tables.query(threads, {}) == [(os.cpu_count(),)]
    assert tables.folded_position() == log.position
    tables.close()


def test_a_condition_that_folds_to_null_is_no_error(log: DirectoryLog) -> None:
    append(log, draft(1, name="one"))
    projections = Projections(log)
    for text in (
        "name <= CASE WHEN id IS NULL THEN upper('N3') END",
        "name != CASE WHEN id > 1000000 THEN 'x' END OR upper(name) = 'NOBODY'",
        "properties.x.string_value = CASE WHEN id IS NULL THEN 'x' END",
        "contexts_a.name <= CASE WHEN id IS NULL THEN 'N3' END",
    ):
        where = compile_filter(text, "artifact")
        assert list_ids(projections, "artifact", as_of=projections.catch_up(), where=where) == []
    where = compile_filter("name <= CASE WHEN id IS NULL THEN 'a' END OR name = 'one'", "artifact")
    found = list_ids(projections, "artifact", as_of=projections.catch_up(), where=where, limit=5)
    assert len(found) >= 1
    projections.close()


def test_a_computed_text_that_may_be_null_is_looked_for_in_a_list(log: DirectoryLog) -> None:
    """DuckDB 2.0 concludes from such an IN that the columns it is computed from are not null."""
    for number in range(3):
        artifact = mlmd.Artifact(id=number + 1, type_id=10)
        if number:
            artifact.custom_properties["x"].int_value = number
        else:
            artifact.custom_properties["x"].string_value = "none"
        append(log, Draft("artifact", number + 1, 10, None, artifact.SerializeToString()))
    projections = Projections(log)
    for text, expected in (
        ("NULLIF('n', FORMAT('%d', custom_properties.x.int_value)) IN ('a', 'n')", [1, 2, 3]),
        ("NULLIF('n', FORMAT('%d', custom_properties.x.int_value)) NOT IN ('a', 'b')", [1, 2, 3]),
        ("CASE WHEN custom_properties.x.int_value = 1 THEN NULL ELSE 'n' END IN ('n')", [1, 3]),
        ("CASE WHEN custom_properties.x.int_value = 1 THEN NULL ELSE 'n' END LIKE 'n%'", [1, 3]),
    ):
        where = compile_filter(text, "artifact")
        found = list_ids(projections, "artifact", as_of=projections.catch_up(), where=where)
        assert [node_id for node_id, _ in found] == expected, text
    projections.close()


def test_a_listing_without_a_filter_blames_none(monkeypatch: pytest.MonkeyPatch) -> None:
    tables, listing = Tables(MemoryLog(), None), Listing(ARTIFACT, 0)
    with monkeypatch.context() as patched:
        overflow = "SELECT 9223372036854775807 + $one", {"one": 1}
        patched.setattr(tables_module, "listing_sql", lambda *_, **__: overflow)
        with pytest.raises(InvalidArgumentError, match=r"^Out of Range Error"):
            tables.scanned(listing)
        filtered = Listing(ARTIFACT, 0, where=compile_filter("id = 1", "artifact"))
        with pytest.raises(InvalidArgumentError, match=r"^Invalid `filter_query`: Out of Range"):
            tables.scanned(filtered)

    def late(*_: object, **__: object) -> None:
        raise DeadlineExceededError("too late")

    monkeypatch.setattr(tables_module, "answer_in_time", late)
    with pytest.raises(ResourceExhaustedError, match=r"^the query takes longer than 30 seconds;"):
        tables.scanned(listing)
    tables.close()
