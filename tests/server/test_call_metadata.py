"""What is said beside a request: as of when, by whom, why, and under which request id."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc
import pytest

from eventstore import MetadataStore, errors
from eventstore.call_metadata import BYTES_MAX, written
from eventstore.metadata_store import remote_calls
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import metadata_store_service_pb2 as service
from eventstore.proto.metadata_store_service_pb2_grpc import MetadataStoreServiceStub
from eventstore.server import over_grpc
from eventstore.server.answering import Answering
from eventstore.server.server import Server
from eventstore.store import Engine
from eventstore.store.rpcs import PUTS
from eventstore.times import moment_of
from tests.server.serving import client_config, serving, started

Said = Sequence[tuple[str, str | bytes]]


@pytest.fixture
def stub(server: Server) -> Iterator[MetadataStoreServiceStub]:
    with grpc.insecure_channel(server.address) as channel:
        yield MetadataStoreServiceStub(channel)


def refused(call: Callable[..., Any], request: Any, said: Said) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as raised:
        call(request, metadata=said)
    return raised.value.code(), raised.value.details()


def a_type(name: str) -> service.PutArtifactTypeRequest:
    return service.PutArtifactTypeRequest(artifact_type=mlmd.ArtifactType(name=name))


def test_an_unchanged_client_reads_the_past(
    home: MetadataStore, stub: MetadataStoreServiceStub
) -> None:
    type_id = home.put_artifact_type(mlmd.ArtifactType(name="Past"))
    home.put_artifacts([mlmd.Artifact(type_id=type_id, uri=f"past/{n}") for n in range(3)])
    then, at = home.log_position(), home.log.recorded_at(home.log_position())
    home.put_artifacts([mlmd.Artifact(type_id=type_id, uri="later")])
    request = service.GetArtifactsByTypeRequest(type_name="Past")

    def uris(moment: str | None) -> list[str]:
        said = [] if moment is None else [("eventstore-as-of", moment)]
        return [each.uri for each in stub.GetArtifactsByType(request, metadata=said).artifacts]

    assert len(uris(None)) == len(uris("now")) == len(uris("today")) == 4
    assert uris(str(then)) == [f"past/{n}" for n in range(3)]
    assert uris(str(then - 1)) == []
    assert len(uris(moment_of(at).isoformat())) == 3
    # Without a zone it is UTC's.
    assert len(uris(moment_of(at).replace(tzinfo=None).isoformat())) == 3
    # Pages are of the same moment.
    asked = service.GetArtifactsRequest(options=mlmd.ListOperationOptions(max_result_size=2))
    paged = list[str]()
    while True:
        page = stub.GetArtifacts(asked, metadata=[("eventstore-as-of", str(then))])
        paged += [each.uri for each in page.artifacts if each.type_id == type_id]
        if not page.next_page_token:
            break
        asked.options.next_page_token = page.next_page_token
    assert sorted(paged) == uris(str(then))


@pytest.mark.parametrize(
    ("moment", "said"),
    [
        ("soon", "'soon' is no moment"),
        ("1000000", "beyond the end of the log"),
        ("2001-01-01", "no commit at or before"),
        ("2999-01-01T00:00Z", "in the future"),
        ("0", "no commit"),
        ("", "'' is no moment"),
        ("9" * 5_000, "is no moment"),
        ("9" * 30, "is no moment"),
        ("9" * 18, "in the future"),
    ],
)
def test_a_moment_that_is_none(stub: MetadataStoreServiceStub, moment: str, said: str) -> None:
    request = service.GetArtifactTypesRequest()
    code, message = refused(stub.GetArtifactTypes, request, [("eventstore-as-of", moment)])
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert said in message


def test_nothing_is_put_in_the_past(home: MetadataStore, stub: MetadataStoreServiceStub) -> None:
    before = home.log_position()
    for moment in (str(before), str(before + 10_000), "2001-01-01", "soon"):
        said = [("eventstore-as-of", moment)]
        code, message = refused(stub.PutArtifactType, a_type("Never"), said)
        assert code is grpc.StatusCode.FAILED_PRECONDITION
        assert "takes no puts" in message
    assert home.log_position() == before


@pytest.mark.parametrize("actor", ["ana", "100%", "%41", "Ånne, 安娜", "two\nlines", " spaces "])
def test_who_puts_and_why_is_recorded(
    home: MetadataStore, stub: MetadataStoreServiceStub, actor: str
) -> None:
    said = [written("eventstore-actor", actor), ("eventstore-reason-bin", "Grund: ä".encode())]
    type_id = stub.PutArtifactType(a_type(f"Said by {actor}"), metadata=said).type_id
    [version] = home.history("artifact_type", type_id)
    assert (version.actor, version.reason) == (actor, "Grund: ä")


@pytest.mark.parametrize(
    "said",
    [
        [("eventstore-actor", "")],
        [("eventstore-actor", "ana"), ("eventstore-actor", "bob")],
        [("eventstore-actor", "ana"), ("eventstore-actor-bin", b"ana")],
        [("eventstore-actor-bin", b"\xff")],
        [("eventstore-reason-bin", b"x" * 65_537)],
        [("eventstore-request-id", "")],
        [("eventstore-asof", "12")],
        [("eventstore-reasons-bin", b"x")],
    ],
)
def test_what_cannot_be_recorded_is_refused(
    home: MetadataStore, stub: MetadataStoreServiceStub, said: Said
) -> None:
    before = home.log_position()
    code, message = refused(stub.PutArtifactType, a_type("Never"), said)
    assert code is grpc.StatusCode.INVALID_ARGUMENT, message
    assert home.log_position() == before


def test_there_is_a_limit_to_what_is_said(stub: MetadataStoreServiceStub) -> None:
    longest = [(f"eventstore-{name}-bin", b"x" * 65_536) for name in ("actor", "reason")]
    assert stub.PutArtifactType(a_type("Long"), metadata=longest).type_id
    code, _ = refused(stub.PutArtifactType, a_type("Never"), [("x", "y" * BYTES_MAX)])
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.fixture(scope="module")
def puts(home: MetadataStore) -> dict[str, tuple[Any, Any]]:
    """For each RPC that puts two requests that change something, and differ."""
    data, work, where = (
        home.put_artifact_type(mlmd.ArtifactType(name="Once")),
        home.put_execution_type(mlmd.ExecutionType(name="Once")),
        home.put_context_type(mlmd.ContextType(name="Once")),
    )
    artifacts = home.put_artifacts([mlmd.Artifact(type_id=data) for _ in range(2)])
    executions = home.put_executions([mlmd.Execution(type_id=work) for _ in range(2)])
    contexts = home.put_contexts([mlmd.Context(type_id=where, name=f"c{n}") for n in range(3)])

    def both(new: Callable[[int], Any]) -> tuple[Any, Any]:
        return new(0), new(1)

    return {
        "PutArtifactType": both(lambda n: a_type(f"once {n}")),
        "PutExecutionType": both(
            lambda n: service.PutExecutionTypeRequest(
                execution_type=mlmd.ExecutionType(name=f"once {n}")
            )
        ),
        "PutContextType": both(
            lambda n: service.PutContextTypeRequest(context_type=mlmd.ContextType(name=f"once {n}"))
        ),
        "PutTypes": both(
            lambda n: service.PutTypesRequest(
                artifact_types=[mlmd.ArtifactType(name=f"one of many {n}")],
                context_types=[mlmd.ContextType(name=f"one of many {n}")],
            )
        ),
        "PutArtifacts": both(
            lambda n: service.PutArtifactsRequest(
                artifacts=[mlmd.Artifact(type_id=data, uri=f"{n}")]
            )
        ),
        "PutExecutions": both(
            lambda n: service.PutExecutionsRequest(
                executions=[mlmd.Execution(type_id=work, last_known_state=1 + n)]
            )
        ),
        "PutContexts": both(
            lambda n: service.PutContextsRequest(
                contexts=[mlmd.Context(type_id=where, name=f"once {n}")]
            )
        ),
        "PutEvents": both(
            lambda n: service.PutEventsRequest(
                events=[
                    mlmd.Event(artifact_id=artifacts[n], execution_id=executions[0], type="OUTPUT")
                ]
            )
        ),
        "PutExecution": both(
            lambda n: service.PutExecutionRequest(
                execution=mlmd.Execution(type_id=work, name=f"whole {n}"),
                artifact_event_pairs=[
                    service.PutExecutionRequest.ArtifactAndEvent(
                        artifact=mlmd.Artifact(type_id=data), event=mlmd.Event(type="OUTPUT")
                    )
                ],
                contexts=[mlmd.Context(id=contexts[0], type_id=where, name="c0")],
            )
        ),
        "PutLineageSubgraph": both(
            lambda n: service.PutLineageSubgraphRequest(
                executions=[mlmd.Execution(type_id=work, name=f"graph {n}")],
                artifacts=[mlmd.Artifact(type_id=data)],
                event_edges=[
                    service.PutLineageSubgraphRequest.EventEdge(
                        execution_index=0, artifact_index=0, event=mlmd.Event(type="OUTPUT")
                    )
                ],
            )
        ),
        "PutAttributionsAndAssociations": both(
            lambda n: service.PutAttributionsAndAssociationsRequest(
                attributions=[mlmd.Attribution(artifact_id=artifacts[n], context_id=contexts[1])]
            )
        ),
        "PutParentContexts": both(
            lambda n: service.PutParentContextsRequest(
                parent_contexts=[mlmd.ParentContext(child_id=contexts[2], parent_id=contexts[n])]
            )
        ),
    }


@pytest.mark.parametrize("rpc", PUTS)
def test_a_put_that_comes_twice_is_applied_once(
    home: MetadataStore,
    stub: MetadataStoreServiceStub,
    puts: dict[str, tuple[Any, Any]],
    rpc: str,
) -> None:
    said = [("eventstore-request-id", f"once {rpc}")]
    put, (request, other) = getattr(stub, rpc), puts[rpc]
    answer = put(request, metadata=said)
    after = home.log_position()
    assert put(request, metadata=said) == answer
    assert refused(put, other, said)[0] is grpc.StatusCode.ALREADY_EXISTS
    assert home.log_position() == after
    put(other, metadata=[("eventstore-request-id", f"another {rpc}")])
    assert home.log_position() > after


def test_the_client_says_who_puts_and_why(client: MetadataStore, home: MetadataStore) -> None:
    with client.acting(actor="ana"), client.acting(reason="weil ä", request_id="R"):
        type_id = client.put_artifact_type(mlmd.ArtifactType(name="By the client"))
        assert client.put_artifact_type(mlmd.ArtifactType(name="By the client")) == type_id
        with pytest.raises(errors.AlreadyExistsError, match="request id 'R' was used before"):
            client.put_artifact_type(mlmd.ArtifactType(name="Another"))
    with pytest.raises(errors.InvalidArgumentError, match="actor"):
        client.acting(actor="").__enter__()
    [version] = home.history("artifact_type", type_id)
    assert (version.actor, version.reason, version.request_id) == ("ana", "weil ä", "R")


def test_each_put_of_the_client_has_a_request_id(
    client: MetadataStore, home: MetadataStore
) -> None:
    found = set[str | None]()
    for n in range(3):
        type_id = client.put_artifact_type(mlmd.ArtifactType(name=f"Of its own {n}"))
        found |= {version.request_id for version in home.history("artifact_type", type_id)}
    assert None not in found
    assert len(found) == 3


class Lossy:
    """Loses the answers of some calls that were made."""

    def __init__(
        self,
        patch: pytest.MonkeyPatch,
        error: type[errors.UnavailableError | errors.CancelledError] = errors.UnavailableError,
    ) -> None:
        self.left = 0
        answer = Answering.answer

        def lost(*arguments: Any, **named: Any) -> bytes:
            answered = answer(*arguments, **named)
            if self.left:
                self.left -= 1
                raise error("Socket closed")
            return answered

        patch.setattr(Answering, "answer", lost)


@pytest.mark.parametrize("error", [errors.UnavailableError, errors.CancelledError])
@pytest.mark.parametrize("is_known", [True, False])
def test_an_answer_that_was_lost_is_asked_for_again(
    home: MetadataStore,
    monkeypatch: pytest.MonkeyPatch,
    is_known: bool,
    error: type[errors.UnavailableError | errors.CancelledError],
) -> None:
    monkeypatch.setattr(remote_calls, "_PATIENCE_SECONDS", 60.0)
    lossy = Lossy(monkeypatch, error)
    with serving(home._engine) as server, MetadataStore(client_config(server.port)) as client:
        type_id = client.put_artifact_type(mlmd.ArtifactType(name="Lost"))
        client.close()
    with serving(home._engine) as server, MetadataStore(client_config(server.port)) as client:
        if is_known:
            client.get_artifact_types()
        lossy.left = 2
        before = home.log_position()
        [made] = client.put_artifacts([mlmd.Artifact(type_id=type_id)])
        assert not lossy.left
        assert home.log_position() == before + 1
        assert [each.id for each in home.get_artifacts_by_type("Lost")][-1] == made


def test_a_server_that_could_put_twice_is_not_asked_again(
    home: MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_calls, "_PATIENCE_SECONDS", 60.0)
    monkeypatch.setattr(over_grpc, "APPLIES_ONCE", ("other", "1"))
    lossy = Lossy(monkeypatch)
    with serving(home._engine) as server, MetadataStore(client_config(server.port)) as client:
        client.get_artifact_types()
        lossy.left = 1
        with pytest.raises(errors.UnavailableError, match="Socket closed") as raised:
            client.put_artifact_type(mlmd.ArtifactType(name="Not again"))
    assert type(raised.value) is errors.UnavailableError


def test_a_client_goes_on_when_a_server_starts_again(
    home: MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_calls, "_PATIENCE_SECONDS", 60.0)
    stopped = started(home._engine)
    with MetadataStore(client_config(stopped.port)) as client:
        type_id = client.put_artifact_type(mlmd.ArtifactType(name="Restart"))
        stopped.stop(0)
        starting = []

        def pause(_: float) -> None:
            if not starting:
                starting.append(started(home._engine, port=stopped.port))

        monkeypatch.setattr(remote_calls.time, "sleep", pause)
        try:
            [made] = client.put_artifacts([mlmd.Artifact(type_id=type_id)])
        finally:
            for server in starting:
                server.stop(0)
    assert len(starting) == 1
    assert [each.id for each in home.get_artifacts_by_type("Restart")] == [made]


def test_what_is_not_known_does_not_invite_to_put_twice(
    home: MetadataStore, stub: MetadataStoreServiceStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise errors.OutcomeUnknownError("the disk was full")

    monkeypatch.setattr(Engine, "call", unknown)
    code, message = refused(stub.PutArtifactType, a_type("Perhaps"), [])
    assert code is grpc.StatusCode.UNKNOWN
    assert "the disk was full; look whether it was put" in message
    code, _ = refused(stub.PutArtifactType, a_type("Perhaps"), [("eventstore-request-id", "P")])
    assert code is grpc.StatusCode.UNAVAILABLE
    code, _ = refused(stub.GetArtifactTypes, service.GetArtifactTypesRequest(), [])
    assert code is grpc.StatusCode.UNAVAILABLE


def test_a_client_that_gives_up_says_how_to_find_out(
    home: MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lossy = Lossy(monkeypatch)
    artifact_type = mlmd.ArtifactType(name="Given up")
    with serving(home._engine) as server, MetadataStore(client_config(server.port)) as client:
        lossy.left = 1
        with pytest.raises(errors.OutcomeUnknownError, match=r"within store\.acting\(") as raised:
            client.put_artifact_type(artifact_type)
        assert_can_be_found_out(client, home, artifact_type, raised.value)


def test_a_deadline_says_how_to_find_out(
    home: MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact_type = mlmd.ArtifactType(name="Too late")
    call, may_go, gone = Engine.call, threading.Event(), threading.Event()

    def late(*arguments: Any, **named: Any) -> Any:
        answer = call(*arguments, **named)
        may_go.wait(60)
        gone.set()
        return answer

    config = client_config(0)
    config.client_timeout_sec = 1
    with serving(home._engine) as server:
        config.port = server.port
        with MetadataStore(config) as client:
            client.get_artifact_types()
            with monkeypatch.context() as patch:
                patch.setattr(Engine, "call", late)
                with pytest.raises(errors.DeadlineExceededError, match="was done") as raised:
                    client.put_artifact_type(artifact_type)
                may_go.set()
                gone.wait(60)
            assert_can_be_found_out(client, home, artifact_type, raised.value)


def assert_can_be_found_out(
    client: MetadataStore,
    home: MetadataStore,
    artifact_type: mlmd.ArtifactType,
    error: errors.StatusError,
) -> None:
    after = home.log_position()
    assert home.get_artifact_type(artifact_type.name)
    with client.acting(request_id=error.message.split("'")[-2]):
        client.put_artifact_type(artifact_type)
    assert home.log_position() == after
