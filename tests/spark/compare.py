"""Compare what Spark shows of random stores with what DuckDB does: a program of its own.

`python -m tests.spark.compare --stores N --seed S` fails with a small store that differs. Spark
has two executors in processes of their own. They read objects by Hadoop's s3a:// from a copy of the
bucket: pip installs Hadoop without its connectors.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import obstore.store
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from pyarrow import parquet
from pyspark.sql import SparkSession

import eventstore
from eventstore import errors
from eventstore.log.directory import DirectoryLog
from eventstore.metadata_store.metadata_store import MetadataStore
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.spark import lineage_closure, register_views
from eventstore.spark.dialect import plain_sql
from tests.builders import artifact, put_types
from tests.object_servers import Moto
from tests.property.test_history import run_program

EVENT_TYPES = [number for number in mlmd.Event.Type.values() if number]
BUCKET = "history"


class Places(NamedTuple):
    """Where stores are made: a folder, and a server of objects whose copy Hadoop reads."""

    folder: Path
    objects: Moto | None
    copy: Path
    numbers: Iterator[int]

    def path(self) -> Path:
        return self.folder / f"{next(self.numbers)}"


def session(folder: Path, bucket: Path) -> SparkSession:
    quick = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=160m"
    settings = {
        "spark.master": "local-cluster[2,1,1024]",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.extraJavaOptions": quick,
        "spark.executor.extraJavaOptions": quick,
        "spark.local.dir": str(folder / "spark"),
        # A zone with daylight saving: what is shown are instants.
        "spark.sql.session.timeZone": "America/New_York",
        "spark.sql.parser.escapedStringLiterals": "true",
        "spark.sql.timestampType": "TIMESTAMP_NTZ",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.adaptive.enabled": "false",
        "spark.sql.codegen.wholeStage": "false",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.hadoop.fs.s3a.impl": "org.apache.hadoop.fs.viewfs.ViewFileSystemOverloadScheme",
        **{
            f"spark.hadoop.fs.viewfs.overload.scheme.target.{scheme}.impl": (
                "org.apache.hadoop.fs.LocalFileSystem"
            )
            for scheme in ("s3a", "file")
        },
        f"spark.hadoop.fs.viewfs.mounttable.{BUCKET}.link./teams": f"file://{bucket}/teams",
    }
    builder = SparkSession.builder
    for name, value in settings.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def lived(store: MetadataStore, chance: random.Random) -> list[int]:
    """A random program, with odd types, updates and erasures, sealed and merged in part.

    Gives the positions that its puts led to.
    """
    positions = run_program(store, chance.randrange(1_000), calls=chance.choice((20, 0, 60)))
    type_id, _, _ = put_types(store)
    odd = mlmd.ArtifactType(name="o'd\"d. `x` {a} ${env:HOME} \\n")
    for name in ("id", "a'b\\", "A'B\\", "double", "{x}", "`", "${x}", "${env:HOME}"):
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
        if chance.random() < 0.5:
            store.seal()
        if chance.random() < 0.3:
            store.compact()
        ids = [node.id for node in store.get_artifacts_by_type("DataSet")]
        redacted = chance.choice((None, ["owner"], ["owner", "name"]))
        with ExitStack() as until_it_is_asked_for:
            if chance.random() < 0.3:
                refused = mock.Mock(side_effect=full)
                until_it_is_asked_for.enter_context(
                    mock.patch.object(DirectoryLog, "destroy", refused)
                )
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
    if chance.random() < 0.3:
        store.compact()
    store.put_artifacts([artifact(type_id, name="at the end")])
    positions.append(store.log_position())
    return positions


def full(erased: Any, *_: Any) -> None:
    """In the place of destroying bytes: a disk without room, so that erasures stay requested."""
    if erased:
        raise errors.ResourceExhaustedError("no room on the disk")


def copied_to_objects(store: MetadataStore, places: Places, objects: Moto) -> str:
    """The URL of a copy of a store in a bucket, whose segments lie in the bucket's copy as well."""
    url = objects.url(objects.new_prefix())
    store.copy_to(url)
    reached = {"endpoint": objects.endpoint(), "client_options": {"allow_http": True}}
    bucket = obstore.store.S3Store(BUCKET, **reached)
    with eventstore.open(url) as copied:
        copied.seal()
        for file in copied.segment_files():
            key = str(file).partition(f"{BUCKET}/")[2]
            path = places.copy / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(obstore.get(bucket, key).bytes())
    return url


def rows_of(table: pa.Table) -> list[str]:
    """The rows as texts, of which each says all of its values."""
    return sorted(repr(list(row.items())) for row in table.to_pylist())


