"""What a process that forks leaves to its child.

In the child only the thread that forked lives on. Locks that others held stay locked for ever, what
they were changing stays half-changed, and open files, threads and databases are the parent's. So
whatever holds such things takes new ones in the child, before anything else runs there.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from typing import Any, Final, Protocol, TypeVar

_Item = TypeVar("_Item")


class Forkable(Protocol):
    """Something that holds locks, open files, threads or half-changed state."""

    def after_fork_in_child(self) -> None:
        """Let go of what is the parent's. It never waits and never fails."""


_forking = threading.RLock()

_forking_libraries = threading.RLock()

_in_libraries: Final[dict[int, int]] = {}
"""The threads that are in libraries now, and how many steps deep each is."""

WAITED_SECONDS_MAX = 5.0
"""After so long a process is forked all the same: whoever is waited for may wait for it."""

_LOOKED_EVERY_SECONDS: Final = 0.001

_living: weakref.WeakSet[Forkable] = weakref.WeakSet()


def renew_in_children(held: Forkable) -> None:
    """Call `after_fork_in_child` of an object in every child that this process forks."""
    _living.add(held)


def open_at_first_use(held: Any) -> None:
    """Let an object's `open_missing` make the attributes that it lacks from now on, by name.

    Only in children, and not by a `__getattr__` that all have: Python then takes longer for each
    attribute, and a get reads some.
    """
    if not hasattr(type(held), "__getattr__"):
        of = type(held)
        members = {"__getattr__": of.open_missing, "__module__": of.__module__}
        held.__class__ = type(of.__name__, (of,), members)


def no_fork() -> contextlib.AbstractContextManager[object]:
    """Held while a file is opened and noted, so that no child has it open without knowing."""
    return _forking


class _Libraries:
    """While a thread is in it, no process is forked: see `no_fork_in_libraries`."""

    def __enter__(self) -> None:
        thread = threading.get_ident()
        if thread not in _in_libraries:
            # Not while a fork waits, or it would wait for ever for threads that come and go.
            with _forking_libraries:
                _in_libraries[thread] = 1
        else:
            _in_libraries[thread] += 1

    def __exit__(self, *_: object) -> None:
        thread = threading.get_ident()
        if _in_libraries[thread] == 1:
            del _in_libraries[thread]
        else:
            _in_libraries[thread] -= 1


_libraries = _Libraries()


def no_fork_in_libraries() -> contextlib.AbstractContextManager[object]:
    """For a step of a thread in Arrow or DuckDB, or an import of modules; others may be in theirs.

    They have locks of their own, which a child that is forked meanwhile would wait for, for ever.
    A fork waits until no other thread is in such a step, so a step should be short. In it nothing
    may be waited for that a thread holds as it comes to such a step.
    """
    _hold_forks_for_libraries()
    return _libraries


def made_in_steps(items: Iterable[_Item]) -> Iterator[_Item]:
    """Items that libraries make, each in a step of its own."""
    ahead = iter(items)
    while True:
        with no_fork_in_libraries():
            made = [*itertools.islice(ahead, 1)]
        if not made:
            return
        # Nothing here keeps it.
        yield made.pop()


@functools.cache
def _hold_forks_for_libraries() -> None:
    # First, since what is registered last runs first before a fork: it would have the locks of
    # these then, and wait here for a thread that waits for one of them.
    import concurrent.futures.thread  # noqa: F401
    import logging  # noqa: F401

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_wait_for_libraries, after_in_parent=_release_libraries)


def _wait_for_libraries() -> None:
    _forking_libraries.acquire()
    thread, end = threading.get_ident(), time.monotonic() + WAITED_SECONDS_MAX
    # Without a lock: a signal's handler may fork wherever this thread is.
    while any(other != thread for other in list(_in_libraries)) and time.monotonic() < end:
        time.sleep(_LOOKED_EVERY_SECONDS)


def _release_libraries() -> None:
    # Not held where it was registered in the midst of a fork.
    with contextlib.suppress(RuntimeError):
        _forking_libraries.release()


def _renew_all() -> None:
    global _forking, _forking_libraries
    _forking = threading.RLock()
    _forking_libraries = threading.RLock()
    own = threading.get_ident()
    for thread in [thread for thread in _in_libraries if thread != own]:
        del _in_libraries[thread]
    for held in list(_living):
        held.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _forking.acquire(),
        after_in_parent=lambda: _forking.release(),
        after_in_child=_renew_all,
    )
