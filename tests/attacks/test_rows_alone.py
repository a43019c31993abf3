"""What is found in the rows of one segment whose hashes were computed again."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from eventstore.log import DirectoryLog, Record
from eventstore.log.checking_process import Answer
from eventstore.log.columns import RECORD_SCHEMA, derive
from eventstore.log.commit import records_of
from eventstore.log.leaf import leaf_hashes
from eventstore.log.log import SignedHead
from eventstore.log.manifest import read_manifest, write_manifest
from eventstore.log.rows_check import RowsCheck, stated_frontier
from eventstore.log.segment_check import SegmentJob, check_segment
from eventstore.log.thrift import read_struct
from eventstore.log.verification import _worker_process
from tests.builders import append, draft

Found = list[tuple[str, int | None, int | None]]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sealed segments: positions 1 and 2 are commit 1, then 3 and 4 commit 2, 5 commit 3."""
    directory = tmp_path_factory.mktemp("rows") / "store"
    log = DirectoryLog.create(directory)
    append(log, draft(1), draft(2))
    log.seal()
    append(log, draft(3), draft(4))
    append(log, draft(5), actor="another")
    log.seal()
    log.close()
    return directory


def job(directory: Path) -> SegmentJob:
    manifest = read_manifest(directory)
    before, entry = manifest.segments
    return SegmentJob(str(directory), manifest.store_id, entry, None, before)


def records(directory: Path) -> list[Record]:
    return [*records_of(parquet.read_table(directory / "log" / "0000000002.parquet"))]


def heads_of(asked: SegmentJob, rows: Sequence[Record], ends: Sequence[int]) -> list[bytes | None]:
    """The true tree head on each of `ends`."""
    assert asked.previous is not None
    frontier = stated_frontier(asked.previous)
    heads: list[bytes | None] = []
    for number, record in enumerate(rows):
        try:
            frontier.extend(leaf_hashes(asked.store_id, [record]))
        except (AssertionError, ValueError):
            frontier.append(b"\0" * 32)
        heads.append(frontier.head() if number in ends else None)
    return heads


def table_of(
    asked: SegmentJob,
    rows: Sequence[Record],
    *,
    ends: Sequence[int] = (1, 2),
    columns: dict[str, dict[int, Any]] | None = None,
) -> pa.Table:
    """The rows with a true tree head on each of `ends`, and derived columns but for `columns`."""
    values: dict[str, list[Any]] = {
        name: [getattr(record, name) for record in rows] for name in Record.__struct_fields__
    }
    values["tree_head"] = heads_of(asked, rows, ends)
    derived = derive([r.kind for r in rows], [r.payload for r in rows])
    for name in RECORD_SCHEMA.names:
        if name not in values:
            values[name] = derived[name].to_pylist()
        for row, value in (columns or {}).get(name, {}).items():
            values[name][row] = value
    arrays = [pa.array(values[field.name], field.type) for field in RECORD_SCHEMA]
    return pa.Table.from_arrays(arrays, schema=RECORD_SCHEMA)


def check_of(directory: Path, table: pa.Table, *signed: SignedHead) -> RowsCheck:
    asked = job(directory)
    path = directory / "log" / "0000000002.parquet"
    check = RowsCheck(asked.store_id, path, 2, asked.previous, signed)
    check.rows(table, derived=True)
    check.expect_whole_commits()
    return check


def found(directory: Path, table: pa.Table, *signed: SignedHead) -> Found:
    findings = check_of(directory, table, *signed).checked.findings
    return [(finding.what, finding.commit, finding.position) for finding in findings]


def changed(directory: Path, row: int, **changes: Any) -> list[Record]:
    rows = records(directory)
    rows[row] = msgspec.structs.replace(rows[row], **changes)
    return rows


def place(directory: Path, words: str, rows: Sequence[Record], **named: Any) -> tuple[Any, Any]:
    ((what, commit, position),) = found(directory, table_of(job(directory), rows, **named))
    assert words in what
    return commit, position


def test_what_was_written_is_sound(store: Path) -> None:
    table = table_of(job(store), records(store))
    assert table["tree_head"].to_pylist()[-1] is not None
    check = check_of(store, table)
    assert (check.checked.findings, check.checked.records, check.checked.commits) == ([], 3, 2)
    assert check.checked.head == read_manifest(store).segments[1].tree_head
    assert (check.next_position, check.next_commit) == (6, 4)


