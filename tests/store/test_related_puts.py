"""Executions put with what belongs to them, listings by it, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import eventstore
from eventstore import errors
from eventstore.log import PositionConflictError
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import metadata_store_service_pb2 as service
from tests.builders import memory_store, put_types


@pytest.fixture
def store() -> Iterator[eventstore.MetadataStore]:
    with memory_store() as opened:
        put_types(opened)
        yield opened


def type_id(store: eventstore.MetadataStore, kind: str, name: str) -> int:
    return int(getattr(store, f"get_{kind}_type")(name).id)


def call(store: eventstore.MetadataStore, rpc: str, **fields: Any) -> Any:
    return store._engine.call(rpc, getattr(service, f"{rpc}Request")(**fields))


def put(
    store: eventstore.MetadataStore, event: mlmd.Event, **options: bool
) -> tuple[int, int, int]:
    """The ids of an execution, its artifact and its context, which are put with an event."""
    artifact = mlmd.Artifact(type_id=type_id(store, "artifact", "DataSet"))
    execution = mlmd.Execution(type_id=type_id(store, "execution", "Train"))
    context = mlmd.Context(type_id=type_id(store, "context", "Run"), name="monday")
    execution_id, artifact_ids, context_ids = store.put_execution(
        execution, [(artifact, event)], [context], **options
    )
    return execution_id, artifact_ids[0], context_ids[0]


def test_a_context_is_there_once_when_it_is_used_again(store: eventstore.MetadataStore) -> None:
    event = mlmd.Event(type=mlmd.Event.OUTPUT)
    found = [put(store, event, reuse_context_if_already_exist=True) for _ in range(3)]
    assert found == [(n, n, 1) for n in (1, 2, 3)]
    assert [execution.id for execution in store.get_executions_by_context(1)] == [3, 2, 1]
    with pytest.raises(errors.AlreadyExistsError, match="monday"):
        put(store, event)


def test_an_event_names_what_it_is_put_with_or_nothing(store: eventstore.MetadataStore) -> None:
    put(store, mlmd.Event(type=mlmd.Event.OUTPUT), reuse_context_if_already_exist=True)
    for fields in ({"execution_id": 9}, {"artifact_id": 9}):
        before = store.log_position()
        with pytest.raises(errors.InvalidArgumentError, match="an event names"):
            put(
                store,
                mlmd.Event(type=mlmd.Event.INPUT, **fields),
                reuse_context_if_already_exist=True,
            )
        assert store.log_position() == before
    train = type_id(store, "execution", "Train")
    execution = mlmd.Execution(id=1, type_id=train)
    (stored,) = store.get_artifacts_by_id([1])
    event = mlmd.Event(type=mlmd.Event.INPUT, execution_id=1, artifact_id=1)
    assert store.put_execution(execution, [(stored, event)], [])[:2] == (1, [1])
    types = [event.type for event in store.get_events_by_execution_ids([1])]
    assert types == [mlmd.Event.OUTPUT, mlmd.Event.INPUT]


def test_nodes_are_listed_by_what_they_hang_on(store: eventstore.MetadataStore) -> None:
    other = store.put_artifact_type(mlmd.ArtifactType(name="Model"))
    data = type_id(store, "artifact", "DataSet")
    ids = store.put_artifacts([mlmd.Artifact(type_id=n) for n in (data, other, data)])
    run = type_id(store, "context", "Run")
    contexts = store.put_contexts([mlmd.Context(type_id=run, name=n) for n in "abc"])
    for name, expected in (("DataSet", [ids[0], ids[2]]), ("Model", [ids[1]])):
        options = mlmd.ListOperationOptions(max_result_size=5)
        for found in (
            call(store, "GetArtifactsByType", type_name=name, options=options),
            call(store, "GetArtifactsByType", type_name=name),
        ):
            assert sorted(artifact.id for artifact in found.artifacts) == expected
    store.put_parent_contexts(
        [mlmd.ParentContext(child_id=child, parent_id=contexts[0]) for child in contexts[1:]]
    )
    parents = call(store, "GetParentContextsByContexts", context_ids=contexts).contexts
    assert {
        child: [parent.id for parent in found.parent_contexts] for child, found in parents.items()
    } == dict.fromkeys(contexts[1:], contexts[:1])
    children = call(store, "GetChildrenContextsByContexts", context_ids=contexts).contexts
    assert {
        parent: [child.id for child in found.children_contexts]
        for parent, found in children.items()
    } == {contexts[0]: contexts[1:]}


@pytest.mark.parametrize("fields", [{"name": "a"}, {"name": ""}, {"name": "b", "external_id": "e"}])
def test_a_property_without_a_value_is_refused_before_a_name_that_is_taken(
    store: eventstore.MetadataStore, fields: dict[str, str]
) -> None:
    run = type_id(store, "context", "Run")
    store.put_contexts([mlmd.Context(type_id=run, name="a", external_id="e")])
    again = mlmd.Context(type_id=run, **fields)
    with pytest.raises((errors.AlreadyExistsError, errors.InvalidArgumentError)) as refused:
        store.put_contexts([again])
    assert "has no value" not in refused.value.message
    again.custom_properties["x"].SetInParent()
    with pytest.raises(errors.InvalidArgumentError, match=r"custom property 'x' .* has no value"):
        store.put_contexts([again])


def test_an_event_can_stand_for_an_artifact_that_is_there(store: eventstore.MetadataStore) -> None:
    put(store, mlmd.Event(type=mlmd.Event.OUTPUT))
    train = type_id(store, "execution", "Train")
    pair = service.PutExecutionRequest.ArtifactAndEvent()
    pair.event.type = mlmd.Event.INPUT
    request = {"execution": mlmd.Execution(type_id=train), "artifact_event_pairs": [pair]}
    with pytest.raises(errors.InvalidArgumentError, match="has no artifact_id"):
        call(store, "PutExecution", **request)
    pair.event.artifact_id = 1
    assert call(store, "PutExecution", **request).execution_id == 2
    (event,) = store.get_events_by_execution_ids([2])
    assert (event.artifact_id, event.type) == (1, mlmd.Event.INPUT)


@pytest.mark.parametrize("fields", [{"execution_id": 1}, {"artifact_id": 1}])
def test_an_event_needs_both_of_its_ends(
    store: eventstore.MetadataStore, fields: dict[str, int]
) -> None:
    put(store, mlmd.Event(type=mlmd.Event.OUTPUT))
    ends = {"artifact_id": 9, "execution_id": 9} | fields
    with pytest.raises(errors.StatusError, match="9"):
        store.put_events([mlmd.Event(type=mlmd.Event.INPUT, **ends)])
    assert len(store.get_events_by_execution_ids([1])) == 1


def test_a_context_is_used_again_by_its_id(store: eventstore.MetadataStore) -> None:
    _, _, context_id = put(store, mlmd.Event(type=mlmd.Event.OUTPUT))
    train = type_id(store, "execution", "Train")
    options = {"force_reuse_context": True}
    request: dict[str, Any] = {"execution": mlmd.Execution(type_id=train), "options": options}
    found = call(store, "PutExecution", contexts=[mlmd.Context(id=context_id)], **request)
    assert list(found.context_ids) == [context_id]
    assert len(store.get_executions_by_context(context_id)) == 2
    with pytest.raises(errors.NotFoundError, match="no context has this id"):
        call(store, "PutExecution", contexts=[mlmd.Context(id=9)], **request)


def test_a_subgraph_that_is_put_names_its_nodes(store: eventstore.MetadataStore) -> None:
    found = call(
        store,
        "PutLineageSubgraph",
        artifacts=[mlmd.Artifact(type_id=type_id(store, "artifact", "DataSet"))] * 2,
        executions=[mlmd.Execution(type_id=type_id(store, "execution", "Train"))],
        contexts=[mlmd.Context(type_id=type_id(store, "context", "Run"), name=n) for n in "ab"],
    )
    assert list(found.artifact_ids) == [1, 2]
    assert list(found.execution_ids) == [1]
    assert list(found.context_ids) == [1, 2]


@pytest.mark.parametrize("kind", ["artifact", "execution", "context"])
def test_types_are_found_by_their_external_ids(store: eventstore.MetadataStore, kind: str) -> None:
    name = f"{kind.capitalize()}Type"
    made = getattr(mlmd, name)(name="outside", external_id="e")
    made.id = getattr(store, f"put_{kind}_type")(made)
    found = call(store, f"Get{name}sByExternalIds", external_ids=["e", "nobody's"])
    assert list(getattr(found, f"{kind}_types")) == [made]


def test_the_newest_position_is_the_last_to_ask_about(store: eventstore.MetadataStore) -> None:
    newest = store.log_position()
    assert len(store.as_of(newest).get_artifact_types()) == 1
    with pytest.raises(errors.InvalidArgumentError, match=f"{newest + 1}"):
        store.as_of(newest + 1)


@pytest.mark.parametrize("conflicts", [1, 2, 5])
def test_a_put_goes_on_when_others_append_first(
    store: eventstore.MetadataStore, monkeypatch: pytest.MonkeyPatch, conflicts: int
) -> None:
    left = [PositionConflictError("another was first")] * conflicts
    append = store.log.append

    def contested(*arguments: Any, **options: Any) -> Any:
        if left:
            raise left.pop()
        return append(*arguments, **options)

    monkeypatch.setattr(store.log, "append", contested)
    run = type_id(store, "context", "Run")
    assert store.put_contexts([mlmd.Context(type_id=run, name="a")]) == [1]
    assert [context.id for context in store.get_contexts()] == [1]
