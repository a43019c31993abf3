"""Responses made from serialized messages, and the lists made from them."""

from __future__ import annotations

import gc

import pyarrow as pa
import pytest

from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import metadata_store_service_pb2 as service
from eventstore.store.wire import as_list, fill_repeated, fill_repeated_from_columns

MANY = 10_000


@pytest.fixture(scope="module")
def payloads() -> list[bytes]:
    """Serialized artifacts of many lengths, the empty one first."""
    made = [mlmd.Artifact(uri="x" * (number % 300)) for number in range(1, MANY)]
    return [b"", *(artifact.SerializeToString() for artifact in made)]


def test_columns_fill_a_response_as_single_messages_do(payloads: list[bytes]) -> None:
    parts = [pa.array(payloads[start : start + 3_000], pa.large_binary()) for start in (0, 3_000)]
    filled = fill_repeated_from_columns(service.GetArtifactsResponse(), "artifacts", parts)
    one_by_one = fill_repeated(service.GetArtifactsResponse(), "artifacts", payloads[:6_000])
    assert filled == one_by_one
    assert len(filled.artifacts) == 6_000


@pytest.mark.parametrize("is_enabled", [True, False])
@pytest.mark.parametrize("count", [3, MANY])
def test_lists_leave_garbage_collection_as_it_was(
    payloads: list[bytes], count: int, is_enabled: bool
) -> None:
    response = fill_repeated(service.GetArtifactsResponse(), "artifacts", payloads[:count])
    was_enabled = gc.isenabled()
    try:
        gc.enable() if is_enabled else gc.disable()
        assert as_list(response.artifacts) == list(response.artifacts)
        assert gc.isenabled() == is_enabled
    finally:
        gc.enable() if was_enabled else gc.disable()