def _time(directory: Path, row: int, step: int) -> int:
    times = [read_manifest(directory).segments[0].last_recorded_at]
    times += [record.recorded_at for record in records(directory)]
    return times[row + 1] + step


@pytest.mark.parametrize(
    ("row", "changes"),
    [
        (0, {"position": 2}),
        (0, {"position": 4}),
        (1, {"position": 5}),
        (2, {"position": 4}),
        (0, {"commit": 1}),
        (0, {"commit": 3}),
        (1, {"commit": 3}),
        (2, {"commit": 2}),
        (2, {"commit": 4}),
        (0, {"previous": 0}),
        (0, {"previous": -1}),
        (0, {"previous": 3}),
        (1, {"previous": 4}),
        (2, {"previous": 6}),
    ],
)
def test_a_record_out_of_order(store: Path, row: int, changes: dict[str, int]) -> None:
    rows = changed(store, row, **changes)
    expected = (2, 3 + row) if row < 2 else (3, 5)
    assert place(store, f"is out of order: commit {expected[0]} at", rows) == expected
    check = check_of(store, table_of(job(store), rows))
    # Nothing is said of what comes after it.
    assert (check.checked.records, check.next_position) == (row, 3 + row)


def test_times_do_not_go_back(store: Path) -> None:
    before, *_ = (_time(store, row, 0) for row in (-1, 0, 1, 2))
    rows = records(store)

    def at(*times: int) -> list[Record]:
        return [
            msgspec.structs.replace(r, recorded_at=time)
            for r, time in zip(rows, times, strict=True)
        ]

    for times in ((before, before, before), (before, before, before + 1)):
        assert found(store, table_of(job(store), at(*times))) == []
    words = "is out of order"
    assert place(store, words, at(before - 1, before, before)) == (2, 3)
    assert place(store, words, at(before + 1, before, before)) == (2, 4)
    assert place(store, words, at(before + 1, before + 1, before)) == (3, 5)
    words = "its commit says two times, actors, reasons or request ids"
    assert place(store, words, at(before, before + 1, before + 1)) == (2, 4)
    check = check_of(store, table_of(job(store), at(before, before, before + 9)))
    assert (check._first_recorded_at, check._recorded_at) == (before, before + 9)


@pytest.mark.parametrize("previous", [1, 2])
def test_a_record_in_place_of_an_earlier_one(store: Path, previous: int) -> None:
    assert found(store, table_of(job(store), changed(store, 0, previous=previous))) == []


@pytest.mark.parametrize("name", ["actor", "reason", "request_id"])
@pytest.mark.parametrize("value", ["somebody", None])
def test_a_commit_that_says_two_things(store: Path, name: str, value: str | None) -> None:
    rows = records(store)
    rows[:2] = [msgspec.structs.replace(row, **{name: "first"}) for row in rows[:2]]
    assert found(store, table_of(job(store), rows)) == []
    rows[1] = msgspec.structs.replace(rows[1], **{name: value})
    words = "of the record at position 4, its commit says two times, actors, reasons or request ids"
    assert place(store, words, rows) == (2, 4)


def test_heads_that_the_records_do_not_give(store: Path) -> None:
    rows = records(store)
    for column in ({1: b"\0" * 32}, {1: b"\0" * 32, 2: b"\1" * 32}):
        table = table_of(job(store), rows, columns={"tree_head": column})
        ((what, *where),) = found(store, table)
        assert "commit 2 was changed: its records do not give its tree head" in what
        assert where == [2, 4]
        # What it ends at is then not known.
        assert check_of(store, table).checked.head == job(store).previous.tree_head  # type: ignore[union-attr]
    table = table_of(job(store), rows, columns={"tree_head": {2: b"\0" * 32}})
    assert [where for _, *where in found(store, table)] == [[3, 5]]


def test_commits_without_an_end(store: Path) -> None:
    rows = records(store)
    words = "commit 3 has no end: its last record lacks a tree head"
    assert place(store, words, rows, ends=[1]) == (3, 5)
    one = [msgspec.structs.replace(row, commit=2, actor="tester") for row in rows]
    one = [msgspec.structs.replace(row, recorded_at=one[0].recorded_at) for row in one]
    assert found(store, table_of(job(store), one, ends=[2])) == []
    words = "commit 2 has no end: its last record lacks a tree head"
    assert place(store, words, one, ends=[]) == (2, 5)


