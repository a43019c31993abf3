"""Types that are made, or given the properties that they lack, as values need them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from eventstore.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.recording.texts import encodable, shown, text_of
from eventstore.recording.values import DOUBLE_WHOLE_MAX, to_value

_ATTEMPTS = 5

_KINDS = {
    "bool_value": mlmd.BOOLEAN,
    "int_value": mlmd.INT,
    "double_value": mlmd.DOUBLE,
    "string_value": mlmd.STRING,
    "struct_value": mlmd.STRUCT,
    "proto_value": mlmd.PROTO,
}


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
    def put_execution(
        self,
        execution: mlmd.Execution,
        artifact_and_events: list[tuple[mlmd.Artifact | None, mlmd.Event | None]],
        contexts: list[mlmd.Context],
        reuse_context_if_already_exist: bool = False,
    ) -> tuple[int, list[int], list[int]]: ...


class _Properties(NamedTuple):
    """`typed` fit the type once it declares `added`, too; `custom` do not fit what it declares."""

    typed: dict[str, mlmd.Value]
    custom: dict[str, mlmd.Value]
    added: dict[str, mlmd.PropertyType]


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
        names = (
            [given]
            if isinstance(given, str)
            else list(given)
            if isinstance(given, Iterable)
            else []
        )
        if not names or not all(isinstance(text, str) for text in (type_name, *names)):
            raise InvalidArgumentError(
                f"contexts: {shown(type_name)} names a type, and what it stands for is the name of "
                f"a context or a list of names, not {shown(given)}"
            )
        named[encodable(type_name)] = [encodable(name) for name in names]
    return named


def described_execution(
    store: Store, type_name: str, values: Mapping[str, Any], **fields: Any
) -> mlmd.Execution:
    """A new execution with properties, of a type that declares those, and other fields."""
    found, type_id = _fitting(
        store.get_execution_type,
        store.put_execution_type,
        mlmd.ExecutionType(name=type_name),
        values,
    )
    return mlmd.Execution(
        type_id=type_id, properties=found.typed, custom_properties=found.custom, **fields
    )


def described_artifact(
    store: Store, type_name: object, values: Mapping[str, Any], **fields: Any
) -> mlmd.Artifact:
    """A new artifact with properties, of a type that declares those, and other fields."""
    found, type_id = _fitting(
        store.get_artifact_type,
        store.put_artifact_type,
        mlmd.ArtifactType(name=text_of("the type of an artifact", type_name)),
        values,
    )
    return mlmd.Artifact(
        type_id=type_id, properties=found.typed, custom_properties=found.custom, **fields
    )


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
) -> tuple[_Properties, int]:
    """Values divided by what a type declares, which is made or extended as needed, and its id."""
    for attempt in range(_ATTEMPTS):
        try:
            stored = get(empty.name)
        except NotFoundError:
            stored = None
        found = _properties_of(values, {} if stored is None else dict(stored.properties))
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


def _properties_of(
    values: Mapping[str, Any], declared: Mapping[str, mlmd.PropertyType]
) -> _Properties:
    """Divide values by what a type declares; None stands for no value.

    What it does not declare yet is to be added. A whole number fits a property that is declared as
    a double, unless it is so large that it might be rounded; anything else of another kind than
    declared becomes a custom property, since those take every kind.
    """
    answer = _Properties({}, {}, {})
    for name, value in _named_values(values):
        kind = _KINDS[str(value.WhichOneof("value"))]
        known = declared.get(name)
        if known is None:
            answer.added[name] = kind
        elif (known, kind) == (mlmd.DOUBLE, mlmd.INT) and abs(value.int_value) <= DOUBLE_WHOLE_MAX:
            value = mlmd.Value(double_value=value.int_value)
        elif known != kind:
            answer.custom[name] = value
            continue
        answer.typed[name] = value
    return answer


def _named_values(values: Mapping[str, Any]) -> Iterator[tuple[str, mlmd.Value]]:
    names = dict[str, str]()
    for given_name, given in values.items():
        if not isinstance(given_name, str):
            raise InvalidArgumentError(f"the name of a property is text, not {shown(given_name)}")
        name = encodable(given_name)
        if name in names:
            raise InvalidArgumentError(
                f"the names {names[name]!r} and {given_name!r} of properties are stored as the "
                f"same text, {name!r}: give them different ones"
            )
        names[name] = given_name
        value = to_value(name, given)
        if value is not None:
            yield name, value
