"""The Arrow schemas of the log, and the typed columns that are derived from payloads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa

from eventstore.log import record as kinds
from eventstore.proto import metadata_store_pb2 as mlmd

VALUE_TYPE: Final = pa.struct(
    [
        ("int_value", pa.int64()),
        ("double_value", pa.float64()),
        ("string_value", pa.utf8()),
        ("bool_value", pa.bool_()),
        ("struct_value", pa.utf8()),
        ("proto_value", pa.binary()),
    ]
)
PROPERTIES_TYPE: Final = pa.map_(pa.utf8(), VALUE_TYPE)

_ENVELOPE: Final = [
    pa.field("position", pa.int64(), nullable=False),
    pa.field("commit", pa.int64(), nullable=False),
    pa.field("recorded_at", pa.timestamp("us", tz="UTC"), nullable=False),
    pa.field("kind", pa.utf8(), nullable=False),
    pa.field("entity_id", pa.int64(), nullable=False),
    pa.field("type_id", pa.int64()),
    pa.field("previous", pa.int64()),
    pa.field("actor", pa.utf8()),
    pa.field("reason", pa.utf8()),
    pa.field("request_id", pa.utf8()),
]
_DERIVED: Final = [
    pa.field("name", pa.utf8()),
    pa.field("external_id", pa.utf8()),
    pa.field("version", pa.utf8()),
    pa.field("uri", pa.utf8()),
    pa.field("state", pa.int32()),
    pa.field("create_time", pa.int64()),
    pa.field("update_time", pa.int64()),
    pa.field("artifact_id", pa.int64()),
    pa.field("execution_id", pa.int64()),
    pa.field("context_id", pa.int64()),
    pa.field("parent_context_id", pa.int64()),
    pa.field("event_type", pa.int32()),
    pa.field("event_time", pa.int64()),
    pa.field("properties", PROPERTIES_TYPE),
    pa.field("custom_properties", PROPERTIES_TYPE),
]
_CONTENT: Final = [
    pa.field("salt", pa.binary(16)),
    pa.field("commitment", pa.binary(32)),
    pa.field("payload", pa.binary()),
    pa.field("tree_head", pa.binary()),
]

# The last column on purpose: its 32 bytes are then the last of a commit's message.
_CHECKSUM: Final = pa.field("checksum", pa.binary())

ACTIVE_SCHEMA: Final = pa.schema([*_ENVELOPE, *_CONTENT, _CHECKSUM])
"""The columns of the active segment: envelope, content, and the checksum of each message."""

RECORD_SCHEMA: Final = pa.schema(_ENVELOPE + _DERIVED + _CONTENT)
"""The columns of a sealed segment: the derived ones as well."""

DERIVED_NAMES: Final = tuple(field.name for field in _DERIVED)

MESSAGES: Final[dict[str, Any]] = {
    kinds.ARTIFACT_TYPE: mlmd.ArtifactType,
    kinds.EXECUTION_TYPE: mlmd.ExecutionType,
    kinds.CONTEXT_TYPE: mlmd.ContextType,
    kinds.ARTIFACT: mlmd.Artifact,
    kinds.EXECUTION: mlmd.Execution,
    kinds.CONTEXT: mlmd.Context,
    kinds.EVENT: mlmd.Event,
    kinds.ATTRIBUTION: mlmd.Attribution,
    kinds.ASSOCIATION: mlmd.Association,
    kinds.PARENT_CONTEXT: mlmd.ParentContext,
}
"""The message that a kind's payload is the serialized form of."""

_NODE_KINDS: Final = frozenset((kinds.ARTIFACT, kinds.EXECUTION, kinds.CONTEXT))
_TYPE_KINDS: Final = frozenset((kinds.ARTIFACT_TYPE, kinds.EXECUTION_TYPE, kinds.CONTEXT_TYPE))


