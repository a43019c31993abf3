"""A small store with some of everything, made once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

import eventstore
from eventstore.proto import metadata_store_pb2 as mlmd

START = 1_790_000_000_000_000_000
HOUR = 3_600_000_000_000


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[eventstore.MetadataStore]:
    """Runs of a pipeline by two actors, corrections with reasons, a hold, an erasure of who."""
    now = START

    def passing() -> int:
        return now

    with ExitStack() as opened:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("time.time_ns", passing)
            store = opened.enter_context(
                eventstore.open(tmp_path_factory.mktemp("http-api") / "store")
            )
            with store.acting(actor="setup"):
                data = store.put_artifact_type(
                    mlmd.ArtifactType(name="Data", properties={"rows": mlmd.INT})
                )
                model = store.put_artifact_type(
                    mlmd.ArtifactType(name="Model", properties={"accuracy": mlmd.DOUBLE})
                )
                train = store.put_execution_type(
                    mlmd.ExecutionType(name="Train", properties={"rate": mlmd.DOUBLE})
                )
                run = store.put_context_type(mlmd.ContextType(name="Run"))
            for number in range(12):
                now += HOUR * (1 + number % 3)
                with store.acting(actor="nightly" if number % 4 else None):
                    put_run(store, number, data, model, train, run)
            for number in range(4):
                now += HOUR // 2
                with store.acting(
                    actor="ana", reason=f"checked again, {number}", request_id=f"QA-{number}"
                ):
                    (artifact,) = store.get_artifacts_by_id([2 * number + 1])
                    artifact.state = mlmd.Artifact.MARKED_FOR_DELETION
                    artifact.custom_properties["quality"].string_value = f"bad {number}"
                    store.put_artifacts([artifact])
            now += HOUR
            with store.acting(actor="legal"):
                store.place_hold(entities=[("artifact", 5)], basis="CASE-1", ticket="T-1")
                store.erase("artifact", 8, who=True, content=False, reason="GDPR-17")
        # Any test of this process may come next: it has the true clock.
        yield store


def put_run(
    store: eventstore.MetadataStore, number: int, data: int, model: int, train: int, run: int
) -> None:
    dataset = mlmd.Artifact(type_id=data, name=f"data-{number:02}", uri=f"s3://data/{number}")
    dataset.properties["rows"].int_value = 100 * number
    made = mlmd.Artifact(type_id=model, name=f"model-{number:02}", state=mlmd.Artifact.LIVE)
    made.properties["accuracy"].double_value = 0.5 + number / 100
    execution = mlmd.Execution(
        type_id=train, name=f"train-{number:02}", last_known_state=mlmd.Execution.COMPLETE
    )
    execution.properties["rate"].double_value = 0.1 / (1 + number % 3)
    store.put_lineage_subgraph(
        [execution],
        [dataset, made],
        [mlmd.Context(type_id=run, name=f"run-{number:02}")],
        [
            (0, 0, mlmd.Event(type=mlmd.Event.INPUT)),
            (0, 1, mlmd.Event(type=mlmd.Event.OUTPUT)),
        ],
    )
