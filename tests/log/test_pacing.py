"""Puts make way for the work of the background: only while it is behind, and never for ever."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import pytest

from eventstore.log import pacing
from eventstore.log.pacing import Pacing
from eventstore.log.worker import Worker

MANY = 10**9


class Work:
    """What can be behind, and says when somebody asks for the last time before resting."""

    def __init__(self, pressure: float) -> None:
        self.of, self.asked = pressure, threading.Semaphore(0)

    def pressure(self) -> float:
        self.asked.release()
        return self.of


def resting(made: Pacing, work: Work) -> threading.Thread:
    thread = threading.Thread(target=made.rest, args=(MANY,), daemon=True)
    thread.start()
    for _ in range(2):
        assert work.asked.acquire(timeout=30)
    return thread


@pytest.fixture(autouse=True)
def _rests_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "SECONDS_MAX", 600)


@pytest.mark.parametrize("pressure", [0, 0.5, 1])
def test_nobody_rests_where_nothing_is_behind(pressure: float) -> None:
    Pacing(lambda: lambda: pressure).rest(MANY)
    Pacing(lambda: None).rest(MANY)


def test_a_rest_ends_once_nothing_is_behind_any_more() -> None:
    work = Work(1.5)
    made = Pacing(lambda: work.pressure)
    threads = [resting(made, work) for _ in range(3)]
    work.of = 1.25
    made.note_progress()
    assert all(thread.is_alive() for thread in threads)
    work.of = 1
    made.note_progress()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert not made._resting


def test_work_that_ends_before_it_is_known_who_rests_is_noticed() -> None:
    pressures = iter([2, 0])
    thread = threading.Thread(
        target=Pacing(lambda: lambda: next(pressures)).rest, args=(MANY,), daemon=True
    )
    thread.start()
    thread.join(30)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("records", "pressure", "seconds"),
    [(1_000, 1.5, 0.05), (1_000, 2, 0.1), (1_000, 9, 0.1), (1, 2, 0.0001), (MANY, 2, 600)],
)
def test_a_rest_is_as_long_as_the_put_is_large_and_the_work_is_behind(
    monkeypatch: pytest.MonkeyPatch, records: int, pressure: float, seconds: float
) -> None:
    waited = []

    class Lock:
        def acquire(self, timeout: float | None = None) -> None:
            if timeout is not None:
                waited.append(timeout)

    monkeypatch.setattr(pacing.threading, "Lock", Lock)
    made = Pacing(lambda: lambda: pressure)
    made.rest(records)
    assert waited == [pytest.approx(seconds)]
    assert not made._resting


def test_an_interrupt_ends_a_rest_and_keeps_nobody_else_from_resting() -> None:
    pressures = iter([2, KeyboardInterrupt(), 2, 0])

    def pressure() -> float:
        found = next(pressures)
        if isinstance(found, BaseException):
            raise found
        return found

    made = Pacing(lambda: pressure)
    with pytest.raises(KeyboardInterrupt):
        made.rest(MANY)
    made.rest(MANY)


def test_a_worker_does_things_in_order_and_tells_when_each_has_ended() -> None:
    ends: list[bool] = []
    may_end, worker = Future[None](), Worker("test", lambda: ends.append(worker.is_busy()))
    assert not worker.is_busy()
    worker.submit(may_end.result)
    worker.submit(ends.clear)
    assert worker.is_busy()
    may_end.set_exception(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        worker.wait()
    worker.wait()
    worker.close()
    assert ends == [False]
    assert not worker.is_busy()
    worker.submit(ends.clear)
    worker.close()
    assert ends == [False]
