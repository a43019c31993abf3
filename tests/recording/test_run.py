"""`store.run`: what a block of code leaves in the store."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

import eventstore
from eventstore import errors
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.recording import Run
from tests.coroutines import run_apart


def _custom(node: Any, name: str) -> Any:
    value = node.custom_properties[name]
    return getattr(value, value.WhichOneof("value"))


def _dataset(store: eventstore.MetadataStore, uri: str = "s3://sales") -> mlmd.Artifact:
    with store.run("Ingest", capture=False) as run:
        return run.output("Dataset", uri=uri, rows=7)


def test_a_run_is_an_execution_with_inputs_outputs_and_contexts(
    store: eventstore.MetadataStore,
) -> None:
    dataset = _dataset(store)
    contexts = {"Pipeline": "churn", "Run": ["monday", "first"]}
    with store.run("Trainer", inputs=[dataset], contexts=contexts, learning_rate=0.1) as run:
        assert run.execution.last_known_state == mlmd.Execution.RUNNING
        model = run.output("Model", uri="s3://models/1", name="churn-1", key="model", accuracy=0.93)
        assert model.state == mlmd.Artifact.PENDING
        run.record(epochs=3)
    execution = run.execution
    assert execution.last_known_state == mlmd.Execution.COMPLETE
    assert execution.type == "Trainer"
    assert execution.properties["learning_rate"].double_value == 0.1
    assert execution.properties["epochs"].int_value == 3
    assert _custom(execution, "duration_seconds") >= 0
    (model,) = run.outputs
    assert (model.uri, model.name, model.state) == ("s3://models/1", "churn-1", mlmd.Artifact.LIVE)
    assert model.properties["accuracy"].double_value == 0.93
    assert [artifact.id for artifact in run.inputs] == [dataset.id]
    events = store.get_events_by_execution_ids([run.id])
    assert {(event.artifact_id, event.type) for event in events} == {
        (dataset.id, mlmd.Event.INPUT),
        (model.id, mlmd.Event.OUTPUT),
    }
    (output,) = [event for event in events if event.type == mlmd.Event.OUTPUT]
    assert [step.key for step in output.path.steps] == ["model"]
    named = {(context.type, context.name) for context in store.get_contexts_by_execution(run.id)}
    assert named == {("Pipeline", "churn"), ("Run", "monday"), ("Run", "first")}
    assert {c.name for c in store.get_contexts_by_artifact(model.id)} == {n for _, n in named}


def test_the_end_of_a_run_is_one_commit(store: eventstore.MetadataStore) -> None:
    with store.run("Trainer") as run:
        run.output("Model", uri="a")
        run.output("Model", uri="b")
        before = store.log.commit_number
    assert store.log.commit_number == before + 1


def test_a_failure_is_recorded_and_goes_on(store: eventstore.MetadataStore) -> None:
    def lose(run: Run) -> None:
        run.output("Model", uri="half")
        raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"), store.run("Trainer") as run:
        lose(run)
    execution = run.execution
    assert execution.last_known_state == mlmd.Execution.FAILED
    assert _custom(execution, "error") == "KeyError: 'lost'"
    assert "test_run.py" in _custom(execution, "traceback")
    assert [artifact.state for artifact in run.outputs] == [mlmd.Artifact.ABANDONED]


@pytest.mark.parametrize(
    ("ending", "state"),
    [
        (SystemExit(0), mlmd.Execution.COMPLETE),
        (SystemExit(), mlmd.Execution.COMPLETE),
        (SystemExit(2), mlmd.Execution.FAILED),
        (SystemExit("no data"), mlmd.Execution.FAILED),
        (KeyboardInterrupt(), mlmd.Execution.FAILED),
    ],
)
def test_how_a_program_leaves_decides(
    store: eventstore.MetadataStore, ending: BaseException, state: int
) -> None:
    with pytest.raises(type(ending)), store.run("Trainer") as run:
        raise ending
    assert run.execution.last_known_state == state


def test_an_error_text_that_cannot_be_encoded_is_recorded(store: eventstore.MetadataStore) -> None:
    with pytest.raises(ValueError, match="odd"), store.run("Trainer") as run:
        raise ValueError("odd \udcff text " + "x" * 50_000)
    assert len(_custom(run.execution, "error")) <= 10_010


def test_the_programs_error_comes_before_that_of_recording(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = eventstore.open(tmp_path / "store")

    def close_and_fail() -> None:
        store.close()
        raise KeyError("first")

    with pytest.raises(KeyError) as caught, store.run("Trainer"):
        close_and_fail()
    assert any("could not be recorded" in note for note in caught.value.__notes__)
    with eventstore.open(tmp_path / "store") as again:
        (execution,) = again.get_executions()
        assert execution.last_known_state == mlmd.Execution.RUNNING


def test_values_become_properties_of_their_kind(store: eventstore.MetadataStore) -> None:
    moment = datetime(2026, 11, 20, 8, tzinfo=timezone.utc)
    values = {
        "flag": True,
        "count": 2**63 - 1,
        "rate": float("inf"),
        "text": "churn[prod]",
        "path": Path("data") / "a.csv",
        "when": moment,
        "layers": [16, 8],
        "options": {"deep": {"a": None}},
        "message": mlmd.Artifact(uri="x"),
        "nothing": None,
    }
    with store.run("Trainer", properties=values, capture=False) as run:
        pass
    found = run.execution.properties
    assert {name: found[name].WhichOneof("value") for name in found} == {
        "flag": "bool_value",
        "count": "int_value",
        "rate": "double_value",
        "text": "string_value",
        "path": "string_value",
        "when": "string_value",
        "layers": "struct_value",
        "options": "struct_value",
        "message": "proto_value",
    }
    assert found["when"].string_value == "2026-11-20T08:00:00+00:00"
    assert list(found["layers"].struct_value["values"]) == [16.0, 8.0]


def test_a_value_of_another_kind_than_declared_is_a_custom_property(
    store: eventstore.MetadataStore,
) -> None:
    with store.run("Trainer", rate=0.5, depth=3):
        pass
    with store.run("Trainer", rate=1, depth=3.5) as run:
        pass
    execution = run.execution
    assert execution.properties["rate"].double_value == 1.0
    assert "depth" not in execution.properties
    assert _custom(execution, "depth") == 3.5


class _Array:
    """What a NumPy array looks like from outside."""

    dtype = "float64"

    def tolist(self) -> list[float]:
        return [0.5, 1.5]


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ({}, {}),
        ({"a": {}}, {"a": {}}),
        ([], {"values": []}),
        ((1, None), {"values": [1.0, None]}),
        ({3}, {"values": [3.0]}),
        (_Array(), {"values": [0.5, 1.5]}),
        ({1: Path("a")}, {"1": "a"}),
    ],
)
def test_what_holds_values_becomes_a_struct(
    store: eventstore.MetadataStore, value: Any, plain: Any
) -> None:
    with store.run("Trainer", capture=False) as run:
        run.record(value=value)
    found = run.execution.properties["value"]
    assert found.WhichOneof("value") == "struct_value"
    assert json_format.MessageToDict(found.struct_value) == plain


def test_what_is_no_value_of_mlmd_becomes_text(store: eventstore.MetadataStore) -> None:
    with store.run("Trainer", large=2**63, broken="\udc80") as run:
        pass
    found = run.execution.properties
    assert found["large"].string_value == "9223372036854775808"
    assert found["broken"].string_value == "\\udc80"


def test_a_function_is_recorded_without_its_further_keywords(
    store: eventstore.MetadataStore,
) -> None:
    @store.run("Trainer")
    def train(rate: float, *more: Any, **options: Any) -> None:
        pass

    train(1.0)
    (execution,) = store.get_executions_by_type("Trainer")
    assert execution.properties["rate"].double_value == 1.0


@pytest.mark.parametrize("contexts", [["churn"], "churn", {"P": 1}, {"P": []}, {1: "a"}])
def test_contexts_that_name_none_are_refused(
    store: eventstore.MetadataStore, contexts: Any
) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="contexts"):
        store.run("Trainer", contexts=contexts)


def test_names_of_properties_are_texts(store: eventstore.MetadataStore) -> None:
    properties: Any = {1: 2}
    with pytest.raises(errors.InvalidArgumentError, match="is text, not 1"):
        store.run("Trainer", properties=properties).__enter__()


@pytest.mark.parametrize("value", [b"bytes", object(), [object()], {"a": {1: b"b"}}])
def test_what_cannot_be_recorded_is_refused_before_anything_is_put(
    store: eventstore.MetadataStore, value: Any
) -> None:
    position = store.log_position()
    with pytest.raises(errors.InvalidArgumentError, match="'odd'"):
        store.run("Trainer", odd=value).__enter__()
    assert store.log_position() == position


def test_inputs_by_name_bear_their_place(store: eventstore.MetadataStore) -> None:
    first, second = _dataset(store, "a"), _dataset(store, "b")
    inputs = {"train": [first, second.id], "again": first}
    with store.run("Trainer", inputs=inputs) as run:
        pass
    events = store.get_events_by_execution_ids([run.id])
    places = {e.artifact_id: [s.key or s.index for s in e.path.steps] for e in events}
    assert places == {first.id: ["train", 0, "again", 0], second.id: ["train", 1]}


@pytest.mark.parametrize("inputs", [["s3://x"], [True], mlmd.Artifact(), [mlmd.Artifact(uri="u")]])
def test_inputs_that_are_none_are_refused(store: eventstore.MetadataStore, inputs: Any) -> None:
    position = store.log_position()
    with pytest.raises(errors.InvalidArgumentError, match="inputs"):
        store.run("Trainer", inputs=inputs).__enter__()
    assert store.log_position() == position


def test_an_input_is_found_by_its_uri_or_put(store: eventstore.MetadataStore) -> None:
    dataset = _dataset(store, "s3://known")
    with store.run("Trainer") as run:
        assert run.input("Dataset", uri="s3://known").id == dataset.id
        assert run.input(dataset.id).id == dataset.id
        new = run.input("Dataset", uri="s3://unknown", name="late", rows=3)
        assert new.state == mlmd.Artifact.LIVE
        assert run.input("Dataset", uri="s3://unknown", key="k").id == new.id
    assert [artifact.id for artifact in run.inputs] == [dataset.id, new.id]
    assert len(store.get_events_by_execution_ids([run.id])) == 2


def test_a_state_given_meanwhile_is_kept(store: eventstore.MetadataStore) -> None:
    with store.run("Trainer") as run:
        model = run.output("Model", uri="m")
        model.state = mlmd.Artifact.MARKED_FOR_DELETION
        store.put_artifacts([model])
    assert [artifact.state for artifact in run.outputs] == [mlmd.Artifact.MARKED_FOR_DELETION]


def test_a_function_is_recorded_call_by_call(store: eventstore.MetadataStore) -> None:
    dataset = _dataset(store)

    @store.run("Trainer", contexts={"Pipeline": "churn"}, team="growth")
    def train(
        data: mlmd.Artifact, rate: float = 0.1, *, hook: Any = print, run: Any = None
    ) -> mlmd.Artifact:
        artifact: mlmd.Artifact = run.output("Model", uri=f"models/{rate}")
        return artifact

    first, second = train(dataset), train(dataset, rate=0.2)
    assert [first.uri, second.uri] == ["models/0.1", "models/0.2"]
    runs = store.get_executions_by_type("Trainer")
    assert [run.properties["rate"].double_value for run in runs] == [0.1, 0.2]
    assert {run.properties["team"].string_value for run in runs} == {"growth"}
    events = store.get_events_by_artifact_ids([dataset.id])
    assert sum(event.type == mlmd.Event.INPUT for event in events) == 2
    assert train.__name__ == "train"


def test_a_coroutine_is_recorded_until_it_ends(store: eventstore.MetadataStore) -> None:
    @store.run("Trainer")
    async def train() -> None:
        await asyncio.sleep(0)
        (execution,) = store.get_executions_by_type("Trainer")
        assert execution.last_known_state == mlmd.Execution.RUNNING

    run_apart(train())
    (execution,) = store.get_executions_by_type("Trainer")
    assert execution.last_known_state == mlmd.Execution.COMPLETE


def test_a_generator_is_refused(store: eventstore.MetadataStore) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="generator"):

        @store.run("Trainer")
        def train() -> Any:
            yield 1


def test_a_run_is_used_once_and_only_while_open(store: eventstore.MetadataStore) -> None:
    run = store.run("Trainer")
    with pytest.raises(errors.FailedPreconditionError, match="has not begun"):
        _ = run.id
    with run:
        pass
    with pytest.raises(errors.FailedPreconditionError, match="used already"):
        run.__enter__()
    with pytest.raises(errors.FailedPreconditionError, match="not open"):
        run.output("Model", uri="late")


def test_threads_share_a_run(store: eventstore.MetadataStore) -> None:
    with store.run("Trainer") as run:
        threads = [
            threading.Thread(target=lambda n=n: run.output("Model", uri=f"models/{n}", part=n))
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {artifact.uri for artifact in run.outputs} == {f"models/{n}" for n in range(8)}
    assert {artifact.state for artifact in run.outputs} == {mlmd.Artifact.LIVE}


def test_the_code_and_the_environment_are_recorded(tmp_path: Path) -> None:
    program = tmp_path / "train.py"
    program.write_text(
        "import eventstore, msgspec\n"
        "store = eventstore.open('store')\n"
        "with store.run('Trainer'):\n"
        "    pass\n"
    )

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run([*command, *arguments], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "--quiet", "--initial-branch", "main")
    git("remote", "add", "origin", "https://user:secret@example.org/churn.git")
    git("add", "train.py")
    git("commit", "--quiet", "--message", "first")
    program.write_text(program.read_text() + "# changed\n")
    subprocess.run([sys.executable, str(program)], cwd=tmp_path, check=True)
    with eventstore.open(tmp_path / "store") as store:
        (execution,) = store.get_executions()
    assert _custom(execution, "git_commit") == git("rev-parse", "HEAD")
    assert _custom(execution, "git_branch") == "main"
    assert _custom(execution, "git_remote") == "https://example.org/churn.git"
    assert _custom(execution, "git_dirty") is True
    environment = _custom(execution, "environment")
    assert environment["program"] == str(program.resolve())
    assert environment["python"] == ".".join(map(str, sys.version_info[:3]))
    assert "msgspec" in environment["packages"]


def test_nothing_is_captured_where_that_is_not_wanted(store: eventstore.MetadataStore) -> None:
    with store.run("Trainer", capture=False) as run:
        pass
    assert set(run.execution.custom_properties) == {"duration_seconds"}


def test_without_git_the_run_is_recorded(
    store: eventstore.MetadataStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with store.run("Trainer") as run:
        pass
    assert "git_commit" not in run.execution.custom_properties
    assert "environment" in run.execution.custom_properties


def test_names_that_are_parameters_go_by_mapping(store: eventstore.MetadataStore) -> None:
    with store.run("Trainer", properties={"name": "a", "inputs": 1, "": 2, "a b": 3}) as run:
        run.output("Model", uri="m", properties={"uri": "u", "key": 1})
    assert set(run.execution.properties) == {"name", "inputs", "", "a b"}
    (model,) = run.outputs
    assert set(model.properties) == {"uri", "key"}


def test_processes_that_extend_a_type_at_once_agree(
    store: eventstore.MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    get, calls = store.get_execution_type, [0]

    def outdated(name: str) -> mlmd.ExecutionType:
        # The first look is overtaken by another process, which declares the property otherwise.
        calls[0] += 1
        if calls[0] == 1:
            other = mlmd.ExecutionType(name=name, properties={"rate": mlmd.STRING})
            store.put_execution_type(other)
            raise errors.NotFoundError("no such type")
        return get(name)

    monkeypatch.setattr(store, "get_execution_type", outdated)
    with store.run("Trainer", rate=0.5) as run:
        pass
    assert _custom(run.execution, "rate") == 0.5


def test_a_killed_run_stays_running(tmp_path: Path) -> None:
    code = (
        "import os, signal, eventstore\n"
        "store = eventstore.open('store')\n"
        "with store.run('Trainer') as run:\n"
        "    run.output('Model', uri='m')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False)
    with eventstore.open(tmp_path / "store") as store:
        (execution,), (model,) = store.get_executions(), store.get_artifacts()
    assert execution.last_known_state == mlmd.Execution.RUNNING
    assert model.state == mlmd.Artifact.PENDING


def test_the_recording_logs_nothing_when_all_is_well(
    store: eventstore.MetadataStore, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "eventstore"), store.run("Trainer"):
        pass
    assert not caplog.records
