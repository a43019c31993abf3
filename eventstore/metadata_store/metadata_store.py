"""`MetadataStore`: MLMD's API on an event-sourced store."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from eventstore import errors
from eventstore.log import Commit, Log
from eventstore.log.kinds import ARTIFACT, CONTEXT, EXECUTION
from eventstore.log.os_errors import named_path
from eventstore.log.readable import refusing_unreadable
from eventstore.metadata_store.calls import MAX_NUM_RESULT, check_given
from eventstore.metadata_store.file_methods import FileMethods
from eventstore.metadata_store.local_calls import RETRIES, LocalCalls
from eventstore.metadata_store.opening import open_configured, open_directory
from eventstore.metadata_store.reader import MetadataReader
from eventstore.metadata_store.recording_methods import RecordingMethods
from eventstore.moments import position_of
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import metadata_store_service_pb2 as service
from eventstore.store import Engine
from eventstore.store.attribution import acting_for, checked_attribution
from eventstore.store.snapshot import Snapshot

if TYPE_CHECKING:
    from eventstore.metadata_store.downgrading import downgrade_schema
    from eventstore.metadata_store.options import ExtraOptions, ListOptions, OrderByField

__all__ = [
    "MAX_NUM_RESULT",
    "AsOfStore",
    "ExtraOptions",
    "ListOptions",
    "MetadataStore",
    "OrderByField",
    "downgrade_schema",
    "open_store",
]

_LOGGER = logging.getLogger("eventstore")


_IMPORTED_LATE = {
    "ExtraOptions": "options",
    "ListOptions": "options",
    "OrderByField": "options",
    "downgrade_schema": "downgrading",
}


def __getattr__(name: str) -> Any:
    """MLMD has these here; attrs, which options need, takes long to import."""
    if name not in _IMPORTED_LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"eventstore.metadata_store.{_IMPORTED_LATE[name]}"), name)


class MetadataStore(FileMethods, RecordingMethods, MetadataReader):
    """A store of artifacts, executions, contexts and how they are connected.

    Takes what MLMD's takes: `ConnectionConfig` with `fake_database`, or `sqlite` whose
    `filename_uri` names the store's directory; without it the store is in memory. Every put is one
    atomic commit, durable when the method returns. Safe to use from several threads; any number of
    processes may open one directory.

    >>> import eventstore
    >>> config = eventstore.proto.ConnectionConfig()
    >>> config.fake_database.SetInParent()
    >>> store = eventstore.MetadataStore(config)
    >>> store.log_position()
    9
    """

    def __init__(
        self,
        config: mlmd.ConnectionConfig | mlmd.MetadataStoreClientConfig,
        enable_upgrade_migration: bool = False,
    ) -> None:
        """Open the store that `config` names, creating it when there is none.

        `enable_upgrade_migration` unpacks a store that `downgrade_schema` has packed. Raises
        ValueError for anything but the two configurations, RuntimeError
        when the store cannot be opened.
        """
        if isinstance(config, mlmd.MetadataStoreClientConfig):
            if enable_upgrade_migration:
                raise ValueError("enable_upgrade_migration cannot be used with a server")
            raise RuntimeError(
                f"a store behind a server ({config.host}:{config.port}) cannot be opened by this "
                "version: open the store's directory with ConnectionConfig.sqlite.filename_uri"
            )
        if not isinstance(config, mlmd.ConnectionConfig):
            raise ValueError(
                f"MetadataStore takes a ConnectionConfig or a MetadataStoreClientConfig, not "
                f"{config!r}"
            )
        try:
            engine = open_configured(config, upgrade=enable_upgrade_migration)
        except errors.StatusError as error:
            raise RuntimeError(error.message) from error
        retries = RETRIES
        if config.HasField("retry_options"):
            retries = config.retry_options.max_num_retries
        self._set_up(engine, retries)

    @classmethod
    def _of(cls, engine: Engine) -> MetadataStore:
        store = cls.__new__(cls)
        store._set_up(engine, RETRIES)
        return store

    def _set_up(self, engine: Engine, retries: int) -> None:
        self._engine = engine
        self._calls = LocalCalls(engine, retries=retries)

    def __repr__(self) -> str:
        log = self._engine.log
        return f"<MetadataStore {log.name}, position {log.position}>"

    def __enter__(self) -> MetadataStore:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release files and threads. Puts are durable without it; a later opening is faster."""
        self._engine.close()

    @property
    def pipeline_asset(self) -> None:
        """Always None, as in MLMD's open source."""
        _LOGGER.warning("pipeline_asset is None: this store has no pipeline assets")

    def _snapshot(self) -> Snapshot:
        return self._engine.snapshot()

    # Time travel and proof

    def log_position(self) -> int:
        """The position of the newest record, other processes' included."""
        return self._engine.projections.catch_up()

    def as_of(self, moment: int | datetime) -> AsOfStore:
        """A read-only store that answers every get as of a moment.

        A moment is a position of the log, an aware datetime, or milliseconds since the epoch: whole
        numbers from 100,000,000,000 (March 1973) on are milliseconds. A time stands for the last
        commit recorded at or before it, a position inside a commit for the last whole commit before
        it. What is put later does not change the answers.

        Raises InvalidArgumentError for a datetime without time zone, a moment before the first
        commit or in the future, and a position beyond the newest.

        >>> then = store.log_position()
        >>> dataset.state = dataset.MARKED_FOR_DELETION
        >>> store.put_artifacts([dataset])
        [1]
        >>> store.as_of(then).get_artifacts_by_id([1])[0].state == dataset.LIVE
        True
        """
        return AsOfStore(self._engine, position_of(self._engine, moment))

    @contextmanager
    def acting(
        self,
        *,
        actor: str | None = None,
        reason: str | None = None,
        request_id: str | None = None,
    ) -> Iterator[None]:
        """Record who puts and why with every put of the block, by this thread or task alone.

        Blocks nest: what one does not say, the block around it says, and in the end the
        store. Without any actor it is the user of the operating system.

        A request id identifies a put when it is repeated, even by another process or after a
        restart: the same put is acknowledged with the same response and not applied again. So it is
        for one put; a put that changed nothing leaves no trace of it. A different put under a known
        request id raises AlreadyExistsError. Raises InvalidArgumentError for an empty text, or one
        beyond 64 KiB.

        >>> with store.acting(actor="nightly", reason="retraining", request_id="run-7"):
        ...     store.put_artifacts([dataset])
        [1]
        """
        attribution = checked_attribution(actor, reason, request_id)
        with acting_for(self._engine, attribution):
            yield

    def follow(
        self,
        after: int | None = None,
        *,
        stop: threading.Event | None = None,
        poll_seconds: float = 0.2,
    ) -> Iterator[Commit]:
        """The commits after a position (the newest), then each new one, whoever puts it.

        Waits for new ones until `stop` is set, looking every `poll_seconds`; a writer may stop and
        start meanwhile. Raises InvalidArgumentError for a position that is not in the log.

        >>> for commit in store.follow(after=0):
        ...     print(commit.number, commit.records[0].actor)
        ...     break
        1 ana
        """
        from eventstore.history import follow

        start = self.log_position() if after is None else after
        return follow(self._engine.log, start, stop=stop, poll_seconds=poll_seconds)

    @property
    def log(self) -> Log:
        """The log itself: records and commits as they were appended."""
        return self._engine.log

    # Puts

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
        request = service.PutExecutionRequest(
            execution=execution,
            contexts=contexts,
            options=service.PutExecutionRequest.Options(
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
        request = service.PutLineageSubgraphRequest(
            executions=executions,
            artifacts=artifacts,
            contexts=contexts,
            options=service.PutLineageSubgraphRequest.Options(
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
        check_given(attributions=attributions, associations=associations)
        request = service.PutAttributionsAndAssociationsRequest(
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
        check_given(parent_contexts=parent_contexts)
        request = service.PutParentContextsRequest(parent_contexts=parent_contexts)
        self._calls.send("PutParentContexts", request)


class AsOfStore(MetadataReader):
    """The gets of a store as of one position. A put fails with FailedPreconditionError."""

    def __init__(self, engine: Engine, position: int) -> None:
        self._engine = engine
        self._calls = LocalCalls(engine, as_of=position)
        self._position = position

    def __repr__(self) -> str:
        return f"<AsOfStore {self._engine.log.name}, as of position {self._position}>"

    def log_position(self) -> int:
        """The position that this store answers as of."""
        return self._position

    def _snapshot(self) -> Snapshot:
        return self._engine.snapshot(as_of=self._position)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("put_") and hasattr(MetadataStore, name):
            raise errors.FailedPreconditionError(
                f"{name}: this store answers as of position {self._position} and takes no puts; "
                "put to the store that as_of was called on"
            )
        raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")


def open_store(
    path: str | Path,
    *,
    read_only: bool = False,
    actor: str | None = None,
    reason: str | None = None,
) -> MetadataStore:
    """Open the store in a directory, creating it when there is none.

    With `read_only` nothing is written, and a missing store is an error. `actor` and `reason` are
    recorded with every put that is not in an `acting` block which says otherwise; without an actor
    it is the user of the operating system.

    Raises InvalidArgumentError (an empty actor or reason), NotFoundError, PermissionDeniedError,
    FailedPreconditionError (a path that is no store, a newer format) and DataLossError (a damaged
    store).
    """
    attribution = checked_attribution(actor, reason, None)
    engine = open_directory(named_path(path), read_only=read_only, attribution=attribution)
    return MetadataStore._of(engine)
