"""Go to: by id, name, URI, external id, position or commit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from eventstore.http_api.catalog import node_kind, tables_rows, types
from eventstore.http_api.lists import NodeRow, node_rows
from eventstore.log.kinds import NODE_KINDS
from eventstore.metadata_store.source import Source

HitKind = Literal["artifact", "execution", "context", "type", "position", "commit"]

HITS_MAX: Final = 50

_NUMBER: Final = re.compile(
    r"(?:(artifact|execution|context|commit|position)s?\s*[/#]?\s*)?(\d{1,18})"
)
_BY: Final = ("name", "external_id", "uri", "start of the name", "part of the name")
_NODES: Final = """
SELECT id, CASE
    WHEN name = $text THEN 0 WHEN external_id = $text THEN 1 WHEN uri = $text THEN 2
    WHEN starts_with(lower(name), $lowered) THEN 3 ELSE 4 END AS place
FROM {kind}s
WHERE valid_from <= $as_of AND valid_to > $as_of
    AND (contains(lower(name), $lowered) OR external_id = $text OR uri = $text)
ORDER BY place, id DESC LIMIT $limit
"""


class Hit(msgspec.Struct, frozen=True):
    """What was found, and by what: `id`, `name`, `uri`, `external_id` or `part of the name`.

    `number` is its id, or the position, or the number of the commit. Nodes have a row.
    """

    kind: HitKind
    number: int
    by: str
    label: str
    node: NodeRow | None = None


def search(source: Source, text: str, *, limit: int = 20) -> list[Hit]:
    """What a text may mean as of the moment, the most likely first: ids, then types and names."""
    wanted = text.strip()
    if not wanted:
        return []
    found: dict[tuple[str, int], Hit] = {}
    for hit in (
        *_numbered(source, wanted),
        *_typed(source, wanted),
        *_named(source, wanted, limit),
    ):
        found.setdefault((hit.kind, hit.number), hit)
    return [*found.values()][:limit]


def _numbered(source: Source, text: str) -> Iterator[Hit]:
    """What bears a number as its id."""
    match = _NUMBER.fullmatch(text.lower())
    if match is None:
        return
    said, number = match.group(1), int(match.group(2))
    for kind in NODE_KINDS:
        if said in (None, kind.name):
            for row in node_rows(source, kind, [number], ()):
                yield _node_hit(row, "id")
    position = source.position()
    known = source.projections.commits(position)
    if said in (None, "commit") and 1 <= number <= known.count(position):
        yield Hit("commit", number, "id", f"commit {number}")
    if said in (None, "position") and 1 <= number <= position:
        yield Hit("position", number, "id", f"position {number}")


def _typed(source: Source, text: str) -> Iterator[Hit]:
    """Types that are named so, or begin so."""
    lowered = text.lower()
    for kind in NODE_KINDS:
        for one in types(source, kind.name):
            if one.name.lower().startswith(lowered) and (one.count or one.name == text):
                by = _BY[0] if one.name == text else _BY[3]
                yield Hit("type", one.id, by, f"{kind.name} type {one.name}")


def _named(source: Source, text: str, limit: int) -> Iterator[Hit]:
    """Nodes whose name has the text in it, or whose uri or external id it is."""
    asked = {"text": text, "lowered": text.lower(), "limit": limit}
    found = [
        (place, kind.name, node_id)
        for kind in NODE_KINDS
        for node_id, place in tables_rows(source, _NODES.format(kind=kind.name), asked)
    ]
    found.sort(key=lambda one: one[0])
    rows = {
        (row.kind, row.id): row
        for kind in NODE_KINDS
        for row in node_rows(source, kind, [id_ for _, of, id_ in found if of == kind.name], ())
    }
    for place, kind_name, node_id in found[:limit]:
        yield _node_hit(rows[kind_name, node_id], _BY[place])


def _node_hit(row: NodeRow, by: str) -> Hit:
    kind: HitKind = node_kind(row.kind).name  # type: ignore[assignment]
    return Hit(kind, row.id, by, row.name or f"{row.kind} {row.id}", row)
