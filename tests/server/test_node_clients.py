"""Clients that are not ours: Node's `@grpc/grpc-js` and `grpc-web`, by MLMD's field numbers."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest

from eventstore import MetadataStore, errors
from eventstore.metadata_store.passed_values import packed
from eventstore.metadata_store.served import OWN_SERVICE
from eventstore.proto import eventstore_service_pb2 as own
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import metadata_store_service_pb2 as service
from eventstore.proto.generate import SOURCES
from tests.command_line.runner import ENVIRONMENT
from tests.server.serving import client_config

_ROOT = Path(__file__).parents[2]
_MODULES = _ROOT / ".node" / "node_modules"
_PROGRAMS = Path(__file__).with_name("node")

KINDS = ("grpc", "grpc-web", "grpc-web-text")


class Addresses(NamedTuple):
    """Of a server: for each kind of client."""

    grpc: str
    web: str


@pytest.fixture(scope="module")
def protos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The .proto files, by the names under which they import each other."""
    if not shutil.which("node") or not _MODULES.is_dir():
        pytest.skip("Node's clients of gRPC are not installed: run `make engines`")
    folder: Path = tmp_path_factory.mktemp("protos")
    for name in (
        "metadata_store.proto",
        "metadata_store_service.proto",
        "eventstore_service.proto",
    ):
        into = folder / SOURCES[name]
        into.mkdir(parents=True, exist_ok=True)
        shutil.copy(_ROOT / "protos" / name, into)
    return folder


@pytest.fixture(scope="module")
def addresses(protos: Path) -> Iterator[Addresses]:
    """Those of `eventstore serve`, on a store in memory."""
    with subprocess.Popen(
        [*(sys.executable, "-m", "eventstore", "serve"), "--grpc_port=0", "--grpc-web-port=0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=ENVIRONMENT,
    ) as process:
        assert process.stdout is not None
        serving, serving_web = process.stdout.readline(), process.stdout.readline()
        assert serving_web.startswith("gRPC-Web on ")
        yield Addresses(serving.split()[-1], serving_web.split()[-1])
        process.terminate()


@pytest.fixture
def store(addresses: Addresses) -> Iterator[MetadataStore]:
    """Our own client of it."""
    with MetadataStore(client_config(int(addresses.grpc.rpartition(":")[2]))) as opened:
        yield opened


def printed(program: str, kind: str, addresses: Addresses, *arguments: object) -> str:
    """What a program of Node's prints that calls by a kind of client."""
    address = addresses.grpc if kind == "grpc" else addresses.web
    done = subprocess.run(
        ["node", _PROGRAMS / program, kind, address, *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=os.environ | {"NODE_PATH": str(_MODULES)},
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_the_nine_steps(
    protos: Path, addresses: Addresses, store: MetadataStore, kind: str
) -> None:
    told = json.loads(printed("nine_steps.js", kind, addresses, protos, f"exp {kind}"))
    assert told["types"] == ["DataSet", "SavedModel"]
    data = told["data"]
    assert (data["uri"], data["type"]) == ("path/to/data", "DataSet")
    assert data["properties"]["split"]["string_value"] == "train"
    assert data["custom_properties"] == {
        "rows": {"double_value": 18250.5},
        "größe 🦆": {"bool_value": True},
    }
    assert told["of_the_experiment"] == ["path/to/model/file"]
    assert told["states"] == ["COMPLETE"]
    assert told["events"] == [["data", "DECLARED_INPUT"], ["model", "DECLARED_OUTPUT"]]
    missing, taken, unreadable = told["mistakes"]
    with pytest.raises(errors.NotFoundError) as raised:
        store.get_artifact_type("Häuser 100%\n")
    assert missing == [errors.NOT_FOUND, raised.value.message]
    assert taken[0] == errors.ALREADY_EXISTS
    assert unreadable[0] == errors.INVALID_ARGUMENT
    experiment = store.get_context_by_type_and_name("Experiment", f"exp {kind}")
    assert experiment is not None
    [execution] = store.get_executions_by_context(experiment.id)
    assert execution.properties["state"].string_value == "COMPLETED"


@pytest.mark.parametrize("kind", KINDS)
def test_what_kubeflows_ui_asks(
    protos: Path, addresses: Addresses, store: MetadataStore, kind: str
) -> None:
    record_run(store, f"run {kind}")
    lines = printed("kubeflow_ui.js", kind, addresses, protos, f"run {kind}").splitlines()
    asked = set[str]()
    for line in lines:
        rpc, request_text, response_text = line.split(" ")
        request = getattr(service, f"{rpc}Request").FromString(base64.b64decode(request_text))
        expected = getattr(service, f"{rpc}Response")()
        store._call(rpc, request, expected)
        assert base64.b64decode(response_text)
        assert expected == type(expected).FromString(base64.b64decode(response_text))
        asked.add(rpc)
    assert len(asked) == 13
    assert len(lines) > 20


@pytest.mark.parametrize("kind", ["grpc", "grpc-web-text"])
def test_what_has_changed_comes_in_parts(
    protos: Path, addresses: Addresses, store: MetadataStore, kind: str
) -> None:
    type_id = store.put_artifact_type(mlmd.ArtifactType(name="in parts"))
    since = store.log_position()
    for _ in range(10):
        store.put_artifacts([mlmd.Artifact(type_id=type_id, uri="x" * 50_000)])
    given = packed({"since": since, "until": store.log_position()})
    lines = printed("changes.js", kind, addresses, protos, base64.b64encode(given).decode())
    with grpc.insecure_channel(addresses.grpc) as channel:
        call = channel.unary_stream(f"/{OWN_SERVICE}/Changes")
        expected = [*call(own.Arguments(values=given).SerializeToString())]
    assert [base64.b64decode(line) for line in lines.splitlines()] == expected
    assert len(expected) > 1


def record_run(store: MetadataStore, name: str) -> None:
    """A run of three tasks, each on what the one before has made."""
    pipeline_type = store.put_context_type(mlmd.ContextType(name="system.Pipeline"))
    run_type = store.put_context_type(mlmd.ContextType(name="system.PipelineRun"))
    task_type = store.put_execution_type(mlmd.ExecutionType(name="system.ContainerExecution"))
    data_type = store.put_artifact_type(mlmd.ArtifactType(name="system.Dataset"))
    pipeline = mlmd.Context(type_id=pipeline_type, name=f"pipeline of {name}")
    run = mlmd.Context(type_id=run_type, name=name)
    pipeline.id, run.id = store.put_contexts([pipeline, run])
    store.put_parent_contexts([mlmd.ParentContext(parent_id=pipeline.id, child_id=run.id)])
    made = None
    for number in range(3):
        task = mlmd.Execution(type_id=task_type, name=f"{name}/{number}")
        task.custom_properties["inputs"].struct_value["rows"] = number
        data = mlmd.Artifact(type_id=data_type, uri=f"minio://{name}/{number}")
        output = mlmd.Event(type=mlmd.Event.OUTPUT)
        output.path.steps.add(key="out")
        pairs = [] if made is None else [(made, mlmd.Event(type=mlmd.Event.INPUT))]
        _, ids, _ = store.put_execution(task, [*pairs, (data, output)], [pipeline, run])
        made = mlmd.Artifact(id=ids[-1], type_id=data_type)
