"""What holds for every log that is opened more than once, by any processes."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from eventstore import errors
from eventstore.log import Commit, Log, Position, PositionConflictError
from eventstore.testing.drafts import append, draft

Opens = Callable[[], Log]

_PROCESSES = 2
_THREADS = 2
_COMMITS = 5
"""Of each thread."""

_SECONDS_MAX = 120


class SharedLogContract:
    """Writers and readers at once, reopening, killed writers and outcomes that nobody was told.

    Inherit it, and say how a log is made, how it is opened, and what can go wrong.
    """

    def made(self, folder: Path) -> Log:
        """A new and empty log, for which there is an empty folder of this machine."""
        raise NotImplementedError

    def opens(self, log: Log) -> Opens:
        """What opens the same log to append, in any process: it is pickled for that."""
        raise NotImplementedError

    def faults(self) -> Iterator[AbstractContextManager[object]]:
        """Blocks in which appending to such a log goes wrong, as where a connection is lost.

        Among them should be one before the commit is kept, and one after it is, but before that is
        known.
        """
        raise NotImplementedError

    @pytest.fixture
    def log(self, tmp_path: Path) -> Iterator[Log]:
        """A new log."""
        with closing(self.made(tmp_path)) as made:
            yield made

    def test_what_was_appended_is_there_after_reopening(self, log: Log) -> None:
        put: list[Commit] = []
        for number in range(1, 7):
            with closing(self.opens(log)()) as again:
                assert list(again.commits()) == put
                put.append(append(again, draft(2 * number), draft(2 * number + 1)))
                if number == 3:
                    again.seal()
        log.refresh()
        assert list(log.commits()) == put
        assert log.verify().ok

    def test_a_writer_that_is_behind_is_refused_until_it_has_caught_up(self, log: Log) -> None:
        with closing(self.opens(log)()) as other:
            first = append(log, draft(1), draft(2))
            with pytest.raises(PositionConflictError):
                other.append([draft(3)], expected_position=Position(0))
            other.refresh()
            second = append(other, draft(3))
            with pytest.raises(PositionConflictError):
                log.append([draft(4)], expected_position=Position(first.last_position))
            log.refresh()
            third = append(log, draft(4))
            other.refresh()
            for one in (log, other):
                assert list(one.commits()) == [first, second, third]
            assert first.recorded_at <= second.recorded_at <= third.recorded_at

    def test_processes_and_threads_append_at_once(self, log: Log) -> None:
        opens = self.opens(log)
        with _Processes() as processes:
            told = [
                processes.start(_append_in_threads, opens, 1_000 * number)
                for number in range(_PROCESSES)
            ]
            acknowledged = [one for connection in told for one in _received(connection)]
        log.refresh()
        commits = list(log.commits())
        assert len(commits) == _PROCESSES * _THREADS * _COMMITS
        positions = [record.position for commit in commits for record in commit.records]
        assert positions == list(range(1, len(positions) + 1))
        assert [commit.number for commit in commits] == list(range(1, len(commits) + 1))
        times = [commit.recorded_at for commit in commits]
        assert times == sorted(times)
        kept = {commit.records[0].entity_id: commit.first_position for commit in commits}
        assert dict(acknowledged) == kept
        assert log.verify().ok

    def test_a_writer_that_is_killed_loses_nothing_that_it_acknowledged(self, log: Log) -> None:
        opens = self.opens(log)
        with _Processes() as processes:
            told = processes.start(_append_for_ever, opens)
            acknowledged = dict(told.recv() for _ in range(_COMMITS))
            processes.kill()
            acknowledged |= dict(_received(told))
        with closing(opens()) as again:
            commits = list(again.commits())
            kept = {commit.records[0].entity_id: commit.first_position for commit in commits}
            assert acknowledged.items() <= kept.items()
            # One more may be there whole, which nobody was told of.
            assert len(kept) <= len(acknowledged) + 1
            assert all(len(commit.records) == 3 for commit in commits)
            last = append(again, draft(9_999))
            assert last.first_position == 3 * len(commits) + 1
            assert again.verify().ok

    def test_an_append_that_goes_wrong_is_kept_whole_or_not_at_all(self, log: Log) -> None:
        with ExitStack() as opened:
            log, expected, tried = opened.enter_context(closing(self.opens(log)())), [], 0
            for fault in self.faults():
                tried += 1
                said: Commit | Exception
                with fault:
                    try:
                        said = append(log, draft(10 * tried), draft(10 * tried + 1))
                    except errors.StatusError as error:
                        said = error
                opens = self.opens(log)
                log.close()
                log = opened.enter_context(closing(opens()))
                commits = list(log.commits())
                if isinstance(said, Commit):
                    expected.append(said)
                elif isinstance(said, errors.OutcomeUnknownError):
                    assert len(commits) <= len(expected) + 1
                    expected += commits[len(expected) :]
                assert commits == expected, said
                assert all(len(commit.records) == 2 for commit in commits)
                assert log.verify().ok
                expected.append(append(log, draft(10 * tried + 2), draft(10 * tried + 3)))
            assert tried


class _Processes:
    """Processes that end with the block, whatever they do."""

    def __enter__(self) -> _Processes:
        # Not forked: pytest has threads.
        self._context = multiprocessing.get_context("spawn")
        self._started: list[multiprocessing.process.BaseProcess] = []
        return self

    def start(self, do: Callable[..., None], *arguments: object) -> Connection:
        """Call a function in a new process; what it sends."""
        receives, sends = self._context.Pipe(duplex=False)
        process = self._context.Process(target=do, args=(sends, *arguments), daemon=True)
        process.start()
        # Else nobody notices that the process has ended.
        sends.close()
        self._started.append(process)
        return receives

    def kill(self) -> None:
        """Kill them all, in the middle of what they do."""
        for process in self._started:
            process.kill()
            process.join(_SECONDS_MAX)

    def __exit__(self, *_: object) -> None:
        self.kill()


def _received(connection: Connection) -> Iterator[tuple[int, int]]:
    """All that a process sends until it ends."""
    while True:
        try:
            yield connection.recv()
        except EOFError:
            return


def _append_in_threads(sends: Connection, opens: Opens, first_id: int) -> None:
    """Append commits of one and two records; send the id and position of each that is kept."""
    mutex = threading.Lock()
    failures: list[BaseException] = []

    def write(log: Log, first_id: int) -> None:
        try:
            for number in range(_COMMITS):
                entity_id = first_id + 2 * number
                commit = _appended(log, entity_id, 1 + number % 2)
                with mutex:
                    sends.send((entity_id, commit.first_position))
        except BaseException as error:
            failures.append(error)

    with closing(opens()) as log:
        threads = [
            threading.Thread(target=write, args=(log, first_id + 100 * number + 1))
            for number in range(_THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]


def _append_for_ever(sends: Connection, opens: Opens) -> None:
    log, entity_id = opens(), 1
    while True:
        commit = _appended(log, entity_id, 3)
        sends.send((entity_id, commit.first_position))
        entity_id += 3


def _appended(log: Log, first_id: int, records: int) -> Commit:
    """Append drafts, however often others are faster."""
    drafts = [draft(first_id + number) for number in range(records)]
    while True:
        try:
            return log.append(drafts, expected_position=log.position)
        except PositionConflictError:
            log.refresh()
