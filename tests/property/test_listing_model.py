"""A listing has the rows of a plain list of nodes: filtered, in order, cut, as of a position."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import count, product
from typing import Any

import pytest
from msgspec.structs import replace

import eventstore
from eventstore.log import MemoryLog
from eventstore.log.kinds import ARTIFACT
from eventstore.projections import Projections
from eventstore.projections.filter import compile_filter
from eventstore.projections.judging import Candidates
from eventstore.projections.listing import InContext, Listing, NodeIds
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.store import transaction
from tests.builders import append, draft, limited_planner, memory_store

NODES = 14


@pytest.fixture(scope="module")
def store() -> Iterator[eventstore.MetadataStore]:
    """Artifacts of two types, some changed, in one context and with events; times in threes."""
    clock = count(1_000)
    with pytest.MonkeyPatch.context() as patch, memory_store() as made:
        patch.setattr(transaction, "now_in_milliseconds", lambda: next(clock) // 3)
        types = [made.put_artifact_type(mlmd.ArtifactType(name=name)) for name in ("A", "B")]
        group = made.put_context_type(mlmd.ContextType(name="C"))
        made.put_contexts([mlmd.Context(type_id=group, name="c")])
        step = made.put_execution_type(mlmd.ExecutionType(name="E"))
        made.put_executions([mlmd.Execution(type_id=step) for _ in range(2)])
        for n in range(1, NODES + 1):
            made.put_artifacts([mlmd.Artifact(type_id=types[n % 2], name=f"n{n}", uri=f"u{n % 4}")])
            if n % 3 == 0:
                made.put_attributions_and_associations(
                    [mlmd.Attribution(artifact_id=n, context_id=1)], []
                )
            if n % 5 == 0:
                made.put_events(
                    [mlmd.Event(artifact_id=n, execution_id=1 + n % 2, type=mlmd.Event.INPUT)]
                )
        for n in (9, 2, 6, 13):
            made.put_artifacts([mlmd.Artifact(id=n, uri="u0")])
        yield made


FILTERS: dict[str | None, Callable[[Any], bool]] = {
    None: lambda _: True,
    "uri LIKE '%0'": lambda node: node.uri == "u0",
    "uri = 'u1' OR uri = 'u0'": lambda node: node.uri in ("u0", "u1"),
    "name IN ('n2', 'n3', 'n6', 'n13') AND uri != 'u3'": lambda node: (
        node.name in ("n2", "n3", "n6", "n13") and node.uri != "u3"
    ),
    "uri = 'u0' AND id > 3": lambda node: node.uri == "u0" and node.id > 3,
    "id + 0 < 8": lambda node: node.id < 8,
    "events_e.type = INPUT": lambda node: node.id % 5 == 0,
    "contexts_c.id + 0 = 1": lambda node: node.id % 3 == 0,
    "events_e.type = INPUT AND uri LIKE 'u%'": lambda node: node.id % 5 == 0,
    "contexts_c.name = 'c' AND uri != 'u1'": lambda node: node.id % 3 == 0 and node.uri != "u1",
}
ORDERS = {
    "id": lambda node: node.id,
    "create_time": lambda node: node.create_time_since_epoch,
    "update_time": lambda node: node.last_update_time_since_epoch,
}
NARROWED: list[dict[str, Any]] = [
    {},
    {"type_id": 11},
    {"among": InContext(1)},
    {"among": NodeIds((3, 4, 6, 99))},
    {"among": InContext(1), "type_id": 10},
]


def test_listings_are_those_of_a_plain_list(
    store: eventstore.MetadataStore,
) -> None:
    projections, newest = store._engine.projections, store.log_position()
    planner = limited_planner(projections, at_once=2)
    tables = projections.opened_tables()
    narrowing = {InContext(1): {3, 6, 9, 12}, NodeIds((3, 4, 6, 99)): {3, 4, 6}}
    ways = [*product(FILTERS, ORDERS, (False, True), (None, 1, 3, 50), NARROWED, range(3))]
    found = 0
    for query, order_by, descending, limit, narrowed, seen in random.Random(7).sample(ways, 450):
        as_of = (newest, newest - 2, newest - 4)[seen]
        nodes = [
            node
            for node in store.as_of(as_of).get_artifacts()
            if FILTERS[query](node)
            and narrowed.get("type_id") in (None, node.type_id)
            and node.id in narrowing.get(narrowed.get("among"), range(99))
        ]
        rows = sorted(((ORDERS[order_by](n), n.id) for n in nodes), reverse=descending)
        where = None if query is None else compile_filter(query, "artifact")
        listing = Listing(
            ARTIFACT,
            as_of,
            order_by=order_by,
            descending=descending,
            limit=limit,
            where=where,
            **narrowed,
        )
        middle = rows[len(rows) // 2] if rows and limit != 50 else None
        for after in (None, middle):
            wanted = [row for row in rows if after is None or row > after]
            if descending:
                wanted = [row for row in rows if after is None or row < after]
            expected = [(node_id, value) for value, node_id in wanted[:limit]]
            asked = replace(listing, after=after)
            assert planner.find(asked).rows == expected, asked
            tables.fold(as_of)
            assert tables.scanned(asked) == expected, asked
            found += len(expected)
    assert found > 1_000


@pytest.mark.parametrize("ids", [[1, 2, 3, 4], [1, 2, 3, 9], [3, 40, 41, 200], [1, 200], [7], []])
def test_pages_of_all_nodes_whatever_ids_are_missing(ids: list[int]) -> None:
    log = MemoryLog()
    for node_id in ids:
        append(log, draft(node_id))
    append(log, draft(300, name="later"))
    projections, as_of = Projections(log), len(ids)
    projections.catch_up()
    for descending, limit, after in product((False, True), (1, 2, 3, 4, 60), (None, 0, 2, 3, 41)):
        known = sorted(ids, reverse=descending)
        if after is not None:
            known = [n for n in known if (n < after if descending else n > after)]
        listing = Listing(
            ARTIFACT,
            as_of,
            descending=descending,
            limit=limit,
            after=None if after is None else (after, after),
        )
        expected = [(node_id, node_id) for node_id in known[:limit]]
        assert projections.planner.find(listing).rows == expected, listing
        plan = projections.planner.plan(listing)
        assert isinstance(plan, Candidates)
        assert plan.count <= 4 * limit
    projections.close()
