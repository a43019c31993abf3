"""Rows of an MLMD database as the messages that MLMD's own gets answer them with.

What MLMD reads with a shrug is read so here and counted; a row at which its gets fail is an error.
"""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.message import DecodeError

from eventstore.importing.mlmd_database import MlmdDatabase
from eventstore.importing.mlmd_source import Row
from eventstore.log import record as kind_names
from eventstore.proto import metadata_store_pb2 as mlmd

PROPERTIES_WITHOUT_VALUE: Final = "properties had no value and were left out"
UNKNOWN_ENUM_VALUES: Final = "states, event types or property types have a number without a name"
"""What the reader counts in `noticed`, worded to follow the number."""

_STRUCT_PREFIX: Final = "mlmd-struct::"
_NULL_TEXT: Final = "__MLMD_NULL__"
"""What MLMD's own reads take for NULL in a name or uri."""

_TYPE_KINDS: Final = {
    0: kind_names.EXECUTION_TYPE,
    1: kind_names.ARTIFACT_TYPE,
    2: kind_names.CONTEXT_TYPE,
}
_TYPE_MESSAGES: Final[dict[str, Any]] = {
    kind_names.EXECUTION_TYPE: mlmd.ExecutionType,
    kind_names.ARTIFACT_TYPE: mlmd.ArtifactType,
    kind_names.CONTEXT_TYPE: mlmd.ContextType,
}
_NODES: Final[dict[str, tuple[Any, str, str | None]]] = {
    kind_names.ARTIFACT: (mlmd.Artifact, "Artifact", "state"),
    kind_names.EXECUTION: (mlmd.Execution, "Execution", "last_known_state"),
    kind_names.CONTEXT: (mlmd.Context, "Context", None),
}
_STATES: Final = {
    kind_names.ARTIFACT: frozenset(mlmd.Artifact.State.values()),
    kind_names.EXECUTION: frozenset(mlmd.Execution.State.values()),
}
_EVENT_TYPES: Final = frozenset(mlmd.Event.Type.values())
_PROPERTY_TYPES: Final = frozenset(mlmd.PropertyType.values())
_LINKS: Final[dict[str, tuple[Any, str]]] = {
    kind_names.ATTRIBUTION: (mlmd.Attribution, "Attribution"),
    kind_names.ASSOCIATION: (mlmd.Association, "Association"),
}


