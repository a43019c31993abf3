"""A run of code, recorded as it goes: an execution from RUNNING to COMPLETE or FAILED."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TypeVar

from eventstore.errors import FailedPreconditionError, InvalidArgumentError, StatusError
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.recording.declaring import (
    Store,
    described_artifact,
    described_contexts,
    described_execution,
    named_contexts,
)
from eventstore.recording.failures import described_error, is_success
from eventstore.recording.functions import Arguments, recorded
from eventstore.recording.handed_out import HandedOut
from eventstore.recording.inputs import (
    Inputs,
    add_steps,
    id_of,
    input_events,
    places_of,
    without_taken,
)
from eventstore.recording.surroundings import surroundings
from eventstore.recording.texts import all_properties, text_of, text_or_none, uri_or_none
from eventstore.recording.values import to_value
from eventstore.repr_html import ShownInNotebooks

_LOGGER = logging.getLogger("eventstore")
_Function = TypeVar("_Function", bound=Callable[..., Any])

_living: weakref.WeakSet[Run] = weakref.WeakSet()


class Run(ShownInNotebooks):
    """One run, or, as a decorator, one for each call of a function. Made by `store.run(...)`.

    Entering it records the execution as RUNNING with its inputs, contexts and surroundings; leaving
    it as COMPLETE, or as FAILED with the error when an exception ends the block. Outputs are
    PENDING until then, LIVE after success and ABANDONED after a failure; the messages that the run
    has handed out say so, too. A process that is killed leaves its run RUNNING, and a forked child
    does not end its parent's. Safe to use from several threads.
    """

    def __init__(
        self,
        store: Store,
        execution_type: str,
        *,
        name: str | None,
        inputs: Inputs,
        contexts: Mapping[str, str | Iterable[str]] | None,
        properties: Mapping[str, Any],
        capture: bool,
    ) -> None:
        self._store = store
        self._execution_type = _type_name(execution_type)
        self._name = text_or_none("name", name)
        self._places = places_of(inputs)
        self._named_contexts = named_contexts(contexts)
        self._properties = properties
        self._capture = capture
        self._mutex = threading.RLock()
        self._execution_id: int | None = None
        self._process_id = 0
        self._is_open = False
        self._context_ids: list[int] = []
        self._input_names: dict[int, set[str]] = {}
        self._further_names: dict[str, list[int]] = {}
        self._handed_out = HandedOut()
        self._started = 0.0
        _living.add(self)

    def __repr__(self) -> str:
        state = "open" if self._is_open else "ended" if self._execution_id else "not started"
        return f"<Run {self._execution_type!r}, execution {self._execution_id}, {state}>"

    @property
    def has_begun(self) -> bool:
        """Whether the execution is recorded."""
        return self._execution_id is not None

    @property
    def id(self) -> int:
        """The id of the execution. Raises FailedPreconditionError before the run has begun."""
        if self._execution_id is None:
            raise FailedPreconditionError(
                f"the run {self._execution_type!r} has not begun: use it as `with store.run(...)`"
            )
        return self._execution_id

    @property
    def execution(self) -> mlmd.Execution:
        """The execution as the store has it now."""
        with self._mutex:
            execution = self._stored_execution()
            if self._is_open:
                self._handed_out.note_execution(execution)
            return execution

    @property
    def inputs(self) -> list[mlmd.Artifact]:
        """The artifacts that the run has read, as the store has them now, by id."""
        with self._mutex:
            return self._artifacts(self._input_names)

    @property
    def outputs(self) -> list[mlmd.Artifact]:
        """The artifacts that the run has made, as the store has them now, by id."""
        with self._mutex:
            return self._artifacts(self._output_ids())

    def __enter__(self) -> Run:
        with self._mutex:
            if self._execution_id is not None:
                raise FailedPreconditionError(
                    f"{self!r} was used already: call store.run(...) for another one"
                )
            events = input_events(self._places)
            execution = described_execution(
                self._store,
                self._execution_type,
                self._properties,
                name=self._name,
                last_known_state=mlmd.Execution.RUNNING,
            )
            if self._capture:
                _set_custom(execution, surroundings())
            contexts = described_contexts(self._store, self._named_contexts)
            self._execution_id, _, self._context_ids = self._store.put_execution(
                execution,
                [(None, event) for event in events],
                contexts,
                reuse_context_if_already_exist=True,
            )
            for event in events:
                names = {step.key for step in event.path.steps if step.HasField("key")}
                self._input_names[event.artifact_id] = names
            self._process_id = os.getpid()
            self._is_open = True
            self._started = time.monotonic()
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if os.getpid() != self._process_id:
            # A forked child leaves the block, too. Its parent is still in there.
            return
        failure = None if is_success(exception) else exception
        try:
            self._end(failure)
        except StatusError as error:
            if exception is None:
                raise
            # The program's own error is the one that its caller must see.
            _LOGGER.exception("the end of run %s could not be recorded", self._execution_id)
            exception.add_note(f"(and the end of the run could not be recorded: {error})")

    def __call__(self, function: _Function) -> _Function:
        """Record each call of a function as a run of its own.

        Arguments that are artifacts become inputs and plain ones properties, in lists and mappings,
        too; what the decorator says is added. A parameter named `run` receives the Run, unless the
        caller gives it. A call that answers an awaitable ends when that is awaited.
        """
        return recorded(function, self._for_call)  # type: ignore[no-any-return]

    def input(
        self,
        artifact: mlmd.Artifact | int | str,
        /,
        *,
        uri: str | os.PathLike[str] | None = None,
        name: str | None = None,
        key: str | None = None,
        properties: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> mlmd.Artifact:
        """Note an input: an artifact, its id, or the type of one with its `uri` (and `name`).

        Given a type, the stored artifact of this type and uri (and name) is taken, the most recent
        if there are several, and a new one is put when there is none; properties describe a new
        one. `key` names the input in its event. Answers the artifact.
        """
        given = all_properties(properties, more)
        uri, name, key = uri_or_none(uri), text_or_none("name", name), text_or_none("key", key)
        with self._mutex:
            self._check_open()
            event = _event(mlmd.Event.INPUT, key)
            if isinstance(artifact, str):
                new = described_artifact(
                    self._store, artifact, given, uri=uri, name=name, state=mlmd.Artifact.LIVE
                )
                known = self._stored(new.type_id, uri, name)
                if known is None:
                    stored = self._put(new, event)
                    self._input_names[stored.id] = set() if key is None else {key}
                    return stored
                artifact = known
            ((member, _),) = places_of([artifact])
            event.artifact_id = id_of(member)
            self._add_input(event, key)
            (stored,) = self._artifacts([event.artifact_id])
            return stored

    def output(
        self,
        artifact_type: str,
        /,
        *,
        uri: str | os.PathLike[str] | None = None,
        name: str | None = None,
        key: str | None = None,
        properties: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> mlmd.Artifact:
        """Put an artifact that this run has made; the artifact as it is stored.

        The type is made, or given the properties that it lacks, as needed. `properties` takes those
        whose names are not Python identifiers, or are parameters of this method. Raises
        AlreadyExistsError when the type has an artifact of this name.
        """
        given = all_properties(properties, more)
        uri, name, key = uri_or_none(uri), text_or_none("name", name), text_or_none("key", key)
        with self._mutex:
            self._check_open()
            new = described_artifact(
                self._store, artifact_type, given, uri=uri, name=name, state=mlmd.Artifact.PENDING
            )
            return self._put(new, _event(mlmd.Event.OUTPUT, key))

    def record(self, properties: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        """Set properties of the execution, at once: each call is a version in its history."""
        given = all_properties(properties, more)
        with self._mutex:
            self._check_open()
            described = described_execution(self._store, self._execution_type, given)
            with self._changed_execution() as execution:
                for name, value in described.properties.items():
                    execution.properties[name].CopyFrom(value)
                for name, value in described.custom_properties.items():
                    execution.custom_properties[name].CopyFrom(value)

    def _for_call(self, arguments: Arguments) -> Run:
        """The run of one call of the decorated function."""
        run = Run(
            self._store,
            self._execution_type,
            name=self._name,
            inputs=(),
            contexts=self._named_contexts,
            properties={**arguments.values, **self._properties},
            capture=self._capture,
        )
        run._places = [*arguments.places, *without_taken(self._places, arguments.places)]
        return run

    def _end(self, failure: BaseException | None) -> None:
        with self._mutex:
            self._check_open()
            self._is_open = False
            output_ids = self._output_ids()
            ended = [a for a in self._artifacts(output_ids) if a.state == mlmd.Artifact.PENDING]
            with self._changed_execution(ended) as execution:
                _set_custom(execution, {"duration_seconds": time.monotonic() - self._started})
                ended_as, state = mlmd.Execution.COMPLETE, mlmd.Artifact.LIVE
                if failure is not None:
                    ended_as, state = mlmd.Execution.FAILED, mlmd.Artifact.ABANDONED
                    _set_custom(execution, described_error(failure))
                # Somebody who has given it another state meanwhile knows better.
                if execution.last_known_state == mlmd.Execution.RUNNING:
                    execution.last_known_state = ended_as
                for artifact in ended:
                    artifact.state = state
            self._handed_out.end(self._artifacts(output_ids))

    def _check_open(self) -> None:
        if not self._is_open:
            raise FailedPreconditionError(
                f"the run {self._execution_type!r} is not open: call its methods inside of `with`"
            )

    def _add_input(self, event: mlmd.Event, key: str | None) -> None:
        names = self._input_names.get(event.artifact_id)
        if names is None:
            self._store.put_execution(
                self._stored_execution(), [(None, event)], self._own_contexts()
            )
            self._input_names[event.artifact_id] = set() if key is None else {key}
        elif key is not None and key not in names:
            # MLMD keeps one INPUT event of an artifact, and changes none.
            further = self._further_names.setdefault(key, [])
            further.append(event.artifact_id)
            with self._changed_execution() as execution:
                _set_custom(execution, {"further_input_names": self._further_names})
            names.add(key)

    @contextmanager
    def _changed_execution(
        self, artifacts: Iterable[mlmd.Artifact] = ()
    ) -> Iterator[mlmd.Execution]:
        """The execution, which is put with the artifacts at the end of the block."""
        execution, before = self._stored_execution(), mlmd.Execution()
        before.CopyFrom(execution)
        yield execution
        self._store.put_execution(execution, [(artifact, None) for artifact in artifacts], [])
        self._handed_out.take_over(before, self._stored_execution())

    def _put(self, artifact: mlmd.Artifact, event: mlmd.Event) -> mlmd.Artifact:
        _, (artifact_id,), _ = self._store.put_execution(
            self._stored_execution(), [(artifact, event)], self._own_contexts()
        )
        (stored,) = self._artifacts([artifact_id])
        return stored

    def _stored_execution(self) -> mlmd.Execution:
        (execution,) = self._store.get_executions_by_id([self.id])
        return execution

    def _output_ids(self) -> list[int]:
        """The outputs of all: a forked child's, too."""
        if self._execution_id is None:
            return []
        events = self._store.get_events_by_execution_ids([self._execution_id])
        return [event.artifact_id for event in events if event.type == mlmd.Event.OUTPUT]

    def _artifacts(self, ids: Iterable[int]) -> list[mlmd.Artifact]:
        """Artifacts by id, noted as handed out while the run is open."""
        wanted = list(ids)
        found = self._store.get_artifacts_by_id(wanted) if wanted else []
        if self._is_open:
            for artifact in found:
                self._handed_out.note_artifact(artifact)
        return found

    def _own_contexts(self) -> list[mlmd.Context]:
        return self._store.get_contexts_by_id(self._context_ids) if self._context_ids else []

    def _stored(self, type_id: int, uri: str | None, name: str | None) -> mlmd.Artifact | None:
        if uri is None:
            raise InvalidArgumentError("an input that is named by its type needs a uri")
        found = [
            artifact
            for artifact in self._store.get_artifacts_by_uri(uri)
            if artifact.type_id == type_id and name in (None, artifact.name)
        ]
        return max(found, key=lambda artifact: artifact.id, default=None)


def _type_name(execution_type: object) -> str:
    if callable(execution_type) and not isinstance(execution_type, str):
        raise InvalidArgumentError(
            'store.run takes the type of the execution: write `@store.run("Type")`, not '
            "`@store.run`, above a function"
        )
    return text_of("the type of an execution", execution_type)


def _event(event_type: Any, key: str | None) -> mlmd.Event:
    event = mlmd.Event(type=event_type)
    if key is not None:
        add_steps(event, (key,))
    return event


def _set_custom(execution: mlmd.Execution, values: Mapping[str, Any]) -> None:
    for name, given in values.items():
        value = to_value(name, given)
        if value is not None:
            execution.custom_properties[name].CopyFrom(value)


def _after_fork_in_child() -> None:
    # Another thread of the parent may have held the lock; here there is none to let go of it.
    for run in list(_living):
        run._mutex = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
