"""Every change of a log is made under the lock, whatever is removed, moved or replaced under it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from eventstore import errors
from eventstore.log import DirectoryLog, directory_writer
from eventstore.log.acknowledged import FILE_NAME
from tests.builders import append, draft
from tests.crash.locks import is_locked


def _is_locked(directory: Path) -> bool:
    """Whether the newest segment that is appended to is locked."""
    active = max((directory / "log").glob("*.arrows"), default=None)
    return active is not None and is_locked(active)


@pytest.fixture
def observed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, bool]]:
    """Every change of a store's files: its call, what it changes, and whether it was locked."""
    directory = tmp_path / "store"
    seen: list[tuple[str, str, bool]] = []

    def watch(name: str, path_of: Callable[..., str]) -> None:
        call = getattr(os, name)

        def observing(*arguments: object, **named: object) -> object:
            target = Path(path_of(*arguments))
            if directory in target.parents and not target.name.endswith(".tmp"):
                seen.append((name, target.name, _is_locked(directory)))
            return call(*arguments, **named)

        monkeypatch.setattr(os, name, observing)

    def of_descriptor(descriptor: int, *_: object) -> str:
        return os.readlink(f"/proc/self/fd/{descriptor}")

    for name in ("pwrite", "fdatasync", "ftruncate"):
        watch(name, of_descriptor)
    watch("replace", lambda _, target: str(target))
    watch("unlink", str)
    return seen


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to name open files")
def test_every_change_of_the_log_is_under_the_lock(
    tmp_path: Path, observed: list[tuple[str, str, bool]]
) -> None:
    log = DirectoryLog.create(tmp_path / "store", segment_records_max=2)
    observed.clear()
    for number in range(1, 6):
        append(log, draft(number))
    log.seal()
    append(log, draft(6))
    log.close()
    changes = {(call, name) for call, name, _ in observed}
    for expected in (
        ("pwrite", "0000000001.arrows"),
        ("fdatasync", "0000000001.arrows"),
        ("ftruncate", "0000000001.arrows"),
        ("replace", "manifest.json"),
        ("replace", "0000000001.parquet"),
    ):
        assert expected in changes, expected
    outside = {
        (call, name)
        for call, name, was_locked in observed
        # A segment takes its name before the manifest, and so anybody, knows it.
        if not was_locked and (call, name[10:]) != ("replace", ".arrows")
    }
    assert not outside


def test_the_acknowledgement_is_under_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = DirectoryLog.create(tmp_path / "store")
    seen = []
    acknowledge = log._acknowledge

    def observing(frontier: object) -> None:
        seen.append(_is_locked(tmp_path / "store"))
        acknowledge(frontier)  # type: ignore[arg-type]

    monkeypatch.setattr(log, "_acknowledge", observing)
    append(log, draft(1))
    log.seal()
    assert seen == [True, True]
    assert not _is_locked(tmp_path / "store")
    log.close()


@pytest.mark.parametrize("name", ["lock", "sealing.lock", "log/acknowledged", "log/commit-ends"])
def test_what_may_be_removed_takes_no_commit_along(tmp_path: Path, name: str) -> None:
    directory = tmp_path / "store"
    first = DirectoryLog.create(directory, segment_records_max=3)
    append(first, draft(1))
    first.seal()
    (directory / name).unlink(missing_ok=True)
    second = DirectoryLog.open(directory, segment_records_max=3)
    seen = []
    append_to_file = first._active.append
    with pytest.MonkeyPatch.context() as patched:

        def removing(*arguments: object) -> None:
            (directory / name).unlink(missing_ok=True)
            seen.append(_is_locked(directory))
            append_to_file(*arguments)  # type: ignore[arg-type]

        patched.setattr(first._active, "append", removing)
        append(first, draft(2))
    assert seen == [True]
    for number in range(3, 12):
        log = (first, second)[number % 2]
        log.refresh()
        append(log, draft(number))
    assert [c.last_position for c in second.commits()] == [*range(1, 12)]
    for log in (first, second):
        log.seal()
        assert log.verify().ok
        log.close()


def test_the_acknowledgement_is_made_anew_when_it_was_removed(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    log = DirectoryLog.create(directory)
    append(log, draft(1))
    (directory / "log" / FILE_NAME).unlink()
    append(log, draft(2))
    known = (directory / "log" / FILE_NAME).read_bytes()
    append(log, draft(3))
    assert (directory / "log" / FILE_NAME).read_bytes() != known
    log.close()


def _remove(directory: Path) -> None:
    shutil.rmtree(directory)


def _move(directory: Path) -> None:
    directory.rename(directory.with_name("moved"))


def _replace(directory: Path) -> None:
    _move(directory)
    log = DirectoryLog.create(directory)
    append(log, draft(77))
    log.close()


def _copy_back(directory: Path) -> None:
    _move(directory)
    shutil.copytree(directory.with_name("moved"), directory)


def _replace_the_segment(directory: Path) -> None:
    (segment,) = (directory / "log").glob("*.arrows")
    copy = segment.with_name("copy")
    shutil.copy(segment, copy)
    copy.rename(segment)


def _remove_the_segment(directory: Path) -> None:
    (segment,) = (directory / "log").glob("*.arrows")
    segment.unlink()


@pytest.mark.parametrize(
    "change",
    [_remove, _move, _replace, _copy_back, _replace_the_segment, _remove_the_segment],
)
@pytest.mark.parametrize("has_put", [True, False])
def test_nothing_is_acknowledged_that_lands_elsewhere(
    tmp_path: Path, change: Callable[[Path], None], has_put: bool
) -> None:
    DirectoryLog.create(tmp_path / "store").close()
    log = DirectoryLog.open(tmp_path / "store")
    if has_put:
        append(log, draft(1))
    change(tmp_path / "store")
    for _ in range(2):
        with pytest.raises(errors.FailedPreconditionError, match="moved, removed or replaced"):
            append(log, draft(2))
        with pytest.raises(errors.FailedPreconditionError, match="moved, removed or replaced"):
            log.seal()
    log.close()
    if change in (_move, _copy_back):
        moved = DirectoryLog.open(tmp_path / "moved")
        append(moved, draft(moved.position + 1))
        assert moved.verify().ok
        moved.close()


def _dying_writer(directory: Path, child: Callable[[], None]) -> None:
    """Rotate, fork a child with the successor locked, and die at once."""
    log = DirectoryLog.open(directory, segment_records_max=1)

    def forking(*_: object) -> None:
        if not os.fork():
            try:
                child()
            finally:
                os._exit(0)
        os._exit(0)

    directory_writer.write_manifest = forking  # type: ignore[assignment]
    append(log, draft(2))


def test_a_child_forked_in_a_rotation_holds_no_lock(tmp_path: Path) -> None:
    log = DirectoryLog.create(tmp_path / "store")
    append(log, draft(1))
    log.close()
    forked, to_child = os.pipe(), os.pipe()

    def child() -> None:
        os.close(to_child[1])
        os.write(forked[1], b"1")
        # To the test's end.
        os.read(to_child[0], 1)

    writer = os.fork()
    if not writer:
        try:
            _dying_writer(tmp_path / "store", child)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(writer, 0)[1]) == 0
    assert os.read(forked[0], 1) == b"1"
    try:
        assert not is_locked(tmp_path / "store" / "log" / "0000000001.arrows")
        assert not is_locked(tmp_path / "store" / "log" / "0000000002.arrows")
    finally:
        for descriptor in (*forked, *to_child):
            os.close(descriptor)
