"""What a query can reach: the views as of its moment and nothing else, and what it is told."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import eventstore
from eventstore import errors
from eventstore.metadata_store.metadata_store import MetadataStore
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.sql.definitions import view_definitions
from tests.builders import artifact, put_types

SECRET = "put-after-the-moment"


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[MetadataStore, int]]:
    """A store, and a moment after which everything in it was put again under another name."""
    with eventstore.open(tmp_path_factory.mktemp("changed") / "store", actor="early") as store:
        type_id, _, _ = put_types(store)
        (node_id,) = store.put_artifacts([artifact(type_id, name="then", uri="then")])
        moment = store.log_position()
        with store.acting(actor=SECRET):
            late = artifact(type_id, name=SECRET, uri=SECRET)
            late.custom_properties["late"].string_value = SECRET
            store.put_artifacts([late, mlmd.Artifact(id=node_id, type_id=type_id, uri=SECRET)])
            store.put_artifact_type(mlmd.ArtifactType(name=SECRET))
        store.sql("FROM artifacts")
        yield store, moment


INTERNAL = (
    "folded_position",
    "artifacts",
    "types",
    "events",
    "artifact_properties",
    "attributions",
    "parent_contexts",
)


REACHING = [
    *(f"FROM tables.main.{table}" for table in INTERNAL),
    *(f"FROM tables.{table}" for table in INTERNAL),
    *(f"FROM main.{table}" for table in INTERNAL),
    'FROM "tables"."main"."artifacts"',
    'FROM "TABLES"."MAIN"."ARTIFACTS"',
    "FROM folded_position",
    'FROM "folded_position"',
    "FROM artifact_properties",
    'FROM "records of the log"',
    "FROM log_records",
    "TABLE tables.main.artifacts",
    "SELECT (SELECT max(uri) FROM tables.main.artifacts)",
    "SELECT 1 WHERE 'x' IN (SELECT uri FROM tables.main.artifacts)",
    "SELECT 1 WHERE EXISTS (FROM tables.main.artifacts)",
    "SELECT * FROM artifacts ORDER BY (SELECT max(uri) FROM tables.main.artifacts)",
    "SELECT * FROM artifacts LIMIT (SELECT count(*) FROM tables.main.artifacts)",
    "SELECT * FROM artifacts AS a, LATERAL (SELECT uri FROM tables.main.artifacts)",
    "SELECT * FROM (PIVOT tables.main.artifacts ON uri IN ('a') USING count(*))",
    "WITH a AS (FROM tables.main.artifacts) FROM a",
    "WITH folded_position AS (FROM folded_position) FROM folded_position",
    "WITH artifact_properties AS (FROM artifact_properties) FROM artifact_properties",
    "SELECT * FROM (WITH folded_position AS (SELECT 1) SELECT 1), folded_position",
    "SELECT * FROM (WITH attributions AS (SELECT 1) SELECT 1), attributions",
    "WITH a AS (FROM folded_position), folded_position AS (SELECT 1) FROM a",
    "WITH artifacts AS (FROM tables.main.artifacts) FROM artifacts",
    "SELECT * FROM (WITH pg_tables AS (SELECT 1) SELECT 1), pg_tables",
    "SELECT * FROM (WITH duckdb_tables AS (SELECT 1) SELECT 1), duckdb_tables",
    'SELECT * FROM (WITH "records of the log" AS (SELECT 1) SELECT 1), "records of the log"',
    "FROM query('FROM tables.main.artifacts')",
    "FROM query_table('tables.main.artifacts')",
    "FROM query_table(['artifacts'])",
    "FROM histogram(tables.main.artifacts, uri)",
    "FROM histogram_values(artifacts, uri)",
    "FROM json_execute_serialized_sql(json_serialize_sql('FROM tables.main.artifacts'))",
    "FROM duckdb_tables()",
    "FROM duckdb_tables",
    "FROM duckdb_columns()",
    "FROM duckdb_views()",
    "FROM duckdb_databases()",
    "FROM duckdb_settings()",
    "FROM duckdb_functions()",
    "FROM duckdb_memory()",
    "FROM duckdb_temporary_files()",
    "FROM duckdb_secrets()",
    "FROM duckdb_logs()",
    "FROM duckdb_table_sample('tables.main.artifacts')",
    "FROM information_schema.tables",
    "FROM information_schema.columns",
    "FROM system.information_schema.tables",
    "FROM pg_catalog.pg_class",
    "FROM pg_class",
    "FROM pg_tables",
    "FROM sqlite_master",
    "FROM pragma_database_list",
    "FROM pragma_storage_info('tables.main.artifacts')",
    "FROM pragma_table_info('folded_position')",
    "FROM pragma_show('folded_position')",
    "FROM pragma_database_size()",
    "FROM seq_scan('artifacts')",
    "FROM arrow_scan(1, 2, 3)",
    "FROM python_map_function(1)",
    "FROM force_checkpoint()",
    "FROM checkpoint('tables')",
    "FROM enable_logging()",
    "FROM enable_profiling()",
    "FROM system.main.range(3)",
    "SHOW TABLES",
    "SHOW ALL TABLES",
    "SHOW DATABASES",
    "DESCRIBE tables.main.artifacts",
    "DESCRIBE folded_position",
    "SUMMARIZE tables.main.artifacts",
    "FROM (DESCRIBE tables.main.artifacts)",
    "FROM (SUMMARIZE tables.main.artifacts)",
    "EXPLAIN FROM tables.main.artifacts",
    "EXPLAIN ANALYZE FROM tables.main.artifacts",
    "EXPLAIN (FORMAT JSON) FROM tables.main.artifacts",
    "EXPLAIN (ANALYZE, FORMAT JSON) FROM tables.main.artifacts",
    "/* */ EXPLAIN FROM tables.main.artifacts",
    "PRAGMA table_info('artifacts')",
    "PRAGMA database_list",
    "PRAGMA show_tables",
    "SELECT current_setting('temp_directory')",
    "SELECT stats(uri) FROM artifacts LIMIT 1",
    "SELECT pg_get_viewdef(1)",
    "SELECT get_block_size('tables')",
    "SELECT write_log('x')",
    "SELECT getenv('HOME')",
    "SELECT json_serialize_plan('SELECT * FROM duckdb_settings()')",
    "SELECT json_serialize_sql('SELECT 1')",
    "SELECT json_deserialize_sql(json_serialize_sql('SELECT 1'))",
    "SELECT current_schemas(true)",
    "SELECT getvariable('x')",
    "SELECT txid_current()",
    "SELECT in_search_path('tables', 'main')",
    "FROM secrets_of_mine",
    "FROM 'secret.csv'",
    'FROM "secret.parquet"',
    "FROM position",
    "FROM views",
    "FROM read_text('/etc/passwd')",
    "FROM read_parquet('x.parquet')",
    "FROM glob('*')",
    "PREPARE p AS FROM tables.main.artifacts",
    "EXECUTE p",
    "CREATE TEMP MACRO m() AS TABLE FROM tables.main.artifacts",
    "CREATE TEMP VIEW v AS FROM tables.main.artifacts",
    "SET VARIABLE x = (FROM tables.main.artifacts)",
    "SET search_path = 'tables'",
    "USE tables",
    "COPY (FROM artifacts) TO 'out.csv'",
    "ATTACH ':memory:' AS other",
    "CALL duckdb_tables()",
    "SELECT 1; FROM tables.main.artifacts",
    "SELECT " + "-" * 5000 + "1",
    "SELECT " + "[" * 3000 + "]" * 3000,
]


@pytest.mark.parametrize("query", REACHING, ids=lambda query: query[:70])
def test_nothing_but_the_views_is_reached(changed: tuple[MetadataStore, int], query: str) -> None:
    store, moment = changed
    secrets_of_mine = [1]  # What DuckDB would take for a table if it were allowed to look for one.
    assert secrets_of_mine
    with pytest.raises(errors.InvalidArgumentError):
        store.sql(query, as_of=moment)


@pytest.mark.parametrize(
    "query",
    [
        *(f"FROM {view}" for view in view_definitions("b", 1)),
        "FROM Artifacts",
        'SELECT * FROM "artifacts"',
        "WITH folded_position AS (FROM artifacts) FROM folded_position",
        "WITH attributions AS (FROM links WHERE kind = 'attribution') FROM attributions",
        "WITH RECURSIVE up AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM up WHERE n < 3) FROM up",
        "WITH artifacts AS (FROM artifacts WHERE id > 0) FROM artifacts",
        "SELECT * FROM range(3), unnest([1, 2]) AS u(v), json_each('[1]')",
        "SELECT a.name FROM artifacts AS a WHERE a.id IN (SELECT node_id FROM properties)",
        "SELECT (SELECT count(*) FROM events) FROM types",
        "VALUES (1), (2)",
        "DESCRIBE artifacts",
        "SUMMARIZE artifacts",
        "DESCRIBE SELECT * FROM commits",
        "SELECT * FROM (PIVOT artifacts ON state IN ('LIVE') USING count(*))",
        "EXPLAIN FROM artifacts",
        "explain analyze SELECT 1",
        "EXPLAIN (FORMAT JSON) FROM records",
        "-- a comment\nFROM artifacts;",
        "SELECT unnest([1, 2]), list_transform([1], lambda x: x + 1)",
        "SELECT 'FROM tables.main.artifacts'",
        "SELECT COLUMNS('i.*') FROM artifacts",
        "FROM artifacts POSITIONAL JOIN executions",
        "SELECT * FROM commits ASOF JOIN records ON first_position >= position",
    ],
)
def test_queries_on_the_views_run_and_tell_of_their_moment_alone(
    changed: tuple[MetadataStore, int], query: str
) -> None:
    store, moment = changed
    if "EXPLAIN" in query.upper():
        store.sql(query, as_of=moment)
        return
    assert SECRET not in str(store.sql(query, as_of=moment).rows())


ASKED_ANYWHERE = """
SELECT a.created_at, a.created_at::VARCHAR AS said, a.created_at = epoch_ms(create_time_since_epoch)
    AT TIME ZONE 'UTC', abs(epoch(now() - a.created_at)) < 600, hour(TIMESTAMPTZ '2020-01-01 12:00:00Z'),
    e.occurred_at, r.recorded_at::VARCHAR AS recorded, r.recorded_at, c.recorded_at AS committed_at,
    r.recorded_at BETWEEN now() - INTERVAL 10 MINUTE AND now() + INTERVAL 1 MINUTE,
    date_trunc('day', e.occurred_at)::VARCHAR, strftime(e.occurred_at, '%H:%M'),
    '2001-09-09 01:46:40'::TIMESTAMPTZ = e.occurred_at
