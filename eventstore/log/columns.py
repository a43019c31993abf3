"""The Arrow schemas of the log, and the typed columns that are derived from payloads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Any, Final

import pyarrow as pa

from eventstore import errors
from eventstore.log.arrow_values import array_of
from eventstore.log.kinds import ARTIFACT, KINDS, Kind, LinkKind, NodeKind, RetentionKind
from eventstore.log.readable import UNREADABLE, readable
from eventstore.plain_values import struct_json

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
_SALT: Final = pa.field("salt", pa.binary(16))
_COMMITMENT: Final = pa.field("commitment", pa.binary(32))
_PAYLOAD: Final = pa.field("payload", pa.binary())
_WHO_SALT: Final = pa.field("who_salt", pa.binary(16))
_WHO_COMMITMENT: Final = pa.field("who_commitment", pa.binary(32))
_TREE_HEAD: Final = pa.field("tree_head", pa.binary())

# The last column on purpose: its 32 bytes are then the last of a commit's message.
_CHECKSUM: Final = pa.field("checksum", pa.binary())

ACTIVE_SCHEMA: Final = pa.schema(
    [*_ENVELOPE, _SALT, _PAYLOAD, _WHO_SALT, _TREE_HEAD, _CHECKSUM],
)
"""The columns of the active segment, in which nothing is erased: with each message's checksum."""

RECORD_SCHEMA: Final = pa.schema(
    [
        *(*_ENVELOPE, *_DERIVED),
        *(_SALT, _COMMITMENT, _PAYLOAD, _WHO_SALT, _WHO_COMMITMENT, _TREE_HEAD),
    ]
)
"""The columns of a sealed segment: the derived ones and the commitments as well."""

DERIVED_NAMES: Final = tuple(field.name for field in _DERIVED)
_COMMITMENTS: Final = (_COMMITMENT, _WHO_COMMITMENT)

# A text that is not UTF-8 comes out of a message as bytes, which is then no text to Arrow.
_NOT_DERIVABLE: Final = (*UNREADABLE, pa.ArrowInvalid, pa.ArrowTypeError, TypeError)


def one_batch(batches: Iterable[pa.RecordBatch]) -> pa.RecordBatch:
    """At least one batch, as one. `pyarrow.concat_batches` is missing before Arrow 19."""
    parts = list(batches)
    if len(parts) == 1:
        return parts[0]
    merged = pa.Table.from_batches(parts).combine_chunks().to_batches()
    return merged[0] if merged else parts[0]


def release_unused() -> None:
    """Give back what was freed, once much was: Arrow would take more for what comes next."""
    pa.default_memory_pool().release_unused()


_Visit = Callable[[int, Any], None]


def needs_derived_columns(names: Iterable[str]) -> bool:
    """Whether columns of these names are not all at hand without looking into payloads."""
    return not set(names).isdisjoint(DERIVED_NAMES)


