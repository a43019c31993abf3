"""The records of a block as Arrow columns: what their payloads say, and the payloads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.large_history import wire, world
from benchmarks.large_history.plan import Block, History, Numbers, Rows
from eventstore.log.columns import DERIVED_NAMES, PROPERTIES_TYPE, RECORD_SCHEMA, VALUE_TYPE
from eventstore.log.kinds import (
    ARTIFACT,
    ASSOCIATION,
    ATTRIBUTION,
    CONTEXT,
    EVENT,
    EXECUTION,
    PARENT_CONTEXT,
    LinkKind,
    NodeKind,
)
from eventstore.proto import metadata_store_pb2 as mlmd

_MEMBERS: Final = {int: "int_value", float: "double_value", str: "string_value", bool: "bool_value"}
_VALUE_NUMBERS: Final = {
    name: field.number for name, field in mlmd.Value.DESCRIPTOR.fields_by_name.items()
}
COLUMNS: Final = ("position", "kind", "entity_id", "type_id", "previous", *DERIVED_NAMES, "payload")
"""The columns of `block_rows`, which are those of one record alone."""

Properties = Mapping[str, Any]
"""By name the values: an array of numpy's, or of Arrow's for texts."""


def block_rows(history: History, block: Block) -> pa.Table:
    """The records of a block in the order of their positions, with COLUMNS."""
    maker = _Maker(history, block)
    table = pa.concat_tables(maker.tables()).combine_chunks()
    order = np.argsort(table["position"].to_numpy())
    return table.take(pa.array(order)).combine_chunks()


def joined(*parts: Any) -> pa.StringArray:
    """Texts put together of texts, numbers and constants."""
    texts = [
        pa.scalar(part)
        if isinstance(part, str)
        else pa.array(part).cast(pa.utf8())
        if isinstance(part, np.ndarray)
        else part
        for part in parts
    ]
    return pc.binary_join_element_wise(*texts, pa.scalar(""))


def chosen(texts: tuple[str, ...], numbers: Numbers) -> pa.StringArray:
    """The texts of these numbers."""
    return pa.array(texts).take(pa.array(numbers))


class _Maker:
    """What makes the records of a block, sort by sort."""

    def __init__(self, history: History, block: Block) -> None:
        self._history, self._block = history, block
        totals = block.before
        self._first_run = totals.runs
        self._executions = block.first_of_runs("executions")
        self._models = block.first_of_runs("models")
        self._datasets = block.first_of_runs("datasets")
        if not block.number:
            self._datasets += world.FIRST_DATASETS
        first_contexts = len(world.PIPELINES) if not block.number else 0
        self._context_ids = totals.contexts + 1 + first_contexts + block.first_of_runs("contexts")
        self._execution_base = totals.executions + 1
        self._event_base = totals.events + 1
        self._attribution_base = totals.attributions + 1
        self._association_base = totals.associations + 1

    def tables(self) -> list[pa.Table]:
        """The records, a table for each sort."""
        rows = self._block.rows
        made = [*self._contexts(rows), *self._all_executions(rows), *self._artifacts(rows)]
        made += self._links(rows)
        if not self._block.number:
            made += [_types(rows["type"]), self._pipelines(rows["pipeline"])]
        return made

    # Contexts

    def _pipelines(self, rows: Rows) -> pa.Table:
        owners = chosen(world.PEOPLE, rows.number % len(world.PEOPLE))
        return _nodes(
            CONTEXT,
            rows,
            ids=rows.number + 1,
            type_id=world.PIPELINE,
            name=pa.array(world.PIPELINES),
            properties={"owner": owners},
        )

    def _contexts(self, rows: Mapping[str, Rows]) -> list[pa.Table]:
        runs = rows["run"]
        numbers = self._first_run + runs.run
        triggers = self._block.random("triggers").choice(
            len(world.TRIGGERS), len(self._block.shapes), p=(0.8, 0.15, 0.05)
        )[runs.run]
        contexts = _nodes(
            CONTEXT,
            runs,
            ids=self._context_ids[runs.run],
            type_id=world.RUN,
            name=joined("run-", numbers),
            external_id=joined("scheduler/", numbers),
            properties={"trigger": chosen(world.TRIGGERS, triggers)},
            custom={"pipeline": chosen(world.PIPELINES, self._block.pipelines[runs.run])},
        )
        parents = rows["parent context"]
        links = _links(
            PARENT_CONTEXT,
            parents,
            ids=self._context_ids[parents.run] - len(world.PIPELINES),
            context_id=self._context_ids[parents.run],
            parent_context_id=self._block.pipelines[parents.run] + 1,
        )
        return [contexts, links]

    # Executions

    def _all_executions(self, rows: Mapping[str, Rows]) -> list[pa.Table]:
        count = self._block.totals.executions
        begun, begun_at = np.zeros((2, count), np.int64)
        for execution in ("train", "ingest", "evaluate"):
            some = rows[f"{execution} RUNNING"]
            local = self._executions[some.run] + some.number
            begun[local], begun_at[local] = some.position, some.milliseconds
        random = self._block.random("executions")
        values = {
            "epochs": random.integers(1, 9, count) * 10,
            "learning_rate": np.round(10 ** random.uniform(-4, -1, count), 6),
            "error": random.choice(len(world.FAILURES), count, p=(0.4, 0.3, 0.2, 0.1)),
        }
        return [
            self._some_executions(execution, state, rows[what], begun, begun_at, values)
            for execution in ("train", "ingest", "evaluate")
            for state in ("RUNNING", "COMPLETE", "FAILED")
            if (what := f"{execution} {state}") in rows
        ]

    def _some_executions(
        self,
        execution: str,
        state: str,
        rows: Rows,
        begun: Numbers,
        begun_at: Numbers,
        values: Mapping[str, Numbers],
    ) -> pa.Table:
        local = self._executions[rows.run] + rows.number
        properties: dict[str, Any] = {"attempt": rows.number + 1}
        custom = {}
        if execution == "evaluate":
            properties["attempt"] = np.ones_like(rows.number)
        if execution == "train":
            properties |= {name: values[name][local] for name in ("epochs", "learning_rate")}
        if state == "FAILED":
            custom["error"] = chosen(world.FAILURES, values["error"][local])
        return _nodes(
            EXECUTION,
            rows,
            ids=self._execution_base + local,
            type_id={"train": world.TRAIN, "ingest": world.INGEST}.get(execution, world.EVALUATE),
            name=joined("run-", self._first_run + rows.run, f"/{execution}/", rows.number + 1),
            state=mlmd.Execution.State.Value(state),
            created_at=begun_at[local],
            previous=None if state == "RUNNING" else begun[local],
            properties=properties,
            custom=custom,
        )

    # Artifacts

    def _artifacts(self, rows: Mapping[str, Rows]) -> list[pa.Table]:
        made = [*self._all_datasets(rows), *self._all_models(rows)]
        evaluations = rows["evaluation"]
        local = self._models[evaluations.run]
        values = _model_values(self._block)
        numbers = self._first_run + evaluations.run
        made.append(
            _nodes(
                ARTIFACT,
                evaluations,
                ids=self._evaluation_ids(evaluations.run),
                type_id=world.EVALUATION,
                name=joined("run-", numbers, "/evaluation"),
                uri=joined("s3://ml/evaluations/", numbers, ".json"),
                state=mlmd.Artifact.LIVE,
                properties={
                    "accuracy": values["accuracy"][local],
                    "f1": np.round(values["accuracy"][local] * 0.97, 4),
                },
            )
        )
        return made

    def _evaluation_ids(self, runs: Numbers) -> Numbers:
        # There is one for each model.
        return self._model_ids(runs) + self._block.totals.models

    def _model_ids(self, runs: Numbers) -> Numbers:
        return _first_model_id(self._block) + self._models[runs]

    def _dataset_ids(self, local: Numbers) -> Numbers:
        return self._block.before.artifacts + 1 + local

    def _all_datasets(self, rows: Mapping[str, Rows]) -> list[pa.Table]:
        random = self._block.random("dataset values")
        count = self._block.totals.datasets
        values = {
            "quality": np.round(random.beta(20, 2, count), 4),
            "rows": (10 ** random.uniform(3, 7, count)).astype(np.int64),
            "split": random.choice(len(world.SPLITS), count, p=(0.6, 0.3, 0.1)),
            "validated": random.random(count) < 0.98,
        }
        pending = rows["dataset PENDING"]
        local = self._datasets[pending.run]
        made_at, put_at = np.zeros((2, count), np.int64)
        made_at[local], put_at[local] = pending.milliseconds, pending.position
        live = rows["dataset LIVE"]
        made = [
            self._some_datasets(pending, local, values, is_live=False),
            self._some_datasets(
                live,
                self._datasets[live.run],
                values,
                is_live=True,
                created_at=made_at[self._datasets[live.run]],
                previous=put_at[self._datasets[live.run]],
            ),
        ]
        uploads = rows["upload"]
        local = count - len(uploads.run) + uploads.number
        made.append(self._some_datasets(uploads, local, values, is_live=True))
        if "first dataset" in rows:
            first = rows["first dataset"]
            made.append(self._some_datasets(first, first.number, values, is_live=True))
        return made

    def _some_datasets(
        self,
        rows: Rows,
        local: Numbers,
        values: Mapping[str, Numbers],
        *,
        is_live: bool,
        created_at: Numbers | None = None,
        previous: Numbers | None = None,
    ) -> pa.Table:
        ids = self._dataset_ids(local)
        properties: dict[str, Any] = {}
        if is_live:
            properties["quality"] = values["quality"][local]
        properties["rows"] = values["rows"][local]
        properties["split"] = chosen(world.SPLITS, values["split"][local])
        if is_live:
            properties["validated"] = values["validated"][local]
        return _nodes(
            ARTIFACT,
            rows,
            ids=ids,
            type_id=world.DATASET,
            name=joined("dataset-", ids),
            uri=joined("s3://ml/datasets/", ids, "/data.parquet"),
            state=mlmd.Artifact.LIVE if is_live else mlmd.Artifact.PENDING,
            created_at=created_at,
            previous=previous,
            properties=properties,
        )

    def _all_models(self, rows: Mapping[str, Rows]) -> list[pa.Table]:
        pending, live, block = rows["model PENDING"], rows["model LIVE"], self._block
        made = [
            _some_models(block, pending, pending.run, "PENDING"),
            _some_models(block, live, live.run, "LIVE"),
        ]
        if "model MARKED" in rows:
            of, models = self._history.marked_models(block)
            runs = np.flatnonzero(np.isin(of.shapes, range(world.ATTEMPTS)))[models]
            made.append(_some_models(of, rows["model MARKED"], runs, "MARKED_FOR_DELETION"))
        return made

    # Links

    def _links(self, rows: Mapping[str, Rows]) -> list[pa.Table]:
        popular, recent = map(self._history.dataset_ids, self._history.used_datasets(self._block))
        runs = np.arange(len(self._block.shapes))
        artifacts = {
            "input popular": popular,
            "input recent": recent,
            "input model": self._model_ids(runs),
            "output model": self._model_ids(runs),
            "output evaluation": self._evaluation_ids(runs),
            "output dataset": self._dataset_ids(self._datasets),
        }
        made = []
        for what, ids in artifacts.items():
            if what in rows:
                some = rows[what]
                made.append(
                    _links(
                        EVENT,
                        some,
                        ids=self._event_base + np.arange(len(some.run)),
                        artifact_id=ids[some.run],
                        execution_id=self._execution_base
                        + self._executions[some.run]
                        + some.number,
                        event_type=mlmd.Event.INPUT if "input" in what else mlmd.Event.OUTPUT,
                        event_time=some.milliseconds,
                    )
                )
                self._event_base += len(some.run)
        for name in ("model", "evaluation", "dataset"):
            if (what := f"attribution {name}") in rows:
                some = rows[what]
                made.append(
                    _links(
                        ATTRIBUTION,
                        some,
                        ids=self._attribution_base + np.arange(len(some.run)),
                        context_id=self._context_ids[some.run],
                        artifact_id=artifacts[f"output {name}"][some.run],
                    )
                )
                self._attribution_base += len(some.run)
        some = rows["association"]
        made.append(
            _links(
                ASSOCIATION,
                some,
                ids=self._association_base + np.arange(len(some.run)),
                context_id=self._context_ids[some.run],
                execution_id=self._execution_base + self._executions[some.run] + some.number,
            )
        )
        return made


def _first_model_id(block: Block) -> int:
    return block.before.artifacts + 1 + block.totals.datasets


def _model_values(block: Block) -> dict[str, Numbers]:
    random = block.random("models")
    count = block.totals.models
    is_second = random.random(count) < 0.35
    accuracy = 0.62 + 0.33 * random.beta(5, 2, count) + 0.02 * is_second
    return {
        "is_second": is_second,
        "accuracy": np.round(accuracy, 4),
        "loss": np.round((1 - accuracy) * random.lognormal(0.3, 0.2, count), 4),
        "framework": random.choice(len(world.FRAMEWORKS), count, p=(0.4, 0.3, 0.2, 0.1)),
        "parameters": (10 ** random.uniform(4, 8, count)).astype(np.int64),
    }


def _some_models(block: Block, rows: Rows, runs: Numbers, state: str) -> pa.Table:
    """Records of the models of a block's runs, which a later block may have put."""
    local = block.first_of_runs("models")[runs]
    values = _model_values(block)
    properties: dict[str, Any] = {}
    if state != "PENDING":
        properties["accuracy"] = values["accuracy"][local]
    properties["framework"] = chosen(world.FRAMEWORKS, values["framework"][local])
    if state != "PENDING":
        properties["loss"] = values["loss"][local]
    properties["parameters"] = values["parameters"][local]
    numbers = block.before.runs + runs
    created_at = previous = None
    if state != "PENDING":
        created_at = _by_run(block, block.rows["model PENDING"], "milliseconds")[runs]
        former = "LIVE" if state != "LIVE" else "PENDING"
        previous = _by_run(block, block.rows[f"model {former}"], "position")[runs]
    return _nodes(
        ARTIFACT,
        rows,
        ids=_first_model_id(block) + local,
        type_id=world.MODEL + values["is_second"][local],
        name=joined(chosen(world.PIPELINES, block.pipelines[runs]), "-", numbers),
        uri=joined("s3://ml/models/", numbers, "/model.bin"),
        external_id=joined("registry/", numbers),
        state=mlmd.Artifact.State.Value(state),
        created_at=created_at,
        previous=previous,
        properties=properties,
    )


