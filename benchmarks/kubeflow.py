"""A ParallelFor run of Kubeflow Pipelines: `python -m benchmarks.kubeflow [--tasks 1000]`.

Sixteen clients at once run a thousand tasks, each by the calls that Kubeflow's driver and launcher
make; then its UI asks for the run. Both sides are servers with grpcio, ml-metadata's behind its
Python extension. They take turns, some tasks at a time, and are compared turn by turn.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
from rich.progress import track

from benchmarks.results import Result, markdown, print_table
from benchmarks.served import Client, serving
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import metadata_store_service_pb2 as service

_UI_ROUNDS = 10


def main() -> None:
    """Run both sides in turns, print a table and Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kubeflow", description=__doc__)
    parser.add_argument("--tasks", type=int, default=1_000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--alone", action="store_true", help="without ml-metadata")
    arguments = parser.parse_args()
    sides = ["ours"] if arguments.alone else ["ours", "peer"]
    folder = Path(tempfile.mkdtemp(prefix="eventstore-kubeflow-"))
    try:
        with ExitStack() as opened:
            runs = {}
            for side in sides:
                port = opened.enter_context(serving(side, folder))
                runs[side] = opened.enter_context(_Run(port, arguments.clients))
            each = -(-arguments.tasks // arguments.turns)
            for first in track(range(0, arguments.tasks, each), description="Turns"):
                for run in runs.values():
                    run.do_tasks(range(first, min(first + each, arguments.tasks)))
            for _ in track(range(_UI_ROUNDS), description="UI"):
                for run in runs.values():
                    run.show()
    finally:
        shutil.rmtree(folder)
    print_table(f"{arguments.tasks:,} tasks by {arguments.clients} clients", _results(runs))
    sys.stdout.write(markdown(_results(runs)))


class _Run:
    """A pipeline run on one server, its clients, and how long each of their calls took."""

    def __init__(self, port: int, clients: int) -> None:
        self._clients = [Client(port) for _ in range(clients)]
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.tasks_a_second: list[float] = []
        self.refused: dict[str, int] = defaultdict(int)
        self._prepare()

    def __enter__(self) -> _Run:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()

    def _call(self, client: Client, rpc: str, **fields: Any) -> Any:
        """The response to a call, made again where Kubeflow's clients would make it again."""
        request = getattr(service, f"{rpc}Request")(**fields)
        started = time.perf_counter()
        while True:
            try:
                response = client.call(rpc, request)
            except grpc.RpcError as error:
                self.refused[error.code().name] += 1
                if error.code() is not grpc.StatusCode.ABORTED:
                    raise
            else:
                self.seconds[rpc].append(time.perf_counter() - started)
                return response

    def _prepare(self) -> None:
        client = self._clients[0]

        def context(type_name: str, name: str) -> mlmd.Context:
            kind = mlmd.ContextType(name=type_name)
            type_id = self._call(client, "PutContextType", context_type=kind).type_id
            made = mlmd.Context(type_id=type_id, name=name)
            made.custom_properties["namespace"].string_value = "kubeflow"
            made.custom_properties["pipeline_root"].string_value = "minio://mlpipeline/v2/artifacts"
            made.id = self._call(client, "PutContexts", contexts=[made]).context_ids[0]
            return made

        pipeline, self._run = context("system.Pipeline", "p"), context("system.PipelineRun", "run")
        self._contexts = [pipeline, self._run]
        link = mlmd.ParentContext(parent_id=pipeline.id, child_id=self._run.id)
        self._call(client, "PutParentContexts", parent_contexts=[link])
        kind = mlmd.ExecutionType(name="system.DAGExecution")
        type_id = self._call(client, "PutExecutionType", execution_type=kind).type_id
        self._dag = mlmd.Execution(type_id=type_id, name="run/root", last_known_state=2)
        self._dag.custom_properties["display_name"].string_value = "root"
        self._dag.id = self._put(client, self._dag).execution_id

    def _put(
        self, client: Client, execution: mlmd.Execution, pairs: Sequence[Any] = ()
    ) -> service.PutExecutionResponse:
        return self._call(
            client,
            "PutExecution",
            execution=execution,
            contexts=self._contexts,
            artifact_event_pairs=pairs,
            options=service.PutExecutionRequest.Options(reuse_context_if_already_exist=True),
        )

    def do_tasks(self, numbers: range) -> None:
        """Run tasks, as many at once as there are clients."""
        left, errors = iter(numbers), list[Exception]()
        alone = threading.Lock()

        def work(client: Client) -> None:
            while not errors:
                with alone:
                    number = next(left, None)
                if number is None:
                    return
                try:
                    self._do_task(client, number)
                except Exception as error:
                    errors.append(error)

        started = time.perf_counter()
        threads = [threading.Thread(target=work, args=(client,)) for client in self._clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        self.tasks_a_second.append(len(numbers) / (time.perf_counter() - started))

    def _do_task(self, client: Client, number: int) -> None:
        kind = mlmd.ExecutionType(name="system.ContainerExecution")
        type_id = self._call(client, "PutExecutionType", execution_type=kind).type_id
        task = mlmd.Execution(type_id=type_id, name=f"run/task-{number}", last_known_state=2)
        given = task.custom_properties
        given["display_name"].string_value = given["task_name"].string_value = f"task-{number}"
        given["parent_dag_id"].int_value = self._dag.id
        given["iteration_index"].int_value = number
        given["pod_name"].string_value = f"run-{number}-pod"
        given["namespace"].string_value = "kubeflow"
        given["inputs"].struct_value.update({"rate": number / 7, "split": "train"})
        given["cache_fingerprint"].string_value = f"{number:064x}"
        task_id = self._put(client, task).execution_id
        (task,) = self._call(client, "GetExecutionsByID", execution_ids=[task_id]).executions
        model = mlmd.ArtifactType(name="system.Model")
        model_id = self._call(client, "PutArtifactType", artifact_type=model).type_id
        output = mlmd.Artifact(
            type_id=model_id, name=f"model-{number}", uri=f"minio://mlpipeline/run/{number}/model"
        )
        output.custom_properties["display_name"].string_value = "model"
        output.state = mlmd.Artifact.LIVE
        (output_id,) = self._call(client, "PutArtifacts", artifacts=[output]).artifact_ids
        (output,) = self._call(client, "GetArtifactsByID", artifact_ids=[output_id]).artifacts
        task.last_known_state = mlmd.Execution.COMPLETE
        task.custom_properties["outputs"].struct_value.update({"loss": 1 / (number + 1)})
        event = mlmd.Event(type=mlmd.Event.OUTPUT, artifact_id=output_id, execution_id=task_id)
        event.path.steps.add().key = "model"
        pair = service.PutExecutionRequest.ArtifactAndEvent(artifact=output, event=event)
        self._put(client, task, [pair])
        self._close_dag(client)

    def _close_dag(self, client: Client) -> None:
        """What follows each task: look whether all of the DAG are done, page by page."""
        options = mlmd.ListOperationOptions(
            filter_query=f"custom_properties.parent_dag_id.int_value = {self._dag.id}"
        )
        done = 0
        while True:
            page = self._call(
                client, "GetExecutionsByContext", context_id=self._run.id, options=options
            )
            done += sum(e.last_known_state == mlmd.Execution.COMPLETE for e in page.executions)
            if not page.next_page_token:
                break
            options.next_page_token = page.next_page_token
        self._call(client, "GetContextType", type_name="system.PipelineRun")
        self._call(client, "GetContextsByExecution", execution_id=self._dag.id)
        dag = mlmd.Execution.FromString(self._dag.SerializeToString())
        dag.custom_properties["done_tasks"].int_value = done
        self._put(client, dag)

    def show(self) -> None:
        """What the UI asks for the page of a run."""
        client = self._clients[0]
        started = time.perf_counter()
        for type_name in ("system.PipelineRun", "system.Pipeline"):
            name = "run" if type_name == "system.PipelineRun" else "p"
            named = {"type_name": type_name, "context_name": name}
            self._call(client, "GetContextByTypeAndName", **named)
        executions = self._call(
            client, "GetExecutionsByContext", context_id=self._run.id
        ).executions
        artifacts = self._call(client, "GetArtifactsByContext", context_id=self._run.id).artifacts
        ids = [execution.id for execution in executions]
        self._call(client, "GetEventsByExecutionIDs", execution_ids=ids)
        output_ids = [artifact.id for artifact in artifacts]
        self._call(client, "GetArtifactsByID", artifact_ids=output_ids[:100])
        self._call(client, "GetArtifactTypes")
        self._call(client, "GetExecutionTypes")
        newest = mlmd.ListOperationOptions(max_result_size=100)
        newest.order_by_field.field = mlmd.ListOperationOptions.OrderByField.CREATE_TIME
        newest.order_by_field.is_asc = False
        self._call(client, "GetArtifacts", options=newest)
        self._call(client, "GetExecutions", options=newest)
        for execution_id in ids[:10]:
            self._call(client, "GetContextsByExecution", execution_id=execution_id)
        self._call(client, "GetEventsByArtifactIDs", artifact_ids=output_ids)
        self._call(client, "GetArtifactTypesByID", type_ids=[a.type_id for a in artifacts[:1]])
        self.seconds["the UI's page of the run, all calls"].append(time.perf_counter() - started)


def _results(runs: dict[str, _Run]) -> list[Result]:
    ours, peer = runs["ours"], runs.get("peer")

    def result(name: str, of: Any, shown: str, *, rate: bool = False) -> Result:
        own = of(ours)
        if peer is None:
            return Result(name, "", shown.format(own), None)
        other = of(peer)
        times = own / other if rate else other / own
        return Result(name, shown.format(other), shown.format(own), times)

    found = [
        result("tasks a second", lambda r: statistics.median(r.tasks_a_second), "{:.1f}", rate=True)
    ]
    for rpc in ours.seconds:
        median = lambda run, rpc=rpc: statistics.median(run.seconds[rpc]) * 1e3  # noqa: E731
        found.append(result(f"{rpc}, ms", median, "{:.3g}"))
    shown = [str(run.refused["ABORTED"]) for run in (peer, ours) if run is not None]
    found.append(Result("ABORTED that reached clients", *(["", *shown][-2:]), None))
    return found


if __name__ == "__main__":
    main()
