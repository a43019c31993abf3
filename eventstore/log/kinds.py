"""The registry of kinds: what each kind of record is, said once for all that tell them apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import msgspec

from eventstore.log import record as names
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import retention_pb2 as retention

# Any of the three messages. Protobuf's stubs give a union of messages no common CopyFrom, so that
# spelling it out would only move the casts to every caller.
Node: TypeAlias = Any
NodeType: TypeAlias = Any


# Compared by identity: there is one of each.
class Kind(msgspec.Struct, frozen=True, eq=False):
    """A kind of record: its name in the log, and the message that its payload is.

    `number` stands for it in the leaves of the Merkle tree, and never changes.
    """

    name: str
    number: int
    message: Any

    @property
    def sequence(self) -> str:
        """What its ids are taken from: each kind has its own, but types share one."""
        return self.name


class TypeKind(Kind, frozen=True, eq=False):
    """One of the three kinds of types, whose ids are distinct over all three."""

    @property
    def sequence(self) -> str:
        return TYPE_SEQUENCE


class NodeKind(Kind, frozen=True, eq=False):
    """One of MLMD's three kinds of nodes.

    `name` and `plural` are both the words for messages and the stems of RPC field names
    (`artifact_ids`, `artifacts`, `artifact_types`). `state_field` is None for contexts.
    """

    plural: str
    type: TypeKind
    state_field: str | None


class LinkKind(Kind, frozen=True, eq=False):
    """A kind of link between nodes: the columns of the log that it fills, each with its field."""

    fields: tuple[tuple[str, str], ...]


class RetentionKind(Kind, frozen=True, eq=False):
    """A kind that says what is kept or erased. Its own records are never erased."""


TYPE_SEQUENCE: Final = "type"

ARTIFACT_TYPE: Final = TypeKind(names.ARTIFACT_TYPE, 1, mlmd.ArtifactType)
EXECUTION_TYPE: Final = TypeKind(names.EXECUTION_TYPE, 2, mlmd.ExecutionType)
CONTEXT_TYPE: Final = TypeKind(names.CONTEXT_TYPE, 3, mlmd.ContextType)
ARTIFACT: Final = NodeKind(names.ARTIFACT, 4, mlmd.Artifact, "artifacts", ARTIFACT_TYPE, "state")
EXECUTION: Final = NodeKind(
    names.EXECUTION, 5, mlmd.Execution, "executions", EXECUTION_TYPE, "last_known_state"
)
CONTEXT: Final = NodeKind(names.CONTEXT, 6, mlmd.Context, "contexts", CONTEXT_TYPE, None)
EVENT: Final = LinkKind(
    names.EVENT,
    7,
    mlmd.Event,
    (
        ("artifact_id", "artifact_id"),
        ("execution_id", "execution_id"),
        ("event_type", "type"),
        ("event_time", "milliseconds_since_epoch"),
    ),
)
ATTRIBUTION: Final = LinkKind(
    names.ATTRIBUTION,
    8,
    mlmd.Attribution,
    (("context_id", "context_id"), ("artifact_id", "artifact_id")),
)
ASSOCIATION: Final = LinkKind(
    names.ASSOCIATION,
    9,
    mlmd.Association,
    (("context_id", "context_id"), ("execution_id", "execution_id")),
)
PARENT_CONTEXT: Final = LinkKind(
    names.PARENT_CONTEXT,
    10,
    mlmd.ParentContext,
    (("context_id", "child_id"), ("parent_context_id", "parent_id")),
)
RETENTION_RULE: Final = RetentionKind(names.RETENTION_RULE, 11, retention.RetentionRule)
HOLD: Final = RetentionKind(names.HOLD, 12, retention.Hold)
ERASURE: Final = RetentionKind(names.ERASURE, 13, retention.Erasure)

NODE_KINDS: Final = (ARTIFACT, EXECUTION, CONTEXT)
TYPE_KINDS: Final = (ARTIFACT_TYPE, EXECUTION_TYPE, CONTEXT_TYPE)
LINK_KINDS: Final = (EVENT, ATTRIBUTION, ASSOCIATION, PARENT_CONTEXT)
RETENTION_KINDS: Final = (RETENTION_RULE, HOLD, ERASURE)

NODE_KINDS_BY_NAME: Final[Mapping[str, NodeKind]] = {kind.name: kind for kind in NODE_KINDS}

ENTITY_KINDS: Final[Mapping[str, Kind]] = {
    kind.name: kind for kind in (*TYPE_KINDS, *NODE_KINDS, *LINK_KINDS)
}
"""The kinds of what MLMD knows, by name, in the order of their numbers."""

KINDS: Final[Mapping[str, Kind]] = {
    **ENTITY_KINDS,
    **{kind.name: kind for kind in RETENTION_KINDS},
}
"""All kinds, by name, in the order of their numbers."""

VALUE_FIELDS: Final[Mapping[int, str]] = {
    mlmd.INT: "int_value",
    mlmd.DOUBLE: "double_value",
    mlmd.STRING: "string_value",
    mlmd.STRUCT: "struct_value",
    mlmd.PROTO: "proto_value",
    mlmd.BOOLEAN: "bool_value",
}
"""Which field of a value a property of each type takes."""
