"""Messages that a run has handed out, kept up with what the run itself puts.

A put of such a message sets all that the message says. If it still said RUNNING or PENDING after
the end of the run, a program that adds a property to it would undo that end.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from eventstore.proto import metadata_store_pb2 as mlmd


class HandedOut:
    """The artifacts and executions that a caller may hold; what the caller changed stays."""

    def __init__(self) -> None:
        self._artifacts: list[mlmd.Artifact] = []
        self._executions: list[mlmd.Execution] = []

    def artifact(self, artifact: mlmd.Artifact) -> mlmd.Artifact:
        """Note one that is handed out. Only those that are PENDING will change."""
        if artifact.state == mlmd.Artifact.PENDING:
            self._artifacts.append(artifact)
        return artifact

    def execution(self, execution: mlmd.Execution) -> mlmd.Execution:
        """Note one that is handed out."""
        self._executions.append(execution)
        return execution

    def take_over(self, before: mlmd.Execution, after: mlmd.Execution) -> None:
        """Let the executions say what a put has changed."""
        for held in self._executions:
            if held.last_known_state in (before.last_known_state, mlmd.Execution.RUNNING):
                held.last_known_state = after.last_known_state
            _take_over_values(before.properties, after.properties, held.properties)
            _take_over_values(
                before.custom_properties, after.custom_properties, held.custom_properties
            )
            held.last_update_time_since_epoch = after.last_update_time_since_epoch

    def end(self, outputs: Iterable[mlmd.Artifact]) -> None:
        """Give artifacts the state that the end of the run gave them, and let go of all."""
        stored = {artifact.id: artifact for artifact in outputs}
        for held in self._artifacts:
            ended = stored.get(held.id)
            if ended is not None:
                if held.state == mlmd.Artifact.PENDING:
                    held.state = ended.state
                held.last_update_time_since_epoch = ended.last_update_time_since_epoch
        self._artifacts.clear()
        self._executions.clear()


def _take_over_values(before: Any, after: Any, held: Any) -> None:
    for name, value in after.items():
        was = _bytes_of(before, name)
        if _bytes_of(after, name) != was and _bytes_of(held, name) == was:
            held[name].CopyFrom(value)


def _bytes_of(values: Any, name: str) -> bytes | None:
    """A value for comparison: NaN, too, equals itself."""
    return values[name].SerializeToString(deterministic=True) if name in values else None
