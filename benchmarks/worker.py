"""One side's share of one round, in a process of its own: the same calls on either package.

Runs under both environments: `python worker.py ours|peer TASK PATH SIZE` with a TASK of `fill`,
`put`, `read`, `cold`, `whole`, `import`, `single`, `memory` or `first-filter`, and prints a JSON
object of workload -> list of seconds.
"""

import importlib
import json
import os
import random
import sys
import threading
import time

CALLS = 200
LOOK_UPS = 2_000
BATCH = 1_000
RUN_ARTIFACTS = 200
STEP_ARTIFACTS = 10
READS = (
    "get one by id",
    "get 100 by id",
    "get by uri",
    "artifacts of a context",
    "filter: int property",
    "filter: LIKE and range",
    "filter: by event",
    "lineage, 10 hops",
)
"""What is also measured as of the middle of the log."""
GETS_FOR_MEMORY = 10_000


def open_store(side, path):
    if side == "ours":
        mlmd = importlib.import_module("eventstore")
        pb = importlib.import_module("eventstore.proto.metadata_store_pb2")
    else:
        mlmd = importlib.import_module("ml_metadata")
        pb = importlib.import_module("ml_metadata.proto.metadata_store_pb2")
    config = pb.ConnectionConfig()
    if path.startswith("{"):
        importlib.import_module("google.protobuf.json_format").Parse(path, config)
    else:
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


def execution_types(store, pb):
    run_type = store.put_context_type(pb.ContextType(name="Run"))
    return run_type, store.put_execution_type(pb.ExecutionType(name="Train"))