def _by_run(block: Block, rows: Rows, what: str) -> Numbers:
    found = np.zeros(len(block.shapes), np.int64)
    found[rows.run] = getattr(rows, what)
    return found


def _types(rows: Rows) -> pa.Table:
    kinds = {made.DESCRIPTOR.name: number for number, made in enumerate(_TYPE_MESSAGES, 1)}
    return _table(
        len(world.TYPES),
        {
            "position": rows.position,
            "kind": np.array([kinds[made.DESCRIPTOR.name] for made in world.TYPES], np.int8),
            "entity_id": np.array([made.id for made in world.TYPES]),
            "name": pa.array([made.name for made in world.TYPES]),
            "version": pa.array(
                [made.version if made.HasField("version") else None for made in world.TYPES],
                pa.utf8(),
            ),
            "payload": pa.array(
                [made.SerializeToString(deterministic=True) for made in world.TYPES], pa.binary()
            ),
        },
    )


_TYPE_MESSAGES: Final = (mlmd.ArtifactType, mlmd.ExecutionType, mlmd.ContextType)


def _nodes(
    kind: NodeKind,
    rows: Rows,
    *,
    ids: Numbers,
    type_id: int | Numbers,
    name: pa.StringArray,
    uri: pa.StringArray | None = None,
    external_id: pa.StringArray | None = None,
    state: int | None = None,
    created_at: Numbers | None = None,
    previous: Numbers | None = None,
    properties: Properties,
    custom: Properties | None = None,
) -> pa.Table:
    """Records of nodes. Properties are in the order of their names.

    Nodes without `previous` are new, and then made when they are put.
    """
    fields = kind.message.DESCRIPTOR.fields_by_name
    created_at = rows.milliseconds if created_at is None else created_at
    type_ids = np.broadcast_to(np.asarray(type_id), len(ids))
    first_type = int(type_ids[0]) if len(ids) else world.DATASET
    parts: list[tuple[str, wire.Column]] = [
        ("id", wire.number_field(fields["id"].number, ids)),
        ("type_id", wire.number_field(fields["type_id"].number, type_ids)),
        ("name", wire.text_field(fields["name"].number, name)),
        ("type", wire.text_field(fields["type"].number, world.NAMES[first_type])),
    ]
    for field, values in (
        ("create_time_since_epoch", created_at),
        ("last_update_time_since_epoch", rows.milliseconds),
    ):
        parts.append((field, wire.number_field(fields[field].number, values)))
    for field, texts in (("uri", uri), ("external_id", external_id)):
        if texts is not None:
            parts.append((field, wire.text_field(fields[field].number, texts)))
    if state is not None:
        assert kind.state_field is not None
        field = kind.state_field
        parts.append((field, wire.number_field(fields[field].number, state)))
    for field, some in (("properties", properties), ("custom_properties", custom or {})):
        for key, values in some.items():
            parts.append((field, _property(fields[field].number, key, values)))
    parts.sort(key=lambda part: fields[part[0]].number)
    columns: dict[str, Any] = {
        "position": rows.position,
        "kind": np.full(len(ids), kind.number, np.int8),
        "entity_id": ids,
        "type_id": type_ids,
        "previous": previous,
        "name": name,
        "uri": uri,
        "external_id": external_id,
        "state": None if state is None else np.full(len(ids), state, np.int32),
        "create_time": created_at,
        "update_time": rows.milliseconds,
        "properties": _map(len(ids), properties),
        "custom_properties": _map(len(ids), custom or {}),
        "payload": wire.message([part for _, part in parts]),
    }
    return _table(len(ids), columns)


