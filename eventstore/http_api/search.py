"""Go to: by id, name, URI, external id, position or commit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from typing import Final, Literal

import msgspec

from eventstore.http_api.catalog import node_kind, tables_rows, types
from eventstore.http_api.lists import NodeRow, node_rows
from eventstore.log.kinds import ARTIFACT, NODE_KINDS
from eventstore.metadata_store.source import Source
from eventstore.projections.index_tables import ARTIFACT_URIS, hash64

HitKind = Literal["artifact", "execution", "context", "type", "position", "commit"]

HITS_MAX: Final = 50

_NUMBER: Final = re.compile(
    r"(?:(artifact|execution|context|commit|position)s?\s*[/#]?\s*)?(\d{1,18})"
)
_BY: Final = ("name", "start of the name", "part of the name")
_NODES: Final = """
SELECT
    id,
    CASE WHEN {name} = $text THEN 0 WHEN starts_with({name}, $text) THEN 1 ELSE 2 END AS place
FROM {kind}s
WHERE valid_from <= $as_of AND valid_to > $as_of AND contains({name}, $text)
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
    for hit in chain(
        _numbered(source, wanted),
        _typed(source, wanted),
        _referred(source, wanted),
        _named(source, wanted, limit),
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
                by = _BY[0] if one.name == text else _BY[1]
                yield Hit("type", one.id, by, f"{kind.name} type {one.name}")


def _referred(source: Source, text: str) -> Iterator[Hit]:
    """Nodes whose uri or external id it is."""
    snapshot = source.snapshot()
    for kind in NODE_KINDS:
        node_id = snapshot.id_by_external_id(kind, text)
        for row in [] if node_id is None else node_rows(source, kind, [node_id], ()):
            yield _node_hit(row, "external_id")
    ids = snapshot.linked_ids(ARTIFACT_URIS, hash64(text))[-HITS_MAX:]
    for row in node_rows(source, ARTIFACT, ids[::-1], ("uri",)):
        if row.cells == [text]:
            yield _node_hit(row, "uri")


def _named(source: Source, text: str, limit: int) -> Iterator[Hit]:
    """Nodes whose name is the text or has it in it; in any case where none has it as it is."""
    found = _ranked(source, "name", text, limit) or _ranked(
        source, "lower(name)", text.lower(), limit
    )
    rows = {
        (row.kind, row.id): row
        for kind in NODE_KINDS
        for row in node_rows(source, kind, [id_ for _, of, id_ in found if of == kind.name], ())
    }
    for place, kind_name, node_id in found[:limit]:
        yield _node_hit(rows[kind_name, node_id], _BY[place])


def _ranked(source: Source, name: str, text: str, limit: int) -> list[tuple[int, str, int]]:
    """The place, the kind and the id of nodes with a text in their name, the best first."""
    asked = {"text": text, "limit": limit}
    found = [
        (place, kind.name, node_id)
        for kind in NODE_KINDS
        for node_id, place in tables_rows(source, _NODES.format(kind=kind.name, name=name), asked)
    ]
    return sorted(found, key=lambda one: one[0])


def _node_hit(row: NodeRow, by: str) -> Hit:
    kind: HitKind = node_kind(row.kind).name  # type: ignore[assignment]
    return Hit(kind, row.id, by, row.name or f"{row.kind} {row.id}", row)
