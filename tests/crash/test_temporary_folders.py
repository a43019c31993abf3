"""Folders in the system's temporary directory go with their owners, and without one reads go on."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import eventstore
from eventstore import errors
from eventstore.log import temporary_folder
from eventstore.log.temporary_folder import TemporaryFolder
from eventstore.projections import tables_file
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import open_with
from tests.open_files import nothing_left_open, open_files

_OWNER = """
import sys, tempfile
from eventstore.log.temporary_folder import TemporaryFolder
folder = TemporaryFolder()
(folder.path / "held").write_bytes(b"much")
print(folder.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary directory."""
    path = tmp_path / "temporary"
    path.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    return path


def test_what_the_dead_have_left_is_removed_at_the_next_use(temporary: Path) -> None:
    owners = [
        subprocess.Popen(
            [sys.executable, "-c", _OWNER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"TMPDIR": str(temporary)},
        )
        for _ in range(2)
    ]
    paths = []
    for owner in owners:
        assert owner.stdout is not None
        paths.append(Path(owner.stdout.readline().strip()))
    others = [temporary / "eventstore-foreign", temporary / "another"]
    for other in others:
        other.mkdir()
        (other / "kept").touch()
    (temporary / "eventstore-file").touch()
    (temporary / "eventstore-link").symlink_to(paths[1])
    owners[0].send_signal(signal.SIGKILL)
    owners[0].wait()
    with TemporaryFolder() as folder:
        assert not paths[0].exists()
        assert (paths[1] / "held").exists()
        assert all((other / "kept").exists() for other in others)
        assert folder.is_dir()
    assert not folder.exists()
    owners[1].communicate("")
    assert not paths[1].exists()
    assert (temporary / "eventstore-file").exists()


def test_a_folder_is_removed_when_its_owner_forgets_it(temporary: Path) -> None:
    kept = TemporaryFolder()
    kept.close()
    kept.close()
    folder = TemporaryFolder()
    child = os.fork()
    if not child:
        folder.leave_to_the_parent()
        del folder
        os._exit(0)
    os.waitpid(child, 0)
    with TemporaryFolder():
        assert folder.path.exists()
    del folder
    assert list(temporary.iterdir()) == []


def test_a_child_that_ends_leaves_the_folders_of_its_parent(temporary: Path) -> None:
    child = (
        "import os, sys\n"
        "from eventstore.log.temporary_folder import TemporaryFolder\n"
        "folder = TemporaryFolder()\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    sys.exit()\n"
        "os.waitpid(child, 0)\n"
        "assert folder.path.exists()\n"
    )
    environment = os.environ | {"TMPDIR": str(temporary)}
    subprocess.run([sys.executable, "-c", child], check=True, env=environment)
    assert list(temporary.iterdir()) == []


def test_one_that_is_removed_before_it_is_locked_is_made_again(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    mkdtemp = tempfile.mkdtemp

    def vanishing(**named: str) -> str:
        made.append(mkdtemp(**named))
        if len(made) == 1:
            shutil.rmtree(made[0])
        return made[-1]

    monkeypatch.setattr(temporary_folder.tempfile, "mkdtemp", vanishing)
    with TemporaryFolder() as folder:
        assert [str(folder)] == made[1:]


def _filled(path: Path) -> None:
    with open_with(path, closing_records_min=1) as store:
        type_id = store.put_artifact_type(mlmd.ArtifactType(name="T"))
        store.put_artifacts([mlmd.Artifact(type_id=type_id, uri=f"u{n}") for n in range(300)])


def _damaged_run(path: Path) -> None:
    (run,) = (path / "projections" / "index").glob("*.run")
    content = bytearray(run.read_bytes())
    for place in range(len(content) // 4, len(content) * 3 // 4, 64):
        content[place] ^= 1
    run.write_bytes(content)


def _without_temporary_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, way: str) -> None:
    if way == "none":

        def refused() -> str:
            raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

        monkeypatch.setattr(tempfile, "gettempdir", refused)
        monkeypatch.setattr(tempfile, "tempdir", None)
    else:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))


@pytest.mark.parametrize("way", ["none", "missing"])
def test_without_a_temporary_directory_errors_say_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    _filled(tmp_path / "store")
    _damaged_run(tmp_path / "store")
    shutil.rmtree(tmp_path / "store" / "projections" / "tables.duckdb", ignore_errors=True)
    monkeypatch.setattr(tables_file, "IN_MEMORY_RECORDS_MAX", 10)
    _without_temporary_directory(monkeypatch, tmp_path, way)
    with eventstore.open(tmp_path / "store", read_only=True) as store:
        for read in (
            lambda: store.get_artifacts_by_uri("u7"),
            lambda: store.get_artifacts_by_id(list(range(1, 301))),
            lambda: store.sql("FROM artifacts"),
        ):
            with pytest.raises(errors.StatusError, match="TMPDIR"):
                read()


def test_without_a_temporary_directory_a_sound_store_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with open_with(tmp_path / "store", tail_records_max=50) as store:
        type_id = store.put_artifact_type(mlmd.ArtifactType(name="T"))
        store.put_artifacts([mlmd.Artifact(type_id=type_id, uri=f"u{n}") for n in range(300)])
        store.seal()
        store.put_artifacts([mlmd.Artifact(type_id=type_id, uri=f"v{n}") for n in range(300)])
    shutil.rmtree(tmp_path / "store" / "projections")
    _without_temporary_directory(monkeypatch, tmp_path, "none")
    with open_with(tmp_path / "store", read_only=True, tail_records_max=50) as store:
        assert len(store.get_artifacts()) == 600
        assert [found.id for found in store.get_artifacts_by_uri("u7")] == [8]
        assert store.sql("SELECT count(*) FROM artifacts").rows() == [(600,)]
    assert "Traceback" not in caplog.text


def test_only_what_is_abandoned_here_is_removed(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(name: str) -> Path:
        path = temporary / name
        path.mkdir()
        (path / "in-use").touch()
        return path

    abandoned, foreign = made("eventstore-1"), made("other-1")
    held, without, linked = made("eventstore-2"), made("eventstore-3"), made("linked")
    (without / "in-use").unlink()
    pipe, lock_link = made("eventstore-4"), made("eventstore-5")
    for path in (pipe, lock_link):
        (path / "in-use").unlink()
    os.mkfifo(pipe / "in-use")
    (lock_link / "in-use").symlink_to(foreign / "in-use")
    (temporary / "eventstore-6").symlink_to(linked)
    descriptor = os.open(held / "in-use", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    kept = {foreign, held, without, linked, lock_link, temporary / "eventstore-6"}
    with nothing_left_open():
        with monkeypatch.context() as patched:
            patched.setattr(os, "geteuid", lambda: abandoned.stat().st_uid + 1)
            TemporaryFolder().close()
            assert abandoned.exists()
        TemporaryFolder().close()
        assert not abandoned.exists()
        assert {*temporary.iterdir()} - {pipe} == kept
    os.close(descriptor)
    TemporaryFolder().close()
    assert not held.exists()


def test_where_files_cannot_be_locked_a_folder_is_made_all_the_same(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refused)
    with TemporaryFolder() as folder:
        assert folder.is_dir()
    assert [*temporary.iterdir()] == []


def test_folders_that_others_take_at_once_are_made_again_for_a_while(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with nothing_left_open():
        with monkeypatch.context() as patched:
            patched.setattr(temporary_folder, "try_exclusive", lambda _: False)
            with pytest.raises(errors.UnavailableError, match="vanish at once"):
                TemporaryFolder()
        assert len([*temporary.iterdir()]) == 10
    with nothing_left_open(), monkeypatch.context() as patched:
        patched.setattr(temporary_folder, "is_at", lambda *_: False)
        with pytest.raises(errors.UnavailableError, match="vanish at once"):
            TemporaryFolder()


def test_a_folder_is_removed_by_its_owner_alone(temporary: Path) -> None:
    folder = TemporaryFolder()
    before = len(open_files())
    child = os.fork()
    if not child:
        folder.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert folder.path.is_dir()
    folder.close()
    assert not folder.path.exists()
    assert len(open_files()) == before - 1
    folder.close()
