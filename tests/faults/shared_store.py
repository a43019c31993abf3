"""A store that many processes share: how it is opened, what each puts, tells and checks.

Put `key` is one commit: the execution `e-<key>` makes the artifact `a-<key>` in the context
`c-<key>`. Each process writes what was acknowledged to it, and what it has seen, into a file of its
own, which outlives it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import eventstore
from eventstore.log import DirectoryLog
from eventstore.metadata_store.opening import engine_of
from eventstore.projections.limits import IndexLimits, Limits
from eventstore.proto import metadata_store_pb2 as mlmd

_SEGMENT_RECORDS = 96
_TAIL_BYTES = 4096

Whole = tuple[int, int, int]
"""The ids of a put's execution, artifact and context."""


class BrokenPromiseError(Exception):
    """What the store answered cannot be true."""


_LIMITS = Limits(index=IndexLimits(tail_records_max=250, closing_records_min=1))


def opened(path: Path, *, read_only: bool = False) -> eventstore.MetadataStore:
    """A store that goes on to another segment every few puts."""
    log = DirectoryLog.open(path, read_only=read_only, segment_records_max=_SEGMENT_RECORDS)
    engine = engine_of(log, read_only=read_only, saves_caches=not read_only, limits=_LIMITS)
    return eventstore.MetadataStore._of(engine)


def put_types(store: eventstore.MetadataStore) -> None:
    store.put_artifact_type(mlmd.ArtifactType(name="Made"))
    store.put_artifact_type(mlmd.ArtifactType(name="Claim"))
    store.put_execution_type(mlmd.ExecutionType(name="Step"))
    store.put_context_type(mlmd.ContextType(name="Round"))


class TypeIds:
    """The ids of the types that `put_types` has put."""

    def __init__(self, store: Any) -> None:
        self.made: int = store.get_artifact_type("Made").id
        self.claim: int = store.get_artifact_type("Claim").id
        self.step: int = store.get_execution_type("Step").id
        self.round: int = store.get_context_type("Round").id


def put_whole(store: eventstore.MetadataStore, types: TypeIds, key: str) -> Whole:
    made = mlmd.Artifact(type_id=types.made, name=f"a-{key}", uri=f"s3://{key}")
    made.custom_properties["key"].string_value = key
    execution_id, artifact_ids, context_ids = store.put_execution(
        mlmd.Execution(type_id=types.step, name=f"e-{key}"),
        [(made, mlmd.Event(type=mlmd.Event.OUTPUT))],
        [mlmd.Context(type_id=types.round, name=f"c-{key}")],
    )
    return execution_id, artifact_ids[0], context_ids[0]


def seen_whole(reader: Any, key: str) -> Whole | None:
    """The ids of a put, None when it is not there. Raises when it is there in part."""
    execution = reader.get_execution_by_type_and_name("Step", f"e-{key}")
    if execution is None:
        return None
    # Each of these may see more than the one before, never less.
    artifact = reader.get_artifact_by_type_and_name("Made", f"a-{key}")
    context = reader.get_context_by_type_and_name("Round", f"c-{key}")
    if artifact is None or context is None:
        raise BrokenPromiseError(f"put {key} is seen without {'ac'[artifact is not None]}-{key}")
    events = reader.get_events_by_execution_ids([execution.id])
    if [event.artifact_id for event in events] != [artifact.id]:
        raise BrokenPromiseError(f"put {key} is seen with the events {events}")
    if artifact.uri != f"s3://{key}" or artifact.custom_properties["key"].string_value != key:
        raise BrokenPromiseError(f"put {key} is seen with the artifact {artifact}")
    for name, found in (
        ("execution", reader.get_contexts_by_execution(execution.id)),
        ("artifact", reader.get_contexts_by_artifact(artifact.id)),
    ):
        if [one.id for one in found] != [context.id]:
            raise BrokenPromiseError(f"put {key} is seen with an {name} in {found}")
    return execution.id, artifact.id, context.id


class Told:
    """The file in which one process tells the others, and the end, what it knows."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / name
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)

    def tell(self, **line: object) -> None:
        # A kill can cut a line off; then the next one starts afresh.
        os.write(self._descriptor, b"\n" + json.dumps(line).encode() + b"\n")


def told_in(path: Path, *, newest_only: bool = False) -> Iterator[dict[str, Any]]:
    """What was told in a file: all, or the last few lines."""
    with open(path, "rb") as file:
        if newest_only:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - _TAIL_BYTES, 0))
        content = file.read()
    for line in content.split(b"\n"):
        try:
            known = json.loads(line)
        except ValueError:
            continue
        if isinstance(known, dict):
            yield known
