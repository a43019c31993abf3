"""The main job, start to end: a pipeline is recorded, a dataset turns out bad, questions follow.

Everything here goes through the public API, as a program of a user's would.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import eventstore
from eventstore.answers import ToldAnswer
from eventstore.plain_json import moment_of_milliseconds
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.wording import counted

_LEARNING_RATES = (0.1, 0.01, 0.001)
_LAYERS = (2, 4)


@dataclass(frozen=True)
class _Types:
    dataset: int
    model: int
    metrics: int
    ingest: int
    train: int
    evaluate: int
    push: int
    run: int


@dataclass(frozen=True)
class _Recorded:
    """What the questions start from: ids, and the store's position when the model was pushed."""

    bad_dataset: int
    pushed_model: int
    push_position: int


def run_demo(directory: Path) -> Iterator[ToldAnswer]:
    """Record the pipeline into a new store at `directory` and tell questions and answers."""
    with eventstore.open(directory) as store:
        told = ToldAnswer("A pipeline writes its metadata")
        recorded = _record(store, told.lines)
        yield told
        yield from _answers(store, recorded)
        report = store.verify()
        yield ToldAnswer(
            "And is it true?",
            [
                f"Verified {counted(report.records, 'record')} in "
                f"{counted(report.commits, 'commit')}: every byte and hash is as it was written.",
                f"Tree head {report.tree_head}",
            ],
        )


def _record(store: eventstore.MetadataStore, lines: list[str]) -> _Recorded:
    types = _put_types(store)
    march = _ingest(store, types, "sales-march", rows=18_250)
    april = _ingest(store, types, "sales-april", rows=19_731)
    lines.append("ingested datasets sales-march and sales-april")
    trials: list[tuple[float, int, str]] = []
    for dataset_id, dataset in ((march, "march"), (april, "april")):
        for rate in _LEARNING_RATES:
            for layers in _LAYERS:
                name = f"{dataset}-lr{rate}-l{layers}"
                model_id = _train(store, types, name, dataset_id, rate, layers)
                accuracy = 0.97 - 3 * abs(rate - 0.01) / 10 - 0.004 * layers
                accuracy -= 0.02 if dataset == "april" else 0.0
                _evaluate(store, types, name, model_id, accuracy)
                trials.append((accuracy, model_id, name))
    best_accuracy, pushed_model, best_name = max(trials)
    lines.append(f"trained and evaluated {len(trials)} models")
    _push(store, types, pushed_model)
    push_position = store.log_position()
    lines.append(f"pushed {best_name} (accuracy {best_accuracy:.3f}) at position {push_position}")
    _withdraw(store, march)
    lines.append("later: sales-march was found bad, its record was corrected")
    return _Recorded(march, pushed_model, push_position)


def _put_types(store: eventstore.MetadataStore) -> _Types:
    def artifact_type(name: str, **properties: mlmd.PropertyType) -> int:
        return store.put_artifact_type(mlmd.ArtifactType(name=name, properties=properties))

    def execution_type(name: str, **properties: mlmd.PropertyType) -> int:
        return store.put_execution_type(mlmd.ExecutionType(name=name, properties=properties))

    return _Types(
        dataset=artifact_type("Dataset", rows=mlmd.INT, quality=mlmd.STRING),
        model=artifact_type("Model", framework=mlmd.STRING),
        metrics=artifact_type("Metrics", accuracy=mlmd.DOUBLE),
        ingest=execution_type("Ingest"),
        train=execution_type("Train", learning_rate=mlmd.DOUBLE, layers=mlmd.INT),
        evaluate=execution_type("Evaluate"),
        push=execution_type("Push", target=mlmd.STRING),
        run=store.put_context_type(mlmd.ContextType(name="PipelineRun")),
    )


def _ingest(store: eventstore.MetadataStore, types: _Types, name: str, *, rows: int) -> int:
    dataset = mlmd.Artifact(
        type_id=types.dataset,
        name=name,
        uri=f"s3://warehouse/{name}",
        state=mlmd.Artifact.LIVE,
    )
    dataset.properties["rows"].int_value = rows
    dataset.properties["quality"].string_value = "good"
    execution = _execution(types.ingest, f"ingest-{name}")
    _, (dataset_id,), _ = store.put_execution(
        execution,
        [(dataset, mlmd.Event(type=mlmd.Event.OUTPUT))],
        [_run(types, "ingestion")],
        reuse_context_if_already_exist=True,
    )
    return dataset_id


def _train(
    store: eventstore.MetadataStore,
    types: _Types,
    name: str,
    dataset_id: int,
    learning_rate: float,
    layers: int,
) -> int:
    execution = _execution(types.train, f"train-{name}")
    execution.properties["learning_rate"].double_value = learning_rate
    execution.properties["layers"].int_value = layers
    model = mlmd.Artifact(
        type_id=types.model, name=name, uri=f"s3://models/{name}", state=mlmd.Artifact.LIVE
    )
    model.properties["framework"].string_value = "torch"
    read = mlmd.Event(type=mlmd.Event.INPUT, artifact_id=dataset_id)
    _, (_, model_id), _ = store.put_execution(
        execution,
        [(None, read), (model, mlmd.Event(type=mlmd.Event.OUTPUT))],
        [_run(types, f"trial-{name}")],
    )
    return model_id


