"""A run of code, recorded as it goes: an execution from RUNNING to COMPLETE or FAILED."""

from __future__ import annotations

import functools
import inspect
import logging
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Protocol, TypeVar

from eventstore.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    StatusError,
)
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.recording.surroundings import surroundings
from eventstore.recording.values import Properties, is_value, properties_of, to_value
from eventstore.repr_html import ShownInNotebooks

_LOGGER = logging.getLogger("eventstore")
_ATTEMPTS = 5
_ERROR_CHARACTERS_MAX = 10_000

Input = mlmd.Artifact | int
Inputs = Iterable[Input] | Mapping[str, Input | Iterable[Input]]
_Function = TypeVar("_Function", bound=Callable[..., Any])


class Store(Protocol):
    """The methods of a store that recording needs; all of them are MLMD's."""

    def get_artifact_type(self, type_name: str) -> mlmd.ArtifactType: ...
    def get_execution_type(self, type_name: str) -> mlmd.ExecutionType: ...
    def get_context_type(self, type_name: str) -> mlmd.ContextType: ...
    def put_artifact_type(
        self, artifact_type: mlmd.ArtifactType, can_add_fields: bool, can_omit_fields: bool
    ) -> int: ...
    def put_execution_type(
        self, execution_type: mlmd.ExecutionType, can_add_fields: bool, can_omit_fields: bool
    ) -> int: ...
    def put_context_type(
        self, context_type: mlmd.ContextType, can_add_fields: bool, can_omit_fields: bool
    ) -> int: ...
    def get_artifacts_by_id(self, artifact_ids: Iterable[int]) -> list[mlmd.Artifact]: ...
    def get_artifacts_by_uri(self, uri: str) -> list[mlmd.Artifact]: ...
    def get_executions_by_id(self, execution_ids: Iterable[int]) -> list[mlmd.Execution]: ...
    def get_contexts_by_id(self, context_ids: Iterable[int]) -> list[mlmd.Context]: ...
    def put_executions(self, executions: list[mlmd.Execution]) -> list[int]: ...
    def put_execution(
        self,
        execution: mlmd.Execution,
        artifact_and_events: list[tuple[mlmd.Artifact | None, mlmd.Event | None]],
        contexts: list[mlmd.Context],
        reuse_context_if_already_exist: bool = False,
    ) -> tuple[int, list[int], list[int]]: ...


