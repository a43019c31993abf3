"""Over the wire everything is answered as in one process, by our client and by MLMD's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import eventstore
from eventstore import errors
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.differential.clients import OurStore
from tests.differential.codec import encoded
from tests.differential.oracle import ORACLE_PYTHON, Oracle
from tests.differential.programs import run_program
from tests.server.serving import ServedStore, UpstreamClient


@pytest.fixture(scope="module")
def upstream_client() -> Iterator[UpstreamClient]:
    if not ORACLE_PYTHON.exists():
        pytest.skip("ml-metadata is not installed: run `make oracle`")
    client = UpstreamClient()
    yield client
    client.close()


@pytest.mark.parametrize("seed", range(3))
def test_a_program_answers_as_upstream_answers_it(oracle: Oracle, seed: int) -> None:
    served = ServedStore()
    try:
        assert run_program(9_000 + seed, 60, oracle, served, Counter()) is None
    finally:
        served.close()


@pytest.mark.parametrize("seed", range(2))
def test_upstreams_client_is_answered_as_a_store_answers(
    upstream_client: UpstreamClient, seed: int
) -> None:
    local = OurStore()
    try:
        assert run_program(9_100 + seed, 60, local, upstream_client, Counter()) is None
    finally:
        local.close()


def test_upstreams_client_takes_the_steps_of_the_guides(upstream_client: UpstreamClient) -> None:
    """And its errors have the codes and the messages of those in one process."""
    upstream_client.start_over()
    with eventstore.open("memory://") as local:
        expected = guided(lambda name, *given: getattr(local, name)(*given))
    assert guided(upstream_client.method) == expected
    assert len(expected) == 21


def guided(call: Callable[..., Any]) -> list[Any]:
    """What the nine steps of MLMD's guide answer, and then some mistakes."""
    told = list[Any]()

    def ask(name: str, *given: Any) -> Any:
        try:
            answer = call(name, *given)
        except errors.StatusError as error:
            told.append((name, type(error), error.error_code, error.message))
            return None
        told.append((name, _without_times(answer)))
        return answer

    kind = mlmd.ArtifactType(name="DataSet")
    kind.properties["day"], kind.properties["split"] = mlmd.INT, mlmd.STRING
    data_type = ask("put_artifact_type", kind)
    model_type = ask("put_artifact_type", mlmd.ArtifactType(name="SavedModel"))
    ask("get_artifact_types")
    trainer_type = ask("put_execution_type", mlmd.ExecutionType(name="Trainer"))
    data = mlmd.Artifact(type_id=data_type, uri="path/to/data")
    data.properties["day"].int_value, data.properties["split"].string_value = 1, "train"
    [data_id] = ask("put_artifacts", [data])
    ask("get_artifacts_by_id", [data_id])
    [run_id] = ask("put_executions", [mlmd.Execution(type_id=trainer_type)])
    ask("put_events", [_event(data_id, run_id, mlmd.Event.DECLARED_INPUT)])
    model = mlmd.Artifact(type_id=model_type, uri="path/to/model", name="m")
    [model_id] = ask("put_artifacts", [model])
    ask("put_events", [_event(model_id, run_id, mlmd.Event.DECLARED_OUTPUT)])
    done = mlmd.Execution(id=run_id, type_id=trainer_type, last_known_state=mlmd.Execution.COMPLETE)
    ask("put_executions", [done])
    experiment_type = ask("put_context_type", mlmd.ContextType(name="Experiment"))
    experiment = mlmd.Context(type_id=experiment_type, name="exp1")
    [experiment_id] = ask("put_contexts", [experiment])
    ask(
        "put_attributions_and_associations",
        [mlmd.Attribution(artifact_id=model_id, context_id=experiment_id)],
        [mlmd.Association(execution_id=run_id, context_id=experiment_id)],
    )
    ask("get_artifacts_by_context", experiment_id)
    ask("get_events_by_execution_ids", [run_id])
    # A name that is taken, an id and a type that are not there, a value that does not fit.
    ask("put_artifacts", [model])
    ask("put_artifacts", [mlmd.Artifact(id=99, type_id=data_type)])
    ask("get_artifact_type", "Häuser 100%\n")
    data.properties["day"].string_value = "x"
    ask("put_artifacts", [data])
    ask("get_artifacts_by_external_ids", [""])
    return told


def _event(artifact_id: int, execution_id: int, event_type: Any) -> mlmd.Event:
    return mlmd.Event(
        artifact_id=artifact_id,
        execution_id=execution_id,
        type=event_type,
        milliseconds_since_epoch=5,
    )


def _without_times(answer: Any) -> Any:
    if isinstance(answer, list):
        return [_without_times(each) for each in answer]
    for field in ("create_time_since_epoch", "last_update_time_since_epoch"):
        if hasattr(answer, field):
            answer.ClearField(field)
    return encoded(answer)
