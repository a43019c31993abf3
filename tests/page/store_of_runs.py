"""A store of 200 runs, always the same: what the page's tests look at.

From 21 September to 13 November 2026 a model that foretells churn is trained on each day's sales,
in three or four trials. That of 5 November is pushed. Six days later its dataset is found bad and
marked; a second dataset is made, and the model trained again on that.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from unittest import mock
from uuid import NAMESPACE_URL, uuid5

import eventstore
from eventstore import times
from eventstore.audit import SigningKey
from eventstore.log import commit, creation, syncing
from eventstore.proto import metadata_store_pb2 as mlmd

KEY = SigningKey("auditor@example.com", bytes(range(32)))
"""Signs the checkpoint. Its public half is what a reader pastes into the page."""

RUNS = 200
REASON = "2,114 rows were counted twice, found by reconciliation with the ledger"

_FIRST_DAY = datetime(2026, 9, 21, 1, 0, tzinfo=timezone.utc)
_PUSH_DAYS = {"09-24", "10-05", "10-15", "10-27", "11-05"}
_BAD_DAY = "11-05"


class Clock:
    """Goes on by 40 ms whenever it is asked, and stands still in between."""

    def __init__(self) -> None:
        self.now = _FIRST_DAY

    def time_ns(self) -> int:
        self.now += timedelta(milliseconds=40)
        return times.microseconds_of(self.now) * 1_000

    def pass_by(self, **time: float) -> None:
        """Let some time pass, as `seconds=4`."""
        self.now += timedelta(**time)


@dataclass(frozen=True)
class MadeStore:
    """Where the store lies, and what tests ask about: ids, positions, texts."""

    path: Path
    pushed_model: int
    """`churn-11-05-t3`, which the newest Push took."""
    bad_dataset: int
    """`sales-11-05`: versions by `nightly`, `validator` and, marking it, `data-quality`."""
    retrained_model: int
    """`churn-11-05-r2`, made of `sales-11-05-r2`."""
    push: int
    """The newest execution of type Push."""
    push_position: int
    bad_position: int
    erased_dataset: int
    """`customers-2026-09`, erased."""
    checkpoint: str
    """Signed by KEY, of all of the store."""


@contextmanager
def passing_time(name: str) -> Iterator[Clock]:
    """A clock of the store's own, and salts and an id that are the same each time.

    Nothing is synced: no test pulls the plug on this store, and a busy disk takes 20 s for it.
    """
    clock, calls = Clock(), count()

    def urandom(size: int) -> bytes:
        return hashlib.shake_256(f"{name} {next(calls)}".encode()).digest(size)

    with (
        mock.patch.object(commit, "os", SimpleNamespace(urandom=urandom)),
        mock.patch.object(times, "time", SimpleNamespace(time_ns=clock.time_ns)),
        mock.patch.object(creation, "uuid4", return_value=uuid5(NAMESPACE_URL, name)),
        mock.patch.object(syncing.os, "fdatasync", return_value=None),
    ):
        yield clock


def make_store(path: Path) -> MadeStore:
    """The store, at a path where nothing is yet."""
    with (
        passing_time("churn") as clock,
        eventstore.open(path, actor="nightly") as store,
    ):
        return _Pipeline(store, clock, path).lived()


class _Pipeline:
    """Writes the story, step by step."""

    def __init__(self, store: eventstore.MetadataStore, clock: Clock, path: Path) -> None:
        self._store, self._clock, self._path = store, clock, path
        self._types: dict[str, int] = {}
        self._months: dict[str, int] = {}
        self._runs = 0

    def lived(self) -> MadeStore:
        store, clock = self._store, self._clock
        with store.acting(actor="ana", reason="first types of the churn pipeline"):
            self._put_types()
        users = self._artifact("Dataset", "users", rows=412_007, quality="good")
        with store.acting(actor="ana", reason="snapshot of the user table, taken by hand"):
            (users_id,) = store.put_artifacts([users])
        customers = self._artifact("Dataset", "customers-2026-09", rows=1_204, quality="unknown")
        customers.custom_properties["owner"].string_value = "ana@example.com"
        (erased,) = store.put_artifacts([customers])
        features_of: dict[str, int] = {}
        sales_of: dict[str, int] = {}
        models: dict[str, int] = {}
        push, push_position = 0, 0
        day = _FIRST_DAY
        while self._runs < RUNS - 1:
            clock.now = day
            label = f"{day:%m-%d}"
            trials = min(4 if day.weekday() < 5 else 3, RUNS - 1 - self._runs)
            run = self._run_of(label, 1)
            sales_of[label] = self._ingest(label, run, rows=_rows(day))
            features_of[label] = self._transform(label, run, [sales_of[label], users_id])
            for trial in range(1, trials + 1):
                models[f"{label}-t{trial}"] = self._train(label, trial, features_of[label])
            self._validate(sales_of[label])
            if label in _PUSH_DAYS:
                clock.pass_by(minutes=50)
                best = models[f"{label}-t3"]
                push, push_position = self._push(label, best)
            if label == "10-02":
                self._erase(erased)
            if label == "11-11":
                clock.now = day.replace(hour=8, minute=15, second=13)
                bad_position = self._mark_bad(sales_of[_BAD_DAY])
            day += timedelta(days=1)
        clock.now = datetime(2026, 11, 13, 9, 20, tzinfo=timezone.utc)
        retrained = self._retrain(users_id)
        self._rules(sales_of[_BAD_DAY], sales_of["10-27"])
        clock.pass_by(hours=1)
        store.seal()
        checkpoint = store.checkpoint(KEY)
        return MadeStore(
            path=self._path,
            pushed_model=models[f"{_BAD_DAY}-t3"],
            bad_dataset=sales_of[_BAD_DAY],
            retrained_model=retrained,
            push=push,
            push_position=push_position,
            bad_position=bad_position,
            erased_dataset=erased,
            checkpoint=checkpoint.text,
        )

    def _put_types(self) -> None:
        store = self._store
        for name, properties in {
            "Dataset": {"rows": mlmd.INT, "quality": mlmd.STRING},
            "Features": {"columns": mlmd.INT, "statistics": mlmd.STRUCT},
            "Model": {"framework": mlmd.STRING, "parameters": mlmd.INT},
            "Metrics": {"accuracy": mlmd.DOUBLE, "auc": mlmd.DOUBLE, "log_loss": mlmd.DOUBLE},
        }.items():
            made = mlmd.ArtifactType(name=name, properties=properties)
            self._types[name] = store.put_artifact_type(made)
        for name, properties in {
            "Ingest": {"source": mlmd.STRING},
            "Transform": {"window_days": mlmd.INT},
            "Train": {
                "learning_rate": mlmd.DOUBLE,
                "layers": mlmd.INT,
                "dropout": mlmd.DOUBLE,
                "epochs": mlmd.INT,
                "optimizer": mlmd.STRING,
            },
            "Evaluate": {"split": mlmd.STRING},
            "Push": {"target": mlmd.STRING},
        }.items():
            step = mlmd.ExecutionType(name=name, properties=properties)
            self._types[name] = store.put_execution_type(step)
        for name in ("PipelineRun", "Experiment"):
            self._types[name] = store.put_context_type(mlmd.ContextType(name=name))

    def _artifact(self, type_name: str, name: str, **properties: object) -> mlmd.Artifact:
        uri = f"s3://churn/{type_name.lower()}/{name}"
        made = mlmd.Artifact(
            type_id=self._types[type_name], name=name, uri=uri, state=mlmd.Artifact.LIVE
        )
        _set(made.properties, properties)
        return made

    def _step(self, type_name: str, name: str, **properties: object) -> mlmd.Execution:
        made = mlmd.Execution(
            type_id=self._types[type_name], name=name, last_known_state=mlmd.Execution.COMPLETE
        )
        _set(made.properties, properties)
        return made

    def _run_of(self, label: str, trial: int | str) -> mlmd.Context:
        """The run of a trial, put with its parent when it is new."""
        store = self._store
        name = f"churn-{label}-{trial if isinstance(trial, str) else f't{trial}'}"
        run = store.get_context_by_type_and_name("PipelineRun", name)
        if run is None:
            month = f"churn-2026-{label[:2]}"
            if month not in self._months:
                parent = mlmd.Context(type_id=self._types["Experiment"], name=month)
                (self._months[month],) = store.put_contexts([parent])
            run = mlmd.Context(type_id=self._types["PipelineRun"], name=name)
            run.custom_properties["git_commit"].string_value = hashlib.sha256(
                name[:12].encode()
            ).hexdigest()[:10]
            (run_id,) = store.put_contexts([run])
            store.put_parent_contexts(
                [mlmd.ParentContext(child_id=run_id, parent_id=self._months[month])]
            )
            self._runs += 1
            (run,) = store.get_contexts_by_id([run_id])
        return run

    def _done(
        self,
        execution: mlmd.Execution,
        reads: list[int],
        makes: list[mlmd.Artifact],
        run: mlmd.Context,
    ) -> tuple[int, list[int]]:
        """The ids of the execution and of what it has made."""
        pairs: list[tuple[mlmd.Artifact | None, mlmd.Event]] = [
            (None, mlmd.Event(type=mlmd.Event.INPUT, artifact_id=read)) for read in reads
        ]
        pairs += [(made, mlmd.Event(type=mlmd.Event.OUTPUT)) for made in makes]
        execution_id, ids, _ = self._store.put_execution(
            execution, pairs, [run], reuse_context_if_already_exist=True
        )
        return execution_id, list(ids)[len(reads) :]

    def _ingest(self, label: str, run: mlmd.Context, *, rows: int, suffix: str = "") -> int:
        name = f"{label}{suffix}"
        dataset = self._artifact("Dataset", f"sales-{name}", rows=rows, quality="good")
        step = self._step("Ingest", f"ingest-{name}", source="ledger.sales")
        _, (dataset_id,) = self._done(step, [], [dataset], run)
        self._clock.pass_by(minutes=6)
        return dataset_id

    def _transform(
        self, label: str, run: mlmd.Context, reads: list[int], *, suffix: str = ""
    ) -> int:
        name = f"{label}{suffix}"
        features = self._artifact("Features", f"features-{name}", columns=84)
        features.properties["statistics"].struct_value.update(
            {"rows": 16_000 + 7 * len(self._months), "nulls": {"age": 12, "plan": 0}}
        )
        step = self._step("Transform", f"transform-{name}", window_days=28)
        _, (features_id,) = self._done(step, reads, [features], run)
        self._clock.pass_by(minutes=14)
        return features_id

    def _train(self, label: str, trial: int | str, features: int) -> int:
        run = self._run_of(label, trial)
        number = self._runs
        rate = (0.03, 0.01, 0.003, 0.001)[number % 4]
        if (label, trial) == (_BAD_DAY, 3):
            rate = 0.003
        name = run.name
        step = self._step(
            "Train",
            f"train-{name}",
            learning_rate=rate,
            layers=2 + number % 3,
            dropout=0.1 * (number % 4),
            epochs=20,
            optimizer="adamw",
        )
        step.last_known_state = mlmd.Execution.RUNNING
        execution_id, _ = self._done(step, [features], [], run)
        self._clock.pass_by(minutes=1 + number % 5)
        (step,) = self._store.get_executions_by_id([execution_id])
        fails = number % 41 == 40
        step.last_known_state = mlmd.Execution.FAILED if fails else mlmd.Execution.COMPLETE
        if fails:
            step.custom_properties[
                "error"
            ].string_value = "RuntimeError: loss is nan at epoch 3\n  in train_step, line 88"
        model = self._artifact("Model", name, framework="torch", parameters=1_180_000 + 10 * number)
        if fails:
            model.state = mlmd.Artifact.ABANDONED
        _, (model_id,) = self._done(step, [], [model], run)
        if label == _BAD_DAY and trial == 3:
            self._watch(model_id)
        if not fails:
            self._evaluate(model_id, name, rate, number, run)
        self._clock.pass_by(seconds=50)
        return model_id

    def _watch(self, model_id: int) -> None:
        """Thirty-eight versions within a minute, in which one field alone changes."""
        for epoch in range(38):
            (model,) = self._store.get_artifacts_by_id([model_id])
            seen = 0.931 - 0.83 * math.exp(-epoch / 6)
            model.custom_properties["accuracy"].double_value = round(seen, 4)
            self._store.put_artifacts([model])
            self._clock.pass_by(seconds=1)

    def _evaluate(
        self, model_id: int, name: str, rate: float, number: int, run: mlmd.Context
    ) -> None:
        accuracy = 0.938 - 0.9 * abs(rate - 0.01) + 0.011 * math.sin(number / 9)
        metrics = self._artifact(
            "Metrics",
            f"metrics-{name}",
            accuracy=round(accuracy, 4),
            auc=round(accuracy + 0.021, 4),
            log_loss=round(0.61 - accuracy / 2, 4),
        )
        step = self._step("Evaluate", f"evaluate-{name}", split="holdout")
        if number % 23 == 22:
            step.last_known_state = mlmd.Execution.CACHED
        self._done(step, [model_id], [metrics], run)

    def _validate(self, dataset_id: int) -> None:
        (dataset,) = self._store.get_artifacts_by_id([dataset_id])
        dataset.custom_properties["checks_passed"].int_value = 14
        with self._store.acting(actor="validator"):
            self._store.put_artifacts([dataset])
        self._clock.pass_by(minutes=2)

    def _push(self, label: str, model_id: int) -> tuple[int, int]:
        run = self._run_of(label, 3)
        change = f"CHG-{4_000 + int(label.replace('-', ''))}"
        with self._store.acting(
            actor="release-bot",
            reason=f"best of the day, approved in {change}",
            request_id=change,
        ):
            step = self._step("Push", f"push-{label}", target="production")
            push, _ = self._done(step, [model_id], [], run)
        return push, self._store.log_position()

    def _mark_bad(self, dataset_id: int) -> int:
        (dataset,) = self._store.get_artifacts_by_id([dataset_id])
        dataset.properties["quality"].string_value = "bad: 2,114 rows counted twice"
        dataset.custom_properties["ticket"].string_value = "DQ-1381"
        dataset.state = mlmd.Artifact.MARKED_FOR_DELETION
        with self._store.acting(actor="data-quality", reason=REASON, request_id="DQ-1381"):
            self._store.put_artifacts([dataset])
        return self._store.log_position()

    def _retrain(self, users: int) -> int:
        """The day of the bad dataset once more, by hand, with the rows counted once."""
        reason = f"sales-{_BAD_DAY} again without the rows counted twice (DQ-1381)"
        with self._store.acting(actor="ana", reason=reason):
            run = self._run_of(_BAD_DAY, "r2")
            sales = self._ingest(_BAD_DAY, run, rows=15_543, suffix="-r2")
            features = self._transform(_BAD_DAY, run, [sales, users], suffix="-r2")
            return self._train(_BAD_DAY, "r2", features)

    def _erase(self, dataset_id: int) -> None:
        with self._store.acting(actor="privacy-office"):
            self._store.erase("artifact", dataset_id, reason="GDPR-17(1)(b)", ticket="PRIV-88")

    def _rules(self, bad: int, released: int) -> None:
        store = self._store
        with store.acting(actor="compliance"):
            store.set_retention_rule(
                type_ids=[self._types["Model"]],
                kinds=["artifact"],
                keep_at_least=timedelta(days=3_650),
                basis="AIA-18(1)",
            )
            store.set_retention_rule(
                type_ids=[self._types["Metrics"]],
                keep_at_most=timedelta(days=730),
                basis="RETENTION-POLICY-4",
            )
        with store.acting(actor="legal"):
            store.place_hold(entities=[("artifact", bad)], basis="CASE-2026-11", ticket="LEG-20")
            number = store.place_hold(
                entities=[("artifact", released)], basis="CASE-2026-09", ticket="LEG-17"
            )
            store.release_hold(number, ticket="LEG-17-END")


def _rows(day: datetime) -> int:
    return 17_000 + 13 * day.day * day.month % 3_100


def _set(properties: object, values: dict[str, object]) -> None:
    for name, value in values.items():
        held = properties[name]  # type: ignore[index]
        if isinstance(value, int):
            held.int_value = value
        elif isinstance(value, float):
            held.double_value = value
        else:
            held.string_value = str(value)
