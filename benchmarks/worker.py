"""One side's share of one round, in a process of its own: the same calls on either package.

Runs under both environments: `python worker.py ours|peer fill|measure|cold PATH SIZE`, and prints a
JSON object of workload -> list of seconds.
"""

import importlib
import json
import os
import random
import sys
import time

CALLS = 200
BATCH = 1_000


def open_store(side, path):
    if side == "ours":
        mlmd = importlib.import_module("eventstore")
        pb = importlib.import_module("eventstore.proto.metadata_store_pb2")
    else:
        mlmd = importlib.import_module("ml_metadata")
        pb = importlib.import_module("ml_metadata.proto.metadata_store_pb2")
    config = pb.ConnectionConfig()
    config.sqlite.filename_uri = path
    return mlmd.MetadataStore(config), pb


def artifact(pb, type_id, number, prefix=""):
    made = pb.Artifact(
        type_id=type_id, uri=f"s3://bucket/{prefix}{number}", name=f"artifact-{prefix}{number}"
    )
    made.properties["step"].int_value = number % 1000
    made.properties["loss"].double_value = number / 7
    made.custom_properties["owner"].string_value = f"team-{number % 50}"
    return made


def type_id_of(store, pb):
    kind = pb.ArtifactType(name="DataSet", properties={"step": pb.INT, "loss": pb.DOUBLE})
    return store.put_artifact_type(kind)


def fill(side, path, size):
    store, pb = open_store(side, path)
    type_id = type_id_of(store, pb)
    for first in range(0, size, BATCH):
        store.put_artifacts([artifact(pb, type_id, first + n) for n in range(BATCH)])
    if side == "ours":
        store.seal()
        store.close()
    return {}


def measure(side, path, size):
    store, pb = open_store(side, path)
    type_id = type_id_of(store, pb)
    run_type = store.put_context_type(pb.ContextType(name="Run"))
    train_type = store.put_execution_type(pb.ExecutionType(name="Train"))
    mark = f"{os.getpid()}-{time.time_ns()}-"
    ids = [random.randrange(1, size + 1) for _ in range(CALLS)]
    (run_id,) = store.put_contexts([pb.Context(type_id=run_type, name=mark)])
    run = store.get_contexts_by_id([run_id])[0]

    def put_one(number):
        store.put_artifacts([artifact(pb, type_id, number, mark)])

    def update(number):
        (read,) = store.get_artifacts_by_id([ids[number]])
        read.custom_properties["touched"].string_value = f"{mark}{number}"
        store.put_artifacts([read])

    def step(number):
        (read,) = store.get_artifacts_by_id([ids[number]])
        store.put_execution(
            pb.Execution(type_id=train_type, name=f"{mark}{number}"),
            [
                (None, pb.Event(type=pb.Event.INPUT, artifact_id=read.id)),
                (artifact(pb, type_id, number, f"step-{mark}"), pb.Event(type=pb.Event.OUTPUT)),
            ],
            [run],
            reuse_context_if_already_exist=True,
        )

    def put_batch(number):
        store.put_artifacts([artifact(pb, type_id, n, f"{mark}{number}-") for n in range(BATCH)])

    def get_many(_):
        store.get_artifacts_by_id(random.sample(range(1, size + 1), 100))

    workloads = {
        "put one artifact": (put_one, CALLS),
        "get and update one artifact": (update, CALLS),
        "pipeline step": (step, CALLS),
        "put 1,000 artifacts": (put_batch, 5),
        "get one by id": (lambda n: store.get_artifacts_by_id([ids[n]]), CALLS),
        "get 100 by id": (get_many, 20),
        "get one by type and name": (
            lambda n: store.get_artifact_by_type_and_name("DataSet", f"artifact-{ids[n] - 1}"),
            CALLS,
        ),
        "get by uri": (lambda n: store.get_artifacts_by_uri(f"s3://bucket/{ids[n] - 1}"), CALLS),
        "events of an artifact": (lambda n: store.get_events_by_artifact_ids([ids[n]]), CALLS),
        "artifacts of a context": (lambda _: store.get_artifacts_by_context(run_id), 10),
    }
    measured = {}
    for name, (call, count) in workloads.items():
        times = []
        for number in range(count):
            started = time.perf_counter()
            call(number)
            times.append(time.perf_counter() - started)
        measured[name] = times
    if side == "ours":
        store.close()
    return measured


def cold(side, path, size):
    store, _ = open_store(side, path)
    assert store.get_artifacts_by_id([size // 2])[0].id == size // 2
    return {}


def main():
    side, task, path, size = sys.argv[1:5]
    tasks = {"fill": fill, "measure": measure, "cold": cold}
    json.dump(tasks[task](side, path, int(size)), sys.stdout)


main()