def _links(kind: LinkKind, rows: Rows, *, ids: Numbers, **ends: Any) -> pa.Table:
    """Records of links; `ends` are their columns."""
    fields = kind.message.DESCRIPTOR.fields_by_name
    numbers = {column: fields[field].number for column, field in kind.fields}
    parts = [
        wire.number_field(numbers[column], ends[column]) for column in sorted(ends, key=numbers.get)
    ]
    columns = {
        name: np.full(len(ids), values, np.int32) if isinstance(values, int) else values
        for name, values in ends.items()
    }
    return _table(
        len(ids),
        {
            "position": rows.position,
            "kind": np.full(len(ids), kind.number, np.int8),
            "entity_id": ids,
            "payload": wire.message(parts),
            **columns,
        },
    )


def _property(number: int, name: str, values: Any) -> wire.Column:
    """An entry of a map of properties, for all rows."""
    kind = _kind_of(values)
    member = _VALUE_NUMBERS[_MEMBERS[kind]]
    if kind is float:
        value = wire.double_field(member, values)
    elif kind is str:
        value = wire.text_field(member, values)
    else:
        value = wire.number_field(member, values)
    entry = wire.message([wire.text_field(1, name), wire.text_field(2, value)])
    return wire.text_field(number, entry)


def _kind_of(values: Any) -> type:
    if isinstance(values, pa.Array):
        return str
    return {"i": int, "f": float, "b": bool}[values.dtype.kind]


