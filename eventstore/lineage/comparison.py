"""Two nodes side by side, field by field and property by property."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from eventstore.errors import InvalidArgumentError
from eventstore.lineage.walks import require_node
from eventstore.log.kinds import ARTIFACT, CONTEXT, EXECUTION
from eventstore.plain_values import is_same, plain_struct
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.repr_html import ShownInNotebooks
from eventstore.store.node_reads import nodes_by_id
from eventstore.store.snapshot import Snapshot

_KINDS = {kind.name: kind for kind in (ARTIFACT, EXECUTION, CONTEXT)}
_FIELDS = ("name", "uri", "external_id", "state", "last_known_state")
_TIMES = ("create_time_since_epoch", "last_update_time_since_epoch")
_MAPS = ("properties", "custom_properties")


@dataclass(frozen=True, slots=True)
class Difference:
    """A field with its value on either side, None where it is absent.

    `field` is `uri`, `state`, `properties.NAME`, `custom_properties.NAME` or alike. Values are
    plain: numbers, strings, booleans, names of states, dictionaries for structs and protos.
    """

    field: str
    left: Any
    right: Any

    @property
    def is_equal(self) -> bool:
        """Whether both sides have the same value, of the same type, doubles to the bit."""
        return is_same(self.left, self.right)


@dataclass(frozen=True, slots=True)
class Comparison(ShownInNotebooks):
    """Two nodes of a type, and all fields that either has, fields first, properties by name."""

    left: Any
    right: Any
    fields: tuple[Difference, ...]

    @property
    def differences(self) -> tuple[Difference, ...]:
        """The fields that are not equal."""
        return tuple(field for field in self.fields if not field.is_equal)


def compare_nodes(snapshot: Snapshot, kind: str, left_id: int, right_id: int) -> Comparison:
    """Compare two artifacts, executions or contexts of one type; ids and times apart.

    Raises NotFoundError for an unknown node, InvalidArgumentError when their types differ.
    """
    if kind not in _KINDS:
        raise InvalidArgumentError(f"{kind!r} is no kind of node: use one of {', '.join(_KINDS)}")
    for node_id in (left_id, right_id):
        require_node(snapshot, _KINDS[kind], node_id)
    left, right = (nodes_by_id(snapshot, _KINDS[kind], [id_])[0] for id_ in (left_id, right_id))
    if left.type_id != right.type_id:
        raise InvalidArgumentError(
            f"{kind} {left_id} is of type {left.type!r} and {kind} {right_id} of "
            f"{right.type!r}: compare nodes of one type"
        )
    values = plain_fields(left), plain_fields(right)
    names = dict.fromkeys([*values[0], *values[1]])
    ordered = sorted(names, key=lambda name: (name.startswith(_MAPS), name))
    return Comparison(
        left,
        right,
        tuple(Difference(name, values[0].get(name), values[1].get(name)) for name in ordered),
    )


def plain_fields(node: Any) -> dict[str, Any]:
    """What a node says, as plain values by field; ids, type and times apart."""
    values: dict[str, Any] = {}
    for field in _FIELDS:
        if field in node.DESCRIPTOR.fields_by_name and node.HasField(field):
            value = getattr(node, field)
            enum = node.DESCRIPTOR.fields_by_name[field].enum_type
            values[field] = enum.values_by_number[value].name if enum else value
    for map_name in _MAPS:
        properties = getattr(node, map_name)
        for name in sorted(properties):
            values[f"{map_name}.{name}"] = plain_value(properties[name])
    return values


def plain_value(value: mlmd.Value) -> Any:
    """A property's value: a number, string, boolean or, of structs and protos, a dictionary."""
    field = value.WhichOneof("value")
    if field is None:
        return None
    held = getattr(value, field)
    if field == "struct_value":
        return plain_struct(held)
    if field == "proto_value":
        return {"type_url": held.type_url, "value": base64.b64encode(held.value).decode()}
    return held