class MlmdReader:
    """Reads types, nodes and links by their row ids; `types` must be read first.

    `noticed` counts what MLMD reads and a reader may stumble over.
    """

    def __init__(self, database: MlmdDatabase) -> None:
        self._database = database
        self._types: dict[int, Any] = {}
        self.noticed: Counter[str] = Counter()

    def types(self) -> list[tuple[str, Any]]:
        """Every type as (record kind, message), by id ascending."""
        properties: dict[int, list[Row]] = {}
        for row in self._database.rows("SELECT type_id, name, data_type FROM TypeProperty"):
            properties.setdefault(row["type_id"], []).append(row)
        base_types = {
            row["type_id"]: row["name"]
            for row in self._database.rows(
                """
                SELECT link.type_id, parent.name
                FROM {ParentType} AS link
                LEFT JOIN Type AS parent ON parent.id = link.parent_type_id
                """
            )
        }
        self._types.clear()
        found = []
        for row in self._database.rows(f"{self._database.table('Type')} ORDER BY id"):
            kind = _TYPE_KINDS.get(row["type_kind"])
            if kind is None:
                raise self._database.damaged(
                    "Type", row["id"], f"type_kind is {row['type_kind']!r}"
                )
            try:
                message = self._type(kind, row, properties.get(row["id"], []))
                if kind != kind_names.CONTEXT_TYPE and row["id"] in base_types:
                    message.base_type = _base_type(message, base_types[row["id"]])
            except (TypeError, ValueError, json_format.ParseError) as error:
                raise self._database.damaged("Type", row["id"], error) from None
            self._types[row["id"]] = message
            found.append((kind, message))
        return found

    def read(self, kind: str, ids: list[int]) -> dict[int, Any]:
        """The messages of these rows of one kind of node or link, by row id."""
        if kind in _NODES:
            return self._nodes(kind, ids)
        if kind == kind_names.EVENT:
            return self._events(ids)
        message_class, table = _LINKS[kind]
        links = {}
        for row in self._rows(table, "id", ids):
            fields = dict(row)
            row_id = fields.pop("id")
            try:
                links[row_id] = message_class(**fields)
            except (TypeError, ValueError) as error:
                raise self._database.damaged(table, row_id, error) from None
        return links

    def _type(self, kind: str, row: Row, properties: Iterable[Row]) -> Any:
        message = _TYPE_MESSAGES[kind](id=row["id"], name=row["name"])
        # An empty version is none.
        _set(message, "version", row["version"] or None)
        _set(message, "description", row["description"])
        _set(message, "external_id", row["external_id"])
        for declared in properties:
            message.properties[declared["name"]] = (
                self._enum_value(_PROPERTY_TYPES, declared["data_type"]) or mlmd.UNKNOWN
            )
        if kind == kind_names.EXECUTION_TYPE:
            for column in ("input_type", "output_type"):
                if row[column]:
                    json_format.Parse(row[column], getattr(message, column))
        return message

    def _nodes(self, kind: str, ids: list[int]) -> dict[int, Any]:
        _, table, _ = _NODES[kind]
        nodes = {}
        for row in self._rows(table, "id", ids):
            try:
                nodes[row["id"]] = self._node(kind, row)
            except (TypeError, ValueError) as error:
                raise self._database.damaged(table, row["id"], error) from None
        for row in self._rows(f"{table}Property", f"{kind}_id", list(nodes)):
            try:
                self._set_property(nodes[row[f"{kind}_id"]], row)
            except (TypeError, ValueError, DecodeError) as error:
                raise self._database.damaged(
                    f"{table}Property", row[f"{kind}_id"], f"property {row['name']!r}: {error}"
                ) from None
        return nodes

    def _node(self, kind: str, row: Row) -> Any:
        message_class, _, state_field = _NODES[kind]
        node = message_class(
            id=row["id"],
            type_id=row["type_id"],
            create_time_since_epoch=row["create_time_since_epoch"],
            last_update_time_since_epoch=row["last_update_time_since_epoch"],
        )
        node_type = self._types.get(row["type_id"])
        if node_type is not None:
            node.type = node_type.name
        _set(node, "name", row["name"])
        _set(node, "external_id", row["external_id"])
        if kind == kind_names.ARTIFACT:
            _set(node, "uri", row["uri"])
        if state_field is not None and row[state_field] is not None:
            state = self._enum_value(_STATES[kind], row[state_field])
            if state is not None:
                setattr(node, state_field, state)
        return node

    def _set_property(self, node: Any, row: Row) -> None:
        is_custom = bool(row["is_custom_property"])
        values = node.custom_properties if is_custom else node.properties
        value = values[row["name"]]
        if row["int_value"] is not None:
            value.int_value = row["int_value"]
        elif row["double_value"] is not None:
            value.double_value = row["double_value"]
        elif row["string_value"] is not None:
            text = row["string_value"]
            struct = None
            if is_custom or self._declared(node, row["name"]) != mlmd.STRING:
                struct = _decoded_struct(text)
            if struct is None:
                value.string_value = text
            else:
                value.struct_value.CopyFrom(struct)
        elif row["proto_value"] is not None:
            value.proto_value.MergeFromString(base64.b64decode(row["proto_value"], validate=True))
        elif row["bool_value"] is not None:
            value.bool_value = bool(row["bool_value"])
        else:
            # What a downgrade of the database leaves of kinds of values that the older schema
            # lacks.
            del values[row["name"]]
            self.noticed[PROPERTIES_WITHOUT_VALUE] += 1

    def _declared(self, node: Any, name: str) -> int | None:
        node_type = self._types.get(node.type_id)
        if node_type is None or name not in node_type.properties:
            return None
        declared: int = node_type.properties[name]
        return declared

    def _events(self, ids: list[int]) -> dict[int, Any]:
        events = {}
        for row in self._rows("Event", "id", ids):
            try:
                events[row["id"]] = mlmd.Event(
                    artifact_id=row["artifact_id"],
                    execution_id=row["execution_id"],
                    type=self._enum_value(_EVENT_TYPES, row["type"]),
                    milliseconds_since_epoch=row["milliseconds_since_epoch"],
                )
            except (TypeError, ValueError) as error:
                raise self._database.damaged("Event", row["id"], error) from None
        # Steps have no column that orders them: they were inserted in order.
        for row in self._rows("EventPath", "event_id", ids, self._database.source.steps_in_order):
            step = events[row["event_id"]].path.steps.add()
            try:
                if row["is_index_step"]:
                    step.index = row["step_index"]
                else:
                    step.key = row["step_key"]
            except TypeError as error:
                raise self._database.damaged("EventPath", row["event_id"], error) from None
        return events

    def _enum_value(self, known: frozenset[int], number: int) -> Any:
        """A number that the enum knows; MLMD reads any other as if the field were not set."""
        if number in known:
            return number
        self.noticed[UNKNOWN_ENUM_VALUES] += 1
        return None

    def _rows(self, table: str, column: str, ids: list[int], order_by: str = "") -> Sequence[Row]:
        return self._database.rows(
            f"{self._database.table(table)} WHERE {column} IN :ids {order_by}", ids=ids
        )


def parent_context(child_id: int, parent_id: int) -> Any:
    return mlmd.ParentContext(child_id=child_id, parent_id=parent_id)


def _base_type(message: Any, name: str | None) -> int:
    """The number of the system type `name` among those of the message's kind."""
    for value in message.SystemDefinedBaseType.DESCRIPTOR.values:
        if value.GetOptions().Extensions[mlmd.system_type_extension].type_name == name:
            number: int = value.number
            return number
    raise ValueError(f"its row in table ParentType names {name or 'no type'}, not a system type")


def _set(message: Any, field: str, value: str | None) -> None:
    if value is not None and value != _NULL_TEXT:
        setattr(message, field, value)


def _decoded_struct(text: str) -> Any:
    """The struct that MLMD keeps in a string; None for a string that is just that."""
    if not text.startswith(_STRUCT_PREFIX):
        return None
    value = mlmd.Value()
    try:
        value.struct_value.MergeFromString(
            base64.b64decode(text.removeprefix(_STRUCT_PREFIX), validate=True)
        )
    except (binascii.Error, DecodeError):
        return None
    return value.struct_value
