"""Rows that MLMD reads with a shrug, and rows that it cannot read."""

from __future__ import annotations

from pathlib import Path

import pytest

import eventstore
from eventstore import errors
from eventstore.importing import ImportReport, import_mlmd_database
from eventstore.metadata_store.metadata_store import MetadataStore
from tests.importing.conftest import Change

PROPERTY = "UPDATE ArtifactProperty SET {} WHERE artifact_id = 1 AND name = '{}'"
CUSTOM_INT = PROPERTY.format("{}", "int") + " AND is_custom_property = 1"
TYPED_STRING = PROPERTY.format("{}", "string") + " AND is_custom_property = 0"


@pytest.fixture
def imported(changed: Change, tmp_path: Path):  # type: ignore[no-untyped-def]
    """Imports the database after some statements: the store and the report."""
    opened: list[MetadataStore] = []

    def run(*statements: str, database: str = "mlmd-v10.db") -> tuple[MetadataStore, ImportReport]:
        report = import_mlmd_database(changed(*statements, database=database), tmp_path / "store")
        opened.append(eventstore.open(tmp_path / "store"))
        return opened[0], report

    yield run
    for store in opened:
        store.close()


def test_an_orderly_database_gives_no_warnings(imported) -> None:  # type: ignore[no-untyped-def]
    _, report = imported()
    assert report.warnings == []
    assert report.schema_version == 10
    assert report.position == sum(report.records.values())


def test_enum_numbers_without_a_name_read_as_absent(imported) -> None:  # type: ignore[no-untyped-def]
    store, report = imported(
        "UPDATE Artifact SET state = 17 WHERE id = 1",
        "UPDATE Execution SET last_known_state = -1 WHERE id = 1",
        "UPDATE Event SET type = 99 WHERE id = 1",
        "UPDATE TypeProperty SET data_type = 9 WHERE name = 'int'",
    )
    (artifact,) = store.get_artifacts_by_id([1])
    assert not artifact.HasField("state")
    (execution,) = store.get_executions_by_id([1])
    assert not execution.HasField("last_known_state")
    assert not store.get_events_by_artifact_ids([1])[0].HasField("type")
    assert store.get_artifact_type("DataSet", "v1").properties["int"] == 0
    assert report.warnings == [
        "4 states, event types or property types have a number without a name"
    ]


def test_what_stands_for_null_reads_as_absent(imported) -> None:  # type: ignore[no-untyped-def]
    store, _ = imported(
        "UPDATE Artifact SET uri = NULL, name = '__MLMD_NULL__' WHERE id = 1",
        "UPDATE Event SET milliseconds_since_epoch = NULL WHERE id = 1",
    )
    (artifact,) = store.get_artifacts_by_id([1])
    assert not artifact.HasField("uri")
    assert not artifact.HasField("name")
    (event,) = store.get_events_by_artifact_ids([1])
    assert not event.HasField("milliseconds_since_epoch")


def test_a_typed_string_is_a_string_whatever_it_looks_like(imported) -> None:  # type: ignore[no-untyped-def]
    store, _ = imported(
        TYPED_STRING.format("string_value = 'mlmd-struct::'"),
        CUSTOM_INT.format("int_value = NULL, string_value = 'mlmd-struct::!!'"),
    )
    (artifact,) = store.get_artifacts_by_id([1])
    assert artifact.properties["string"].string_value == "mlmd-struct::"
    assert artifact.custom_properties["int"].string_value == "mlmd-struct::!!"


def test_a_property_without_a_value_is_left_out(imported) -> None:  # type: ignore[no-untyped-def]
    store, report = imported(CUSTOM_INT.format("int_value = NULL"))
    (artifact,) = store.get_artifacts_by_id([1])
    assert "int" not in artifact.custom_properties
    assert report.warnings == ["1 properties had no value and were left out"]


def test_links_and_properties_of_nothing_are_counted(imported) -> None:  # type: ignore[no-untyped-def]
    store, report = imported(
        "INSERT INTO Event(artifact_id, execution_id, type) VALUES (500, 1, 3), (1, 500, 3)",
        "INSERT INTO Attribution(context_id, artifact_id) VALUES (1, -1)",
        "INSERT INTO Association(context_id, execution_id) VALUES (1, 500)",
        "INSERT INTO ParentContext VALUES (1, 500)",
        "INSERT INTO ContextProperty(context_id, name, is_custom_property) VALUES (9, 'x', 1)",
    )
    assert [line.split(" ", 2)[:2] for line in report.warnings] == [
        ["2", "events"],
        ["1", "attributions"],
        ["1", "associations"],
        ["1", "parent"],
        ["1", "properties"],
    ]
    assert [event.execution_id for event in store.get_events_by_artifact_ids([500])] == [1]
    assert -1 not in [artifact.id for artifact in store.get_artifacts_by_context(1)]
    assert 500 not in [context.id for context in store.get_parent_contexts_by_context(1)]


