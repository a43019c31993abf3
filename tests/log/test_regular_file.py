"""What is at a path: a file, or something else that is named and left alone."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from eventstore.errors import ResourceExhaustedError
from eventstore.log.os_errors import tells_of_damage, translated
from eventstore.log.regular_file import (
    NotRegularFileError,
    is_irregular,
    open_regular,
    read_regular,
)
from tests.open_files import nothing_left_open


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
    for name in ("file", "folder", "pipe", "socket", "missing"):
        (tmp_path / f"link-to-{name}").symlink_to(tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("prefix", ["", "link-to-"])
@pytest.mark.parametrize(
    ("name", "error", "code", "irregular", "damage"),
    [
        ("file", None, 0, False, False),
        ("folder", IsADirectoryError, errno.EISDIR, False, True),
        ("pipe", NotRegularFileError, errno.ENXIO, True, True),
        ("socket", NotRegularFileError, errno.ENXIO, True, True),
        ("missing", FileNotFoundError, errno.ENOENT, False, True),
    ],
)
def test_what_is_opened(
    folder: Path,
    prefix: str,
    name: str,
    error: type[OSError] | None,
    code: int,
    irregular: bool,
    damage: bool,
) -> None:
    path = folder / f"{prefix}{name}"
    assert is_irregular(path) == irregular
    with nothing_left_open():
        if error is None:
            assert read_regular(path) == b"content"
            os.close(open_regular(path, os.O_RDWR))
        else:
            for act in (lambda: read_regular(path), lambda: open_regular(path, os.O_RDONLY)):
                with pytest.raises(error) as raised:
                    act()
                assert type(raised.value) is error
                assert raised.value.errno == code
                assert raised.value.filename == str(path)
                assert tells_of_damage(raised.value) == damage
        # A pipe that nobody reads cannot be written to.
        if name == "pipe":
            with pytest.raises(NotRegularFileError, match="a pipe, socket or device"):
                open_regular(path, os.O_WRONLY)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_what_tells_of_no_damage(code: int) -> None:
    assert not tells_of_damage(OSError(code, os.strerror(code)))


def test_other_errors_are_passed_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(PermissionError):
        open_regular(folder / "file", os.O_RDONLY)


def test_a_file_that_may_not_grow_is_told_apart_from_a_full_disk() -> None:
    for number, words in ((errno.EFBIG, "allow larger files"), (errno.ENOSPC, "free some space")):
        told = translated(OSError(number, os.strerror(number)), "writing", Path("file"))
        assert isinstance(told, ResourceExhaustedError)
        assert words in str(told)
