"""Which message each kind of record holds."""

from __future__ import annotations

from typing import Any, Final

from eventstore.log import record as kinds
from eventstore.proto import metadata_store_pb2 as mlmd

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
