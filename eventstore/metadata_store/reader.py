"""Every get of the MLMD API."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from eventstore.log.kinds import ARTIFACT, CONTEXT, EXECUTION
from eventstore.metadata_store.audit_methods import AuditMethods
from eventstore.metadata_store.calls import Calls, check_given
from eventstore.metadata_store.history_methods import HistoryMethods
from eventstore.metadata_store.lineage_methods import LineageMethods
from eventstore.metadata_store.notebook_methods import NotebookMethods
from eventstore.metadata_store.sql_methods import SqlMethods
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import metadata_store_service_pb2 as service
from eventstore.store.wire import as_list

if TYPE_CHECKING:
    from eventstore.metadata_store.options import ExtraOptions, ListOptions


class MetadataReader(AuditMethods, HistoryMethods, LineageMethods, NotebookMethods, SqlMethods):
    """The gets of the MLMD API.

    Times are milliseconds since the epoch. Every method takes `extra_options` for compatibility
    and ignores it. Lists are ordered by id ascending unless the method says otherwise.
    """

    _calls: Calls

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
        request = service.GetArtifactsByIDRequest(
            artifact_ids=artifact_ids, populate_artifact_types=True
        )
        response = self._calls.send("GetArtifactsByID", request)
        return as_list(response.artifacts), list(response.artifact_types)

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
        check_given(type_name=type_name)
        request = service.GetArtifactsByTypeRequest(
            type_name=type_name, type_version=type_version or None
        )
        response = self._calls.send("GetArtifactsByType", request)
        return as_list(response.artifacts)

    def get_executions_by_type(
        self,
        type_name: str,
        type_version: str | None = None,
        extra_options: ExtraOptions | None = None,
    ) -> list[mlmd.Execution]:
        """The executions of one type; without a version, of the type that has none."""
        check_given(type_name=type_name)
        request = service.GetExecutionsByTypeRequest(
            type_name=type_name, type_version=type_version or None
        )
        response = self._calls.send("GetExecutionsByType", request)
        return as_list(response.executions)

    def get_contexts_by_type(
        self,
        type_name: str,
        type_version: str | None = None,
        extra_options: ExtraOptions | None = None,
    ) -> list[mlmd.Context]:
        """The contexts of one type; without a version, of the type that has none."""
        check_given(type_name=type_name)
        request = service.GetContextsByTypeRequest(
            type_name=type_name, type_version=type_version or None
        )
        response = self._calls.send("GetContextsByType", request)
        return as_list(response.contexts)

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
        check_given(type_name=type_name)
        request = service.GetArtifactTypeRequest(
            type_name=type_name, type_version=type_version or None
        )
        response: service.GetArtifactTypeResponse = self._calls.send("GetArtifactType", request)
        return response.artifact_type

    def get_execution_type(
        self,
        type_name: str,
        type_version: str | None = None,
        extra_options: ExtraOptions | None = None,
    ) -> mlmd.ExecutionType:
        """The execution type of this name and version. Raises NotFoundError when there is none."""
        check_given(type_name=type_name)
        request = service.GetExecutionTypeRequest(
            type_name=type_name, type_version=type_version or None
        )
        response: service.GetExecutionTypeResponse = self._calls.send("GetExecutionType", request)
        return response.execution_type

    def get_context_type(
        self,
        type_name: str,
        type_version: str | None = None,
        extra_options: ExtraOptions | None = None,
    ) -> mlmd.ContextType:
        """The context type of this name and version. Raises NotFoundError when there is none."""
        check_given(type_name=type_name)
        request = service.GetContextTypeRequest(
            type_name=type_name, type_version=type_version or None
        )
        response: service.GetContextTypeResponse = self._calls.send("GetContextType", request)
        return response.context_type

    def get_artifact_types(
        self, extra_options: ExtraOptions | None = None
    ) -> list[mlmd.ArtifactType]:
        """All artifact types but the system types."""
        request = service.GetArtifactTypesRequest()
        response = self._calls.send("GetArtifactTypes", request)
        return list(response.artifact_types)

    def get_execution_types(
        self, extra_options: ExtraOptions | None = None
    ) -> list[mlmd.ExecutionType]:
        """All execution types but the system types."""
        request = service.GetExecutionTypesRequest()
        response = self._calls.send("GetExecutionTypes", request)
        return list(response.execution_types)

    def get_context_types(
        self, extra_options: ExtraOptions | None = None
    ) -> list[mlmd.ContextType]:
        """All context types."""
        request = service.GetContextTypesRequest()
        response = self._calls.send("GetContextTypes", request)
        return list(response.context_types)

    def get_artifact_types_by_id(
        self, type_ids: Iterable[int], extra_options: ExtraOptions | None = None
    ) -> list[mlmd.ArtifactType]:
        """In the order given, repeated where it repeats; unknown ids are left out."""
        check_given(type_ids=type_ids)
        request = service.GetArtifactTypesByIDRequest(type_ids=type_ids)
        return list(self._calls.send("GetArtifactTypesByID", request).artifact_types)

    def get_execution_types_by_id(
        self, type_ids: Iterable[int], extra_options: ExtraOptions | None = None
    ) -> list[mlmd.ExecutionType]:
        """In the order given, repeated where it repeats; unknown ids are left out."""
        check_given(type_ids=type_ids)
        request = service.GetExecutionTypesByIDRequest(type_ids=type_ids)
        return list(self._calls.send("GetExecutionTypesByID", request).execution_types)

    def get_context_types_by_id(
        self, type_ids: Iterable[int], extra_options: ExtraOptions | None = None
    ) -> list[mlmd.ContextType]:
        """In the order given, repeated where it repeats; unknown ids are left out."""
        check_given(type_ids=type_ids)
        request = service.GetContextTypesByIDRequest(type_ids=type_ids)
        return list(self._calls.send("GetContextTypesByID", request).context_types)

    def get_artifact_types_by_external_ids(
        self, external_ids: Iterable[str], extra_options: ExtraOptions | None = None
    ) -> list[mlmd.ArtifactType]:
        """Raises NotFoundError when none is known, InvalidArgumentError for an empty one."""
        request = service.GetArtifactTypesByExternalIdsRequest(external_ids=external_ids)
        return list(self._calls.send("GetArtifactTypesByExternalIds", request).artifact_types)

    def get_execution_types_by_external_ids(
        self, external_ids: Iterable[str], extra_options: ExtraOptions | None = None
    ) -> list[mlmd.ExecutionType]:
        """Raises NotFoundError when none is known, InvalidArgumentError for an empty one."""
        request = service.GetExecutionTypesByExternalIdsRequest(external_ids=external_ids)
        return list(self._calls.send("GetExecutionTypesByExternalIds", request).execution_types)

    def get_context_types_by_external_ids(
        self, external_ids: Iterable[str], extra_options: ExtraOptions | None = None
    ) -> list[mlmd.ContextType]:
        """Raises NotFoundError when none is known, InvalidArgumentError for an empty one."""
        request = service.GetContextTypesByExternalIdsRequest(external_ids=external_ids)
        return list(self._calls.send("GetContextTypesByExternalIds", request).context_types)

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
        check_given(artifact_id=artifact_id)
        request = service.GetContextsByArtifactRequest(artifact_id=artifact_id)
        return list(self._calls.send("GetContextsByArtifact", request).contexts)

    def get_contexts_by_execution(
        self, execution_id: int, extra_options: ExtraOptions | None = None
    ) -> list[mlmd.Context]:
        """The contexts that the execution is associated with. Raises NotFoundError without any."""
        check_given(execution_id=execution_id)
        request = service.GetContextsByExecutionRequest(execution_id=execution_id)
        return list(self._calls.send("GetContextsByExecution", request).contexts)

    def get_artifacts_by_context(
        self,
        context_id: int,
        list_options: ListOptions | None = None,
        extra_options: ExtraOptions | None = None,
    ) -> list[mlmd.Artifact]:
        """The artifacts attributed to the context, or those that `list_options` asks for."""
        check_given(context_id=context_id)
        return self._calls.nodes(ARTIFACT, list_options, context_id)

    def get_executions_by_context(
        self,
        context_id: int,
        list_options: ListOptions | None = None,
        extra_options: ExtraOptions | None = None,
    ) -> list[mlmd.Execution]:
        """The executions associated with the context, the newest first without `list_options`."""
        check_given(context_id=context_id)
        options = _newest_first() if list_options is None else list_options
        return self._calls.nodes(EXECUTION, options, context_id)

    def get_parent_contexts_by_context(
        self, context_id: int, extra_options: ExtraOptions | None = None
    ) -> list[mlmd.Context]:
        """The direct parents of the context."""
        check_given(context_id=context_id)
        request = service.GetParentContextsByContextRequest(context_id=context_id)
        return list(self._calls.send("GetParentContextsByContext", request).contexts)

    def get_children_contexts_by_context(
        self, context_id: int, extra_options: ExtraOptions | None = None
    ) -> list[mlmd.Context]:
        """The direct children of the context."""
        check_given(context_id=context_id)
        request = service.GetChildrenContextsByContextRequest(context_id=context_id)
        return list(self._calls.send("GetChildrenContextsByContext", request).contexts)

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
        fields = [field.name for field in mlmd.LineageGraph.DESCRIPTOR.fields]
        paths = list(field_mask_paths or fields)
        request = service.GetLineageSubgraphRequest(lineage_subgraph_query_options=query_options)
        request.read_mask.paths.extend(path for path in paths if not path.endswith("_types"))
        wanted = set(paths)
        skeleton = self._calls.send("GetLineageSubgraph", request).lineage_subgraph
        graph = mlmd.LineageGraph()
        if wanted & {"artifacts", "artifact_types"}:
            artifacts, artifact_types = self.get_artifacts_and_types_by_artifact_ids(
                [artifact.id for artifact in skeleton.artifacts]
            )
            if "artifacts" in wanted:
                graph.artifacts.extend(artifacts)
            if "artifact_types" in wanted:
                graph.artifact_types.extend(artifact_types)
        if wanted & {"executions", "execution_types"}:
            executions = self.get_executions_by_id([node.id for node in skeleton.executions])
            if "executions" in wanted:
                graph.executions.extend(executions)
            if "execution_types" in wanted:
                type_ids = {execution.type_id for execution in executions}
                graph.execution_types.extend(self.get_execution_types_by_id(sorted(type_ids)))
        if wanted & {"contexts", "context_types"}:
            contexts = self.get_contexts_by_id([context.id for context in skeleton.contexts])
            if "contexts" in wanted:
                graph.contexts.extend(contexts)
            if "context_types" in wanted:
                type_ids = {context.type_id for context in contexts}
                graph.context_types.extend(self.get_context_types_by_id(sorted(type_ids)))
        if "events" in wanted:
            graph.events.extend(skeleton.events)
        if "attributions" in wanted:
            graph.attributions.extend(skeleton.attributions)
        if "associations" in wanted:
            graph.associations.extend(skeleton.associations)
        return graph


def _newest_first() -> ListOptions:
    # Not at the top: attrs, which it needs, takes long to import.
    from eventstore.metadata_store.options import ListOptions, OrderByField

    return ListOptions(order_by=OrderByField.CREATE_TIME, is_asc=False)
