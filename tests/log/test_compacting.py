"""Merging sealed segments: no record, head, proof or answer changes, wherever it stops."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import msgspec
import pyarrow.parquet as parquet
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from eventstore import errors
from eventstore.audit import standalone_verifier
from eventstore.log import DirectoryLog, RewrittenFile, compacting, sealing, segmented_reader
from eventstore.log.compacting import Target
from eventstore.log.erased import Erased, Spans
from eventstore.log.log import PositionConflictError
from eventstore.log.manifest import Segment, read_manifest, sealed_name, write_manifest
from eventstore.log.verification import verify_directory
from tests.builders import append, append_erasure, draft
from tests.stored_bytes import files_with

RECORDS = 30


def at(*positions: int) -> Erased:
    spans = Spans.of((position, position) for position in positions)
    return Erased(spans, spans)


def erase(log: DirectoryLog, number: int, *positions: int) -> list[RewrittenFile]:
    """Erase, whole; what was rewritten."""
    append_erasure(log, at(*positions), number=number)
    files = log.destroy(at(*positions))
    count = len(positions)
    append_erasure(
        log,
        at(*positions),
        number=number,
        stage="COMPLETED",
        contents_erased=count,
        whos_erased=count,
    )
    return files


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven sealed segments of four records each, and an active one of two."""
    path = tmp_path_factory.mktemp("made") / "store"
    with closing(DirectoryLog.create(path, segment_records_max=4)) as log:
        for number in range(1, RECORDS + 1):
            append(log, draft(number, name=f"n{number}"), actor=f"actor-{number}")
    # Closing seals what is closed.
    with closing(DirectoryLog.open(path, segment_records_max=4)) as log:
        log._seal_closed()
    assert [s.sealed for s in read_manifest(path).segments] == [True] * 7
    return path


@pytest.fixture
def directory(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "store"))


def opened(directory: Path, *, read_only: bool = False) -> DirectoryLog:
    return DirectoryLog.open(directory, read_only=read_only, segment_records_max=4)


def numbers(directory: Path) -> list[tuple[int, int]]:
    """The first and the last number of each segment."""
    return [(s.numbers.start, s.number) for s in read_manifest(directory).segments]


def read(log: DirectoryLog) -> list[Any]:
    return [*log.commits()]


def sealed_on_disk(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / "log").glob("*.parquet*"))


def told_by_verifier(directory: Path) -> list[dict[str, Any]]:
    records = [*standalone_verifier.stored_records(str(directory))]
    for record in records:
        # What a file beside it says of it, where a crash has left one.
        record.pop("kept", None)
    return records


# What it does


def test_neighbours_become_one_segment(directory: Path) -> None:
    before = verify_directory(directory)
    segments = read_manifest(directory).segments
    told: list[tuple[int, int]] = []
    with closing(opened(directory)) as log, closing(opened(directory, read_only=True)) as reader:
        commits, records = read(log), told_by_verifier(directory)
        wanted = log.compact(Target(16), dry_run=True)
        assert numbers(directory) == [(n, n) for n in range(1, 8)]
        done = log.compact(Target(16), lambda *now: told.append(now))
        assert [(m.first_number, m.number, m.files) for m in done] == [(1, 4, 4), (5, 7, 3)]
        assert [msgspec.structs.replace(m, new_bytes=None) for m in done] == wanted
        assert read(log) == read(reader) == commits
    assert told[-1] == (28, 28)
    assert told == sorted(told)
    assert numbers(directory) == [(1, 4), (5, 7)]
    assert sealed_on_disk(directory) == [s.file for s in read_manifest(directory).segments]
    assert verify_directory(directory) == before
    assert told_by_verifier(directory) == records
    first, second = read_manifest(directory).segments
    assert first.rewritten_from == tuple(s.file_sha256 for s in segments[:4])
    for merged, last in ((first, segments[3]), (second, segments[6])):
        assert (merged.tree_head, merged.frontier) == (last.tree_head, last.frontier)
    assert (first.first_position, first.first_commit) == (1, 1)
    assert json.loads((directory / "manifest.json").read_bytes())["format_version"] == 3


