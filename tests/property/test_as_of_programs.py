"""After any program, reads as of an earlier position are the reads that were taken then."""

from __future__ import annotations

import random
from typing import Any

import pytest

import eventstore
from eventstore import errors
from eventstore.log import DirectoryLog
from tests.differential.programs import Generator
from tests.differential.reads import all_reads, outcome


@pytest.mark.share(2)
@pytest.mark.parametrize("seed", range(8))
def test_the_past_answers_as_it_did(store: eventstore.MetadataStore, seed: int) -> None:
    engine = store._engine
    generator = Generator(random.Random(seed))
    taken: list[tuple[int, str, Any, Any]] = []
    position = store.log_position()
    for number in range(60):
        rpc, request = generator.next_call()
        try:
            generator.learn(rpc, request, engine.call(rpc, request))
        except errors.StatusError:
            continue
        if store.log_position() != position and number % 6 == 0:
            position = store.log_position()
            taken += [
                (position, asked, question, outcome(engine.call, asked, question))
                for asked, question in all_reads(engine.call)
            ]
    assert len({position for position, *_ in taken}) > 3
    # A store that fails alike at all times has not answered.
    failed = [answer for *_, answer in taken if isinstance(answer, type)]
    assert {*failed} <= {errors.NotFoundError, errors.InvalidArgumentError}
    assert len(failed) < len(taken) / 4

    assert_as_taken(store, taken)
    store.seal()
    assert_as_taken(store, taken)
    if isinstance(store.log, DirectoryLog):
        directory = store.log.directory
        store.close()
        store = eventstore.open(directory)
        assert_as_taken(store, taken)
    store.rebuild()
    assert_as_taken(store, taken)
    store.close()


def assert_as_taken(
    store: eventstore.MetadataStore, taken: list[tuple[int, str, Any, Any]]
) -> None:
    engine = store._engine
    for position, asked, question, answer in taken:

        def as_of_then(rpc: str, request: Any, position: int = position) -> Any:
            return engine.call(rpc, request, as_of=position)

        assert outcome(as_of_then, asked, question) == answer, (position, asked, question)