def with_derived_columns(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch of ACTIVE_SCHEMA completed to RECORD_SCHEMA."""
    derived = derive(batch.column("kind").to_pylist(), batch.column("payload").to_pylist())
    arrays = [
        derived[field.name] if field.name in derived else batch.column(field.name)
        for field in RECORD_SCHEMA
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=RECORD_SCHEMA)


def derive(record_kinds: Sequence[str], payloads: Sequence[bytes | None]) -> dict[str, pa.Array]:
    """The derived columns of these payloads by name; a payload of None (erased) gives nulls."""
    columns = _DerivedColumns(len(payloads))
    for row, (kind, payload) in enumerate(zip(record_kinds, payloads, strict=True)):
        if payload is None:
            columns.end_of_row()
            continue
        message = MESSAGES[kind].FromString(payload)
        if kind in _NODE_KINDS:
            columns.set_node(row, kind, message)
        elif kind in _TYPE_KINDS:
            columns.set_type(row, message)
        else:
            columns.set_link(row, kind, message)
        columns.end_of_row()
    return columns.arrays()


class _DerivedColumns:
    """Column lists in the making: plain columns filled by row, properties appended flat."""

    def __init__(self, rows: int) -> None:
        self._plain: dict[str, list[Any]] = {
            field.name: [None] * rows for field in _DERIVED if field.type != PROPERTIES_TYPE
        }
        self._maps = {"properties": _PropertyMaps(), "custom_properties": _PropertyMaps()}

    def set_node(self, row: int, kind: str, node: Any) -> None:
        plain = self._plain
        if node.HasField("name"):
            plain["name"][row] = node.name
        if node.HasField("external_id"):
            plain["external_id"][row] = node.external_id
        if kind == kinds.ARTIFACT:
            plain["uri"][row] = node.uri
            if node.HasField("state"):
                plain["state"][row] = node.state
        elif kind == kinds.EXECUTION and node.HasField("last_known_state"):
            plain["state"][row] = node.last_known_state
        plain["create_time"][row] = node.create_time_since_epoch
        plain["update_time"][row] = node.last_update_time_since_epoch
        self._maps["properties"].add(node.properties)
        self._maps["custom_properties"].add(node.custom_properties)

    def set_type(self, row: int, node_type: Any) -> None:
        self._plain["name"][row] = node_type.name
        if node_type.HasField("external_id"):
            self._plain["external_id"][row] = node_type.external_id
        if node_type.HasField("version"):
            self._plain["version"][row] = node_type.version

    def set_link(self, row: int, kind: str, link: Any) -> None:
        plain = self._plain
        if kind == kinds.PARENT_CONTEXT:
            plain["context_id"][row] = link.child_id
            plain["parent_context_id"][row] = link.parent_id
        elif kind == kinds.ATTRIBUTION:
            plain["context_id"][row] = link.context_id
            plain["artifact_id"][row] = link.artifact_id
        elif kind == kinds.ASSOCIATION:
            plain["context_id"][row] = link.context_id
            plain["execution_id"][row] = link.execution_id
        else:
            plain["artifact_id"][row] = link.artifact_id
            plain["execution_id"][row] = link.execution_id
            plain["event_type"][row] = link.type
            plain["event_time"][row] = link.milliseconds_since_epoch

    def end_of_row(self) -> None:
        for maps in self._maps.values():
            maps.end_of_row()

    def arrays(self) -> dict[str, pa.Array]:
        arrays = {
            field.name: pa.array(self._plain[field.name], field.type)
            for field in _DERIVED
            if field.name in self._plain
        }
        return arrays | {name: maps.array() for name, maps in self._maps.items()}


class _PropertyMaps:
    """One map column: the entries of all rows in a flat row of lists, and where each row ends."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._values: dict[str, list[Any]] = {field.name: [] for field in VALUE_TYPE}
        self._columns = list(self._values.values())
        self._members = list(self._values)
        self._offsets: list[int] = [0]

    def add(self, properties: Any) -> None:
        # Sorted, so that the column does not depend on the order of a protobuf map.
        for name in sorted(properties):
            value = properties[name]
            member = value.WhichOneof("value")
            self._names.append(name)
            for column, column_member in zip(self._columns, self._members, strict=True):
                if member != column_member:
                    column.append(None)
                elif member == "struct_value":
                    column.append(json.dumps(_plain_struct(value.struct_value), sort_keys=True))
                elif member == "proto_value":
                    column.append(value.proto_value.SerializeToString(deterministic=True))
                else:
                    column.append(getattr(value, member))

    def end_of_row(self) -> None:
        self._offsets.append(len(self._names))

    def array(self) -> pa.MapArray:
        values = pa.StructArray.from_arrays(
            [pa.array(self._values[field.name], field.type) for field in VALUE_TYPE],
            fields=list(VALUE_TYPE),
        )
        offsets = pa.array(self._offsets, pa.int32())
        return pa.MapArray.from_arrays(offsets, pa.array(self._names, pa.utf8()), values)


def _plain_struct(struct: Any) -> dict[str, Any]:
    return {name: _plain_value(value) for name, value in struct.fields.items()}


def _plain_value(value: Any) -> Any:
    # Not protobuf's own JSON: it refuses a NaN or an infinity, which a put accepts.
    member = value.WhichOneof("kind")
    if member == "struct_value":
        return _plain_struct(value.struct_value)
    if member == "list_value":
        return [_plain_value(element) for element in value.list_value.values]
    return None if member in (None, "null_value") else getattr(value, member)
