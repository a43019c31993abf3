"""The layer below a store that fails and stops (layer.c): how it is built, loaded and told."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from enum import IntEnum
from pathlib import Path

SOURCE = Path(__file__).with_name("layer.c")
REPOSITORY = Path(__file__).parents[2]
BUILD = REPOSITORY / "build"
STOPPED = 77
"""How a process exits that the layer has stopped."""


class Action(IntEnum):
    """What becomes of the operation that is struck, and of those after it."""

    NOTHING = 0
    FAIL_ONCE = 1
    FAIL_ON = 2
    FULL = 3
    STOP = 4
    TEAR = 5


class Kind(IntEnum):
    """The kinds of operations that are counted."""

    CREATE = 1
    WRITE = 2
    SYNC = 3
    RENAME = 4
    TRUNCATE = 5
    UNLINK = 6
    MKDIR = 7
    RMDIR = 8
    MARK = 9


class State(ctypes.Structure):
    """What the layer tells, also of a process that is gone."""

    _fields_ = [
        ("count", ctypes.c_int64),
        ("struck_kind", ctypes.c_int32),
        ("is_struck", ctypes.c_int32),
        ("struck_path", ctypes.c_char * 1024),
        ("kinds", ctypes.c_uint8 * 65536),
    ]


def why_not() -> str | None:
    """Why there can be no layer here, and what to do; None if there can."""
    if not sys.platform.startswith("linux"):
        return "a layer below the store needs Linux"
    if shutil.which("cc") is None:
        return "no C compiler: install one that is called `cc` (apt-get install gcc)"
    return None


@functools.cache
def library() -> Path:
    """The compiled layer, made once for each source."""
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    path = BUILD / f"faults-{digest}.so"
    if not path.exists():
        BUILD.mkdir(exist_ok=True)
        # Threads and processes may make it at once: each its own file.
        with tempfile.TemporaryDirectory(dir=BUILD) as folder:
            made = Path(folder) / path.name
            command = ["cc", "-O1", "-shared", "-fPIC", "-o", str(made), str(SOURCE), "-ldl"]
            subprocess.run([*command, "-lpthread"], check=True)
            os.replace(made, path)
    return path


def environment() -> dict[str, str]:
    """For a Python process that runs on the layer."""
    path = os.pathsep.join([str(REPOSITORY), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    return os.environ | {"LD_PRELOAD": str(library()), "PYTHONPATH": path}


class Layer:
    """The layer of this process, which must run in `environment`."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        self._library.faults_state.restype = ctypes.POINTER(State)
        self._library.faults_arm.argtypes = [ctypes.c_longlong, ctypes.c_int, ctypes.c_int]
        self._library.faults_mark.argtypes = [ctypes.c_longlong]
        self.state: State = self._library.faults_state().contents

    def begin(self, root: Path, trace: int = -1) -> None:
        """Watch what this process does below a folder; nothing fails yet."""
        self._library.faults_begin(str(root).encode(), trace)

    def arm(self, at: int, action: Action, error_number: int = 0) -> None:
        """Strike the operation number `at`, counted from 0."""
        self._library.faults_arm(at, action, error_number)

    def disarm(self) -> None:
        self._library.faults_arm(0, Action.NOTHING, 0)

    def mark(self, number: int) -> None:
        """Write into the trace that something happened by now."""
        self._library.faults_mark(number)
