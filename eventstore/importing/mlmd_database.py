"""Read MLMD's SQLite schema, versions 6 to 10, as the messages that its own gets answer."""

from __future__ import annotations

import base64
import binascii
import json
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.message import DecodeError

from eventstore import errors
from eventstore.log import record as kinds
from eventstore.proto import metadata_store_pb2 as mlmd

SCHEMA_VERSIONS: Final = range(6, 11)

_STRUCT_PREFIX: Final = "mlmd-struct::"
_NULL_TEXT: Final = "__MLMD_NULL__"
"""What MLMD's own reads take for NULL in a name or uri."""

_TYPE_KINDS: Final = {0: kinds.EXECUTION_TYPE, 1: kinds.ARTIFACT_TYPE, 2: kinds.CONTEXT_TYPE}
_TYPE_MESSAGES: Final[dict[str, Any]] = {
    kinds.EXECUTION_TYPE: mlmd.ExecutionType,
    kinds.ARTIFACT_TYPE: mlmd.ArtifactType,
    kinds.CONTEXT_TYPE: mlmd.ContextType,
}
_BASE_TYPES: Final = {
    "mlmd.Dataset": mlmd.ArtifactType.DATASET,
    "mlmd.Model": mlmd.ArtifactType.MODEL,
    "mlmd.Metrics": mlmd.ArtifactType.METRICS,
    "mlmd.Statistics": mlmd.ArtifactType.STATISTICS,
    "mlmd.Train": mlmd.ExecutionType.TRAIN,
    "mlmd.Transform": mlmd.ExecutionType.TRANSFORM,
    "mlmd.Process": mlmd.ExecutionType.PROCESS,
    "mlmd.Evaluate": mlmd.ExecutionType.EVALUATE,
    "mlmd.Deploy": mlmd.ExecutionType.DEPLOY,
}
_NODES: Final[dict[str, tuple[Any, str, str | None]]] = {
    kinds.ARTIFACT: (mlmd.Artifact, "Artifact", "state"),
    kinds.EXECUTION: (mlmd.Execution, "Execution", "last_known_state"),
    kinds.CONTEXT: (mlmd.Context, "Context", None),
}
_OPTIONAL_COLUMNS: Final = {
    "external_id",
    "byte_value",
    "proto_value",
    "bool_value",
}
"""Columns that some of the supported schema versions lack."""

_TIMELINE: Final = """
SELECT 'context' AS kind, id, create_time_since_epoch AS moment, 0 AS rank FROM Context
UNION ALL
SELECT 'artifact', id, create_time_since_epoch, 1 FROM Artifact
UNION ALL
SELECT 'execution', id, create_time_since_epoch, 2 FROM Execution
UNION ALL
SELECT 'parent_context', link.rowid,
       max(coalesce(child.create_time_since_epoch, 0), coalesce(parent.create_time_since_epoch, 0)),
       3
FROM ParentContext AS link
LEFT JOIN Context AS child ON child.id = link.context_id
LEFT JOIN Context AS parent ON parent.id = link.parent_context_id
UNION ALL
SELECT 'attribution', link.id,
       max(coalesce(c.create_time_since_epoch, 0), coalesce(a.create_time_since_epoch, 0)), 4
FROM Attribution AS link
LEFT JOIN Context AS c ON c.id = link.context_id
LEFT JOIN Artifact AS a ON a.id = link.artifact_id
UNION ALL
SELECT 'association', link.id,
       max(coalesce(c.create_time_since_epoch, 0), coalesce(e.create_time_since_epoch, 0)), 5
FROM Association AS link
LEFT JOIN Context AS c ON c.id = link.context_id
LEFT JOIN Execution AS e ON e.id = link.execution_id
UNION ALL
SELECT 'event', max(event.id),
       max(coalesce(event.milliseconds_since_epoch, 0),
           coalesce(a.create_time_since_epoch, 0), coalesce(e.create_time_since_epoch, 0)), 6
FROM Event AS event
LEFT JOIN Artifact AS a ON a.id = event.artifact_id
LEFT JOIN Execution AS e ON e.id = event.execution_id
GROUP BY event.artifact_id, event.execution_id, event.type
ORDER BY moment, rank, 2
"""


