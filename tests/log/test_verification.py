"""What a verification counts, reports and leaves out: whole, in ranges, by several processes."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import eventstore
from eventstore import errors
from eventstore.log import (
    DirectoryLog,
    Finding,
    SignedHead,
    VerifyReport,
    os_errors,
    verification,
)
from eventstore.log.manifest import read_manifest
from eventstore.log.merkle import EMPTY_HEAD
from eventstore.log.store_files import strange_files
from eventstore.log.verification import verify_directory
from tests.builders import append, draft

SEGMENT = 4
"""Records of each segment, in two commits."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four sealed segments, and the active one with a commit."""
    directory = tmp_path_factory.mktemp("verification") / "store"
    log = DirectoryLog.create(directory)
    for number in range(4):
        for half in range(2):
            first = SEGMENT * number + 2 * half
            append(log, draft(first + 1), draft(first + 2))
        log.seal()
    append(log, draft(17))
    log.close()
    return directory


@pytest.fixture
def store(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "store"))


def damage(directory: Path, number: int) -> None:
    segment = read_manifest(directory).segments[number - 1]
    path = directory / "log" / segment.file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def head_at(directory: Path, position: int) -> str:
    log = DirectoryLog.open(directory, read_only=True)
    (commit,) = (c for c in log.commits() if c.last_position == position)
    log.close()
    return commit.tree_head.hex()


def progress_of(directory: Path, **options: int) -> tuple[VerifyReport, list[tuple[int, int]]]:
    told: list[tuple[int, int]] = []
    report = verify_directory(directory, lambda done, whole: told.append((done, whole)), **options)
    return report, told


def test_where_commits_end(built: Path) -> None:
    log = DirectoryLog.open(built, read_only=True)
    assert [log.commit_end(n) for n in range(18)] == [n - n % 2 for n in range(17)] + [17]
    log.close()


def test_what_is_counted(store: Path) -> None:
    report, told = progress_of(store)
    assert report == VerifyReport(True, 17, 9, 17, head_at(store, 17), [])
    assert told == [(4, 16), (8, 16), (12, 16), (16, 16), (17, 17)]


@pytest.mark.parametrize(
    ("after", "upto", "first", "last"),
    [
        (0, 1, 1, 4),
        (0, 4, 1, 4),
        (0, 5, 1, 8),
        (3, 4, 1, 4),
        (3, None, 1, 17),
        (4, 5, 5, 8),
        (4, 8, 5, 8),
        (4, 9, 5, 12),
        (7, 12, 5, 12),
        (8, None, 9, 17),
        (12, 16, 13, 16),
        (0, 16, 1, 16),
        (0, 17, 1, 17),
        (0, 99, 1, 17),
        (16, None, 17, 17),
        (16, 17, 17, 17),
    ],
)
def test_ranges(store: Path, after: int, upto: int | None, first: int, last: int) -> None:
    options = {"after": after} if upto is None else {"after": after, "upto": upto}
    report, told = progress_of(store, **options)
    assert (report.ok, report.records, report.position) == (True, last - first + 1, last)
    assert report.commits == (report.records + 1) // 2
    assert report.tree_head == head_at(store, last)
    assert told[-1] == (report.records, report.records)
    believed = f"records 1 to {first - 1}, which were believed" if first > 1 else ""
    unread = f"records after {last}" if last < 17 else ""
    assert len(report.not_checked) == bool(believed) + bool(unread)
    assert "; ".join(report.not_checked).startswith(believed or unread)
    # Damage is found where it is looked for, and nowhere else.
    damage(store, 2)
    damaged = verify_directory(store, **options)
    assert damaged.ok == (last < 5 or first > 8)
    assert bool(damaged.findings) != damaged.ok
    assert any("only once nothing else" in what for what in damaged.not_checked) != damaged.ok


def test_a_checkpoint_is_about_all_of_history(store: Path) -> None:
    head = SignedHead(17, head_at(store, 17), 9, 0, "ana signed on")
    for options in ({"after": 1}, {"upto": 1}, {"upto": 0}):
        with pytest.raises(errors.InvalidArgumentError, match="without a range"):
            verify_directory(store, signed_heads=[head], **options)


@pytest.mark.parametrize("position", [2, 4, 6, 12, 14, 16, 17])
def test_what_was_signed(store: Path, position: int) -> None:
    log = DirectoryLog.open(store, read_only=True)
    (commit,) = (c for c in log.commits() if c.last_position == position)
    log.close()
    true = (position, commit.tree_head.hex(), commit.number, commit.recorded_at)
    assert verify_directory(store, signed_heads=[SignedHead(*true, "ana signed")]).ok
    for wrong in (
        (position, bytes(32).hex(), *true[2:]),
        (*true[:2], true[2] + 1, true[3]),
        (*true[:3], true[3] + 1),
    ):
        signed = SignedHead(*wrong, "ana signed")
        report = verify_directory(store, signed_heads=[SignedHead(*true, "bob signed"), signed])
        (finding,) = report.findings
        assert f"history up to commit {commit.number} is not what ana signed" in finding.what
        assert (finding.commit, finding.position) == (commit.number, position)


