"""What a dying writer leaves: the tail cut at every byte, and processes killed at any moment."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow as pa
import pytest

from eventstore import errors
from eventstore.log import DirectoryLog, followed_segment, verification
from eventstore.log.acknowledged import FILE_NAME
from eventstore.log.erased import Erased
from eventstore.log.file_lock import try_exclusive
from eventstore.log.log import Finding
from eventstore.log.relations import Related, relation_findings
from eventstore.log.verification import verify_directory
from tests.builders import append, draft
from tests.shares import some_of


def _store_with_a_small_last_commit(directory: Path) -> tuple[Path, int]:
    """The active segment's file and the byte at which its last commit starts."""
    log = DirectoryLog.create(directory)
    append(log, draft(1), draft(2))
    append(log, draft(3))
    (segment,) = log.segments()
    assert segment.path is not None
    start = segment.file_bytes
    append(log, draft(4), draft(5))
    log.close()
    return segment.path, start


@pytest.fixture
def relations_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal records are compared with each other once: DuckDB takes 60 ms for ever so few."""
    known: list[tuple[pa.Table, Related, list[Finding]]] = []

    def findings(
        batches: Iterable[pa.RecordBatch],
        related: Related,
        erased_later: Callable[[], Erased] = Erased,
    ) -> list[Finding]:
        table = pa.Table.from_batches(batches)
        for *asked, found in known:
            if asked == [table, related]:
                return found
        found = relation_findings(table.to_batches(), related, erased_later)
        known.append((table, related, found))
        return found

    monkeypatch.setattr(verification, "relation_findings", findings)


@pytest.mark.usefixtures("relations_once")
def test_a_torn_tail_is_cut_at_every_byte(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    segment, start = _store_with_a_small_last_commit(tmp_path / "store")
    # A write that was never acknowledged: the acknowledgement is of the commit before it.
    acknowledged = segment.with_name(FILE_NAME)
    acknowledged.unlink()
    whole = segment.read_bytes()
    for size in (start, *some_of(range(start + 1, len(whole)), 12)):
        segment.write_bytes(whole[:size])
        caplog.clear()
        with caplog.at_level(logging.WARNING, "eventstore.log"):
            log = DirectoryLog.open(tmp_path / "store")
            assert log.position == 3, size
            assert log.verify().ok, size
            append(log, draft(4))
            assert [c.last_position for c in log.commits()] == [2, 3, 4]
            log.close()
        assert bool(caplog.records) == (size > start), size
        acknowledged.unlink()


def test_a_zero_filled_tail_is_cut(tmp_path: Path) -> None:
    segment, start = _store_with_a_small_last_commit(tmp_path / "store")
    segment.with_name(FILE_NAME).unlink()
    whole = segment.read_bytes()
    for kept in (0, 8, 200):
        segment.write_bytes(whole[: start + kept] + bytes(len(whole) - start - kept))
        log = DirectoryLog.open(tmp_path / "store")
        assert log.position == 3
        log.close()


def test_an_acknowledged_commit_is_never_cut(tmp_path: Path) -> None:
    segment, start = _store_with_a_small_last_commit(tmp_path / "store")
    whole = segment.read_bytes()
    for size in range(start, len(whole), 16):
        segment.write_bytes(whole[:size])
        report = verify_directory(tmp_path / "store")
        assert [finding.commit for finding in report.findings] == [3], size
        with pytest.raises(errors.DataLossError, match="position 4"):
            DirectoryLog.open(tmp_path / "store")
        assert segment.stat().st_size == size


def test_a_flipped_bit_in_the_last_commit_is_damage_not_a_torn_tail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody is writing here.
    monkeypatch.setattr(followed_segment, "_SECOND_LOOK_SECONDS", 0.0)
    segment, start = _store_with_a_small_last_commit(tmp_path / "store")
    whole = segment.read_bytes()
    flipped = bytearray(whole)
    with segment.open("r+b", buffering=0) as file:
        for offset in some_of(range(start, len(whole)), 6):
            flipped[offset] ^= 0x10
            # In its place: to truncate a file, and write all of it, takes longer than the opening.
            os.pwrite(file.fileno(), flipped[offset : offset + 1], offset)
            with pytest.raises(errors.DataLossError, match="position 4"):
                DirectoryLog.open(tmp_path / "store")
            assert segment.read_bytes() == flipped
            flipped[offset] = whole[offset]
            os.pwrite(file.fileno(), flipped[offset : offset + 1], offset)


_WRITER = """
import sys
from pathlib import Path
from eventstore.log import DirectoryLog
from tests.builders import append, draft
log = DirectoryLog.open(Path(sys.argv[1]), segment_records_max=40)
while True:
    commit = append(log, *(draft(log.position + n) for n in (1, 2, 3)))
    sys.stdout.write(f"{commit.last_position} {commit.tree_head.hex()}\\n")
    sys.stdout.flush()
