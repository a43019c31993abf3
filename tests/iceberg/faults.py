"""Ends a run at one of its calls of the catalog or of files, before or after it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO

_CALLS = [
    *((SqlCatalog, name) for name in ("load_table", "create_table", "commit_table")),
    (SqlCatalog, "create_namespace"),
    *((PyArrowFile, name) for name in ("open", "create")),
    (PyArrowFileIO, "delete"),
]


class KilledError(BaseException):
    """In place of the end of the process."""


@contextmanager
def killed_at(number: int, *, after: bool) -> Iterator[list[str]]:
    """Raise KilledError at this call, counted from 0, and at all later ones; gives the calls."""
    calls = list[str]()

    def counted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def called(*arguments: Any, **named: Any) -> Any:
            calls.append(name)
            mine = len(calls) - 1
            if mine > number or (mine == number and not after):
                raise KilledError(name)
            answer = call(*arguments, **named)
            if mine == number:
                raise KilledError(name)
            return answer

        return called

    with ExitStack() as stack:
        for of, name in _CALLS:
            stack.enter_context(mock.patch.object(of, name, counted(name, getattr(of, name))))
        yield calls
