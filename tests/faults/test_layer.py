"""The layer strikes the operation that it was told to, and no other."""

from __future__ import annotations

import errno
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults import layer
from tests.faults.layer import STOPPED, Action, Kind

pytestmark = pytest.mark.skipif(layer.why_not() is not None, reason=str(layer.why_not()))

_LIFE = """
import os, sys
from pathlib import Path
from tests.faults.layer import Action, Layer
root, at, action = Path(sys.argv[1]), int(sys.argv[2]), Action(int(sys.argv[3]))
faults = Layer()
faults.begin(root)
faults.arm(at, action, int(sys.argv[4]))
folder = root / "folder"
error_number = 0
try:
    folder.mkdir()
    with open(folder / "a.tmp", "wb", buffering=0) as file:
        written = file.write(b"12345678")
        os.fsync(file.fileno())
    os.replace(folder / "a.tmp", folder / "a")
    with open(folder / "a", "r+b", buffering=0) as file:
        os.pwrite(file.fileno(), b"x", 2)
        file.truncate(4)
    (folder / "a").unlink()
    folder.rmdir()
except OSError as error:
    error_number = error.errno
print(faults.state.count, faults.state.struck_kind, error_number)
"""

_KINDS = [
    Kind.MKDIR,
    Kind.CREATE,
    Kind.WRITE,
    Kind.SYNC,
    Kind.RENAME,
    Kind.WRITE,
    Kind.TRUNCATE,
    Kind.UNLINK,
    Kind.RMDIR,
]


def _lived(root: Path, at: int, action: Action, error_number: int) -> tuple[int, list[int]]:
    """How the process ended, and what it printed: operations, the struck one's kind, errno."""
    root.mkdir(exist_ok=True)
    arguments = [str(root), str(at), str(int(action)), str(error_number)]
    done = subprocess.run(
        [sys.executable, "-S", "-c", _LIFE, *arguments],
        capture_output=True,
        text=True,
        env=layer.environment(),
        check=False,
    )
    return done.returncode, [int(number) for number in done.stdout.split()]


def test_every_operation_can_fail(tmp_path: Path) -> None:
    for at, kind in enumerate(_KINDS):
        status, printed = _lived(tmp_path / str(at), at, Action.FAIL_ONCE, errno.EIO)
        assert (status, printed) == (0, [at + 1, kind, errno.EIO])
    status, printed = _lived(tmp_path / "all", 99, Action.FAIL_ONCE, errno.EIO)
    assert (status, printed) == (0, [len(_KINDS), 0, 0])


def test_a_process_is_stopped_before_an_operation(tmp_path: Path) -> None:
    status, printed = _lived(tmp_path, 4, Action.STOP, 0)
    assert (status, printed) == (STOPPED, [])
    assert (tmp_path / "folder" / "a.tmp").read_bytes() == b"12345678"


def test_a_torn_write_leaves_half(tmp_path: Path) -> None:
    assert _lived(tmp_path, 2, Action.TEAR, 0) == (STOPPED, [])
    assert (tmp_path / "folder" / "a.tmp").read_bytes() == b"1234"


def test_on_a_full_disk_what_needs_space_fails(tmp_path: Path) -> None:
    status, printed = _lived(tmp_path, 3, Action.FULL, errno.ENOSPC)
    assert (status, printed) == (0, [6, Kind.SYNC, errno.ENOSPC])
    assert (tmp_path / "folder" / "a").read_bytes() == b"12345678"


def test_many_threads_may_build_the_layer_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layer, "BUILD", tmp_path / "build")
    with ThreadPoolExecutor(4) as threads:
        built = {*threads.map(lambda _: layer.library.__wrapped__(), range(8))}
    (path,) = built
    assert [*path.parent.iterdir()] == [path]
