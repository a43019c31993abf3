"""Puts of artifacts, executions and contexts: insert, full update, masked update.

The rules are those of MLMD 1.17.1: the presence of `id` decides between insert and update, a full
update replaces the whole node except its name (of a context the name, too), and the update time
moves only when the given node differs from the stored one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any, Final

from eventstore.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
)
from eventstore.log.kinds import (
    ARTIFACT,
    CONTEXT,
    EXECUTION,
    VALUE_FIELDS,
    Node,
    NodeKind,
    NodeType,
)
from eventstore.log.readable import read_message
from eventstore.log.record import Draft
from eventstore.projections.erased_nodes import ERASED_BY, Tombstone
from eventstore.projections.index_entries import new_node_adder
from eventstore.projections.index_look_ups import lacking
from eventstore.projections.index_tables import TABLES_OF, name_key
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.store.transaction import Transaction
from eventstore.wording import excerpt, quoted, with_article

_UNDECLARED = ""

_EMPTY_VALUE = b"\x12\x00"
"""How the entry of a property without a value ends on the wire: field 2, of length 0."""

PROPERTY_MAPS = ("properties", "custom_properties")

_UPDATED_FIELDS: Final = {
    ARTIFACT: ("external_id", "state", "uri"),
    EXECUTION: ("external_id", "last_known_state"),
    CONTEXT: ("external_id", "name"),
}
"""The fields that a mask may name, apart from properties."""


def put_requested(transaction: Transaction, kind: NodeKind, request: Any, response: Any) -> None:
    """Answer PutArtifacts, PutExecutions or PutContexts."""
    guard = kind is ARTIFACT and request.options.abort_if_latest_updated_time_changed
    nodes, paths = getattr(request, kind.plural), request.update_mask.paths
    node_ids = put_nodes(transaction, kind, nodes, paths, guard_update_time=guard)
    getattr(response, f"{kind.name}_ids").extend(node_ids)


def put_nodes(
    transaction: Transaction,
    kind: NodeKind,
    nodes: Sequence[Node],
    mask_paths: Sequence[str] = (),
    *,
    guard_update_time: bool = False,
) -> list[int]:
    """Insert the nodes without an id, update the others; the ids of all."""
    # Looking up each name by itself would be most of the cost of putting many.
    keys = [*map(_name_key, nodes)]
    if len(keys) > 1:
        transaction.note_known(TABLES_OF[kind].names, [key for key in keys if key is not None])
    if not [node for node in nodes if node.HasField("id")]:
        return _insert_all(transaction, kind, nodes, keys)
    return [
        put_node(transaction, kind, node, mask_paths, guard_update_time=guard_update_time)
        for node in nodes
    ]


def put_node(
    transaction: Transaction,
    kind: NodeKind,
    given: Node,
    mask_paths: Sequence[str] = (),
    *,
    guard_update_time: bool = False,
    force_update_time: bool = False,
) -> int:
    """Insert `given`, or update the node whose id it carries; the node's id.

    `guard_update_time` refuses an update of a node that has changed since `given` was read.
    `force_update_time` moves the update time even when nothing else changes.
    """
    if not given.HasField("id"):
        return _insert_all(transaction, kind, [given], [_name_key(given)])[0]
    _update(transaction, kind, given, mask_paths, guard_update_time, force_update_time)
    return int(given.id)


def require_type_id(kind: NodeKind, given: Node) -> None:
    """Raise InvalidArgumentError when `given` names no type."""
    if not given.HasField("type_id"):
        raise InvalidArgumentError(
            f"Type id is missing: set type_id of {describe(kind, given)} to that of a stored type"
        )


def validated_type(transaction: Transaction, kind: NodeKind, given: Node) -> NodeType:
    """The type that `given` names by `type_id`.

    Raises InvalidArgumentError without a type id and NotFoundError when the kind has no such type.
    """
    require_type_id(kind, given)
    node_type = transaction.type_by_id(kind, given.type_id)
    if node_type is None:
        raise _unknown_type(kind, given)
    return node_type


def _unknown_type(kind: NodeKind, given: Node) -> NotFoundError:
    return NotFoundError(
        f"no {kind.name} type has id {given.type_id}, the type_id of "
        f"{describe(kind, given)}: put the type first"
    )


def check_properties(
    kind: NodeKind, given: Node, node_type: NodeType, names: Iterable[str] | None = None
) -> None:
    """Check the typed properties (those in `names`, or all) against the node's type."""
    declared, properties = node_type.properties, given.properties
    # Not by items(), which takes twice as long.
    for name in properties:
        if names is not None and name not in names:
            continue
        value = properties[name]
        if name not in declared:
            raise InvalidArgumentError(
                f"Found unknown property: {excerpt(name)} of {describe(kind, given)}: type "
                f"{quoted(node_type.name)} does not declare it"
            )
        if value.WhichOneof("value") != VALUE_FIELDS.get(declared[name]):
            raise InvalidArgumentError(
                f"Found unmatched property type: {excerpt(name)} of {describe(kind, given)}: type "
                f"{quoted(node_type.name)} declares {mlmd.PropertyType.Name(declared[name])}, "
                f"the value is {value.WhichOneof('value') or 'empty'}"
            )