def shown_by_spark(spark: SparkSession, views: tuple[str, ...], prefix: str) -> dict[str, Any]:
    """All rows of all views, by one query: each query costs more than these few rows."""
    selected = ", ".join(
        f"(SELECT collect_list(struct(*)) FROM `{name.replace('`', '``')}`) AS v{number}"
        for number, name in enumerate(views)
    )
    with plain_sql(spark):
        (row,) = spark.sql(f"SELECT {selected}").toArrow().to_pylist()
    return {name.removeprefix(prefix): row[f"v{number}"] for number, name in enumerate(views)}


def view_differences(
    spark: SparkSession,
    store: MetadataStore,
    named: list[Path | str],
    positions: list[int],
    chance: random.Random,
) -> Iterator[str]:
    for moment in (None, chance.choice(positions)):
        prefix = chance.choice(("", "p_"))
        where = chance.choice((store, *named))
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


def put_graph(store: MetadataStore, chance: random.Random) -> None:
    """A random graph, which may go round."""
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
            there_and_not = [*sorted(nodes), ("artifact", 10**9), ("execution", 10**9)]
            starts = spark.createDataFrame(there_and_not, "kind STRING, id BIGINT")
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


def differences(spark: SparkSession, places: Places, chance: random.Random) -> Iterator[str]:
    """Between a store, its copy and a graph on Spark, and the same elsewhere."""
    with eventstore.open(places.path()) as store:
        positions = lived(store, chance)
        assert store.log.directory is not None
        named = [store.log.directory, str(store.log.directory)]
        yield from view_differences(spark, store, named, positions, chance)
        if places.objects is not None and chance.random() < 0.5:
            url = copied_to_objects(store, places, places.objects)
            with eventstore.open(url) as copied:
                yield from view_differences(spark, copied, [url], positions, chance)
    with eventstore.open(places.path()) as store:
        put_graph(store, chance)
        yield from closure_differences(spark, store, chance)


def assert_old_views_are_dropped(spark: SparkSession, path: Path) -> None:
    """A name that would be ambiguous by now, or whose type is not there, shows nothing old."""
    with eventstore.open(path) as store:
        put_types(store)
        store.seal()
        views = register_views(spark, store).views
        others = register_views(spark, store, prefix="p_").views
        assert all(map(spark.catalog.tableExists, ("DataSet", "p_DataSet")))
        left = register_views(spark, store, types=()).views
        assert not any(map(spark.catalog.tableExists, {"DataSet"} & {*views} - {*left}))
        assert all(map(spark.catalog.tableExists, ("artifacts", "p_DataSet")))
        assert "p_DataSet" in others
        for kind in ("context", "Artifact", None):
            starts = spark.createDataFrame([(kind, 1)], "kind STRING, id BIGINT")
            with pytest.raises(errors.InvalidArgumentError, match="lineage leads from"):
                lineage_closure(spark, starts=starts)


def assert_damage_is_noticed(spark: SparkSession, path: Path) -> None:
    """One bit of a name, which a reader that compares no sums of pages would show as it is."""
    with eventstore.open(path) as store:
        type_id, _, _ = put_types(store)
        store.put_artifacts([artifact(type_id, name=f"name {n}") for n in range(100)])
        store.seal()
        (file,) = store.segment_files()
    content = bytearray(Path(file).read_bytes())
    columns = parquet.read_metadata(file).row_group(0)
    (names,) = (
        column
        for column in map(columns.column, range(columns.num_columns))
        if column.path_in_schema == "name"
    )
    start = names.dictionary_page_offset or names.data_page_offset
    content[start + names.total_compressed_size // 2] ^= 1
    Path(file).write_bytes(content)
    with pytest.raises(Exception, match="FAILED_READ_FILE"):
        register_views(spark, path, types=())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--stores", type=int, default=3)
    parser.add_argument("--seed", type=int, default=None)
    asked = parser.parse_args()
    started = random.randrange(2**32) if asked.seed is None else asked.seed
    os.environ |= Moto.environment
    with ExitStack() as opened:
        name = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        # Hadoop would take some of these characters for patterns.
        folder = name / "od[d] {a} %20*"
        folder.mkdir()
        (name / "teams").mkdir()
        objects = opened.enter_context(closing(Moto())) if Moto.program.exists() else None
        places = Places(folder, objects, name, itertools.count())
        spark = session(name, name)
        opened.callback(spark.stop)
        assert_damage_is_noticed(spark, places.path())
        assert_old_views_are_dropped(spark, places.path())

        @seed(started)
        @settings(
            max_examples=asked.stores,
            deadline=None,
            database=None,
            suppress_health_check=[*HealthCheck],
        )
        @given(st.randoms(use_true_random=False))
        def are_equal(chance: random.Random) -> None:
            assert [*differences(spark, places, chance)] == []

        are_equal()
    print(f"seed {started}: no differences in {asked.stores} stores")


if __name__ == "__main__":
    main()
