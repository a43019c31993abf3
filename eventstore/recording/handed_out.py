"""Messages that a run has handed out, kept up with what the run itself puts.

A put of such a message sets all that the message says. If it still said RUNNING or PENDING after
the end of the run, a program that adds a property to it would undo that end.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from eventstore.proto import metadata_store_pb2 as mlmd

_KEPT_MIN = 32
"""Below this many nothing is dropped."""


class HandedOut:
    """The artifacts and executions that a caller may hold; what the caller changed stays."""

    def __init__(self) -> None:
        self._artifacts: list[mlmd.Artifact] = []
        self._executions: list[mlmd.Execution] = []
        self._room = _KEPT_MIN

    def __len__(self) -> int:
        return len(self._artifacts) + len(self._executions)

    def note_artifact(self, artifact: mlmd.Artifact) -> None:
        """Note one that is handed out. Only those that are PENDING will change."""
        if artifact.state == mlmd.Artifact.PENDING:
            self._artifacts.append(artifact)
            self._let_go()

    def note_execution(self, execution: mlmd.Execution) -> None:
        """Note one that is handed out."""
        self._executions.append(execution)
        self._let_go()

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

    def _let_go(self) -> None:
        """Drop those that nobody else holds, once there are twice as many as were left before."""
        if len(self) > self._room:
            self._artifacts = _held_elsewhere(self._artifacts)
            self._executions = _held_elsewhere(self._executions)
            self._room = 2 * len(self) + _KEPT_MIN


def _held_elsewhere(messages: list[Any]) -> list[Any]:
    counts = _reference_counts(messages)
    return [message for message, count in zip(messages, counts, strict=True) if count > _UNHELD]


def _reference_counts(messages: Sequence[Any]) -> list[int]:
    # Messages take no weak references.
    return [sys.getrefcount(message) for message in messages]


(_UNHELD,) = _reference_counts([mlmd.Execution()])
"""The count of one that is in a list alone."""


def _take_over_values(before: Any, after: Any, held: Any) -> None:
    for name, value in after.items():
        was = _bytes_of(before, name)
        if _bytes_of(after, name) != was and _bytes_of(held, name) == was:
            held[name].CopyFrom(value)


def _bytes_of(values: Any, name: str) -> bytes | None:
    """A value for comparison: NaN, too, equals itself."""
    return values[name].SerializeToString(deterministic=True) if name in values else None