def test_what_was_signed(store: Path) -> None:
    rows = records(store)
    table = table_of(job(store), rows)
    heads = [head.hex() for head in table["tree_head"].to_pylist() if head is not None]
    moments = [rows[1].recorded_at, rows[2].recorded_at]
    good = [
        SignedHead(size, head, commit, moment, f"signed {commit}")
        for size, head, commit, moment in zip((4, 5), heads, (2, 3), moments, strict=True)
    ]
    assert found(store, table, *good) == []
    bad = [msgspec.structs.replace(head, head="00" * 32) for head in good]
    assert [where for _, *where in found(store, table, *bad)] == [[2, 4], [3, 5]]
    # Heads that the records do not give are one finding, whatever was signed of them.
    table = table_of(job(store), rows, columns={"tree_head": {1: b"\0" * 32}})
    assert [where for _, *where in found(store, table, good[0], bad[1])] == [[2, 4]]


@pytest.mark.parametrize("row", [0, 1, 2])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("name", "other"), ("uri", "other"), ("state", 3), ("create_time", 1)),
        *(("artifact_id", 1), ("custom_properties", []), ("properties", [("a", {})])),
    ],
)
def test_columns_that_are_not_the_content(store: Path, row: int, name: str, value: Any) -> None:
    commit, position = (2, 3 + row) if row < 2 else (3, 5)
    words = f"commit {commit} was changed: column {name} does not agree with the payload"
    rows = records(store)
    assert place(store, words, rows, columns={name: {row: value}}) == (commit, position)
    # One finding a column, of the first record.
    every = dict.fromkeys(range(row, 3), value)
    assert place(store, words, rows, columns={name: every}) == (commit, position)
    two = {name: {row: value}, "external_id": {0: "other"}}
    names = [
        what.split("column ")[1].split()[0]
        for what, *_ in found(store, table_of(job(store), rows, columns=two))
    ]
    assert sorted(names) == sorted([name, "external_id"])


@pytest.mark.parametrize("row", [0, 1, 2])
def test_a_payload_that_is_no_message(store: Path, row: int) -> None:
    rows = records(store)
    honest = table_of(job(store), rows)
    rows[row] = msgspec.structs.replace(rows[row], payload=b"\x07")
    true_heads = heads_of(job(store), rows, (1, 2))
    table = honest
    for name, column in (("payload", [r.payload for r in rows]), ("tree_head", true_heads)):
        field, at = RECORD_SCHEMA.field(name), RECORD_SCHEMA.get_field_index(name)
        table = table.set_column(at, field, pa.array(column, field.type))
    ((what, *where),) = found(store, table)
    expected = [2, 3 + row] if row < 2 else [3, 5]
    assert f"commit {expected[0]} was changed: it does not decode" in what
    assert where == expected


# Row groups of a file


def forged_file(directory: Path, content: bytes) -> SegmentJob:
    """The segment's job once its file has other content that the manifest agrees with."""
    manifest = read_manifest(directory)
    entry = msgspec.structs.replace(
        manifest.segments[1],
        file_bytes=len(content),
        file_sha256=hashlib.sha256(content).hexdigest(),
    )
    (directory / "log" / entry.file).write_bytes(content)
    write_manifest(
        directory, msgspec.structs.replace(manifest, segments=(manifest.segments[0], entry))
    )
    return job(directory)


@pytest.fixture
def sealed(store: Path) -> Iterator[Path]:
    """The second segment's file, as it was again at the end."""
    path = store / "log" / "0000000002.parquet"
    before = path.read_bytes()
    yield path
    forged_file(store, before)


def _flipped(path: Path, column: str, group: int = 0) -> bytes:
    content = bytearray(path.read_bytes())
    metadata = parquet.ParquetFile(path).metadata
    names = [metadata.schema.column(n).path for n in range(metadata.num_columns)]
    chunk = metadata.row_group(group).column(names.index(column))
    content[chunk.data_page_offset + chunk.total_compressed_size - 8] ^= 1
    return bytes(content)


