"""SQL's views against the store's reads, at every moment of random programs."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Collection
from typing import Any

import duckdb
import pyarrow as pa
import pytest

import eventstore
from eventstore import errors
from eventstore.metadata_store.metadata_store import AsOfStore, MetadataStore
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.sql import views
from eventstore.sql.check import CheckedQuery
from eventstore.store.system_types import SYSTEM_TYPE_NAMES
from tests.builders import artifact, put_types
from tests.property.test_history import KINDS, nodes_of, run_program

STATES = {"artifact": mlmd.Artifact.State, "execution": mlmd.Execution.State}
STATE_FIELDS = {"artifact": "state", "execution": "last_known_state"}


def assert_views_are_the_reads(store: MetadataStore | AsOfStore) -> None:
    for kind in KINDS:
        nodes = nodes_of(store, kind)
        rows = store.sql(f"FROM {kind}s").arrow().to_pylist()
        assert {row["id"] for row in rows} == set(nodes)
        assert len(rows) == len(nodes)
        for row in rows:
            node = nodes[row["id"]]
            assert (row["type_id"], row["type"]) == (node.type_id, node.type)
            for field in ("name", "external_id", "uri"):
                if field in row:
                    said = getattr(node, field) if node.HasField(field) else None
                    # A get answers an artifact without a uri with an empty one.
                    assert row[field] == (said or "" if field == "uri" else said)
            for field in ("create_time_since_epoch", "last_update_time_since_epoch"):
                assert row[field] == getattr(node, field)
            if kind in STATES:
                field = STATE_FIELDS[kind]
                state = STATES[kind].Name(getattr(node, field)) if node.HasField(field) else None
                assert row["state"] == state
        found = store.sql("SELECT * FROM properties WHERE kind = $kind", {"kind": kind})
        assert_properties(found.arrow().to_pylist(), nodes)
    events = {(e.artifact_id, e.execution_id, mlmd.Event.Type.Name(e.type)) for e in _events(store)}
    rows = store.sql("SELECT artifact_id, execution_id, type FROM events").rows()
    assert set(rows) == events
    for context_id in nodes_of(store, "context"):
        rows = store.sql(
            "SELECT artifact_id FROM links WHERE kind = 'attribution' AND context_id = ?",
            [context_id],
        ).rows()
        assert {i for (i,) in rows} == {a.id for a in store.get_artifacts_by_context(context_id)}
        rows = store.sql(
            "SELECT parent_context_id FROM links WHERE kind = 'parent_context' AND context_id = ?",
            [context_id],
        ).rows()
        parents = {c.id for c in store.get_parent_contexts_by_context(context_id)}
        assert {i for (i,) in rows} == parents
    types = {t.id for kind in KINDS for t in getattr(store, f"get_{kind}_types")()}
    # MLMD's reads of artifact and execution types leave out all with a name of a system type.
    shown = {
        type_id
        for type_id, kind, name in store.sql("SELECT id, kind, name FROM types").rows()
        if kind == "context_type" or name not in SYSTEM_TYPE_NAMES
    }
    assert shown == types


def _events(store: MetadataStore | AsOfStore) -> list[Any]:
    return store.get_events_by_execution_ids(list(nodes_of(store, "execution")))


def assert_properties(rows: list[dict[str, Any]], nodes: dict[int, Any]) -> None:
    said = {
        (node.id, is_custom, name): value
        for node in nodes.values()
        for is_custom, values in ((False, node.properties), (True, node.custom_properties))
        for name, value in values.items()
    }
    assert {(row["node_id"], row["is_custom"], row["name"]) for row in rows} == set(said)
    assert len(rows) == len(said)
    for row in rows:
        value = said[row["node_id"], row["is_custom"], row["name"]]
        member = value.WhichOneof("value")
        members = [name for name in row if name.endswith("_value") and row[name] is not None]
        assert members == ([member] if member else [])
        if member in ("int_value", "string_value", "bool_value"):
            assert row[member] == getattr(value, member)


@pytest.mark.share(2)
@pytest.mark.parametrize("seed", range(4))
def test_views_are_what_the_store_reads(store: MetadataStore, seed: int) -> None:
    positions = run_program(store, seed)
    for number, position in enumerate(positions[1:]):
        if number % 9 == 0:
            assert_views_are_the_reads(store.as_of(position))
        if number == len(positions) // 2:
            store.seal()
    assert_views_are_the_reads(store)
    for kind in KINDS:
        for node_id in nodes_of(store, kind):
            versions = store.history(kind, node_id)
            rows = store.sql(
                f"SELECT position, next_position FROM {kind}_versions WHERE id = ? ORDER BY 1",
                [node_id],
            ).rows()
            starts = [version.position for version in versions]
            assert rows == list(zip(starts, [*starts[1:], None], strict=True))
    commits = list(store.log.commits())
    rows = store.sql("SELECT number, first_position, records, actor FROM commits ORDER BY 1").rows()
    assert rows == [
        (c.number, c.first_position, len(c.records), c.records[0].actor) for c in commits
    ]
    middle = positions[len(positions) // 2]
    assert store.sql("SELECT max(position) FROM records", as_of=middle).rows() == [(middle,)]
    assert store.as_of(middle).sql("SELECT count(*) FROM records").rows() == [(middle,)]


def test_results_in_every_form(store: MetadataStore) -> None:
    type_id, _, _ = put_types(store)
    store.put_artifacts([artifact(type_id, name=name) for name in "ab"])
    found = store.sql("SELECT id, name FROM artifacts ORDER BY name")
    assert (found.columns, len(found)) == (["id", "name"], 2)
    assert found.rows() == list(found)
    assert [name for _, name in found] == ["a", "b"]
    assert isinstance(found.arrow(), pa.Table)
    assert found.polars()["name"].to_list() == ["a", "b"]
    assert repr(found) == "<SqlResult of 2 rows: id, name>"
    (row,) = store.sql("SELECT struct_value FROM properties WHERE name = 'note' LIMIT 1")
    assert row == ('{"a": [1.0, null]}',)
    assert store.sql("DESCRIBE commits").columns[0] == "column_name"
    with pytest.raises(errors.InvalidArgumentError, match="beyond the end"):
        store.sql("FROM artifacts", as_of=store.log_position() + 1)


def test_a_result_as_a_pandas_frame(store: MetadataStore) -> None:
    # Not installed for development: NumPy comes with it, which pyarrow then loads.
    pytest.importorskip("pandas")
    assert list(store.sql("SELECT 1 AS one").pandas()["one"]) == [1]


def test_what_is_not_installed_is_named(
    store: MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("pandas", "polars"):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(errors.FailedPreconditionError, match=rf"package {package}: pip"):
            getattr(store.sql("SELECT 1"), package)()


HARMFUL = [
    "DROP TABLE artifacts",
    "DELETE FROM artifacts",
    'DELETE FROM "{database}".main.artifacts',
    'DROP TABLE "{database}".main.events',
    "INSERT INTO \"{database}\".main.folded_position VALUES (1, 'x', 1, 1)",
    'CREATE TABLE "{database}".main.mine (a INTEGER)',
    "ATTACH '{folder}/other.duckdb'",
    "COPY artifacts TO '{folder}/out.csv'",
    "COPY artifacts FROM '{folder}/secret.csv'",
    "EXPORT DATABASE '{folder}/out'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "LOAD '{folder}/secret.csv'",
    "SET enable_external_access = true",
    "SET GLOBAL enable_external_access = true",
    "RESET enable_external_access",
    "SET lock_configuration = false",
    "PRAGMA enable_external_access = true",
    "SET memory_limit = '100GB'",
    "SELECT * FROM read_csv('{folder}/secret.csv')",
    "SELECT * FROM read_text('{folder}/secret.csv')",
    "SELECT * FROM read_blob('{folder}/secret.csv')",
    "SELECT * FROM read_parquet('{folder}/*')",
    "SELECT * FROM glob('{folder}/*')",
    "SELECT * FROM '{folder}/secret.csv'",
    "SELECT * FROM parquet_metadata('{folder}/secret.csv')",
    "SELECT * FROM sniff_csv('{folder}/secret.csv')",
    "SELECT getenv('HOME')",
    "SELECT 1; SELECT 2",
    "EXPLAIN ANALYZE INSERT INTO artifacts VALUES (1)",
    "CALL pragma_database_size()",
    "",
    ";",
    "SELECT",
    "SELEC 1",
    "FROM nowhere",
    "SELECT ?",
    "SELECT 1/",
    "COMMIT",
    "CHECKPOINT",
    "VACUUM",
]


@pytest.fixture
def kept(tmp_path: Any) -> Any:
    (tmp_path / "secret.csv").write_text("secret\n1\n")
    with eventstore.open(tmp_path / "store") as store:
        put_types(store)
        yield store, tmp_path


@pytest.mark.parametrize("query", HARMFUL)
def test_nothing_but_a_query_is_run(kept: Any, query: str) -> None:
    store, folder = kept
    before = store.sql("FROM types").rows()
    text = query.format(folder=folder, database="tables")
    with pytest.raises(errors.InvalidArgumentError, match="query"):
        store.sql(text)
    assert store.sql("FROM types").rows() == before
    assert sorted(path.name for path in folder.iterdir()) == ["secret.csv", "store"]


@pytest.mark.share(2)
@pytest.mark.parametrize("query", [query for query in HARMFUL if len(query) > 12])
def test_the_database_itself_refuses_harm(
    kept: Any, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, folder = kept
    before = store.sql("FROM types").rows()
    if ";" in query or query.startswith("CALL"):
        return

    def unchecked(
        _: object, text: str, views: Collection[str], _parameters: object, _names: object
    ) -> CheckedQuery:
        return CheckedQuery(text, frozenset(views))

    monkeypatch.setattr(views, "checked_query", unchecked)
    with pytest.raises((errors.InvalidArgumentError, duckdb.Error)):
        store.sql(query.format(folder=folder, database="tables"))
    monkeypatch.undo()
    assert store.sql("FROM types").rows() == before
    assert sorted(path.name for path in folder.iterdir()) == ["secret.csv", "store"]


NULLABLE_TEXTS = [
    "CASE WHEN id = 2 THEN 'aab' END",
    "CASE WHEN id = 2 THEN NULL ELSE 'aab' END",
    "CASE WHEN id < 2 THEN 'aab' WHEN id < 4 THEN 'aabb' END",
    "CASE WHEN uri LIKE 's3%' THEN 'aab' END",
    "upper(CASE WHEN id = 2 THEN 'aab' END)",
    "CASE WHEN id > 2 THEN name END",
    "nullif(name, 'aab')",
    "coalesce(CASE WHEN id > 8 THEN 'aab' END, CASE WHEN id = 2 THEN 'aab' END)",
    "CASE WHEN external_id IS NOT NULL THEN 'aab' END",
]
SOUGHT = {
    "{} IN ('aab', 'x')": lambda text: text in ("aab", "x"),
    "{} NOT IN ('aab', 'x')": lambda text: text not in ("aab", "x"),
    "{} LIKE 'aa%'": lambda text: text.startswith("aa"),
    "{} NOT LIKE 'aa%'": lambda text: not text.startswith("aa"),
    "{} LIKE '%ab'": lambda text: text.endswith("ab"),
    "{} GLOB 'aa*'": lambda text: text.startswith("aa"),
    "starts_with({}, 'aa')": lambda text: text.startswith("aa"),
    "NOT starts_with({}, 'aa')": lambda text: not text.startswith("aa"),
    "suffix({}, 'ab')": lambda text: text.endswith("ab"),
    "contains({}, 'ab')": lambda text: "ab" in text,
}


@pytest.mark.share(3)
@pytest.mark.parametrize("condition", SOUGHT)
def test_a_text_that_may_be_null_is_sought_in_what_it_is(
    store: MetadataStore, condition: str
) -> None:
    """DuckDB 2.0 takes such a condition to be always true, unless it is kept from it."""
    type_id, _, _ = put_types(store)
    names = ["".join(letters) for letters in itertools.product("ab", repeat=3)]
    store.put_artifacts([artifact(type_id, name=name) for name in names])
    for expression in NULLABLE_TEXTS:
        asked = condition.format(expression)
        texts = [text for (text,) in store.sql(f"SELECT {expression} FROM artifacts")]
        expected = sum(text is not None and SOUGHT[condition](text) for text in texts)
        found = store.sql(f"SELECT count(*) FROM artifacts WHERE {asked}").rows()
        assert found == [(expected,)], asked
