"""Run commands in this process, or say how a process of its own runs them."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from eventstore.cli.main import main

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
"""For processes: they import this checkout, whatever is installed."""


def program(*arguments: object) -> list[str]:
    """The program and the arguments that a process runs a command by."""
    return [sys.executable, "-m", "eventstore", *map(str, arguments)]


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


class _Stream(io.TextIOWrapper):
    def __init__(self, content: bytes = b"", *, is_terminal: bool = False) -> None:
        self.bytes = io.BytesIO(content)
        self._is_terminal = is_terminal
        super().__init__(self.bytes, encoding="utf-8", newline="")

    def isatty(self) -> bool:
        return self._is_terminal

    def written(self) -> str:
        self.flush()
        return self.bytes.getvalue().decode()


def run(*arguments: object, width: int | None = None, stdin: str = "") -> Done:
    """What a command writes; `width` is that of the terminal it writes to, None for pipes."""
    out, err = _Stream(is_terminal=width is not None), _Stream()
    code = 0
    with (
        mock.patch("sys.argv", ["eventstore", *map(str, arguments)]),
        mock.patch("sys.stdin", _Stream(stdin.encode())),
        mock.patch("sys.stdout", out),
        mock.patch("sys.stderr", err),
        mock.patch.dict("os.environ", {"NO_COLOR": "1", "COLUMNS": str(width or 80)}),
        _no_new_handlers(),
    ):
        try:
            main()
        except SystemExit as exit_:
            code = int(exit_.code or 0)
    return Done(code, out.written(), err.written())


@contextmanager
def _no_new_handlers() -> Iterator[None]:
    before = list(logging.getLogger().handlers)
    yield
    logging.getLogger().handlers[:] = before