def test_what_is_large_enough_stays(directory: Path) -> None:
    with closing(opened(directory)) as log:
        assert len(log.compact(Target(16))) == 2
        # Twelve of sixteen are more than half.
        assert log.compact(Target(16)) == []
        assert log.compact(Target(16, 1)) == []
        # Less than half of it, both.
        assert len(log.compact(Target(40))) == 1
        assert numbers(directory) == [(1, 7)]
        assert log.compact(Target(10**9, 2**30)) == []
        for number in range(RECORDS + 1, RECORDS + 40):
            append(log, draft(number))
        log.seal()
        log.compact(Target(10**9, 2**30))
    ((first, _),) = numbers(directory)
    assert first == 1
    assert verify_directory(directory).ok


@pytest.mark.parametrize("records", [1_000, 10_000, 65_536])
def test_what_is_merged_every_night(made: Path, records: int) -> None:
    """A record is rewritten a few times, and few files are left."""
    put = msgspec.structs.replace(read_manifest(made).segments[0], file_bytes=60 * records)
    segments: list[Segment] = []
    position = rewritten = 0
    while position < 2_000_000:
        first, position = position + 1, position + records
        segments.append(msgspec.structs.replace(put, first_position=first, last_position=position))
        while runs := [*compacting.runs_to_merge(segments, Target())]:
            size = compacting.bytes_in(runs[0])
            merged = compacting.merged_entry(runs[0], file_bytes=size, file_sha256="")
            place = segments.index(runs[0][0])
            segments[place : place + len(runs[0])] = [merged]
            rewritten += compacting.records_in([merged])
        assert len(segments) < 8
    assert rewritten < 12 * position


def test_targets_in_bytes(directory: Path) -> None:
    sizes = [s.file_bytes for s in read_manifest(directory).segments]
    with closing(opened(directory)) as log:
        assert log.compact(Target(10**6, 2 * min(sizes))) == []
        runs = log.compact(Target(10**6, 3 * max(sizes)), dry_run=True)
        assert [(m.first_number, m.number) for m in runs] == [(1, 3), (4, 6)]
        assert [m.old_bytes for m in runs] == [sum(sizes[:3]), sum(sizes[3:6])]


