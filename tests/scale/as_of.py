"""Reads as of sampled positions of a large store: `python -m tests.scale.as_of --records 1000000`.

Answers are taken while the store is filled, and again as of the same positions afterwards: as it
is, sealed, opened anew, and with its projections built again.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.progress import Progress

import eventstore
from eventstore.metadata_store.metadata_store import AsOfStore, MetadataStore
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import artifact, put_types

BATCH = 500
SAMPLES = 40


def main() -> int:
    """Fill, sample, compare; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.scale.as_of", description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="eventstore-scale-"))
    try:
        return compare(folder / "store", arguments.records, random.Random(arguments.seed))
    finally:
        shutil.rmtree(folder)


def compare(directory: Path, records: int, choice: random.Random) -> int:
    """Print how many answers were compared; 1 when any differs."""
    store = eventstore.open(directory)
    with Progress() as progress:
        taken = filled(store, records, choice, progress)
        stages: list[tuple[str, Callable[[MetadataStore], MetadataStore]]] = [
            ("as it is", lambda opened: opened),
            ("sealed", sealed),
            ("opened anew", lambda opened: reopened(opened, directory)),
            ("built again", rebuilt),
        ]
        differences = 0
        for stage, change in stages:
            store = change(store)
            for position in progress.track(sorted(taken), description=stage):
                found = answers(store.as_of(position), taken[position][0])
                if found != taken[position][1]:
                    differences += 1
                    print(f"{stage}, as of {position}: other answers than at the time")
    positions = store.log_position()
    store.close()
    print(
        f"{positions} records: reads as of {len(taken)} positions compared {len(stages)} times, "
        f"{differences} differences"
    )
    return int(differences > 0)


def filled(
    store: MetadataStore, records: int, choice: random.Random, progress: Progress
) -> dict[int, tuple[int, list[str]]]:
    """Fill the store; by position, the seed of sampled reads and their answers at the time."""
    type_id, train, run = put_types(store)
    taken: dict[int, tuple[int, list[str]]] = {}
    artifacts: list[int] = []
    task = progress.add_task("filling", total=records)
    while (position := store.log_position()) < records:
        made = [
            artifact(type_id, name=f"a{len(artifacts) + n}", uri=f"s3://{choice.randrange(10**6)}")
            for n in range(BATCH)
        ]
        for one in made:
            one.properties["int"].int_value = choice.randrange(100)
        ids = list(store.put_artifacts(made))
        executions = store.put_executions([mlmd.Execution(type_id=train)] * (BATCH // 10))
        (context,) = store.put_contexts([mlmd.Context(type_id=run, name=f"run {position}")])
        store.put_events(
            [
                mlmd.Event(
                    artifact_id=one,
                    execution_id=executions[number % len(executions)],
                    type=mlmd.Event.OUTPUT if number % 3 else mlmd.Event.INPUT,
                )
                for number, one in enumerate(ids)
            ]
        )
        store.put_attributions_and_associations(
            [mlmd.Attribution(artifact_id=one, context_id=context) for one in ids], []
        )
        artifacts += ids
        changed = store.get_artifacts_by_id(choice.sample(artifacts, min(len(artifacts), 200)))
        for one in changed:
            one.state = choice.choice([mlmd.Artifact.LIVE, mlmd.Artifact.DELETED])
            one.properties["int"].int_value = choice.randrange(100)
        store.put_artifacts(changed)
        progress.update(task, completed=store.log_position())
        if choice.random() < SAMPLES * 1.6 * BATCH / records * 2:
            seed = choice.randrange(2**32)
            taken[store.log_position()] = (seed, answers(store, seed))
    return taken


def answers(store: MetadataStore | AsOfStore, seed: int) -> list[str]:
    """Digests of a number of reads that depend on the seed and on nothing else."""
    choice = random.Random(seed)
    # Of all magnitudes, so that some are there at every time.
    ids = [1, *(int(2 ** (18 * choice.random())) for _ in range(50))]
    artifacts = store.get_artifacts_by_id(ids)
    known = [one.id for one in artifacts]
    options = eventstore.ListOptions
    query = mlmd.LineageSubgraphQueryOptions(max_num_hops=4)
    query.direction = mlmd.LineageSubgraphQueryOptions.BIDIRECTIONAL
    query.starting_artifacts.filter_query = f"id = {known[-1]}"
    found: list[list[Any]] = [
        artifacts,
        store.get_events_by_artifact_ids(known),
        [store.get_artifact_by_type_and_name("DataSet", f"a{known[-1] - 1}")],
        store.get_artifacts(
            options(limit=30, filter_query=f"properties.int.int_value = {seed % 100}")
        ),
        store.get_artifacts(options(limit=30, filter_query="state = DELETED", is_asc=False)),
        store.get_artifacts(
            options(limit=30, order_by=eventstore.OrderByField.UPDATE_TIME, is_asc=False)
        ),
        store.get_artifacts(options(limit=30, filter_query=f"uri LIKE '%{seed % 1000}'")),
        store.get_contexts(options(limit=20, is_asc=False)),
        *(store.get_contexts_by_artifact(one) for one in known[:5]),
        [store.get_lineage_subgraph(query)],
        [
            str(row)
            for row in store.sql("SELECT state, count(*) FROM artifacts GROUP BY 1 ORDER BY 1")
        ],
    ]
    return [hashlib.sha256(repr(part).encode()).hexdigest() for part in found]


def sealed(store: MetadataStore) -> MetadataStore:
    store.seal()
    return store


def reopened(store: MetadataStore, directory: Path) -> MetadataStore:
    store.close()
    return eventstore.open(directory)


def rebuilt(store: MetadataStore) -> MetadataStore:
    store.rebuild()
    return store


if __name__ == "__main__":
    sys.exit(main())