def test_nodes_without_a_type_and_types_of_one_name_are_counted(imported) -> None:  # type: ignore[no-untyped-def]
    store, report = imported(
        "INSERT INTO Type(name, type_kind) VALUES ('Plain', 1)",
        "UPDATE Artifact SET type_id = 999 WHERE id = 3",
    )
    assert report.warnings == [
        "1 nodes have a type that does not exist or is of another kind",
        "1 types bear the name and version of another one of their kind",
    ]
    (artifact,) = store.get_artifacts_by_id([3])
    assert artifact.type_id == 999
    assert not artifact.HasField("type")


def test_repeated_events_are_counted(imported) -> None:  # type: ignore[no-untyped-def]
    _, report = imported(
        "INSERT INTO Event SELECT 90 + id, artifact_id, execution_id, type, 7 FROM Event",
        database="mlmd-v7.db",
    )
    assert report.warnings == [
        "5 events repeat an artifact, execution and type and were left out for the newest one"
    ]


def test_ids_that_were_given_out_and_deleted_are_named(imported) -> None:  # type: ignore[no-untyped-def]
    store, report = imported("UPDATE sqlite_sequence SET seq = 40 WHERE name = 'Artifact'")
    (warning,) = report.warnings
    assert warning.startswith("ids 4 to 40 of table Artifact were given out")
    (artifact,) = store.get_artifacts_by_id([2])
    artifact.ClearField("id")
    artifact.name = "another"
    assert store.put_artifacts([artifact]) == [4]


def test_after_the_highest_id_there_is_none(imported) -> None:  # type: ignore[no-untyped-def]
    store, _ = imported(f"UPDATE Artifact SET id = {2**63 - 1} WHERE id = 3")
    (artifact,) = store.get_artifacts_by_id([2**63 - 1])
    artifact.ClearField("id")
    artifact.name, artifact.external_id = "another", "another"
    with pytest.raises(errors.ResourceExhaustedError, match="no id is left"):
        store.put_artifacts([artifact])


@pytest.mark.parametrize(
    ("statement", "where"),
    [
        ("UPDATE Type SET type_kind = 7 WHERE id = 11", "table Type, id 11"),
        ("UPDATE Type SET input_type = '{nope' WHERE name = 'Train'", "table Type, id 12"),
        ("UPDATE ParentType SET parent_type_id = 11 WHERE type_id = 10", "names Plain"),
        ("UPDATE ParentType SET parent_type_id = 999 WHERE type_id = 10", "names no type"),
        ("UPDATE Artifact SET type_id = 'x' WHERE id = 2", "table Artifact, id 2"),
        # A store with such ids could not be opened.
        ("UPDATE Artifact SET id = 0 WHERE id = 2", "table Artifact, id 0: ids are positive"),
        ("UPDATE Context SET type_id = 0 WHERE id = 1", "table Context, id 1: its type_id is 0"),
        ("UPDATE Type SET id = -1 WHERE id = 11", "table Type, id -1: ids are positive"),
        ("UPDATE Event SET id = -4 WHERE id = 2", "table Event, id -4: ids are positive"),
        ("UPDATE Event SET artifact_id = 'x' WHERE id = 2", "table Event, id 2"),
        ("UPDATE Attribution SET context_id = 'x' WHERE id = 2", "table Attribution, id 2"),
        (
            "UPDATE EventPath SET step_index = NULL, step_key = NULL",
            "table EventPath, id 1",
        ),
        (CUSTOM_INT.format("int_value = 'x'"), "table ArtifactProperty, id 1: property 'int'"),
        (CUSTOM_INT.format("int_value = 1.5"), "table ArtifactProperty, id 1: property 'int'"),
        (PROPERTY.format("proto_value = '!!'", "proto"), "id 1: property 'proto'"),
        (PROPERTY.format("proto_value = '/////w=='", "proto"), "id 1: property 'proto'"),
        ("UPDATE Artifact SET name = CAST(x'ff' AS TEXT) WHERE id = 1", "mlmd-v10.db"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(
    statement: str, where: str, changed: Change, tmp_path: Path
) -> None:
    database = changed(statement)
    with pytest.raises(errors.DataLossError) as raised:
        import_mlmd_database(database, tmp_path / "store")
    assert where in raised.value.message
    assert [path.name for path in tmp_path.iterdir()] == ["mlmd-v10.db"]
