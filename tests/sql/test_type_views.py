"""A view for each type: its name, its columns, and what it shows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import eventstore
from eventstore import errors
from eventstore.metadata_store.metadata_store import MetadataStore
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.sql.type_views import NamedType, type_view, types_by_view
from tests.builders import artifact, memory_store, put_types

ODD = """o'd"d. `x` {a} \\n %s ä"""


@pytest.fixture(scope="module")
def store() -> Iterator[MetadataStore]:
    with memory_store() as opened:
        type_id, train, _ = put_types(opened)
        opened.put_artifacts([artifact(type_id, name="a"), mlmd.Artifact(type_id=type_id)])
        opened.put_executions([mlmd.Execution(type_id=train, last_known_state=3)])
        opened.put_context_type(mlmd.ContextType(name="train"))
        odd = mlmd.ArtifactType(name=ODD)
        for name in ("id", "ID", "property_id", "", ODD, "select", "Äa", "äA"):
            odd.properties[name] = mlmd.STRING
        odd_id = opened.put_artifact_type(odd)
        node = mlmd.Artifact(type_id=odd_id)
        for name in odd.properties:
            node.properties[name].string_value = f"of {name}"
        node.custom_properties["select"].string_value = "custom"
        opened.put_artifacts([node])
        opened.put_artifact_type(mlmd.ArtifactType(name="artifacts"))
        for version, property_type in ((None, mlmd.INT), ("2", mlmd.DOUBLE), ("3", mlmd.INT)):
            declared = mlmd.ArtifactType(name="Model" if version else "MODEL", version=version)
            declared.properties["size"] = property_type
            declared.properties["depth"] = mlmd.INT
            made = mlmd.Artifact(type_id=opened.put_artifact_type(declared))
            made.properties["depth"].int_value = 7
            if property_type == mlmd.INT:
                made.properties["size"].int_value = 9
            else:
                made.properties["size"].double_value = 0.5
            opened.put_artifacts([made])
        yield opened


def test_properties_are_columns(store: MetadataStore) -> None:
    row, bare = store.sql("FROM DataSet ORDER BY id").arrow().to_pylist()
    shown = store.sql("FROM artifacts WHERE type = 'DataSet' ORDER BY id").arrow()
    assert [list(row)[: len(shown.column_names)]] == [shown.column_names]
    assert [{name: one[name] for name in shown.column_names} for one in (row, bare)] == [
        *shown.to_pylist()
    ]
    values = {
        of: value
        for of, *known in store.sql(
            "SELECT name, int_value, double_value, string_value, bool_value, struct_value, "
            "proto_value FROM properties WHERE kind = 'artifact' AND NOT is_custom AND node_id = ?",
            [row["id"]],
        )
        for value in known
        if value is not None
    }
    assert len(values) > 3
    columns = ("int", "double", "string", "struct", "proto", "bool")
    assert {name: row[name] for name in columns if row[name] is not None} == values
    assert [bare[name] for name in columns] == [None] * 6
    types = store.sql("SELECT int, double, string, struct, proto, bool FROM dataset").arrow().schema
    assert [str(field.type) for field in types] == [
        *("int64", "double", "string", "string", "binary", "bool")
    ]


def test_names_of_views(store: MetadataStore) -> None:
    for name in ("DataSet", "DATASET", '"dataset"', "artifacts_of_DataSet", "Artifacts_Of_dataset"):
        assert len(store.sql(f"FROM {name}")) == 2
    assert store.sql("SELECT count(*) FROM DataSet JOIN dataset b USING (id)").rows() == [(2,)]
    assert store.sql("SELECT state FROM executions_of_train").rows() == [("COMPLETE",)]
    assert store.sql("FROM contexts_of_train").rows() == []
    with pytest.raises(
        errors.InvalidArgumentError, match="use contexts_of_train or executions_of_train"
    ):
        store.sql("FROM Train")
    # A view that is always there keeps its name.
    assert len(store.sql("FROM artifacts")) == 6
    assert store.sql("FROM artifacts_of_artifacts").rows() == []
    with pytest.raises(errors.InvalidArgumentError, match="did you mean dataset"):
        store.sql("FROM Datasets")
    # A common table may be made of what it hides.
    assert len(store.sql("WITH DataSet AS (SELECT id FROM DataSet) FROM DataSet")) == 2


