"""The harness finds what it is for: stores of ours with a fault, compared with one without."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

import eventstore
from eventstore import errors
from eventstore.proto import metadata_store_service_pb2 as service
from tests.differential.answers import Step, is_same
from tests.differential.clients import OurStore
from tests.differential.minimising import minimised
from tests.differential.programs import Difference, run_again, run_program
from tests.differential.texts import compared, fill


class ForgetsStates(OurStore):
    def call(self, rpc: str, request: Any) -> Any:
        response = super().call(rpc, request)
        if rpc == "GetArtifactsByID":
            for artifact in response.artifacts:
                artifact.ClearField("state")
        return response


class NeverMovesUpdateTimes(OurStore):
    def call(self, rpc: str, request: Any) -> Any:
        response = super().call(rpc, request)
        for node in getattr(response, "executions", ()):
            node.last_update_time_since_epoch = node.create_time_since_epoch
        return response


class IgnoresLimits(OurStore):
    def method(self, name: str, *arguments: Any) -> Any:
        for argument in arguments:
            if isinstance(argument, eventstore.ListOptions):
                argument.limit = None
        return super().method(name, *arguments)


class RefusesParents(OurStore):
    def call(self, rpc: str, request: Any) -> Any:
        if rpc == "PutParentContexts":
            raise errors.NotFoundError("no")
        return super().call(rpc, request)


class RewritesThePast(OurStore):
    def changed_past(self) -> tuple[str, str] | None:
        return super().changed_past() or ("then", "now")


class FindsNothing(OurStore):
    def call(self, rpc: str, request: Any) -> Any:
        response = super().call(rpc, request)
        if rpc == "GetArtifacts":
            response.ClearField("artifacts")
        return response


@pytest.fixture
def sound() -> Iterator[OurStore]:
    store = OurStore()
    yield store
    store.close()


@pytest.mark.share(3)
@pytest.mark.parametrize(
    ("faulty", "rpc", "steps"),
    [
        (ForgetsStates, "GetArtifactsByID", 3),
        (NeverMovesUpdateTimes, "Get", 4),
        # A type, two nodes that may be put one by one, and the listing.
        (IgnoresLimits, "Get", 4),
        (RefusesParents, "PutParentContexts", 1),
        (RewritesThePast, "as of a position", 0),
    ],
)
def test_a_fault_is_found_and_cut_down(
    faulty: type[OurStore], rpc: str, steps: int, sound: OurStore
) -> None:
    store = faulty()
    difference = found_in_some_program(sound, store)
    smallest = minimised(sound, store, difference)
    store.close()
    assert smallest.at.rpc.startswith(rpc)
    assert len(smallest.program) <= steps, str(smallest)


def test_two_sound_stores_do_not_differ(sound: OurStore) -> None:
    in_directory = OurStore(in_directory=True)
    counts: Counter[str] = Counter()
    for seed in range(3):
        assert run_program(seed, 60, sound, in_directory, counts) is None
    in_directory.close()
    succeeded = sum(count for name, count in counts.items() if name.endswith(" ok"))
    assert succeeded >= 0.6 * (sum(counts.values()) - succeeded)


def test_housekeeping_is_no_difference(sound: OurStore) -> None:
    in_directory = OurStore(in_directory=True)
    assert run_again([Step("reopen"), Step("seal"), Step("reopen")], sound, in_directory) is None
    in_directory.close()


def test_exemptions_are_one_way() -> None:
    put = Step("PutEvents", service.PutEventsRequest())
    assert is_same(put, errors.InternalError, errors.AlreadyExistsError)
    assert not is_same(put, errors.AlreadyExistsError, errors.InternalError)
    assert not is_same(put, errors.InternalError, errors.InvalidArgumentError)
    twice = Step("GetArtifacts", service.GetArtifactsRequest())
    twice.request.options.filter_query = "(state = LIVE) OR id = 2 AND state  = LIVE"
    answer = service.GetArtifactsResponse()
    assert is_same(twice, errors.InvalidArgumentError, answer)
    assert not is_same(twice, answer, errors.InvalidArgumentError)
    assert not is_same(twice, errors.NotFoundError, answer)
    twice.request.options.filter_query = "state = LIVE OR state = DELETED"
    assert not is_same(twice, errors.InvalidArgumentError, answer)


@pytest.mark.parametrize(
    "text",
    [
        r"name != '\t'",
        "name != 'a\"b'",
        "name != '''a'''",
        "name != '\u00a0'",
        "CAST(id AS FLOAT64) > 0.5",
        "FORMAT('%d', id) != ''",
    ],
)
def test_no_exemption_hides_a_fault(text: str, sound: OurStore) -> None:
    with closing(FindsNothing()) as faulty:
        for store in (sound, faulty):
            store.start_over()
            fill(random.Random(0), store)
        assert compared(sound, sound, "artifact", text) is None
        assert compared(sound, faulty, "artifact", text) is not None


def found_in_some_program(sound: OurStore, faulty: OurStore) -> Difference:
    for seed in range(100):
        difference = run_program(seed, 25, sound, faulty, Counter())
        if difference is not None:
            return difference
    raise AssertionError("no difference in 100 programs")
