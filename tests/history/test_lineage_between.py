"""The lineage near a node, between two moments."""

from __future__ import annotations

import random
from typing import Any

import pytest

import eventstore
from eventstore import errors
from eventstore.history.lineage_between import (
    VERSIONS_MAX,
    LineageBetween,
    context_between,
    lineage_between,
)
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import memory_store
from tests.pages.stores import Recorder
from tests.property.test_history import nodes_of, run_program, without_times

DIRECTIONS = ("upstream", "downstream", "both")


def between(
    store: eventstore.MetadataStore,
    kind: str,
    node_id: int,
    first: int,
    second: int | None = None,
    **options: Any,
) -> LineageBetween:
    engine = store._engine
    second = store.log_position() if second is None else second
    given = {"direction": "upstream", "hops": 6, "limit": 500} | options
    return lineage_between(engine.log, engine.projections, kind, node_id, first, second, **given)


def marks(found: LineageBetween) -> dict[tuple[str, int], str]:
    return {node.key: node.mark for node in found.nodes}


@pytest.mark.parametrize("seed", range(4))
def test_it_is_what_the_lineages_as_of_both_moments_say(seed: int) -> None:
    store = memory_store()
    positions = run_program(store, seed, 50)
    choice = random.Random(seed)
    for _ in range(4):
        first, second = sorted(choice.sample(positions[1:], 2))
        then, later = store.as_of(first), store.as_of(second)
        known = {(k, i): n for k in ("artifact", "execution") for i, n in nodes_of(then, k).items()}
        for kind in ("artifact", "execution"):
            for node_id in nodes_of(later, kind):
                direction, hops = choice.choice(DIRECTIONS), choice.choice((0, 1, 3, None))
                asked = {"direction": direction, "hops": hops}
                found = between(store, kind, node_id, first, second, **asked)
                told = {"direction": direction, "max_hops": hops}
                after = later.lineage(kind, node_id, **told)
                whole = later.lineage(kind, node_id, direction=direction)
                assert found.left_out == 0
                assert {node.key for node in found.nodes} == {node.key for node in after.nodes}
                links = {(link.source, link.target) for link in found.links}
                assert links >= {(edge.source, edge.target) for edge in after.edges}
                assert links <= {(edge.source, edge.target) for edge in whole.edges}
                before = set[tuple[str, int]]()
                if (kind, node_id) in known:
                    before = {node.key for node in then.lineage(kind, node_id, **told).nodes}
                expected = {
                    node.key: "added"
                    if node.key not in before
                    else "same"
                    if without_times(node.message) == without_times(known[node.key])
                    else "changed"
                    for node in after.nodes
                }
                assert marks(found) == expected
                at = choice.choice([p for p in positions if first <= p <= second])
                expected_then = set[tuple[str, int]]()
                if node_id in nodes_of(store.as_of(at), kind):
                    expected_then = {
                        n.key for n in store.as_of(at).lineage(kind, node_id, **told).nodes
                    }
                assert {node.key for node in found.nodes if node.since <= at} == expected_then
                if hops is None:
                    assert all(node.beyond == 0 for node in found.nodes)


def test_a_node_tells_its_versions_with_who_and_why() -> None:
    recorder = Recorder()
    store = recorder.store
    sales = recorder.source("sales")
    (model,) = recorder.step("train", [sales], "model")
    then = store.log_position()
    with store.acting(actor="ben", reason="counted twice", request_id="DQ-1"):
        (bad,) = store.get_artifacts_by_id([sales])
        bad.state = mlmd.Artifact.MARKED_FOR_DELETION
        store.put_artifacts([bad])
    found = between(store, "artifact", model, then)
    assert marks(found) == {
        ("artifact", model): "same",
        ("execution", 1): "same",
        ("artifact", sales): "changed",
    }
    assert found.counts() == {"added": 0, "changed": 1, "gone": 0, "same": 2}
    assert [node.hops for node in found.nodes] == [0, 1, 2]
    old, new = found.nodes[2].versions
    assert (old.position <= then, old.state, old.actor) == (True, "", None)
    assert (new.state, new.actor, new.reason) == ("MARKED_FOR_DELETION", "ben", "counted twice")
    assert new.recorded_at == store.history("artifact", sales)[1].recorded_at
    assert [(change.field, change.after) for change in new.changes] == [
        ("state", "MARKED_FOR_DELETION")
    ]
    # Back as it was: nothing differs, though there were versions in between.
    now = store.log_position()
    for uri in ("elsewhere", ""):
        bad.uri = uri
        store.put_artifacts([bad])
    node = between(store, "artifact", model, now).nodes[2]
    assert (node.mark, len(node.versions)) == ("same", 3)