def with_commitments(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch with the columns of commitments; they are added empty where it lacks them."""
    for field in _COMMITMENTS:
        if field.name not in batch.schema.names:
            batch = batch.append_column(field, pa.nulls(batch.num_rows, field.type))
    return batch


def with_derived_columns(batch: pa.RecordBatch, visit: _Visit | None = None) -> pa.RecordBatch:
    """A batch that has at least the columns of ACTIVE_SCHEMA, completed to RECORD_SCHEMA.

    `visit` is called as by `derive`.

    Raises DataLossError that names a record which cannot be decoded.
    """
    record_kinds, payloads = batch.column("kind").to_pylist(), batch.column("payload").to_pylist()
    try:
        derived = derive(record_kinds, payloads, visit)
    except (*_NOT_DERIVABLE, KeyError) as error:
        for row, (kind, payload) in enumerate(zip(record_kinds, payloads, strict=True)):
            if not decodes(kind, payload):
                raise errors.DataLossError(
                    f"the record at position {batch.column('position')[row]} is damaged: it does "
                    f"not decode ({error}); run `eventstore verify` and restore its segment from a "
                    "backup"
                ) from None
        raise
    batch = with_commitments(batch)
    arrays = [
        derived[field.name] if field.name in derived else batch.column(field.name)
        for field in RECORD_SCHEMA
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=RECORD_SCHEMA)


def derive(
    record_kinds: Sequence[str], payloads: Sequence[bytes | None], visit: _Visit | None = None
) -> dict[str, pa.Array]:
    """The derived columns of these payloads by name; a payload of None (erased) gives nulls.

    `visit` is called, if need be more than once, with the row and the message of each payload.
    """
    try:
        return _derived(record_kinds, payloads, visit)
    except _NOT_DERIVABLE:
        # An older version appended what this one refuses: columns have what can be read of it.
        return _derived(record_kinds, [*map(_derivable, record_kinds, payloads)], visit)


def decodes(kind: str, payload: bytes | None) -> bool:
    """Whether columns can be derived from what can be read of a payload."""
    try:
        derive([kind], [payload])
    except (*_NOT_DERIVABLE, KeyError):
        return False
    return True


def _derivable(kind: str, payload: bytes | None) -> bytes | None:
    """The payload itself, unless no columns can be derived from it."""
    if payload is None:
        return None
    try:
        _derived([kind], [payload])
    except _NOT_DERIVABLE:
        return readable(kind, payload)
    return payload


def _derived(
    record_kinds: Sequence[str], payloads: Sequence[bytes | None], visit: _Visit | None = None
) -> dict[str, pa.Array]:
    columns = _DerivedColumns(len(payloads))
    present = [KINDS[name] for name in {*record_kinds}]
    handlers = {kind.name: (kind.message.FromString, columns.setter(kind)) for kind in present}
    for row, (kind, payload) in enumerate(zip(record_kinds, payloads, strict=True)):
        if payload is not None:
            parse, set_row = handlers[kind]
            message = parse(payload)
            set_row(row, message)
            if visit is not None:
                visit(row, message)
    return columns.arrays()


def same_values(left: pa.Array, right: pa.Array) -> bool:
    """Whether two columns of one type hold the same values, doubles to the bit.

    To Arrow a NaN differs from itself, and -0.0 is 0.0.
    """
    if left.type != PROPERTIES_TYPE:
        return bool(left.equals(right))
    if left.null_count or right.null_count:
        # A node without properties has an empty map.
        return False
    left_names, right_names = (
        pa.ListArray.from_arrays(column.offsets, column.keys) for column in (left, right)
    )
    return bool(left_names.equals(right_names)) and all(
        _bits(one).equals(_bits(other))
        for one, other in zip(_members(left), _members(right), strict=True)
    )


def _members(properties: pa.MapArray) -> list[pa.Array]:
    """By member of VALUE_TYPE, what the entries of all maps hold of it."""
    start, end = properties.offsets[0].as_py(), properties.offsets[-1].as_py()
    members: list[pa.Array] = properties.items.slice(start, end - start).flatten()
    return members


def _bits(values: pa.Array) -> pa.Array:
    return values.view(pa.int64()) if pa.types.is_float64(values.type) else values


class _DerivedColumns:
    """Column lists in the making: plain columns filled by row, properties appended flat."""

    def __init__(self, rows: int) -> None:
        self._plain: dict[str, list[Any]] = {
            field.name: [None] * rows for field in _DERIVED if field.type != PROPERTIES_TYPE
        }
        self._maps = {name: _PropertyMaps(rows) for name in ("properties", "custom_properties")}

    def setter(self, kind: Kind) -> Callable[[int, Any], None]:
        """A function that fills the columns of a row from the message of a kind."""
        if isinstance(kind, NodeKind):
            return self._node_setter(kind)
        if isinstance(kind, LinkKind):
            return self._link_setter(kind)
        if isinstance(kind, RetentionKind):
            return _set_nothing
        return self._set_type

    def _node_setter(self, kind: NodeKind) -> Callable[[int, Any], None]:
        # Bound once, since there are very many nodes.
        plain, maps = self._plain, self._maps
        names, external_ids, uris = plain["name"], plain["external_id"], plain["uri"]
        create_times, update_times, states = (
            plain["create_time"],
            plain["update_time"],
            plain["state"],
        )
        add_properties = maps["properties"].add
        add_custom_properties = maps["custom_properties"].add
        state_field: Any = kind.state_field
        is_artifact = kind is ARTIFACT

        def set_node(row: int, node: Any) -> None:
            if node.HasField("name"):
                names[row] = node.name
            if node.HasField("external_id"):
                external_ids[row] = node.external_id
            if is_artifact:
                uris[row] = node.uri
            if state_field is not None and node.HasField(state_field):
                states[row] = getattr(node, state_field)
            create_times[row] = node.create_time_since_epoch
            update_times[row] = node.last_update_time_since_epoch
            add_properties(row, node.properties)
            add_custom_properties(row, node.custom_properties)

        return set_node

    def _set_type(self, row: int, node_type: Any) -> None:
        self._plain["name"][row] = node_type.name
        if node_type.HasField("external_id"):
            self._plain["external_id"][row] = node_type.external_id
        if node_type.HasField("version"):
            self._plain["version"][row] = node_type.version

    def _link_setter(self, kind: LinkKind) -> Callable[[int, Any], None]:
        plain = self._plain
        columns = [(plain[column], field) for column, field in kind.fields]

        def set_link(row: int, link: Any) -> None:
            for column, field in columns:
                column[row] = getattr(link, field)

        return set_link

    def arrays(self) -> dict[str, pa.Array]:
        arrays = {
            field.name: array_of(self._plain[field.name], field.type)
            for field in _DERIVED
            if field.name in self._plain
        }
        return arrays | {name: maps.array() for name, maps in self._maps.items()}


def _set_nothing(row: int, message: Any) -> None:
    """Rules, holds and erasures have no derived columns."""


def no_properties(rows: int) -> pa.MapArray:
    """The properties of records that have none: never null, see FORMAT.md."""
    return _PropertyMaps(rows).array()


class _PropertyMaps:
    """One map column: the entries of all rows in a flat row of lists, and how many each row has."""

    def __init__(self, rows: int) -> None:
        self._names: list[str] = []
        self._counts = [0] * rows
        # As long as the last entry that has a value of the member needs.
        self._values: dict[str, list[Any]] = {field.name: [] for field in VALUE_TYPE}

    def add(self, row: int, properties: Any) -> None:
        names = sorted(properties)
        if not names:
            return
        self._counts[row] = len(names)
        entry, values = len(self._names), self._values
        # Sorted, so that the column does not depend on the order of a protobuf map.
        self._names += names
        for name in names:
            value = properties[name]
            member = value.WhichOneof("value")
            if member is not None:
                column = values[member]
                if len(column) < entry:
                    column += [None] * (entry - len(column))
                column.append(_READ.get(member, getattr)(value, member))
            entry += 1

    def array(self) -> pa.MapArray:
        entries = len(self._names)
        for column in self._values.values():
            column += [None] * (entries - len(column))
        values = pa.StructArray.from_arrays(
            [array_of(self._values[field.name], field.type) for field in VALUE_TYPE],
            fields=list(VALUE_TYPE),
        )
        offsets = array_of([*accumulate(self._counts, initial=0)], pa.int32())
        return pa.MapArray.from_arrays(offsets, array_of(self._names, pa.utf8()), values)


def _struct_text(value: Any, _: str) -> str:
    return struct_json(value.struct_value)


def _proto_bytes(value: Any, _: str) -> bytes:
    serialized: bytes = value.proto_value.SerializeToString(deterministic=True)
    return serialized


_READ: Final = {"struct_value": _struct_text, "proto_value": _proto_bytes}
"""How the members of a value are read that are not taken as they are."""