def _evaluate(
    store: eventstore.MetadataStore, types: _Types, name: str, model_id: int, accuracy: float
) -> None:
    metrics = mlmd.Artifact(type_id=types.metrics, name=f"metrics-{name}")
    metrics.properties["accuracy"].double_value = accuracy
    read = mlmd.Event(type=mlmd.Event.INPUT, artifact_id=model_id)
    store.put_execution(
        _execution(types.evaluate, f"evaluate-{name}"),
        [(None, read), (metrics, mlmd.Event(type=mlmd.Event.OUTPUT))],
        [_run(types, f"trial-{name}")],
        reuse_context_if_already_exist=True,
    )


def _push(store: eventstore.MetadataStore, types: _Types, model_id: int) -> None:
    execution = _execution(types.push, "push-to-production")
    execution.properties["target"].string_value = "production"
    read = mlmd.Event(type=mlmd.Event.INPUT, artifact_id=model_id)
    store.put_execution(execution, [(None, read)], [_run(types, "release")])


def _withdraw(store: eventstore.MetadataStore, dataset_id: int) -> None:
    (dataset,) = store.get_artifacts_by_id([dataset_id])
    dataset.properties["quality"].string_value = "bad: 2,114 rows counted twice"
    dataset.state = mlmd.Artifact.MARKED_FOR_DELETION
    store.put_artifacts([dataset])


def _execution(type_id: int, name: str) -> mlmd.Execution:
    return mlmd.Execution(type_id=type_id, name=name, last_known_state=mlmd.Execution.COMPLETE)


def _run(types: _Types, name: str) -> mlmd.Context:
    return mlmd.Context(type_id=types.run, name=name)


def _answers(store: eventstore.MetadataStore, recorded: _Recorded) -> Iterator[ToldAnswer]:
    (model,) = store.get_artifacts_by_id([recorded.pushed_model])
    training = _execution_of(store, model.id, mlmd.Event.OUTPUT)
    dataset = _input_of(store, training.id)
    push = _execution_of(store, model.id, mlmd.Event.INPUT, type_name="Push")
    (run,) = store.get_contexts_by_execution(training.id)
    yield ToldAnswer(
        "Which model was pushed, and what was it made of?",
        rows=[
            ("model", f"{model.name} ({model.uri})"),
            ("was trained on", f"{dataset.name} ({dataset.uri})"),
            ("with learning rate", str(training.properties["learning_rate"].double_value)),
            ("and layers", str(training.properties["layers"].int_value)),
            ("by run", f"{run.name}, execution {training.name}"),
            ("and pushed at", moment_of_milliseconds(push.create_time_since_epoch)),
        ],
    )
    others = [
        other
        for event in store.get_events_by_artifact_ids([recorded.bad_dataset])
        if event.type == mlmd.Event.INPUT
        for other in _outputs_of(store, event.execution_id)
        if other.id != model.id
    ]
    yield ToldAnswer(
        f"Which other models were trained on {dataset.name}?",
        rows=[(other.name, other.uri) for other in others],
    )
    then = store.as_of(recorded.push_position)
    rows: list[tuple[str, object]] = []
    for label, read in (
        (f"at the push (position {recorded.push_position})", then.get_artifacts_by_id),
        (f"now (position {store.log_position()})", store.get_artifacts_by_id),
    ):
        (known,) = read([recorded.bad_dataset])
        state = mlmd.Artifact.State.Name(known.state)
        rows.append((label, f"{known.properties['quality'].string_value} [{state}]"))
    yield ToldAnswer(f"What did the store say about {dataset.name}?", rows=rows)


def _execution_of(
    store: eventstore.MetadataStore,
    artifact_id: int,
    event_type: mlmd.Event.Type,
    *,
    type_name: str | None = None,
) -> mlmd.Execution:
    events = store.get_events_by_artifact_ids([artifact_id])
    ids = [event.execution_id for event in events if event.type == event_type]
    executions = store.get_executions_by_id(ids)
    return next(e for e in executions if type_name is None or e.type == type_name)


def _input_of(store: eventstore.MetadataStore, execution_id: int) -> mlmd.Artifact:
    (artifact,) = _ends(store, execution_id, mlmd.Event.INPUT)
    return artifact


def _outputs_of(store: eventstore.MetadataStore, execution_id: int) -> list[mlmd.Artifact]:
    return _ends(store, execution_id, mlmd.Event.OUTPUT)


def _ends(
    store: eventstore.MetadataStore, execution_id: int, event_type: mlmd.Event.Type
) -> list[mlmd.Artifact]:
    events = store.get_events_by_execution_ids([execution_id])
    return store.get_artifacts_by_id([e.artifact_id for e in events if e.type == event_type])
