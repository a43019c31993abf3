"""What is downstream of nodes, to tell which of them led to others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Final

from eventstore.log.kinds import ARTIFACT, EXECUTION
from eventstore.projections.lineage import INPUTS, walk
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.store.snapshot import Snapshot

_HOPS_MAX: Final = 2**62


class Downstream:
    """Nodes, and all that is downstream of them as of a snapshot.

    `ids` are of all of them, by kind. A node is a kind and an id; contexts lead to nothing.
    """

    def __init__(self, snapshot: Snapshot, nodes: Iterable[tuple[str, int]]) -> None:
        self.ids: dict[str, set[int]] = defaultdict(set)
        for kind_name, node_id in nodes:
            self.ids[kind_name].add(node_id)
        self._sources: dict[tuple[str, int], set[tuple[str, int]]] = defaultdict(set)
        starts = {kind.name: set(self.ids[kind.name]) for kind in (ARTIFACT, EXECUTION)}
        for kind_name, starting_ids in starts.items():
            walked = walk(
                snapshot.projections,
                as_of=snapshot.position,
                starting_kind=kind_name,
                starting_ids=starting_ids,
                max_num_hops=_HOPS_MAX,
                direction=mlmd.LineageSubgraphQueryOptions.DOWNSTREAM,
                endings={},
            )
            self.ids[ARTIFACT.name] |= walked.artifact_ids
            self.ids[EXECUTION.name] |= walked.execution_ids
            for event in walked.events:
                artifact = (ARTIFACT.name, event.artifact_id)
                execution = (EXECUTION.name, event.execution_id)
                if event.type in INPUTS:
                    self._sources[execution].add(artifact)
                else:
                    self._sources[artifact].add(execution)

    def leading_to(self, targets: Collection[tuple[str, int]]) -> set[tuple[str, int]]:
        """The targets, and those of the nodes that are upstream of one."""
        reached = level = set(targets)
        while level:
            level = {source for node in level for source in self._sources[node]} - reached
            reached = reached | level
        return reached