class Run(ShownInNotebooks):
    """One run, or, as a decorator, one for each call of a function. Made by `store.run(...)`.

    Entering it records the execution as RUNNING with its inputs, contexts and surroundings; leaving
    it as COMPLETE, or as FAILED with the error when an exception ends the block. Outputs are
    PENDING until then, LIVE after success and ABANDONED after a failure. A process that is killed
    leaves its run RUNNING. Safe to use from several threads.
    """

    def __init__(
        self,
        store: Store,
        execution_type: str,
        *,
        name: str | None = None,
        inputs: Inputs = (),
        contexts: Mapping[str, str | Iterable[str]] | None = None,
        properties: Mapping[str, Any] | None = None,
        capture: bool = True,
    ) -> None:
        self._store = store
        self._execution_type = execution_type
        self._name = name
        self._given_inputs = inputs
        self._given_contexts = _named_contexts(contexts or {})
        self._properties = dict(properties or {})
        self._capture = capture
        self._mutex = threading.RLock()
        self._execution_id: int | None = None
        self._is_open = False
        self._context_ids: list[int] = []
        self._output_ids: list[int] = []
        self._input_ids: list[int] = []
        self._started = 0.0

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
        (execution,) = self._store.get_executions_by_id([self.id])
        return execution

    @property
    def inputs(self) -> list[mlmd.Artifact]:
        """The artifacts that the run has read, as the store has them now, by id."""
        return self._store.get_artifacts_by_id(self._input_ids) if self._input_ids else []

    @property
    def outputs(self) -> list[mlmd.Artifact]:
        """The artifacts that the run has made, as the store has them now, by id."""
        return self._store.get_artifacts_by_id(self._output_ids) if self._output_ids else []

    def __enter__(self) -> Run:
        with self._mutex:
            if self._execution_id is not None:
                raise FailedPreconditionError(
                    f"{self!r} was used already: call store.run(...) for another one"
                )
            events = [(None, event) for event in _input_events(self._given_inputs)]
            execution = self._described(self._properties)
            execution.last_known_state = mlmd.Execution.RUNNING
            if self._name is not None:
                execution.name = self._name
            if self._capture:
                for name, value in surroundings().items():
                    execution.custom_properties[name].CopyFrom(to_value(name, value))
            contexts = list(self._contexts())
            self._execution_id, _, self._context_ids = self._store.put_execution(
                execution, [*events], contexts, reuse_context_if_already_exist=True
            )
            self._input_ids += [event.artifact_id for _, event in events]
            self._is_open = True
            self._started = time.monotonic()
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        failure = None if _is_success(exception) else exception
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

        Arguments that are artifacts become inputs, plain ones properties, in addition to what the
        decorator says. A parameter that is named `run` and not given receives the Run.
        """
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise InvalidArgumentError(
                f"{function.__qualname__} is a generator: use `with store.run(...)` inside of it"
            )
        signature = inspect.signature(function)
        takes_run = "run" in signature.parameters

        def started(arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Run:
            given = signature.bind_partial(*arguments, **keywords)
            given.apply_defaults()
            named = {name: value for name, value in given.arguments.items() if name != "run"}
            return self._for_call(named)

        def with_run(run: Run, keywords: dict[str, Any]) -> dict[str, Any]:
            return {"run": run, **keywords} if takes_run else keywords

        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def recorded_later(*arguments: Any, **keywords: Any) -> Any:
                with started(arguments, keywords) as run:
                    return await function(*arguments, **with_run(run, keywords))

            return recorded_later  # type: ignore[return-value]

        @functools.wraps(function)
        def recorded(*arguments: Any, **keywords: Any) -> Any:
            with started(arguments, keywords) as run:
                return function(*arguments, **with_run(run, keywords))

        return recorded  # type: ignore[return-value]

    def input(
        self,
        artifact: mlmd.Artifact | int | str,
        /,
        *,
        uri: str | None = None,
        name: str | None = None,
        key: str | None = None,
        properties: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> mlmd.Artifact:
        """Note an input: an artifact, its id, or the type of one with its `uri` or `name`.

        Given a type, the stored artifact of this type and uri (and name) is taken, the most recent
        if there are several, and a new one is put when there is none; properties describe a new
        one. `key` names the input in its event. Answers the artifact.
        """
        with self._mutex:
            self._check_open()
            event = mlmd.Event(type=mlmd.Event.INPUT)
            if key is not None:
                event.path.steps.add().key = key
            if isinstance(artifact, str):
                new = self._described_artifact(artifact, {**(properties or {}), **more})
                known = self._stored(new.type_id, uri, name)
                if known is None:
                    _describe(new, uri, name)
                    new.state = mlmd.Artifact.LIVE
                    return self._put(new, event, self._input_ids)
                artifact = known
            artifact_id = artifact if isinstance(artifact, int) else artifact.id
            if artifact_id not in self._input_ids:
                event.artifact_id = artifact_id
                self._store.put_execution(self.execution, [(None, event)], self._own_contexts())
                self._input_ids.append(artifact_id)
            (stored,) = self._store.get_artifacts_by_id([artifact_id])
            return stored

    def output(
        self,
        artifact_type: str,
        /,
        *,
        uri: str | None = None,
        name: str | None = None,
        key: str | None = None,
        properties: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> mlmd.Artifact:
        """Put an artifact that this run has made; the artifact as it is stored.

        The type is made, or given the properties that it lacks, as needed. `properties` takes those
        whose names are no Python names, or that this method has parameters for. Raises
        AlreadyExistsError when the type has an artifact of this name.
        """
        with self._mutex:
            self._check_open()
            new = self._described_artifact(artifact_type, {**(properties or {}), **more})
            _describe(new, uri, name)
            new.state = mlmd.Artifact.PENDING
            event = mlmd.Event(type=mlmd.Event.OUTPUT)
            if key is not None:
                event.path.steps.add().key = key
            return self._put(new, event, self._output_ids)

    def record(self, properties: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        """Set properties of the execution, at once: each call is a version in its history."""
        with self._mutex:
            self._check_open()
            described = self._described({**(properties or {}), **more})
            execution = self.execution
            _take_over(described, execution)
            self._store.put_executions([execution])

    def _for_call(self, arguments: Mapping[str, Any]) -> Run:
        """The run of one call of the decorated function."""
        inputs: dict[str, list[Input]] = {}
        values: dict[str, Any] = {}
        for name, value in arguments.items():
            artifacts = value if isinstance(value, list | tuple) else [value]
            if artifacts and all(isinstance(member, mlmd.Artifact) for member in artifacts):
                inputs[name] = list(artifacts)
            elif is_value(value):
                values[name] = value
        for name, fixed in _by_name(self._given_inputs):
            inputs.setdefault(name, []).extend(fixed)
        return Run(
            self._store,
            self._execution_type,
            name=self._name,
            inputs=inputs,
            contexts=self._given_contexts,
            properties={**values, **self._properties},
            capture=self._capture,
        )

    def _end(self, failure: BaseException | None) -> None:
        with self._mutex:
            self._check_open()
            self._is_open = False
            execution = self.execution
            seconds = time.monotonic() - self._started
            execution.custom_properties["duration_seconds"].double_value = seconds
            execution.last_known_state = mlmd.Execution.COMPLETE
            state = mlmd.Artifact.LIVE
            if failure is not None:
                execution.last_known_state = mlmd.Execution.FAILED
                state = mlmd.Artifact.ABANDONED
                for name, text in _described_error(failure).items():
                    execution.custom_properties[name].string_value = text
            ended: list[tuple[mlmd.Artifact | None, mlmd.Event | None]] = []
            for artifact in self.outputs:
                # Somebody who has given it another state meanwhile knows better.
                if artifact.state == mlmd.Artifact.PENDING:
                    artifact.state = state
                    ended.append((artifact, None))
            self._store.put_execution(execution, ended, [])

    def _check_open(self) -> None:
        if not self._is_open:
            raise FailedPreconditionError(
                f"the run {self._execution_type!r} is not open: call its methods inside of `with`"
            )

    def _put(self, artifact: mlmd.Artifact, event: mlmd.Event, ids: list[int]) -> mlmd.Artifact:
        _, (artifact_id,), _ = self._store.put_execution(
            self.execution, [(artifact, event)], self._own_contexts()
        )
        ids.append(artifact_id)
        (stored,) = self._store.get_artifacts_by_id([artifact_id])
        return stored

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

    def _contexts(self) -> Iterator[mlmd.Context]:
        for type_name, names in self._given_contexts.items():
            try:
                type_id = self._store.get_context_type(type_name).id
            except NotFoundError:
                type_id = self._store.put_context_type(
                    mlmd.ContextType(name=type_name), can_add_fields=True, can_omit_fields=True
                )
            for name in names:
                yield mlmd.Context(type_id=type_id, name=name)

    def _described(self, values: Mapping[str, Any]) -> mlmd.Execution:
        """A new execution of the run's type, made or extended as needed, with properties."""
        found, type_id = _fitting(
            self._store.get_execution_type,
            self._store.put_execution_type,
            mlmd.ExecutionType(name=self._execution_type),
            values,
        )
        return mlmd.Execution(
            type_id=type_id, properties=found.typed, custom_properties=found.custom
        )

    def _described_artifact(self, type_name: str, values: Mapping[str, Any]) -> mlmd.Artifact:
        found, type_id = _fitting(
            self._store.get_artifact_type,
            self._store.put_artifact_type,
            mlmd.ArtifactType(name=type_name),
            values,
        )
        return mlmd.Artifact(
            type_id=type_id, properties=found.typed, custom_properties=found.custom
        )


