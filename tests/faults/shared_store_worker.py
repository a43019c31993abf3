"""One of many processes on a shared store, whose threads put, read, seal, rebuild and fork."""

from __future__ import annotations

import contextlib
import faulthandler
import itertools
import os
import random
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import eventstore
from eventstore import errors
from eventstore.log.backup import copy_store
from eventstore.log.verification import verify_directory
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.faults.shared_store import (
    BrokenPromiseError,
    Told,
    TypeIds,
    Whole,
    opened,
    put_whole,
    seen_whole,
    told_in,
)

THREADS = 4
CHILD_SECONDS_MAX = 90
"""A forked child that takes longer hangs."""

_REMEMBERED = 40
_ODDS_OF_UPKEEP = 30
"""One in so many turns of a thread is something other than a put or a read."""


class Worker:
    """One life of a process: a killed one is followed by another of the same number."""

    def __init__(self, root: Path, number: int, life: int, progress: int, seed: int) -> None:
        self.path, self.folder = root / "store", root / "told"
        self.backups = root / "backups"
        self.number, self.life, self.seed = number, life, seed
        self._progress = progress
        self.told = Told(self.folder, str(number))
        self.stopping = threading.Event()
        self._keys = itertools.count()

    def write(self) -> None:
        """Put, read and more in every thread, until it is told to stop."""
        self._run([self._write_in_turns] * THREADS)

    def read(self) -> None:
        """Read in every thread, without a right to write."""
        self._run([self._read_in_turns] * THREADS)

    def back_up(self) -> None:
        """Copy the store again and again; each copy holds what was acknowledged before it."""
        self._run([self._back_up_in_turns])

    def _run(self, tasks: list[Callable[[int], None]]) -> None:
        signal.signal(signal.SIGTERM, lambda *_: self.stopping.set())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        threads = [
            threading.Thread(target=self._guarded, args=(task, thread))
            for thread, task in enumerate(tasks)
        ]
        try:
            self._store = opened(self.path, read_only=tasks[0] != self._write_in_turns)
            self.types = TypeIds(self._store)
        except Exception as error:
            self._complain(error)
            return
        for thread in threads:
            thread.start()
        for thread in threads:
            # A signal may reach another thread; what handles it runs once this one goes on.
            while thread.is_alive():
                thread.join(timeout=0.2)
        try:
            self._store.close()
        except Exception as error:
            self._complain(error)

    def _guarded(self, task: Callable[[int], None], thread: int) -> None:
        try:
            task(thread)
        except Exception as error:
            self._complain(error)
            # The others go on; the end counts the complaints.

    def _complain(self, error: Exception) -> None:
        where = traceback.format_exc(limit=-6)
        self.told.tell(complaint=f"process {self.number}: {type(error).__name__}: {error}\n{where}")

    def _step(self, thread: int) -> None:
        """Tell that a turn is over."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._progress, bytes([self.number * THREADS + thread]))

    def _write_in_turns(self, thread: int) -> None:
        turns = Turns(self, self._store, thread)
        reopened: eventstore.MetadataStore | None = None
        while not self.stopping.is_set():
            if turns.rng.randrange(_ODDS_OF_UPKEEP):
                turns.put_or_read()
            else:
                upkeep = turns.rng.choice(["seal", "rebuild", "fork", "reopen"])
                self.told.tell(count=f"{upkeep}s" if upkeep != "reopen" else "openings meanwhile")
                if upkeep == "seal":
                    turns.store.seal()
                elif upkeep == "rebuild":
                    turns.store.rebuild()
                elif upkeep == "fork":
                    self._fork(turns)
                else:
                    # One beside the other in the same process.
                    if reopened is not None:
                        reopened.close()
                    reopened = opened(self.path)
                    turns.store = reopened
            self._step(thread)
        if reopened is not None:
            reopened.close()

    def _fork(self, turns: Turns) -> None:
        """Let a child do what its parent does, with the parent's store."""
        stacks = self.folder.parent / f"stacks-{turns.name}"
        child = os.fork()
        if child == 0:
            status = 1
            try:
                # Not caught by Python: it ends a child that hangs and cannot say where.
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(CHILD_SECONDS_MAX + 5)
                faulthandler.dump_traceback_later(
                    CHILD_SECONDS_MAX, exit=True, file=stacks.open("w")
                )
                turns.put()
                turns.read()
                status = 0
            except Exception as error:
                self._complain(error)
                status = 0
            finally:
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        where = stacks.read_text() if stacks.exists() else ""
        stacks.unlink(missing_ok=True)
        if where or status == -signal.SIGALRM:
            raise BrokenPromiseError(f"a forked child hung: {where}")
        if status:
            raise BrokenPromiseError(f"a child died: {status}")

    def _read_in_turns(self, thread: int) -> None:
        turns = Turns(self, self._store, thread)
        while not self.stopping.is_set():
            turns.read()
            if thread == 0 and not turns.rng.randrange(4 * _ODDS_OF_UPKEEP):
                self.told.tell(count="verifications meanwhile")
                for finding in verify_directory(self.path).findings:
                    raise BrokenPromiseError(f"verify of the running store: {finding.what}")
            self._step(thread)

    def _back_up_in_turns(self, thread: int) -> None:
        for number in itertools.count():
            if self.stopping.is_set():
                return
            promised = [
                line for path in self.folder.iterdir() for line in told_in(path, newest_only=True)
            ]
            copy = self.backups / f"{self.life}-{number}"
            copy_store(self.path, copy)
            self.told.tell(count="backups")
            with contextlib.closing(opened(copy, read_only=True)) as store:
                for line in promised:
                    if "put" in line and seen_whole(store, line["put"]) != tuple(line["ids"]):
                        raise BrokenPromiseError(f"the backup {copy} lacks put {line['put']}")
            for path in sorted(copy.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            copy.rmdir()
            self._step(thread)


class Turns:
    """What one thread does by turns, and what it remembers to hold later answers against."""

    def __init__(self, worker: Worker, store: eventstore.MetadataStore, thread: int) -> None:
        self.worker, self.store = worker, store
        self.name = f"{worker.number}-{worker.life}-{thread}"
        self.rng = random.Random(f"{worker.seed}-{self.name}")
        self._number = 0
        self._position = 0
        self._seen: deque[tuple[str, Whole]] = deque(maxlen=_REMEMBERED)
        self._answers: deque[tuple[int, str, object]] = deque(maxlen=_REMEMBERED)

    def put_or_read(self) -> None:
        if self.rng.random() < 0.5:
            self.read()
        else:
            self.put()

    def put(self) -> None:
        chance = self.rng.random()
        if chance < 0.75:
            self._put_whole()
        elif chance < 0.95:
            self._claim()
        else:
            self._put_type()

    def read(self) -> None:
        self._look_at_positions()
        self._look_at_others()
        self._look_again()
        if not self.rng.randrange(12):
            self._look_at_many()

    def _put_whole(self) -> None:
        key = self.next_key()
        ids = put_whole(self.store, self.worker.types, key)
        self.worker.told.tell(put=key, ids=ids)
        self._expect(key, ids)

    def next_key(self) -> str:
        # A child and its parent would number alike.
        self._number += 1
        return f"{self.name}-{self._number}-{os.getpid()}"

    def _claim(self) -> None:
        """Put what others put at the same time under the same name; one of all may."""
        name = f"claim-{self.store.log_position() // 60}"
        claim = mlmd.Artifact(type_id=self.worker.types.claim, name=name)
        try:
            (claim_id,) = self.store.put_artifacts([claim])
        except errors.AlreadyExistsError:
            self.worker.told.tell(count="claims refused")
        else:
            self.worker.told.tell(claim=name, id=claim_id)
        if self.store.get_artifact_by_type_and_name("Claim", name) is None:
            raise BrokenPromiseError(f"{name} is taken, but not there")

    def _put_type(self) -> None:
        """Put a type that others put, too: it is one for all."""
        name = f"type-{self.store.log_position() // 200}"
        type_id = self.store.put_artifact_type(mlmd.ArtifactType(name=name))
        self.worker.told.tell(type=name, id=type_id)

    def _look_at_positions(self) -> None:
        position = self.store.log_position()
        if position < self._position:
            raise BrokenPromiseError(f"position {position} after {self._position}")
        self._position = position

    def _look_at_others(self) -> None:
        """See what was acknowledged to others, and see puts under way whole or not at all."""
        path = self.rng.choice(sorted(self.worker.folder.iterdir()))
        puts = [line for line in told_in(path, newest_only=True) if "put" in line]
        if not puts:
            return
        line = self.rng.choice(puts[-6:])
        self._expect(line["put"], tuple(line["ids"]))
        name, number, process = line["put"].rsplit("-", 2)
        coming = f"{name}-{int(number) + self.rng.choice((1, 1, 2))}-{process}"
        ids = seen_whole(self.store, coming)
        if ids is not None:
            # What one has seen stays there for all.
            self.worker.told.tell(seen=coming, ids=ids)
            self._remember(coming, ids)
        at = self.rng.randrange(max(1, self._position - 300), self._position + 1)
        key = self.rng.choice((line["put"], coming))
        self._answers.append((at, key, self._as_of(at, key)))

    def _look_again(self) -> None:
        """See all that was seen before, and hear the same of the past."""
        if self._seen:
            self._expect(*self.rng.choice(self._seen))
            ids = sorted({ids[1] for _, ids in self._seen})
            found = sorted(node.id for node in self.store.get_artifacts_by_id(ids))
            if found != ids:
                raise BrokenPromiseError(f"artifacts {ids} were seen, now {found}")
        if self._answers:
            at, key, before = self.rng.choice(self._answers)
            now = self._as_of(at, key)
            if now != before:
                raise BrokenPromiseError(f"put {key} as of {at} was {before}, is {now}")

    def _look_at_many(self) -> None:
        """Ask DuckDB the same as the index."""
        if not self._seen:
            return
        key, ids = self.rng.choice(self._seen)
        where = f"name = 'a-{key}' AND uri LIKE '%{key}' AND events_0.execution_id = {ids[0]}"
        options = eventstore.ListOptions(filter_query=where)
        found = [node.id for node in self.store.get_artifacts(options)]
        if found != [ids[1]]:
            raise BrokenPromiseError(f"a filter finds {found} for put {key}, not {ids[1]}")
        query = (
            f"SELECT count(*) FROM events WHERE execution_id = {ids[0]} AND artifact_id = {ids[1]}"
        )
        if self.store.sql(query).rows()[0][0] != 1:
            raise BrokenPromiseError(f"SQL does not count the event of put {key}")

    def _as_of(self, at: int, key: str) -> Whole | str | None:
        try:
            return seen_whole(self.store.as_of(at), key)
        except (errors.NotFoundError, errors.InvalidArgumentError) as error:
            # Before there was a commit, or the type.
            return type(error).__name__

    def _expect(self, key: str, ids: Whole) -> None:
        found: Any = seen_whole(self.store, key)
        if found != ids:
            raise BrokenPromiseError(f"put {key} got the ids {ids}, a read gives {found}")
        self._remember(key, ids)

    def _remember(self, key: str, ids: Whole) -> None:
        self._seen.append((key, ids))


def dump_stacks_on_signal(path: Path) -> None:
    """Write the stacks of all threads into a file when SIGUSR1 comes."""
    # Kept open, for the handler writes to its descriptor.
    file = open(path, "w")  # noqa: SIM115
    _kept.append(file)
    faulthandler.register(signal.SIGUSR1, file=file, all_threads=True)


_kept: list[object] = []
