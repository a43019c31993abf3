"""The state of the store as of one position, read entity by entity."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from operator import index
from typing import Any, NamedTuple

from eventstore.errors import InvalidArgumentError, NotFoundError
from eventstore.log.kinds import VALUE_FIELDS, Node, NodeKind, NodeType, TypeKind
from eventstore.log.readable import read_message
from eventstore.log.record import Position
from eventstore.projections import Projections
from eventstore.projections.index_look_ups import lacking
from eventstore.projections.index_tables import HALF, TABLES_OF, hash64, name_key, type_name_key


def distinct_ids(ids: Iterable[int]) -> list[int]:
    """Each of the ids once, ascending.

    Raises TypeError for one that is no integer and ValueError for one beyond 64 bits, as a message
    that takes ids does.
    """
    if type(ids) is list and len(ids) == 1 and type(ids[0]) is int and -HALF <= ids[0] < HALF:
        # Mostly; the rest would take as long as the look-up.
        return ids
    found = sorted({*map(index, ids)})
    if found and not (found[0] >= -HALF and found[-1] < HALF):
        raise ValueError(f"Value out of range: {found[0] if found[0] < -HALF else found[-1]}")
    return found


class DeclaredType(NamedTuple):
    """A type's name, and for each declared property the field of a value that it takes."""

    name: str
    value_fields: dict[str, str | None]


