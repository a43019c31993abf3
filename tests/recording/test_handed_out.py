"""What a run has handed out says, after its end, what the store says."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import eventstore
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.recording import Run


def test_an_output_that_is_put_again_stays_live(store: eventstore.MetadataStore) -> None:
    with store.run("Trainer", capture=False) as run:
        model = run.output("Model", uri="m")
        (same,) = run.outputs
    (stored,) = run.outputs
    assert model == same == stored
    model.custom_properties["quality"].string_value = "good"
    store.put_artifacts([model])
    (again,) = run.outputs
    assert again.state == mlmd.Artifact.LIVE
    assert again.custom_properties["quality"].string_value == "good"


def test_an_output_that_a_function_answers_stays_live(store: eventstore.MetadataStore) -> None:
    @store.run("Trainer", capture=False)
    def train(run: Any = None) -> Any:
        return run.output("Model", uri="m")

    model = train()
    assert model.state == mlmd.Artifact.LIVE
    assert [model] == store.get_artifacts()


def test_after_a_failure_outputs_are_abandoned_where_they_are_held(
    store: eventstore.MetadataStore,
) -> None:
    held: list[Any] = []

    def fail(run: Run) -> None:
        held.extend([run.output("Model", uri="m"), run.execution])
        raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"), store.run("Trainer", capture=False) as run:
        fail(run)
    model, execution = held
    assert model.state == mlmd.Artifact.ABANDONED
    assert execution == run.execution
    assert execution.last_known_state == mlmd.Execution.FAILED
    store.put_artifacts([model])
    store.put_executions([execution])
    assert [run.execution.last_known_state, run.outputs[0].state] == [
        mlmd.Execution.FAILED,
        mlmd.Artifact.ABANDONED,
    ]
    assert run.execution.custom_properties["error"].string_value == "ValueError: bad"


def test_what_its_holder_changed_meanwhile_stays(store: eventstore.MetadataStore) -> None:
    with store.run("Trainer", capture=False, rate=0.1) as run:
        model, deleted, execution = run.output("M"), run.output("M"), run.execution
        model.uri = "elsewhere"
        model.properties["accuracy"].double_value = 0.9
        deleted.state = mlmd.Artifact.DELETED
        execution.properties["rate"].double_value = 0.2
        execution.custom_properties["duration_seconds"].string_value = "mine"
        execution.custom_properties["note"].string_value = "kept"
    assert (model.uri, model.state) == ("elsewhere", mlmd.Artifact.LIVE)
    assert model.properties["accuracy"].double_value == 0.9
    assert deleted.state == mlmd.Artifact.DELETED
    assert execution.last_known_state == mlmd.Execution.COMPLETE
    assert execution.properties["rate"].double_value == 0.2
    assert execution.custom_properties["duration_seconds"].string_value == "mine"
    assert execution.custom_properties["note"].string_value == "kept"


def test_an_execution_that_was_handed_out_loses_nothing_that_is_recorded_later(
    store: eventstore.MetadataStore,
) -> None:
    with store.run("Trainer", capture=False, loss=float("nan")) as run:
        execution = run.execution
        run.record(loss=0.2, epoch=1)
        store.put_executions([execution])
        assert run.execution.properties["epoch"].int_value == 1
        assert run.execution.properties["loss"].double_value == 0.2
    assert execution == run.execution


def test_a_state_that_the_execution_was_given_meanwhile_is_kept(
    store: eventstore.MetadataStore,
) -> None:
    with store.run("Trainer", capture=False) as run:
        stale, execution = run.execution, run.execution
        execution.last_known_state = mlmd.Execution.CACHED
        store.put_executions([execution])
    assert run.execution.last_known_state == mlmd.Execution.CACHED
    assert execution == stale == run.execution


def test_a_state_given_by_another_message_is_taken_over(store: eventstore.MetadataStore) -> None:
    with store.run("Trainer", capture=False) as run:
        model = run.output("M")
        (other,) = store.get_artifacts()
        other.state = mlmd.Artifact.MARKED_FOR_DELETION
        store.put_artifacts([other])
    assert model.state == mlmd.Artifact.MARKED_FOR_DELETION


def test_a_long_run_keeps_only_messages_that_somebody_holds(
    store: eventstore.MetadataStore,
) -> None:
    with store.run("Trainer", capture=False) as run:
        model, execution = run.output("M"), run.execution
        for step in range(300):
            run.record(step=step)
            assert run.execution.properties["step"].int_value == step
            assert run.outputs == [model]
        assert len(run._handed_out) < 100
        assert execution == run.execution
    assert model.state == mlmd.Artifact.LIVE
    assert execution.last_known_state == mlmd.Execution.COMPLETE


def test_outputs_that_another_thread_reads_at_the_end_say_how_the_run_ended(
    store: eventstore.MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, ended, held = threading.Event(), threading.Event(), []
    found_by_id = store.get_artifacts_by_id

    def slow(ids: Any) -> Any:
        found = found_by_id(ids)
        if threading.current_thread() is reader:
            read.set()
            ended.wait(0.2)
        return found

    with store.run("Trainer", capture=False) as run:
        run.output("M")
        reader = threading.Thread(target=lambda: held.extend(run.outputs))
        monkeypatch.setattr(store, "get_artifacts_by_id", slow)
        reader.start()
        assert read.wait(60)
    ended.set()
    reader.join()
    assert [model.state for model in held] == [mlmd.Artifact.LIVE]


def test_all_messages_that_somebody_holds_say_how_the_run_ended(
    store: eventstore.MetadataStore,
) -> None:
    with store.run("Trainer", capture=False) as run:
        run.output("M")
        executions = [run.execution for _ in range(300)]
        models = [model for _ in range(300) for model in run.outputs]
    assert {execution.last_known_state for execution in executions} == {mlmd.Execution.COMPLETE}
    assert {model.state for model in models} == {mlmd.Artifact.LIVE}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform forks no processes")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("ending", [SystemExit(3), SystemExit(0), KeyError("child")])
def test_a_forked_child_does_not_end_the_run_of_its_parent(
    tmp_path: Path, ending: BaseException
) -> None:
    def leave_as_a_child(run: Any) -> None:
        run.output("Model", uri="child")
        raise ending

    with eventstore.open(tmp_path / "store") as store:
        try:
            with store.run("Trainer", capture=False) as run:
                child = os.fork()
                if child == 0:
                    leave_as_a_child(run)
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
                assert run.execution.last_known_state == mlmd.Execution.RUNNING
                run.output("Model", uri="parent")
        except BaseException:
            if child == 0:
                # The child's checks are its exit code; nothing of pytest may run there.
                os._exit(0 if sys.exc_info()[1] is ending else 1)
            raise
        assert run.execution.last_known_state == mlmd.Execution.COMPLETE
        assert "error" not in run.execution.custom_properties
        outputs = {artifact.uri: artifact.state for artifact in run.outputs}
    assert outputs == {"child": mlmd.Artifact.LIVE, "parent": mlmd.Artifact.LIVE}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform forks no processes")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_waits_for_no_thread_of_its_parent(tmp_path: Path) -> None:
    begun, forked = threading.Event(), threading.Event()

    class Slow:
        dtype = "float64"

        def tolist(self) -> float:
            begun.set()
            assert forked.wait(60)
            return 0.5

    with eventstore.open(tmp_path / "store") as store, store.run("T", capture=False) as run:
        thread = threading.Thread(target=lambda: run.record(slow=Slow()))
        thread.start()
        assert begun.wait(60)
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            run.output("Model", uri="child")
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        forked.set()
        thread.join()
        assert [artifact.uri for artifact in run.outputs] == ["child"]


def test_a_long_error_is_cut_in_the_middle_and_says_so(store: eventstore.MetadataStore) -> None:
    text = "begin " + "x" * 50_000 + " end"
    with pytest.raises(ValueError, match="begin"), store.run("Trainer", capture=False) as run:
        raise ValueError(text)
    error = run.execution.custom_properties["error"].string_value
    assert error.startswith("ValueError: begin x")
    assert error.endswith("x end")
    assert len(error) <= 10_000
    left_out = int(error.partition("[... ")[2].partition(" characters")[0].replace(",", ""))
    mark = f"\n[... {left_out:,} characters left out ...]\n"
    assert len(error) - len(mark) + left_out == len("ValueError: " + text)
    assert mark in error
