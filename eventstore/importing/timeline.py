"""In which order an import appends nodes and links.

MLMD keeps the present and some times, not the order of its puts. This order is rebuilt from them,
the same each time:

1. Types, by id. They have no times, and everything else needs them.
2. Nodes, by creation time.
3. A link at the creation time of the younger of its ends, an event not before its own time. Ids
   were given out in the order of the puts, so a link never precedes one of its kind with a lower
   id; for events that holds within an execution, because clients choose their times. Parent
   contexts have no ids: they are given some in this order.

At one moment contexts precede artifacts, artifacts executions, and all nodes the links; among
equals the lower id is first. So a node always precedes the links to it, if it exists at all.

Of each row three numbers are kept in memory until all are sorted: a server that sorted them would
have to keep the result open, and could answer nothing else meanwhile.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from itertools import count
from typing import Any, Final

import pyarrow as pa

from eventstore.importing.mlmd_database import MlmdDatabase
from eventstore.log import record as kind_names

_KINDS: Final = (
    kind_names.CONTEXT,
    kind_names.ARTIFACT,
    kind_names.EXECUTION,
    kind_names.PARENT_CONTEXT,
    kind_names.ATTRIBUTION,
    kind_names.ASSOCIATION,
    kind_names.EVENT,
)
"""At one moment, in this order."""

_NODES: Final = """
SELECT id, create_time_since_epoch AS moment FROM {{{0}}} AS this WHERE id > :after
"""
_LINKS: Final = """
SELECT link.id, context.create_time_since_epoch AS one, node.create_time_since_epoch AS other
FROM {{{0}}} AS link
LEFT JOIN {{Context}} AS context ON context.id = link.context_id
LEFT JOIN {{{1}}} AS node ON node.id = link.{2}
WHERE link.id > :after
"""
_EVENTS: Final = """
SELECT link.id, link.execution_id, link.milliseconds_since_epoch AS moment,
    artifact.create_time_since_epoch AS one, execution.create_time_since_epoch AS other
FROM Event AS link
LEFT JOIN {Artifact} AS artifact ON artifact.id = link.artifact_id
LEFT JOIN {Execution} AS execution ON execution.id = link.execution_id
WHERE link.id > :after
"""

_SORTED_AT_ONCE: Final = 10_000


class Timeline:
    """Every node and link of a database, in the order of an import."""

    def __init__(self, database: MlmdDatabase) -> None:
        self._moments = array("q")
        self._ranks = array("b")
        self._ids = array("q")
        self._parents: list[tuple[int, int]] = []
        context_moments = self._take_nodes(database)
        self._take_links(database, context_moments)

    def __iter__(self) -> Iterator[tuple[str, int, tuple[int, int] | None]]:
        """(kind, id, None), of parent contexts with the ids of child and parent instead."""
        columns: list[tuple[str, array[int], Any]] = [
            ("moment", self._moments, pa.int64()),
            ("rank", self._ranks, pa.int8()),
            ("id", self._ids, pa.int64()),
        ]
        table = pa.table(
            {
                name: pa.Array.from_buffers(of, len(values), [None, pa.py_buffer(values)])
                for name, values, of in columns
            }
        ).sort_by([(name, "ascending") for name, _, _ in columns])
        numbers = count(1)
        for batch in table.select(["rank", "id"]).to_batches(max_chunksize=_SORTED_AT_ONCE):
            for rank, row_id in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                if _KINDS[rank] == kind_names.PARENT_CONTEXT:
                    yield _KINDS[rank], next(numbers), self._parents[row_id]
                else:
                    yield _KINDS[rank], row_id, None

    def _take_nodes(self, database: MlmdDatabase) -> dict[int, int]:
        context_moments = {}
        for table, kind in (
            ("Context", kind_names.CONTEXT),
            ("Artifact", kind_names.ARTIFACT),
            ("Execution", kind_names.EXECUTION),
        ):
            for row in database.pages(_NODES.format(table)):
                moment = _moment(row["moment"])
                self._take(kind, row["id"], moment)
                if kind == kind_names.CONTEXT:
                    context_moments[row["id"]] = moment
        return context_moments

    def _take_links(self, database: MlmdDatabase, context_moments: dict[int, int]) -> None:
        for number, (child, parent) in enumerate(database.parent_contexts()):
            self._parents.append((child, parent))
            moment = _moment(context_moments.get(child), context_moments.get(parent))
            self._take(kind_names.PARENT_CONTEXT, number, moment)
        for kind, table, node in (
            (kind_names.ATTRIBUTION, "Attribution", "Artifact"),
            (kind_names.ASSOCIATION, "Association", "Execution"),
        ):
            latest = -(2**63)
            sql = _LINKS.format(table, node, f"{node.lower()}_id")
            for row in database.pages(sql, "link.id"):
                latest = max(latest, _moment(row["one"], row["other"]))
                self._take(kind, row["id"], latest)
        repeated = database.repeated_events()
        latest_of: dict[Any, int] = {}
        for row in database.pages(_EVENTS, "link.id"):
            if row["id"] not in repeated:
                moment = _moment(row["moment"], row["one"], row["other"])
                moment = max(moment, latest_of.get(row["execution_id"], moment))
                latest_of[row["execution_id"]] = moment
                self._take(kind_names.EVENT, row["id"], moment)

    def _take(self, kind: str, row_id: int, moment: int) -> None:
        self._moments.append(moment)
        self._ranks.append(_KINDS.index(kind))
        self._ids.append(row_id)


def _moment(*moments: object) -> int:
    """The latest of some moments; what is no number counts as 0, as NULL does."""
    return max(moment if isinstance(moment, int) else 0 for moment in moments)