"""


def test_every_acknowledged_commit_survives_a_kill(tmp_path: Path) -> None:
    rounds = int(os.environ.get("EVENTSTORE_KILLS", "6"))
    directory = tmp_path / "store"
    DirectoryLog.create(directory).close()
    for kill_after in range(rounds):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(directory)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert writer.stdout is not None
        acknowledged = [writer.stdout.readline() for _ in range(3 + 17 * kill_after)]
        writer.send_signal(signal.SIGKILL)
        acknowledged += writer.stdout.readlines()
        writer.wait()
        writer.stdout.close()
        last = [line for line in acknowledged if line.endswith("\n")][-1]
        position, head = last.split()
        log = DirectoryLog.open(directory)
        heads = {str(c.last_position): c.tree_head.hex() for c in log.commits()}
        assert heads[position] == head
        assert all(len(c.records) == 3 for c in log.commits())
        assert log.verify().ok
        log.close()


def test_a_rotation_that_died_half_way_is_finished(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    log = DirectoryLog.create(directory)
    append(log, draft(1))
    log._active.append_end_of_stream()
    reader = DirectoryLog.open(directory, read_only=True)
    assert reader.position == 1
    log.close()
    reopened = DirectoryLog.open(directory)
    append(reopened, draft(2))
    assert reader.refresh()
    assert [c.last_position for c in reader.commits()] == [1, 2]
    assert reopened.verify().ok
    reopened.close()
    reader.close()


def test_leftovers_of_a_sealing_that_died_are_removed(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    log = DirectoryLog.create(directory)
    append(log, draft(1))
    log.seal()
    # The sealing in the background ends with it, which would remove them, too.
    log.close()
    parquet = directory / "log" / "0000000001.parquet"
    shutil.copy(parquet, directory / "log" / "0000000001.arrows")
    (directory / "log" / "0000000002.parquet.77.tmp").write_bytes(b"half")
    log = DirectoryLog.open(directory)
    append(log, draft(2))
    log.seal()
    names = sorted(path.name for path in (directory / "log").iterdir())
    assert names == [
        "0000000001.parquet",
        "0000000002.parquet",
        "0000000003.arrows",
        "acknowledged",
    ]
    log.close()


def test_opening_removes_what_the_dead_were_writing(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    log = DirectoryLog.create(directory)
    append(log, draft(1))
    log.seal()
    log.close()
    expected = sorted(path.relative_to(directory) for path in directory.rglob("*"))
    for name in ("manifest.json.77.tmp", "log/0000000003.arrows.77.tmp"):
        (directory / name).write_bytes(b"half")
    (directory / "log" / "0000000002.parquet.77.tmp").write_bytes(b"half")
    DirectoryLog.open(directory, read_only=True).close()
    assert len([*directory.rglob("*.tmp")]) == 3
    DirectoryLog.open(directory).close()
    assert sorted(path.relative_to(directory) for path in directory.rglob("*")) == expected


def test_what_a_living_sealer_is_writing_stays(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    log = DirectoryLog.create(directory)
    append(log, draft(1))
    log.seal()
    log.close()
    written = directory / "log" / "0000000002.parquet.77.tmp"
    written.write_bytes(b"half")
    with (directory / "sealing.lock").open("r+b") as lock:
        assert try_exclusive(lock.fileno())
        DirectoryLog.open(directory).close()
        assert written.exists()
    DirectoryLog.open(directory).close()
    assert not written.exists()


def test_a_rotation_seals_what_it_closes(tmp_path: Path) -> None:
    log = DirectoryLog.create(tmp_path / "store", segment_records_max=2)
    for number in range(1, 8):
        append(log, draft(number))
    log.close()
    reopened = DirectoryLog.open(tmp_path / "store", read_only=True)
    states = [segment.state for segment in reopened.segments()]
    assert states == ["sealed", "sealed", "sealed", "active"]
    reopened.close()


def test_a_dead_creation_is_begun_anew(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    (directory / "log").mkdir(parents=True)
    for name in ("lock", "manifest.json.77.tmp", "log/0000000001.arrows"):
        (directory / name).write_bytes(b"")
    log = DirectoryLog.create(directory)
    append(log, draft(1))
    assert log.verify().ok
    log.close()
    assert not [*directory.rglob("*.tmp")]


@pytest.mark.parametrize("is_rotated", [True, False])
def test_a_plain_copy_of_a_running_store_is_refused_with_what_to_do(
    tmp_path: Path, is_rotated: bool
) -> None:
    """A copy takes one file after the other, and the store goes on meanwhile."""
    log = DirectoryLog.create(tmp_path / "store")
    append(log, draft(1))
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "store" / "log", copy / "log")
    if is_rotated:
        log.seal()
    append(log, draft(2))
    shutil.copy(tmp_path / "store" / "log" / "acknowledged", copy / "log")
    shutil.copy(tmp_path / "store" / "manifest.json", copy)
    for read_only in (True, False):
        with pytest.raises(errors.DataLossError, match="eventstore backup"):
            DirectoryLog.open(copy, read_only=read_only)
    log.close()