class MlmdDatabase:
    """An MLMD database, open to read. The database is not changed."""

    def __init__(self, path: Path) -> None:
        """Raises NotFoundError, or FailedPreconditionError when it is no database to import."""
        if not path.is_file():
            raise errors.NotFoundError(f"there is no file {path}: check the path")
        self.path = path
        uri = f"{path.absolute().as_uri()}?mode=ro"
        try:
            self._connection = sqlite3.connect(uri, uri=True)
            self._connection.row_factory = sqlite3.Row
            self.schema_version = self._schema_version()
        except sqlite3.Error as error:
            raise errors.FailedPreconditionError(
                f"{path} cannot be read as an SQLite database: {error}"
            ) from None
        if self.schema_version not in SCHEMA_VERSIONS:
            self.close()
            raise errors.FailedPreconditionError(
                f"{path} has MLMD schema version {self.schema_version}; versions "
                f"{SCHEMA_VERSIONS[0]} to {SCHEMA_VERSIONS[-1]} can be imported: bring it to "
                "one of them with ml-metadata (enable_upgrade_migration, downgrade_schema)"
            )
        self._types: dict[int, Any] = {}
        self.properties_without_value = 0

    def close(self) -> None:
        self._connection.close()

    def count(self) -> int:
        """How many types, nodes and links there are, duplicate events of old schemas included."""
        tables = (
            "Type",
            "Artifact",
            "Execution",
            "Context",
            "ParentContext",
            "Attribution",
            "Association",
            "Event",
        )
        return sum(
            self._connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in tables
        )

    def types(self) -> list[tuple[str, Any]]:
        """Every type as (record kind, message), by id ascending."""
        properties: dict[int, list[sqlite3.Row]] = {}
        for row in self._connection.execute("SELECT * FROM TypeProperty"):
            properties.setdefault(row["type_id"], []).append(row)
        base_types = dict(
            self._connection.execute(
                """
                SELECT link.type_id, parent.name
                FROM ParentType AS link JOIN Type AS parent ON parent.id = link.parent_type_id
                """
            ).fetchall()
        )
        found = []
        for row in self._connection.execute("SELECT * FROM Type ORDER BY id"):
            kind = _TYPE_KINDS.get(row["type_kind"])
            if kind is None:
                raise self._damaged("Type", row["id"], f"type_kind is {row['type_kind']}")
            message = _TYPE_MESSAGES[kind](id=row["id"], name=row["name"])
            for column in ("version", "description", "external_id"):
                _set(message, column, _column(row, column))
            if not message.version:
                message.ClearField("version")
            for declared in properties.get(row["id"], []):
                message.properties[declared["name"]] = declared["data_type"]
            if base_types.get(row["id"]) in _BASE_TYPES:
                message.base_type = _BASE_TYPES[base_types[row["id"]]]
            if kind == kinds.EXECUTION_TYPE:
                for column in ("input_type", "output_type"):
                    if row[column]:
                        json_format.Parse(row[column], getattr(message, column))
            self._types[row["id"]] = message
            found.append((kind, message))
        return found

    def timeline(self) -> Iterator[tuple[str, int]]:
        """(record kind, row id) of every node and link, in the order in which they came to be.

        That is by creation time; a link comes to be with the younger of its ends, an event not
        before its own time. At one moment nodes precede links, and ids ascend.
        """
        for row in self._connection.execute(_TIMELINE):
            yield row[0], row[1]

    def read(self, kind: str, ids: list[int]) -> dict[int, Any]:
        """The messages of these rows of one kind, by row id."""
        if kind in _NODES:
            return self._nodes(kind, ids)
        if kind == kinds.EVENT:
            return self._events(ids)
        return self._links(kind, ids)

    def highest_given_ids(self) -> dict[str, int]:
        """The highest id that SQLite has ever given out in each table, by table name."""
        rows = self._connection.execute("SELECT name, seq FROM sqlite_sequence")
        return {row["name"]: row["seq"] for row in rows}

    def _schema_version(self) -> int:
        tables = {
            row[0]
            for row in self._connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table'"
            )
        }
        if "MLMDEnv" not in tables:
            raise errors.FailedPreconditionError(
                f"{self.path} is an SQLite database, but not one of MLMD's: it has no table MLMDEnv"
            )
        rows = self._connection.execute("SELECT schema_version FROM MLMDEnv").fetchall()
        if len(rows) != 1:
            raise errors.DataLossError(
                f"{self.path} has {len(rows)} rows in table MLMDEnv where one belongs"
            )
        version: int = rows[0][0]
        return version

    def _nodes(self, kind: str, ids: list[int]) -> dict[int, Any]:
        message_class, table, state_field = _NODES[kind]
        nodes = {}
        for row in self._rows(
            f"SELECT * FROM {table} WHERE id IN (SELECT value FROM json_each(?))", ids
        ):
            node = message_class(
                id=row["id"],
                type_id=row["type_id"],
                create_time_since_epoch=row["create_time_since_epoch"],
                last_update_time_since_epoch=row["last_update_time_since_epoch"],
            )
            if row["type_id"] in self._types:
                node.type = self._types[row["type_id"]].name
            _set(node, "name", _column(row, "name"))
            _set(node, "external_id", _column(row, "external_id"))
            if kind == kinds.ARTIFACT:
                _set(node, "uri", row["uri"])
            if state_field is not None and row[state_field] is not None:
                self._set_state(node, state_field, row, table)
            nodes[row["id"]] = node
        properties = f"""
        SELECT *, {kind}_id AS node_id FROM {table}Property
        WHERE {kind}_id IN (SELECT value FROM json_each(?))
        """
        for row in self._rows(properties, ids):
            self._set_property(nodes[row["node_id"]], row, table)
        return nodes

    def _set_state(self, node: Any, state_field: str, row: sqlite3.Row, table: str) -> None:
        try:
            setattr(node, state_field, row[state_field])
        except ValueError:
            raise self._damaged(table, row["id"], f"state is {row[state_field]}") from None

    def _set_property(self, node: Any, row: sqlite3.Row, table: str) -> None:
        is_custom = bool(row["is_custom_property"])
        value = (node.custom_properties if is_custom else node.properties)[row["name"]]
        declared = None
        if not is_custom and node.type_id in self._types:
            declared = self._types[node.type_id].properties.get(row["name"])
        text = row["string_value"]
        if row["int_value"] is not None:
            value.int_value = row["int_value"]
        elif row["double_value"] is not None:
            value.double_value = row["double_value"]
        elif text is not None:
            struct = None if declared == mlmd.STRING else _decoded_struct(text)
            if struct is None:
                value.string_value = text
            else:
                value.struct_value.MergeFromString(struct)
        elif _column(row, "proto_value") is not None:
            try:
                value.proto_value.MergeFromString(base64.b64decode(row["proto_value"]))
            except (binascii.Error, DecodeError) as error:
                raise self._damaged(
                    f"{table}Property", node.id, f"proto_value of {row['name']!r}: {error}"
                ) from None
        elif _column(row, "bool_value") is not None:
            value.bool_value = bool(row["bool_value"])
        else:
            # What a downgrade of the database leaves of the kinds of value that it does not know.
            del (node.custom_properties if is_custom else node.properties)[row["name"]]
            self.properties_without_value += 1

    def _events(self, ids: list[int]) -> dict[int, Any]:
        events = {}
        for row in self._rows(
            "SELECT * FROM Event WHERE id IN (SELECT value FROM json_each(?))", ids
        ):
            try:
                event = mlmd.Event(
                    artifact_id=row["artifact_id"],
                    execution_id=row["execution_id"],
                    type=row["type"],
                    milliseconds_since_epoch=row["milliseconds_since_epoch"],
                )
            except ValueError:
                raise self._damaged("Event", row["id"], f"type is {row['type']}") from None
            events[row["id"]] = event
        steps = """
        SELECT * FROM EventPath WHERE event_id IN (SELECT value FROM json_each(?)) ORDER BY rowid
        """
        for row in self._rows(steps, ids):
            step = events[row["event_id"]].path.steps.add()
            if row["is_index_step"]:
                step.index = row["step_index"]
            else:
                step.key = row["step_key"]
        return events

    def _links(self, kind: str, ids: list[int]) -> dict[int, Any]:
        if kind == kinds.ATTRIBUTION:
            rows = self._rows(
                "SELECT * FROM Attribution WHERE id IN (SELECT value FROM json_each(?))", ids
            )
            return {
                row["id"]: mlmd.Attribution(
                    context_id=row["context_id"], artifact_id=row["artifact_id"]
                )
                for row in rows
            }
        if kind == kinds.ASSOCIATION:
            rows = self._rows(
                "SELECT * FROM Association WHERE id IN (SELECT value FROM json_each(?))", ids
            )
            return {
                row["id"]: mlmd.Association(
                    context_id=row["context_id"], execution_id=row["execution_id"]
                )
                for row in rows
            }
        rows = self._rows(
            """
            SELECT rowid AS id, * FROM ParentContext
            WHERE rowid IN (SELECT value FROM json_each(?))
            """,
            ids,
        )
        return {
            row["id"]: mlmd.ParentContext(
                child_id=row["context_id"], parent_id=row["parent_context_id"]
            )
            for row in rows
        }

    def _rows(self, sql: str, ids: Iterable[int]) -> list[sqlite3.Row]:
        return self._connection.execute(sql, [json.dumps(list(ids))]).fetchall()

    def _damaged(self, table: str, row_id: int, what: str) -> errors.DataLossError:
        return errors.DataLossError(
            f"{self.path}, table {table}, id {row_id}: {what}; mend the row and import again"
        )


def _column(row: sqlite3.Row, name: str) -> Any:
    """A column's value, None in a schema that has no such column."""
    if name in _OPTIONAL_COLUMNS and name not in row.keys():  # noqa: SIM118
        return None
    return row[name]


def _set(message: Any, field: str, value: str | None) -> None:
    if value is not None and value != _NULL_TEXT:
        setattr(message, field, value)


def _decoded_struct(text: str) -> bytes | None:
    """The serialized struct that MLMD keeps in a string; None for a string that is just that."""
    if not text.startswith(_STRUCT_PREFIX):
        return None
    try:
        return base64.b64decode(text.removeprefix(_STRUCT_PREFIX), validate=True)
    except binascii.Error:
        return None