class Snapshot:
    """Answers point look-ups as of `position` from the point index.

    Hashed keys may collide and may be out of date (a context was renamed, an external id moved),
    so every look-up by one of them reads the entity itself before it answers. Shared between
    threads.
    """

    def __init__(self, projections: Projections, position: Position) -> None:
        self.projections = projections
        self.position = position
        self.index = projections.index
        self._types: dict[tuple[NodeKind, int], bytes] = {}

    def newest(self, table: int, key: int) -> tuple[int, bytes] | None:
        """The (position, value) written last under `key`, None when there is none."""
        return self.index.newest(table, key, self.position)

    def entries(self, table: int, key: int) -> list[tuple[int, bytes]]:
        """Every (position, value) written under `key`, oldest first."""
        return self.index.entries(table, key, self.position)

    def newest_of_each(self, table: int, keys: Sequence[int]) -> dict[int, tuple[int, bytes]]:
        """What `newest` returns for those of `keys` that have an entry."""
        return self.index.newest_of_each(table, keys, self.position)

    def node_payload(self, kind: NodeKind, node_id: int) -> bytes | None:
        """The serialized node, None when there is no such id."""
        found = self.newest(TABLES_OF[kind].stored, node_id)
        return None if found is None else found[1]

    def exists(self, kind: NodeKind, node_id: int) -> bool:
        return self.newest(TABLES_OF[kind].stored, node_id) is not None

    def node_by_name(self, kind: NodeKind, type_id: int, name: str) -> Node | None:
        """The node that bears `name` within its type."""
        for node_id in self.linked_ids(TABLES_OF[kind].names, name_key(type_id, name)):
            node: Node = self._parsed(kind, node_id)
            if node.type_id == type_id and node.HasField("name") and node.name == name:
                return node
        return None

    def node_id_by_name(self, kind: NodeKind, type_id: int, name: str) -> int | None:
        """The id of the node that bears `name` within its type."""
        node = self.node_by_name(kind, type_id, name)
        return None if node is None else int(node.id)

    def id_by_external_id(self, kind: NodeKind | TypeKind, external_id: str) -> int | None:
        """The id of the node or type of this kind that bears `external_id`."""
        for entity_id in self.linked_ids(TABLES_OF[kind].external_ids, hash64(external_id)):
            entity = self._parsed(kind, entity_id)
            if entity.HasField("external_id") and entity.external_id == external_id:
                return entity_id
        return None

    def ids_by_external_ids(
        self, kind: NodeKind | TypeKind, external_ids: Collection[str]
    ) -> dict[str, int]:
        """The ids of the nodes or types with these external ids; unknown ones are left out.

        Raises NotFoundError when none of them is known, InvalidArgumentError for an empty one.
        """
        described = kind.name.replace("_", " ")
        if any(not external_id for external_id in external_ids):
            raise InvalidArgumentError(
                f"an external id of the {described}s asked for is empty: leave it out"
            )
        ids = {given: self.id_by_external_id(kind, given) for given in external_ids}
        found = {given: id_ for given, id_ in ids.items() if id_ is not None}
        if external_ids and not found:
            raise NotFoundError(f"no {described} has any of the external ids {list(external_ids)}")
        return found

    def newest_type(self, kind: NodeKind, type_id: int) -> tuple[int, bytes] | None:
        """The type's position and payload, None when there is no such id."""
        return self.newest(TABLES_OF[kind.type].stored, type_id)

    def type_payload(self, kind: NodeKind, type_id: int) -> bytes | None:
        """The serialized type, remembered: every node that is put asks for it."""
        known = self._types.get((kind, type_id))
        if known is None:
            found = self.newest_type(kind, type_id)
            if found is None:
                return None
            known = self._types[kind, type_id] = found[1]
        return known

    def type_by_id(self, kind: NodeKind, type_id: int) -> NodeType | None:
        """The type, shared between callers: copy it before changing anything."""
        payload = self.type_payload(kind, type_id)
        return None if payload is None else _parsed_type(kind.type.message, payload)

    def declared_type(self, kind: NodeKind, type_id: int) -> DeclaredType | None:
        """What a put of a node needs of its type."""
        payload = self.type_payload(kind, type_id)
        return None if payload is None else _declared(kind.type.message, payload)

    def type_by_name(self, kind: NodeKind, name: str, version: str | None) -> NodeType | None:
        """The type of this name and exactly this version; an empty version is none."""
        version = version or ""
        for type_id in self.linked_ids(TABLES_OF[kind.type].names, type_name_key(version, name)):
            node_type = self.type_by_id(kind, type_id)
            if node_type is not None and (node_type.name, node_type.version) == (name, version):
                return node_type
        return None

    def stored_type_id(self, kind: NodeKind, name: str, version: str | None) -> int | None:
        """The id of the type of this name and exactly this version, remembered between reads."""
        known = self.index.known_type_ids
        key = (TABLES_OF[kind.type].names, name, version or "")
        found = known.get(key)
        if found is not None and found[1] <= self.position:
            return found[0]
        node_type = self.type_by_name(kind, name, version)
        if node_type is None:
            return None
        # Types are never renamed, so it is there as of every later position, too.
        known[key] = (node_type.id, self.position)
        return int(node_type.id)

    def linked_ids(self, table: int, key: int) -> list[int]:
        """The distinct ids written under `key`, in ascending order."""
        ids = self.ids(table, key)
        return sorted({*ids}) if len(ids) > 1 else ids

    def ids(self, table: int, key: int) -> list[int]:
        """Every id written under `key`, oldest first."""
        return self.index.ids(table, key, self.position)

    def _parsed(self, kind: NodeKind | TypeKind, entity_id: int) -> Any:
        found = self.newest(TABLES_OF[kind].stored, entity_id)
        if found is None:
            raise lacking(kind, entity_id)
        return read_message(kind.message, found[1])


@lru_cache(maxsize=4096)
def _parsed_type(message: Any, payload: bytes) -> NodeType:
    """Parse a type once per version of it: every put of a node needs its type's properties."""
    node_type: NodeType = read_message(message, payload)
    return node_type


@lru_cache(maxsize=4096)
def _declared(message: Any, payload: bytes) -> DeclaredType:
    node_type = _parsed_type(message, payload)
    properties = node_type.properties
    fields = {name: VALUE_FIELDS.get(properties[name]) for name in properties}
    return DeclaredType(node_type.name, fields)
