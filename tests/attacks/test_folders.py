"""What cannot be looked at in a store's folders is damage, or an error, and never passes."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from eventstore import errors
from eventstore.log import DirectoryLog
from eventstore.log.store_files import strange_files
from eventstore.log.verification import verify_directory
from tests.builders import append, draft


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("folders") / "store"
    log = DirectoryLog.create(directory)
    append(log, draft(1))
    log.seal()
    append(log, draft(2))
    log.close()
    return directory


@pytest.mark.parametrize("folder", ["", "log"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOENT, errno.EACCES, errno.EMFILE])
def test_a_folder_that_cannot_be_listed(
    store: Path, monkeypatch: pytest.MonkeyPatch, folder: str, code: int
) -> None:
    scandir, refused = os.scandir, store / folder

    def failing(path: Any) -> Any:
        if Path(path) == refused:
            raise OSError(code, os.strerror(code))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", failing)
    if code in (errno.EACCES, errno.EMFILE):
        error = errors.PermissionDeniedError if code == errno.EACCES else errors.UnavailableError
        with pytest.raises(error, match=f"reading {refused} failed"):
            strange_files(store)
        return
    (finding,) = strange_files(store)
    assert finding.what == f"{refused} cannot be read: {os.strerror(code)}"
    assert finding.file == str(refused)


def test_all_strange_files_are_named_each_with_its_reason(store: Path) -> None:
    log = store / "log"
    (store / "beside.txt").write_text("years of work")
    (store / "other").mkdir()
    (log / "folder").mkdir()
    (log / "notes.txt").write_text("years of work")
    os.mkfifo(log / "pipe")
    os.mkfifo(store / "lock-pipe")
    shutil.copy(log / "0000000002.arrows", log / "0000000001.arrows")
    shutil.copy(log / "0000000001.parquet", log / "0000000002.parquet")
    (log / "0000000003.arrows").write_bytes(b"\0" * 100)
    found = {
        Path(finding.file or "").name: finding.what.partition(" belongs to nothing: ")[2]
        for finding in strange_files(store)
    }
    assert found.keys() == {
        *("beside.txt", "other", "folder", "notes.txt", "pipe", "lock-pipe"),
        *("0000000001.arrows", "0000000002.parquet", "0000000003.arrows"),
    }
    for name in ("beside.txt", "other", "lock-pipe"):
        assert found[name].startswith("it is no part of a store")
    assert found["folder"].startswith("a log has no folders")
    assert "pipe" in found["pipe"]
    for name in ("notes.txt", "0000000002.parquet"):
        assert found[name].startswith("the manifest does not name it")
    assert found["0000000001.arrows"].startswith("it is not segment 1 in another form: ")
    assert found["0000000003.arrows"].startswith("it is after the active segment, and more")
    kept = {name for name, words in found.items() if "; leave it there" in words}
    assert kept == {"0000000002.parquet", "0000000003.arrows"}
    others = [words for name, words in found.items() if name not in kept]
    assert all(words.endswith("; move it out of the store") for words in others)
    assert len(verify_directory(store).findings) == len(found)


@pytest.mark.parametrize("name", ["0000000001.arrows", "0000000003.arrows", "notes.txt"])
def test_a_file_that_is_gone_before_it_is_looked_at_is_none(
    store: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """As when another process removes what a sealing has left."""
    path = store / "log" / name
    path.write_bytes(b"half")
    fullmatch_of = os.path.lexists
    monkeypatch.setattr(os.path, "lexists", lambda one: str(one) != str(path) and fullmatch_of(one))
    assert [finding.file for finding in strange_files(store)] == (
        [str(path)] if name == "notes.txt" else []
    )


def test_names_of_temporary_files(store: Path) -> None:
    log = store / "log"
    good = ["manifest.json.1.tmp", "0000000002.parquet.77.tmp", "0000000003.arrows.9.tmp"]
    for name in good:
        (store / name).write_bytes(b"half")
        (log / name).write_bytes(b"half")
    assert strange_files(store) == []
    bad = ["manifest.json.tmp", "000000003.arrows.9.tmp", "x0000000003.arrows.9.tmp", "a.9.tmp"]
    for name in bad:
        (store / name).write_bytes(b"half")
        (log / name).write_bytes(b"half")
    found = [finding.file for finding in strange_files(store)]
    assert sorted(map(str, found)) == sorted(
        str(folder / name) for folder in (store, log) for name in bad
    )
