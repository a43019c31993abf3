"""A store that takes another form: at every moment one is there, and in the end only one."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eventstore import errors
from eventstore.log import replacing
from eventstore.log.replacing import made_beside, refuse_unsettled, replace, settle
from tests.crash.locks import is_locked
from tests.open_files import nothing_left_open

ONE, OTHER = "one", "another"


def a_folder(path: Path, store_id: str | None = ONE) -> None:
    path.mkdir()
    (path / "log").mkdir()
    (path / "log" / "segment").write_text("years of work")
    if store_id is not None:
        (path / "manifest.json").write_text(json.dumps({"manifest": {"store_id": store_id}}))


def a_file(path: Path, store_id: str | None = ONE) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("segment", "years of work")
        if store_id is not None:
            archive.writestr("manifest.json", json.dumps({"manifest": {"store_id": store_id}}))


FORMS = [a_folder, a_file]
Form = Callable[..., None]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def new(path: Path) -> Path:
    return path.with_name(".store.new")


@pytest.fixture
def old(path: Path) -> Path:
    return path.with_name(".store.old")


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir())


# Settling what a process that died has left


def test_there_is_nothing_beside_the_root() -> None:
    settle(Path("/"))
    refuse_unsettled(Path("/"))


@pytest.mark.parametrize("form", FORMS)
def test_what_was_being_made_is_removed(path: Path, new: Path, form: Form) -> None:
    form(path)
    for made in FORMS:
        made(new)
        settle(path)
        assert names(path) == ["store"]
    path.rename(path.with_name("elsewhere"))
    form(new)
    settle(path)
    assert names(path) == ["elsewhere"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("has_new", [False, True])
def test_what_was_there_is_brought_back(
    path: Path, new: Path, old: Path, form: Form, has_new: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    form(old)
    if has_new:
        a_file(new)
    with pytest.raises(errors.FailedPreconditionError, match="open it for writing once"):
        refuse_unsettled(path)
    synced: list[list[str]] = []
    fsync = os.fsync

    def observing(descriptor: int) -> None:
        if os.path.samestat(os.fstat(descriptor), path.parent.stat()):
            assert is_locked(path.parent)
            synced.append(names(path))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", observing)
    settle(path)
    assert not is_locked(path.parent)
    assert names(path) == ["store"]
    assert synced == [[".store.new", "store"] if has_new else ["store"]]
    refuse_unsettled(path)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("other_form", FORMS)
def test_a_replacement_is_finished(
    path: Path,
    old: Path,
    form: Form,
    other_form: Form,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for store_id in (ONE, None):
        form(old, store_id)
        if not path.exists():
            other_form(path)
        refuse_unsettled(path)
        if store_id is None and form is a_file:
            # A packed file without a manifest is none that was packed.
            settle(path)
            assert names(path) == [".store.old", "store"]
            continue
        synced: list[list[str]] = []
        fsync = os.fsync

        def observing(descriptor: int, synced: Any = synced, fsync: Any = fsync) -> None:
            if os.path.samestat(os.fstat(descriptor), path.parent.stat()):
                synced.append(names(path))
            fsync(descriptor)

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", observing)
            settle(path)
        assert names(path) == ["store"]
        # The new one is there for good before the old one goes.
        assert synced == [[".store.old", "store"]]


def _damaged(path: Path) -> None:
    path.write_bytes(b"years of work")


def _damaged_folder(path: Path) -> None:
    path.mkdir()
    (path / "manifest.json").write_text("{}")


def _pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    "left",
    [
        lambda path: a_folder(path, OTHER),
        lambda path: a_file(path, OTHER),
        _damaged,
        _damaged_folder,
        _pipe,
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_what_is_not_the_same_store_is_left_alone(
    path: Path, new: Path, old: Path, left: Form, form: Form
) -> None:
    form(path)
    left(old)
    form(new)
    settle(path)
    assert names(path) == [".store.old", "store"]
    refuse_unsettled(path)


def test_a_link_is_removed_and_not_what_it_leads_to(path: Path, new: Path) -> None:
    a_folder(path)
    other = path.with_name("other")
    a_folder(other)
    new.symlink_to(other)
    settle(path)
    assert names(path) == ["other", "store"]
    assert (other / "log" / "segment").exists()


@pytest.mark.parametrize("has_old", [False, True])
def test_a_process_that_lives_is_left_alone(
    path: Path, new: Path, old: Path, has_old: bool
) -> None:
    a_folder(new)
    descriptor = os.open(new, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        if has_old:
            a_folder(old)
        with pytest.raises(errors.UnavailableError, match="another process is packing"):
            settle(path)
        a_folder(path)
        before = names(path)
        settle(path)
        assert names(path) == before
    finally:
        os.close(descriptor)
    settle(path)
    assert names(path) == ["store"]


# Making and replacing


@pytest.mark.parametrize("is_directory", [True, False])
def test_what_is_made_is_locked_and_removed(path: Path, new: Path, is_directory: bool) -> None:
    with made_beside(path, is_directory=is_directory) as made:
        assert made == new
        assert made.is_dir() == is_directory
        assert is_locked(made)
        assert not is_locked(path.parent)
        with (
            pytest.raises(errors.UnavailableError, match="another process is packing"),
            made_beside(path, is_directory=is_directory),
        ):
            pass
        assert made.exists()
    assert names(path) == []
    with pytest.raises(ZeroDivisionError), made_beside(path, is_directory=is_directory):
        raise ZeroDivisionError
    assert names(path) == []
    with made_beside(path, is_directory=is_directory) as made:
        made.rename(path)
    assert names(path) == ["store"]
    assert not is_locked(path)


def test_names_are_taken_one_at_a_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, locked = [], replacing._locked

    def observing(*arguments: Any, **named: Any) -> int:
        seen.append(is_locked(path.parent))
        return locked(*arguments, **named)

    monkeypatch.setattr(replacing, "_locked", observing)
    with made_beside(path, is_directory=True):
        assert not is_locked(path.parent)
    assert seen == [True]


def test_what_cannot_be_removed_in_the_end_is_left_to_the_next(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched, made_beside(path, is_directory=True) as made:
        (made / "log").mkdir()
        patched.setattr(replacing, "remove_tree", _failing(errno.EIO))
    assert names(path) == [made.name]
    assert not is_locked(made)
    settle(path)
    assert names(path) == []


def test_what_another_has_just_begun_is_left_alone(
    path: Path, new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has made it after we have looked, and not locked it yet."""
    monkeypatch.setattr(replacing, "settle", lambda _: None)
    for form, is_directory in ((a_folder, True), (a_file, False), (a_file, True)):
        form(new)
        with (
            pytest.raises(errors.UnavailableError, match="another process is packing"),
            made_beside(path, is_directory=is_directory),
        ):
            pass
        assert new.exists()
        replacing._remove(new)


