"""Jobs of the background that take much memory are done one at a time; no put waits for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from eventstore.log import DirectoryLog, housekeeping, sealing
from eventstore.projections import Projections, point_index
from eventstore.projections.limits import IndexLimits, Limits
from eventstore.projections.tables import Tables
from tests.builders import append, draft

_LIMITS = Limits(index=IndexLimits(tail_records_max=4), background_records=8)
_RECORDS = 64


class OwnedLock:
    """A lock that says which thread holds it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.owner: int | None = None

    def acquire(self, timeout: float = -1) -> bool:
        is_mine = self._lock.acquire(timeout=timeout)
        if is_mine:
            self.owner = threading.get_ident()
        return is_mine

    def release(self) -> None:
        self.owner = None
        self._lock.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


@pytest.fixture
def lock(monkeypatch: pytest.MonkeyPatch) -> OwnedLock:
    made = OwnedLock()
    monkeypatch.setattr(housekeeping._housekeeping, "lock", made)
    return made


@pytest.fixture
def projections(tmp_path: Path) -> Iterator[Projections]:
    log = DirectoryLog.create(tmp_path / "store", segment_records_max=8)
    made = Projections(log, _LIMITS)
    yield made
    made.close()
    log.close()


def put(projections: Projections) -> None:
    log = projections._log
    for number in range(log.position + 1, log.position + 1 + _RECORDS):
        projections.add(append(log, draft(number)))


def test_whatever_takes_much_memory_holds_the_lock(
    projections: Projections, lock: OwnedLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: dict[str, bool] = {}

    def watch(where: Any, name: str) -> None:
        job: Callable[..., Any] = getattr(where, name)

        def watched(*arguments: Any) -> Any:
            held[name] = held.get(name, True) and lock.owner == threading.get_ident()
            return job(*arguments)

        monkeypatch.setattr(where, name, watched)

    watch(sealing, "prepared")
    watch(point_index, "merge_runs")
    watch(Tables, "fold_in_file")
    put(projections)
    log = projections._log
    assert isinstance(log, DirectoryLog)
    assert log._sealer is not None
    log._sealer.submit(list).result()
    put(projections)
    projections.close()
    assert held == {"prepared": True, "merge_runs": True, "fold_in_file": True}


def test_puts_do_not_wait_for_it(projections: Projections, lock: OwnedLock) -> None:
    with lock:
        # In a thread, so that one that waited would not keep the test waiting for ever.
        putting = threading.Thread(target=put, args=[projections], daemon=True)
        putting.start()
        putting.join(timeout=60)
        assert projections._log.position == projections.index.position == _RECORDS
        assert {segment.state for segment in projections._log.segments()} == {"closed", "active"}
    projections.close()
    assert max(run.records for run in projections.index._runs()) > _RECORDS // 2
