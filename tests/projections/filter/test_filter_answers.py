"""Hundreds of small filters, each with the nodes that ml-metadata finds or the error it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

import eventstore
from eventstore import errors
from eventstore.metadata_store.options import ListOptions
from eventstore.proto import metadata_store_service_pb2 as service
from tests.builders import memory_store
from tests.conftest import DATA
from tests.differential.oracle import Oracle
from tests.projections.filter.listed_nodes import put_nodes

_PREFIX = "Invalid `filter_query`: "


class Case(NamedTuple):
    """A filter on nodes of a kind: the ids that it finds, or how the error's message begins.

    `is_alike` says whether ml-metadata answers the same; PORTING.md says why where it does not.
    """

    kind: str
    query: str
    answer: list[int] | str
    is_alike: bool


CASES = [Case(*case) for case in json.loads((DATA / "filter-answers.json").read_text("utf-8"))]


@pytest.fixture(scope="module")
def store() -> Iterator[eventstore.MetadataStore]:
    with memory_store() as made:
        put_nodes(made)
        yield made


class _OracleMethods:
    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self._oracle.method(name, *arguments)


def _found(
    store: eventstore.MetadataStore, kind: str, query: str, *, limit: int | None = None
) -> list[int] | str:
    try:
        nodes = getattr(store, f"get_{kind}s")(ListOptions(limit=limit, filter_query=query))
    except errors.InvalidArgumentError as error:
        return error.message.partition(_PREFIX)[2]
    return [node.id for node in nodes]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind} {case.query[:80]}")
def test_a_filter_finds_what_it_says(store: eventstore.MetadataStore, case: Case) -> None:
    found = _found(store, case.kind, case.query, limit=10)
    if isinstance(case.answer, str):
        assert isinstance(found, str)
        assert found.startswith(case.answer)
        return
    assert found == case.answer
    # Once by looking up nodes, where that can be, and once by SQL in any case.
    assert _found(store, case.kind, f"id IN (1, 2, 3, 4, 5) AND ({case.query}\n)") == case.answer
    assert _found(store, case.kind, f"({case.query}\n) AND id + 0 = id") == case.answer


def test_ml_metadata_finds_the_same(oracle: Oracle) -> None:
    oracle.start_over()
    put_nodes(_OracleMethods(oracle))
    others = []
    for kind, query, answer, is_alike in CASES:
        request = getattr(service, f"Get{kind.capitalize()}sRequest")()
        request.options.filter_query = query
        request.options.max_result_size = 100
        found: list[int] | type[errors.StatusError]
        try:
            response = oracle.call(f"Get{kind.capitalize()}s", request)
            found = sorted(node.id for node in getattr(response, f"{kind}s"))
        except errors.StatusError as error:
            found = type(error)
        wanted = errors.InvalidArgumentError if isinstance(answer, str) else answer
        if is_alike is not (found == wanted):
            others.append((kind, query, answer, found))
    assert others == []
