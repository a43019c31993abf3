"""Puts of artifact, execution and context types: creation and evolution (contract of MLMD 1.17.1).

A stored type only ever grows: a later put may add properties, set the external id, and set the
base type once. Everything else of the first put stays.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from eventstore.errors import AlreadyExistsError, InvalidArgumentError, UnimplementedError
from eventstore.log.kinds import NODE_KINDS, TYPE_KINDS, TYPE_SEQUENCE, NodeKind, NodeType
from eventstore.projections.index_tables import TABLES_OF
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.store.transaction import Transaction
from eventstore.wording import quoted

if TYPE_CHECKING:
    from eventstore.proto import metadata_store_service_pb2 as service


def put_type(transaction: Transaction, kind: NodeKind, request: Any, response: Any) -> None:
    given = getattr(request, kind.type.name)
    (response.type_id,) = _put_types_of_kind(transaction, kind, [given], request)


def put_types(
    transaction: Transaction, request: service.PutTypesRequest, response: service.PutTypesResponse
) -> None:
    for kind in NODE_KINDS:
        types = getattr(request, f"{kind.type.name}s")
        type_ids = _put_types_of_kind(transaction, kind, types, request)
        getattr(response, f"{kind.type.name}_ids").extend(type_ids)


def _put_types_of_kind(
    transaction: Transaction, kind: NodeKind, types: Iterable[NodeType], options: Any
) -> list[int]:
    """Create or evolve each type in order; the ids, one per given type.

    `options` is any of the four type requests: its `can_add_fields` and `can_omit_fields` count.
    A type that was stored before the request is compared, at each mention, with what was stored
    then; the additions of all mentions add up.
    """
    if not options.all_fields_match:
        raise UnimplementedError("all_fields_match = false is not supported: leave it unset")
    stored_before: dict[int, NodeType] = {}
    ids = []
    for given in types:
        current = transaction.type_by_name(kind, given.name, given.version)
        if current is None:
            ids.append(_create(transaction, kind, given))
            continue
        baseline = stored_before.get(current.id)
        if baseline is None:
            baseline = current
            if transaction.newest_is_stored(TABLES_OF[kind.type].stored, current.id):
                stored_before[current.id] = current
        _evolve(transaction, kind, given, baseline, current, options)
        ids.append(current.id)
    return ids


def _create(transaction: Transaction, kind: NodeKind, given: NodeType) -> int:
    if not given.name:
        raise InvalidArgumentError(f"the {kind.name} type has no name: give it a non-empty one")
    if given.HasField("external_id"):
        _refuse_taken_external_id(transaction, kind, given)
    _refuse_unknown_property_types(kind, given, given.properties)
    _refuse_unset_base_type(kind, given)
    stored: NodeType = kind.type.message()
    stored.CopyFrom(given)
    stored.DiscardUnknownFields()
    if not stored.version:
        stored.ClearField("version")
    (stored.id,) = transaction.next_ids(TYPE_SEQUENCE)
    transaction.write(kind.type, stored)
    return int(stored.id)


def _evolve(
    transaction: Transaction,
    kind: NodeKind,
    given: NodeType,
    baseline: NodeType,
    current: NodeType,
    options: Any,
) -> None:
    described = f"{kind.name} type {quoted(given.name)}"
    _refuse_other_property_types(described, given.properties, baseline.properties)
    omitted = sorted(set(baseline.properties) - set(given.properties))
    if omitted and not options.can_omit_fields:
        raise AlreadyExistsError(
            f"{described} already exists with properties that the given one lacks: {omitted}; "
            "mention them, or set can_omit_fields"
        )
    added = {
        name: value for name, value in given.properties.items() if name not in baseline.properties
    }
    if added and not options.can_add_fields:
        raise AlreadyExistsError(
            f"{described} already exists without the given properties {sorted(added)}; "
            "set can_add_fields to add them"
        )
    _refuse_unknown_property_types(kind, given, added)
    _refuse_other_property_types(described, added, current.properties)
    evolved: NodeType = kind.type.message()
    evolved.CopyFrom(current)
    for name, property_type in added.items():
        evolved.properties[name] = property_type
    # An empty one changes nothing: it counts as a value only when a type is created.
    if given.external_id and current.external_id != given.external_id:
        _refuse_taken_external_id(transaction, kind, given)
        evolved.external_id = given.external_id
    _refuse_unset_base_type(kind, given)
    if given.HasField("base_type"):
        if current.HasField("base_type") and current.base_type != given.base_type:
            raise UnimplementedError(
                f"{described} has base type {current.base_type}: it cannot be changed to "
                f"{given.base_type}"
            )
        _refuse_cyclic_base_type(transaction, kind, given)
        evolved.base_type = given.base_type
    if evolved == current:
        return
    newest = transaction.newest(TABLES_OF[kind.type].stored, current.id)
    assert newest is not None
    transaction.write(kind.type, evolved, previous=newest)


def _refuse_other_property_types(described: str, given: Any, known: Any) -> None:
    for name, property_type in given.items():
        if name in known and known[name] != property_type:
            raise AlreadyExistsError(
                f"{described} already has property {quoted(name)} as "
                f"{mlmd.PropertyType.Name(known[name])}, not as "
                f"{mlmd.PropertyType.Name(property_type)}: give it a new name or version the type"
            )


def _refuse_unknown_property_types(kind: NodeKind, given: NodeType, properties: Any) -> None:
    for name, property_type in properties.items():
        if property_type == mlmd.UNKNOWN:
            raise InvalidArgumentError(
                f"property {quoted(name)} of {kind.name} type {quoted(given.name)} has type "
                "UNKNOWN: give it INT, DOUBLE, STRING, STRUCT, PROTO or BOOLEAN"
            )


def _refuse_unset_base_type(kind: NodeKind, given: NodeType) -> None:
    # 0 is UNSET in each of the three enums, and the only value that ContextType has.
    if given.HasField("base_type") and given.base_type == 0:
        raise UnimplementedError(
            f"base type UNSET of {kind.name} type {quoted(given.name)} is not supported: a "
            "base type cannot be removed; leave base_type out"
        )


def _refuse_cyclic_base_type(transaction: Transaction, kind: NodeKind, given: NodeType) -> None:
    """Refuse a system type as a base type of itself, directly or over other system types."""
    base_type, reached = given, set()
    while base_type is not None and base_type.HasField("base_type"):
        number = base_type.base_type
        value = kind.type.message.SystemDefinedBaseType.DESCRIPTOR.values_by_number[number]
        name = value.GetOptions().Extensions[mlmd.system_type_extension].type_name
        if name == given.name and not given.version:
            raise InvalidArgumentError(
                f"{kind.name} type {quoted(given.name)} cannot have itself as its base type"
            )
        if name in reached:
            return
        reached.add(name)
        base_type = transaction.type_by_name(kind, name, None)


def _refuse_taken_external_id(transaction: Transaction, kind: NodeKind, given: NodeType) -> None:
    # It is unique over all three kinds.
    if any(transaction.id_by_external_id(known, given.external_id) for known in TYPE_KINDS):
        raise AlreadyExistsError(
            f"external id {quoted(given.external_id)} of {kind.name} type "
            f"{quoted(given.name)} already belongs to another type"
        )
