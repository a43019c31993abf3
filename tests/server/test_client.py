"""`MetadataStore(MetadataStoreClientConfig)`: what differs from a store in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from eventstore import ListOptions, MetadataStore, errors
from eventstore.metadata_store import retrying
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import metadata_store_service_pb2 as service
from eventstore.server.configuration import Listening
from eventstore.server.server import Server
from eventstore.store import Engine
from tests.server.certificates import Authority
from tests.server.serving import client_config, serving


def test_it_shows_where_it_is(client: MetadataStore, server: Server) -> None:
    assert repr(client) == f"<MetadataStore behind 127.0.0.1:{server.port}>"
    assert client.pipeline_asset is None
    assert client._max_num_retries == 5


def test_runs_are_recorded(client: MetadataStore, home: MetadataStore) -> None:
    with client.run("Train", capture=False, rate=0.5) as run:
        model = run.output("Model", uri="models/1")
    assert home.get_artifacts_by_id([model.id])[0].uri == "models/1"
    assert home.get_executions_by_id([run.execution.id])[0].last_known_state == 3


def test_a_long_listing_comes_in_pages(home: MetadataStore) -> None:
    """In the order of the one answer that would be too long."""
    data = home.put_artifact_type(mlmd.ArtifactType(name="Long"))
    work = home.put_execution_type(mlmd.ExecutionType(name="Long"))
    where = home.put_context_type(mlmd.ContextType(name="Long"))
    [context] = home.put_contexts([mlmd.Context(type_id=where, name="c")])
    home.put_artifacts([mlmd.Artifact(type_id=data, uri=f"{n:0100}") for n in range(250)])
    for some in (120, 130):
        named = [mlmd.Execution(type_id=work, name=f"{some} {n:0100}") for n in range(some)]
        made = home.put_executions(named)
        links = [mlmd.Association(execution_id=made_id, context_id=context) for made_id in made]
        home.put_attributions_and_associations([], links)
    with serving(home._engine, message_bytes_max=20_000) as server:
        client = MetadataStore(client_config(server.port))
        assert client.get_artifacts() == home.get_artifacts()
        in_context = client.get_executions_by_context(context)
        assert in_context == home.get_executions_by_context(context)
        assert len(in_context) == 250
        assert client.get_artifacts_by_type("Long") == home.get_artifacts_by_type("Long")
        with pytest.raises(errors.ResourceExhaustedError) as raised:
            client._remote.send("GetArtifacts", service.GetArtifactsRequest())
        assert "in pages" in raised.value.message
        assert len(client.get_artifacts(ListOptions(limit=3))) == 3


def test_a_limit_of_the_client_is_kept_to(server: Server) -> None:
    config = client_config(server.port)
    config.channel_arguments.max_receive_message_length = 1
    config.channel_arguments.http2_max_ping_strikes = 0
    with MetadataStore(config) as client, pytest.raises(errors.ResourceExhaustedError):
        client.put_artifact_type(mlmd.ArtifactType(name="T"))


def test_a_deadline(server: Server) -> None:
    config = client_config(server.port)
    config.client_timeout_sec = 0
    with MetadataStore(config) as client, pytest.raises(errors.DeadlineExceededError):
        client.get_artifact_types()
    config.client_timeout_sec = 60
    with MetadataStore(config) as client:
        client.get_artifact_types()


def test_an_aborted_call_is_made_again(
    client: MetadataStore, home: MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = [errors.AbortedError("other writers"), errors.AbortedError("other writers")]
    call = Engine.call

    def aborted(*arguments: Any, **named: Any) -> Any:
        if outcomes:
            raise outcomes.pop()
        return call(*arguments, **named)

    monkeypatch.setattr(retrying, "_MEAN_DELAY_SECONDS", 0.001)
    monkeypatch.setattr(Engine, "call", aborted)
    assert client.put_artifact_type(mlmd.ArtifactType(name="Again"))
    outcomes += [errors.AbortedError("other writers")] * 5
    with pytest.raises(errors.AbortedError, match="other writers"):
        client.get_artifact_types()
    assert not outcomes


def test_nobody_is_asked_before_the_first_call() -> None:
    with MetadataStore(client_config(1)) as client, pytest.raises(errors.UnavailableError):
        client.get_artifact_types()
    with pytest.raises(errors.FailedPreconditionError, match="closed"):
        client.get_artifact_types()


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.put_artifact_type(mlmd.ArtifactType(name="a\udc00")),
        lambda store: store.get_artifact_type("a\udc00"),
    ],
)
def test_what_is_no_text_is_refused_as_at_home(
    client: MetadataStore, home: MetadataStore, call: Callable[[MetadataStore], object]
) -> None:
    ends = []
    for store in (client, home):
        with pytest.raises(Exception) as raised:  # noqa: PT011
            call(store)
        ends.append((type(raised.value), str(raised.value)))
    assert ends[0] == ends[1]


def test_a_message_that_is_nested_too_deep_is_refused_as_at_home(
    client: MetadataStore, home: MetadataStore
) -> None:
    artifact = mlmd.Artifact(type_id=1)
    value = artifact.custom_properties["deep"].struct_value.fields["v"]
    for _ in range(60):
        value = value.struct_value.fields["v"]
    value.number_value = 1
    for store in (client, home):
        with pytest.raises(errors.InvalidArgumentError, match="Could not parse proto"):
            store.put_artifacts([artifact])


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def ssl_config(authority: Authority) -> mlmd.MetadataStoreServerConfig.SSLConfig:
    key, certificate = authority.pair("server")
    return mlmd.MetadataStoreServerConfig.SSLConfig(server_key=key, server_cert=certificate)


def test_a_server_is_known_by_its_certificate(
    home: MetadataStore,
    authority: Authority,
    ssl_config: mlmd.MetadataStoreServerConfig.SSLConfig,
) -> None:
    with serving(home._engine, tls=ssl_config) as server:
        config = client_config(server.port, "localhost")
        with MetadataStore(config) as plain, pytest.raises(errors.UnavailableError):
            plain.get_artifact_types()
        config.ssl_config.custom_ca = Authority().certificate
        with MetadataStore(config) as deceived, pytest.raises(errors.UnavailableError):
            deceived.get_artifact_types()
        config.ssl_config.custom_ca = authority.certificate
        with MetadataStore(config) as client:
            assert client.get_artifact_types() == home.get_artifact_types()


def test_a_client_is_known_by_its_certificate(
    home: MetadataStore,
    authority: Authority,
    ssl_config: mlmd.MetadataStoreServerConfig.SSLConfig,
) -> None:
    mutual = mlmd.MetadataStoreServerConfig.SSLConfig()
    mutual.CopyFrom(ssl_config)
    mutual.client_verify, mutual.custom_ca = True, authority.certificate
    with serving(home._engine, tls=mutual) as server:
        config = client_config(server.port, "localhost")
        config.ssl_config.custom_ca = authority.certificate
        for other in (None, Authority().pair("mallory")):
            if other is not None:
                config.ssl_config.client_key, config.ssl_config.server_cert = other
            with MetadataStore(config) as unknown, pytest.raises(errors.UnavailableError):
                unknown.get_artifact_types()
        config.ssl_config.client_key, config.ssl_config.server_cert = authority.pair("ana")
        with MetadataStore(config) as client:
            assert client.get_artifact_types() == home.get_artifact_types()


@pytest.mark.parametrize("wrong", ["/etc/tls/server.key", ""])
def test_a_certificate_that_is_none(
    ssl_config: mlmd.MetadataStoreServerConfig.SSLConfig, wrong: str
) -> None:
    config = mlmd.MetadataStoreServerConfig.SSLConfig()
    config.CopyFrom(ssl_config)
    config.server_key = wrong
    with pytest.raises(errors.InvalidArgumentError, match="texts of a PEM key"):
        Server(Listening(port=0, tls=config))


def test_clients_are_verified_by_somebody(
    ssl_config: mlmd.MetadataStoreServerConfig.SSLConfig,
) -> None:
    config = mlmd.MetadataStoreServerConfig.SSLConfig(client_verify=True)
    config.MergeFrom(ssl_config)
    with pytest.raises(errors.InvalidArgumentError, match="custom_ca"):
        Server(Listening(port=0, tls=config))
