"""Types that are made, or given the properties that they lack, as values need them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from eventstore.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.recording.texts import encodable, shown, text_of
from eventstore.recording.values import Properties, properties_of

_ATTEMPTS = 5


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
    def get_events_by_execution_ids(self, execution_ids: Iterable[int]) -> list[mlmd.Event]: ...
    def put_executions(self, executions: list[mlmd.Execution]) -> list[int]: ...
    def put_execution(
        self,
        execution: mlmd.Execution,
        artifact_and_events: list[tuple[mlmd.Artifact | None, mlmd.Event | None]],
        contexts: list[mlmd.Context],
        reuse_context_if_already_exist: bool = False,
    ) -> tuple[int, list[int], list[int]]: ...


def named_contexts(
    contexts: Mapping[str, str | Iterable[str]] | None,
) -> dict[str, list[str]]:
    """The names of contexts by type, one name or several."""
    if contexts is None:
        return {}
    if not isinstance(contexts, Mapping):
        raise InvalidArgumentError(
            f"contexts maps names of types to names of contexts, such as {{'Pipeline': 'churn'}}; "
            f"{shown(contexts)} does not"
        )
    named = {}
    for type_name, given in contexts.items():
        names = [given] if isinstance(given, str) else list(given) if _is_iterable(given) else []
        if not names or not all(isinstance(name, str) for name in (type_name, *names)):
            raise InvalidArgumentError(
                f"contexts: {shown(type_name)} names a type, and what it stands for is the name of "
                f"a context or a list of names, not {shown(given)}"
            )
        named[encodable(type_name)] = [encodable(name) for name in names]
    return named


def described_execution(store: Store, type_name: str, values: Mapping[str, Any]) -> mlmd.Execution:
    """A new execution with properties, of a type that declares those."""
    found, type_id = _fitting(
        store.get_execution_type,
        store.put_execution_type,
        mlmd.ExecutionType(name=type_name),
        values,
    )
    return mlmd.Execution(type_id=type_id, properties=found.typed, custom_properties=found.custom)


def described_artifact(store: Store, type_name: object, values: Mapping[str, Any]) -> mlmd.Artifact:
    """A new artifact with properties, of a type that declares those."""
    found, type_id = _fitting(
        store.get_artifact_type,
        store.put_artifact_type,
        mlmd.ArtifactType(name=text_of("the type of an artifact", type_name)),
        values,
    )
    return mlmd.Artifact(type_id=type_id, properties=found.typed, custom_properties=found.custom)


def described_contexts(store: Store, named: Mapping[str, list[str]]) -> list[mlmd.Context]:
    """Contexts by type and name, new or not."""
    contexts = []
    for type_name, names in named.items():
        try:
            type_id = store.get_context_type(type_name).id
        except NotFoundError:
            type_id = store.put_context_type(
                mlmd.ContextType(name=type_name), can_add_fields=True, can_omit_fields=True
            )
        contexts += [mlmd.Context(type_id=type_id, name=name) for name in names]
    return contexts


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


def _is_iterable(value: object) -> bool:
    return isinstance(value, Iterable)