def _not_compressed(path: Path, column: str, group: int = 0) -> bytes:
    """The file with a page that cannot be unpacked, whatever its checksum."""
    content = bytearray(path.read_bytes())
    metadata = parquet.ParquetFile(path).metadata
    names = [metadata.schema.column(n).path for n in range(metadata.num_columns)]
    chunk = metadata.row_group(group).column(names.index(column))
    _, body = read_struct(bytes(content), chunk.data_page_offset)
    content[body + 1] ^= 0xFF
    return bytes(content)


def rewritten(directory: Path, table: pa.Table, **options: Any) -> SegmentJob:
    """The segment's job once a table is in its file as the writer puts it, save for `options`."""
    path = directory / "log" / "0000000002.parquet"
    before = parquet.read_schema(path).metadata
    metadata = {k: v for k, v in before.items() if k.startswith(b"eventstore")}
    settings: dict[str, Any] = {
        "compression": "zstd",
        "row_group_size": 1,
        "use_dictionary": ["kind", "type_id", "actor", "reason", "request_id", "version", "state"],
        "write_page_checksum": True,
    }
    parquet.write_table(table.replace_schema_metadata(metadata), path, **settings | options)
    return forged_file(directory, path.read_bytes())


@pytest.mark.parametrize("row", [0, 1, 2])
def test_a_fault_of_the_records_is_all_that_is_said(store: Path, sealed: Path, row: int) -> None:
    """A file that is wrong as a file as well; and all records are counted."""
    table = table_of(job(store), records(store), columns={"uri": {row: "other"}})
    for options in ({}, {"row_group_size": 2}, {"row_group_size": 3, "compression": "none"}):
        result = check_segment(rewritten(store, table, **options))
        (finding,) = result.findings
        assert "column uri does not agree with the payload" in finding.what
        assert (finding.commit, finding.position) == ((2, 3 + row) if row < 2 else (3, 5))
        assert (result.records, result.commits) == (3, 2)


def test_a_group_of_several_commits_that_does_not_decode(store: Path, sealed: Path) -> None:
    """Where what can be read of it tells more, that is said and nothing else."""
    damaged = "commit 2 is damaged, or one after it up to commit 3: "
    before = sealed.read_bytes()
    for change, column, words, where in (
        (_not_compressed, "payload", damaged, (2, 3)),
        (_not_compressed, "commit", damaged, (2, 3)),
        (_flipped, "recorded_at", "commit 3 was changed: its records do not give", (3, 5)),
    ):
        (finding,) = check_segment(forged_file(store, change(sealed, column))).findings
        assert words in finding.what
        assert (finding.commit, finding.position) == where
        forged_file(store, before)


def test_commits_may_lie_across_groups(store: Path, sealed: Path) -> None:
    written = parquet.read_table(sealed)
    asked = rewritten(store, written)
    # Once they have been found to be true of themselves, too.
    for _ in range(2):
        result = check_segment(asked)
        assert (result.findings, result.records, result.commits) == ([], 3, 2)
    for group, where in ((0, (2, 3)), (1, (2, 4)), (2, (3, 5))):
        before = sealed.read_bytes()
        (finding,) = check_segment(forged_file(store, _flipped(sealed, "payload", group))).findings
        assert f"commit {where[0]} " in finding.what
        assert (finding.commit, finding.position) == where
        forged_file(store, before)
    # What commits the group holds is told by their column alone.
    for column, last in (("payload", 2), ("commit", 3)):
        before = sealed.read_bytes()
        (finding,) = check_segment(forged_file(store, _not_compressed(sealed, column))).findings
        assert f"commit 2 is damaged, or one after it up to commit {last}: " in finding.what
        forged_file(store, before)
    # Without the group of its last record.
    (finding,) = check_segment(rewritten(store, written.slice(0, 1))).findings
    assert "commit 2 has no end" in finding.what
    assert (finding.commit, finding.position) == (2, 3)


# Checking in processes of their own


def test_a_process_answers_each_line(store: Path) -> None:
    with _worker_process() as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(2):
            process.stdin.write(msgspec.json.encode(job(store)) + b"\n")
            process.stdin.flush()
            answer = msgspec.json.decode(process.stdout.readline(), type=Answer)
            assert answer.result() == check_segment(job(store))
        process.stdin.close()
        assert process.wait() == 0
    assert sys.executable == process.args[0]  # type: ignore[index]
