"""Who and what the made-up history is about: pipelines, people, types, and how runs go."""

from __future__ import annotations

from typing import Final, NamedTuple

from eventstore.proto import metadata_store_pb2 as mlmd

RECORDS_PER_BLOCK: Final = 65_536
"""A block is made alone, by its number: a complete subtree of the Merkle tree."""

STARTED_AT: Final = 1_672_531_200_000_000
"""When the history begins: 2023-01-01, in µs since the epoch."""

MICROSECONDS_PER_RECORD: Final = 945_000
"""How fast it grows: 100 million records in three years."""

FIRST_DATASETS: Final = 200
"""Datasets that are there before the first run."""

SUBJECTS: Final = ("churn", "fraud", "ranking", "pricing", "demand", "search", "credit", "support")
REGIONS: Final = ("eu", "us", "asia", "latam", "global")
PIPELINES: Final = tuple(f"{subject}-{region}" for region in REGIONS for subject in SUBJECTS)
PEOPLE: Final = ("ana", "bo", "chidi", "dora", "emre", "fatima", "gus", "hana", "ivo", "jun")
JANITOR: Final = "retention-service"
VALIDATOR: Final = "data-validation"
ACTORS: Final = (*(f"{name}-pipeline" for name in PIPELINES), *PEOPLE, JANITOR, VALIDATOR)
REASONS: Final = ("nightly schedule", "backfill", "hot fix", "superseded by a newer model")
TRIGGERS: Final = ("schedule", "data", "manual")
FRAMEWORKS: Final = ("xgboost", "torch", "tensorflow", "lightgbm")
SPLITS: Final = ("train", "eval", "full")
FAILURES: Final = (
    "out of memory: the container was killed",
    "the input has no rows",
    "lost connection to the feature store",
    "loss is NaN",
)

INT, DOUBLE, STRING, BOOLEAN = mlmd.INT, mlmd.DOUBLE, mlmd.STRING, mlmd.BOOLEAN
TYPES: Final = (
    mlmd.ArtifactType(
        id=1,
        name="Dataset",
        properties={"rows": INT, "split": STRING, "quality": DOUBLE, "validated": BOOLEAN},
    ),
    *(
        mlmd.ArtifactType(
            id=1 + version,
            name="Model",
            version=str(version),
            properties={
                "accuracy": DOUBLE,
                "framework": STRING,
                "loss": DOUBLE,
                "parameters": INT,
            },
        )
        for version in (1, 2)
    ),
    mlmd.ArtifactType(id=4, name="Evaluation", properties={"accuracy": DOUBLE, "f1": DOUBLE}),
    mlmd.ExecutionType(id=5, name="Ingest", properties={"attempt": INT}),
    mlmd.ExecutionType(
        id=6, name="Train", properties={"attempt": INT, "epochs": INT, "learning_rate": DOUBLE}
    ),
    mlmd.ExecutionType(id=7, name="Evaluate", properties={"attempt": INT}),
    mlmd.ContextType(id=8, name="Pipeline", properties={"owner": STRING}),
    mlmd.ContextType(id=9, name="Run", properties={"trigger": STRING}),
)
DATASET, MODEL, EVALUATION, INGEST, TRAIN, EVALUATE, PIPELINE, RUN = 1, 2, 4, 5, 6, 7, 8, 9
NAMES: Final = {made.id: made.name for made in TYPES}


class Slot(NamedTuple):
    """A record of a run: what it is of, and which one of several in the run.

    `what` is a node with what becomes of it, as `train RUNNING`, or a link.
    """

    what: str
    number: int = 0


class Step(NamedTuple):
    """A commit of a run: who puts it, how long after the one before, and its records.

    `who` is `pipeline`, `janitor` or `validator`. `seconds` is a median.
    """

    who: str
    seconds: float
    slots: tuple[Slot, ...]


def _begin(execution: str, number: int, inputs: tuple[str, ...]) -> Step:
    return Step(
        "pipeline",
        20.0,
        (
            Slot(f"{execution} RUNNING", number),
            *(Slot(f"input {name}", number) for name in inputs),
            Slot("association", number),
        ),
    )


def _fail(execution: str, number: int) -> Step:
    return Step("pipeline", 300.0, (Slot(f"{execution} FAILED", number),))


def _tried(execution: str, inputs: tuple[str, ...], failures: int) -> tuple[Step, ...]:
    return tuple(
        step
        for number in range(failures)
        for step in (_begin(execution, number, inputs), _fail(execution, number))
    )


_START: Final = Step("pipeline", 1.0, (Slot("run"), Slot("parent context")))
_DATASETS: Final = ("popular", "recent")


def _training(failures: int) -> tuple[Step, ...]:
    """A run that trains a model, after so many failures, and evaluates it."""
    evaluation = failures + 1
    return (
        _START,
        *_tried("train", _DATASETS, failures),
        _begin("train", failures, _DATASETS),
        Step(
            "pipeline",
            2400.0,
            (
                Slot("train COMPLETE", failures),
                Slot("model PENDING"),
                Slot("output model", failures),
                Slot("attribution model"),
            ),
        ),
        _begin("evaluate", evaluation, ("model",)),
        Step(
            "pipeline",
            400.0,
            (
                Slot("evaluate COMPLETE", evaluation),
                Slot("evaluation"),
                Slot("output evaluation", evaluation),
                Slot("attribution evaluation"),
                Slot("model LIVE"),
            ),
        ),
    )


def _ingestion(failures: int) -> tuple[Step, ...]:
    """A run that brings in a dataset, which another service validates."""
    return (
        _START,
        *_tried("ingest", (), failures),
        _begin("ingest", failures, ()),
        Step(
            "pipeline",
            900.0,
            (
                Slot("ingest COMPLETE", failures),
                Slot("dataset PENDING"),
                Slot("output dataset", failures),
                Slot("attribution dataset"),
            ),
        ),
        Step("validator", 120.0, (Slot("dataset LIVE"),)),
    )


ATTEMPTS: Final = 3
MARKED_AT_ONCE: Final = 4
SHAPES: Final = (
    *(_training(failures) for failures in range(ATTEMPTS)),
    # It fails for good, is given up after one failure, and is lost while it runs.
    (_START, *_tried("train", _DATASETS, ATTEMPTS)),
    (_START, *_tried("train", _DATASETS, 1)),
    (_START, _begin("train", 0, _DATASETS)),
    *(_ingestion(failures) for failures in range(ATTEMPTS)),
    (Step("janitor", 1.0, tuple(Slot("model MARKED", n) for n in range(MARKED_AT_ONCE))),),
)
FAILED, GIVEN_UP, LOST, INGESTED, MARKING = 3, 4, 5, 6, 9
"""Where in SHAPES those are that are no successful training."""
