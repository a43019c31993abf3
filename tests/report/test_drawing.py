"""Which part of a lineage is drawn, and where."""

from __future__ import annotations

import random

import pytest

from eventstore.lineage import Edge, Graph, GraphNode
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.report.drawing import NARROW, WIDE, Shape, drawing_of
from eventstore.report.labels import shortened, width_of
from eventstore.report.selection import Key, Selection, selection
from tests.command_line.hostile import TEXTS


def node(key: Key, name: str = "") -> GraphNode:
    message = mlmd.Artifact if key[0] == "artifact" else mlmd.Execution
    return GraphNode(*key, message(id=key[1], type="T", name=name))


def graph_of(edges: list[tuple[Key, Key]], kept: frozenset[Key] | None = None) -> Graph:
    keys = {key for edge in edges for key in edge} if kept is None else kept
    found = [(a, b) for a, b in edges if a in keys and b in keys]
    return Graph(
        tuple(node(key) for key in sorted(keys)), tuple(Edge(a, b, mlmd.Event()) for a, b in found)
    )


def artifact(number: int) -> Key:
    return "artifact", number


def execution(number: int) -> Key:
    return "execution", number


def chain(length: int) -> list[tuple[Key, Key]]:
    """Artifact 0 to artifact `length`, over as many executions."""
    return [
        pair
        for n in range(length)
        for pair in ((artifact(n), execution(n)), (execution(n), artifact(n + 1)))
    ]


def test_a_drawing_flows_to_the_right_even_with_cycles() -> None:
    pairs = chain(2)
    cycle = [(artifact(2), execution(3)), (execution(3), artifact(2))]
    (band,) = drawing_of(graph_of(pairs + cycle), artifact(1), shape=Shape(9, 190, 60))
    places = {(box.kind, box.id): (box.x, box.y) for box in band.boxes}
    assert len(set(places.values())) == 6
    for source, target in pairs:
        assert places[source][0] < places[target][0]
    assert [(box.kind, box.id) for box in band.boxes if box.is_subject] == [artifact(1)]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("shape", [WIDE, NARROW])
def test_boxes_are_apart_and_every_edge_is_told(seed: int, shape: Shape) -> None:
    chance = random.Random(seed)
    edges = [
        (artifact(a), execution(e)) if chance.random() < 0.5 else (execution(e), artifact(a))
        for a in range(25)
        for e in range(25)
        if chance.random() < 0.08
    ]
    told = 0
    for band in drawing_of(graph_of(edges), None, shape=shape):
        rooms = [
            (box.x, box.y - 15, box.x + box.width, box.y + box.height + 15) for box in band.boxes
        ]
        for number, (left, top, right, bottom) in enumerate(rooms):
            assert left >= 0
            assert right <= band.width
            assert top >= 0
            assert bottom <= band.height
            for x1, y1, x2, y2 in rooms[:number]:
                assert x2 < left or right < x1 or y2 < top or bottom < y1
        told += sum("C" in arrow.path for arrow in band.arrows)
        for box in band.boxes:
            told += int(box.above.partition("+")[2] or 0) + box.above.startswith("from")
    assert told == len(set(edges))


def test_all_is_kept_within_the_limit() -> None:
    edges = chain(4)
    for limit in (9, None):
        found = selection(artifact(2), edges[:4], edges[4:], limit)
        assert (len(found.kept), found.left_out, found.folds) == (9, 0, ())
        assert found.origins == {artifact(0)}


def test_the_middle_of_a_chain_is_left_out() -> None:
    edges = chain(1_000)
    found = selection(artifact(1_000), edges, [], 20)
    assert {artifact(0), execution(0), execution(999), artifact(1_000)} <= found.kept
    assert (len(found.kept), found.left_out) == (20, 2_001 - 20)
    (fold,) = found.folds
    assert (fold.nodes, fold.origins) == (1_981, 0)
    (source, into), (out_of, target) = sorted(
        found.fold_edges, key=lambda pair: pair[0] == fold.key
    )
    assert (into, out_of) == (fold.key, fold.key)
    assert source in found.kept
    assert target in found.kept


def test_origins_come_before_what_is_near() -> None:
    far = [(("artifact", 5_000 + n), execution(0)) for n in range(10)]
    near = [(artifact(40), execution(900 + n)) for n in range(300)]
    edges = [*far, *chain(40)[1:]]
    found = selection(artifact(40), edges, near, 40)
    assert found.origins == {key for key, _ in far}
    assert found.origins <= found.kept
    # Where ways meet is kept before what lies between.
    assert execution(0) in found.kept
    assert len(found.kept) == 40
    assert found.left_out == 10 + 80 + 300 - 40
    assert any(key in found.kept for _, key in near)


def test_origins_that_are_left_out_are_counted() -> None:
    edges = [(artifact(n), execution(0)) for n in range(1, 500)]
    found = selection(execution(0), edges, [], 100)
    (fold,) = found.folds
    assert (fold.nodes, fold.origins) == (400, 400)
    assert (fold.key, execution(0)) in found.fold_edges


def test_single_nodes_are_left_out_together() -> None:
    ways = [
        pair
        for n in range(1, 40)
        for pair in ((execution(n), artifact(n)), (artifact(n), execution(100)))
    ]
    found = selection(execution(100), ways, [], 70)
    assert len(found.origins) == 39
    assert found.origins <= found.kept
    (fold,) = found.folds
    assert fold.nodes == 79 - 70
    assert (fold.key, execution(100)) in found.fold_edges


def test_a_cycle_has_an_origin() -> None:
    cycle = [
        *((artifact(1), execution(1)), (execution(1), artifact(2))),
        *((artifact(2), execution(2)), (execution(2), artifact(1))),
    ]
    found = selection(execution(3), [*cycle, (artifact(2), execution(3))], [], None)
    assert len(found.origins) == 1


@pytest.mark.parametrize("seed", range(30))
def test_what_is_left_out_adds_up(seed: int) -> None:
    chance = random.Random(seed)
    subject = artifact(0)
    up: list[tuple[Key, Key]] = []
    down: list[tuple[Key, Key]] = []
    for edges, sign in ((up, -1), (down, 1)):
        reached = [subject]
        for number in range(1, chance.randrange(2, 120)):
            start = chance.choice(reached)
            end = (execution if start[0] == "artifact" else artifact)(sign * number)
            reached.append(end)
            edges.append((start, end) if sign == 1 else (end, start))
    everything = {key for edge in up + down for key in edge}
    for limit in (1, 2, 7, 30):
        found = selection(subject, up, down, limit)
        assert subject in found.kept
        assert len(found.kept) == min(limit, len(everything))
        assert found.left_out == len(everything) - len(found.kept)
        assert all(a in found.kept or a[0] == "fold" for a, _ in found.fold_edges)
        graph = graph_of(up + down, found.kept)
        bands = drawing_of(graph, subject, found)
        assert sum(len(band.boxes) for band in bands) == len(found.kept) + len(found.folds)


def test_drawings_of_nothing() -> None:
    assert drawing_of(Graph((), ()), None) == ()
    assert selection(artifact(1), [], [], 5) == Selection(
        frozenset([artifact(1)]), frozenset([artifact(1)]), (), ()
    )


@pytest.mark.parametrize("text", TEXTS)
def test_labels_fit_and_keep_both_ends(text: str) -> None:
    for width in (40, 120, 5_000):
        label = shortened(text, width, 12)
        assert width_of(label, 12) <= width
        assert "\n" not in label
    assert shortened("churn-model-2026-11-21", 100, 12).startswith("chu")
    assert shortened("churn-model-2026-11-21", 100, 12).endswith("-21")
