"""Closures, reuse and drawings of random graphs, against the plain definition of each."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventstore
from eventstore import errors
from eventstore.lineage import Edge, Graph, GraphNode
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import memory_store

TEXTS = st.text(st.characters(codec="utf-8"), max_size=30)
IN = (mlmd.Event.INPUT, mlmd.Event.DECLARED_INPUT, mlmd.Event.INTERNAL_INPUT)
OUT = (mlmd.Event.OUTPUT, mlmd.Event.DECLARED_OUTPUT, mlmd.Event.PENDING_OUTPUT)

Key = tuple[str, int]


def random_store(choice: random.Random) -> tuple[eventstore.MetadataStore, list[mlmd.Event]]:
    """Some artifacts and executions with random events, cycles among them; all in one context."""
    store = memory_store()
    data = store.put_artifact_type(mlmd.ArtifactType(name="Data"))
    trains = [
        store.put_execution_type(mlmd.ExecutionType(name="Train", properties={"seed": mlmd.INT})),
        store.put_execution_type(mlmd.ExecutionType(name="Other")),
    ]
    artifacts = store.put_artifacts([mlmd.Artifact(type_id=data) for _ in range(8)])
    made = []
    for number in range(8):
        execution = mlmd.Execution(type_id=trains[number % 4 == 3])
        execution.last_known_state = choice.choice((mlmd.Execution.COMPLETE, mlmd.Execution.FAILED))
        execution.custom_properties["seed"].int_value = number % 2
        made.append(execution)
    executions = store.put_executions(made)
    events = {}
    for _ in range(choice.randrange(25)):
        event = mlmd.Event(
            artifact_id=choice.choice(artifacts),
            execution_id=choice.choice(executions),
            type=choice.choice((*IN, *OUT)),
        )
        event.path.steps.add().key = choice.choice(("a", "b"))
        events[event.artifact_id, event.execution_id, event.type] = event
    store.put_events(list(events.values()))
    run = store.put_context_type(mlmd.ContextType(name="Run"))
    (context_id,) = store.put_contexts([mlmd.Context(type_id=run, name="run")])
    store.put_attributions_and_associations(
        [], [mlmd.Association(context_id=context_id, execution_id=e) for e in executions[:4]]
    )
    return store, list(events.values())


def reached(events: list[mlmd.Event], start: Key, direction: str, hops: int | None) -> set[Key]:
    steps = defaultdict(set)
    for event in events:
        artifact, execution = ("artifact", event.artifact_id), ("execution", event.execution_id)
        source, target = (execution, artifact) if event.type in OUT else (artifact, execution)
        if direction in ("downstream", "both"):
            steps[source].add(target)
        if direction in ("upstream", "both"):
            steps[target].add(source)
    found = level = {start}
    while level and hops != 0:
        level = {target for source in level for target in steps[source]} - found
        found = found | level
        hops = None if hops is None else hops - 1
    return found


@pytest.mark.parametrize("seed", range(25))
def test_a_closure_is_all_that_can_be_reached(seed: int) -> None:
    choice = random.Random(seed)
    store, events = random_store(choice)
    for _ in range(10):
        start = (choice.choice(("artifact", "execution")), choice.randrange(1, 9))
        direction = choice.choice(("upstream", "downstream", "both"))
        hops = choice.choice((None, 0, 1, 2, 3, 200))
        graph = store.lineage(*start, direction=direction, max_hops=hops)
        expected = reached(events, start, direction, hops)
        assert {node.key for node in graph.nodes} == expected, (start, direction, hops)
        for edge in graph.edges:
            assert {edge.source, edge.target} <= expected
    graph = store.context_graph(1)
    assert {node.id for node in graph.executions()} == {1, 2, 3, 4}
    assert graph.left_out == 0
    for execution in graph.executions():
        into = {e.artifact_id for e in events if e.execution_id == execution.id and e.type in IN}
        assert {artifact.id for artifact in graph.inputs_of(execution.id)} == into
        out = {e.artifact_id for e in events if e.execution_id == execution.id and e.type in OUT}
        assert {artifact.id for artifact in graph.outputs_of(execution.id)} == out


@pytest.mark.parametrize("seed", range(25))
def test_runs_are_found_by_exactly_their_inputs(seed: int) -> None:
    choice = random.Random(seed)
    store, events = random_store(choice)
    executions = {execution.id: execution for execution in store.get_executions()}
    for execution_id in executions:
        mine = [e for e in events if e.execution_id == execution_id and e.type in IN]
        ids = [event.artifact_id for event in mine]
        by_key: dict[str, list[int]] = defaultdict(list)
        for event in mine:
            by_key[event.path.steps[0].key].append(event.artifact_id)
        custom = choice.choice(({}, {"seed": 0}))
        states = choice.choice(((), (mlmd.Execution.COMPLETE,)))
        for inputs in (ids, by_key):
            runs = store.find_runs("Train", inputs, custom_properties=custom, states=states)
            expected = []
            for other in sorted(executions.values(), key=lambda node: -node.id):
                theirs = [e for e in events if e.execution_id == other.id and e.type in IN]
                is_same = {e.artifact_id for e in theirs} == set(ids)
                if inputs is by_key:
                    is_same = {(e.path.steps[0].key, e.artifact_id) for e in theirs} == {
                        (key, id_) for key, its in by_key.items() for id_ in its
                    }
                if (
                    is_same
                    and other.type == "Train"
                    and (not states or other.last_known_state in states)
                    and (not custom or other.custom_properties["seed"].int_value == 0)
                ):
                    expected.append(other.id)
            assert [run.execution.id for run in runs] == expected
            assert store.has_run("Train", inputs, custom_properties=custom, states=states) is bool(
                expected
            )


def named_graph(names: list[str]) -> Graph:
    nodes = [GraphNode("artifact", 1, mlmd.Artifact(id=1, type=names[0], name=names[1]))]
    nodes.append(GraphNode("execution", 1, mlmd.Execution(id=1, type=names[2], name=names[3])))
    event = mlmd.Event(artifact_id=1, execution_id=1, type=mlmd.Event.INPUT)
    event.path.steps.add().key = names[4]
    event.path.steps.add().index = 3
    return Graph(tuple(nodes), (Edge(("artifact", 1), ("execution", 1), event),))


@given(st.lists(TEXTS, min_size=5, max_size=5))
def test_drawings_hold_names_of_any_text(names: list[str]) -> None:
    graph = named_graph(names)
    dot = graph.to_dot()
    lines = dot.rstrip("\n").split("\n")
    assert (lines[0], lines[-1], len(lines)) == ("digraph lineage {", "}", 6)
    for line in lines[2:5]:
        (label,) = re.findall(r'label="((?:[^"\\]|\\.)*)"\];$', line)
        assert not re.search(r"[\x00-\x1f]", label)
    mermaid = graph.to_mermaid().rstrip("\n").split("\n")
    assert len(mermaid) == 4
    for line in mermaid[1:]:
        assert line.count('"') == 2
        assert not re.search(r"[<>](?<!-->)(?!br/>|\|)", re.sub(r"<br/>|-->", "", line))
    drawn = graph.to_networkx()
    assert drawn.nodes["artifact", 1]["name"] == names[1]
    assert [data["type"] for *_, data in drawn.edges(data=True)] == ["INPUT"]


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
def test_graphviz_reads_the_drawing() -> None:
    graph = named_graph(['a"b', "c\\", "d\n<e>", "{f|g}", 'ä\\"'])
    drawn = subprocess.run(
        ["dot", "-Tplain"], input=graph.to_dot(), capture_output=True, text=True, check=True
    )
    assert drawn.stdout.count("\nnode ") == 2


def test_comparison_names_what_differs() -> None:
    store = memory_store()
    data = store.put_artifact_type(mlmd.ArtifactType(name="Data", properties={"n": mlmd.INT}))
    left, right = mlmd.Artifact(type_id=data, uri="a"), mlmd.Artifact(type_id=data, uri="b")
    left.properties["n"].int_value = right.properties["n"].int_value = 3
    left.custom_properties["x"].int_value = 1
    right.custom_properties["x"].double_value = 1
    right.state = mlmd.Artifact.LIVE
    left.custom_properties["gone"].struct_value["key"] = "value"
    ids = store.put_artifacts([left, right])
    found = store.compare("artifact", *ids)
    assert [(d.field, d.left, d.right) for d in found.differences] == [
        ("state", None, "LIVE"),
        ("uri", "a", "b"),
        ("custom_properties.gone", {"key": "value"}, None),
        ("custom_properties.x", 1, 1.0),
    ]
    assert [field.field for field in found.fields if field.is_equal] == ["properties.n"]
    before = store.log_position()
    right.id = ids[1]
    right.uri = "a"
    store.put_artifacts([right])
    assert "uri" not in {d.field for d in store.compare("artifact", *ids).differences}
    then = store.as_of(before).compare("artifact", *ids)
    assert "uri" in {d.field for d in then.differences}


@pytest.mark.parametrize("seed", range(10))
def test_a_limit_keeps_the_nearest_and_counts_what_the_next_hop_has(seed: int) -> None:
    choice = random.Random(seed)
    store, events = random_store(choice)
    for _ in range(20):
        start = (choice.choice(("artifact", "execution")), choice.randrange(1, 9))
        direction = choice.choice(("upstream", "downstream", "both"))
        limit = choice.randrange(1, 17)
        graph = store.lineage(*start, direction=direction, max_nodes=limit)
        kept = {node.key for node in graph.nodes}
        for hops in range(17):
            within = reached(events, start, direction, hops)
            if len(within) > limit:
                break
        if len(within) <= limit:
            assert (kept, graph.left_out) == (within, 0)
            continue
        nearer = reached(events, start, direction, hops - 1) if hops else set()
        assert nearer <= kept <= within
        assert (len(kept), graph.left_out) == (limit, len(within) - limit)
    whole = store.context_graph(1)
    some = store.context_graph(1, max_nodes=3)
    assert len(some.executions()) + some.left_out == 4
    assert {node.key for node in some.nodes} <= {node.key for node in whole.nodes}
    assert len(some.nodes) <= 3 or len(some.executions()) == 1


def test_a_limited_walk_reads_the_events_of_what_it_keeps_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = memory_store()
    data = store.put_artifact_type(mlmd.ArtifactType(name="Data"))
    train = store.put_execution_type(mlmd.ExecutionType(name="Train"))
    artifacts = store.put_artifacts([mlmd.Artifact(type_id=data) for _ in range(101)])
    executions = store.put_executions([mlmd.Execution(type_id=train) for _ in range(100)])
    for number, execution in enumerate(executions):
        into, out = artifacts[0], artifacts[number + 1]
        store.put_events(
            [
                mlmd.Event(artifact_id=into, execution_id=execution, type=mlmd.Event.INPUT),
                mlmd.Event(artifact_id=out, execution_id=execution, type=mlmd.Event.OUTPUT),
            ]
        )
    index = store._engine.projections.index
    asked: list[int] = []
    entries = index.entries

    def counting(table: int, key: int, as_of: int) -> object:
        asked.append(key)
        return entries(table, key, as_of)

    monkeypatch.setattr(index, "entries", counting)
    graph = store.lineage("artifact", artifacts[1], max_nodes=5)
    assert (len(graph.nodes), graph.left_out) == (5, 97)
    assert len(asked) <= 12


def test_bad_questions_are_refused() -> None:
    store, _ = random_store(random.Random(1))
    with pytest.raises(errors.NotFoundError, match="no artifact has id 99"):
        store.upstream("artifact", 99)
    with pytest.raises(errors.InvalidArgumentError, match="'context' has no lineage"):
        store.downstream("context", 1)
    with pytest.raises(errors.InvalidArgumentError, match="max_hops is -1"):
        store.lineage("artifact", 1, max_hops=-1)
    with pytest.raises(errors.InvalidArgumentError, match="direction 'sideways'"):
        store.lineage("artifact", 1, direction="sideways")
    with pytest.raises(errors.NotFoundError, match="no context has id 5"):
        store.context_graph(5)
    with pytest.raises(errors.NotFoundError, match="no execution type is named 'Trian'"):
        store.find_runs("Trian", [1])
    with pytest.raises(errors.InvalidArgumentError, match="limit is 0"):
        store.find_runs("Train", [1], limit=0)
    with pytest.raises(errors.InvalidArgumentError, match="compare nodes of one type"):
        store.compare("execution", 1, 4)
