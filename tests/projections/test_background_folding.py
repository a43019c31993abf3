"""What is sealed is folded as puts come, and whatever becomes of that, queries answer the same."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from eventstore.log import DirectoryLog, content_id, forking, pacing
from eventstore.projections import Projections, table_writing
from eventstore.projections.limits import Limits
from eventstore.projections.tables import Tables
from tests.builders import append, draft
from tests.own_process import assert_runs
from tests.projections.conftest import artifact_ids, database

ROOT = Path(__file__).parents[2]

_EVERY = 7
_LIMITS = Limits(background_records=_EVERY)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[DirectoryLog]:
    made = DirectoryLog.create(tmp_path / "store", segment_records_max=2)
    yield made
    made.close()


@pytest.fixture
def projections(log: DirectoryLog) -> Iterator[Projections]:
    made = Projections(log, _LIMITS)
    yield made
    made.close()


def put(projections: Projections, count: int) -> None:
    """Artifacts in commits of their own."""
    log = projections._log
    for number in range(log.position + 1, log.position + 1 + count):
        projections.add(append(log, draft(number)))


def settle(projections: Projections) -> None:
    """Wait for what is being folded."""
    thread = projections._background._thread
    if thread is not None:
        thread.join()


def put_and_fold(projections: Projections) -> int:
    """Put, seal and let the next put begin a fold; the position up to which that goes."""
    put(projections, _EVERY)
    settle(projections)
    projections._log.seal()
    sealed = projections._log.position
    put(projections, 1)
    settle(projections)
    return sealed


def folded(log: DirectoryLog) -> int:
    """How far the file is folded. That it opens otherwise shows that nobody has it open."""
    with duckdb.connect(str(database(log)), config={"threads": 1}) as connection:
        ((position,),) = connection.execute("SELECT position FROM folded_position").fetchall()
    assert isinstance(position, int)
    return position


def during_the_first_batch(monkeypatch: pytest.MonkeyPatch, do: Callable[[], object]) -> None:
    """Fold a segment at a time from now on, and do something before the first one is."""
    fold_batch, calls = Tables._fold_batch, iter([do])
    monkeypatch.setattr(table_writing, "FOLDED_ROWS_MAX", 1)

    def fold(tables: Tables, batch: Any, erased: int) -> bool:
        next(calls, bool)()
        return fold_batch(tables, batch, erased)

    monkeypatch.setattr(Tables, "_fold_batch", fold)


def test_what_is_sealed_is_folded_and_the_file_closed(projections: Projections) -> None:
    log = projections._log
    assert isinstance(log, DirectoryLog)
    for _ in range(2):
        assert put_and_fold(projections) == folded(log) == log.position - 1
    assert artifact_ids(projections) == [*range(1, log.position + 1)]


def test_much_is_folded_before_it_is_sealed(tmp_path: Path) -> None:
    log = DirectoryLog.create(tmp_path / "unsealed")
    projections = Projections(log, Limits(background_records=_EVERY, unsealed_records=5))
    put(projections, _EVERY)
    settle(projections)
    assert folded(log) == _EVERY
    put(projections, 4)
    settle(projections)
    assert folded(log) == _EVERY
    put(projections, 1)
    settle(projections)
    assert folded(log) == _EVERY + 5
    log.seal()
    put(projections, 1)
    settle(projections)
    assert folded(log) == _EVERY + 5
    put(projections, 9)
    settle(projections)
    assert folded(log) >= log.position - 4
    assert artifact_ids(projections) == [*range(1, log.position + 1)]
    projections.close()
    log.close()


@pytest.fixture
def paced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Projections]:
    """Projections whose puts rest for long as soon as the tables are four records behind."""
    monkeypatch.setattr(pacing, "SECONDS_MAX", 600)
    log = DirectoryLog.create(tmp_path / "paced")
    made = Projections(log, Limits(background_records=_EVERY, unsealed_records=2))
    yield made
    made.close()
    log.close()


class HeldFold:
    """A put that rests while its records wait to be folded, and what the fold does then."""

    def __init__(self, projections: Projections, monkeypatch: pytest.MonkeyPatch) -> None:
        self.goes_on, began = threading.Event(), threading.Event()
        self.failure: Exception | None = None

        def wait() -> None:
            began.set()
            assert self.goes_on.wait(120)
            if self.failure is not None:
                raise self.failure

        during_the_first_batch(monkeypatch, wait)
        put(projections, _EVERY)
        assert began.wait(30)
        self._pacing = projections.pacing
        self._put = threading.Thread(target=self._pacing.rest, args=(10**9,), daemon=True)
        self._put.start()
        while not self._pacing._resting:
            os.sched_yield()

    def is_put_ended(self) -> bool:
        self._put.join(30)
        return not self._put.is_alive() and not self._pacing._resting


@pytest.mark.parametrize("failure", [None, OSError("the disk is gone")])
def test_a_put_rests_until_the_fold_has_caught_up_or_failed(
    paced: Projections, monkeypatch: pytest.MonkeyPatch, failure: Exception | None
) -> None:
    held = HeldFold(paced, monkeypatch)
    assert paced._background.pressure() == _EVERY / 4
    held.failure = failure
    held.goes_on.set()
    assert held.is_put_ended()
    settle(paced)
    assert paced._background.pressure() == 0
    assert artifact_ids(paced) == [*range(1, _EVERY + 1)]


def test_a_query_does_not_fold_what_is_being_folded(
    paced: Projections, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, answers = HeldFold(paced, monkeypatch), list[list[int]]()
    put(paced, 3)
    asking = threading.Thread(target=lambda: answers.append(artifact_ids(paced)))
    folds: list[int] = []
    apply = Tables._fold_in_transaction

    def fold(tables: Tables, batch: Any, moved: dict[str, int], erased: int) -> bool:
        folds.append(moved["position"])
        return apply(tables, batch, moved, erased)

    monkeypatch.setattr(Tables, "_fold_in_transaction", fold)
    asking.start()
    assert held.is_put_ended(), "the fold makes way"
    held.goes_on.set()
    asking.join(30)
    assert answers == [[*range(1, _EVERY + 4)]]
    assert folds == sorted({*folds}), "no position twice"
    assert not paced._background._halts


def test_a_put_that_rests_goes_on_once_the_store_is_closed(
    paced: Projections, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = HeldFold(paced, monkeypatch)
    closing = threading.Thread(target=paced.close)
    closing.start()
    assert held.is_put_ended()
    assert closing.is_alive(), "the batch is still being folded"
    held.goes_on.set()
    closing.join()


def test_a_child_that_is_forked_while_a_put_rests_does_not_rest(
    paced: Projections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forking, "WAITED_SECONDS_MAX", 0)
    held = HeldFold(paced, monkeypatch)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            put(paced, 5)
            paced.pacing.rest(10**9)
            code = int(paced._log.position != _EVERY + 5)
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    held.goes_on.set()
    assert held.is_put_ended()


def test_what_was_there_before_is_folded_without_keeping_puts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits(background_records=_EVERY, unsealed_records=2)
    log = DirectoryLog.create(tmp_path / "before")
    for number in range(1, 31):
        append(log, draft(number))
    projections = Projections(log, limits)
    projections.catch_up()
    pressures: list[float] = []
    during_the_first_batch(
        monkeypatch, lambda: pressures.append(projections._background.pressure())
    )
    put(projections, _EVERY)
    settle(projections)
    assert len(pressures) == 1
    assert pressures[0] <= _EVERY / 4
    projections.close()
    log.close()


def test_few_records_are_folded_by_a_query_alone(log: DirectoryLog) -> None:
    projections = Projections(log)
    put_and_fold(projections)
    assert not database(log).exists()
    assert projections._background._thread is None
    projections.close()


def test_a_read_only_one_folds_nothing(log: DirectoryLog) -> None:
    projections = Projections(log, _LIMITS, read_only=True, saves=True)
    put_and_fold(projections)
    assert not database(log).exists()
    projections.close()


def test_a_query_keeps_the_file_open_and_sees_what_was_folded(projections: Projections) -> None:
    put_and_fold(projections)
    log, tables = projections._log, projections.opened_tables()
    assert artifact_ids(projections) == [*range(1, 9)]
    opened = tables._opened
    assert put_and_fold(projections) == 15
    assert tables.folded_position() == 15
    assert tables._opened is opened
    assert artifact_ids(projections) == [*range(1, log.position + 1)]


def test_a_file_that_another_process_has_is_left_to_it(projections: Projections) -> None:
    log = projections._log
    assert isinstance(log, DirectoryLog)
    put_and_fold(projections)
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code, database(log)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        put_and_fold(projections)
        holder.communicate(b"\n")
    assert folded(log) == 7
    assert put_and_fold(projections) == folded(log) == 23


@pytest.mark.parametrize(
    "error",
    [
        duckdb.IOException("IO Error: Could not write file: No space left on device"),
        OSError("the disk is gone"),
        ZeroDivisionError(),
    ],
)
def test_a_fold_that_fails_is_tried_again(
    projections: Projections,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    log = projections._log
    assert isinstance(log, DirectoryLog)

    def fail() -> None:
        raise error

    during_the_first_batch(monkeypatch, fail)
    put_and_fold(projections)
    assert f"folding into {database(log)} failed" in caplog.text
    assert put_and_fold(projections) == folded(log) == 15
    assert artifact_ids(projections) == [*range(1, log.position + 1)]


def test_a_file_that_cannot_be_made_is_no_fault_of_a_puts(
    projections: Projections, caplog: pytest.LogCaptureFixture
) -> None:
    log = projections._log
    assert isinstance(log, DirectoryLog)
    database(log).mkdir(parents=True)
    put_and_fold(projections)
    assert artifact_ids(projections) == [*range(1, log.position + 1)]


def test_closing_waits_for_one_batch(
    projections: Projections, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, background = projections._log, projections._background
    assert isinstance(log, DirectoryLog)
    closing = threading.Thread(target=projections.close)

    def close() -> None:
        closing.start()
        while not background._halts:
            os.sched_yield()

    during_the_first_batch(monkeypatch, close)
    put_and_fold(projections)
    closing.join()
    assert folded(log) == 2
    put_and_fold(projections)
    assert folded(log) == 2
    assert artifact_ids(Projections(log)) == [*range(1, log.position + 1)]


def test_rebuilding_waits_for_one_batch_and_folds_go_on_afterwards(
    projections: Projections, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, background = projections._log, projections._background
    assert isinstance(log, DirectoryLog)
    rebuilding = threading.Thread(target=projections.rebuild)

    def rebuild() -> None:
        rebuilding.start()
        while not background._halts:
            os.sched_yield()

    during_the_first_batch(monkeypatch, rebuild)
    put_and_fold(projections)
    rebuilding.join()
    tables = projections.opened_tables()
    assert tables._opened is not None
    assert tables._opened.path is not None
    tables.close()
    assert folded(log) >= 7
    assert put_and_fold(projections) == folded(log) == 15
    assert artifact_ids(projections) == [*range(1, log.position + 1)]


def test_an_interrupt_as_a_fold_begins_leaves_one_fold_that_is_known(
    projections: Projections, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, background = projections._log, projections._background
    start, began, goes_on = threading.Thread.start, threading.Event(), threading.Event()

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        raise KeyboardInterrupt

    def wait() -> None:
        began.set()
        goes_on.wait()

    put(projections, _EVERY)
    settle(projections)
    log.seal()
    during_the_first_batch(monkeypatch, wait)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            put(projections, 1)
    began.wait()
    folding = background._thread
    assert folding is not None
    put(projections, 3)
    assert background._thread is folding
    goes_on.set()
    background.halt()
    assert not folding.is_alive()


def test_what_was_folded_before_content_changed_is_folded_anew(projections: Projections) -> None:
    log = projections._log
    assert isinstance(log, DirectoryLog)
    put_and_fold(projections)
    log.content_epoch = 1
    projections.catch_up()
    # Nothing more is sealed.
    put(projections, 1)
    settle(projections)
    assert (folded(log), _folded_of(log)) == (7, str(content_id(log)))


def test_content_that_changes_amid_a_fold_waits_for_one_batch(
    projections: Projections, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, background = projections._log, projections._background
    assert isinstance(log, DirectoryLog)
    refolding = threading.Thread(target=projections.catch_up)
    halts = []

    def change() -> None:
        log.content_epoch = 1
        refolding.start()
        while refolding.is_alive() and not background._halts:
            os.sched_yield()
        halts.append(background._halts)

    during_the_first_batch(monkeypatch, change)
    put_and_fold(projections)
    refolding.join()
    assert (halts, background._halts) == ([1], 0)
    put(projections, 1)
    settle(projections)
    assert (folded(log), _folded_of(log)) == (7, str(content_id(log)))
    assert artifact_ids(projections) == [*range(1, log.position + 1)]


def _folded_of(log: DirectoryLog) -> object:
    """Of which log, with which content, the file says that it is."""
    with duckdb.connect(str(database(log)), config={"threads": 1}) as connection:
        ((store_id,),) = connection.execute("SELECT store_id FROM folded_position").fetchall()
    return store_id


def test_a_child_that_is_forked_meanwhile_folds_by_itself(
    projections: Projections, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = projections._log
    began, forked = threading.Event(), threading.Event()

    def wait() -> None:
        began.set()
        forked.wait()

    def work() -> None:
        assert artifact_ids(projections) == [*range(1, 9)]
        put_and_fold(projections)
        assert projections._background._thread is None
        assert artifact_ids(projections) == [*range(1, log.position + 1)]

    during_the_first_batch(monkeypatch, wait)
    put(projections, _EVERY)
    log.seal()
    put(projections, 1)
    began.wait()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    forked.set()
    assert status == 0
    assert artifact_ids(projections) == [*range(1, log.position + 1)]


_ENDING = """
import os, signal, sys, threading
from pathlib import Path
from eventstore.log import DirectoryLog, content_id
from eventstore.projections import Projections, table_writing
from eventstore.projections.limits import Limits
from eventstore.projections.tables import Tables
from tests.builders import append, draft