def _map(rows: int, properties: Properties) -> pa.MapArray:
    """The column of properties: the same names in each row."""
    names = [*properties]
    width = len(names)
    members = []
    for field in VALUE_TYPE:
        places = [
            n for n, name in enumerate(names) if _MEMBERS[_kind_of(properties[name])] == field.name
        ]
        if not places:
            members.append(pa.nulls(rows * width, field.type))
            continue
        values = pa.concat_arrays([pa.array(properties[names[n]]).cast(field.type) for n in places])
        where = np.full((rows, width), -1)
        for number, place in enumerate(places):
            where[:, place] = number * rows + np.arange(rows)
        where = where.reshape(-1)
        members.append(values.take(pa.array(where, mask=where < 0)))
    items = pa.StructArray.from_arrays(members, fields=list(VALUE_TYPE))
    keys = pa.array(names, pa.utf8()).take(pa.array(np.tile(np.arange(width), rows), pa.int64()))
    offsets = pa.array(np.arange(rows + 1) * width, pa.int32())
    return pa.MapArray.from_arrays(offsets, keys, items)


_NO_KIND: Final = pa.field("kind", pa.int8())


def _table(rows: int, columns: Mapping[str, Any]) -> pa.Table:
    """A table of COLUMNS, kinds by number; what is missing is null, or without properties."""
    arrays = []
    for name in COLUMNS:
        kind = pa.int8() if name == "kind" else RECORD_SCHEMA.field(name).type
        values = columns.get(name)
        if values is None:
            values = _map(rows, {}) if kind == PROPERTIES_TYPE else pa.nulls(rows, kind)
        elif isinstance(values, np.ndarray):
            values = pa.array(values, kind)
        arrays.append(values)
    return pa.Table.from_arrays(arrays, COLUMNS)
