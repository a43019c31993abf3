"""Forks wait for threads that are in libraries, and for nothing else."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from eventstore.log import forking
from eventstore.log.forking import made_in_steps, no_fork_in_libraries

_SECONDS_MAX = 30


def _forked(work: Callable[[], bool]) -> bool:
    """What something says in a forked child; False when it hangs there."""
    child = os.fork()
    if child == 0:
        signal.alarm(_SECONDS_MAX)
        code = 1
        with contextlib.suppress(BaseException):
            code = 0 if work() else 1
        os._exit(code)
    return os.waitpid(child, 0)[1] == 0


@pytest.fixture
def at_a_look(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """What is to be done, one after the other, whenever a fork that waits looks about."""
    to_do: list[Callable[[], object]] = []

    def sleep(seconds: float) -> None:
        if to_do:
            to_do.pop(0)()
        time.sleep(seconds)

    clock = SimpleNamespace(sleep=sleep, monotonic=time.monotonic)
    monkeypatch.setattr(forking, "time", clock)
    return to_do


@contextlib.contextmanager
def _thread_in_step(until: threading.Event, work: Callable[[], object] = bool) -> Iterator[None]:
    """Another thread is in libraries until something happens, and then does some work there."""
    is_in_libraries = threading.Event()

    def step() -> None:
        with no_fork_in_libraries():
            is_in_libraries.set()
            assert until.wait(_SECONDS_MAX)
            work()

    thread = threading.Thread(target=step)
    thread.start()
    try:
        assert is_in_libraries.wait(_SECONDS_MAX)
        yield
    finally:
        until.set()
        thread.join(_SECONDS_MAX)
        assert not thread.is_alive()
        assert not forking._in_libraries


def test_a_fork_comes_between_two_steps(at_a_look: list[Callable[[], object]]) -> None:
    made: list[int] = []
    is_in_libraries, is_waited_for = threading.Event(), threading.Event()
    at_a_look += [bool, is_waited_for.set]

    def items() -> Iterator[int]:
        for item in range(3):
            made.append(item)
            is_in_libraries.set()
            assert is_waited_for.wait(_SECONDS_MAX)
            yield item

    done: list[int] = []
    thread = threading.Thread(target=lambda: done.extend(made_in_steps(items())))
    thread.start()
    assert is_in_libraries.wait(_SECONDS_MAX)
    assert _forked(lambda: made == [0] and not forking._in_libraries)
    thread.join(_SECONDS_MAX)
    assert done == made == [0, 1, 2]
    assert not forking._in_libraries


def test_a_step_within_a_step_does_not_wait_for_the_fork(
    at_a_look: list[Callable[[], object]],
) -> None:
    is_waited_for, ends = threading.Event(), []
    at_a_look.append(is_waited_for.set)

    def work() -> None:
        ends.extend(made_in_steps([1, 2]))
        with no_fork_in_libraries():
            ends.append(3)

    with _thread_in_step(is_waited_for, work):
        assert _forked(lambda: ends == [1, 2, 3])


def test_a_thread_that_forks_in_a_step_waits_for_no_one() -> None:
    with no_fork_in_libraries():
        assert _forked(lambda: list(forking._in_libraries) == [threading.get_ident()])
    assert not forking._in_libraries


def test_a_child_that_was_forked_in_a_step_leaves_it() -> None:
    with no_fork_in_libraries():
        child = os.fork()
    if child == 0:
        os._exit(0 if not forking._in_libraries and _forked(lambda: True) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_step_that_does_not_end_is_waited_for_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forking, "WAITED_SECONDS_MAX", 0.0)
    end = threading.Event()
    with _thread_in_step(end):

        def work() -> bool:
            # The thread is not there.
            assert not forking._in_libraries
            monkeypatch.setattr(forking, "WAITED_SECONDS_MAX", 2.0 * _SECONDS_MAX)
            with no_fork_in_libraries():
                return _forked(lambda: True)

        assert _forked(work)


def test_a_fork_amid_the_wait_for_another_does_not_end_it(
    at_a_look: list[Callable[[], object]],
) -> None:
    """As when the handler of a signal forks."""
    end, left = threading.Event(), []

    def fork_and_go_on() -> None:
        at_a_look.append(end.set)
        assert _forked(lambda: left == [1])
        # It was waited for here.
        assert left == [1]

    at_a_look.append(fork_and_go_on)
    with _thread_in_step(end, lambda: left.append(1)):
        assert _forked(lambda: left == [1])


def test_threads_that_fork_at_once_do_not_wait_for_each_other() -> None:
    answers: list[bool] = []
    threads = [
        threading.Thread(target=lambda: answers.append(_forked(lambda: True))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_SECONDS_MAX)
    assert answers == [True] * 4


def test_two_steps_may_be_taken_at_once() -> None:
    both = threading.Barrier(2, timeout=_SECONDS_MAX)
    end = threading.Event()
    end.set()
    with _thread_in_step(end, both.wait), no_fork_in_libraries():
        both.wait()


def test_a_step_that_fails_ends() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        list(made_in_steps(items()))
    assert not forking._in_libraries
