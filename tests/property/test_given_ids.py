"""What is given as an id is taken as ml-metadata takes it, asked here or by requests alone."""

from __future__ import annotations

from collections.abc import Iterator
from operator import index
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eventstore import errors
from eventstore.metadata_store.options import ListOptions
from eventstore.metadata_store.reader import MetadataReader
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import memory_store, put_types
from tests.edge_values import INTS
from tests.requests_only import SentRequests

Ways = tuple[MetadataReader, MetadataReader]
BY_IDS = (
    *("get_artifacts_by_id", "get_executions_by_id", "get_contexts_by_id"),
    *("get_artifact_types_by_id", "get_execution_types_by_id", "get_context_types_by_id"),
    *("get_events_by_artifact_ids", "get_events_by_execution_ids"),
    "get_artifacts_and_types_by_artifact_ids",
)
BY_ID = (
    *("get_contexts_by_artifact", "get_contexts_by_execution"),
    *("get_artifacts_by_context", "get_executions_by_context"),
    *("get_parent_contexts_by_context", "get_children_contexts_by_context"),
)
GIVEN = st.one_of(
    st.integers(1, 12),
    INTS,
    st.sampled_from([True, False, 2**63, -(2**63) - 1, 2**64]),
    st.sampled_from([np.int8(1), np.uint64(2), np.int64(-1), np.array(1), np.uint64(2**63)]),
    st.sampled_from([None, 1.0, 1.5, "1", b"1", [1], 1j]),
    st.sampled_from([np.float64(1), np.bool_(True), np.array([1])]),
)


@pytest.fixture(scope="module")
def ways() -> Iterator[Ways]:
    """A store with two nodes of each kind and links between them, in this process and beyond it."""
    with memory_store() as local:
        artifact_type, execution_type, context_type = put_types(local)
        contexts = [mlmd.Context(type_id=context_type, name=name) for name in ("a", "b")]
        local.put_contexts(contexts)
        local.put_parent_contexts([mlmd.ParentContext(child_id=1, parent_id=2)])
        for number, context in enumerate(contexts, 1):
            context.id = number
            artifact = mlmd.Artifact(type_id=artifact_type)
            event = mlmd.Event(type=mlmd.Event.INPUT)
            local.put_execution(
                mlmd.Execution(type_id=execution_type), [(artifact, event)], [context]
            )
        yield local, MetadataReader(SentRequests(local._engine))


def ends(ways: Ways, method: str, *arguments: Any) -> list[Any]:
    """What the two ways answer, or the class of the error."""
    found = []
    for store in ways:
        try:
            found.append(getattr(store, method)(*arguments))
        except (TypeError, ValueError, errors.StatusError) as error:
            found.append(type(error))
    return found


def refusals(ids: list[Any]) -> set[type[Exception]]:
    """What ml-metadata raises for the first of these that it does not take as an id."""
    found = set[type[Exception]]()
    for id_ in ids:
        try:
            number = index(id_)
        except TypeError:
            found.add(TypeError)
        else:
            if not -(2**63) <= number < 2**63:
                found.add(ValueError)
    return found


@pytest.mark.parametrize("method", BY_IDS)
@given(st.lists(GIVEN, max_size=4))
@example([True])
@example([True, 2, False])
def test_ids(ways: Ways, method: str, ids: list[Any]) -> None:
    local, remote = ends(ways, method, ids)
    assert local == remote
    refused = refusals(ids)
    if refused:
        assert local in refused
    else:
        assert local == getattr(ways[0], method)([int(id_) for id_ in ids])


@pytest.mark.parametrize("options", [None, ListOptions(limit=3)], ids=str)
@pytest.mark.parametrize("method", BY_ID)
@given(GIVEN)
@example(True)
def test_one_id(ways: Ways, method: str, options: ListOptions | None, id_: Any) -> None:
    more = [options] if options and method.startswith(("get_art", "get_exec")) else []
    local, remote = ends(ways, method, id_, *more)
    assert local == remote
    refused = refusals([id_])
    if refused:
        assert local in refused
    else:
        assert local == ends(ways, method, int(id_), *more)[0]
