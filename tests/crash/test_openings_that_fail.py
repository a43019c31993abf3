"""An opening that fails leaves no file open, and no lock held."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from eventstore import errors
from eventstore.log import DirectoryLog
from eventstore.log.acknowledged import read_acknowledged
from eventstore.log.active_segment import ActiveSegmentFile
from eventstore.log.manifest import read_manifest
from tests.builders import acknowledge, append, draft
from tests.crash.locks import is_locked
from tests.open_files import nothing_left_open


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("openings") / "store"
    log = DirectoryLog.create(directory)
    append(log, draft(1))
    log.seal()
    append(log, draft(2))
    append(log, draft(3))
    log.close()
    return directory


def _flip(place: int) -> Callable[[Path], None]:
    def flip(directory: Path) -> None:
        path = directory / "log" / read_manifest(directory).active.file
        content = bytearray(path.read_bytes())
        content[place] ^= 1
        path.write_bytes(content)

    return flip


def _acknowledge_more(directory: Path) -> None:
    known = read_acknowledged(directory / "log" / "acknowledged")
    assert known is not None
    acknowledge(directory, known.segment, known.end + 8)


def _put_a_folder(directory: Path) -> None:
    path = directory / "log" / read_manifest(directory).active.file
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_flip(100), "its header is damaged; the first commit after it starts at position 2"),
        (_flip(-300), "the commit that starts at position 3"),
        (_acknowledge_more, "the commit that starts at position 4 is missing, though"),
        (_put_a_folder, "0000000002.arrows"),
        (lambda store: (store / "log" / "0000000002.arrows").unlink(), "segment 2 is missing"),
        (lambda store: (store / "manifest.json").write_bytes(b"{}"), "manifest"),
    ],
    ids=["header", "commit", "acknowledged", "folder", "missing", "manifest"],
)
def test_nothing_stays_open(
    built: Path,
    tmp_path: Path,
    damage: Callable[[Path], object],
    words: str,
    read_only: bool,
) -> None:
    directory = shutil.copytree(built, tmp_path / "store")
    damage(directory)
    with nothing_left_open():
        for _ in range(3):
            with pytest.raises(errors.StatusError, match=words):
                DirectoryLog.open(directory, read_only=read_only)
    active = directory / "log" / "0000000002.arrows"
    assert not active.is_file() or not is_locked(active)


def test_a_segment_that_cannot_be_read_leaves_nothing_open(
    built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    for name in ("_read_header", "_take_known_ends"):
        with nothing_left_open(), monkeypatch.context() as patched:
            patched.setattr(ActiveSegmentFile, name, refused)
            with pytest.raises(errors.UnavailableError, match=r"reading .*2.arrows failed"):
                ActiveSegmentFile(built / "log", read_manifest(built), read_only=True)


def test_a_log_that_is_closed_leaves_nothing_open(built: Path, tmp_path: Path) -> None:
    directory = shutil.copytree(built, tmp_path / "store")
    for read_only in (True, False):
        with nothing_left_open():
            log = DirectoryLog.open(directory, read_only=read_only)
            if not read_only:
                append(log, draft(4))
                log.seal()
                append(log, draft(5))
            assert len(list(log.commits())) in (3, 5)
            log.close()
            log.close()
        with pytest.raises(errors.FailedPreconditionError, match="is closed: open it again"):
            list(log.commits(log.position - 1))
        words = "is closed: open it again|opened to read only"
        with pytest.raises(errors.FailedPreconditionError, match=words):
            append(log, draft(6))
