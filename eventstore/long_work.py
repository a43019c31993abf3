"""Progress of long work for which the caller asked for none: a notebook shows it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from inspect import signature
from typing import Any, Final, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

Shower = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
"""Shows that something is being done; called with what it is."""

_showers: Final[list[Shower]] = []
_this_thread = threading.local()


def show_long_work(shower: Shower) -> None:
    """Have long work of this process shown from now on, where a caller does not ask for it."""
    _showers[:] = [shower]


def long_work(doing: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """For a function that takes `progress`: where a caller gives none, a notebook shows it."""

    def decorated(function: Callable[P, R]) -> Callable[P, R]:
        place = list(signature(function).parameters).index("progress")

        @wraps(function)
        def shown(*args: P.args, **kwargs: P.kwargs) -> R:
            given: Any = args[place] if len(args) > place else kwargs.get("progress")
            # Longer work that this is a part of reports its own progress.
            if given is not None or not _showers or getattr(_this_thread, "is_shown", False):
                return function(*args, **kwargs)
            _this_thread.is_shown = True
            try:
                with _showers[0](doing) as progress:
                    call: Any = function
                    if len(args) > place:
                        return call(*args[:place], progress, *args[place + 1 :], **kwargs)  # type: ignore[no-any-return]
                    return call(*args, **{**kwargs, "progress": progress})  # type: ignore[no-any-return]
            finally:
                _this_thread.is_shown = False

        return shown

    return decorated