def test_a_maker_leaves_nothing_open(path: Path, new: Path) -> None:
    with nothing_left_open():
        for is_directory in (True, False):
            # What one that died has left is removed first.
            a_folder(new)
            with made_beside(path, is_directory=is_directory):
                pass
            settle(path)


@pytest.mark.parametrize("is_directory", [True, False])
def test_another_that_locks_it_first_wins(
    path: Path, new: Path, is_directory: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where directories cannot be locked, another may settle between making and locking."""
    with nothing_left_open():
        monkeypatch.setattr("eventstore.log.replacing.try_exclusive", lambda _: False)
        with (
            pytest.raises(errors.UnavailableError, match="another process is packing"),
            made_beside(path, is_directory=is_directory),
        ):
            pass
        assert new.exists()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("other_form", FORMS)
def test_the_steps_of_a_replacement(
    path: Path, new: Path, form: Form, other_form: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    form(path)
    other_form(new)
    steps: list[Any] = []
    rename, fsync = os.rename, os.fsync

    def renaming(source: Path, target: Path) -> None:
        steps.append((Path(source).name, Path(target).name, is_locked(path.parent)))
        rename(source, target)

    def syncing(descriptor: int) -> None:
        if os.path.samestat(os.fstat(descriptor), path.parent.stat()):
            steps.append(names(path))
        fsync(descriptor)

    monkeypatch.setattr(os, "rename", renaming)
    monkeypatch.setattr(os, "fsync", syncing)
    replace(path, new)
    assert steps == [
        [".store.new", "store"],
        ("store", ".store.old", True),
        (".store.new", "store", True),
        [".store.old", "store"],
    ]
    assert names(path) == ["store"]
    assert path.is_dir() == (other_form is a_folder)
    assert not is_locked(path.parent)


def _failing(code: int) -> Callable[..., Any]:
    def refused(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return refused


@pytest.mark.parametrize("form", FORMS)
def test_a_replacement_that_fails_is_taken_back(
    path: Path, new: Path, form: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    form(path)
    form(new)
    rename = os.rename

    def refusing(source: Path, target: Path) -> None:
        if Path(source) == new:
            _failing(errno.EIO)()
        rename(source, target)

    monkeypatch.setattr(os, "rename", refusing)
    with pytest.raises(OSError, match="Input/output"):
        replace(path, new)
    assert names(path) == [".store.new", "store"]


def test_an_old_form_that_cannot_be_removed_is_left_to_the_next(
    path: Path, new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_file(path)
    a_folder(new)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", _failing(errno.EACCES))
        replace(path, new)
    assert names(path) == [".store.old", "store"]
    settle(path)
    assert names(path) == ["store"]


def test_where_directories_cannot_be_locked(
    path: Path, new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = fcntl.flock

    def refusing(file: Any, operation: int) -> None:
        if operation == fcntl.LOCK_EX:
            _failing(errno.ENOLCK)()
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", refusing)
    a_folder(path)
    with made_beside(path, is_directory=True) as made:
        assert is_locked(made)
        assert made == new
        replace(path, made)
    assert names(path) == ["store"]


def test_an_old_folder_is_no_store_while_it_is_removed(
    path: Path, new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_folder(path)
    a_file(new)
    seen = []

    def stopped(tree: Path) -> None:
        seen.append(sorted(entry.name for entry in tree.iterdir()))
        _failing(errno.EIO)()

    with monkeypatch.context() as patched:
        patched.setattr("eventstore.log.replacing.remove_tree", stopped)
        replace(path, new)
    assert seen == [["log"]]
    assert names(path) == [".store.old", "store"]
    settle(path)
    assert names(path) == ["store"]


@pytest.mark.parametrize("has_path", [False, True])
@pytest.mark.parametrize("has_old", [False, True])
def test_what_only_settling_brings_back(
    path: Path, old: Path, has_path: bool, has_old: bool
) -> None:
    if has_path:
        a_folder(path)
    if has_old:
        a_folder(old)
    if has_old and not has_path:
        with pytest.raises(errors.FailedPreconditionError, match="was interrupted"):
            refuse_unsettled(path)
    else:
        refuse_unsettled(path)