def check_custom_properties(
    kind: NodeKind, given: Node, names: Iterable[str] | None = None
) -> None:
    """Refuse custom properties (those in `names`, or all) that carry no value."""
    properties = given.custom_properties
    for name in properties:
        if properties[name].WhichOneof("value") is None and (names is None or name in names):
            raise InvalidArgumentError(
                f"custom property {quoted(name)} of {describe(kind, given)} has no value: set "
                "one of the members of Value"
            )


def describe(kind: NodeKind, node: Node) -> str:
    """A node as error messages name it."""
    words = [kind.name]
    if node.HasField("id"):
        words.append(str(node.id))
    if node.HasField("name"):
        words.append(quoted(node.name))
    return " ".join(words) if len(words) > 1 else f"{with_article(kind.name)} without id and name"


def _name_key(given: Node) -> int | None:
    return name_key(given.type_id, given.name) if given.HasField("name") else None


def _insert_all(
    transaction: Transaction, kind: NodeKind, nodes: Sequence[Node], keys: Sequence[int | None]
) -> list[int]:
    """Insert the nodes, none of which has an id; `keys` are those of their names."""
    # Written flat, since each further step would be taken thousands of times.
    message, kind_name, is_artifact = kind.message, kind.name, kind is ARTIFACT
    drafts, now, tables = transaction.drafts, transaction.now_ms(), TABLES_OF[kind]
    names, new_names = transaction.pending[tables.names], transaction.absent_keys(tables.names)
    add_entries = new_node_adder(transaction.pending, kind)
    node_ids = transaction.next_ids(kind_name, len(nodes))
    positions = count(transaction.position + len(drafts) + 1)
    type_id, uri = 0, ""
    for given, key, node_id, position in zip(nodes, keys, node_ids, positions, strict=False):
        if given.type_id != type_id or type_id == 0:
            require_type_id(kind, given)
            type_id = given.type_id
            declared = transaction.declared_type(kind, type_id)
            if declared is None:
                raise _unknown_type(kind, given)
            type_name, value_fields = declared
        properties = given.properties
        for name in properties:
            if value_fields.get(name, _UNDECLARED) != properties[name].WhichOneof("value"):
                check_properties(kind, given, validated_type(transaction, kind, given))
        # Custom properties are checked before anything else is refused; otherwise by their bytes
        # below.
        if kind is CONTEXT and not given.name:
            check_custom_properties(kind, given)
            raise InvalidArgumentError("Context name should not be empty: give the context a name")
        if key is not None and (key in names or key not in new_names):
            check_custom_properties(kind, given)
            _refuse_taken_name(transaction, kind, type_id, type_name, given.name)
        external_id = None
        if given.HasField("external_id"):
            external_id = given.external_id
            check_custom_properties(kind, given)
            _refuse_taken_external_id(transaction, kind, external_id)
        stored: Node = message()
        stored.CopyFrom(given)
        stored.DiscardUnknownFields()
        stored.ClearField("system_metadata")
        stored.id = node_id
        stored.type = type_name
        stored.create_time_since_epoch = now
        stored.last_update_time_since_epoch = now
        if is_artifact:
            # A node without a uri has the empty one.
            stored.uri = uri = given.uri
        payload = stored.SerializeToString(deterministic=True)
        if _EMPTY_VALUE in payload:
            check_custom_properties(kind, given)
        drafts.append(Draft(kind_name, node_id, type_id, None, payload))
        add_entries(position, node_id, payload, key, external_id, uri)
    return [*node_ids]