def test_odd_names(store: MetadataStore) -> None:
    quoted = '"' + ODD.replace('"', '""') + '"'
    (row,) = store.sql(f"FROM {quoted}").arrow().to_pylist()
    assert {name: value for name, value in row.items() if str(value).startswith("of ")} == {
        "property_": "of ",
        "property_ID": "of ID",
        "property_id_2": "of id",
        "property_property_id": "of property_id",
        ODD: f"of {ODD}",
        "select": "of select",
        "Äa": "of Äa",
        "property_äA": "of äA",
    }


def test_types_of_one_name_share_a_view(store: MetadataStore) -> None:
    asked = "SELECT type, depth, size_int, size_double FROM Model ORDER BY id"
    assert store.sql(asked).rows() == [
        *(("MODEL", 7, 9, None), ("Model", 7, None, 0.5), ("Model", 7, 9, None))
    ]


def test_as_of_a_moment() -> None:
    with memory_store() as store:
        store.put_execution_type(mlmd.ExecutionType(name="Train"))
        before = store.log_position()
        declared = mlmd.ArtifactType(name="Model")
        declared.properties["a"] = mlmd.INT
        node = mlmd.Artifact(type_id=store.put_artifact_type(declared))
        node.properties["a"].int_value = 1
        (node.id,) = store.put_artifacts([node])
        then = store.log_position()
        declared.properties["b"] = mlmd.INT
        store.put_artifact_type(declared, can_add_fields=True)
        del node.properties["a"]
        node.properties["b"].int_value = 2
        store.put_artifacts([node])
        assert store.sql("SELECT a, b FROM Model").rows() == [(None, 2)]
        assert store.sql("SELECT a, position FROM Model", as_of=then).rows() == [(1, then)]
        with pytest.raises(errors.InvalidArgumentError, match='"b" not found'):
            store.sql("SELECT b FROM Model", as_of=then)
        with pytest.raises(errors.InvalidArgumentError, match="'model' cannot be reached"):
            store.sql("FROM Model", as_of=before)


@pytest.mark.parametrize("name", ["pg_class", "duckdb_tables", "records of the log"])
def test_a_name_of_a_catalog_is_no_view(name: str) -> None:
    with memory_store() as store:
        store.put_artifact_type(mlmd.ArtifactType(name=name))
        assert store.sql(f'FROM "artifacts_of_{name}"').rows() == []
        with pytest.raises(errors.InvalidArgumentError, match="cannot be reached"):
            store.sql(f'FROM "{name}"')


def test_a_type_may_be_called_as_a_table_within() -> None:
    with memory_store() as store:
        store.put_artifact_type(mlmd.ArtifactType(name="folded_position"))
        assert "uri" in store.sql("FROM folded_position").columns


def test_views_are_made_when_they_are_named(
    store: MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise AssertionError("types are looked for")

    monkeypatch.setattr("eventstore.sql.views.types_by_view", fails)
    assert store.sql("SELECT count(*) FROM artifacts").rows() == [(6,)]


def test_what_cannot_be_a_column() -> None:
    of_model = [NamedType("artifact", 1, "Model", 1)]
    view = type_view(of_model, [{"a\0b": mlmd.INT, "unknown": mlmd.UNKNOWN, "a": mlmd.INT}])
    assert [column.name for column in view.columns] == ["a"]
    assert [*types_by_view(of_model, ["model"])] == ["artifacts_of_model"]


def test_what_is_erased_is_empty(tmp_path: Any) -> None:
    with eventstore.open(tmp_path / "store", actor="a") as store:
        type_id, _, _ = put_types(store)
        (node_id,) = store.put_artifacts([artifact(type_id, name="secret")])
        store.erase("artifact", node_id, reason="GDPR-17")
        asked = 'SELECT id, name, "string", erased_by FROM DataSet'
        assert store.sql(asked).rows() == [(node_id, None, None, 1)]
