"""Compare what Spark shows of random stores with what DuckDB does: a program of its own.

`python -m tests.spark.compare --stores N --seed S` prints each difference; without any it
ends with 0. Spark has two executors in processes of their own.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import SparkSession

import eventstore
from eventstore import errors
from eventstore.metadata_store.metadata_store import MetadataStore
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.spark import lineage_closure, register_views
from tests.builders import artifact, put_types
from tests.property.test_history import run_program

EVENT_TYPES = [number for number in mlmd.Event.Type.values() if number]


def session(folder: Path) -> SparkSession:
    quick = "-XX:TieredStopAtLevel=1"
    settings = {
        "spark.master": "local-cluster[2,1,1024]",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.extraJavaOptions": quick,
        "spark.executor.extraJavaOptions": quick,
        "spark.local.dir": str(folder / "spark"),
        # A zone with daylight saving: what is shown are instants.
        "spark.sql.session.timeZone": "America/New_York",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.adaptive.enabled": "false",
        "spark.sql.codegen.wholeStage": "false",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    builder = SparkSession.builder
    for name, value in settings.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def lived(path: Path, seed: int) -> tuple[MetadataStore, list[int]]:
    """A store after a random program, with odd types, updates and erasures, sealed in part."""
    chance = random.Random(seed)
    store = eventstore.open(path)
    positions = run_program(store, seed, calls=chance.choice((0, 20, 60)))
    type_id, _, _ = put_types(store)
    odd = mlmd.ArtifactType(name=f"o'd\"d. `x` {{a}} \\n{seed}")
    for name in ("id", "a'b\\", "A'B\\", "double", "{x}", "`"):
        odd.properties[name] = chance.choice((mlmd.STRING, mlmd.INT, mlmd.DOUBLE))
    odd_id = store.put_artifact_type(odd)
    odd.version, odd.properties["id"] = "2", mlmd.DOUBLE
    store.put_artifact_type(odd)
    for number in range(chance.randint(1, 6)):
        node = artifact(type_id, name=f"node {number}", uri="u")
        node.custom_properties["owner"].string_value = "Eve"
        other = mlmd.Artifact(type_id=odd_id, state=chance.randint(0, 5))
        for name, held in odd.properties.items():
            if name == "id":
                continue
            value = other.properties[name]
            if held == mlmd.STRING:
                value.string_value = "text\n"
            elif held == mlmd.INT:
                value.int_value = -(2**62)
            else:
                value.double_value = chance.choice((0.1, -0.0, float("inf"), 1e300))
        store.put_artifacts([node, other])
        positions.append(store.log_position())
    for _ in range(chance.randint(0, 4)):
        sealing = chance.random()
        if sealing < 0.4:
            store.seal()
        ids = [node.id for node in store.get_artifacts_by_type("DataSet")]
        redacted = chance.choice((None, ["owner"], ["owner", "name"]))
        try:
            store.erase(
                "artifact",
                chance.choice(ids),
                reason="GDPR-17",
                redact=redacted,
                who=chance.random() < 0.5,
            )
        except errors.StatusError:
            continue
        positions.append(store.log_position())
    if chance.random() < 0.7:
        store.seal()
    store.put_artifacts([artifact(type_id, name="at the end")])
    positions.append(store.log_position())
    return store, positions


def rows_of(table: pa.Table) -> list[str]:
    """The rows as texts, of which each says all of its values."""
    return sorted(repr(list(row.items())) for row in table.to_pylist())


def shown_by_spark(spark: SparkSession, views: tuple[str, ...], prefix: str) -> dict[str, Any]:
    """All rows of all views, by one query: each query costs more than these few rows."""
    selected = ", ".join(
        f"(SELECT collect_list(struct(*)) FROM `{name.replace('`', '``')}`) AS v{number}"
        for number, name in enumerate(views)
    )
    (row,) = spark.sql(f"SELECT {selected}").toArrow().to_pylist()
    return {name.removeprefix(prefix): row[f"v{number}"] for number, name in enumerate(views)}


def view_differences(
    spark: SparkSession, store: MetadataStore, positions: list[int], chance: random.Random
) -> Iterator[str]:
    for moment in (None, chance.choice(positions)):
        prefix = chance.choice(("", "p_"))
        where = chance.choice((store, store.log.directory, str(store.log.directory)))
        found = register_views(spark, where, moment, prefix=prefix)
        asked = store.log_position() if moment is None else store.as_of(moment).log_position()
        if found.position + found.unsealed_records != asked:
            yield f"{found.unsealed_records} of {asked} are not sealed after {found.position}"
        if not found.position:
            continue
        if len(set(found.views)) != len(found.views):
            yield f"two views have one name: {found.views}"
        # The system's types have no nodes here.
        compared = tuple(name for name in found.views if "mlmd." not in name)
        shown = shown_by_spark(spark, compared, prefix)
        for name, rows in shown.items():
            quoted = name.replace('"', '""')
            theirs = store.sql(f'FROM "{quoted}"', as_of=found.position).arrow()
            schema = pa.schema([field.with_nullable(True) for field in theirs.schema])
            mine = pa.Table.from_pylist(rows, schema)
            if rows and list(rows[0]) != schema.names:
                yield f"{name} as of {found.position}: {list(rows[0])}, not {schema.names}"
            if rows_of(mine) != rows_of(theirs):
                yield f"{name} as of {found.position}: {rows_of(mine)}, not {rows_of(theirs)}"


def graph(path: Path, seed: int) -> MetadataStore:
    """A store with a random graph, which may go round."""
    chance = random.Random(seed)
    store = eventstore.open(path)
    type_id, train, _ = put_types(store)
    count = chance.randint(3, 9)
    artifacts = store.put_artifacts([mlmd.Artifact(type_id=type_id) for _ in range(count)])
    executions = store.put_executions([mlmd.Execution(type_id=train) for _ in range(count)])
    ends = {
        (chance.choice(artifacts), chance.choice(executions), chance.choice(EVENT_TYPES))
        for _ in range(count * 3)
    }
    store.put_events(
        [mlmd.Event(artifact_id=a, execution_id=e, type=of) for a, e, of in sorted(ends)]
    )
    store.seal()
    return store


def closure_differences(
    spark: SparkSession, store: MetadataStore, chance: random.Random
) -> Iterator[str]:
    register_views(spark, store, types=())
    events = store.sql("SELECT artifact_id, execution_id FROM events").rows()
    linked = {("artifact", a) for a, _ in events} | {("execution", e) for _, e in events}
    for direction in ("upstream", "downstream"):
        hops = chance.choice((None, 0, 1, 3))
        nodes, starts = linked, None
        if chance.random() < 0.5:
            nodes = set(chance.sample(sorted(linked), 2))
            starts = spark.createDataFrame(sorted(nodes), "kind STRING, id BIGINT")
        found: dict[Any, dict[Any, int]] = {}
        closure = lineage_closure(spark, direction=direction, starts=starts, max_hops=hops)
        for row in closure.collect():
            ancestor = (row.ancestor_kind, row.ancestor_id)
            descendant = (row.descendant_kind, row.descendant_id)
            ends = (ancestor, descendant)
            start, end = ends if direction == "downstream" else ends[::-1]
            if found.setdefault(start, {}).setdefault(end, row.distance) != row.distance:
                yield f"{start} to {end} has two distances"
        if set(found) != nodes:
            yield f"starts are {sorted(found)}, not {sorted(nodes)}"
        for kind, node_id in nodes:
            reached = found.get((kind, node_id), {})
            for upto in (hops,) if hops is not None else (None, 0, 1, 2, 3):
                walked = store.lineage(kind, node_id, direction=direction, max_hops=upto)
                near = {end for end, far in reached.items() if upto is None or far <= upto}
                keys = {node.key for node in walked.nodes}
                if near != keys:
                    yield f"{direction} of {kind} {node_id}, {upto}: {near}, not {keys}"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--stores", type=int, default=3)
    parser.add_argument("--seed", type=int, default=None)
    asked = parser.parse_args()
    seed = random.randrange(2**32) if asked.seed is None else asked.seed
    chance, differences = random.Random(seed), 0
    with tempfile.TemporaryDirectory() as name:
        # Hadoop would take some of these characters for patterns.
        folder = Path(name) / "od[d] {a} %20*"
        folder.mkdir()
        stores = [lived(folder / f"{i}", chance.randrange(2**32)) for i in range(asked.stores)]
        graphs = [graph(folder / f"g{i}", chance.randrange(2**32)) for i in range(asked.stores)]
        spark = session(Path(name))
        try:
            for store, positions in stores:
                for text in view_differences(spark, store, positions, chance):
                    differences += 1
                    print(text)
            for store in graphs:
                for text in closure_differences(spark, store, chance):
                    differences += 1
                    print(text)
        finally:
            spark.stop()
            for store in (*(store for store, _ in stores), *graphs):
                store.close()
    print(f"seed {seed}: {differences} differences")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
