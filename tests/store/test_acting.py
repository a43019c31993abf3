"""Who, why, and on which request: what is recorded, and what a request id guards against."""

from __future__ import annotations

import asyncio
import random
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import eventstore
from eventstore import errors
from eventstore.log import Record
from eventstore.metadata_store.metadata_store import MetadataStore
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import artifact, memory_store, put_types
from tests.coroutines import run_apart
from tests.differential.programs import Generator


def newest(store: MetadataStore) -> Record:
    return list(store.log.commits(store.log_position() - 1))[-1].records[-1]


def test_blocks_nest_and_end(store: MetadataStore) -> None:
    type_id, _, _ = put_types(store)
    by_default = newest(store).actor
    with store.acting(actor="nightly", reason="retraining"):
        store.put_artifacts([artifact(type_id)])
        assert (newest(store).actor, newest(store).reason) == ("nightly", "retraining")
        with store.acting(reason="repair", request_id="one"):
            store.put_artifacts([artifact(type_id)])
            record = newest(store)
            assert (record.actor, record.reason) == ("nightly", "repair")
            assert record.request_id == "one"
        with memory_store() as other, other.acting(actor="somebody else"):
            store.put_artifacts([artifact(type_id)])
        assert newest(store).actor == "nightly"
    store.put_artifacts([artifact(type_id)])
    assert (newest(store).actor, newest(store).reason) == (by_default, None)


def test_threads_and_tasks_do_not_share_a_block(store: MetadataStore) -> None:
    type_id, _, _ = put_types(store)

    async def put(actor: str, entered: asyncio.Barrier) -> None:
        with store.acting(actor=actor):
            await entered.wait()
            store.put_artifacts([artifact(type_id, name=actor)])
            await entered.wait()

    async def both() -> None:
        entered = asyncio.Barrier(2)
        await asyncio.gather(put("one", entered), put("two", entered))

    run_apart(both())
    with store.acting(actor="here"):
        there = threading.Thread(
            target=store.put_artifacts, args=([artifact(type_id, name="there")],)
        )
        there.start()
        there.join()
    records = [record for commit in store.log.commits() for record in commit.records][-3:]
    actors = {record.actor for record in records}
    assert {"one", "two"} < actors
    assert "here" not in actors


def test_a_store_can_say_it_for_all_puts(tmp_path: Path) -> None:
    with eventstore.open(tmp_path / "store", actor="ci", reason="import") as store:
        put_types(store)
        assert (newest(store).actor, newest(store).reason) == ("ci", "import")


@pytest.mark.parametrize("text", ["", 7, "\ud800", "x" * 70_000])
def test_texts_are_checked(store: MetadataStore, text: Any) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="reason"), store.acting(reason=text):
        pass


def test_a_repeated_put_is_acknowledged_and_not_applied(tmp_path: Path) -> None:
    store = eventstore.open(tmp_path / "store")
    type_id, execution_type, _ = put_types(store)

    def put(opened: MetadataStore, uri: str = "s3://a") -> Any:
        with opened.acting(request_id="run-7"):
            return opened.put_execution(
                mlmd.Execution(type_id=execution_type, name="train"),
                [(artifact(type_id, uri=uri), mlmd.Event(type=mlmd.Event.OUTPUT))],
                [],
            )

    answer = put(store)
    position = store.log_position()
    with eventstore.open(tmp_path / "store") as other:
        assert put(other) == answer
        with pytest.raises(errors.AlreadyExistsError, match="'run-7' was used before, for other"):
            put(other, "s3://b")
    store.put_artifacts([artifact(type_id, name="later")])
    for _ in range(2):
        assert put(store) == answer
        with pytest.raises(errors.AlreadyExistsError, match=f"at position {position - 2}"):
            put(store, "s3://b")
        store.seal()
        store.close()
        store = eventstore.open(tmp_path / "store")
    assert store.log_position() == position + 1
    store.close()


def test_an_event_at_another_time_is_other_content(store: MetadataStore) -> None:
    type_id, execution_type, _ = put_types(store)
    store.put_artifacts([artifact(type_id)])
    store.put_executions([mlmd.Execution(type_id=execution_type)])
    event = mlmd.Event(artifact_id=1, execution_id=1, type=mlmd.Event.INPUT)
    with store.acting(request_id="event"):
        store.put_events([event])
        store.put_events([event])
        event.milliseconds_since_epoch = 5
        with pytest.raises(errors.AlreadyExistsError, match="use a new request id"):
            store.put_events([event])


def test_many_threads_with_one_request_put_once(tmp_path: Path) -> None:
    stores = [eventstore.open(tmp_path / "store") for _ in range(2)]
    type_id, _, _ = put_types(stores[0])
    answers = []

    def put(store: MetadataStore) -> None:
        with store.acting(request_id="once"):
            answers.append(tuple(store.put_artifacts([artifact(type_id, name="one")])))

    threads = [threading.Thread(target=put, args=(stores[n % 2],)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [(1,)] * 8
    assert len(stores[0].get_artifacts()) == 1
    for store in stores:
        store.close()


@pytest.mark.parametrize("seed", range(8))
def test_every_put_of_a_program_can_be_repeated(tmp_path: Path, seed: int) -> None:
    generator = Generator(random.Random(seed))
    store = eventstore.open(tmp_path / "store")
    done = []
    for number in range(70):
        rpc, request = generator.next_call()
        before = store.log_position()
        try:
            with store.acting(request_id=f"request {number}"):
                response = store._engine.call(rpc, request)
        except errors.StatusError:
            continue
        generator.learn(rpc, request, response)
        if store.log_position() > before:
            done.append((number, rpc, request, response))
    assert len(done) > 10
    store.seal()
    store.close()
    store = eventstore.open(tmp_path / "store")
    position = store.log_position()
    for number, rpc, request, response in done:
        with store.acting(request_id=f"request {number}"):
            assert store._engine.call(rpc, request) == response, (rpc, request)
            _, other_rpc, other, _ = done[0] if number != done[0][0] else done[1]
            if (other_rpc, other) != (rpc, request):
                with pytest.raises(errors.AlreadyExistsError):
                    store._engine.call(other_rpc, other)
    assert store.log_position() == position
    store.close()


def test_as_of_takes_milliseconds(store: MetadataStore) -> None:
    type_id, _, _ = put_types(store)
    store.put_artifacts([artifact(type_id, name="one")])
    at = newest(store).recorded_at
    position = store.log_position()
    milliseconds = at // 1000
    assert store.as_of(milliseconds).log_position() == position
    with pytest.raises(errors.InvalidArgumentError, match="no commit at or before"):
        store.as_of(100_000_000_000)
    with pytest.raises(errors.InvalidArgumentError, match="beyond the end of the log"):
        store.as_of(99_999_999_999)
    with pytest.raises(errors.InvalidArgumentError, match="in the future"):
        store.as_of(datetime.now(timezone.utc) + timedelta(hours=1))
    with pytest.raises(errors.InvalidArgumentError, match="no time zone"):
        store.as_of(datetime(2026, 1, 1))
