"""Every put of the MLMD API."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from eventstore.log.kinds import ARTIFACT, CONTEXT, EXECUTION
from eventstore.log.readable import refusing_unreadable
from eventstore.metadata_store.calls import check_given, service
from eventstore.metadata_store.reader import MetadataReader
from eventstore.proto import metadata_store_pb2 as mlmd

if TYPE_CHECKING:
    from eventstore.metadata_store.options import ExtraOptions


class MetadataWriter(MetadataReader):
    """The MLMD API, gets and puts. A put is one commit: all of it is stored, or nothing."""

    @refusing_unreadable
    def put_artifacts(
        self,
        artifacts: Sequence[mlmd.Artifact],
        field_mask_paths: Sequence[str] | None = None,
        extra_options: ExtraOptions | None = None,
    ) -> list[int]:
        """Insert the artifacts without an id, update those with one; the ids, in the same order.

        An update replaces the whole artifact but its name, or with `field_mask_paths` only what
        they name (`uri`, `state`, `external_id`, `properties`, `properties.KEY`, ...).

        Raises InvalidArgumentError (unknown id, missing type id, property that does not fit the
        type), NotFoundError (unknown type) and AlreadyExistsError (name or external id taken);
        nothing is put then.
        """
        return self._calls.put_nodes(ARTIFACT, artifacts, field_mask_paths)

    @refusing_unreadable
    def put_executions(
        self,
        executions: Sequence[mlmd.Execution],
        field_mask_paths: Sequence[str] | None = None,
        extra_options: ExtraOptions | None = None,
    ) -> list[int]:
        """Insert or update executions as `put_artifacts` does artifacts; their ids."""
        return self._calls.put_nodes(EXECUTION, executions, field_mask_paths)

    @refusing_unreadable
    def put_contexts(
        self,
        contexts: Sequence[mlmd.Context],
        field_mask_paths: Sequence[str] | None = None,
        extra_options: ExtraOptions | None = None,
    ) -> list[int]:
        """Insert or update contexts as `put_artifacts` does artifacts; their ids.

        A context needs a name, and an update may change it.
        """
        return self._calls.put_nodes(CONTEXT, contexts, field_mask_paths)

    @refusing_unreadable
    def put_artifact_type(
        self,
        artifact_type: mlmd.ArtifactType,
        can_add_fields: bool = False,
        can_omit_fields: bool = False,
        extra_options: ExtraOptions | None = None,
    ) -> int:
        """Create a type, or add properties to the stored one of this name and version; its id.

        Raises AlreadyExistsError when the stored type lacks given properties (without
        `can_add_fields`), has further ones (without `can_omit_fields`), or has one of another kind.
        """
        return self._calls.put_type(ARTIFACT, artifact_type, can_add_fields, can_omit_fields)

    @refusing_unreadable
    def put_execution_type(
        self,
        execution_type: mlmd.ExecutionType,
        can_add_fields: bool = False,
        can_omit_fields: bool = False,
        extra_options: ExtraOptions | None = None,
    ) -> int:
        """Create or extend an execution type as `put_artifact_type` does; its id."""
        return self._calls.put_type(EXECUTION, execution_type, can_add_fields, can_omit_fields)

    @refusing_unreadable
    def put_context_type(
        self,
        context_type: mlmd.ContextType,
        can_add_fields: bool = False,
        can_omit_fields: bool = False,
        extra_options: ExtraOptions | None = None,
    ) -> int:
        """Create or extend a context type as `put_artifact_type` does; its id."""
        return self._calls.put_type(CONTEXT, context_type, can_add_fields, can_omit_fields)

    @refusing_unreadable
    def put_events(
        self, events: Sequence[mlmd.Event], extra_options: ExtraOptions | None = None
    ) -> None:
        """Add events between stored artifacts and executions.

        Raises InvalidArgumentError for missing ends or type, AlreadyExistsError for a second event
        of the same artifact, execution and type.
        """
        self._calls.put_events(events)

    @refusing_unreadable
    def put_execution(
        self,
        execution: mlmd.Execution,
        artifact_and_events: Sequence[Sequence[Any] | None],
        contexts: Sequence[mlmd.Context] | None,
        reuse_context_if_already_exist: bool = False,
        reuse_artifact_if_already_exist_by_external_id: bool = False,
        force_reuse_context: bool = False,
        force_update_time: bool = False,
        extra_options: ExtraOptions | None = None,
    ) -> tuple[int, list[int], list[int]]:
        """Put an execution with its artifacts, events and contexts in one commit.

        `artifact_and_events` holds pairs (artifact, event), either of which may be None; every
        context is linked to the execution and to all artifacts. Returns the execution's id, the
        artifacts' ids in the order of the pairs, and the contexts' ids.
        """
        request = service().PutExecutionRequest(
            execution=execution,
            contexts=contexts,
            options=service().PutExecutionRequest.Options(
                reuse_context_if_already_exist=reuse_context_if_already_exist,
                reuse_artifact_if_already_exist_by_external_id=(
                    reuse_artifact_if_already_exist_by_external_id
                ),
                force_reuse_context=force_reuse_context,
                force_update_time=force_update_time,
            ),
        )
        for pair in artifact_and_events:
            if pair:
                added = request.artifact_event_pairs.add()
                if pair[0] is not None:
                    added.artifact.CopyFrom(pair[0])
                if len(pair) > 1 and pair[1] is not None:
                    added.event.CopyFrom(pair[1])
        response = self._calls.send("PutExecution", request)
        return response.execution_id, list(response.artifact_ids), list(response.context_ids)

    @refusing_unreadable
    def put_lineage_subgraph(
        self,
        executions: Sequence[mlmd.Execution],
        artifacts: Sequence[mlmd.Artifact],
        contexts: Sequence[mlmd.Context],
        event_edges: Iterable[tuple[int | None, int | None, mlmd.Event]],
        reuse_context_if_already_exist: bool = False,
        reuse_artifact_if_already_exist_by_external_id: bool = False,
        extra_options: ExtraOptions | None = None,
    ) -> tuple[list[int], list[int], list[int]]:
        """Put executions, artifacts, contexts and events between them in one commit.

        An edge is (index into executions, index into artifacts, event); an index is None when the
        event carries the id. Every context is linked to every execution and artifact. Returns the
        ids of executions, artifacts and contexts, each in the order given.
        """
        request = service().PutLineageSubgraphRequest(
            executions=executions,
            artifacts=artifacts,
            contexts=contexts,
            options=service().PutLineageSubgraphRequest.Options(
                reuse_context_if_already_exist=reuse_context_if_already_exist,
                reuse_artifact_if_already_exist_by_external_id=(
                    reuse_artifact_if_already_exist_by_external_id
                ),
            ),
        )
        for execution_index, artifact_index, event in event_edges:
            request.event_edges.add(
                execution_index=execution_index, artifact_index=artifact_index, event=event
            )
        response = self._calls.send("PutLineageSubgraph", request)
        return (
            list(response.execution_ids),
            list(response.artifact_ids),
            list(response.context_ids),
        )

    def put_attributions_and_associations(
        self,
        attributions: Sequence[mlmd.Attribution],
        associations: Sequence[mlmd.Association],
        extra_options: ExtraOptions | None = None,
    ) -> None:
        """Link artifacts and executions to contexts; links that exist already are kept.

        Raises InvalidArgumentError when an end does not exist.
        """
        check_given("attributions", attributions)
        check_given("associations", associations)
        request = service().PutAttributionsAndAssociationsRequest(
            attributions=attributions, associations=associations
        )
        self._calls.send("PutAttributionsAndAssociations", request)

    def put_parent_contexts(
        self,
        parent_contexts: Sequence[mlmd.ParentContext],
        extra_options: ExtraOptions | None = None,
    ) -> None:
        """Make contexts parents of others.

        Raises InvalidArgumentError when an end does not exist or a cycle would arise,
        AlreadyExistsError when the link exists.
        """
        check_given("parent_contexts", parent_contexts)
        request = service().PutParentContextsRequest(parent_contexts=parent_contexts)
        self._calls.send("PutParentContexts", request)
