"""Whether anything can ever be in a scope: one that nothing is in would be believed to keep some.

Each member of a scope lets some entities through, told apart by kind: any of it, or those of some
types, in some contexts, or with some ids. Members that have no entity in common, now or later, let
nothing through together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from itertools import combinations

import msgspec

from eventstore.answers import Scope
from eventstore.errors import InvalidArgumentError
from eventstore.log import Log
from eventstore.log.kinds import (
    ARTIFACT,
    CONTEXT,
    ENTITY_KINDS,
    EXECUTION,
    LINK_KINDS,
    NODE_KINDS,
    Kind,
    NodeKind,
    TypeKind,
)
from eventstore.projections.filter import compile_filter
from eventstore.projections.index_tables import TABLES_OF
from eventstore.retention.choosing import chosen_versions
from eventstore.retention.planning import Wanted
from eventstore.retention.scopes import nodes_in_scope, type_id_of
from eventstore.store.snapshot import Snapshot

_INT64_MAX = 2**63 - 1
_SHOWN_MAX = 3
_WORDS = {
    "kinds": "the kinds",
    "type_ids": "the types",
    "context_ids": "the contexts",
    "entities": "the entities",
    "filter_query": "the filter",
}
"""What the members are called where the command line gives them, too."""


class _Some(msgspec.Struct, frozen=True):
    """Entities of a kind: those of some ids, of some types, and in some contexts; None: of any.

    Links have no type, types are in no context, and a node that is there may come into any.
    """

    ids: frozenset[int] | None = None
    type_ids: frozenset[int] | None = None
    context_ids: frozenset[int] | None = None

    def meet(self, other: _Some) -> _Some:
        """Those that are in both."""
        return _Some(
            _both(self.ids, other.ids),
            _both(self.type_ids, other.type_ids),
            _both(self.context_ids, other.context_ids),
        )


_Admitted = Mapping[str, _Some]
"""By kind what a member lets through; nothing of a kind that is not named."""


def check_scope(log: Log, snapshot: Snapshot, scope: Scope) -> None:
    """Raise InvalidArgumentError for what can hold for nothing, NotFoundError never.

    A kind that there is not, an id that no entity has, a filter that fits no kind of node, and
    members that cannot be met together.
    """
    members = {name: admitted for name, admitted in _members(snapshot, scope) if admitted}
    for count in range(2, len(members) + 1):
        for names in combinations(members, count):
            together = reduce(_meet, (members[name] for name in names))
            if not any(_may_be(log, snapshot, kind, some) for kind, some in together.items()):
                *first, last = (f"{_WORDS[n]} {_shown(getattr(scope, n))}" for n in names)
                raise InvalidArgumentError(
                    f"nothing can ever fit {', '.join(first)} and {last} together: leave one of "
                    "them out, or choose what has something in common"
                )


def count_nodes(log: Log, snapshot: Snapshot, scope: Scope) -> dict[str, int]:
    """How many nodes of each kind the scope is about now. Raises what `check_scope` does."""
    check_scope(log, snapshot, scope)
    return {
        kind.name: len(
            nodes_in_scope(
                snapshot,
                scope,
                kind,
                set(snapshot.index.keys(TABLES_OF[kind].stored, snapshot.position)),
                snapshot.position,
            )
        )
        for kind in NODE_KINDS
    }


def _members(snapshot: Snapshot, scope: Scope) -> Iterator[tuple[str, _Admitted]]:
    """By its name what each member that is given lets through; it says what no entity is."""
    for kind in (*scope.kinds, *(kind for kind, _ in scope.entities)):
        if kind not in ENTITY_KINDS:
            raise InvalidArgumentError(
                f"{kind!r} is no kind of entity: use some of {', '.join(ENTITY_KINDS)}"
            )
    yield "kinds", dict.fromkeys(scope.kinds, _Some())
    yield "type_ids", _of_types(snapshot, scope.type_ids)
    yield "context_ids", _of_contexts(snapshot, scope.context_ids)
    for kind, entity_id in scope.entities:
        if not _has_entity(snapshot, ENTITY_KINDS[kind], entity_id):
            raise InvalidArgumentError(f"there is no {kind.replace('_', ' ')} with id {entity_id}")
    yield (
        "entities",
        {
            kind: _Some(ids=frozenset(id_ for of, id_ in scope.entities if of == kind))
            for kind, _ in scope.entities
        },
    )
    if scope.filter_query:
        yield "filter_query", _of_filter(scope.filter_query)


def _of_types(snapshot: Snapshot, type_ids: Iterable[int]) -> _Admitted:
    found: dict[str, set[int]] = {}
    for type_id in type_ids:
        kinds = [kind for kind in NODE_KINDS if _is_stored(snapshot, kind.type, type_id)]
        if not kinds:
            raise InvalidArgumentError(f"there is no type with id {type_id}")
        for kind in kinds:
            found.setdefault(kind.name, set()).add(type_id)
    return {name: _Some(type_ids=frozenset(ids)) for name, ids in found.items()} | {
        f"{name}_type": _Some(ids=frozenset(ids)) for name, ids in found.items()
    }


def _of_contexts(snapshot: Snapshot, context_ids: Iterable[int]) -> _Admitted:
    for context_id in context_ids:
        if not _is_stored(snapshot, CONTEXT, context_id):
            raise InvalidArgumentError(f"there is no context with id {context_id}")
    ids = frozenset(context_ids)
    if not ids:
        return {}
    leading = (kind for kind in LINK_KINDS if any("context_id" in name for name, _ in kind.fields))
    return {
        CONTEXT.name: _Some(ids=ids),
        **dict.fromkeys((ARTIFACT.name, EXECUTION.name), _Some()),
        **{kind.name: _Some(context_ids=ids) for kind in leading},
    }


def _of_filter(text: str) -> _Admitted:
    found, refusals = {}, []
    for kind in NODE_KINDS:
        try:
            compile_filter(text, kind.name)
            found[kind.name] = _Some()
        except InvalidArgumentError as error:
            refusals.append(error)
    if not found:
        raise refusals[0]
    return found


def _meet(one: _Admitted, other: _Admitted) -> _Admitted:
    return {kind: one[kind].meet(other[kind]) for kind in one if kind in other}


def _both(one: frozenset[int] | None, other: frozenset[int] | None) -> frozenset[int] | None:
    if one is None or other is None:
        return other if one is None else one
    return one & other


def _may_be(log: Log, snapshot: Snapshot, kind_name: str, some: _Some) -> bool:
    """Whether there is such an entity, or may be later."""
    if some.ids is None:
        # Each set is of what there is; only a meeting is empty.
        return some.type_ids != frozenset() and some.context_ids != frozenset()
    kind = ENTITY_KINDS[kind_name]
    ids: Iterable[int] = some.ids
    if some.type_ids is not None and isinstance(kind, NodeKind):
        ids = [id_ for id_ in ids if type_id_of(snapshot, kind, id_) in some.type_ids]
    if some.context_ids is not None and ids:
        wanted = Wanted(basis="", content=False, who=True)
        links = chosen_versions(log, snapshot, [(kind_name, id_) for id_ in ids], wanted)
        contexts = {(CONTEXT.name, id_) for id_ in some.context_ids}
        ids = [link.id for link in links if not contexts.isdisjoint(link.ends)]
    return bool(ids)


def _shown(value: tuple[object, ...] | str) -> str:
    if isinstance(value, str):
        return repr(value)
    more = ", ..." if len(value) > _SHOWN_MAX else ""
    return ", ".join(map(repr, value[:_SHOWN_MAX])) + more


def _is_stored(snapshot: Snapshot, kind: NodeKind | TypeKind, entity_id: int) -> bool:
    if not 0 < entity_id <= _INT64_MAX:
        return False
    return snapshot.newest(TABLES_OF[kind].stored, entity_id) is not None


def _has_entity(snapshot: Snapshot, kind: Kind, entity_id: int) -> bool:
    if isinstance(kind, (NodeKind, TypeKind)):
        return _is_stored(snapshot, kind, entity_id)
    return 0 < entity_id <= snapshot.index.highest_id(kind.sequence)
