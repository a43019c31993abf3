"""Which records an erasure is of: those of entities, or those at positions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from eventstore.errors import InvalidArgumentError, NotFoundError
from eventstore.log import Log, records_at
from eventstore.log.erased import Erased
from eventstore.log.kinds import ENTITY_KINDS, LINK_KINDS, NODE_KINDS_BY_NAME, RETENTION_KINDS
from eventstore.projections.index_tables import STORED_TABLES
from eventstore.retention.planning import Wanted
from eventstore.retention.precedence import ChosenVersion
from eventstore.store.snapshot import Snapshot

_Ends = tuple[tuple[str, int], ...]

_END_COLUMNS: Final = {
    column: column.removesuffix("_id").removeprefix("parent_")
    for kind in LINK_KINDS
    for column, _ in kind.fields
    if column.endswith("_id")
}
"""The columns of links that hold ids, and the kinds of nodes that these are of."""


def chosen_versions(
    log: Log,
    snapshot: Snapshot,
    entities: Iterable[tuple[str, int]],
    wanted: Wanted,
    version: int | None = None,
) -> list[ChosenVersion]:
    """All versions of some entities, or the one at a position, of what may be wanted.

    Raises InvalidArgumentError for a kind that does not have it, NotFoundError for an unknown
    entity or version.
    """
    asked: dict[tuple[str, int], None] = {}
    for kind, entity_id in entities:
        _check_kind(kind, wanted)
        if type(entity_id) is not int or not 0 < entity_id < 2**63:
            raise InvalidArgumentError(f"{entity_id!r} is no id of an entity: use a number")
        asked[kind, entity_id] = None
    links = {entity for entity in asked if entity[0] not in STORED_TABLES}
    of_links = _links(log, snapshot.position, links) if links else {}
    found = []
    for kind, entity_id in asked:
        if (kind, entity_id) in links:
            positions, ends = of_links.get((kind, entity_id), ([], ()))
        else:
            entries = snapshot.entries(STORED_TABLES[kind], entity_id)
            positions, ends = [position for position, _ in entries], ()
        words = kind.replace("_", " ")
        if not positions:
            raise NotFoundError(f"no {words} has id {entity_id}")
        if version is not None and version not in positions:
            raise NotFoundError(
                f"{words} {entity_id} has no version at position {version}: it has some at "
                f"{', '.join(map(str, positions))}"
            )
        found += [
            ChosenVersion(kind, entity_id, position, ends=ends)
            for position in (positions if version is None else [version])
        ]
    return found


def versions_at(log: Log, erased: Erased) -> Iterator[ChosenVersion]:
    """The records at positions, with the nodes that links lead from and to."""
    columns = ["position", "kind", "entity_id", *_END_COLUMNS]
    for batch in records_at(log, erased.content.union(erased.who), columns):
        for row in batch.to_pylist():
            yield ChosenVersion(
                ENTITY_KINDS[row["kind"]].name,
                row["entity_id"],
                row["position"],
                content=row["position"] in erased.content,
                who=row["position"] in erased.who,
                ends=_ends_of(row),
            )


def _check_kind(kind: str, wanted: Wanted) -> None:
    if kind in [of.name for of in RETENTION_KINDS]:
        raise InvalidArgumentError(
            f"a record of {'an' if kind == 'erasure' else 'a'} {kind.replace('_', ' ')} is never "
            "erased: it says what was kept and what was erased"
        )
    if not isinstance(kind, str) or kind not in ENTITY_KINDS:
        raise InvalidArgumentError(
            f"{kind!r} is no kind of entity: use one of {', '.join(ENTITY_KINDS)}"
        )
    if kind not in NODE_KINDS_BY_NAME and (wanted.redact or not wanted.who):
        what = "types are names of fields" if kind.endswith("_type") else "links are ids"
        raise InvalidArgumentError(
            f"{kind.replace('_', ' ')}: content is erased of artifacts, executions and contexts "
            f"alone, since {what} that others need; who put it can be erased: ask for `who`"
        )


def _links(
    log: Log, upto: int, links: set[tuple[str, int]]
) -> dict[tuple[str, int], tuple[list[int], _Ends]]:
    """By link the position of its record, and the nodes that it links."""
    found: dict[tuple[str, int], tuple[list[int], _Ends]] = {}
    for batch in log.scan(0, upto, ["position", "kind", "entity_id", *_END_COLUMNS]):
        entities = zip(batch["kind"].to_pylist(), batch["entity_id"].to_pylist(), strict=True)
        for number, entity in enumerate(entities):
            if entity in links:
                (row,) = batch.slice(number, 1).to_pylist()
                found[entity] = [row["position"]], _ends_of(row)
    return found


def _ends_of(row: Mapping[str, Any]) -> _Ends:
    ids = ((kind, row[name]) for name, kind in _END_COLUMNS.items())
    return tuple((kind, node_id) for kind, node_id in ids if node_id is not None)
