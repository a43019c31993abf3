"""Values at their edges come out of an SQLite database as they are in it, and stay so."""

from __future__ import annotations

import base64
import math
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import eventstore
from eventstore.importing import import_mlmd_database
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.edge_values import nested
from tests.importing.conftest import Change

_STRUCT_LEVELS = 20

DOUBLES = [0.0, -0.0, 5e-324, -1.7976931348623157e308, math.inf, -math.inf, 9007199254740993.0]
INTS = [0, -1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63)]
TEXTS = ["", "\0", "a\0b", "\ufeff\uffff", "e\u0301", "'\"`\\%_", "ä" * 32_768, "x" * 65_536]


def _struct(value: mlmd.Value) -> str:
    content = value.struct_value.SerializeToString()
    return "mlmd-struct::" + base64.b64encode(content).decode()


@pytest.fixture
def source(changed: Change) -> Path:
    path = changed("DELETE FROM ArtifactProperty WHERE artifact_id = 1 AND is_custom_property = 1")
    rows: list[tuple[Any, ...]] = []
    for column, values in (("int", INTS), ("double", DOUBLES), ("string", TEXTS)):
        for number, value in enumerate(values):
            cells = [value if column == of else None for of in ("int", "double", "string")]
            rows.append((f"{column} {number}", *cells))
    rows.append(("struct", None, None, _struct(nested(_STRUCT_LEVELS))))
    rows.append(("", 1, None, None))
    rows.append(("a\0b", 2, None, None))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            "INSERT INTO ArtifactProperty (artifact_id, name, is_custom_property, int_value,"
            " double_value, string_value) VALUES (1, ?, 1, ?, ?, ?)",
            rows,
        )
        # SQLite has no NaN: it makes NULL of it, which is no value.
        connection.execute(
            "INSERT INTO ArtifactProperty (artifact_id, name, is_custom_property, double_value)"
            " VALUES (1, 'nan', 1, ?)",
            [math.nan],
        )
        connection.execute(
            "UPDATE Artifact SET uri = ?, create_time_since_epoch = ?,"
            " last_update_time_since_epoch = ? WHERE id = 1",
            [TEXTS[-1], 2**63 - 1, -(2**63)],
        )
    return path


def test_edge_values_are_imported_and_read_again_by_every_way(source: Path, tmp_path: Path) -> None:
    import_mlmd_database(source, tmp_path / "store")
    with eventstore.open(tmp_path / "store") as store:
        (artifact,) = store.get_artifacts_by_id([1])
        found = artifact.custom_properties
        assert [found[f"int {n}"].int_value for n in range(len(INTS))] == INTS
        assert [found[f"double {n}"].double_value for n in range(len(DOUBLES))] == DOUBLES
        assert [found[f"string {n}"].string_value for n in range(len(TEXTS))] == TEXTS
        assert all(found[f"string {n}"].HasField("string_value") for n in range(len(TEXTS)))
        assert found["struct"] == nested(_STRUCT_LEVELS)
        assert (found[""].int_value, found["a\0b"].int_value) == (1, 2)
        assert "nan" not in found
        assert artifact.uri == TEXTS[-1]
        assert artifact.create_time_since_epoch == 2**63 - 1
        assert artifact.last_update_time_since_epoch == -(2**63)
        (known,) = store.history("artifact", 1)
        assert known.message == artifact
        store.verify()
        rows = store.sql(
            "SELECT name, int_value, double_value, string_value FROM properties "
            "WHERE kind = 'artifact' AND node_id = 1 AND is_custom"
        ).rows()
        by_name = {name: values for name, *values in rows}
        assert [by_name[f"int {n}"][0] for n in range(len(INTS))] == INTS
        assert [by_name[f"double {n}"][1] for n in range(len(DOUBLES))] == DOUBLES
        assert [by_name[f"string {n}"][2] for n in range(len(TEXTS))] == TEXTS
        query = "custom_properties.`int 5`.int_value = -9223372036854775808"
        assert [a.id for a in store.get_artifacts(eventstore.ListOptions(filter_query=query))] == [
            1
        ]
        changed = mlmd.Artifact()
        changed.CopyFrom(artifact)
        changed.custom_properties["more"].int_value = 1
        store.put_artifacts([changed])
        (read,) = store.get_artifacts_by_id([1])
        assert read.custom_properties == changed.custom_properties