def _fitting(
    get: Callable[[str], Any], put: Callable[..., int], empty: Any, values: Mapping[str, Any]
) -> tuple[Properties, int]:
    """Values divided by what a type declares, which is made or extended as needed, and its id."""
    for attempt in range(_ATTEMPTS):
        try:
            stored = get(empty.name)
        except NotFoundError:
            stored = None
        found = properties_of(values, {} if stored is None else dict(stored.properties))
        if stored is not None and not found.added:
            return found, stored.id
        wanted = type(empty)(name=empty.name, properties=found.added)
        try:
            return found, put(wanted, can_add_fields=True, can_omit_fields=True)
        except AlreadyExistsError:
            # Another process has just declared one of them, as something else.
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def _named_contexts(
    contexts: Mapping[str, str | Iterable[str]],
) -> dict[str, list[str]]:
    """The names of contexts by type, one name or several."""
    if not isinstance(contexts, Mapping):
        raise InvalidArgumentError(
            f"contexts maps names of types to names of contexts, such as {{'Pipeline': 'churn'}}; "
            f"{contexts!r} does not"
        )
    named = {}
    for type_name, given in contexts.items():
        names = [given] if isinstance(given, str) else list(given) if _is_iterable(given) else []
        if not names or not all(isinstance(name, str) for name in (type_name, *names)):
            raise InvalidArgumentError(
                f"contexts: {type_name!r} names a type, and what it stands for is the name of a "
                f"context or a list of names, not {given!r}"
            )
        named[type_name] = names
    return named


