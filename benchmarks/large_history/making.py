"""Make a store of a history: processes that write segments, and the manifest in the end."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np

from benchmarks.large_history.plan import History
from benchmarks.large_history.sealed import MadeBlock, write_segment
from benchmarks.large_history.world import RECORDS_PER_BLOCK, STARTED_AT
from eventstore.log.creation import LOG_FOLDER, create_store, start_segment
from eventstore.log.manifest import Manifest, Segment, closed_name, write_manifest
from eventstore.log.merkle import Frontier
from eventstore.times import Microseconds


def make_store(
    directory: Path,
    records: int,
    *,
    seed: int = 1,
    block_records: int = RECORDS_PER_BLOCK,
    blocks_per_segment: int = 1,
    processes: int = 2,
    tell: Callable[[int, int], None] = lambda _, __: None,
) -> Manifest:
    """Write a store of so many records into a directory that is empty or not there; its manifest.

    The same arguments make the same files. `tell` is called after each segment with the records
    and bytes so far. Without an end the directory is no store: its manifest is written last.
    """
    history = History(seed, records, block_records)
    store_id = UUID(bytes=np.random.default_rng([seed, records]).bytes(16), version=4)
    create_store(directory, store_id)
    folder = directory / LOG_FOLDER
    (directory / "manifest.json").unlink()
    (folder / closed_name(1)).unlink()
    segments = _segments(folder, history, store_id, blocks_per_segment, processes, tell)
    manifest = Manifest(
        store_id=store_id,
        created_at=Microseconds(STARTED_AT),
        generation=1 + len(segments),
        segments=tuple(segments),
        active=start_segment(
            folder, store_id, len(segments) + 1, first_position=history.records + 1
        ),
    )
    write_manifest(directory, manifest)
    return manifest


def _segments(
    folder: Path,
    history: History,
    store_id: UUID,
    blocks_per_segment: int,
    processes: int,
    tell: Callable[[int, int], None],
) -> list[Segment]:
    """Have processes write the segments, in turns; each gets the tree before its segment."""
    spans = [
        range(first, min(first + blocks_per_segment, history.blocks))
        for first in range(0, history.blocks, blocks_per_segment)
    ]
    # A fork of a process with Arrow's threads might never end.
    context = multiprocessing.get_context("spawn")
    workers: list[Any] = []
    pipes: list[Connection] = []
    for number in range(min(processes, len(spans))):
        here, there = context.Pipe()
        arguments = (there, folder, history, store_id, spans, number, processes)
        worker = context.Process(target=_work, args=arguments, daemon=True)
        worker.start()
        there.close()
        workers.append(worker)
        pipes.append(here)
    made: dict[int, Segment] = {}
    heads: dict[int, list[bytes]] = {}
    tree, following = Frontier(), 0
    done = size = 0
    open_pipes: list[Any] = [*pipes]
    try:
        while len(made) < len(spans):
            for pipe in wait(open_pipes):
                try:
                    number, found = pipe.recv()
                except EOFError:
                    open_pipes.remove(pipe)
                    if not made.keys() >= {*range(pipes.index(pipe), len(spans), processes)}:
                        raise RuntimeError("a process that writes segments has ended") from None
                    continue
                if isinstance(found, Segment):
                    made[number] = found
                    done += found.last_position - found.first_position + 1
                    size += found.file_bytes
                    tell(done, size)
                else:
                    heads[number] = found
                while following in heads:
                    pipes[following % processes].send((tree.size, tree.subtrees))
                    tree.extend(heads.pop(following))
                    following += 1
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()
    return [made[number] for number in range(len(spans))]


def _work(
    pipe: Connection,
    folder: Path,
    history: History,
    store_id: UUID,
    spans: Sequence[range],
    first: int,
    step: int,
) -> None:
    for number in range(first, len(spans), step):
        blocks = [MadeBlock(history, store_id, block) for block in spans[number]]
        pipe.send((number, [head for made in blocks for head in made.head()]))
        before = Frontier(*pipe.recv())
        pipe.send((number, write_segment(folder, store_id, number + 1, blocks, before)))
