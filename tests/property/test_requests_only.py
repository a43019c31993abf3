"""A client that can only send requests answers every method as a store in this process does."""

from __future__ import annotations

from collections import Counter

import pytest

import eventstore
from eventstore import MetadataStore, errors
from eventstore.metadata_store.options import ListOptions, OrderByField
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.differential.clients import OurStore
from tests.differential.programs import run_program
from tests.requests_only import SentRequests


class _RemoteStore(OurStore):
    def _open(self) -> None:
        super()._open()
        self._store._calls = SentRequests(self._store._engine)


@pytest.mark.parametrize("seed", range(10))
def test_programs_have_the_same_answers(seed: int) -> None:
    local, remote = OurStore(), _RemoteStore()
    counts = Counter[str]()
    try:
        assert run_program(4_000 + seed, 60, remote, local, counts) is None
    finally:
        local.close()
        remote.close()
    assert sum(counts.values()) > 40


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
    pages._calls = calls = SentRequests(pages._engine)
    assert pages.get_artifacts(options) == expected
    assert 1 <= len(calls.rpcs) <= len(expected) // 100 + 1


def test_a_negative_limit_is_not_sent(pages: MetadataStore) -> None:
    pages._calls = calls = SentRequests(pages._engine)
    with pytest.raises(errors.InvalidArgumentError, match="limit is -1"):
        pages.get_artifacts(ListOptions(limit=-1))
    assert not calls.rpcs


def test_what_is_none_is_refused_before_it_is_sent(pages: MetadataStore) -> None:
    pages._calls = calls = SentRequests(pages._engine)
    for call in (
        lambda: pages.put_artifacts(None),  # type: ignore[arg-type]
        lambda: pages.put_events(None),  # type: ignore[arg-type]
        lambda: pages.get_artifact_by_type_and_name("T", None),  # type: ignore[arg-type]
        lambda: pages.get_artifact_by_type_and_name(None, "a"),  # type: ignore[arg-type]
        lambda: pages.get_artifacts_by_id(None),  # type: ignore[arg-type]
        lambda: pages.get_events_by_execution_ids(None),  # type: ignore[arg-type]
    ):
        with pytest.raises(TypeError, match="is None"):
            call()
    assert not calls.rpcs