def _is_iterable(value: object) -> bool:
    return isinstance(value, Iterable)


def _input_events(inputs: Inputs) -> Iterator[mlmd.Event]:
    """An event for each input, once; those of a mapping bear their name and place."""
    seen = set[int]()
    for name, artifacts in _by_name(inputs):
        for index, artifact in enumerate(artifacts):
            artifact_id = artifact if isinstance(artifact, int) else artifact.id
            if artifact_id in seen:
                continue
            seen.add(artifact_id)
            event = mlmd.Event(type=mlmd.Event.INPUT, artifact_id=artifact_id)
            if name:
                event.path.steps.add().key = name
                event.path.steps.add().index = index
            yield event


def _by_name(inputs: Inputs) -> Iterator[tuple[str, list[Input]]]:
    if isinstance(inputs, mlmd.Artifact | int):
        raise InvalidArgumentError("inputs takes a list of artifacts, or a mapping from names")
    groups = inputs.items() if isinstance(inputs, Mapping) else [("", list(inputs))]
    for name, members in groups:
        group = [members] if isinstance(members, mlmd.Artifact | int) else list(members)
        for member in group:
            if isinstance(member, bool) or not isinstance(member, mlmd.Artifact | int):
                raise InvalidArgumentError(
                    f"inputs: {member!r} is neither an artifact nor an id; `run.input(type, "
                    "uri=...)` takes an input that may not be recorded yet"
                )
            if isinstance(member, mlmd.Artifact) and not member.HasField("id"):
                raise InvalidArgumentError(
                    f"inputs: the artifact with uri {member.uri!r} has no id: put it first, or use "
                    "`run.input(type, uri=...)`"
                )
        yield name, group


def _describe(artifact: mlmd.Artifact, uri: str | None, name: str | None) -> None:
    if uri is not None:
        artifact.uri = uri
    if name is not None:
        artifact.name = name


def _take_over(described: mlmd.Execution, execution: mlmd.Execution) -> None:
    for name, value in described.properties.items():
        execution.properties[name].CopyFrom(value)
    for name, value in described.custom_properties.items():
        execution.custom_properties[name].CopyFrom(value)


def _is_success(exception: BaseException | None) -> bool:
    return exception is None or (isinstance(exception, SystemExit) and not exception.code)


def _described_error(error: BaseException) -> dict[str, str]:
    """What is recorded of an error: its class and text, and where it came from."""
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    described = {
        "error": "".join(traceback.format_exception_only(type(error), error)).strip(),
        "traceback": "".join(lines),
    }
    # The end of a long text says more than its beginning; what cannot be encoded is escaped.
    return {
        name: text[-_ERROR_CHARACTERS_MAX:].encode(errors="backslashreplace").decode()
        for name, text in described.items()
    }
