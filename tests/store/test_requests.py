"""Requests as a server gets them, without ml-metadata to compare: all that is put is read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

import eventstore
from eventstore import errors
from eventstore.log.kinds import ARTIFACT
from eventstore.log.readable import UNREADABLE
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import metadata_store_service_pb2 as service
from eventstore.store import rpcs, wire
from eventstore.store.transaction import Transaction
from tests.builders import ARTIFACTS, memory_store, put_types


@pytest.fixture
def store() -> Iterator[eventstore.MetadataStore]:
    """Two artifacts, two executions, two contexts."""
    with memory_store() as opened:
        data, train, run = put_types(opened)
        opened.put_artifacts([mlmd.Artifact(type_id=data, uri=f"u{n}") for n in range(2)])
        opened.put_executions([mlmd.Execution(type_id=train) for _ in range(2)])
        opened.put_contexts([mlmd.Context(type_id=run, name=f"c{n}") for n in range(2)])
        yield opened


def call(store: eventstore.MetadataStore, rpc: str, **fields: Any) -> Any:
    return store._engine.call(rpc, getattr(service, f"{rpc}Request")(**fields))


@pytest.mark.parametrize("links", [1, 2])
def test_links_that_are_put_are_there(store: eventstore.MetadataStore, links: int) -> None:
    ids = [*range(1, links + 1)]
    events = [mlmd.Event(artifact_id=n, execution_id=n, type=mlmd.Event.INPUT) for n in ids]
    call(store, "PutEvents", events=events)
    found = call(store, "GetEventsByArtifactIDs", artifact_ids=ids).events
    assert [(event.artifact_id, event.execution_id, event.type) for event in found] == [
        (n, n, mlmd.Event.INPUT) for n in ids
    ]
    call(
        store,
        "PutAttributionsAndAssociations",
        attributions=[mlmd.Attribution(artifact_id=n, context_id=1) for n in ids],
        associations=[mlmd.Association(execution_id=n, context_id=2) for n in ids],
    )
    artifacts = call(store, "GetArtifactsByContext", context_id=1).artifacts
    assert sorted(artifact.id for artifact in artifacts) == ids
    executions = call(store, "GetExecutionsByContext", context_id=2).executions
    assert sorted(execution.id for execution in executions) == ids
    call(store, "PutParentContexts", parent_contexts=[mlmd.ParentContext(child_id=2, parent_id=1)])
    parents = call(store, "GetParentContextsByContext", context_id=2).contexts
    assert [context.id for context in parents] == [1]


def test_a_subgraph_names_what_hangs_together(store: eventstore.MetadataStore) -> None:
    store.put_events([mlmd.Event(artifact_id=1, execution_id=2, type=mlmd.Event.OUTPUT)])
    store.put_attributions_and_associations(
        [mlmd.Attribution(artifact_id=1, context_id=1)],
        [mlmd.Association(execution_id=2, context_id=2)],
    )
    options = mlmd.LineageSubgraphQueryOptions(max_num_hops=2)
    options.starting_artifacts.filter_query = "id = 1"
    graph = call(
        store, "GetLineageSubgraph", lineage_subgraph_query_options=options
    ).lineage_subgraph
    assert [(a.artifact_id, a.context_id) for a in graph.attributions] == [(1, 1)]
    assert [(a.execution_id, a.context_id) for a in graph.associations] == [(2, 2)]
    assert [(e.artifact_id, e.execution_id) for e in graph.events] == [(1, 2)]
    for nodes, ids in ((graph.artifacts, [1]), (graph.executions, [2]), (graph.contexts, [1, 2])):
        assert [node.id for node in nodes] == ids
    parts = {field.name for field, _ in graph.ListFields()}
    assert parts >= {"artifact_types", "execution_types", "context_types"}
    for part in sorted(parts):
        found = call(
            store,
            "GetLineageSubgraph",
            lineage_subgraph_query_options=options,
            read_mask={"paths": [part]},
        ).lineage_subgraph
        assert [field.name for field, _ in found.ListFields()] == [part]
        assert getattr(found, part) == getattr(graph, part)


def test_a_mask_names_the_state_of_each_kind(store: eventstore.MetadataStore) -> None:
    artifact, execution = store.get_artifacts_by_id([1])[0], store.get_executions_by_id([1])[0]
    context = store.get_contexts_by_id([1])[0]
    artifact.state, artifact.uri = mlmd.Artifact.LIVE, "other"
    execution.last_known_state = mlmd.Execution.RUNNING
    context.external_id, context.name = "e", "other"
    store.put_artifacts([artifact], ["state"])
    store.put_executions([execution], ["last_known_state"])
    store.put_contexts([context], ["external_id"])
    (artifact,) = store.get_artifacts_by_id([1])
    assert (artifact.state, artifact.uri) == (mlmd.Artifact.LIVE, "u0")
    assert store.get_executions_by_id([1])[0].last_known_state == mlmd.Execution.RUNNING
    (context,) = store.get_contexts_by_id([1])
    assert (context.external_id, context.name) == ("e", "c0")


@pytest.fixture
def later(store: eventstore.MetadataStore, monkeypatch: pytest.MonkeyPatch) -> int:
    """Ten seconds after the store was filled, which is now; in milliseconds."""
    moment = time.time_ns() + 10 * 10**9
    monkeypatch.setattr("time.time_ns", lambda: moment)
    return moment // 10**6


@pytest.mark.parametrize("maps", ["properties", "custom_properties"])
def test_only_a_change_moves_the_time_of_update(
    store: eventstore.MetadataStore, later: int, maps: str
) -> None:
    (artifact,) = store.get_artifacts_by_id([1])
    before = artifact.last_update_time_since_epoch
    store.put_artifacts([artifact])
    (artifact,) = store.get_artifacts_by_id([1])
    assert artifact.last_update_time_since_epoch == before < later
    getattr(artifact, maps)["string"].string_value = "new"
    store.put_artifacts([artifact])
    (artifact,) = store.get_artifacts_by_id([1])
    assert artifact.last_update_time_since_epoch >= later
    options = mlmd.ListOperationOptions(max_result_size=5)
    options.order_by_field.field = mlmd.ListOperationOptions.OrderByField.LAST_UPDATE_TIME
    for is_ascending, ids in ((True, [2, 1]), (False, [1, 2])):
        options.order_by_field.is_asc = is_ascending
        found = call(store, "GetArtifacts", options=options).artifacts
        assert [artifact.id for artifact in found] == ids


@pytest.mark.parametrize("kind", ["Artifact", "Execution", "Context"])
def test_types_that_no_external_id_names(store: eventstore.MetadataStore, kind: str) -> None:
    with pytest.raises(errors.NotFoundError, match="has any of the external ids"):
        call(store, f"Get{kind}TypesByExternalIds", external_ids=["nobody's"])


def test_a_position_is_called_by_its_number(store: eventstore.MetadataStore) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="as of 1: the store has no commit"):
        store.as_of(1)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("kind", ["Artifact", "Execution", "Context"])
def test_a_custom_property_without_a_value_is_refused(
    store: eventstore.MetadataStore, kind: str, count: int
) -> None:
    (node_type,) = call(store, f"Get{kind}Types").ListFields()[0][1][-1:]
    nodes = [getattr(mlmd, kind)(type_id=node_type.id, name=f"n{n}") for n in range(count)]
    nodes[-1].custom_properties["x"].SetInParent()
    before = store.log_position()
    with pytest.raises(errors.InvalidArgumentError, match=r"custom property 'x' .* has no value"):
        call(store, f"Put{kind}s", **{f"{kind.lower()}s": nodes})
    assert store.log_position() == before


def test_a_request_not_served_names_the_one_that_is(store: eventstore.MetadataStore) -> None:
    with pytest.raises(errors.UnimplementedError, match="use GetLineageSubgraph"):
        call(store, "GetLineageGraph")


def test_a_token_belongs_to_one_order(store: eventstore.MetadataStore) -> None:
    order = mlmd.ListOperationOptions.OrderByField
    options = mlmd.ListOperationOptions(max_result_size=1)
    options.order_by_field.field, options.order_by_field.is_asc = order.ID, True
    token = call(store, "GetArtifacts", options=options).next_page_token
    options.next_page_token = token
    found = call(store, "GetArtifacts", options=options)
    assert ([artifact.id for artifact in found.artifacts], found.next_page_token) == ([2], "")
    for field, is_ascending in ((order.ID, False), (order.CREATE_TIME, True)):
        options.order_by_field.field, options.order_by_field.is_asc = field, is_ascending
        with pytest.raises(errors.InvalidArgumentError, match="belongs to a listing in another"):
            call(store, "GetArtifacts", options=options)


def test_artifacts_are_not_asked_for_by_the_field_of_old(store: eventstore.MetadataStore) -> None:
    request = service.GetArtifactsByURIRequest.FromString(b"\x0a\x02u0")
    with pytest.raises(errors.InvalidArgumentError, match="deprecated field `uri`"):
        store._engine.call("GetArtifactsByURI", request)


def test_a_put_reads_what_it_has_written(store: eventstore.MetadataStore) -> None:
    projections = store._engine.projections
    transaction = Transaction(projections, store.log_position())
    stored = transaction.newest_of_each(ARTIFACTS, [1, 2, 3])
    assert [*stored] == [1, 2]
    artifact = mlmd.Artifact(id=2, type_id=store.get_artifact_type("DataSet").id, uri="new")
    transaction.write(ARTIFACT, artifact, previous=stored[2])
    found = transaction.newest_of_each(ARTIFACTS, [1, 2, 3])
    assert found[1] == stored[1]
    assert found[2] == (store.log_position() + 1, transaction.drafts[0].payload)
    assert [*found] == [1, 2]


@pytest.mark.parametrize("error", UNREADABLE)
def test_what_cannot_be_read_is_a_bad_request(
    store: eventstore.MetadataStore, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def unreadable(*_: Any) -> Any:
        raise (
            UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x")
            if error is UnicodeDecodeError
            else error
        )

    monkeypatch.setitem(rpcs.GETS, "GetArtifacts", unreadable)
    with pytest.raises(errors.InvalidArgumentError):
        call(store, "GetArtifacts")
    with pytest.raises(errors.InvalidArgumentError):
        store._engine.put(unreadable, None)


def test_columns_are_framed_as_messages_are() -> None:
    payloads = [mlmd.Artifact(id=n, uri="u" * (n * 60)).SerializeToString() for n in range(1, 5)]
    # A text that is no UTF-8 is read as far as it can be.
    payloads.insert(2, b"\x08\x63\x1a\x01\xff")
    column = pa.array(payloads, pa.large_binary())
    wanted = wire.fill_repeated(service.GetArtifactsResponse(), "artifacts", payloads)
    assert [artifact.id for artifact in wanted.artifacts] == [1, 2, 99, 3, 4]
    for parts in ([column], [column[:1], column[1:4], column[4:]], [column[:2], column[2:]]):
        response = service.GetArtifactsResponse()
        assert wire.fill_repeated_from_columns(response, "artifacts", parts) == wanted
