"""What differs between two moments, entity by entity, in pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from eventstore.answers import ErasedByAnswer, FieldAnswer
from eventstore.errors import InvalidArgumentError
from eventstore.history.differences import EntityDifference, difference_of, new_link
from eventstore.history.versions import records_at
from eventstore.http_api.catalog import kept, tables_rows
from eventstore.http_api.entities import erasures_told
from eventstore.log.kinds import NODE_KINDS_BY_NAME
from eventstore.log.record import ENTITY_KIND_NAMES, Position
from eventstore.metadata_store.source import Source
from eventstore.plain_values import shown_struct
from eventstore.projections.index_tables import STORED_TABLES
from eventstore.projections.table_changes import LINK_TABLES
from eventstore.wording import quoted

_PUT: Final = "valid_from > $first AND valid_from <= $as_of"


class DifferenceRow(msgspec.Struct, frozen=True):
    """An entity that is new or different at the second moment, and which fields are."""

    kind: str
    id: int
    type: str | None
    name: str | None
    is_new: bool
    fields: list[FieldAnswer]
    erasures: list[ErasedByAnswer]


class Differences(msgspec.Struct, frozen=True):
    """Entities that differ, by kind and id. `touched` is how many were put between the moments.

    `after` leads on to further ones: a kind, and an id or, of links, a position.
    """

    touched: dict[str, int]
    differences: list[DifferenceRow]
    after: tuple[str, int] | None


def differences(
    source: Source,
    first: int,
    *,
    kind: str | None = None,
    after: tuple[str, int] | None = None,
    limit: int = 50,
) -> Differences:
    """What differs at the moment of the source from an earlier position.

    By kind and id, as `eventstore diff` tells it; of a kind, if one is given, and after what a
    page before has told.

    Raises InvalidArgumentError for positions in the wrong order and for another kind.
    """
    second = source.position()
    if first > second:
        raise InvalidArgumentError(
            f"the first moment (position {first}) is later than the second ({second}): swap them"
        )
    for one in (kind, None if after is None else after[0]):
        if one is not None and one not in ENTITY_KIND_NAMES:
            raise InvalidArgumentError(
                f"{quoted(one)} is no kind of entity: use one of {', '.join(ENTITY_KIND_NAMES)}"
            )
    counts = kept(source, ("touched", first), lambda: _counts(source, first))
    found: list[tuple[EntityDifference, int]] = []
    for of_kind in counts:
        if kind not in (None, of_kind) or _is_before(of_kind, after):
            continue
        key = after[1] if after is not None and after[0] == of_kind else 0
        while len(found) <= limit and (keys := _keys(source, of_kind, first, key, limit + 1)):
            found += _differing(source, of_kind, keys, Position(first), second)
            key = keys[-1]
    last = (found[limit - 1][0].kind, found[limit - 1][1]) if len(found) > limit else None
    return Differences(counts, [_row(one) for one, _ in found[:limit]], last)


def differences_of(
    source: Source, first: int, kind: str, ids: Sequence[int]
) -> dict[int, DifferenceRow]:
    """How those of some nodes of a kind differ that do, by id, from an earlier position."""
    second = source.position()
    found = {}
    for key in ids:
        told = difference_of(source.log, source.projections, kind, key, Position(first), second)
        if told is None:
            continue
        # What was erased before both is no difference.
        if told.is_new or told.fields or any(mark.position > first for mark in told.erasures):
            found[key] = _row(told)
    return found


def _differing(
    source: Source, kind: str, keys: Sequence[int], first: Position, second: Position
) -> Iterator[tuple[EntityDifference, int]]:
    """How those of some entities differ that do, each with its key."""
    if kind not in STORED_TABLES:
        for link in records_at(source.log, keys):
            yield new_link(link), link.position
        return
    for key in keys:
        told = difference_of(source.log, source.projections, kind, key, first, second)
        if told is not None:
            yield told, key


def _row(told: EntityDifference) -> DifferenceRow:
    is_node = told.kind in NODE_KINDS_BY_NAME
    return DifferenceRow(
        told.kind,
        told.id,
        told.after.type if is_node else None,
        getattr(told.after, "name", None) or None,
        told.is_new,
        [FieldAnswer(c.field, shown_struct(c.before), shown_struct(c.after)) for c in told.fields],
        erasures_told(told.erasures),
    )


def _counts(source: Source, first: int) -> dict[str, int]:
    """How many entities of each kind were put after a position, if any were."""
    found = {}
    for kind in ENTITY_KIND_NAMES:
        key, put = _key_and_rows(kind)
        ((count,),) = tables_rows(source, f"SELECT count(DISTINCT {key}) {put}", {"first": first})
        if count:
            found[kind] = count
    return found


def _key_and_rows(kind: str) -> tuple[str, str]:
    """What tells entities of a kind apart in the tables, and the rows of what was put."""
    table = LINK_TABLES.get(kind)
    if table is not None:
        return "valid_from", f"FROM {table} WHERE {_PUT}"
    if kind in NODE_KINDS_BY_NAME:
        return "id", f"FROM {kind}s WHERE {_PUT}"
    return "id", f"FROM types WHERE kind = '{kind}' AND {_PUT}"


def _keys(source: Source, kind: str, first: int, after: int, limit: int) -> list[int]:
    """The ids of nodes and types that were put after a position, or the positions of links.

    Ascending, after another one. Links have their ids in the order of their positions.
    """
    key, put = _key_and_rows(kind)
    sql = f"SELECT DISTINCT {key} {put} AND {key} > $after ORDER BY 1 LIMIT $limit"
    rows = tables_rows(source, sql, {"first": first, "after": after, "limit": limit})
    return [row[0] for row in rows]


def _is_before(kind: str, after: tuple[str, int] | None) -> bool:
    return after is not None and ENTITY_KIND_NAMES.index(kind) < ENTITY_KIND_NAMES.index(after[0])
