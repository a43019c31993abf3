"""Which commits put something of some kinds, or to nodes of some types."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from eventstore.http_api.catalog import tables_of
from eventstore.log.kinds import NODE_KINDS, RETENTION_KINDS, TYPE_KINDS
from eventstore.metadata_store.source import Source
from eventstore.projections.commit_list import CommitList
from eventstore.projections.index_tables import RETENTION_TABLES
from eventstore.projections.table_changes import LINK_TABLES

_FIRST_WINDOW: Final = 512
"""So many commits are looked at first, then twice as many, and so on."""

_NODES: Final = {kind.name: f"{kind.name}s" for kind in NODE_KINDS}
_WITHIN: Final = "valid_from BETWEEN $first AND $last"
_OF_TYPES: Final = """
type_id IN (SELECT id FROM types WHERE kind = '{kind}_type' AND name IN (SELECT unnest($types)))
"""


class CommitSelection:
    """Finds commits by the kinds and type names that `MetadataStore.changes` takes."""

    def __init__(self, source: Source, kinds: Sequence[str], types: Sequence[str]) -> None:
        """Without kinds, they are of all kinds; without types, of all types."""
        self._source = source
        self._types = list(types)
        self._sql = " UNION ".join(_parts(kinds, types))
        self._retention: set[int] = set()
        if not types:
            self._retention = {*_retention_positions(source, kinds)}

    def among(
        self, known: CommitList, numbers: range, actor: str | None, *, with_reason: bool
    ) -> Iterator[int]:
        """Those of some consecutive commits that touch such, the newest first.

        By an actor if one is given, and with a reason if asked. They are looked for in windows that
        grow, so that the first of many come soon.
        """
        tables = tables_of(self._source)
        window = _FIRST_WINDOW
        while numbers:
            here, numbers = numbers[-window:], numbers[:-window]
            first, last = known.positions(here[0])[0], known.positions(here[-1])[1]
            found = {position for position in self._retention if first <= position <= last}
            if self._sql:
                parameters: dict[str, Any] = {"first": first, "last": last}
                if self._types:
                    parameters["types"] = self._types
                found.update(position for (position,) in tables.query(self._sql, parameters))
            touched = {known.number_at(position) for position in found}
            for number in known.newest_first(here, actor, with_reason=with_reason):
                if number in touched:
                    yield number
            window *= 2


def _parts(kinds: Sequence[str], types: Sequence[str]) -> Iterator[str]:
    for kind, nodes in _NODES.items():
        if not kinds or kind in kinds:
            of_types = f" AND {_OF_TYPES.format(kind=kind)}" if types else ""
            yield f"SELECT valid_from FROM {nodes} WHERE {_WITHIN}{of_types}"
    for type_kind in TYPE_KINDS:
        if not kinds or type_kind.name in kinds:
            of_kind = f"SELECT valid_from FROM types WHERE {_WITHIN} AND kind = '{type_kind.name}'"
            yield f"{of_kind} AND name IN (SELECT unnest($types))" if types else of_kind
    for kind, links in LINK_TABLES.items():
        if not types and (not kinds or kind in kinds):
            yield f"SELECT valid_from FROM {links} WHERE {_WITHIN}"


def _retention_positions(source: Source, kinds: Sequence[str]) -> Iterator[int]:
    index, position = source.projections.index, source.position()
    for kind in RETENTION_KINDS:
        if not kinds or kind.name in kinds:
            for number in index.keys(RETENTION_TABLES[kind], position):
                yield from (at for at, _ in index.entries(RETENTION_TABLES[kind], number, position))