def _update(
    transaction: Transaction,
    kind: NodeKind,
    given: Node,
    mask_paths: Sequence[str],
    guard_update_time: bool,
    force_update_time: bool,
) -> None:
    found = transaction.newest(TABLES_OF[kind].stored, given.id)
    if found is None:
        raise InvalidArgumentError(
            f"no {kind.name} has id {given.id}: leave the id out to insert a new one"
        )
    stored: Node = read_message(kind.message, found[1])
    if isinstance(found[1], Tombstone) and not transaction.is_repetition:
        raise FailedPreconditionError(
            f"{kind.name} {given.id} was erased by erasure "
            f"{stored.custom_properties[ERASED_BY].int_value}: it takes no puts any more; put a "
            "new one, without an id"
        )
    if guard_update_time and (
        given.last_update_time_since_epoch != stored.last_update_time_since_epoch
    ):
        raise FailedPreconditionError(
            f"{kind.name} {given.id} was updated at {stored.last_update_time_since_epoch} ms, "
            f"not at the given {given.last_update_time_since_epoch} ms: read it again and retry"
        )
    if given.HasField("type_id") and given.type_id != stored.type_id:
        raise InvalidArgumentError(
            f"{kind.name} {given.id} has type {stored.type_id}, not the given "
            f"{given.type_id}: the type of a node cannot be changed"
        )
    node_type = transaction.type_by_id(kind, stored.type_id)
    if node_type is None:
        raise lacking(kind.type, stored.type_id)
    typed, custom = (_masked_names(map_field, mask_paths) for map_field in PROPERTY_MAPS)
    check_properties(kind, given, node_type, typed)
    check_custom_properties(kind, given, custom)
    updated = _masked(kind, stored, given, mask_paths)
    if kind is not CONTEXT:
        _copy_field(updated, stored, "name")
    elif not updated.name:
        raise InvalidArgumentError(
            f"Context name should not be empty: context {given.id} needs a name in an update, too"
        )
    elif updated.name != stored.name:
        _refuse_taken_name(transaction, kind, node_type.id, node_type.name, updated.name)
    if updated.HasField("external_id") and not (
        stored.HasField("external_id") and stored.external_id == updated.external_id
    ):
        _refuse_taken_external_id(transaction, kind, updated.external_id)
    # Only masked properties count; of the other fields all do, masked or not.
    if not force_update_time and _changes_nothing(kind, given, updated, stored):
        return
    update_time = transaction.now_ms()
    if guard_update_time:
        update_time = max(update_time, stored.last_update_time_since_epoch + 1)
    # What a get answers from now on.
    updated.DiscardUnknownFields()
    updated.ClearField("system_metadata")
    updated.id = stored.id
    updated.type_id = node_type.id
    updated.type = node_type.name
    updated.create_time_since_epoch = stored.create_time_since_epoch
    updated.last_update_time_since_epoch = update_time
    if kind is ARTIFACT:
        # A node without a uri has the empty one.
        updated.uri = updated.uri
    transaction.write(kind, updated, previous=found)


def _masked(kind: NodeKind, stored: Node, given: Node, mask_paths: Sequence[str]) -> Node:
    """`stored` with the fields and properties that the mask names taken from `given`.

    Without a mask all are. Paths that name nothing updatable have no effect, as upstream.
    """
    updated: Node = kind.message()
    if not mask_paths:
        updated.CopyFrom(given)
        return updated
    updated.CopyFrom(stored)
    for field in _UPDATED_FIELDS[kind]:
        if field in mask_paths:
            _copy_field(updated, given, field)
    for map_field in PROPERTY_MAPS:
        target, source = getattr(updated, map_field), getattr(given, map_field)
        names = _masked_names(map_field, mask_paths)
        for name in {*source, *target} if names is None else names:
            if name in source:
                target[name].CopyFrom(source[name])
            elif name in target:
                del target[name]
    return updated


def _masked_names(map_field: str, mask_paths: Sequence[str]) -> set[str] | None:
    """The names of the properties that a mask names in one of the maps; None stands for all."""
    if not mask_paths or map_field in mask_paths:
        return None
    prefix = f"{map_field}."
    return {path.removeprefix(prefix) for path in mask_paths if path.startswith(prefix)}


def _copy_field(target: Node, source: Node, field: Any) -> None:
    if source.HasField(field):
        setattr(target, field, getattr(source, field))
    else:
        target.ClearField(field)


def _changes_nothing(kind: NodeKind, given: Node, updated: Node, stored: Node) -> bool:
    """Whether a put of `given` changes nothing in upstream's eyes: type id and times apart.

    Presence and value are compared, including `type` and `system_metadata`: a node as a get
    returned it is no change, one without its `type` moves the update time.
    """
    if _compared(kind, given) != _compared(kind, stored):
        return False
    return all(
        _values(getattr(updated, map_field)) == _values(getattr(stored, map_field))
        for map_field in PROPERTY_MAPS
    )


def _values(properties: Any) -> dict[str, bytes]:
    return {name: properties[name].SerializeToString(deterministic=True) for name in properties}


def _compared(kind: NodeKind, node: Node) -> Node:
    copy: Node = kind.message()
    copy.CopyFrom(node)
    for field in ("type_id", "create_time_since_epoch", "last_update_time_since_epoch"):
        copy.ClearField(field)
    for map_field in PROPERTY_MAPS:
        copy.ClearField(map_field)
    copy.DiscardUnknownFields()
    return copy


def _refuse_taken_name(
    transaction: Transaction, kind: NodeKind, type_id: int, type_name: str, name: str
) -> None:
    taken_by = transaction.node_id_by_name(kind, type_id, name)
    if taken_by is not None:
        raise AlreadyExistsError(
            f"{kind.name} {taken_by} of type {quoted(type_name)} already has the name "
            f"{quoted(name)}"
        )


def _refuse_taken_external_id(transaction: Transaction, kind: NodeKind, external_id: str) -> None:
    taken_by = transaction.id_by_external_id(kind, external_id)
    if taken_by is not None:
        raise AlreadyExistsError(
            f"{kind.name} {taken_by} already has the external id {quoted(external_id)}"
        )
