"""What is told of one entity, against what the store tells of it."""

from __future__ import annotations

from typing import Any

import pytest

import eventstore
from eventstore import errors
from eventstore.history.lineage_between import lineage_between
from eventstore.http_api import entities
from eventstore.http_api.entities import (
    contexts,
    entity,
    events,
    members,
    relatives,
    touching,
    versions,
)
from eventstore.http_api.problems import NotYetError
from eventstore.plain_values import shown_struct
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.http_api.test_commits import source_of


def told(version: Any) -> tuple[Any, ...]:
    """What a version says, in both forms."""
    names = ("kind", "id", "position", "commit", "recorded_at", "actor", "reason", "request_id")
    changes = [
        (change.field, shown_struct(change.before), shown_struct(change.after))
        for change in version.changes
    ]
    return (*(getattr(version, name) for name in names), changes, version.is_first)


@pytest.mark.parametrize("limit", [1, 2, 50])
@pytest.mark.parametrize(
    ("kind", "entity_id"),
    [("artifact", 5), ("artifact", 8), ("execution", 2), ("artifact_type", 11), ("context", 1)],
)
def test_pages_of_versions_are_the_history(
    small: eventstore.MetadataStore, kind: str, entity_id: int, limit: int
) -> None:
    expected = [told(version) for version in small.history(kind, entity_id)][::-1]
    found, before = [], None
    while not found or before is not None:
        page = versions(source_of(small), kind, entity_id, before=before, limit=limit)
        assert page.count == len(expected)
        assert [row.number for row in page.versions] == [
            page.count - len(found) - place for place in range(len(page.versions))
        ]
        found += page.versions
        before = page.before
    assert [told(row) for row in found] == expected


def test_all_that_touched_a_context_comes_in_pages(small: eventstore.MetadataStore) -> None:
    expected = [told(version) for version in small.context_history(4)][::-1]
    first = touching(source_of(small), 4, limit=2)
    rest = touching(source_of(small), 4, before=first.before)
    assert [told(row) for row in [*first.versions, *rest.versions]] == expected


def test_an_entity_says_who_set_what(small: eventstore.MetadataStore) -> None:
    found = entity(source_of(small), "artifact", 5)
    assert (found.type, found.name, found.state, found.versions) == (
        *("Data", "data-02", "MARKED_FOR_DELETION", 2),
    )
    assert {(f.field, f.value, f.version, f.actor) for f in found.fields} == {
        ("uri", "s3://data/2", 1, "nightly"),
        ("properties.rows", 200, 1, "nightly"),
        ("state", "MARKED_FOR_DELETION", 2, "ana"),
        ("custom_properties.quality", "bad 2", 2, "ana"),
    }
    then = entity(source_of(small.as_of(70)), "artifact", 5)
    assert (then.state, then.versions) == (None, 1)


def test_of_whom_it_is_erased_nothing_is_told(small: eventstore.MetadataStore) -> None:
    assert {field.actor for field in entity(source_of(small), "artifact", 8).fields} == {None}


def test_what_is_not_there_says_whether_it_came_later(small: eventstore.MetadataStore) -> None:
    then = source_of(small.as_of(40))
    with pytest.raises(NotYetError, match="artifact 24 is not there yet at position 4") as raised:
        entity(then, "artifact", 24)
    assert entity(source_of(small.as_of(raised.value.came_at)), "artifact", 24).versions == 1
    for ask in (entity, versions, events, contexts):
        with pytest.raises(errors.NotFoundError, match="no artifact has id 99"):
            ask(source_of(small), "artifact", 99)
    with pytest.raises(errors.InvalidArgumentError, match="no kind"):
        entity(source_of(small), "modle", 1)


