"""A client that can only send requests answers every method as a store in this process does."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import pytest

import eventstore
from eventstore import MetadataStore, errors
from eventstore.metadata_store.metadata_store import AsOfStore
from eventstore.metadata_store.options import ListOptions, OrderByField
from eventstore.metadata_store.reader import MetadataReader
from eventstore.metadata_store.recording_methods import RecordingMethods
from eventstore.metadata_store.writer import MetadataWriter
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import metadata_store_service_pb2 as service
from tests.differential.clients import OurStore
from tests.differential.programs import run_program
from tests.requests_only import SentRequests


class _RemoteStore(OurStore):
    def _asked(self, as_of: int | None = None) -> MetadataReader:
        calls = SentRequests(self._store._engine, as_of)
        return MetadataWriter(calls) if as_of is None else MetadataReader(calls)


@pytest.mark.share(2)
@pytest.mark.parametrize("seed", range(10))
def test_programs_have_the_same_answers_then_and_now(seed: int) -> None:
    local, remote = OurStore(), _RemoteStore()
    counts = Counter[str]()
    try:
        assert run_program(4_000 + seed, 60, local, remote, counts) is None
    finally:
        local.close()
        remote.close()
    assert sum(counts.values()) > 40


def test_every_call_of_mlmd_can_be_made() -> None:
    assert {*filter(is_call, dir(MetadataWriter))} == {*filter(is_call, dir(MetadataStore))}
    assert {*filter(is_call, dir(MetadataReader))} == {*filter(is_call, dir(AsOfStore))}


def is_call(name: str) -> bool:
    return name.startswith(("get_", "put_"))


@pytest.fixture
def pages() -> MetadataStore:
    config = mlmd.ConnectionConfig()
    config.fake_database.SetInParent()
    store = eventstore.MetadataStore(config)
    type_id = store.put_artifact_type(mlmd.ArtifactType(name="T"))
    store.put_artifacts([mlmd.Artifact(type_id=type_id, uri=str(n % 7)) for n in range(250)])
    return store


@pytest.mark.parametrize("limit", [None, 0, 1, 99, 100, 101, 200, 249, 250, 251])
@pytest.mark.parametrize(
    "options",
    [
        ListOptions(),
        ListOptions(order_by=OrderByField.ID, is_asc=False),
        ListOptions(order_by=OrderByField.CREATE_TIME),
        ListOptions(filter_query="uri != '3'"),
    ],
    ids=str,
)
def test_listings_are_walked_page_by_page(
    pages: MetadataStore, options: ListOptions, limit: int | None
) -> None:
    options = ListOptions(limit, options.order_by, options.is_asc, options.filter_query)
    expected = pages.get_artifacts(options)
    assert len(expected) == min(limit or 250, 214 if options.filter_query else 250)
    calls = SentRequests(pages._engine)
    assert MetadataReader(calls).get_artifacts(options) == expected
    assert 1 <= len(calls.rpcs) <= len(expected) // 100 + 1


def test_a_negative_limit_is_not_sent(pages: MetadataStore) -> None:
    calls = SentRequests(pages._engine)
    with pytest.raises(errors.InvalidArgumentError, match="limit is -1"):
        MetadataReader(calls).get_artifacts(ListOptions(limit=-1))
    assert not calls.rpcs


@pytest.mark.parametrize("limit", [1.5, 2.0, "3", Decimal(2), [3]])
@pytest.mark.parametrize("method", ["get_artifacts", "get_contexts"])
def test_a_limit_is_an_integer(pages: MetadataStore, method: str, limit: object) -> None:
    for asked in (pages, MetadataReader(SentRequests(pages._engine))):
        with pytest.raises(TypeError):
            getattr(asked, method)(ListOptions(limit))  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", [float("nan"), float("inf")])
@pytest.mark.parametrize("method", ["get_artifacts", "get_contexts"])
def test_a_limit_that_is_not_finite_is_none(
    pages: MetadataStore, method: str, limit: float
) -> None:
    """As MLMD's loops over pages have it."""
    for asked in (pages, MetadataReader(SentRequests(pages._engine))):
        found = getattr(asked, method)(ListOptions(limit))  # type: ignore[arg-type]
        assert found == getattr(asked, method)()
        assert len(found) == (250 if method == "get_artifacts" else 0)


def test_a_limit_may_be_true(pages: MetadataStore) -> None:
    for asked in (pages, MetadataReader(SentRequests(pages._engine))):
        assert len(asked.get_artifacts(ListOptions(limit=True))) == 1


def test_what_is_none_is_refused_before_it_is_sent(pages: MetadataStore) -> None:
    calls = SentRequests(pages._engine)
    client = MetadataWriter(calls)
    for call in (
        lambda: client.put_artifacts(None),  # type: ignore[arg-type]
        lambda: client.put_events(None),  # type: ignore[arg-type]
        lambda: client.get_artifact_by_type_and_name("T", None),  # type: ignore[arg-type]
        lambda: client.get_artifact_by_type_and_name(None, "a"),  # type: ignore[arg-type]
        lambda: client.get_artifacts_by_id(None),  # type: ignore[arg-type]
        lambda: client.get_events_by_execution_ids(None),  # type: ignore[arg-type]
    ):
        with pytest.raises(TypeError, match="is None"):
            call()
    assert not calls.rpcs


def test_the_past_takes_no_puts(pages: MetadataStore) -> None:
    past = MetadataReader(SentRequests(pages._engine, as_of=9))
    assert past.get_artifact_types() == []
    request = service.PutArtifactTypeRequest(artifact_type=mlmd.ArtifactType(name="U"))
    with pytest.raises(errors.FailedPreconditionError, match="takes no puts"):
        past._call("PutArtifactType", request, service.PutArtifactTypeResponse())
    assert pages.get_artifacts(ListOptions(limit=1))[0].type == "T"


def test_a_mask_is_sent(pages: MetadataStore) -> None:
    client = MetadataWriter(SentRequests(pages._engine))
    [artifact] = client.get_artifacts_by_id([1])
    artifact.uri, artifact.state = "new", artifact.LIVE
    assert client.put_artifacts([artifact], ["uri"]) == [1]
    [updated] = client.get_artifacts_by_id([1])
    assert updated.uri == "new"
    assert not updated.HasField("state")


def test_runs_are_recorded_by_requests_alone(pages: MetadataStore) -> None:
    client = RecordingMethods(SentRequests(pages._engine))
    with client.run("Train", inputs=[1], capture=False, rate=0.5) as run:
        model = run.output("Model", uri="models/1")
    [event, _] = pages.get_events_by_execution_ids([run.execution.id])
    assert event.artifact_id == 1
    assert pages.get_artifacts_by_uri("models/1")[0].id == model.id
