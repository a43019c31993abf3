"""What is told of a small history: commits, versions and differences, one by one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest

import eventstore
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import memory_store
from tests.server.serving import WHERE, asked_at

START = 1_700_000_000_000


@pytest.fixture(params=WHERE)
def store(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[eventstore.MetadataStore]:
    """Two types, a node of each kind, links between them, and a change by another actor."""
    now = [START]

    def passing() -> int:
        now[0] += 1_000
        return now[0] * 1_000_000

    with memory_store() as made:
        monkeypatch.setattr("time.time_ns", passing)
        with made.acting(actor="ann", reason="setup"):
            data = made.put_artifact_type(mlmd.ArtifactType(name="Data"))
            step = made.put_execution_type(mlmd.ExecutionType(name="Step"))
            run = made.put_context_type(mlmd.ContextType(name="Run"))
            made.put_artifacts([mlmd.Artifact(type_id=data, uri="a") for _ in range(2)])
            made.put_executions([mlmd.Execution(type_id=step)])
            made.put_contexts([mlmd.Context(type_id=run, name=name) for name in ("r", "s")])
        with made.acting(actor="bob", request_id="request 1"):
            made.put_events([mlmd.Event(artifact_id=1, execution_id=1, type=mlmd.Event.INPUT)])
        made.put_attributions_and_associations(
            [mlmd.Attribution(artifact_id=1, context_id=1)],
            [mlmd.Association(execution_id=1, context_id=1)],
        )
        made.put_parent_contexts([mlmd.ParentContext(child_id=1, parent_id=2)])
        with made.acting(actor="bob"):
            made.put_artifacts([mlmd.Artifact(id=1, uri="b")])
            made.put_contexts([mlmd.Context(id=1, name="t")])
        yield from asked_at(made, request.param)


def told(store: eventstore.MetadataStore, **chosen: Any) -> list[list[tuple[str, int, bool]]]:
    since = store.as_of(9).log_position()
    return [
        [(change.kind, change.id, change.is_new) for change in commit.changes]
        for commit in store.changes(since, **chosen)
    ]


TYPES = [
    [("artifact_type", 10, True)],
    [("execution_type", 11, True)],
    [("context_type", 12, True)],
]
ARTIFACTS = [("artifact", 1, True), ("artifact", 2, True)]
LINKS = [("attribution", 1, True), ("association", 1, True)]
CONTEXTS = [("context", 1, True), ("context", 2, True)]


@pytest.mark.parametrize(
    ("chosen", "commits"),
    [
        (
            {},
            [
                *TYPES,
                ARTIFACTS,
                [("execution", 1, True)],
                CONTEXTS,
                [("event", 1, True)],
                LINKS,
                [("parent_context", 1, True)],
                [("artifact", 1, False)],
                [("context", 1, False)],
            ],
        ),
        ({"types": ["Data"]}, [TYPES[0], ARTIFACTS, [("artifact", 1, False)]]),
        (
            {"types": ["Step", "Run"], "kinds": ["execution", "context_type"]},
            [
                TYPES[2],
                [("execution", 1, True)],
            ],
        ),
        ({"types": ["Nothing"]}, []),
        ({"types": []}, []),
        ({"kinds": []}, []),
        ({"kinds": ["association"]}, [[("association", 1, True)]]),
        (
            {"actors": ["bob"]},
            [
                [("event", 1, True)],
                [("artifact", 1, False)],
                [("context", 1, False)],
            ],
        ),
        ({"actors": ["bob"], "kinds": ["artifact"]}, [[("artifact", 1, False)]]),
        ({"actors": ["ann"], "kinds": ["artifact"]}, [ARTIFACTS]),
        ({"actors": []}, []),
    ],
    ids=range(11),
)
def test_changes_are_those_that_are_asked_for(
    store: eventstore.MetadataStore,
    chosen: dict[str, Any],
    commits: list[list[tuple[str, int, bool]]],
) -> None:
    assert told(store, **chosen) == commits


def test_a_commit_says_who_and_when(store: eventstore.MetadataStore) -> None:
    (commit,) = store.changes(kinds=["event"])
    position = commit.changes[0].position
    assert (commit.first_position, commit.last_position) == (position, position)
    assert (commit.actor, commit.reason, commit.request_id) == ("bob", None, "request 1")
    (change,) = commit.changes
    assert [(f.field, f.after) for f in change.fields if "milliseconds" not in f.field] == [
        ("artifact_id", 1),
        ("execution_id", 1),
        ("type", "INPUT"),
    ]
    (version,) = store.history("event", 1)
    assert version.commit == commit.number
    assert version.recorded_at == commit.recorded_at
    assert version.recorded_at > datetime.fromtimestamp(START / 1_000, timezone.utc)
    assert (version.actor, version.request_id, version.is_first) == ("bob", "request 1", True)
    first, second = store.history("artifact", 1)
    assert (first.previous, first.is_first, first.reason) == (None, True, "setup")
    assert (second.previous, second.is_first, second.reason) == (first.position, False, None)
    assert [(f.field, f.before, f.after) for f in second.changes] == [("uri", "a", "b")]
    assert [(f.field, f.before, f.after) for f in first.changes] == [("uri", None, "a")]


def test_links_have_histories_of_their_own(store: eventstore.MetadataStore) -> None:
    for kind, fields in (
        ("attribution", {"artifact_id": 1, "context_id": 1}),
        ("association", {"context_id": 1, "execution_id": 1}),
        ("parent_context", {"child_id": 1, "parent_id": 2}),
    ):
        (version,) = store.history(kind, 1)
        assert (version.kind, version.id) == (kind, 1)
        assert {f.field: f.after for f in version.changes} == fields
        with pytest.raises(eventstore.errors.NotFoundError, match=f"no {kind.replace('_', ' ')}"):
            store.history(kind, 2)


def test_all_that_touched_a_context(store: eventstore.MetadataStore) -> None:
    assert [(v.kind, v.id) for v in store.context_history(1)] == [
        ("context", 1),
        ("attribution", 1),
        ("association", 1),
        ("parent_context", 1),
        ("context", 1),
    ]
    assert [(v.kind, v.id) for v in store.context_history(2)] == [
        ("context", 2),
        ("parent_context", 1),
    ]
    renamed = store.context_history(1)[-1]
    assert [(f.field, f.before, f.after) for f in renamed.changes] == [("name", "r", "t")]


def test_differences_name_what_is_new_and_what_changed(store: eventstore.MetadataStore) -> None:
    newest = store.log_position()
    assert [(d.kind, d.id, d.is_new) for d in store.diff(newest - 2)] == [
        ("artifact", 1, False),
        ("context", 1, False),
    ]
    (changed,) = store.diff(newest - 1)
    assert (changed.before.name, changed.after.name) == ("r", "t")
    linked = [(d.kind, d.id, d.is_new) for d in store.diff(newest - 6, newest - 2)]
    assert linked == [
        ("event", 1, True),
        ("attribution", 1, True),
        ("association", 1, True),
        ("parent_context", 1, True),
    ]
    lineage = store.lineage_diff("execution", 1, newest - 6)
    assert [n.key for n in lineage.before.nodes] == [("execution", 1)]
    assert [n.key for n in lineage.new_nodes] == [("artifact", 1)]
    assert [(e.source, e.target) for e in lineage.new_edges] == [
        (("artifact", 1), ("execution", 1))
    ]
    assert lineage.changed == ()
    lineage = store.lineage_diff("execution", 1, newest - 2)
    assert (lineage.new_nodes, lineage.new_edges) == ((), ())
    (changed,) = lineage.changed
    assert [(f.field, f.before, f.after) for f in changed.fields] == [("uri", "a", "b")]
    assert (changed.before.uri, changed.after.uri) == ("a", "b")


def test_changes_tell_of_holds_rules_and_erasures(store: eventstore.MetadataStore) -> None:
    before = store.log_position()
    with store.acting(actor="ana"):
        store.set_retention_rule(kinds=["context"], needs_approval=True, basis="FOUR-EYES")
        store.place_hold(entities=[("artifact", 1)], basis="CASE-1", ticket="T-1")
        store.release_hold(1, ticket="T-2")
        store.erase("context", 1, reason="GDPR-17")
    with store.acting(actor="ben"):
        store.approve_erasure(1)
    steps = [
        (commit.actor, change.kind, change.id, change.is_new, change.message.basis)
        for commit in store.changes(before)
        for change in commit.changes
    ]
    assert steps == [
        ("ana", "retention_rule", 1, True, "FOUR-EYES"),
        ("ana", "hold", 1, True, "CASE-1"),
        ("ana", "hold", 1, False, "CASE-1"),
        ("ana", "erasure", 1, True, "GDPR-17"),
        ("ben", "erasure", 1, False, "GDPR-17"),
        ("ben", "erasure", 1, False, "GDPR-17"),
    ]
    placed, released = (commit.changes[0] for commit in store.changes(before, kinds=["hold"]))
    assert {f.field: f.after for f in placed.fields} == {
        "basis": "CASE-1",
        "scope": {"entities": [{"kind": "artifact", "id": 1}]},
        "stage": "PLACED",
        "ticket": "T-1",
    }
    assert [(f.field, f.before, f.after) for f in released.fields] == [
        ("release_ticket", None, "T-2"),
        ("stage", "PLACED", "RELEASED"),
    ]
    *_, completed = store.changes(before, actors=["ben"])
    assert completed.changes[0].fields[-1].after == "COMPLETED"
    assert [*store.changes(before, types=["Run"])] == []
    assert store.diff(before) == []