def fill(side, path, size):
    """Artifacts in runs of 200, each made by an execution that read two of the one before."""
    store, pb = open_store(side, path)
    type_id = type_id_of(store, pb)
    run_type, train_type = execution_types(store, pb)
    runs = store.put_contexts(
        [pb.Context(type_id=run_type, name=f"run-{n}") for n in range(1 + size // RUN_ARTIFACTS)]
    )
    before = []
    for first in range(0, size, BATCH):
        made = [artifact(pb, type_id, first + n) for n in range(BATCH)]
        for number, one in enumerate(made):
            one.state = 1 + (first + number) % 3
        ids = store.put_artifacts(made)
        executions = store.put_executions(
            [
                pb.Execution(type_id=train_type, name=f"train-{first + n}")
                for n in range(0, BATCH, STEP_ARTIFACTS)
            ]
        )
        events = []
        for number, execution_id in enumerate(executions):
            outputs = ids[number * STEP_ARTIFACTS : (number + 1) * STEP_ARTIFACTS]
            for kind, some in ((pb.Event.INPUT, before), (pb.Event.OUTPUT, outputs)):
                events += [
                    pb.Event(artifact_id=id_, execution_id=execution_id, type=kind) for id_ in some
                ]
            # Chains of twenty steps, not one through all of history.
            before = [] if number % 20 == 19 else outputs[:2]
        store.put_events(events)
        store.put_attributions_and_associations(
            [
                pb.Attribution(context_id=runs[(first + n) // RUN_ARTIFACTS], artifact_id=id_)
                for n, id_ in enumerate(ids)
            ],
            [
                pb.Association(context_id=runs[first // RUN_ARTIFACTS], execution_id=id_)
                for id_ in executions
            ],
        )
    if side == "ours":
        store.seal()
        store.close()
    return {}


def options_module(side):
    ours, peer = "eventstore.metadata_store.options", "ml_metadata.metadata_store"
    return importlib.import_module(ours if side == "ours" else peer)


def query_workloads(store, pb, side, size, put_one):
    """Filters, lineage and listings, all of 20 nodes at most."""
    module = options_module(side)
    options = module.ListOptions
    newest = options(limit=1_000, order_by=module.OrderByField.CREATE_TIME, is_asc=False)
    numbers = random.Random(size)

    def listed(write):
        return lambda _: store.get_artifacts(options(limit=20, filter_query=write()))

    def lineage(_):
        query = pb.LineageSubgraphQueryOptions(max_num_hops=10)
        query.direction = pb.LineageSubgraphQueryOptions.Direction.BIDIRECTIONAL
        query.starting_artifacts.filter_query = f"id = {numbers.randrange(1, size)}"
        store.get_lineage_subgraph(query)

    def just_put(number):
        put_one(number + CALLS)
        started = time.perf_counter()
        store.get_artifacts(options(limit=20, filter_query="properties.step.int_value = 5"))
        return time.perf_counter() - started

    def step():
        return numbers.randrange(1000)

    return {
        "filter: int property": (listed(lambda: f"properties.step.int_value = {step()}"), 20),
        "filter: by context": (
            listed(lambda: f"contexts_a.name = 'run-{numbers.randrange(size // RUN_ARTIFACTS)}'"),
            20,
        ),
        "filter: name": (listed(lambda: f"name = 'artifact-{numbers.randrange(size)}'"), 20),
        "filter: LIKE and range": (
            listed(
                lambda: (
                    f"uri LIKE '%/{step()}_' AND "
                    f"properties.loss.double_value > {numbers.randrange(size // 2) / 7}"
                )
            ),
            20,
        ),
        "filter: by event": (
            listed(lambda: f"events_0.type = INPUT AND properties.step.int_value = {step()}"),
            20,
        ),
        "filter: by event, and a range": (
            listed(
                lambda: (
                    "events_0.type = INPUT AND "
                    f"properties.step.int_value > {numbers.randrange(900, 990)}"
                )
            ),
            20,
        ),
        "filter: just after a put": (just_put, 20),
        "lineage, 10 hops": (lineage, 20),
        "first 20 by id": (lambda _: store.get_artifacts(options(limit=20)), 20),
        "newest 1,000, in pages": (lambda _: store.get_artifacts(newest), 5),
    }


def reads(store, pb, side, size, put_one=None):
    """Look-ups and queries, of the first artifacts up to a number."""
    ids = [random.randrange(1, size + 1) for _ in range(LOOK_UPS)]

    def get_many(_):
        store.get_artifacts_by_id(random.sample(range(1, size + 1), 100))

    return {
        "get one by id": (lambda n: store.get_artifacts_by_id([ids[n]]), LOOK_UPS),
        "get 100 by id": (get_many, 50),
        "get one by type and name": (
            lambda n: store.get_artifact_by_type_and_name("DataSet", f"artifact-{ids[n] - 1}"),
            LOOK_UPS,
        ),
        "get by uri": (lambda n: store.get_artifacts_by_uri(f"s3://bucket/{ids[n] - 1}"), LOOK_UPS),
        "events of an artifact": (lambda n: store.get_events_by_artifact_ids([ids[n]]), LOOK_UPS),
        "artifacts of a context": (lambda _: store.get_artifacts_by_context(2), 10),
        **query_workloads(store, pb, side, size, put_one),
    }


def put(side, path, size):
    store, pb = open_store(side, path)
    type_id = type_id_of(store, pb)
    run_type, train_type = execution_types(store, pb)
    mark = f"{os.getpid()}-{time.time_ns()}-"
    ids = [random.randrange(1, size + 1) for _ in range(CALLS)]
    (run_id,) = store.put_contexts([pb.Context(type_id=run_type, name=mark)])
    run = store.get_contexts_by_id([run_id])[0]
    marked_ids = store.put_executions(
        [pb.Execution(type_id=train_type, external_id=f"{mark}{n}") for n in range(BATCH)]
    )

    def made_one(number):
        return artifact(pb, type_id, number, mark)

    def update(number):
        (read,) = store.get_artifacts_by_id([ids[number]])
        read.custom_properties["touched"].string_value = f"{mark}{number}"
        store.put_artifacts([read])

    def made_step(number):
        train = pb.Execution(type_id=train_type, name=f"{mark}{number}")
        return ids[number], train, artifact(pb, type_id, number, f"step-{mark}")

    def step(given):
        input_id, train, output = given
        (read,) = store.get_artifacts_by_id([input_id])
        store.put_execution(
            train,
            [
                (None, pb.Event(type=pb.Event.INPUT, artifact_id=read.id)),
                (output, pb.Event(type=pb.Event.OUTPUT)),
            ],
            [run],
            reuse_context_if_already_exist=True,
        )

    def made_type(number):
        return pb.ArtifactType(name=f"{mark}{number}", properties={"step": pb.INT})

    def made_batch(number):
        return [artifact(pb, type_id, n, f"{mark}{number}-") for n in range(BATCH)]

    def made_events(number):
        return [
            pb.Event(artifact_id=ids[number], execution_id=id_, type=pb.Event.INPUT)
            for id_ in marked_ids
        ]

    def made_associations(number):
        (context_id,) = store.put_contexts([pb.Context(type_id=run_type, name=f"{mark}{number}")])
        return [pb.Association(context_id=context_id, execution_id=id_) for id_ in marked_ids]

    workloads = {
        "put a type": (store.put_artifact_type, 20, made_type),
        "put one artifact": (lambda one: store.put_artifacts([one]), CALLS, made_one),
        "get and update one artifact": (update, CALLS),
        "pipeline step": (step, CALLS, made_step),
        "put 1,000 artifacts": (store.put_artifacts, 5, made_batch),
        "put 1,000 events": (store.put_events, 5, made_events),
        "put 1,000 associations": (
            lambda links: store.put_attributions_and_associations([], links),
            5,
            made_associations,
        ),
    }
    measured = timed(workloads)
    if side == "ours":
        store.close()
    return measured


def read(side, path, size):
    store, pb = open_store(side, path)
    type_id = type_id_of(store, pb)
    mark = f"{os.getpid()}-{time.time_ns()}-"

    def put_one(number):
        store.put_artifacts([artifact(pb, type_id, number, mark)])

    workloads = reads(store, pb, side, size, put_one)
    options = options_module(side).ListOptions(limit=CALLS, filter_query="external_id != ''")
    external_ids = [execution.external_id for execution in store.get_executions(options)]
    workloads["get by external id"] = (
        lambda n: store.get_executions_by_external_ids([external_ids[n]]),
        CALLS,
    )
    workloads["all artifacts of a type"] = (lambda _: store.get_artifacts_by_type("DataSet"), 1)
    measured = timed(workloads)
    if side == "ours":
        then = store.as_of(store.log_position() // 2)
        half = reads(then, pb, side, size // 3)
        measured |= timed({f"{name}, as of half of it": half[name] for name in READS})
        store.close()
    return measured


def timed(workloads):
    """Seconds of each call, by workload: (call, how often, what makes its argument beforehand)."""
    measured = {}
    for name, (call, count, *made) in workloads.items():
        times = []
        for number in range(count):
            given = made[0](number) if made else number
            started = time.perf_counter()
            seconds = call(given)
            # What a call does besides, it measures itself.
            is_measured = isinstance(seconds, float)
            times.append(seconds if is_measured else time.perf_counter() - started)
        measured[name] = times
    return measured


def cold(side, path, size):
    store, _ = open_store(side, path)
    assert store.get_artifacts_by_id([size // 2])[0].id == size // 2
    return {}


def whole(side, path, size):
    """Records a second of work on the whole store, and the memory of many gets after opening."""
    log_records = open_store(side, path)[0].log_position()
    verification = importlib.import_module("eventstore.log.verification")
    pathlib = importlib.import_module("pathlib")
    started = time.perf_counter()
    assert verification.verify_directory(pathlib.Path(path)).ok
    verified = time.perf_counter() - started
    store, _ = open_store(side, path)
    numbers = random.Random(size)
    for _ in range(GETS_FOR_MEMORY):
        store.get_artifacts_by_id([numbers.randrange(1, size + 1)])
    memory = importlib.import_module("resource").getrusage(0).ru_maxrss / 1024
    started = time.perf_counter()
    store.rebuild()
    rebuilt = time.perf_counter() - started
    store.close()
    return {
        "records in the log": [log_records],
        "verify, records a second": [log_records / verified],
        "rebuild the projections, records a second": [log_records / rebuilt],
        "memory after 10,000 gets, MiB": [memory],
    }


def imported(_side, path, _size):
    """Records a second of the import of the peer's database at `path`."""
    importing = importlib.import_module("eventstore.importing")
    pathlib = importlib.import_module("pathlib")
    with importlib.import_module("tempfile").TemporaryDirectory() as folder:
        started = time.perf_counter()
        report = importing.import_mlmd_database(pathlib.Path(path), pathlib.Path(folder) / "store")
        seconds = time.perf_counter() - started
    return {"import of the peer's database, records a second": [report.position / seconds]}


def single(side, path, size):
    """Puts of one artifact each, into an empty store: what housekeeping adds to some of them."""
    in_syncs = Syncs()
    store, pb = open_store(side, path)
    type_id = type_id_of(store, pb)
    whole_puts, syncs, others = [], [], []
    for number in range(size):
        made = [artifact(pb, type_id, number)]
        before, started = in_syncs.seconds, time.perf_counter()
        store.put_artifacts(made)
        whole_puts.append(time.perf_counter() - started)
        syncs.append(in_syncs.seconds - before)
        others.append(whole_puts[-1] - syncs[-1])
    if side == "ours":
        store.close()
    whole_puts.sort()
    name = f"{size:,} single puts"
    return {
        f"{name}: median, ms": [whole_puts[size // 2] * 1e3],
        f"{name}: p99.9, ms": [whole_puts[size * 999 // 1000] * 1e3],
        f"{name}: longest, ms": [whole_puts[-1] * 1e3],
        f"{name}: longest sync in one, ms": [max(syncs) * 1e3],
        f"{name}: longest beyond its syncs, ms": [max(others) * 1e3],
    }


class Syncs:
    """The seconds that this thread has spent in syncs, which other threads do besides."""

    def __init__(self):
        self.seconds = 0.0
        thread = threading.get_ident()
        for name in ("fsync", "fdatasync"):
            setattr(os, name, self._timed(getattr(os, name), thread))

    def _timed(self, sync, thread):
        def timed_sync(descriptor):
            started = time.perf_counter()
            try:
                sync(descriptor)
            finally:
                if threading.get_ident() == thread:
                    self.seconds += time.perf_counter() - started

        return timed_sync


def memory(side, path, size):
    """What a process takes that fills an empty store in batches and then filters."""
    store, pb = open_store(side, path)
    type_id = type_id_of(store, pb)
    for first in range(0, size, BATCH):
        store.put_artifacts([artifact(pb, type_id, first + n) for n in range(BATCH)])
    name = f"{size:,} artifacts put"
    measured = filtered(store, side, name)
    if side == "ours":
        store.close()
    return measured


def first_filter(side, path, size):
    """The same for a process that only filters."""
    return filtered(open_store(side, path)[0], side, f"{size:,} artifacts found in the store")


def filtered(store, side, name):
    options = options_module(side).ListOptions
    seconds = []
    for number in range(3):
        started = time.perf_counter()
        query = f"properties.step.int_value = {number}"
        assert len(store.get_artifacts(options(limit=20, filter_query=query))) == 20
        seconds.append(time.perf_counter() - started)
    peak = importlib.import_module("resource").getrusage(0).ru_maxrss / 1024
    return {
        f"{name}: first filter, ms": [seconds[0] * 1e3],
        f"{name}: peak of memory with filters, MiB": [peak],
    }


def main():
    side, task, path, size = sys.argv[1:5]
    tasks = {
        "fill": fill,
        "put": put,
        "read": read,
        "cold": cold,
        "whole": whole,
        "import": imported,
        "single": single,
        "memory": memory,
        "first-filter": first_filter,
    }
    json.dump(tasks[task](side, path, int(size)), sys.stdout)


if __name__ == "__main__":
    main()
