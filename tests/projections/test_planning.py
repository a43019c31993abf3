"""How listings are answered: which plan is made, and what it leaves out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest

import eventstore
from eventstore import errors
from eventstore.log.kinds import ARTIFACT, CONTEXT, EXECUTION, NodeKind
from eventstore.metadata_store.options import ListOptions, OrderByField
from eventstore.projections.filter import compile_filter
from eventstore.projections.judging import Candidates
from eventstore.projections.listing import InContext, Listing, NodeIds
from eventstore.projections.planning import Planner, Scan
from eventstore.projections.point_index import PointIndex
from eventstore.projections.recent_records import RECENT_RECORDS_MAX
from eventstore.projections.tables import Tables
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import limited_planner, memory_store

NODES = 30


@pytest.fixture
def store() -> Iterator[eventstore.MetadataStore]:
    """Artifacts a1 to a30 of a type; every third one is in a context, every fifth an input."""
    with memory_store() as made:
        kind = made.put_artifact_type(mlmd.ArtifactType(name="A"))
        group = made.put_context_type(mlmd.ContextType(name="C"))
        step = made.put_execution_type(mlmd.ExecutionType(name="E"))
        made.put_contexts([mlmd.Context(type_id=group, name=name) for name in ("c", "d")])
        made.put_executions([mlmd.Execution(type_id=step) for _ in range(2)])
        nodes = [mlmd.Artifact(type_id=kind, name=f"a{n}", uri="u") for n in range(1, NODES + 1)]
        for n, node in enumerate(nodes, 1):
            node.custom_properties["n"].int_value = n % 4
        made.put_artifacts(nodes)
        for n in range(1, NODES + 1):
            if n % 3 == 0:
                attribute(made, n)
            if n % 5 == 0:
                use(made, n)
        yield made


def attribute(store: eventstore.MetadataStore, node_id: int, context_id: int = 1) -> None:
    link = mlmd.Attribution(artifact_id=node_id, context_id=context_id)
    store.put_attributions_and_associations([link], [])


def use(store: eventstore.MetadataStore, node_id: int, run: int = 1) -> None:
    event = mlmd.Event(artifact_id=node_id, execution_id=run, type=mlmd.Event.INPUT)
    store.put_events([event])


def asked(
    store: eventstore.MetadataStore, query: str | None, kind: NodeKind = ARTIFACT, **said: object
) -> Listing:
    where = None if query is None else compile_filter(query, kind.name)
    return Listing(kind, store.log_position(), where=where, **said)  # type: ignore[arg-type]


def planner_of(store: eventstore.MetadataStore) -> Planner:
    return store._engine.projections.planner


@pytest.mark.parametrize(
    ("query", "said", "reason"),
    [
        (None, {"limit": 5}, "a page of all nodes by id"),
        (None, {"limit": 5, "descending": True}, "a page of all nodes by id"),
        (None, {"among": InContext(1)}, "the nodes of context 1"),
        ("events_0.type = INPUT", {"among": NodeIds([1, 2])}, "2 given ids"),
        ("id IN (3, 4) AND events_0.type = INPUT", {}, "look-up by id"),
        ("name = 'a7' AND contexts_0.name LIKE '%'", {}, "look-up by name"),
        ("contexts_0.name = 'c' AND uri = 'u'", {}, "look-up by uri"),
        ("contexts_0.name = 'c'", {}, "look-up by context name"),
    ],
)
def test_candidates(
    store: eventstore.MetadataStore, query: str | None, said: dict[str, object], reason: str
) -> None:
    plan = planner_of(store).plan(asked(store, query, **said))
    assert isinstance(plan, Candidates)
    assert plan.reason == reason


@pytest.mark.parametrize(
    ("query", "said", "reason"),
    [
        (None, {}, "all nodes are asked for, but not a page of them by id"),
        (None, {"limit": 5, "order_by": "create_time"}, "all nodes are asked for"),
        (None, {"limit": 5, "type_id": 10}, "all nodes are asked for"),
        ("name LIKE 'a%'", {}, "the filter asks for no value that is looked up"),
        ("id + 1 = 2", {}, "only SQL evaluates"),
        ("events_0.type = INPUT AND events_1.type = OUTPUT AND id = 1", {}, "only SQL evaluates"),
        ("custom_properties.n.int_value = 1", {}, "values of property 'n' are not held"),
        ("uri = ''", {}, "artifacts without a uri"),
        ("uri = 'u'", {}, "look-up by uri: 30 are too many to judge"),
        ("contexts_0.id IN (1, 2)", {}, "2 contexts are too many to look into"),
    ],
)
def test_scans(
    store: eventstore.MetadataStore, query: str | None, said: dict[str, object], reason: str
) -> None:
    planner = limited_planner(store._engine.projections, nodes_max=20, contexts_max=1)
    plan = planner.plan(asked(store, query, **said))
    assert isinstance(plan, Scan)
    assert reason in plan.reason


def test_values_are_candidates_when_they_were_asked_for_repeatedly(
    store: eventstore.MetadataStore,
) -> None:
    planner = planner_of(store)
    listing = asked(store, "custom_properties.n.int_value = 3 AND events_0.type = INPUT")
    for _ in range(3):
        assert isinstance(planner.plan(listing), Scan)
        assert planner.find(listing).rows == [(15, 15)]
    plan = planner.plan(listing)
    assert isinstance(plan, Candidates)
    assert (plan.reason, plan.count) == ("held values of property 'n'", 7)
    assert planner.find(listing).rows == [(15, 15)]


@pytest.mark.parametrize(
    ("condition", "count", "found"),
    [
        ("n.int_value > 2", 15, [3, 7, 11, 15, 19, 23, 27]),
        ("n.int_value >= 3 AND type = 'A'", 7, [3, 7, 11, 15, 19, 23, 27]),
        ("n.int_value <= 0", 7, [4, 8, 12, 16, 20, 24, 28]),
        ("n.int_value < 1", 15, [4, 8, 12, 16, 20, 24, 28]),
        ("n.int_value BETWEEN 3 AND 9", 7, [3, 7, 11, 15, 19, 23, 27]),
        ("n.int_value > 1 AND custom_properties.n.int_value = 2", 8, [*range(2, 31, 4)]),
        ("n.int_value > 0", None, [n for n in range(1, 31) if n % 4]),
        ("n.int_value BETWEEN 0 AND 1", 15, [n for n in range(1, 31) if n % 4 < 2]),
        ("n.int_value > 9", 0, []),
        ("n.int_value > 2.5", None, [3, 7, 11, 15, 19, 23, 27]),
        ("n.int_value != 3", None, [n for n in range(1, 31) if n % 4 != 3]),
    ],
)
def test_a_narrow_range_leads_to_candidates(
    store: eventstore.MetadataStore, condition: str, count: int | None, found: list[int]
) -> None:
    planner = limited_planner(store._engine.projections, nodes_max=15)
    listing = asked(store, f"custom_properties.{condition}")
    for _ in range(4):
        assert [node_id for node_id, _ in planner.find(listing).rows] == found
    plan = planner.plan(listing)
    if count is None:
        assert isinstance(plan, Scan)
    else:
        assert isinstance(plan, Candidates)
        assert plan.count == count


def test_a_wide_range_is_not_put_in_order(store: eventstore.MetadataStore) -> None:
    planner = limited_planner(store._engine.projections, nodes_max=7, sorted_max=23)
    for query, limit, reason in (
        ("n.int_value > 0", 1, ": 30 are too many to put in order"),
        ("n.int_value > 1", None, ": 23 are too many to judge"),
        ("n.int_value > 1", 1, ""),
        ("n.int_value > 3", None, ""),
    ):
        listing = asked(store, f"custom_properties.{query}", limit=limit)
        for _ in range(3):
            planner.find(listing)
        plan = planner.plan(listing)
        assert isinstance(plan, Scan) == bool(reason)
        assert plan.reason == f"held values of property 'n'{reason}"


def test_fewer_nodes_of_a_small_store_are_judged_in_vain(store: eventstore.MetadataStore) -> None:
    for nodes_max, share, reason in ((100, 6, " 8 are too many"), (100, 5, ""), (7, 1, " 8 are")):
        planner = limited_planner(
            store._engine.projections, nodes_max=nodes_max, held_min=2, held_share=share
        )
        listing = asked(store, "custom_properties.n.int_value = 2")
        for _ in range(4):
            assert len(planner.find(listing).rows) == 8
        plan = planner.plan(listing)
        assert isinstance(plan, Scan) == bool(reason)
        assert reason in plan.reason


@pytest.mark.parametrize(
    ("said", "within"),
    [
        ({"limit": 1}, [range(1, 5)]),
        ({"limit": 1, "descending": True}, [range(30, 26, -1), None]),
        ({"limit": 1, "after": (2, 2)}, [range(3, 7), None]),
        ({"limit": 1, "after": (11, 11)}, [range(12, 16)]),
        ({"limit": 1, "after": (9, 9), "descending": True}, [None]),
        ({"limit": 1, "after": (20, 20), "descending": True}, [range(19, 15, -1), None]),
        ({"limit": 1, "after": (18, 18)}, [None]),
        ({"limit": 5}, [None]),
        ({}, [None]),
        ({"limit": 1, "order_by": "create_time"}, [None]),
    ],
)
def test_a_page_by_id_is_looked_for_among_few_ids_first(
    store: eventstore.MetadataStore, said: dict[str, Any], within: list[range | None]
) -> None:
    listing = asked(store, "name LIKE '%2'", **said)
    expected = planner_of(store).find(listing).rows
    planner = limited_planner(store._engine.projections, first_ids=4, first_share=4)
    with patch.object(Tables, "scanned", autospec=True, side_effect=Tables.scanned) as scanned:
        assert planner.find(listing).rows == expected
    assert [call.args[1].within for call in scanned.call_args_list] == within
    # No more once it was in vain.
    assert planner.explain(listing).first_ids == (None if None in within else 4)


@pytest.mark.parametrize("query", ["contexts_0.name = 'c'", "contexts_0.name LIKE 'c'"])
@pytest.mark.parametrize("limits", [{"nodes_max": 4}, {"neighbours_max": 4, "at_once": 2}])
def test_what_is_judged_in_vain_is_scanned(
    store: eventstore.MetadataStore, query: str, limits: dict[str, int]
) -> None:
    planner = limited_planner(store._engine.projections, **limits)
    listing = asked(store, f"name != 'a3' AND {query}", among=NodeIds(range(1, 15)))
    assert planner.find(listing).rows == [(n, n) for n in (6, 9, 12)]


def test_links_that_were_just_put_are_laid_over(store: eventstore.MetadataStore) -> None:
    planner, tables = planner_of(store), store._engine.projections.opened_tables()
    tables.fold(store.log_position())
    folded = store.log_position()
    for query, put, node_id in (
        ("events_0.type = INPUT AND name LIKE '%1'", use, 11),
        ("contexts_0.name LIKE 'c' AND name LIKE '%3'", attribute, 13),
    ):
        before = planner.find(asked(store, query)).rows
        put(store, node_id)
        plan = planner.plan(asked(store, query))
        assert isinstance(plan, Scan)
        assert (plan.folded_position, plan.fold_to) == (folded, None)
        assert node_id in plan.laid_over
        rows = planner.find(asked(store, query)).rows
        assert {*rows} - {*before} == {(node_id, node_id)}
        assert tables.folded_position() == folded


def test_what_depends_on_more_than_nodes_and_links_is_folded(
    store: eventstore.MetadataStore,
) -> None:
    planner, tables = planner_of(store), store._engine.projections.opened_tables()
    query = "contexts_0.name LIKE 'e%' AND name LIKE '%3'"
    tables.fold(store.log_position())
    assert planner.find(asked(store, query)).rows == []
    store.put_contexts([mlmd.Context(id=1, type_id=11, name="e")])
    plan = planner.plan(asked(store, query))
    assert isinstance(plan, Scan)
    assert plan.fold_to == store.log_position()
    assert [row[0] for row in planner.find(asked(store, query)).rows] == [3]
    store.put_artifacts([mlmd.Artifact(type_id=10) for _ in range(RECENT_RECORDS_MAX + 1)])
    plan = planner.plan(asked(store, "name LIKE '%3'"))
    assert isinstance(plan, Scan)
    assert plan.fold_to == store.log_position()


def test_what_was_judged_is_not_read_again(store: eventstore.MetadataStore) -> None:
    read: list[int] = []
    newest_of_each = PointIndex.newest_of_each

    def counted(index: PointIndex, table: int, keys: list[int], as_of: int) -> object:
        read.extend(keys)
        return newest_of_each(index, table, keys, as_of)

    with patch.object(PointIndex, "newest_of_each", counted):
        found = store.get_artifacts(ListOptions(filter_query="id IN (3, 4, 5) AND uri = 'u'"))
    assert [node.id for node in found] == read == [3, 4, 5]


def test_other_kinds_have_neighbours_of_their_own(store: eventstore.MetadataStore) -> None:
    planner = planner_of(store)
    ran = asked(store, "events_0.artifact_id = 5 AND id = 1", EXECUTION)
    assert isinstance(planner.plan(ran), Candidates)
    assert planner.find(ran).rows == [(1, 1)]
    of_artifacts = asked(store, "artifacts_0.id = 3 AND name = 'c'", CONTEXT)
    assert isinstance(planner.plan(of_artifacts), Scan)
    assert planner.find(of_artifacts).rows == [(1, 1)]


def test_an_explanation_has_the_query_and_runs_nothing(store: eventstore.MetadataStore) -> None:
    tables = store._engine.projections.opened_tables()
    options = ListOptions(filter_query="name LIKE '%3'", limit=2)
    said = store.explain(options)
    assert (said.way, said.candidates, said.folded_position) == ("scan", None, 0)
    assert (said.fold_to, said.laid_over) == (store.log_position(), 0)
    assert tables.folded_position() == 0
    found = [node.id for node in store.get_artifacts(options)]
    assert store.explain(options).fold_to is None
    assert said.sql is not None
    assert [row[0] for row in tables.query(said.sql, said.parameters)] == found == [3, 13]
    store.put_artifacts([mlmd.Artifact(id=3, type_id=10, name="b3", uri="u")])
    assert store.explain(options).laid_over == 1


def test_explanations_of_past_listings_and_other_kinds(store: eventstore.MetadataStore) -> None:
    position = store.log_position()
    in_context = store.explain(ListOptions(), context_id=1)
    assert (in_context.reason, in_context.candidates) == ("the nodes of context 1", 10)
    named = ListOptions(filter_query="name = 'a1'")
    for kind, count in (("artifact", 1), ("execution", 0), ("context", 0)):
        assert store.explain(named, kind=kind).candidates == count
    assert store.as_of(position - 1).explain(ListOptions(limit=3)).way == "candidates"
    past = store.as_of(position - 1).explain(ListOptions())
    assert past.parameters["as_of"] == position - 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (ListOptions(), {"kind": "event"}),
        (ListOptions(), {"kind": "context", "context_id": 1}),
        (ListOptions(limit=-1), {}),
        (ListOptions(filter_query="nothing = 1"), {}),
    ],
)
def test_what_cannot_be_listed_is_not_explained(
    store: eventstore.MetadataStore, options: ListOptions, said: dict[str, object]
) -> None:
    with pytest.raises(errors.InvalidArgumentError):
        store.explain(options, **said)  # type: ignore[arg-type]


@pytest.mark.parametrize(("context_id", "raised"), [("1", TypeError), (2**63, ValueError)])
def test_what_is_no_context_id_is_not_explained(
    store: eventstore.MetadataStore, context_id: object, raised: type[Exception]
) -> None:
    with pytest.raises(raised):
        store.get_artifacts_by_context(context_id, ListOptions())  # type: ignore[arg-type]
    with pytest.raises(raised):
        store.explain(ListOptions(), context_id=context_id)  # type: ignore[arg-type]


def test_what_asks_for_no_list_has_no_explanation(store: eventstore.MetadataStore) -> None:
    with pytest.raises(errors.InvalidArgumentError, match=r"list_options=None: .* ListOptions\(\)"):
        store.explain(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(("limit", "is_sorted"), [(100, False), (101, True)])
def test_the_newest_of_many_come_in_order(
    store: eventstore.MetadataStore, limit: int, is_sorted: bool
) -> None:
    node_ids = store.put_artifacts([mlmd.Artifact(type_id=10) for _ in range(200)])
    options = ListOptions(limit=limit, order_by=OrderByField.CREATE_TIME, is_asc=False)
    assert [node.id for node in store.get_artifacts(options)] == node_ids[: -limit - 1 : -1]
    assert ("LIMIT (SELECT" in (store.explain(options).sql or "")) is is_sorted