FROM artifacts AS a, events AS e, records AS r, commits AS c
WHERE r.position = a.position AND c.first_position <= r.position AND c.last_position >= r.position
"""  # noqa: E501


ASKING = """
import json, sys, eventstore
store = eventstore.open(sys.argv[1])
for _ in range(2):
    found = store.sql(sys.argv[2])
    types = [str(field.type) for field in found.arrow().schema if "timestamp" in str(field.type)]
    frame = [str(kind) for kind in found.polars().dtypes if "Datetime" in str(kind)]
    rows = [[str(value) for value in row] for row in found]
    print(json.dumps([rows, types, frame]))
    store.seal()
"""


def test_times_are_instants_whatever_the_time_zone(tmp_path: Path) -> None:
    with eventstore.open(tmp_path / "store") as store:
        type_id, execution_type, _ = put_types(store)
        (artifact_id,) = store.put_artifacts([artifact(type_id, name="a")])
        (execution_id,) = store.put_executions([mlmd.Execution(type_id=execution_type)])
        event = mlmd.Event(
            artifact_id=artifact_id, execution_id=execution_id, type=mlmd.Event.INPUT
        )
        event.milliseconds_since_epoch = 1_000_000_000_000
        store.put_events([event])
        (row,) = store.sql(ASKED_ANYWHERE)
        created, occurred = row[0], row[5]
        assert created.utcoffset() == timedelta(0)
        assert abs(created - datetime.now(timezone.utc)) < timedelta(minutes=10)
        assert occurred == datetime(2001, 9, 9, 1, 46, 40, tzinfo=timezone.utc)
        assert (row[2], row[3], row[9]) == (True, True, True)
        assert row[10:] == ("2001-09-09 00:00:00+00", "01:46", True)
    answers = set()
    for zone in ("America/New_York", "Asia/Kolkata"):
        environment = {**os.environ, "TZ": zone}
        command = [sys.executable, "-c", ASKING, str(tmp_path / "store"), ASKED_ANYWHERE]
        run = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, check=True, text=True
        )
        answers |= set(run.stdout.splitlines())
    assert len(answers) == 1, "\n".join(answers)
    (answer,) = answers
    rows, types, frame = json.loads(answer)
    assert rows == [[str(value) for value in row]]
    assert set(types) == {"timestamp[us, tz=UTC]"}
    assert set(frame) == {"Datetime(time_unit='us', time_zone='UTC')"}


def test_two_columns_of_one_name_are_told_of(store: MetadataStore) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="AS"):
        store.sql("SELECT 1 AS a, 2 AS a").polars()
    assert store.sql("SELECT 1 AS a, 2 AS a").rows() == [(1, 2)]
    assert repr(store.sql("SELECT 1 AS a")) == "<SqlResult of 1 row: a>"


def test_times_that_python_has_no_date_for_are_null(store: MetadataStore) -> None:
    type_id, execution_type, _ = put_types(store)
    (artifact_id,) = store.put_artifacts([artifact(type_id, name="a")])
    (execution_id,) = store.put_executions([mlmd.Execution(type_id=execution_type)])
    times = [-(2**63), -62_135_596_800_001, -62_135_596_800_000, 0, 253_402_300_799_999, 2**63 - 1]
    for number, milliseconds in enumerate(times, 1):
        event = mlmd.Event(artifact_id=artifact_id, execution_id=execution_id, type=number)
        event.milliseconds_since_epoch = milliseconds
        store.put_events([event])
    rows = store.sql("SELECT milliseconds_since_epoch, occurred_at FROM events ORDER BY ALL").rows()
    assert [milliseconds for milliseconds, _ in rows] == times
    years = [None if occurred is None else occurred.year for _, occurred in rows]
    assert years == [None, None, 1, 1970, 9999, None]
    with pytest.raises(errors.OutOfRangeError, match="arrow"):
        store.sql("SELECT make_timestamp(300000000000000000)").rows()


@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        ("SELECT (i || 'x')::INTEGER FROM range(5) AS r(i)", None),
        ("SELECT error('mine') FROM range(100000) AS r(i) WHERE i = 99999", None),
        ("SELECT ?", [object()]),
        ("SELECT ?", []),
        ("SELECT ?", [1, 2]),
        ("SELECT $a", {"b": 1}),
        ("SELECT $a", [1]),
        ("SELECT 1", "text"),
        ("SELECT '\ud800'", None),
        ("SELECT 1\0", None),
        (None, None),
        (7, None),
        (b"SELECT 1", None),
    ],
)
def test_a_query_that_fails_is_an_invalid_argument(
    changed: tuple[MetadataStore, int], query: Any, parameters: Any
) -> None:
    with pytest.raises(errors.InvalidArgumentError):
        changed[0].sql(query, parameters)


def test_a_query_that_is_not_utf_8_is_refused_in_words(changed: tuple[MetadataStore, int]) -> None:
    with pytest.raises(errors.InvalidArgumentError, match=r"^the query cannot be written as UTF-8"):
        changed[0].sql("SELECT '\ud800'")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("FROM artifact", "did you mean artifacts? It may name the views artifact_versions"),
        ("FROM artefacts", "did you mean artifacts?"),
        ("FROM xyz", "by a query. It may name the views"),
        ("SELECT nmae FROM artifacts", "Did you mean name? artifacts has id, type_id, type"),
        ("SELECT a.nmae FROM artifacts AS a", "Did you mean name?"),
        ("FROM executions WHERE last_known_state = 'NEW'", "Did you mean state? executions has"),
        ("FROM events JOIN artifacts USING (id)", "\nartifacts has id"),
        ("SELECT comit FROM records", "Did you mean commit? records has position"),
    ],
)
def test_an_error_says_what_may_be_meant(
    changed: tuple[MetadataStore, int], query: str, words: str
) -> None:
    store, _ = changed
    with pytest.raises(errors.InvalidArgumentError, match=re.escape(words)):
        store.sql(query)
