"""What a store tells about lineage beyond MLMD."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from eventstore.metadata_store.served import served
from eventstore.metadata_store.source import SourceMethods
from eventstore.proto import metadata_store_pb2 as mlmd

if TYPE_CHECKING:
    from eventstore.lineage import Comparison, Graph, Run
    from eventstore.lineage.reuse import PropertyValue

_FINISHED = (mlmd.Execution.COMPLETE, mlmd.Execution.CACHED)


class LineageMethods(SourceMethods):
    """Closures, the graph of a context, reuse and comparison; all of one position of the log."""

    @served("read")
    def lineage(
        self,
        kind: str,
        node_id: int,
        *,
        direction: str = "both",
        max_hops: int | None = None,
        max_nodes: int | None = None,
    ) -> Graph:
        """An artifact or execution and all that is reached from it.

        `kind` is `artifact` or `execution`, `direction` `upstream`, `downstream` or `both`. A hop
        leads from an artifact to an execution or back; None is any number. With `max_nodes` only
        that many, the nearest, are found, at no more cost than theirs, and `left_out` of the graph
        counts what the next hop has beyond them. Raises InvalidArgumentError for another kind or
        direction and for limits below 0 or no nodes, NotFoundError for an unknown node.

        >>> graph = store.lineage("artifact", model.id, direction="upstream")
        >>> [artifact.name for artifact in graph.artifacts()]
        ['sales', 'churn']
        """
        from eventstore.lineage import closure

        return closure(self._source.snapshot(), kind, node_id, direction, max_hops, max_nodes)

    def upstream(
        self,
        kind: str,
        node_id: int,
        *,
        max_hops: int | None = None,
        max_nodes: int | None = None,
    ) -> Graph:
        """All that an artifact or execution was made from; arguments as of `lineage`."""
        return self.lineage(
            kind, node_id, direction="upstream", max_hops=max_hops, max_nodes=max_nodes
        )

    def downstream(
        self,
        kind: str,
        node_id: int,
        *,
        max_hops: int | None = None,
        max_nodes: int | None = None,
    ) -> Graph:
        """All that was made from an artifact or by an execution; arguments as of `lineage`."""
        return self.lineage(
            kind, node_id, direction="downstream", max_hops=max_hops, max_nodes=max_nodes
        )

    @served("read")
    def context_graph(self, context_id: int, *, max_nodes: int | None = None) -> Graph:
        """The executions of a context with all their inputs and outputs.

        With `max_nodes` the newest executions that have no more nodes between them; `left_out` of
        the graph counts the other executions. Raises NotFoundError for an unknown context.
        """
        from eventstore.lineage import context_graph

        return context_graph(self._source.snapshot(), context_id, max_nodes)

    @served("read")
    def find_runs(
        self,
        execution_type: str,
        inputs: Iterable[int] | Mapping[str, Iterable[int]],
        *,
        type_version: str | None = None,
        properties: Mapping[str, PropertyValue] | None = None,
        custom_properties: Mapping[str, PropertyValue] | None = None,
        states: Collection[int] = _FINISHED,
        limit: int | None = None,
    ) -> list[Run]:
        """The executions of a type on exactly these input artifacts, the newest first.

        `inputs` are artifact ids, or ids by the key that the events' paths begin with, such as
        `{"examples": [3, 4], "schema": [5]}`; a path of several keys, each followed by an index,
        stands for several inputs. An execution must have the given properties with
        these values, and one of the states: COMPLETE or CACHED, () for any.

        Raises NotFoundError for an unknown type, InvalidArgumentError for a limit below 1.
        """
        from eventstore.lineage import find_runs

        return find_runs(
            self._source.snapshot(),
            execution_type,
            inputs,
            type_version=type_version,
            properties=properties or {},
            custom_properties=custom_properties or {},
            states=states,
            limit=limit,
        )

    def has_run(
        self,
        execution_type: str,
        inputs: Iterable[int] | Mapping[str, Iterable[int]],
        *,
        type_version: str | None = None,
        properties: Mapping[str, PropertyValue] | None = None,
        custom_properties: Mapping[str, PropertyValue] | None = None,
        states: Collection[int] = _FINISHED,
    ) -> bool:
        """Whether `find_runs` finds any."""
        found = self.find_runs(
            execution_type,
            inputs,
            type_version=type_version,
            properties=properties,
            custom_properties=custom_properties,
            states=states,
            limit=1,
        )
        return bool(found)

    @served("read")
    def compare(self, kind: str, left_id: int, right_id: int) -> Comparison:
        """Two artifacts, executions or contexts of one type, side by side.

        `kind` is `artifact`, `execution` or `context`. Raises NotFoundError for an unknown node,
        InvalidArgumentError when their types differ.
        """
        from eventstore.lineage import compare_nodes

        return compare_nodes(self._source.snapshot(), kind, left_id, right_id)
