"""What is told of one small lineage, to the letter."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

import eventstore
from eventstore import errors
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import memory_store
from tests.server.serving import WHERE, asked_at

Event = mlmd.Event


def event(artifact: int, execution: int, kind: mlmd.Event.Type, *path: int | str) -> mlmd.Event:
    steps = [
        Event.Path.Step(index=step) if isinstance(step, int) else Event.Path.Step(key=step)
        for step in path
    ]
    made = Event(
        artifact_id=artifact, execution_id=execution, type=kind, milliseconds_since_epoch=artifact
    )
    if steps:
        made.path.CopyFrom(Event.Path(steps=steps))
    return made


@pytest.fixture(scope="module", params=WHERE)
def store(request: pytest.FixtureRequest) -> Iterator[eventstore.MetadataStore]:
    """Raw data, split into two by one execution, each part used for training."""
    with memory_store() as made:
        data = made.put_artifact_type(mlmd.ArtifactType(name="Data"))
        split = made.put_execution_type(mlmd.ExecutionType(name="Split"))
        train = made.put_execution_type(mlmd.ExecutionType(name="Train", version="2"))
        run = made.put_context_type(mlmd.ContextType(name="Run"))
        made.put_artifacts(
            [
                mlmd.Artifact(type_id=data, name='raw "1"', state=mlmd.Artifact.LIVE),
                mlmd.Artifact(type_id=data, name="a&b"),
                mlmd.Artifact(type_id=data),
                mlmd.Artifact(type_id=data, name="model", state=mlmd.Artifact.PENDING),
                mlmd.Artifact(type_id=data, name="alone"),
            ]
        )
        executions = [
            mlmd.Execution(type_id=split, name="s", last_known_state=mlmd.Execution.COMPLETE),
            mlmd.Execution(type_id=train, last_known_state=mlmd.Execution.RUNNING),
            mlmd.Execution(type_id=train),
            mlmd.Execution(type_id=train, last_known_state=mlmd.Execution.FAILED),
        ]
        executions[1].properties.clear()
        executions[1].custom_properties["rate"].double_value = 0.5
        executions[2].custom_properties["rate"].int_value = 1
        executions[3].custom_properties["rate"].bool_value = True
        made.put_executions(executions)
        made.put_contexts([mlmd.Context(type_id=run, name=name) for name in ("r1", "r2")])
        made.put_attributions_and_associations(
            [], [mlmd.Association(context_id=1, execution_id=n) for n in (1, 2, 3)]
        )
        made.put_events(
            [
                event(1, 1, Event.INPUT, "examples", 0),
                event(2, 1, Event.OUTPUT, "parts", 0, "more", 1),
                event(3, 1, Event.DECLARED_OUTPUT, "deep", "er", 2),
                event(2, 2, Event.INPUT, "train", 0),
                event(3, 2, Event.DECLARED_INPUT, 0),
                event(2, 3, Event.INTERNAL_INPUT, "train", 0, "eval", 0),
                event(4, 2, Event.INTERNAL_OUTPUT),
                event(2, 4, Event.INPUT),
                event(4, 4, Event.PENDING_OUTPUT, "model"),
            ]
        )
        yield from asked_at(made, request.param)


def keys(nodes: Any) -> list[tuple[str, int]]:
    return [node.key for node in nodes]


A, E = "artifact", "execution"


@pytest.mark.parametrize(
    ("start", "direction", "hops", "found"),
    [
        ((A, 4), "upstream", 0, [(A, 4)]),
        ((A, 4), "upstream", 1, [(A, 4), (E, 2), (E, 4)]),
        ((A, 4), "upstream", 2, [(A, 2), (A, 3), (A, 4), (E, 2), (E, 4)]),
        ((A, 4), "upstream", 3, [(A, 2), (A, 3), (A, 4), (E, 1), (E, 2), (E, 4)]),
        ((A, 4), "upstream", None, [(A, 1), (A, 2), (A, 3), (A, 4), (E, 1), (E, 2), (E, 4)]),
        ((A, 4), "downstream", None, [(A, 4)]),
        ((A, 3), "downstream", None, [(A, 3), (A, 4), (E, 2)]),
        ((E, 1), "downstream", 1, [(A, 2), (A, 3), (E, 1)]),
        ((E, 1), "upstream", None, [(A, 1), (E, 1)]),
        ((A, 5), "both", None, [(A, 5)]),
        ((A, 3), "both", 1, [(A, 3), (E, 1), (E, 2)]),
    ],
)
def test_what_is_reached(
    store: eventstore.MetadataStore,
    start: tuple[str, int],
    direction: str,
    hops: int | None,
    found: list[tuple[str, int]],
) -> None:
    graph = store.lineage(*start, direction=direction, max_hops=hops)
    assert keys(graph.nodes) == found
    assert graph.subject == start
    known = {*found}
    assert all(edge.source in known and edge.target in known for edge in graph.edges)


LABELS = {
    ((A, 1), (E, 1)): "INPUT examples[0]",
    ((A, 2), (E, 2)): "INPUT train[0]",
    ((A, 2), (E, 3)): "INTERNAL_INPUT train[0], eval[0]",
    ((A, 2), (E, 4)): "INPUT",
    ((A, 3), (E, 2)): "DECLARED_INPUT [0]",
    ((E, 1), (A, 2)): "OUTPUT parts[0], more[1]",
    ((E, 1), (A, 3)): "DECLARED_OUTPUT deep.er[2]",
    ((E, 2), (A, 4)): "INTERNAL_OUTPUT",
    ((E, 4), (A, 4)): "PENDING_OUTPUT model",
}


def test_a_graph_and_its_drawings(store: eventstore.MetadataStore) -> None:
    graph = store.lineage("artifact", 1, direction="both")
    assert {(edge.source, edge.target): edge.label for edge in graph.edges} == LABELS
    assert [(edge.source, edge.target) for edge in graph.edges] == [*LABELS]
    assert [node.label for node in graph.nodes] == [
        ("Data", 'raw "1"'),
        ("Data", "a&b"),
        ("Data", "artifact 3"),
        ("Data", "model"),
        ("Split", "s"),
        ("Train", "execution 2"),
        ("Train", "execution 3"),
        ("Train", "execution 4"),
    ]
    states = ["LIVE", "", "", "PENDING", "COMPLETE", "RUNNING", "", "FAILED"]
    assert [node.state for node in graph.nodes] == states
    assert [a.id for a in graph.artifacts()] == [1, 2, 3, 4]
    assert [e.id for e in graph.executions()] == [1, 2, 3, 4]
    assert [a.id for a in graph.inputs_of(2)] == [2, 3]
    assert [a.id for a in graph.outputs_of(1)] == [2, 3]
    assert [a.id for a in graph.outputs_of(3)] == []
    dot = graph.to_dot().splitlines()
    assert dot[:2] + dot[-1:] == ["digraph lineage {", "  rankdir=LR;", "}"]
    assert '  a1 [shape=box, style=rounded, label="Data\\nraw \\"1\\""];' in dot
    assert '  a2 [shape=box, style=rounded, label="Data\\na&amp;b"];' in dot
    assert '  e1 [shape=box, label="Split\\ns"];' in dot
    assert '  a1 -> e1 [label="INPUT examples[0]"];' in dot
    mermaid = graph.to_mermaid().splitlines()
    assert mermaid[0] == "flowchart LR"
    assert '  a1(["Data<br/>raw #34;1#34;"])' in mermaid
    assert '  e1["Split<br/>s"]' in mermaid
    assert '  a1 -->|"INPUT examples#91;0#93;"| e1' in mermaid
    assert len(dot) == len(mermaid) + 2 == 20
    drawn = graph.to_networkx()
    assert drawn.nodes[A, 4] | {"message": None} == {
        "type": "Data",
        "name": "model",
        "state": "PENDING",
        "message": None,
    }
    (edge,) = drawn.get_edge_data((E, 1), (A, 3)).values()
    assert (edge["type"], edge["path"], edge["time"]) == ("DECLARED_OUTPUT", "deep.er[2]", 3)


def test_what_a_context_holds(store: eventstore.MetadataStore) -> None:
    whole = keys(store.context_graph(1).nodes)
    assert whole == [(A, 1), (A, 2), (A, 3), (A, 4), (E, 1), (E, 2), (E, 3)]
    for max_nodes, executions in ((7, [1, 2, 3]), (6, [2, 3]), (5, [2, 3]), (4, [3]), (1, [3])):
        graph = store.context_graph(1, max_nodes=max_nodes)
        assert [e.id for e in graph.executions()] == executions
        assert graph.left_out == 3 - len(executions)
    empty = store.context_graph(2)
    assert (empty.nodes, empty.edges, empty.left_out) == ((), (), 0)


@pytest.mark.parametrize("max_nodes", [0, -1])
def test_no_graph_has_no_nodes(store: eventstore.MetadataStore, max_nodes: int) -> None:
    for graph in (
        lambda: store.lineage("artifact", 1, max_nodes=max_nodes),
        lambda: store.context_graph(1, max_nodes=max_nodes),
        lambda: store.lineage_diff("artifact", 1, 0, max_nodes=max_nodes),
    ):
        with pytest.raises(errors.InvalidArgumentError, match=f"max_nodes is {max_nodes}: use 1"):
            graph()
    assert store.lineage("artifact", 1, max_nodes=1).left_out == 1


def test_without_networkx_its_graph_says_what_to_install(
    store: eventstore.MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "networkx", None)
    with pytest.raises(errors.FailedPreconditionError, match="pip install"):
        store.lineage("artifact", 1).to_networkx()


FAILED, RUNNING = mlmd.Execution.FAILED, mlmd.Execution.RUNNING
RUNS: list[tuple[Any, dict[str, Any], list[int]]] = [
    ([2], {}, [4, 3]),
    ([2, 3], {}, [2]),
    ([3, 2, 3], {}, [2]),
    ([3], {}, []),
    ([1], {}, []),
    ([99], {}, []),
    ([], {}, []),
    ({"train": [2]}, {}, []),
    ({"train": [2], "eval": [2]}, {}, [3]),
    ({"train": [2], "": [3]}, {}, [2]),
    ({"": [2]}, {}, [4]),
    ([2], {"limit": 1}, [4]),
    ([2], {"limit": 2}, [4, 3]),
    ([2], {"states": [FAILED]}, [4]),
    ([2], {"states": [FAILED, mlmd.Execution.UNKNOWN]}, [4, 3]),
    ([2], {"states": [RUNNING]}, []),
    ([2, 3], {"states": [RUNNING]}, [2]),
    ([2, 3], {"custom_properties": {"rate": 0.5}}, [2]),
    ([2, 3], {"custom_properties": {"rate": 0.25}}, []),
    ([2, 3], {"custom_properties": {"other": 0.5}}, []),
    ([2, 3], {"properties": {"rate": 0.5}}, []),
    ([2], {"custom_properties": {"rate": 1}}, [3]),
    ([2], {"custom_properties": {"rate": True}}, [4]),
    ([2], {"custom_properties": {"rate": 1.0}}, [3]),
    ([2], {"custom_properties": {"rate": "1"}}, []),
]


@pytest.mark.parametrize(("inputs", "options", "found"), RUNS, ids=range(len(RUNS)))
def test_runs_on_the_same_inputs(
    store: eventstore.MetadataStore, inputs: Any, options: dict[str, Any], found: list[int]
) -> None:
    runs = store.find_runs("Train", inputs, type_version="2", **{"states": (), **options})
    assert [run.execution.id for run in runs] == found
    for run in runs:
        wanted = {*inputs} if isinstance(inputs, list) else {i for v in inputs.values() for i in v}
        assert [a.id for a in run.inputs] == sorted(wanted)
        assert [a.id for a in run.outputs] == {2: [4], 3: [], 4: [4]}[run.execution.id]


def test_runs_without_inputs(store: eventstore.MetadataStore) -> None:
    with memory_store() as other:
        train = other.put_execution_type(mlmd.ExecutionType(name="Train"))
        other.put_executions([mlmd.Execution(type_id=train) for _ in range(3)])
        data = other.put_artifact_type(mlmd.ArtifactType(name="Data"))
        other.put_artifacts([mlmd.Artifact(type_id=data)])
        other.put_events([event(1, 2, Event.INPUT), event(1, 3, Event.OUTPUT)])
        assert [run.execution.id for run in other.find_runs("Train", [], states=())] == [3, 1]
    for version in (None, "1"):
        with pytest.raises(errors.NotFoundError, match="no execution type is named 'Train'"):
            store.find_runs("Train", [2], type_version=version)
    with pytest.raises(errors.NotFoundError, match="in version '1'"):
        store.find_runs("Train", [2], type_version="1")


@pytest.mark.parametrize(
    ("kind", "ids", "error", "words"),
    [
        ("model", (1, 2), errors.InvalidArgumentError, "'model' is no kind of node"),
        ("artifact", (1, 99), errors.NotFoundError, "no artifact has id 99"),
        ("artifact", (99, 1), errors.NotFoundError, "no artifact has id 99"),
        ("execution", (1, 2), errors.InvalidArgumentError, "compare nodes of one type"),
    ],
)
def test_nodes_that_cannot_be_compared(
    store: eventstore.MetadataStore,
    kind: str,
    ids: tuple[int, int],
    error: type[Exception],
    words: str,
) -> None:
    with pytest.raises(error, match=words):
        store.compare(kind, *ids)


def test_values_of_every_kind_are_compared() -> None:
    with memory_store() as store:
        data = store.put_artifact_type(mlmd.ArtifactType(name="Data"))
        left = mlmd.Artifact(type_id=data, name="l", uri="u", external_id="e")
        right = mlmd.Artifact(type_id=data, name="r", uri="u", state=mlmd.Artifact.LIVE)
        left.custom_properties["proto"].proto_value.Pack(mlmd.Event(artifact_id=3))
        right.custom_properties["proto"].proto_value.Pack(mlmd.Event(artifact_id=4))
        left.custom_properties["struct"].struct_value.update({"a": [1, None, True]})
        right.custom_properties["bool"].bool_value = False
        left.custom_properties["same"].string_value = "s"
        right.custom_properties["same"].string_value = "s"
        found = store.compare("artifact", *store.put_artifacts([left, right]))
        url = "type.googleapis.com/ml_metadata.Event"
        assert [(f.field, f.left, f.right, f.is_equal) for f in found.fields] == [
            ("external_id", "e", None, False),
            ("name", "l", "r", False),
            ("state", None, "LIVE", False),
            ("uri", "u", "u", True),
            ("custom_properties.bool", None, False, False),
            (
                "custom_properties.proto",
                {"type_url": url, "value": "CAM="},
                {"type_url": url, "value": "CAQ="},
                False,
            ),
            ("custom_properties.same", "s", "s", True),
            ("custom_properties.struct", {"a": [1, None, True]}, None, False),
        ]
        assert [f.field for f in found.differences] == [
            f.field for f in found.fields if not f.is_equal
        ]
