"""Requests as no client makes them: fields left out, empty, repeated, huge, unknown."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from eventstore.proto import metadata_store_service_pb2 as service
from tests.differential.generator import KINDS, Generator

Slot = tuple[Message, FieldDescriptor]

_INTEGERS = (0, 1, 2, -1, 7, 100, 101, 102, 2**31 - 1, -(2**31), 2**31, 2**63 - 1, -(2**63))
_TEXTS = ("", " ", "T0", "mlmd.Dataset", "none", "a.b", "\n", "é", "%", "'", '"', "x" * 300)
_PATHS = (
    "",
    ".",
    "*",
    "uri",
    "name",
    "id",
    "type_id",
    "state",
    "last_known_state",
    "properties",
    "properties.",
    "properties.int",
    "properties.int.x",
    "properties..int",
    ".properties",
    "custom_properties.c.dot",
    "custom_properties.",
    "customProperties",
    "external_id",
    "externalId",
    "system_metadata",
    "create_time_since_epoch",
    "artifacts",
    "executions",
    "contexts",
    "events",
    "artifact_types",
    "execution_types",
    "context_types",
    "attributions",
    "associations",
    "artifacts.id",
    "events.path",
    "nonsense",
)
_TOKENS = ("", "0", "x", "\0", base64.b64encode(b"garbage").decode(), "CAE=", "CAEQAQ==", "!!!!")
_NOT_ASKED = ("GetLineageGraph", "GetParentContextsByContexts", "GetChildrenContextsByContexts")

RPCS = tuple(
    method.name
    for method in service.DESCRIPTOR.services_by_name["MetadataStoreService"].methods
    if method.name not in _NOT_ASKED
)
"""Those that ml-metadata serves."""


class RawGenerator(Generator):
    """Bends the requests of well-formed programs, and makes others field by field."""

    def next_raw_call(self) -> tuple[str, Any]:
        if self.chance(0.3):
            rpc = self.random.choice(RPCS)
            request = getattr(service, f"{rpc}Request")()
            times = self.random.choice((0, 1, 2, 3, 6))
        else:
            rpc, request = self.next_call()
            times = self.random.choice((1, 1, 1, 2, 4))
        for _ in range(times):
            self._bend(request)
        self._leave_out_what_spoils_upstream(request)
        return rpc, request

    def _leave_out_what_spoils_upstream(self, request: Any) -> None:
        """What upstream takes and cannot read afterwards, or not as it was (PORTING)."""
        if isinstance(request, service.PutExecutionRequest):
            for pair in request.artifact_event_pairs:
                if not pair.HasField("artifact") and not self._is_known(pair.event):
                    # Attributed to artifact -1, or an event of an artifact that is not there.
                    pair.artifact.type_id = 999
        if isinstance(request, service.PutTypesRequest):
            for kind in KINDS:
                _keep_external_ids(getattr(request, f"{kind}_types"))
        if isinstance(request, service.PutLineageSubgraphRequest):
            for edge in request.event_edges:
                if not edge.HasField("artifact_index") and not self._is_known(edge.event):
                    edge.artifact_index = 99
                known = self.node_ids["execution"]
                if not edge.HasField("execution_index") and edge.event.execution_id not in known:
                    edge.execution_index = 99

    def _is_known(self, event: Any) -> bool:
        return event.artifact_id in self.node_ids["artifact"]

    def _bend(self, request: Any) -> None:
        message, field = self.random.choice([*_slots(request)])
        if self.chance(0.25):
            message.ClearField(field.name)
        elif _is_map(field):
            self._bend_map(getattr(message, field.name), field)
        elif _is_repeated(field):
            self._bend_list(getattr(message, field.name), field)
        elif field.message_type is not None:
            getattr(message, field.name).SetInParent()
        else:
            _set(message, field, self._value(field))

    def _bend_map(self, values: Any, field: FieldDescriptor) -> None:
        name = self.random.choice((*sorted(values), "int", "string", "", "a.b"))
        value_type = field.message_type.fields_by_name["value"].message_type
        if value_type is None:
            values[name] = self.random.choice((0, 1, 2, 3, 6))
        elif value_type.name == "Value":
            self._set_value(values[name], self.random.randrange(1, 7))
        else:
            values[name].SetInParent()

    def _bend_list(self, values: Any, field: FieldDescriptor) -> None:
        if field.message_type is None:
            if field.name == "paths":
                values.extend(self.random.choices(_PATHS, k=self.random.choice((1, 1, 2, 3))))
            elif values and self.chance(0.3):
                values.append(self.random.choice(list(values)))
            else:
                values.append(self._value(field))
        elif values and self.chance(0.5):
            values.add().CopyFrom(self.random.choice(list(values)))
        else:
            values.add()

    def _value(self, field: FieldDescriptor) -> Any:
        if field.enum_type is not None:
            return self.random.choice((0, 1, 2, 3, 6, 7, 8, 99, -1, 2**31 - 1))
        if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
            return self.chance(0.5)
        if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            return self._text(field)
        if field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE:
            return self.random.choice((0.0, -1.5, 1e300))
        if field.name.endswith(("id", "ids")) and self.chance(0.6):
            kind = field.name.split("_")[0]
            known = self.node_ids.get(kind) or self.type_ids["artifact"]
            if known:
                return self.random.choice(known)
        value = self.random.choice(_INTEGERS)
        if field.cpp_type == FieldDescriptor.CPPTYPE_INT32:
            return max(-(2**31), min(value, 2**31 - 1))
        return value

    def _text(self, field: FieldDescriptor) -> Any:
        if field.type == FieldDescriptor.TYPE_BYTES:
            return b"\xff\0"
        if field.name == "filter_query":
            return self.random.choice(("", " ", "id = 1", "id =", "nonsense = 1"))
        if field.name == "next_page_token":
            return self.random.choice(_TOKENS)
        return self.random.choice(_TEXTS)


def _keep_external_ids(types: Any) -> None:
    """A type that is named again without its external id would lose it upstream."""
    external_ids: dict[tuple[str, str], str] = {}
    for node_type in types:
        named = node_type.name, node_type.version
        if node_type.external_id:
            external_ids[named] = node_type.external_id
        elif named in external_ids:
            node_type.external_id = external_ids[named]


def _slots(message: Any) -> Iterator[Slot]:
    """Every field of a message, and of those that are in it."""
    for field in message.DESCRIPTOR.fields:
        if field.message_type is not None and field.message_type.file.name.startswith("google/"):
            # Structs and Any are values here; a mask is a list of paths.
            if field.message_type.name == "FieldMask":
                yield getattr(message, field.name), field.message_type.fields_by_name["paths"]
            continue
        yield message, field
        if _is_map(field):
            values = getattr(message, field.name)
            # The order in a map is the process's own, and a seed's requests must not be.
            for name in sorted(values):
                if isinstance(values[name], Message):
                    yield from _slots(values[name])
        elif field.message_type is not None and _is_repeated(field):
            for element in getattr(message, field.name):
                yield from _slots(element)
        elif field.message_type is not None and message.HasField(field.name):
            yield from _slots(getattr(message, field.name))


def _is_repeated(field: Any) -> bool:
    # protobuf 4 has no such attribute, and 7 no label.
    return bool(field.is_repeated if hasattr(field, "is_repeated") else field.label == 3)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _set(message: Any, field: FieldDescriptor, value: Any) -> None:
    if field.enum_type is None or value in field.enum_type.values_by_number:
        setattr(message, field.name, value)
        return
    # As it comes over the wire from who knows further values.
    message.ClearField(field.name)
    encoded = bytearray()
    for part in (field.number << 3, value & (2**64 - 1)):
        rest = part
        while rest > 0x7F:
            encoded.append(rest & 0x7F | 0x80)
            rest >>= 7
        encoded.append(rest)
    message.MergeFromString(bytes(encoded))