def test_records_that_were_signed_are_missing(store: Path) -> None:
    for size in (18, 99):
        signed = SignedHead(size, bytes(32).hex(), 9, 0, "ana signed")
        (finding,) = verify_directory(store, signed_heads=[signed]).findings
        assert finding.what.startswith(f"ana signed with {size} records, the store has 17: records")
        assert finding.position == 17


def test_no_manifest_that_can_be_read(store: Path) -> None:
    (store / "manifest.json").write_bytes(b"{}")
    report = verify_directory(store)
    counts = (report.position, report.commits, report.records)
    assert (report.ok, counts, report.tree_head) == (False, (0, 0, 0), EMPTY_HEAD.hex())
    (finding,) = report.findings
    assert finding.file == str(store / "manifest.json")


def test_processes_side_by_side_find_the_same(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    damage(store, 2)
    alone, told_alone = progress_of(store)
    assert not alone.ok
    started: list[subprocess.Popen[bytes]] = []
    start = verification._worker_process

    def counted() -> subprocess.Popen[bytes]:
        started.append(start())
        return started[-1]

    monkeypatch.setattr(verification, "_worker_process", counted)
    for least, processes in ((17, 0), (16, 2)):
        monkeypatch.setattr(verification, "_PARALLEL_RECORDS_MIN", least)
        assert progress_of(store) == (alone, told_alone)
        assert len(started) == processes
    assert all(process.returncode == 0 for process in started)


def test_a_process_that_dies_is_an_error(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(verification, "_PARALLEL_RECORDS_MIN", 1)

    def dead() -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        return subprocess.Popen([sys.executable, "-S", "-c", ""], stdin=pipe, stdout=pipe)

    monkeypatch.setattr(verification, "_worker_process", dead)
    with pytest.raises(errors.InternalError, match="has ended before"):
        verify_directory(store)


@pytest.mark.parametrize("how", ["removed", "file", "link"])
def test_a_log_that_cannot_be_listed_is_a_finding(store: Path, how: str) -> None:
    with eventstore.open(store) as opened:
        shutil.rmtree(store / "log")
        if how == "file":
            (store / "log").touch()
        elif how == "link":
            (store / "log").symlink_to(store / "nowhere")
        report = verify_directory(store)
        assert any(f"{store / 'log'} cannot be read" in found.what for found in report.findings)
        with pytest.raises(errors.DataLossError, match="cannot be read"):
            opened.verify()


def test_a_log_that_goes_while_it_is_verified_is_a_finding(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listed(directory: Path) -> list[Finding]:
        shutil.rmtree(directory / "log")
        return strange_files(directory)

    monkeypatch.setattr(verification, "strange_files", listed)
    assert not verify_directory(store).ok


@pytest.mark.parametrize("name", ["0000000002.parquet", "0000000005.arrows", "acknowledged", "log"])
def test_a_file_that_cannot_be_opened_is_no_damage(
    name: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, listing = os_errors.read_regular, os.scandir

    def refused(path: Path | int) -> None:
        if isinstance(path, Path) and path.name == name:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))

    def read(path: Path) -> bytes:
        refused(path)
        return reading(path)

    def listed(path: Path | int) -> object:
        refused(path)
        return listing(path)

    monkeypatch.setattr(os_errors, "read_regular", read)
    monkeypatch.setattr(os, "scandir", listed)
    with pytest.raises(errors.UnavailableError, match=f"{name} failed: Too many open files"):
        verify_directory(store)


def test_a_worker_says_what_it_cannot_open(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "0000000002.parquet"
    monkeypatch.setattr(verification, "_PARALLEL_RECORDS_MIN", 1)
    monkeypatch.setattr(verification, "_worker_process", lambda: _refusing_worker(name))
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    with pytest.raises(errors.UnavailableError, match=f"{name} failed: Too many open files"):
        verify_directory(store)


def _refusing_worker(name: str) -> subprocess.Popen[bytes]:
    program = (
        "import errno\n"
        "from eventstore.log import checking_process, os_errors\n"
        "reading = os_errors.read_regular\n"
        "def read(path):\n"
        f"    if path.name == {name!r}:\n"
        "        raise OSError(errno.EMFILE, 'no more')\n"
        "    return reading(path)\n"
        "os_errors.read_regular = read\n"
        "checking_process.serve()\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOENT])
def test_a_file_that_the_disk_does_not_give_is_damage(
    number: int, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = os_errors.read_regular

    def read(path: Path) -> bytes:
        if path.name == "0000000002.parquet":
            raise OSError(number, os.strerror(number), str(path))
        return reading(path)

    monkeypatch.setattr(os_errors, "read_regular", read)
    (finding,) = verify_directory(store).findings
    assert finding.segment == 2
    assert os.strerror(number) in finding.what