def test_why_is_told_of_changes_first_and_of_nothing_erased(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("eventstore.history.lineage_between._REASONS_MAX", 1)
    recorder = Recorder()
    store = recorder.store
    sales = recorder.source("sales")
    then = store.log_position()
    with store.acting(actor="ben", reason="counted twice"):
        (bad,) = store.get_artifacts_by_id([sales])
        bad.uri = "elsewhere"
        store.put_artifacts([bad])
    with store.acting(actor="ana", reason="a new model"):
        (model,) = recorder.step("train", [sales], "model")

    def told() -> list[tuple[str | None, str | None]]:
        nodes = between(store, "artifact", model, then).nodes
        return [(node.versions[-1].actor, node.versions[-1].reason) for node in nodes]

    assert told() == [("ana", None), ("ana", None), ("ben", "counted twice")]
    store.erase("artifact", sales, who=True, content=False, reason="GDPR-17")
    assert told() == [("ana", "a new model"), ("ana", "a new model"), (None, None)]


def test_only_the_newest_of_many_versions_are_told() -> None:
    recorder = Recorder()
    store = recorder.store
    sales = recorder.source("sales")
    then = store.log_position()
    (artifact,) = store.get_artifacts_by_id([sales])
    for number in range(VERSIONS_MAX + 4):
        artifact.custom_properties["checks"].int_value = number
        store.put_artifacts([artifact])
    for first in (0, then):
        (node,) = between(store, "artifact", sales, first).nodes
        assert (len(node.versions), node.versions_left_out) == (VERSIONS_MAX, 5)
        assert node.versions[0].position == then
        # Told against the version before it in the list.
        assert [(c.before, c.after) for c in node.versions[1].changes] == [(None, 5)]
    (node,) = between(store, "artifact", sales, store.log_position()).nodes
    assert len(node.versions) == 1


def test_a_limit_takes_the_nearest_and_says_what_lies_beyond() -> None:
    recorder = Recorder()
    store = recorder.store
    sources = [recorder.source(f"origin-{number}") for number in range(8)]
    (joined,) = recorder.step("join", sources, "joined")
    (model,) = recorder.step("train", [joined], "model")
    then = store.log_position()
    found = between(store, "artifact", model, then, limit=6)
    assert [node.key for node in found.nodes] == [
        ("artifact", model),
        ("execution", 2),
        ("artifact", joined),
        ("execution", 1),
        ("artifact", sources[-2]),
        ("artifact", sources[-1]),
    ]
    assert found.left_out == 6
    assert [node.beyond for node in found.nodes] == [0, 0, 0, 6, 0, 0]
    assert set(marks(found).values()) == {"same"}

    near = between(store, "artifact", model, then, hops=2)
    assert [node.beyond for node in near.nodes] == [0, 0, 1]
    opened = between(store, "artifact", model, then, hops=2, opened=[("artifact", joined)])
    assert len(opened.nodes) == 12
    assert max(node.hops for node in opened.nodes) == 4
    assert set(marks(opened).values()) == {"same"}
    # What was not reached opens nothing.
    assert between(store, "artifact", model, then, hops=0, opened=[("artifact", joined)]).nodes == (
        between(store, "artifact", model, then, hops=0).nodes
    )


def test_what_was_erased_in_between_is_gone() -> None:
    recorder = Recorder()
    store = recorder.store
    sales = recorder.source("sales")
    (model,) = recorder.step("train", [sales], "model")
    then = store.log_position()
    store.erase("artifact", sales, reason="GDPR-17")
    erased = between(store, "artifact", model, then)
    assert marks(erased)["artifact", sales] == "gone"
    assert erased.nodes[2].versions[-1].is_erased
    assert erased.nodes[2].type == "Dataset"
    # Its content is answered as of no moment any more.
    for first, second in ((then, then), (store.log_position(), store.log_position())):
        found = between(store, "artifact", model, first, second)
        assert marks(found)["artifact", sales] == "same"
        assert found.nodes[2].versions[-1].is_erased


def test_a_context_has_its_executions_with_what_they_took_and_made() -> None:
    recorder = Recorder()
    store = recorder.store
    context_type = store.put_context_type(mlmd.ContextType(name="Run"))
    (context,) = store.put_contexts([mlmd.Context(type_id=context_type, name="run")])
    sales = recorder.source("sales")
    (features,) = recorder.step("transform", [sales], "features")
    recorder.step("elsewhere", [features], "other")
    store.put_attributions_and_associations(
        [], [mlmd.Association(execution_id=1, context_id=context)]
    )
    then = store.log_position()
    recorder.step("train", [features], "model")
    store.put_attributions_and_associations(
        [], [mlmd.Association(execution_id=3, context_id=context)]
    )
    engine = store._engine

    def graph(first: int, second: int, limit: int = 500) -> LineageBetween:
        return context_between(engine.log, engine.projections, context, first, second, limit=limit)

    whole = graph(then, store.log_position())
    told = store.context_graph(context)
    assert {node.key for node in whole.nodes} == {node.key for node in told.nodes}
    links = [(link.source, link.target) for link in whole.links]
    assert links == [(edge.source, edge.target) for edge in told.edges]
    assert {key for key, mark in marks(whole).items() if mark == "added"} == {
        ("execution", 3),
        ("artifact", features + 2),
    }
    assert set(marks(graph(then, then)).values()) == {"same"}
    cut = graph(then, store.log_position(), 3)
    assert {node.key for node in cut.nodes} == {
        ("execution", 3),
        ("artifact", features),
        ("artifact", features + 2),
    }
    assert cut.left_out == 1
    with pytest.raises(errors.NotFoundError, match="no context has id 9"):
        context_between(engine.log, engine.projections, 9, 0, then, limit=5)


def test_bad_questions_are_refused() -> None:
    recorder = Recorder()
    store = recorder.store
    sales = recorder.source("sales")
    for options, said in (
        ({"direction": "left"}, "direction 'left'"),
        ({"hops": -1}, "hops is -1"),
        ({"limit": 0}, "limit is 0"),
        ({"limit": 2_001}, "limit is 2001"),
    ):
        with pytest.raises(errors.InvalidArgumentError, match=said):
            between(store, "artifact", sales, 0, **options)
    with pytest.raises(errors.InvalidArgumentError, match="swap them"):
        between(store, "artifact", sales, 3, 2)
    with pytest.raises(errors.InvalidArgumentError, match="has no lineage"):
        between(store, "context", sales, 0)
    with pytest.raises(errors.NotFoundError, match="no artifact has id 9"):
        between(store, "artifact", 9, 0)
