"""What there is as of a moment: types with their counts, and the names of properties."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar
from weakref import WeakKeyDictionary

import msgspec

from eventstore.errors import InvalidArgumentError, NotFoundError
from eventstore.log.kinds import NODE_KINDS, NODE_KINDS_BY_NAME, VALUE_FIELDS, NodeKind
from eventstore.log.readable import read_message
from eventstore.metadata_store.source import Source
from eventstore.projections import Projections
from eventstore.projections.index_tables import TABLES_OF
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.wording import quoted

if TYPE_CHECKING:
    from eventstore.projections.tables import Tables

_KEPT_MAX: Final = 64

_Answer = TypeVar("_Answer")

_COUNTS: Final = """
SELECT type_id, count(*), max(id) FROM {kind}s
WHERE valid_from <= $as_of AND valid_to > $as_of GROUP BY type_id
"""
_PROPERTIES: Final = """
SELECT
    is_custom, name, count(*), count(int_value), count(double_value), count(string_value),
    count(bool_value), count(struct_value), count(proto_value)
FROM {kind}_properties
WHERE valid_from <= $as_of AND valid_to > $as_of {of_type}GROUP BY is_custom, name
"""
_OF_TYPE: Final = """
AND node_id IN (
    SELECT id FROM {kind}s
    WHERE valid_from <= $as_of AND valid_to > $as_of AND type_id IN (SELECT unnest($type_ids))
)
"""
_VALUE_TYPES: Final = ("INT", "DOUBLE", "STRING", "BOOLEAN", "STRUCT", "PROTO")


class DeclaredProperty(msgspec.Struct, frozen=True):
    """A property that a type declares, and its type: INT, DOUBLE, STRING, ..."""

    name: str
    type: str


class TypeSummary(msgspec.Struct, frozen=True):
    """A type of nodes, and how many nodes it has. `newest` is the one with the highest id."""

    kind: str
    id: int
    name: str
    version: str
    properties: list[DeclaredProperty]
    count: int
    newest: int | None
    newest_name: str | None


class UsedProperty(msgspec.Struct, frozen=True):
    """A property of nodes, as filters name it, on how many nodes it is, and of which types.

    `types` are those of its values, the most frequent first.
    """

    name: str
    nodes: int
    types: list[str]


class Totals(msgspec.Struct, frozen=True):
    """How many types, nodes and links of each kind there are, by kind."""

    counts: dict[str, int]
    types: list[TypeSummary]


def node_kind(kind: str) -> NodeKind:
    """A kind of nodes by its name. Raises InvalidArgumentError for another one."""
    found = NODE_KINDS_BY_NAME.get(kind)
    if found is None:
        raise InvalidArgumentError(
            f"{quoted(kind)} is no kind of node: use artifact, execution, context"
        )
    return found


def totals(source: Source) -> Totals:
    """How much there is as of the moment; types by kind, the most frequent first."""
    tables_of(source)
    counts = kept(source, ("counts",), lambda: source.projections.counts(source.position()))
    return Totals(counts, [one for kind in NODE_KINDS for one in types(source, kind.name)])


def types(source: Source, kind: str) -> list[TypeSummary]:
    """The types of nodes of a kind as of the moment, the most frequent first, with their counts."""
    of_kind = node_kind(kind)
    return kept(source, ("types", kind), lambda: _types(source, of_kind))


def types_named(source: Source, kind: str, name: str) -> list[TypeSummary]:
    """All versions of a type. Raises NotFoundError when there is none as of the moment."""
    found = [one for one in types(source, kind) if one.name == name]
    if not found:
        raise NotFoundError(
            f"no {kind} type is named {quoted(name)} at position {source.position()}"
        )
    return found


def used_properties(source: Source, kind: str) -> list[UsedProperty]:
    """The properties that nodes of a kind have as of the moment, the most frequent first."""
    of_kind = node_kind(kind)
    return kept(source, ("properties", kind), lambda: _used_properties(source, of_kind))


def properties_of_type(source: Source, kind: str, name: str) -> list[UsedProperty]:
    """The properties that nodes of a type have, in any of its versions, the most frequent first.

    Raises NotFoundError when there is no such type as of the moment.
    """
    of_kind = node_kind(kind)
    type_ids = [one.id for one in types_named(source, kind, name)]
    said = ("properties", kind, name)
    return kept(source, said, lambda: _used_properties(source, of_kind, type_ids))


def value_field(type_name: str) -> str | None:
    """Which field of a value a property of a type (INT, DOUBLE, ...) takes; None for UNKNOWN."""
    return VALUE_FIELDS.get(mlmd.PropertyType.Value(type_name))


def tables_rows(source: Source, sql: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
    """The rows of a query on the tables, folded up to the moment, which is bound to `as_of`."""
    return tables_of(source).query(sql, {"as_of": source.position(), **parameters})


def tables_of(source: Source) -> Tables:
    """The tables, folded up to the moment."""
    tables = source.projections.opened_tables()
    tables.fold(source.position())
    return tables


class _Kept:
    """Answers of one store, the newest of them; none from before an erasure."""

    def __init__(self) -> None:
        self.erased: object = None
        self.answers: OrderedDict[Any, Any] = OrderedDict()


_kept: Final[WeakKeyDictionary[Projections, _Kept]] = WeakKeyDictionary()


def kept(source: Source, what: tuple[Any, ...], make: Callable[[], _Answer]) -> _Answer:
    """An answer that depends on the moment alone, kept for the next who asks."""
    projections, position = source.projections, source.position()
    erased = source.log.content_epoch, projections.index.erasures.requested
    of_store = _kept.setdefault(projections, _Kept())
    if of_store.erased != erased:
        of_store.erased, of_store.answers = erased, OrderedDict()
    answers = of_store.answers
    found: _Answer | None = answers.get((what, position))
    if found is None:
        found = answers[what, position] = make()
        if len(answers) > _KEPT_MAX:
            answers.popitem(last=False)
    return found


def _types(source: Source, kind: NodeKind) -> list[TypeSummary]:
    snapshot = source.snapshot()
    rows = tables_rows(source, _COUNTS.format(kind=kind.name), {})
    counted = {type_id: (count, newest) for type_id, count, newest in rows}
    stored = TABLES_OF[kind].stored
    newest_nodes = snapshot.newest_of_each(stored, sorted(id_ for _, id_ in counted.values()))
    found = []
    for type_id in snapshot.index.keys(TABLES_OF[kind.type].stored, snapshot.position):
        node_type = snapshot.type_by_id(kind, type_id)
        if node_type is None:
            continue
        count, newest = counted.get(type_id, (0, None))
        name = None
        if newest in newest_nodes:
            name = read_message(kind.message, newest_nodes[newest][1]).name or None
        declared = [
            DeclaredProperty(name, mlmd.PropertyType.Name(node_type.properties[name]))
            for name in sorted(node_type.properties)
        ]
        found.append(
            TypeSummary(
                kind.name,
                type_id,
                node_type.name,
                node_type.version,
                declared,
                count,
                newest,
                name,
            )
        )
    return sorted(found, key=lambda one: (-one.count, one.name, one.version))


def _used_properties(
    source: Source, kind: NodeKind, type_ids: list[int] | None = None
) -> list[UsedProperty]:
    """Of all nodes, or of those of some types."""
    of_type = "" if type_ids is None else _OF_TYPE.format(kind=kind.name)
    sql = _PROPERTIES.format(kind=kind.name, of_type=of_type)
    rows = tables_rows(source, sql, {} if type_ids is None else {"type_ids": type_ids})
    found = []
    for is_custom, name, nodes, *counts in rows:
        by_type = sorted(zip(counts, _VALUE_TYPES, strict=True), key=lambda one: -one[0])
        said = f"{'custom_properties' if is_custom else 'properties'}.{name}"
        found.append(UsedProperty(said, nodes, [type_ for count, type_ in by_type if count]))
    return sorted(found, key=lambda one: (-one.nodes, one.name))
