"""What the projections hold, computed from all records in plain Python; and random drafts."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import hypothesis.strategies as st

from eventstore.log import Commit, Draft, Record
from eventstore.log import record as kind_names
from eventstore.log.kinds import KINDS
from eventstore.projections import index_tables as tables
from eventstore.projections.index_tables import (
    encode_id,
    event_key,
    hash64,
    name_key,
    type_name_key,
)
from eventstore.projections.table_changes import NODE_TABLES, NOT_ENDED
from eventstore.proto import metadata_store_pb2 as mlmd

TYPE_KINDS = (kind_names.ARTIFACT_TYPE, kind_names.EXECUTION_TYPE, kind_names.CONTEXT_TYPE)
LINKS = {
    kind_names.EVENT: (
        "events",
        ("artifact_id", "execution_id", "type", "milliseconds_since_epoch"),
    ),
    kind_names.ATTRIBUTION: ("attributions", ("context_id", "artifact_id")),
    kind_names.ASSOCIATION: ("associations", ("context_id", "execution_id")),
    kind_names.PARENT_CONTEXT: ("parent_contexts", ("child_id", "parent_id")),
}
TEXTS = st.one_of(st.sampled_from(["", "a", "b", "ä\0😀"]), st.text(max_size=3))
TIMES = st.integers(0, 4)
SMALL_IDS = st.integers(1, 6)


@st.composite
def commits_of_drafts(draw: st.DrawFn) -> list[tuple[str, bool, dict[str, Any]]]:
    """Changes for `Model.drafts`: (kind, whether of an entity that is there, fields)."""
    return draw(
        st.lists(
            st.sampled_from(kind_names.ENTITY_KIND_NAMES).flatmap(_change), min_size=1, max_size=6
        )
    )


def _change(kind: str) -> st.SearchStrategy[tuple[str, bool, dict[str, Any]]]:
    if kind in TYPE_KINDS:
        fields = st.fixed_dictionaries(
            {"name": TEXTS}, optional={"version": TEXTS, "external_id": TEXTS}
        )
    elif kind in NODE_TABLES:
        optional: dict[str, Any] = {
            "name": TEXTS,
            "external_id": TEXTS,
            "properties": st.dictionaries(TEXTS, _values(), max_size=3),
            "custom_properties": st.dictionaries(TEXTS, _values(), max_size=3),
        }
        if kind == kind_names.ARTIFACT:
            optional |= {"uri": TEXTS, "state": st.sampled_from(mlmd.Artifact.State.values())}
        elif kind == kind_names.EXECUTION:
            optional["last_known_state"] = st.sampled_from(mlmd.Execution.State.values())
        fields = st.fixed_dictionaries(
            {
                "type_id": st.integers(1, 3),
                "create_time_since_epoch": TIMES,
                "last_update_time_since_epoch": TIMES,
            },
            optional=optional,
        )
    elif kind == kind_names.EVENT:
        fields = st.fixed_dictionaries(
            {
                "artifact_id": SMALL_IDS,
                "execution_id": SMALL_IDS,
                "type": st.sampled_from(mlmd.Event.Type.values()),
                "milliseconds_since_epoch": TIMES,
            }
        )
    else:
        columns = LINKS[kind][1]
        fields = st.fixed_dictionaries(dict.fromkeys(columns, SMALL_IDS))
    return st.tuples(st.just(kind), st.booleans(), fields)


STRUCT_AS_JSON = '{"a": [1.0, null]}'
"""What the tables say of the one struct that is drawn."""


def _values() -> st.SearchStrategy[mlmd.Value]:
    struct, packed = mlmd.Value(), mlmd.Value()
    struct.struct_value.update({"a": [1, None]})
    packed.proto_value.Pack(mlmd.Event(artifact_id=3))
    return st.one_of(
        st.integers(-(2**63), 2**63 - 1).map(lambda value: mlmd.Value(int_value=value)),
        st.floats(allow_nan=False).map(lambda value: mlmd.Value(double_value=value)),
        TEXTS.map(lambda value: mlmd.Value(string_value=value)),
        st.booleans().map(lambda value: mlmd.Value(bool_value=value)),
        st.sampled_from([struct, packed, mlmd.Value()]),
    )


@dataclass
class Model:
    """Every record so far, and what the projections must make of them."""

    records: list[Any] = field(default_factory=list)
    newest: dict[tuple[str, int], Any] = field(default_factory=dict)
    highest: dict[str, int] = field(default_factory=dict)

    def drafts(self, changes: list[tuple[str, bool, dict[str, Any]]]) -> list[Draft]:
        """The drafts of one commit; links and what does not exist yet get new ids."""
        drafts = []
        newest = dict(self.newest)
        highest = dict(self.highest)
        for offset, (kind, is_new_version, fields) in enumerate(changes):
            sequence = KINDS[kind].sequence
            known = sorted(entity_id for (k, entity_id) in newest if k == kind)
            previous: int | None = None
            if is_new_version and known and kind not in LINKS:
                entity_id = known[len(drafts) % len(known)]
                previous = newest[kind, entity_id]
            else:
                entity_id = highest[sequence] = highest.get(sequence, 0) + 1
            message = KINDS[kind].message()
            if kind not in LINKS:
                message.id = entity_id
            for name, value in fields.items():
                if isinstance(value, dict):
                    for key, content in value.items():
                        getattr(message, name)[key].CopyFrom(content)
                else:
                    setattr(message, name, value)
            newest[kind, entity_id] = len(self.records) + offset + 1
            type_id = message.type_id if kind in NODE_TABLES else None
            payload = message.SerializeToString(deterministic=True)
            drafts.append(Draft(kind, entity_id, type_id, previous, payload))
        return drafts

    def add(self, commit: Commit) -> None:
        for record in commit.records:
            self.records.append(record)
            self.newest[record.kind, record.entity_id] = record.position
            sequence = KINDS[record.kind].sequence
            self.highest[sequence] = max(self.highest.get(sequence, 0), record.entity_id)

    def entries(self, as_of: int) -> dict[tuple[int, int], list[tuple[int, bytes]]]:
        """The point index as of a position."""
        found: dict[tuple[int, int], list[tuple[int, bytes]]] = defaultdict(list)
        for record in self.records[:as_of]:
            for table, key, value in _entries(record):
                found[table, key].append((record.position, value))
        return dict(found)

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """The DuckDB tables, each in a fixed order."""
        ends = {record.previous: record.position for record in self.records if record.previous}
        rows: dict[str, list[tuple[Any, ...]]] = {
            "types": [],
            **{table: [] for tables in NODE_TABLES.values() for table in tables},
            **{table: [] for table, _ in LINKS.values()},
        }
        for record in self.records:
            message = KINDS[record.kind].message.FromString(record.payload)
            span = (record.position, ends.get(record.position, NOT_ENDED))
            if record.kind in TYPE_KINDS:
                texts = [message.name, _optional(message, "version")]
                texts.append(_optional(message, "external_id"))
                rows["types"].append((message.id, record.kind, *texts, *span))
            elif record.kind in NODE_TABLES:
                nodes, properties = NODE_TABLES[record.kind]
                rows[nodes].append((*_node_row(record.kind, message), *span, None, None))
                for is_custom in (False, True):
                    values = message.custom_properties if is_custom else message.properties
                    for name, value in values.items():
                        row = (message.id, is_custom, name, *_value_row(value), *span)
                        rows[properties].append(row)
            else:
                table, columns = LINKS[record.kind]
                ids = tuple(getattr(message, column) for column in columns)
                rows[table].append((*ids, record.position))
        return {table: sorted(found, key=repr) for table, found in rows.items()}

    def nodes(self, kind: str, as_of: int) -> list[Any]:
        """The nodes of a kind as of a position, by id."""
        found = {r.entity_id: r.payload for r in self.records[:as_of] if r.kind == kind}
        return [KINDS[kind].message.FromString(found[entity_id]) for entity_id in sorted(found)]

    def linked(self, kind: str, context_id: int, as_of: int) -> set[int]:
        """The ids of the nodes of a kind that are in a context as of a position."""
        link = kind_names.ATTRIBUTION if kind == kind_names.ARTIFACT else kind_names.ASSOCIATION
        messages = [
            KINDS[link].message.FromString(record.payload)
            for record in self.records[:as_of]
            if record.kind == link
        ]
        return {
            getattr(message, f"{kind}_id")
            for message in messages
            if message.context_id == context_id
        }


def _node_row(kind: str, node: Any) -> tuple[Any, ...]:
    state = {kind_names.ARTIFACT: "state", kind_names.EXECUTION: "last_known_state"}.get(kind)
    return (
        node.id,
        node.type_id,
        _optional(node, "name"),
        _optional(node, "external_id"),
        node.uri if kind == kind_names.ARTIFACT else None,
        _optional(node, state) if state else None,
        node.create_time_since_epoch,
        node.last_update_time_since_epoch,
    )


def _value_row(value: mlmd.Value) -> tuple[Any, ...]:
    columns = ("int_value", "double_value", "string_value", "bool_value")
    struct = packed = None
    if value.HasField("struct_value"):
        struct = STRUCT_AS_JSON
    if value.HasField("proto_value"):
        packed = value.proto_value.SerializeToString(deterministic=True)
    return (*(_optional(value, column) for column in columns), struct, packed)


def _optional(message: Any, name: str) -> Any:
    return getattr(message, name) if message.HasField(name) else None


def shown(rows: dict[str, list[tuple[Any, ...]]]) -> str:
    """Rows as a text, which tells -0.0 from 0.0 and 1 from True."""
    return json.dumps({table: [repr(row) for row in found] for table, found in rows.items()})


def _entries(record: Record) -> list[tuple[int, int, bytes]]:
    """What a record adds to the point index, written out kind by kind."""
    kind, payload, own_id = record.kind, record.payload, encode_id(record.entity_id)
    assert payload is not None
    message = KINDS[kind].message.FromString(payload)
    if kind == kind_names.EVENT:
        artifact_id, execution_id = message.artifact_id, message.execution_id
        key = event_key(artifact_id, execution_id, message.type)
        return [
            (tables.EVENTS_BY_ARTIFACT, artifact_id, payload),
            (tables.EVENTS_BY_EXECUTION, execution_id, payload),
            (tables.EVENT_KEYS, key, encode_id(artifact_id)),
        ]
    if kind in LINKS:
        one, other = (getattr(message, name) for name in LINKS[kind][1])
        forward, backward = {
            kind_names.ATTRIBUTION: (tables.ARTIFACTS_BY_CONTEXT, tables.CONTEXTS_BY_ARTIFACT),
            kind_names.ASSOCIATION: (tables.EXECUTIONS_BY_CONTEXT, tables.CONTEXTS_BY_EXECUTION),
            kind_names.PARENT_CONTEXT: (tables.PARENTS_BY_CONTEXT, tables.CHILDREN_BY_CONTEXT),
        }[kind]
        return [(forward, one, encode_id(other)), (backward, other, encode_id(one))]
    by_id, by_name, by_external_id = {
        kind_names.ARTIFACT: (1, 7, 10),
        kind_names.EXECUTION: (2, 8, 11),
        kind_names.CONTEXT: (3, 9, 12),
        kind_names.ARTIFACT_TYPE: (4, 13, 16),
        kind_names.EXECUTION_TYPE: (5, 14, 17),
        kind_names.CONTEXT_TYPE: (6, 15, 18),
    }[kind]
    found = [(by_id, record.entity_id, payload)]
    if kind in TYPE_KINDS:
        found.append((by_name, type_name_key(message.version, message.name), own_id))
    elif message.HasField("name") and (record.previous is None or kind == kind_names.CONTEXT):
        found.append((by_name, name_key(message.type_id, message.name), own_id))
    if message.HasField("external_id"):
        found.append((by_external_id, hash64(message.external_id), own_id))
    if kind == kind_names.ARTIFACT:
        found.append((tables.ARTIFACT_URIS, hash64(message.uri), own_id))
    return found
