"""MLMD's calls, answered by an engine in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from eventstore.log.kinds import Node, NodeKind
from eventstore.log.record import Position
from eventstore.metadata_store.calls import Calls, as_integer, checked_limit, list_operation
from eventstore.metadata_store.retrying import RETRIES, retried
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.store import Engine
from eventstore.store.link_puts import put_all_events
from eventstore.store.link_reads import events_of_nodes
from eventstore.store.node_puts import put_nodes
from eventstore.store.node_reads import (
    artifacts_by_uri,
    list_nodes,
    node_by_type_and_name,
    nodes_by_external_ids,
    nodes_by_id,
)
from eventstore.store.snapshot import Snapshot, distinct_ids

if TYPE_CHECKING:
    from eventstore.metadata_store.options import ListOptions

_Answer = TypeVar("_Answer")


class LocalCalls(Calls):
    """Calls of an engine, as of a position if one is given.

    Requests and responses often cost more than what is asked for, so these calls do without them
    where the arguments are valid.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        as_of: Position | None = None,
        retries: int = RETRIES,
        seen: Snapshot | None = None,
    ) -> None:
        """With a state that was `seen` its reads ask the log for no newer one."""
        self._engine = engine
        self._as_of = as_of
        self._retries = retries
        self._seen = seen
        self._snapshot: Callable[[], Snapshot] = partial(engine.snapshot, as_of=as_of)
        if seen is not None:
            self._snapshot = lambda: seen

    def send(self, rpc: str, request: Any) -> Any:
        call = partial(self._engine.call, rpc, request, as_of=self._as_of, seen=self._seen)
        return self._retried(call)

    def _at_once(self) -> LocalCalls:
        """The same as of now, for what is put together from several: the log is asked once."""
        return LocalCalls(
            self._engine, as_of=self._as_of, retries=self._retries, seen=self._snapshot()
        )

    def lineage_subgraph(
        self, query_options: mlmd.LineageSubgraphQueryOptions, mask_paths: Sequence[str] | None
    ) -> mlmd.LineageGraph:
        return Calls.lineage_subgraph(self._at_once(), query_options, mask_paths)

    def nodes_by_id(self, kind: NodeKind, node_ids: Iterable[int]) -> list[Node]:
        return nodes_by_id(self._snapshot(), kind, node_ids)

    def nodes_by_external_ids(self, kind: NodeKind, external_ids: Iterable[str]) -> list[Node]:
        given = [] if external_ids is None else [*external_ids]
        if not _are_texts(*given):
            return super().nodes_by_external_ids(kind, given)
        return nodes_by_external_ids(self._snapshot(), kind, given)

    def node_by_type_and_name(
        self, kind: NodeKind, type_name: str, type_version: str | None, name: str
    ) -> Node | None:
        if not _are_texts(type_name, type_version or "", name):
            return super().node_by_type_and_name(kind, type_name, type_version, name)
        snapshot = self._snapshot()
        return node_by_type_and_name(snapshot, kind, type_name, type_version, name)

    def artifacts_by_uri(self, uri: str) -> list[mlmd.Artifact]:
        if not _are_texts(uri):
            return super().artifacts_by_uri(uri)
        return artifacts_by_uri(self._snapshot(), uri)

    def events_of(self, kind: NodeKind, node_ids: Iterable[int]) -> list[mlmd.Event]:
        return events_of_nodes(self._snapshot(), kind, node_ids)

    def nodes(
        self, kind: NodeKind, list_options: ListOptions | None, context_id: int | None = None
    ) -> list[Node]:
        if list_options is None:
            return super().nodes(kind, list_options, context_id)
        if context_id is not None:
            [context_id] = distinct_ids([as_integer(context_id)])
        limit, options = checked_limit(list_options), list_operation(list_options)
        snapshot = self._snapshot()
        return list_nodes(snapshot, kind, options, limit=limit, context_id=context_id)

    def put_nodes(
        self, kind: NodeKind, nodes: Sequence[Node], mask_paths: Sequence[str] | None
    ) -> list[int]:
        if mask_paths or not _are_all(nodes, kind.message):
            return super().put_nodes(kind, nodes, mask_paths)
        return self._put(lambda transaction, given: put_nodes(transaction, kind, given), nodes)

    def put_events(self, events: Sequence[mlmd.Event]) -> None:
        if not _are_all(events, mlmd.Event):
            return super().put_events(events)
        return self._put(put_all_events, events)

    def _put(self, put: Callable[[Any, Any], _Answer], given: object) -> _Answer:
        answer: _Answer = self._retried(partial(self._engine.put, put, given, shares=True))
        return answer

    def _retried(self, call: Callable[[], _Answer]) -> _Answer:
        return retried(call, self._retries)


def _are_texts(*values: object) -> bool:
    """Whether a look-up can do without a request, which would refuse what is no text."""
    return all(type(value) is str for value in values)


def _are_all(messages: Any, message_class: Any) -> bool:
    """Whether it is a list of messages of one of our classes and nothing else."""
    return type(messages) is list and {*map(type, messages)} <= {message_class}
