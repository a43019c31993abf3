"""Tell whether something has been run on the same inputs before."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from eventstore.errors import InvalidArgumentError, NotFoundError
from eventstore.lineage.graph import names_of
from eventstore.log.kinds import ARTIFACT, EXECUTION
from eventstore.projections import index_tables as tables
from eventstore.projections.lineage import INPUTS, OUTPUTS
from eventstore.projections.listing import Listing
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.repr_html import ShownInNotebooks, ShownList
from eventstore.store.node_reads import nodes_by_id
from eventstore.store.snapshot import Snapshot

PropertyValue = int | float | str | bool


@dataclass(frozen=True, slots=True)
class Run(ShownInNotebooks):
    """An execution that was found, with the artifacts that went in and came out, by id."""

    execution: mlmd.Execution
    inputs: tuple[mlmd.Artifact, ...]
    outputs: tuple[mlmd.Artifact, ...]


def find_runs(
    snapshot: Snapshot,
    execution_type: str,
    inputs: Iterable[int] | Mapping[str, Iterable[int]],
    *,
    type_version: str | None,
    properties: Mapping[str, PropertyValue],
    custom_properties: Mapping[str, PropertyValue],
    states: Collection[int],
    limit: int | None,
) -> list[Run]:
    """The executions of a type that had exactly these input artifacts, the newest first.

    `inputs` are artifact ids, or ids by the key that the events' paths begin with. An execution
    must have all of the given properties, with these values, and one of the states, if any are
    given. Raises NotFoundError for an unknown type, InvalidArgumentError for a limit below 1.
    """
    node_type = snapshot.type_by_name(EXECUTION, execution_type, type_version)
    if node_type is None:
        raise NotFoundError(
            f"no execution type is named {execution_type!r}"
            + (f" in version {type_version!r}" if type_version else "")
        )
    if limit is not None and limit < 1:
        raise InvalidArgumentError(f"limit is {limit}: use 1 or more, or None for all")
    wanted = _wanted(inputs)
    by_key = isinstance(inputs, Mapping)
    runs = ShownList[Run]()
    for execution_id in _candidates(snapshot, node_type.id, {id_ for _, id_ in wanted}):
        events = [
            mlmd.Event.FromString(payload)
            for _, payload in snapshot.entries(tables.EVENTS_BY_EXECUTION, execution_id)
        ]
        went_in = {
            (key, event.artifact_id)
            for event in events
            if event.type in INPUTS
            for key in (_keys(event) if by_key else [""])
        }
        if went_in != wanted:
            continue
        (execution,) = nodes_by_id(snapshot, EXECUTION, [execution_id])
        if execution.type_id != node_type.id or not _is_like(
            execution, properties, custom_properties, states
        ):
            continue
        came_out = {event.artifact_id for event in events if event.type in OUTPUTS}
        runs.append(
            Run(
                execution,
                tuple(nodes_by_id(snapshot, ARTIFACT, {id_ for _, id_ in went_in})),
                tuple(nodes_by_id(snapshot, ARTIFACT, came_out)),
            )
        )
        if limit is not None and len(runs) == limit:
            break
    return runs


def _wanted(inputs: Iterable[int] | Mapping[str, Iterable[int]]) -> set[tuple[str, int]]:
    if isinstance(inputs, Mapping):
        return {(key, artifact_id) for key, ids in inputs.items() for artifact_id in ids}
    return {("", artifact_id) for artifact_id in inputs}


def _candidates(snapshot: Snapshot, type_id: int, artifact_ids: set[int]) -> list[int]:
    """The executions that may match, the newest first."""
    if not artifact_ids:
        listing = Listing(EXECUTION, snapshot.position, type_id=type_id, descending=True)
        return [node_id for node_id, _ in snapshot.projections.planner.find(listing).rows]
    by_artifact = [
        {
            event.execution_id
            for _, payload in snapshot.entries(tables.EVENTS_BY_ARTIFACT, artifact_id)
            if (event := mlmd.Event.FromString(payload)).type in INPUTS
        }
        for artifact_id in artifact_ids
    ]
    return sorted(set.intersection(*by_artifact), reverse=True)


def _keys(event: mlmd.Event) -> list[str]:
    """What the path begins with, of each name that it bears."""
    names = names_of(event)
    if names is None:
        first = event.path.steps[0]
        return [first.key if first.WhichOneof("value") == "key" else ""]
    return names or [""]


def _is_like(
    execution: mlmd.Execution,
    properties: Mapping[str, PropertyValue],
    custom_properties: Mapping[str, PropertyValue],
    states: Collection[int],
) -> bool:
    if states and execution.last_known_state not in states:
        return False
    return all(
        name in stored and _is_value(stored[name], value)
        for stored, asked in (
            (execution.properties, properties),
            (execution.custom_properties, custom_properties),
        )
        for name, value in asked.items()
    )


def _is_value(stored: mlmd.Value, value: PropertyValue) -> bool:
    field = stored.WhichOneof("value")
    if field is None or isinstance(value, bool) is not (field == "bool_value"):
        return False
    return bool(getattr(stored, field) == value)