def test_row_groups_of_a_merged_segment(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are filled across the files that are merged, as FORMAT.md allows them."""
    monkeypatch.setattr(compacting, "ROWS_PER_GROUP", 10)
    with closing(opened(directory)) as log:
        log.compact(Target(100))
        with parquet.ParquetFile(directory / "log" / sealed_on_disk(directory)[0]) as file:
            rows = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
            assert rows == [8, 8, 8, 4]
            statistics = file.metadata.row_group(1).column(0).statistics
        assert (statistics.min, statistics.max) == (9, 16)
    assert verify_directory(directory).ok


def test_erased_records_stay_erased(directory: Path) -> None:
    with closing(opened(directory)) as log:
        erase(log, 1, 2, 7)
        head = verify_directory(directory).tree_head
        log.compact(Target(16))
        first = read_manifest(directory).segments[0]
        assert (first.file, len(first.rewritten_from)) == (sealed_name(4, 6), 6)
        assert verify_directory(directory).tree_head == head
        (file,) = erase(log, 2, 3)
        assert file.old_sha256 == first.file_sha256
        assert read_manifest(directory).segments[0].file == sealed_name(4, 7)
        assert files_with(directory, b"actor-3\0") == []
        assert verify_directory(directory).ok
        erased = [r.position for c in log.commits() for r in c.records if r.payload is None]
        assert erased == [2, 3, 7]
        log.seal()
        log.compact(Target(1_000))
    assert verify_directory(directory).ok
    assert [r["position"] for r in told_by_verifier(directory) if r["payload"] is None] == erased


def test_the_same_in_a_backup_and_a_copy(directory: Path, tmp_path: Path) -> None:
    with closing(opened(directory)) as log:
        log.compact(Target(16))
        log.backup(tmp_path / "backup")
        append(log, draft(RECORDS + 1))
    assert numbers(tmp_path / "backup") == [(1, 4), (5, 7)]
    assert verify_directory(tmp_path / "backup").ok
    with closing(opened(tmp_path / "backup")) as log:
        assert len(log.compact(Target(40))) == 1
        append(log, draft(RECORDS + 1))
    assert verify_directory(tmp_path / "backup").ok


# Others at the same time


def test_who_has_the_log_open_goes_on(directory: Path) -> None:
    with contextlib.ExitStack() as kept:
        log = kept.enter_context(closing(opened(directory)))
        readers = [kept.enter_context(closing(opened(directory, read_only=True))) for _ in range(5)]
        writer = kept.enter_context(closing(opened(directory)))
        commits = read(readers[0])
        under_way = [readers[1].commits(), readers[2].scan(columns=["position"])]
        begun = [next(iterator) for iterator in under_way]
        table = readers[3].dataset(28, ["position", "name"])
        assert len(log.compact(Target(9))) == 3
        assert [begun[0], *under_way[0]] == commits
        positions = [p for b in (begun[1], *under_way[1]) for p in b["position"].to_pylist()]
        assert positions == [*range(1, RECORDS + 1)]
        for reader in (*readers, writer):
            assert read(reader) == commits
            assert reader.recorded_at(9) == commits[8].recorded_at
            assert reader.commit_end(11) == 11
        for reader in readers:
            assert [*reader.dataset(28, ["position"]).to_table()["position"].to_pylist()] == [
                *range(1, 29)
            ]
        del table
        append(writer, draft(RECORDS + 1))
        log.refresh()
        append(log, draft(RECORDS + 2))
        assert len(writer.compact(Target(28))) == 1
        assert [c.number for c in log.commits()] == [*range(1, RECORDS + 3)]
    assert verify_directory(directory).ok


@pytest.mark.parametrize("records", [9, 16, 28])
@pytest.mark.parametrize("looks", [0, 3, 6])
def test_a_dataset_has_each_record_once(
    directory: Path, monkeypatch: pytest.MonkeyPatch, records: int, looks: int
) -> None:
    """Others merge after some of its files were looked at, and it knows all of them by then."""
    with closing(opened(directory)) as log, closing(opened(directory, read_only=True)) as reader:
        check, left = reader._closed.check, [*range(looks + 1)]

        def merging(segment: Segment) -> None:
            if left and left.pop() == 0:
                assert log.compact(Target(records))
            check(segment)

        monkeypatch.setattr(reader._closed, "check", merging)
        positions = reader.dataset(RECORDS, ["position"]).to_table()["position"].to_pylist()
    assert positions == [*range(1, RECORDS + 1)]
    assert not left


def test_a_dataset_whose_files_are_merged_before_it_is_there(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = segmented_reader.record_dataset
    left = [1_000, 9]
    with closing(opened(directory)) as log, closing(opened(directory, read_only=True)) as reader:

        def late(*arguments: Any) -> Any:
            if left:
                log.compact(Target(left.pop()))
            return make(*arguments)

        monkeypatch.setattr(segmented_reader, "record_dataset", late)
        positions = reader.dataset(RECORDS, ["position"]).to_table()["position"].to_pylist()
    assert positions == [*range(1, RECORDS + 1)]
    assert not left


def test_files_are_shown_as_they_are_by_now(directory: Path) -> None:
    with closing(opened(directory)) as log, closing(opened(directory, read_only=True)) as reader:
        log.compact(Target(16))
        assert reader.segments() == log.segments()
        assert all(Path(str(segment.path)).exists() for segment in reader.segments())
        append(log, draft(RECORDS + 1))
        log.seal()
        # Still what it knows of the log.
        assert reader.segments()[-1].first_position == 29


def test_puts_go_on_while_segments_are_merged(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = compacting.write_parquet
    with closing(opened(directory)) as log, closing(opened(directory)) as other:
        following = count(RECORDS + 1)

        def putting(*arguments: Any) -> str:
            for number in range(5):
                putter = (log, other)[number % 2]
                putter.refresh()
                append(putter, draft(next(following)))
            return write(*arguments)

        monkeypatch.setattr(compacting, "write_parquet", putting)
        log.compact(Target(16))
    assert verify_directory(directory).records == next(following) - 1 > RECORDS
    assert verify_directory(directory).ok


@pytest.mark.parametrize("what", ["compact", "destroy", "remove"])
def test_others_that_change_the_segments_meanwhile(
    directory: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The lock on sealing can be removed, and then two are at it at once."""
    prepare = compacting.prepared_merged
    with closing(opened(directory)) as log, closing(opened(directory)) as other:
        left = [1]

        def overtaken(*arguments: Any) -> Any:
            prepared = prepare(*arguments)
            if left:
                left.pop()
                (directory / "sealing.lock").unlink()
                if what == "compact":
                    other.compact(Target(12))
                elif what == "destroy":
                    erase(other, 1, 2)
            return prepared

        monkeypatch.setattr(compacting, "prepared_merged", overtaken)
        log.compact(Target(16))
        log.refresh()
        assert [c.number for c in log.commits()][:RECORDS] == [*range(1, RECORDS + 1)]
    assert not left
    assert verify_directory(directory).findings == []


def test_others_that_merge_what_is_being_read(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compacting, "ROWS_PER_GROUP", 4)
    left = [1]
    with closing(opened(directory)) as log, closing(opened(directory)) as other:

        def overtaken(*_: int) -> None:
            if left:
                left.pop()
                (directory / "sealing.lock").unlink()
                assert other.compact(Target(9))

        assert [m.files for m in log.compact(Target(100), overtaken)] == [4]
    assert verify_directory(directory).findings == []


def test_a_verification_that_is_overtaken_begins_again(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eventstore.log import verification

    check = verification.check_segment
    with closing(opened(directory)) as log:
        left = [8, 16, 28]

        def overtaken(job: Any) -> Any:
            if left:
                log.compact(Target(left.pop(0)))
            return check(job)

        monkeypatch.setattr(verification, "check_segment", overtaken)
        report = verify_directory(directory)
    assert (report.findings, report.records) == ([], RECORDS)


def test_a_backup_that_is_overtaken(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eventstore.log import backup

    copy = backup._copied_file
    with closing(opened(directory)) as log:
        left = [8, 16, 28, 1_000]

        def overtaken(path: Path, target: Path) -> str:
            if left:
                if len(left) == 1:
                    log.seal()
                log.compact(Target(left.pop(0)))
            return copy(path, target)

        monkeypatch.setattr(backup, "_copied_file", overtaken)
        log.backup(tmp_path / "backup")
    assert verify_directory(tmp_path / "backup").records == RECORDS
    assert verify_directory(tmp_path / "backup").findings == []
    assert verify_directory(directory).findings == []


# Where it stops


class Stopped(BaseException):
    """The process is gone."""


CHANGES = ("replace", "unlink", "fsync", "fdatasync", "ftruncate", "pwrite", "open")


@pytest.mark.parametrize("is_erased", [False, True], ids=["as put", "erased"])
def test_stopped_at_every_change(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_erased: bool
) -> None:
    """Nothing changes on disk from an operation on, not even by what cleans up."""
    if is_erased:
        with closing(opened(directory)) as log:
            erase(log, 1, 2, 7, 25)
    before, records = verify_directory(directory), told_by_verifier(directory)
    called = {name: getattr(os, name) for name in CHANGES}
    states: set[tuple[str, ...]] = set()
    for number in count():
        calls = count()

        def stopping(
            name: str,
            *arguments: Any,
            calls: Iterator[int] = calls,
            stop: int = number,
            **more: Any,
        ) -> Any:
            if name == "open" and not arguments[1] & (os.O_WRONLY | os.O_RDWR):
                return called[name](*arguments, **more)
            if next(calls) >= stop:
                raise Stopped
            return called[name](*arguments, **more)

        path = Path(shutil.copytree(directory, tmp_path / str(number)))
        dying = opened(path)
        with monkeypatch.context() as patched:
            for name in called:
                patched.setattr(os, name, partial(stopping, name))
            with contextlib.suppress(Stopped):
                dying.compact(Target(16))
        dying.close()
        states.add(tuple(sealed_on_disk(path)))
        assert verify_directory(path) == before
        assert told_by_verifier(path) == records
        with closing(opened(path, read_only=True)) as reader:
            assert [r.position for c in reader.commits() for r in c.records] == [
                *range(1, before.records + 1)
            ]
        with closing(opened(path)) as again:
            assert sealed_on_disk(path) == [s.file for s in read_manifest(path).segments]
            again.compact(Target(16))
        assert numbers(path)[:2] == [(1, 4), (5, 7)]
        assert verify_directory(path) == before
        shutil.rmtree(path)
        if next(calls) <= number:
            break
    assert number > 15
    # Both before and after the manifest names it, with all and some of what it takes the place of.
    assert len([state for state in states if not any("tmp" in name for name in state)]) >= 6


def test_what_a_crash_left_is_compared_with_the_log(directory: Path, tmp_path: Path) -> None:
    before = Path(shutil.copytree(directory, tmp_path / "before"))
    with closing(opened(directory)) as log:
        log.compact(Target(16))
    merged = (directory / "log" / sealed_name(4, 4)).read_bytes()
    names = {
        directory: [("0000000003.parquet", before), ("0000000004.parquet", before)],
        before: [(sealed_name(4, 4), directory)],
    }
    contents = {
        (path, name): (other / "log" / name if other != directory else None)
        for path, found in names.items()
        for name, other in found
    }
    for (path, name), source in contents.items():
        content = merged if source is None else source.read_bytes()
        left = path / "log" / name
        left.write_bytes(content)
        assert verify_directory(path).findings == []
        assert len(told_by_verifier(path)) == RECORDS
        for wrong in (b"x", content[:-100], content.replace(b"n3", b"nX"), b""):
            if wrong == content:
                continue
            left.write_bytes(wrong)
            (finding,) = verify_directory(path).findings
            assert str(left) in finding.what
            with pytest.raises((standalone_verifier.Refused, standalone_verifier.CannotCheck)):
                told_by_verifier(path)
        left.unlink()
    for name in ("0000000004-9.parquet", "0000000009.parquet", "0000000003-7.parquet"):
        left = directory / "log" / name
        left.write_bytes(merged)
        assert len(verify_directory(directory).findings) == 1, name
        with pytest.raises(standalone_verifier.Refused):
            told_by_verifier(directory)
        left.unlink()


def test_a_merged_file_stays_while_what_it_was_made_of_is_missing(
    directory: Path, tmp_path: Path
) -> None:
    """A manifest from before was put back, and not yet all files that it names."""
    before = Path(shutil.copytree(directory, tmp_path / "before"))
    with closing(opened(directory)) as log:
        log.compact(Target(16))
    newest = (directory / "manifest.json").read_bytes()
    shutil.copy(before / "manifest.json", directory)
    merged = directory / "log" / sealed_name(4, 4)
    for number in (4, 3, 2, 1):
        opened(directory).close()
        assert merged.exists()
        shutil.copy(before / "log" / sealed_name(number), directory / "log")
    after = Path(shutil.copytree(directory, tmp_path / "after"))
    (after / "manifest.json").write_bytes(newest)
    assert verify_directory(after).findings == []
    opened(directory).close()
    assert not merged.exists()


def test_what_a_crash_left_has_nothing_beside_its_records(directory: Path) -> None:
    """Who reads the folder would read that, too."""
    third = directory / "log" / "0000000003.parquet"
    content, table = third.read_bytes(), parquet.read_table(third)
    merged = directory / "log" / sealed_name(4, 4)
    with closing(opened(directory)) as log:
        log.compact(Target(16))
    wrong = {
        "0000000002.parquet": content,
        "0000000003.parquet": content[:4] + b"secret" + content[4:],
        "0000000001.parquet": merged.read_bytes(),
    }
    for name, harmed in wrong.items():
        (left := directory / "log" / name).write_bytes(harmed)
        (finding,) = verify_directory(directory).findings
        assert finding.file == str(left)
        left.unlink()
    for other in (
        table.append_column("secret", [["x"] * 4]),
        table.replace_schema_metadata(table.schema.metadata | {b"secret": b"x"}),
        table.take([0, 1, 3]),
    ):
        parquet.write_table(other, third, compression="zstd", write_page_checksum=True)
        (finding,) = verify_directory(directory).findings
        assert finding.file == str(third)
    third.write_bytes(content)
    assert verify_directory(directory).findings == []


def test_what_a_crash_left_of_what_is_erased_is_told(directory: Path) -> None:
    with closing(opened(directory)) as log:
        log.compact(Target(16))
        merged = (directory / "log" / sealed_name(4, 4)).read_bytes()
        erase(log, 1, 3)
        (directory / "log" / sealed_name(4, 4)).write_bytes(merged)
    (finding,) = verify_directory(directory).findings
    assert "still has what an erasure says was destroyed" in finding.what
    opened(directory).close()
    assert verify_directory(directory).findings == []


# What is wrong


def test_a_damaged_or_missing_segment_is_not_merged(directory: Path) -> None:
    third = directory / "log" / "0000000003.parquet"
    content = third.read_bytes()
    with closing(opened(directory)) as log:
        for harm in (third.unlink, lambda: third.write_bytes(content[:200])):
            before = (directory / "manifest.json").read_bytes()
            harm()
            with pytest.raises(errors.DataLossError, match="0000000003"):
                log.compact(Target(16))
            assert (directory / "manifest.json").read_bytes() == before
            assert not [*(directory / "log").glob("*.tmp")]
            third.write_bytes(content)
        assert log.compact(Target(16))
    assert verify_directory(directory).ok


def test_a_flipped_byte_is_not_taken_along(directory: Path) -> None:
    """Each file is compared with its hash before it is read."""
    third = directory / "log" / "0000000003.parquet"
    content = bytearray(third.read_bytes())
    for offset in range(4, len(content), len(content) // 23):
        content[offset] ^= 1
        third.write_bytes(content)
        with closing(opened(directory)) as log, pytest.raises(errors.DataLossError):
            log.compact(Target(16))
        content[offset] ^= 1
    assert numbers(directory) == [(n, n) for n in range(1, 8)]


def test_what_does_not_read_back_is_not_put_in_place(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "_is_group", lambda *_: False)
    before = sealed_on_disk(directory)
    with (
        closing(opened(directory)) as log,
        pytest.raises(errors.DataLossError, match="does not read back"),
    ):
        log.compact(Target(16))
    assert sealed_on_disk(directory) == before
    assert verify_directory(directory).ok


def test_only_who_may_write_compacts(directory: Path) -> None:
    with closing(opened(directory, read_only=True)) as reader:
        with pytest.raises(errors.FailedPreconditionError, match="read only"):
            reader.compact(Target(16))
        assert len(reader.compact(Target(16), dry_run=True)) == 2


def test_a_put_that_lost_the_race_is_told_so(directory: Path) -> None:
    with closing(opened(directory)) as log, closing(opened(directory)) as other:
        other.compact(Target(16))
        append(other, draft(RECORDS + 1))
        with pytest.raises(PositionConflictError):
            log.append([draft(99)], expected_position=RECORDS)


FORGED: dict[str, Callable[[Segment], Segment]] = {
    "from none": lambda s: msgspec.structs.replace(s, first_number=0),
    "from below": lambda s: msgspec.structs.replace(s, first_number=-3),
    "from itself": lambda s: msgspec.structs.replace(s, first_number=s.number),
    "from above": lambda s: msgspec.structs.replace(s, first_number=9),
    "later": lambda s: msgspec.structs.replace(s, first_number=2),
    "of none": lambda s: msgspec.structs.replace(s, rewritten_from=(), file=sealed_name(4)),
    "of too few": lambda s: msgspec.structs.replace(
        s, rewritten_from=s.rewritten_from[:2], file=sealed_name(4, 2)
    ),
    "not sealed": lambda s: msgspec.structs.replace(s, sealed=False),
    "alone": lambda s: msgspec.structs.replace(s, first_number=None),
    "elsewhere": lambda s: msgspec.structs.replace(s, file="0000000004.parquet"),
    "later record": lambda s: msgspec.structs.replace(s, first_position=2),
    "later commit": lambda s: msgspec.structs.replace(s, first_commit=2),
    "far": lambda s: msgspec.structs.replace(s, number=2**40),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_entry(directory: Path, name: str) -> None:
    with closing(opened(directory)) as log:
        log.compact(Target(16))
    manifest = read_manifest(directory)
    first, *others = manifest.segments
    forged = msgspec.structs.replace(manifest, segments=(FORGED[name](first), *others))
    write_manifest(directory, forged)
    # Beside a file that no manifest names, as a crash leaves one.
    shutil.copy(directory / "log" / others[0].file, directory / "log" / sealed_name(6, 1))
    report = verify_directory(directory)
    assert not report.ok
    with pytest.raises(standalone_verifier.Refused):
        told_by_verifier(directory)


def test_an_entry_that_claims_the_place_of_a_missing_file(directory: Path) -> None:
    """It is damage, and not a compaction that went on meanwhile."""
    with closing(opened(directory)) as log:
        log.compact(Target(16))
    manifest = read_manifest(directory)
    first, second = manifest.segments
    claiming = msgspec.structs.replace(second, first_number=first.number)
    write_manifest(directory, msgspec.structs.replace(manifest, segments=(first, claiming)))
    (directory / "log" / first.file).unlink()
    assert str(directory / "log" / first.file) in {
        finding.file for finding in verify_directory(directory).findings
    }
    with pytest.raises(standalone_verifier.Refused):
        told_by_verifier(directory)


@pytest.mark.parametrize(
    "value", [None, "1", 1.5, True, [1], {}, -(2**70)], ids=lambda value: repr(value)
)
@pytest.mark.parametrize("key", ["first_number", "number", "rewritten_from", "file"])
def test_a_forged_entry_of_another_type(directory: Path, key: str, value: object) -> None:
    with closing(opened(directory)) as log:
        log.compact(Target(16))
    path = directory / "manifest.json"
    stored = json.loads(path.read_bytes())
    stored["manifest"]["segments"][0][key] = value
    body = json.dumps(stored["manifest"], separators=(",", ":"), ensure_ascii=False)
    stored["sha256"] = hashlib.sha256(body.encode()).hexdigest()
    path.write_text(json.dumps(stored, separators=(",", ":"), ensure_ascii=False) + "\n")
    assert not verify_directory(directory).ok
    with pytest.raises((standalone_verifier.Refused, standalone_verifier.CannotCheck)):
        told_by_verifier(directory)
    with pytest.raises(errors.DataLossError):
        opened(directory)


# Whatever comes in whatever order


class Compactions(RuleBasedStateMachine):
    """A log that is compacted, and its twin that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        root = Path(self.folder.name)
        self.path = root / "store"
        self.log = DirectoryLog.create(self.path, segment_records_max=3)
        self.reader = DirectoryLog.open(self.path, read_only=True)
        self.ids: list[int] = []
        self.erased: set[int] = set()
        self.heads: dict[int, str] = {}
        self.copies = 0

    @rule(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=6))
    def put(self, sizes: list[int]) -> None:
        for size in sizes:
            ids = [*range(len(self.ids) + 1, len(self.ids) + size + 1)]
            self.log.append([draft(n) for n in ids], expected_position=len(self.ids))
            self.ids += ids

    @rule()
    def seal(self) -> None:
        self.log.seal()

    @rule(records=st.integers(1, 40), is_stopped=st.booleans())
    def compact(self, records: int, is_stopped: bool) -> None:
        if not is_stopped:
            self.log.compact(Target(records))
            assert self.log.compact(Target(records), dry_run=True) == []
            return

        def stop(self: DirectoryLog, *_: object) -> None:
            raise Stopped

        with pytest.MonkeyPatch.context() as patched, contextlib.suppress(Stopped):
            patched.setattr(DirectoryLog, "_name_instead", stop)
            self.log.compact(Target(records))

    @precondition(lambda self: {n for n in self.ids if n > 0} - self.erased)
    @rule(which=st.integers(0, 999))
    def erase_one(self, which: int) -> None:
        left = [n for n in self.ids if n > 0 and n not in self.erased]
        position = left[which % len(left)]
        erase(self.log, len(self.erased) + 1, position)
        self.erased.add(position)
        # Of the erasure itself.
        self.ids += [-1] * (self.log.position - len(self.ids))

    @rule()
    def reopen(self) -> None:
        self.log.close()
        self.log = opened(self.path)

    @rule()
    def another_reader(self) -> None:
        self.reader.close()
        self.reader = DirectoryLog.open(self.path, read_only=True)

    @rule()
    def go_on_from_a_backup(self) -> None:
        self.copies += 1
        path = Path(self.folder.name) / f"backup-{self.copies}"
        self.log.backup(path)
        self.log.close()
        self.reader.close()
        self.path, self.log = path, opened(path)
        self.reader = DirectoryLog.open(path, read_only=True)

    @invariant()
    def nothing_has_changed(self) -> None:
        self.reader.refresh()
        for log in (self.log, self.reader):
            records = [record for commit in log.commits() for record in commit.records]
            assert [r.position for r in records] == [*range(1, len(self.ids) + 1)]
            assert {r.position for r in records if r.payload is None} == self.erased
            assert all(r.entity_id == n for r, n in zip(records, self.ids, strict=True) if n > 0)
        report = verify_directory(self.path)
        assert report.findings == []
        assert self.heads.setdefault(len(self.ids), report.tree_head) == report.tree_head

    def teardown(self) -> None:
        self.log.close()
        self.reader.close()
        records = told_by_verifier(self.path)
        assert [r["position"] for r in records] == [*range(1, len(self.ids) + 1)]
        self.folder.cleanup()


TestCompactions = Compactions.TestCase
TestCompactions.settings = settings(max_examples=10, stateful_step_count=12)
