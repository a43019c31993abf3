"""Versions, changes and differences of random programs, against reads as of the moments."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest

import eventstore
from eventstore import errors
from eventstore.lineage import Graph
from eventstore.metadata_store.metadata_store import AsOfStore, MetadataStore
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import artifact, memory_store, put_types
from tests.differential.programs import Generator

KINDS = ("artifact", "execution", "context")


def run_program(store: MetadataStore, seed: int, calls: int = 60) -> list[int]:
    """The positions that the puts of a random program led to."""
    generator = Generator(random.Random(seed))
    positions = [store.log_position()]
    for number in range(calls):
        rpc, request = generator.next_call()
        try:
            with store.acting(actor=f"actor {number % 3}"):
                generator.learn(rpc, request, store._engine.call(rpc, request))
        except errors.StatusError:
            continue
        if store.log_position() != positions[-1]:
            positions.append(store.log_position())
    return positions


@pytest.fixture(
    scope="module",
    params=product(("memory", "directory"), range(6)),
    ids=lambda p: f"{p[0]}-{p[1]}",
)
def lived(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[MetadataStore, list[int], int]]:
    """A store after a random program, the positions that its puts led to, and its seed."""
    form, seed = request.param
    path = tmp_path_factory.mktemp("lived") / "store"
    with memory_store() if form == "memory" else eventstore.open(path) as store:
        positions = run_program(store, seed)
        if seed % 2:
            store.seal()
        yield store, positions, seed


def nodes_of(store: MetadataStore | AsOfStore, kind: str) -> dict[int, Any]:
    return {node.id: node for node in getattr(store, f"get_{kind}s")()}


def without_times(node: Any) -> Any:
    copy = type(node)()
    copy.CopyFrom(node)
    copy.ClearField("create_time_since_epoch")
    copy.ClearField("last_update_time_since_epoch")
    return copy


def test_versions_are_what_reads_as_of_them_give(
    lived: tuple[MetadataStore, list[int], int],
) -> None:
    store, _, _ = lived
    for kind in KINDS:
        for node_id, node in nodes_of(store, kind).items():
            versions = store.history(kind, node_id)
            assert versions[0].is_first
            assert versions[-1].message == node
            assert [v.previous for v in versions[1:]] == [v.position for v in versions[:-1]]
            for version, following in zip(versions, [*versions[1:], None], strict=True):
                end = store.log_position() if following is None else following.position - 1
                if store.log.commit_end(end) >= version.position:
                    then = store.as_of(end)
                    assert nodes_of(then, kind)[node_id] == version.message
                    assert then.history(kind, node_id)[-1] == version
                assert version.actor is not None
                assert version.actor.startswith("actor ")
    for context_id in nodes_of(store, "context"):
        touched = store.context_history(context_id)
        assert [v.position for v in touched] == sorted({v.position for v in touched})
        linked = {v.message.artifact_id for v in touched if v.kind == "attribution"}
        assert linked == {a.id for a in store.get_artifacts_by_context(context_id)}
        linked = {v.message.execution_id for v in touched if v.kind == "association"}
        assert linked == {e.id for e in store.get_executions_by_context(context_id)}


def test_changes_lead_from_nothing_to_what_is(
    lived: tuple[MetadataStore, list[int], int],
) -> None:
    store, positions, _ = lived
    replayed: dict[tuple[str, int], Any] = {}
    for commit in store.changes():
        for change in commit.changes:
            assert change.is_new is ((change.kind, change.id) not in replayed)
            replayed[change.kind, change.id] = change.message
    for kind in KINDS:
        assert {id_: m for (k, id_), m in replayed.items() if k == kind} == nodes_of(store, kind)
    middle = positions[len(positions) // 2]
    before, behind = list(store.changes(until=middle)), list(store.changes(since=middle))
    assert [*before, *behind] == list(store.changes()) == list(store.changes(since=0))
    assert len(store.diff(0)) == len(replayed)
    for commit in store.changes(middle, kinds={"event", "artifact"}, actors={"actor 1"}):
        assert commit.actor == "actor 1"
        assert {change.kind for change in commit.changes} <= {"event", "artifact"}
    named = {c.id for commit in store.changes(types={"T0"}) for c in commit.changes if c.is_new}
    assert named >= {node.id for node in store.get_artifacts() if node.type == "T0"}


def test_differences_are_those_of_all_reads(
    lived: tuple[MetadataStore, list[int], int],
) -> None:
    store, positions, seed = lived
    choice = random.Random(seed)
    for _ in range(6):
        first, second = sorted(choice.sample(positions[1:], 2))
        found = store.diff(first, second)
        for kind in KINDS:
            before = nodes_of(store.as_of(first), kind)
            after = nodes_of(store.as_of(second), kind)
            expected = {
                id_
                for id_, node in after.items()
                if id_ not in before or without_times(node) != without_times(before[id_])
            }
            assert {e.id for e in found if e.kind == kind} == expected
            assert {e.id for e in found if e.kind == kind and e.is_new} == set(after) - set(before)
        for entity in found:
            assert entity.fields or entity.is_new
        for artifact_id in nodes_of(store.as_of(second), "artifact"):
            lineage = store.lineage_diff("artifact", artifact_id, first, second)
            nodes = {
                node.key for node in store.as_of(second).lineage("artifact", artifact_id).nodes
            }
            assert {node.key for node in lineage.after.nodes} == nodes
            then = store.as_of(first)
            was_there = artifact_id in nodes_of(then, "artifact")
            before = then.lineage("artifact", artifact_id) if was_there else Graph((), ())
            assert lineage.before.nodes == before.nodes
            assert lineage.before.edges == before.edges
            new = {node.key for node in lineage.new_nodes}
            assert new == nodes - {node.key for node in lineage.before.nodes}


def test_what_changed_is_told_field_by_field(store: MetadataStore) -> None:
    type_id, _, _ = put_types(store)
    (node_id,) = store.put_artifacts([mlmd.Artifact(type_id=type_id, uri="a")])
    (node,) = store.get_artifacts_by_id([node_id])
    node.state = mlmd.Artifact.LIVE
    node.uri = "b"
    node.custom_properties["note"].string_value = "checked"
    node.properties["int"].int_value = 5
    store.put_artifacts([node])
    changed = store.history("artifact", node_id)[1].changes
    assert [(c.field, c.before, c.after) for c in changed] == [
        ("state", None, "LIVE"),
        ("uri", "a", "b"),
        ("custom_properties.note", None, "checked"),
        ("properties.int", None, 5),
    ]
    (kept,) = store.history("artifact_type", type_id)
    assert ("properties.int", None, "INT") in [(c.field, c.before, c.after) for c in kept.changes]


def test_bad_questions_are_refused(store: MetadataStore) -> None:
    with pytest.raises(errors.NotFoundError, match="no artifact has id 7"):
        store.history("artifact", 7)
    with pytest.raises(errors.NotFoundError, match="no event has id 7"):
        store.history("event", 7)
    with pytest.raises(errors.InvalidArgumentError, match="'model' is no kind of entity"):
        store.history("model", 7)
    with pytest.raises(errors.NotFoundError, match="no context has id 1"):
        store.context_history(1)
    put_types(store)
    with pytest.raises(errors.InvalidArgumentError, match="swap them"):
        store.diff(store.log_position(), store.log_position() - 1)
    with pytest.raises(errors.InvalidArgumentError, match="is not in the log"):
        next(store.follow(after=10**9))


def test_following_sees_all_commits_of_all_writers(tmp_path: Any) -> None:
    seen: list[int] = []
    enough, stop = threading.Event(), threading.Event()
    with eventstore.open(tmp_path / "store") as store:
        type_id, _, _ = put_types(store)
        reader = eventstore.open(tmp_path / "store", read_only=True)

        def read() -> None:
            for commit in reader.follow(after=0, stop=stop, poll_seconds=0.005):
                seen.append(commit.number)
                if len(seen) == 34:
                    enough.set()

        following = threading.Thread(target=read)
        following.start()
        for number in range(30):
            if number % 10 == 5:
                store.seal()
            with eventstore.open(tmp_path / "store") as writer:
                writer.put_artifacts([artifact(type_id, name=str(number))])
        assert enough.wait(30)
        stop.set()
        following.join()
        reader.close()
    assert seen == list(range(1, 35))
