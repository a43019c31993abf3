"""Every get of the MLMD API."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from eventstore.log.kinds import ARTIFACT, CONTEXT, EXECUTION
from eventstore.metadata_store.calls import Calls, check_given
from eventstore.proto import metadata_store_pb2 as mlmd

if TYPE_CHECKING:
    from eventstore.metadata_store.options import ExtraOptions, ListOptions


class MetadataReader:
    """The gets of the MLMD API, each by a call.

    Times are milliseconds since the epoch. Every method takes `extra_options` for compatibility
    and ignores it. Lists are ordered by id ascending unless the method says otherwise.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def _call(
        self,
        method_name: str,
        request: Any,
        response: Any,
        extra_options: ExtraOptions | None = None,
    ) -> None:
        """Fill `response` with that of an RPC, for programs that do so with MLMD's store."""
        response.CopyFrom(self._calls.send(method_name, request))

    # Artifacts, executions and contexts

    def get_artifacts(
        self,
        list_options: ListOptions | None = None,
        extra_options: ExtraOptions | None = None,
    ) -> list[mlmd.Artifact]:
        """All artifacts, or those that `list_options` asks for.

        Raises InvalidArgumentError for a negative limit or an invalid filter query.

        >>> [artifact.uri for artifact in store.get_artifacts(eventstore.ListOptions(limit=5))]
        ['s3://sales', 's3://models/churn']
        """
        return self._calls.nodes(ARTIFACT, list_options)

    def get_executions(
        self,
        list_options: ListOptions | None = None,
        extra_options: ExtraOptions | None = None,
    ) -> list[mlmd.Execution]:
        """All executions, or those that `list_options` asks for.

        Raises InvalidArgumentError for a negative limit or an invalid filter query.
        """
        return self._calls.nodes(EXECUTION, list_options)

    def get_contexts(
        self,
        list_options: ListOptions | None = None,
        extra_options: ExtraOptions | None = None,
    ) -> list[mlmd.Context]:
        """All contexts, or those that `list_options` asks for.

        Raises InvalidArgumentError for a negative limit or an invalid filter query.
        """
        return self._calls.nodes(CONTEXT, list_options)

    def get_artifacts_by_id(
        self, artifact_ids: Iterable[int], extra_options: ExtraOptions | None = None
    ) -> list[mlmd.Artifact]:
        """The artifacts with these ids, each once, by id ascending; unknown ids are left out."""
        return self._calls.nodes_by_id(ARTIFACT, artifact_ids)

    def get_executions_by_id(
        self, execution_ids: Iterable[int], extra_options: ExtraOptions | None = None
    ) -> list[mlmd.Execution]:
        """The executions with these ids, each once, by id ascending; unknown ids are left out."""
        return self._calls.nodes_by_id(EXECUTION, execution_ids)

    def get_contexts_by_id(
        self, context_ids: Iterable[int], extra_options: ExtraOptions | None = None
    ) -> list[mlmd.Context]:
        """The contexts with these ids, each once, by id ascending; unknown ids are left out."""
        return self._calls.nodes_by_id(CONTEXT, context_ids)

    def get_artifacts_and_types_by_artifact_ids(
        self, artifact_ids: Iterable[int], extra_options: ExtraOptions | None = None
    ) -> tuple[list[mlmd.Artifact], list[mlmd.ArtifactType]]:
        """The artifacts with these ids, and their distinct types in the order of first use."""
        return self._calls.artifacts_and_types(artifact_ids)

    def get_artifacts_by_external_ids(
        self, external_ids: Iterable[str], extra_options: ExtraOptions | None = None
    ) -> list[mlmd.Artifact]:
        """The artifacts with these external ids.

        Raises NotFoundError when none of them is known, InvalidArgumentError for an empty one.
        """
        return self._calls.nodes_by_external_ids(ARTIFACT, external_ids)

    def get_executions_by_external_ids(
        self, external_ids: Iterable[str], extra_options: ExtraOptions | None = None
    ) -> list[mlmd.Execution]:
        """The executions with these external ids.

        Raises NotFoundError when none of them is known, InvalidArgumentError for an empty one.
        """
        return self._calls.nodes_by_external_ids(EXECUTION, external_ids)

    def get_contexts_by_external_ids(
        self, external_ids: Iterable[str], extra_options: ExtraOptions | None = None
    ) -> list[mlmd.Context]:
        """The contexts with these external ids.

        Raises NotFoundError when none of them is known, InvalidArgumentError for an empty one.
        """
        return self._calls.nodes_by_external_ids(CONTEXT, external_ids)

    def get_artifacts_by_type(
        self,
        type_name: str,
        type_version: str | None = None,
        extra_options: ExtraOptions | None = None,
    ) -> list[mlmd.Artifact]:
        """The artifacts of one type; without a version, of the type that has none."""
        return self._calls.nodes_by_type(ARTIFACT, type_name, type_version)

    def get_executions_by_type(
        self,
        type_name: str,
        type_version: str | None = None,
        extra_options: ExtraOptions | None = None,
    ) -> list[mlmd.Execution]:
        """The executions of one type; without a version, of the type that has none."""
        return self._calls.nodes_by_type(EXECUTION, type_name, type_version)

    def get_contexts_by_type(
        self,
        type_name: str,
        type_version: str | None = None,
        extra_options: ExtraOptions | None = None,
    ) -> list[mlmd.Context]:
        """The contexts of one type; without a version, of the type that has none."""
        return self._calls.nodes_by_type(CONTEXT, type_name, type_version)

    def get_artifact_by_type_and_name(
        self,
        type_name: str,
        artifact_name: str,
        type_version: str | None = None,
        extra_options: ExtraOptions | None = None,
    ) -> mlmd.Artifact | None:
        """The artifact of this type and name, None when there is none."""
        return self._calls.node_by_type_and_name(ARTIFACT, type_name, type_version, artifact_name)

    def get_execution_by_type_and_name(
        self,
        type_name: str,
        execution_name: str,
        type_version: str | None = None,
        extra_options: ExtraOptions | None = None,
    ) -> mlmd.Execution | None:
        """The execution of this type and name, None when there is none."""
        return self._calls.node_by_type_and_name(EXECUTION, type_name, type_version, execution_name)

    def get_context_by_type_and_name(
        self,
        type_name: str,
        context_name: str,
        type_version: str | None = None,
        extra_options: ExtraOptions | None = None,
    ) -> mlmd.Context | None:
        """The context of this type and name, None when there is none."""
        return self._calls.node_by_type_and_name(CONTEXT, type_name, type_version, context_name)

    def get_artifacts_by_uri(
        self, uri: str, extra_options: ExtraOptions | None = None
    ) -> list[mlmd.Artifact]:
        """The artifacts with exactly this uri; "" finds those without one."""
        return self._calls.artifacts_by_uri(uri)

    # Types

    def get_artifact_type(
        self,
        type_name: str,
        type_version: str | None = None,
        extra_options: ExtraOptions | None = None,
    ) -> mlmd.ArtifactType:
        """The artifact type of this name and version. Raises NotFoundError when there is none."""
        node_type: mlmd.ArtifactType = self._calls.node_type(ARTIFACT, type_name, type_version)
        return node_type

    def get_execution_type(
        self,
        type_name: str,
        type_version: str | None = None,
        extra_options: ExtraOptions | None = None,
    ) -> mlmd.ExecutionType:
        """The execution type of this name and version. Raises NotFoundError when there is none."""
        node_type: mlmd.ExecutionType = self._calls.node_type(EXECUTION, type_name, type_version)
        return node_type

    def get_context_type(
        self,
        type_name: str,
        type_version: str | None = None,
        extra_options: ExtraOptions | None = None,
    ) -> mlmd.ContextType:
        """The context type of this name and version. Raises NotFoundError when there is none."""
        node_type: mlmd.ContextType = self._calls.node_type(CONTEXT, type_name, type_version)
        return node_type

    def get_artifact_types(
        self, extra_options: ExtraOptions | None = None
    ) -> list[mlmd.ArtifactType]:
        """All artifact types but the system types."""
        return self._calls.types(ARTIFACT)

    def get_execution_types(
        self, extra_options: ExtraOptions | None = None
    ) -> list[mlmd.ExecutionType]:
        """All execution types but the system types."""
        return self._calls.types(EXECUTION)

    def get_context_types(
        self, extra_options: ExtraOptions | None = None
    ) -> list[mlmd.ContextType]:
        """All context types."""
        return self._calls.types(CONTEXT)

    def get_artifact_types_by_id(
        self, type_ids: Iterable[int], extra_options: ExtraOptions | None = None
    ) -> list[mlmd.ArtifactType]:
        """In the order given, repeated where it repeats; unknown ids are left out."""
        return self._calls.types_by_id(ARTIFACT, type_ids)

    def get_execution_types_by_id(
        self, type_ids: Iterable[int], extra_options: ExtraOptions | None = None
    ) -> list[mlmd.ExecutionType]:
        """In the order given, repeated where it repeats; unknown ids are left out."""
        return self._calls.types_by_id(EXECUTION, type_ids)

    def get_context_types_by_id(
        self, type_ids: Iterable[int], extra_options: ExtraOptions | None = None
    ) -> list[mlmd.ContextType]:
        """In the order given, repeated where it repeats; unknown ids are left out."""
        return self._calls.types_by_id(CONTEXT, type_ids)

    def get_artifact_types_by_external_ids(
        self, external_ids: Iterable[str], extra_options: ExtraOptions | None = None
    ) -> list[mlmd.ArtifactType]:
        """Raises NotFoundError when none is known, InvalidArgumentError for an empty one."""
        return self._calls.types_by_external_ids(ARTIFACT, external_ids)

    def get_execution_types_by_external_ids(
        self, external_ids: Iterable[str], extra_options: ExtraOptions | None = None
    ) -> list[mlmd.ExecutionType]:
        """Raises NotFoundError when none is known, InvalidArgumentError for an empty one."""
        return self._calls.types_by_external_ids(EXECUTION, external_ids)

    def get_context_types_by_external_ids(
        self, external_ids: Iterable[str], extra_options: ExtraOptions | None = None
    ) -> list[mlmd.ContextType]:
        """Raises NotFoundError when none is known, InvalidArgumentError for an empty one."""
        return self._calls.types_by_external_ids(CONTEXT, external_ids)

    # Links

    def get_events_by_execution_ids(
        self, execution_ids: Iterable[int], extra_options: ExtraOptions | None = None
    ) -> list[mlmd.Event]:
        """The executions' events, by execution id and then in the order they were put."""
        return self._calls.events_of(EXECUTION, execution_ids)

    def get_events_by_artifact_ids(
        self, artifact_ids: Iterable[int], extra_options: ExtraOptions | None = None
    ) -> list[mlmd.Event]:
        """The artifacts' events, by artifact id, execution id and event type."""
        return self._calls.events_of(ARTIFACT, artifact_ids)

    def get_contexts_by_artifact(
        self, artifact_id: int, extra_options: ExtraOptions | None = None
    ) -> list[mlmd.Context]:
        """The contexts that the artifact is attributed to. Raises NotFoundError without any."""
        return self._calls.contexts_of(ARTIFACT, artifact_id)

    def get_contexts_by_execution(
        self, execution_id: int, extra_options: ExtraOptions | None = None
    ) -> list[mlmd.Context]:
        """The contexts that the execution is associated with. Raises NotFoundError without any."""
        return self._calls.contexts_of(EXECUTION, execution_id)

    def get_artifacts_by_context(
        self,
        context_id: int,
        list_options: ListOptions | None = None,
        extra_options: ExtraOptions | None = None,
    ) -> list[mlmd.Artifact]:
        """The artifacts attributed to the context, or those that `list_options` asks for."""
        check_given("context_id", context_id)
        return self._calls.nodes(ARTIFACT, list_options, context_id)

    def get_executions_by_context(
        self,
        context_id: int,
        list_options: ListOptions | None = None,
        extra_options: ExtraOptions | None = None,
    ) -> list[mlmd.Execution]:
        """The executions associated with the context, the newest first without `list_options`."""
        check_given("context_id", context_id)
        options = _newest_first() if list_options is None else list_options
        return self._calls.nodes(EXECUTION, options, context_id)

    def get_parent_contexts_by_context(
        self, context_id: int, extra_options: ExtraOptions | None = None
    ) -> list[mlmd.Context]:
        """The direct parents of the context."""
        return self._calls.parents(context_id)

    def get_children_contexts_by_context(
        self, context_id: int, extra_options: ExtraOptions | None = None
    ) -> list[mlmd.Context]:
        """The direct children of the context."""
        return self._calls.children(context_id)

    # Lineage

    def get_lineage_subgraph(
        self,
        query_options: mlmd.LineageSubgraphQueryOptions,
        field_mask_paths: Sequence[str] | None = None,
        extra_options: ExtraOptions | None = None,
    ) -> mlmd.LineageGraph:
        """The graph of executions and artifacts around the starting nodes.

        `field_mask_paths` names the fields of LineageGraph to fill; None or empty fills all.
        Nodes are complete and by id ascending, types are those of the returned nodes.

        Raises InvalidArgumentError for missing starting nodes or an invalid filter, NotFoundError
        when no node matches the starting filter.
        """
        return self._calls.lineage_subgraph(query_options, field_mask_paths)


def _newest_first() -> ListOptions:
    # Not at the top: attrs, which it needs, takes long to import.
    from eventstore.metadata_store.options import ListOptions, OrderByField

    return ListOptions(order_by=OrderByField.CREATE_TIME, is_asc=False)
