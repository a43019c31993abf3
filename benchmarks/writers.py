"""Puts a second of many writers at once: `python -m benchmarks.writers [--seconds 2] [--rounds 3]`.

Writers are threads of one process, processes, or clients of a server, each of which puts one
artifact after the other. Over gRPC ml-metadata's server does the same, in turns. Beside the rates
stands what bounds them: how many puts one sync makes durable, and the seconds of processor time
that a second of putting takes; over gRPC that of the client, which shares the machine.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.progress import track

from benchmarks.results import Result, markdown, print_table
from benchmarks.served import Client, serving
from eventstore.metadata_store import MetadataStore
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import metadata_store_service_pb2 as service

WRITERS = (1, 4, 16, 64)
_ONE_OF = {"threads": "thread", "processes": "process", "clients": "client over gRPC"}
_WARM_SECONDS = 0.3

Put = Callable[[mlmd.Artifact], object]


def main() -> None:
    """Measure in turns, print a table and Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.writers", description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--writers", type=int, nargs="*", default=WRITERS)
    parser.add_argument("--alone", action="store_true", help="without ml-metadata")
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part is not None:
        way, path = arguments.part
        told = _PARTS[way](path, arguments.writers[0], arguments.seconds)
        json.dump(told, sys.stdout)
        return
    folder = Path(tempfile.mkdtemp(prefix="eventstore-writers-"))
    try:
        results = _measured(arguments, folder)
    finally:
        shutil.rmtree(folder)
    print_table("Puts a second of one artifact each, medians", results)
    sys.stdout.write(markdown(results))


def _measured(arguments: Any, folder: Path) -> list[Result]:
    rates: dict[tuple[str, int], dict[str, list[tuple[float, ...]]]] = {}
    turns = [
        (way, writers, side)
        for way in _PARTS
        for writers in arguments.writers
        for side in (("ours", "peer") if way == "clients" and not arguments.alone else ("ours",))
    ]
    for _ in track(range(arguments.rounds), description="Rounds"):
        for way, writers, side in track(turns, description="Turns", transient=True):
            place = folder / "store"
            place.mkdir()
            if way == "clients":
                with serving(side, place) as port:
                    told = _part(way, str(port), writers, arguments.seconds)
            else:
                told = _part(way, str(place / "ours"), writers, arguments.seconds)
            rates.setdefault((way, writers), {}).setdefault(side, []).append(tuple(told))
            shutil.rmtree(place)
    results = []
    for (way, writers), by_side in rates.items():
        ours = [statistics.median(values) for values in zip(*by_side["ours"], strict=True)]
        peer = [told[0] for told in by_side.get("peer", ())]
        name = f"{writers} {way}" if writers > 1 else f"1 {_ONE_OF[way]}"
        shown = f"{ours[0]:,.0f} ({', '.join(_bounds(way, ours))})"
        if peer:
            median = statistics.median(peer)
            results.append(Result(name, f"{median:,.0f}", shown, ours[0] / median))
        else:
            results.append(Result(name, "", shown, None))
    return results


def _bounds(way: str, ours: Sequence[float]) -> list[str]:
    _, cpu, share = ours
    found = [f"{cpu:.2f} s CPU a second"]
    return found if way == "clients" else [f"{share:.1f} a sync", *found]


def _part(way: str, place: str, writers: int, seconds: float) -> list[float]:
    """What a process tells that measures: puts a second, and what bounds them."""
    command = [sys.executable, "-m", "benchmarks.writers", "--part", way, place]
    command += ["--writers", str(writers), "--seconds", str(seconds)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    told: list[float] = json.loads(done.stdout)
    return told


def _opened(path: str) -> MetadataStore:
    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = path
    return MetadataStore(config)


def _keep_putting(put: Put, type_id: int, mark: str, begins: float, seconds: float) -> int:
    """How many artifacts were put one after the other in so many seconds from a time on."""
    # What is done at the first put alone is not counted.
    put(_artifact(type_id, f"{mark}-first", 0))
    time.sleep(max(0.0, begins - time.time()))
    number, until = 0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        put(_artifact(type_id, mark, number))
        number += 1
    return number


def _artifact(type_id: int, mark: str, number: int) -> mlmd.Artifact:
    made = mlmd.Artifact(type_id=type_id, uri=f"s3://b/{mark}/{number}", name=f"{mark}-{number}")
    made.custom_properties["owner"].string_value = f"team-{number % 50}"
    return made


def _in_threads(puts: Sequence[Put], type_id: int, mark: str, begins: float, seconds: float) -> int:
    counts: list[int] = []

    def work(number: int) -> None:
        given = puts[number], type_id, f"{mark}-{number}", begins, seconds
        counts.append(_keep_putting(*given))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(puts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts)


class _Syncs:
    """Counts the syncs of this process."""

    def __init__(self) -> None:
        self.count = 0
        sync = os.fdatasync

        def counted(descriptor: int) -> None:
            self.count += 1
            sync(descriptor)

        os.fdatasync = counted  # type: ignore[assignment]


def _threads(path: str, writers: int, seconds: float) -> list[float]:
    store, syncs = _opened(path), _Syncs()
    type_id = store.put_artifact_type(mlmd.ArtifactType(name="D"))
    begins, busy = time.time() + _WARM_SECONDS, time.process_time()
    puts = [lambda one: store.put_artifacts([one])] * writers
    count = _in_threads(puts, type_id, "t", begins, seconds)
    busy = time.process_time() - busy
    store.close()
    return [count / seconds, busy / seconds, count / max(syncs.count, 1)]


def _processes(path: str, writers: int, seconds: float) -> list[float]:
    store = _opened(path)
    type_id = store.put_artifact_type(mlmd.ArtifactType(name="D"))
    store.close()
    # Forked, so that all begin with everything imported.
    context = multiprocessing.get_context("fork")
    begins = time.time() + _WARM_SECONDS + writers * 0.05
    told = context.SimpleQueue()

    def work(number: int) -> None:
        syncs = _Syncs()
        opened = _opened(path)
        put: Put = lambda one: opened.put_artifacts([one])  # noqa: E731
        busy = time.process_time()
        count = _keep_putting(put, type_id, f"p{number}", begins, seconds)
        told.put((count, time.process_time() - busy, syncs.count))

    running = [context.Process(target=work, args=(number,)) for number in range(writers)]
    for process in running:
        process.start()
    found = [told.get() for _ in running]
    for process in running:
        process.join()
    count, busy, syncs = (sum(values) for values in zip(*found, strict=True))
    return [count / seconds, busy / seconds, count / max(syncs, 1)]


def _clients(port: str, writers: int, seconds: float) -> list[float]:
    clients = [Client(int(port)) for _ in range(writers)]
    asked = service.PutArtifactTypeRequest(artifact_type=mlmd.ArtifactType(name="D"))
    type_id = clients[0].call("PutArtifactType", asked).type_id

    def putting(client: Client) -> Put:
        return lambda one: client.call("PutArtifacts", service.PutArtifactsRequest(artifacts=[one]))

    begins, busy = time.time() + _WARM_SECONDS, time.process_time()
    count = _in_threads([putting(client) for client in clients], type_id, "c", begins, seconds)
    busy = time.process_time() - busy
    for client in clients:
        client.close()
    return [count / seconds, busy / seconds, 0.0]


_PARTS = {"threads": _threads, "processes": _processes, "clients": _clients}

if __name__ == "__main__":
    main()