fold_batch, began = Tables._fold_batch, threading.Event()
table_writing.FOLDED_ROWS_MAX = 1

def fold(tables, batch, erased):
    if began.is_set() and sys.argv[2] == "is killed":
        os.kill(os.getpid(), signal.SIGKILL)
    began.set()
    while threading.main_thread().is_alive() and sys.argv[2] == "ends":
        os.sched_yield()
    return fold_batch(tables, batch, erased)

Tables._fold_batch = fold
log = DirectoryLog.open(Path(sys.argv[1]), segment_records_max=2)
projections = Projections(log, Limits(background_records=7))
projections.catch_up()
for number in range(1, 9):
    projections.add(append(log, draft(number)))
    if number == 6:
        log.seal()
began.wait()
if sys.argv[2] == "is killed":
    threading.Event().wait()
"""


@pytest.mark.parametrize(("how", "code"), [("ends", 0), ("is killed", -9)])
def test_a_process_that_ends_while_it_folds_loses_nothing(
    log: DirectoryLog, how: str, code: int
) -> None:
    command = [sys.executable, "-c", _ENDING, log.directory, how]
    ended = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (code, "")
    assert folded(log) == 2
    projections = Projections(log)
    assert artifact_ids(projections) == [*range(1, 9)]
    projections.close()


@pytest.mark.parametrize("imports", ["", "import logging"])
def test_a_process_forks_just_after_a_fold_began(tmp_path: Path, imports: str) -> None:
    program = f"""
import os, sys
{imports}
import eventstore
from eventstore.proto import metadata_store_pb2 as mlmd

store = eventstore.open(sys.argv[1])
kind = store.put_artifact_type(mlmd.ArtifactType(name="T"))
for count in (33_000, 33_000, 1):
    store.put_artifacts([mlmd.Artifact(type_id=kind) for _ in range(count)])
for _ in range(3):
    child = os.fork()
    if not child:
        os._exit(len(store.get_artifacts_by_id([1, 66_001])))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
store.close()
"""
    assert_runs(program, tmp_path / "store")