@pytest.mark.parametrize("parsed", [0, 2_000])
def test_neighbours_come_in_pages(parsed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entities, "_EVENTS_PARSED", parsed)
    with eventstore.open("memory://") as store:
        type_id = store.put_artifact_type(mlmd.ArtifactType(name="Data"))
        step = store.put_execution_type(mlmd.ExecutionType(name="Step"))
        run = store.put_context_type(mlmd.ContextType(name="Run"))
        artifact_ids = store.put_artifacts([mlmd.Artifact(type_id=type_id) for _ in range(5)])
        (execution_id,) = store.put_executions([mlmd.Execution(type_id=step)])
        parent, child = store.put_contexts(
            [mlmd.Context(type_id=run, name=name) for name in ("parent", "child")]
        )
        store.put_parent_contexts([mlmd.ParentContext(parent_id=parent, child_id=child)])
        store.put_attributions_and_associations(
            [mlmd.Attribution(artifact_id=id_, context_id=child) for id_ in artifact_ids],
            [mlmd.Association(execution_id=execution_id, context_id=child)],
        )
        for number, id_ in enumerate(artifact_ids):
            event = mlmd.Event(artifact_id=id_, execution_id=execution_id, type=3 + number % 2)
            event.path.steps.add().key = "data"
            event.path.steps.add().index = number
            store.put_events([event])
        source = source_of(store)
        first = events(source, "execution", execution_id, limit=3)
        rest = events(source, "execution", execution_id, limit=3, before=first.before)
        assert (first.inputs, first.outputs, rest.before) == (3, 2, None)
        assert [row.node.id for row in [*first.events, *rest.events]] == artifact_ids[::-1]
        assert first.events[0].path == "data/4"
        inputs = events(source, "execution", execution_id, inputs=True).events
        assert [row.node.id for row in inputs] == artifact_ids[::-2]
        (one,) = events(source, "artifact", artifact_ids[0]).events
        assert (one.type, one.is_input, one.node.kind) == ("INPUT", True, "execution")
        page = members(source, child, "artifact", limit=3)
        rest_of = members(source, child, "artifact", after=page.after, limit=3)
        assert [row.id for row in [*page.nodes, *rest_of.nodes]] == artifact_ids
        assert (page.count, rest_of.after) == (5, None)
        assert [row.id for row in contexts(source, "artifact", artifact_ids[0]).nodes] == [child]
        assert [row.name for row in relatives(source, child, parents=True).nodes] == ["parent"]
        assert [row.name for row in relatives(source, parent, parents=False).nodes] == ["child"]


def test_pages_of_redacted_versions_are_the_history() -> None:
    with eventstore.open("memory://") as store:
        type_id = store.put_artifact_type(mlmd.ArtifactType(name="Data"))
        artifact = mlmd.Artifact(type_id=type_id)
        for number in range(4):
            artifact.custom_properties["step"].int_value = number
            if number in (1, 2):
                artifact.custom_properties["owner"].string_value = f"somebody {number}"
            elif number == 3:
                del artifact.custom_properties["owner"]
            (artifact.id,) = store.put_artifacts([artifact])
        store.erase("artifact", artifact.id, redact=["owner"], reason="GDPR-17")
        expected = [told(version) for version in store.history("artifact", artifact.id)][::-1]
        source, before, found = source_of(store), None, []
        while not found or before is not None:
            page = versions(source, "artifact", artifact.id, before=before, limit=1)
            found += page.versions
            before = page.before
        assert len(found) > 4
        assert [told(row) for row in found] == expected


def test_a_redaction_sets_nothing_that_it_does_not_name() -> None:
    with eventstore.open("memory://") as store:
        kind = mlmd.ArtifactType(name="Data", properties={"acc": mlmd.DOUBLE})
        made = mlmd.Artifact(type_id=store.put_artifact_type(kind), uri="s3://eve")
        made.properties["acc"].double_value = 0.5
        made.custom_properties["owner"].string_value = "Eve"
        with store.acting(actor="nightly"):
            [made.id] = store.put_artifacts([made])
        before = store.log_position()
        with store.acting(actor="ana"):
            made.properties["acc"].double_value = 0.9
            made.state = mlmd.Artifact.LIVE
            store.put_artifacts([made])
        for redacted in (["owner"], ["uri"]):
            with store.acting(actor="eraser"):
                store.erase("artifact", made.id, reason="GDPR-17", redact=redacted)
            found = entity(source_of(store), "artifact", made.id)
            told = {(f.field, f.value, f.version, f.actor) for f in found.fields}
            assert {one for one in told if one[0] != "uri"} == {
                ("properties.acc", 0.9, 2, "ana"),
                ("state", "LIVE", 2, "ana"),
            }
            source = source_of(store)
            between = lineage_between(
                *(source.log, source.projections, "artifact", made.id, before, source.position()),
                direction="upstream",
                hops=None,
                limit=10,
            )
            changes = [(c.field, c.after) for v in between.nodes[0].versions for c in v.changes]
            assert sorted(changes, key=str) == [("properties.acc", 0.9), ("state", "LIVE")]
