"""What a process that forks leaves to its child.

In the child only the thread that forked lives on. Locks that others held stay locked for ever, what
they were changing stays half-changed, and open files, threads and databases are the parent's. So
whatever holds such things takes new ones in the child, before anything else runs there.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import weakref
from typing import Any, Protocol


class Forkable(Protocol):
    """Something that holds locks, open files, threads or half-changed state."""

    def after_fork_in_child(self) -> None:
        """Let go of what is the parent's. It never waits and never fails."""


_forking = threading.RLock()

_in_libraries = threading.RLock()

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


def no_fork_in_libraries() -> contextlib.AbstractContextManager[object]:
    """Held while a thread imports modules, or while a library opens what has locks of its own.

    A child that is forked amid these could do neither ever again.
    """
    _hold_forks_for_libraries()
    return _in_libraries


@functools.cache
def _hold_forks_for_libraries() -> None:
    # First, since what is registered last runs first before a fork: it would have the lock of
    # `logging` then, and wait here for a thread that waits for that one.
    import logging  # noqa: F401

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=lambda: _in_libraries.acquire(), after_in_parent=_release_libraries
        )


def _release_libraries() -> None:
    # Not held where it was registered in the midst of a fork.
    with contextlib.suppress(RuntimeError):
        _in_libraries.release()


def _renew_all() -> None:
    global _forking, _in_libraries
    _forking = threading.RLock()
    _in_libraries = threading.RLock()
    for held in list(_living):
        held.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _forking.acquire(),
        after_in_parent=lambda: _forking.release(),
        after_in_child=_renew_all,
    )
