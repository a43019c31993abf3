"""What reads cost more from a SQL server than from disk: `python -m benchmarks.distance [SERVER]`.

The same content lies in a directory and on a server of PostgreSQL or MariaDB. Each call is made of
the one, then of the other, and between them a plain `SELECT 1`, whose time is the round trip.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import eventstore
from benchmarks import worker
from benchmarks.servers import DURABLE
from eventstore.log.copying import copy_commits
from eventstore.log.sql import connecting
from eventstore.log.sql.opening import open_database
from eventstore.log.stores import open_log
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.sql_servers import PASSWORD, SERVERS, Server, running

CALLS = 1_000
LONG_CALLS = 100
ALLOWED = 1.5
"""So many round trips more than on disk are a read's share."""


def main() -> None:
    """Print a table for each server, as Markdown; times are medians in ms."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.distance", description=__doc__)
    parser.add_argument("server", nargs="*", choices=[*SERVERS, []], help="all if none is named")
    parser.add_argument("--size", type=int, default=5_000, help="artifacts")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="eventstore-distance-") as folder:
        path = Path(folder) / "store"
        worker.fill("ours", str(path), arguments.size)
        for name in arguments.server or SERVERS:
            with running(name, DURABLE[name]) as server:
                _compare(name, server, path, arguments.size)


def _compare(name: str, server: Server, path: Path, size: int) -> None:
    url = server.url(server.new_database())
    with closing(open_log(path, read_only=True)) as source:
        database = connecting.of_url(url)
        with closing(open_database(database, new_id=source.store_id)) as target:
            copy_commits(source, target)
    stores = [eventstore.open(path), eventstore.open(url, cache_folder=path.parent / name)]
    with closing(stores[0]), closing(stores[1]), _round_trip(server) as ask:
        print(f"{name}, {size:,} artifacts, load {os.getloadavg()[0]:.1f}, medians in ms\n")
        print("| read | on disk | on the server | round trip | more, in round trips |")
        print("|---|---|---|---|---|")
        # One after the other draws the same random numbers.
        of_each = [_reads(store, size) for store in stores]
        for read, (call, count) in of_each[0].items():
            _line(read, (call, of_each[1][read][0], ask), min(count, CALLS))
        print()


def _reads(store: Any, size: int) -> dict[str, tuple[Callable[[int], Any], int]]:
    random.seed(size)
    reads = worker.reads(store, mlmd, "ours", size)
    # That one puts.
    del reads["filter: just after a put"]
    return {
        **reads,
        "contexts of an artifact": (
            lambda n: store.get_contexts_by_artifact(1 + n % size),
            CALLS,
        ),
        "a type by name": (lambda _: store.get_artifact_type("DataSet"), CALLS),
        "all artifacts of a type": (lambda _: store.get_artifacts_by_type("DataSet"), 5),
    }


def _line(read: str, calls: tuple[Callable[[int], Any], ...], count: int) -> None:
    times: list[list[float]] = [[], [], []]
    count = max(count, LONG_CALLS)
    for number in range(-2, count):
        for call, taken in zip(calls, times, strict=True):
            began = time.perf_counter()
            call(number % count)
            if number >= 0:
                taken.append((time.perf_counter() - began) * 1e3)
    disk, far, trip = map(statistics.median, times)
    more = (far - disk) / trip
    mark = " (!)" if more > ALLOWED else ""
    print(f"| {read} | {disk:.3f} | {far:.3f} | {trip:.3f} | {more:.2f}{mark} |", flush=True)


@contextmanager
def _round_trip(server: Server) -> Iterator[Callable[[int], None]]:
    """Asks the server for nothing, by the driver alone, as the store asks it."""
    who = {"host": "127.0.0.1", "port": server.port, "user": "admin", "password": PASSWORD}
    connection: Any
    if server.scheme == "mysql":
        import pymysql

        connection = pymysql.connect(**who, autocommit=True)
    else:
        import psycopg

        connection = psycopg.connect(**who, dbname="postgres", autocommit=True)
    cursor = connection.cursor()

    def ask(_: int) -> None:
        cursor.execute("SELECT 1")
        cursor.fetchone()

    with closing(connection):
        yield ask


if __name__ == "__main__":
    main()
