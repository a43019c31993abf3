"""One of several processes on a store that a server keeps, which is killed again and again.

Run as a process: it says when it has opened the store, works until its standard input is closed,
and tells what it did in a file.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from pathlib import Path

import eventstore
from eventstore import errors
from eventstore.log.objects import connecting as object_storage
from eventstore.log.objects.opening import open_bucket
from eventstore.log.sql import connecting as databases
from eventstore.log.sql.opening import open_database
from eventstore.metadata_store.opening import engine_of
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.faults.shared_store import BrokenPromiseError, Told, TypeIds, put_whole
from tests.faults.shared_store_worker import Turns

THREADS = 4
_SEGMENT_RECORDS = 500
_ONE_URI = "once://"


def opened(url: str, cache_folder: Path) -> eventstore.MetadataStore:
    """The store at a URL, which goes on to another segment every few seconds."""
    options = {"cache_folder": cache_folder, "segment_records_max": _SEGMENT_RECORDS}
    log = (
        open_database(databases.of_url(url), **options)
        if url.startswith(("postgresql:", "mysql:"))
        else open_bucket(object_storage.of_url(url), **options)
    )
    return eventstore.MetadataStore._of(engine_of(log, saves_caches=True))


def uri_of(key: str) -> str:
    """That of the only artifact of a put, which has no name: nothing refuses it a second time."""
    return f"{_ONE_URI}{key}"


class StormWorker:
    """What the threads of a process share."""

    def __init__(self, root: Path, url: str, number: int, seed: int) -> None:
        self.folder = root / "told"
        self.number, self.life, self.seed = number, 1, seed
        self.told = Told(self.folder, str(number))
        self.stopping = threading.Event()
        # Two processes share caches, as those of one machine do.
        self._store = opened(url, root / f"cache-{number // 2}")
        self.types = TypeIds(self._store)

    def work(self) -> None:
        """In every thread, until nobody wants it any more."""
        print("opened", flush=True)
        threads = [threading.Thread(target=self._go_on, args=[n]) for n in range(THREADS)]
        for thread in threads:
            thread.start()
        sys.stdin.read()
        self.stopping.set()
        for thread in threads:
            thread.join()
        self._store.close()

    def _go_on(self, thread: int) -> None:
        turns = StormTurns(self, self._store, thread)
        while not self.stopping.is_set():
            try:
                turns.put_or_read()
                self.told.tell(count="turns")
            except errors.OutcomeUnknownError:
                self.told.tell(count="unknown outcomes")
            except errors.UnavailableError:
                self.told.tell(count="calls refused meanwhile")
            except errors.AbortedError:
                self.told.tell(count="puts that others overtook for too long")
            except Exception as error:
                where = traceback.format_exc(limit=-6)
                self.told.tell(complaint=f"process {self.number}: {error!r}\n{where}")


class StormTurns(Turns):
    """Puts and reads that the server may fail, and what is known of each put then."""

    def put(self) -> None:
        if self.rng.random() < 0.4:
            self._put_one()
        else:
            super().put()

    def _put_whole(self) -> None:
        key = self.next_key()
        try:
            ids = put_whole(self.store, self.worker.types, key)
        except errors.StatusError as error:
            self.worker.told.tell(**{_known_of(error): key})
            raise
        self.worker.told.tell(put=key, ids=ids)
        self._expect(key, ids)

    def _put_one(self) -> None:
        """Put one artifact; half of these puts are repeated by their id until they succeed."""
        key = self.next_key()
        one = mlmd.Artifact(type_id=self.worker.types.made, uri=uri_of(key))
        repeats = self.rng.random() < 0.5
        while True:
            try:
                if repeats:
                    with self.store.acting(request_id=key):
                        (one_id,) = self.store.put_artifacts([one])
                else:
                    (one_id,) = self.store.put_artifacts([one])
                break
            except errors.StatusError as error:
                if not repeats:
                    self.worker.told.tell(**{f"{_known_of(error)}_one": key})
                    raise
                self.worker.told.tell(count="puts repeated by their id")
        self.worker.told.tell(one=key, id=one_id)
        if [found.id for found in self.store.get_artifacts_by_uri(one.uri)] != [one_id]:
            raise BrokenPromiseError(f"put {key} gave {one_id}, and is not read")


def _known_of(error: errors.StatusError) -> str:
    return "unknown" if isinstance(error, errors.OutcomeUnknownError) else "refused"


def main(root: str, url: str, number: str, seed: str) -> None:
    # Sealing in the background tells that the server is away.
    logging.disable(logging.CRITICAL)
    StormWorker(Path(root), url, int(number), int(seed)).work()


if __name__ == "__main__":
    main(*sys.argv[1:])
