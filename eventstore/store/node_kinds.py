"""What tells artifacts, executions and contexts apart, so that the same code serves all three."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from eventstore.log import record as kinds
from eventstore.projections import index_tables as tables
from eventstore.proto import metadata_store_pb2 as mlmd

# Any of the three messages. Protobuf's stubs give a union of messages no common CopyFrom, so that
# spelling it out would only move the casts to every caller.
Node: TypeAlias = Any
NodeType: TypeAlias = Any


@dataclass(frozen=True, slots=True)
class NodeKind:
    """One of MLMD's three kinds of nodes.

    `singular` and `plural` are both the words for messages and the stems of RPC field names
    (`artifact_ids`, `artifacts`, `artifact_types`). `state_field` is None for contexts.
    """

    singular: str
    plural: str
    message: Any
    type_message: Any
    record_kind: str
    type_record_kind: str
    state_field: str | None
    nodes: int
    names: int
    external_ids: int
    types: int
    type_names: int
    type_external_ids: int
    events: int | None


ARTIFACT: Final = NodeKind(
    singular="artifact",
    plural="artifacts",
    message=mlmd.Artifact,
    type_message=mlmd.ArtifactType,
    record_kind=kinds.ARTIFACT,
    type_record_kind=kinds.ARTIFACT_TYPE,
    state_field="state",
    nodes=tables.ARTIFACTS,
    names=tables.ARTIFACT_NAMES,
    external_ids=tables.ARTIFACT_EXTERNAL_IDS,
    types=tables.ARTIFACT_TYPES,
    type_names=tables.ARTIFACT_TYPE_NAMES,
    type_external_ids=tables.ARTIFACT_TYPE_EXTERNAL_IDS,
    events=tables.EVENTS_BY_ARTIFACT,
)
EXECUTION: Final = NodeKind(
    singular="execution",
    plural="executions",
    message=mlmd.Execution,
    type_message=mlmd.ExecutionType,
    record_kind=kinds.EXECUTION,
    type_record_kind=kinds.EXECUTION_TYPE,
    state_field="last_known_state",
    nodes=tables.EXECUTIONS,
    names=tables.EXECUTION_NAMES,
    external_ids=tables.EXECUTION_EXTERNAL_IDS,
    types=tables.EXECUTION_TYPES,
    type_names=tables.EXECUTION_TYPE_NAMES,
    type_external_ids=tables.EXECUTION_TYPE_EXTERNAL_IDS,
    events=tables.EVENTS_BY_EXECUTION,
)
CONTEXT: Final = NodeKind(
    singular="context",
    plural="contexts",
    message=mlmd.Context,
    type_message=mlmd.ContextType,
    record_kind=kinds.CONTEXT,
    type_record_kind=kinds.CONTEXT_TYPE,
    state_field=None,
    nodes=tables.CONTEXTS,
    names=tables.CONTEXT_NAMES,
    external_ids=tables.CONTEXT_EXTERNAL_IDS,
    types=tables.CONTEXT_TYPES,
    type_names=tables.CONTEXT_TYPE_NAMES,
    type_external_ids=tables.CONTEXT_TYPE_EXTERNAL_IDS,
    events=None,
)
NODE_KINDS: Final = (ARTIFACT, EXECUTION, CONTEXT)
