"""What differs between a database and what a log says of it.

Every node and link of the database is counted, and weighed by the time of its last update or by its
id, in blocks; those that differ are looked at, whatever the order in which ids or times came to be.
Whole nodes are compared besides where a time cannot tell: for a minute after an update, and all of
them in turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final, NamedTuple

from eventstore import errors
from eventstore.importing.importer import draft_of
from eventstore.importing.known import (
    BLOCK_IDS,
    LINK_MODULUS,
    NODE_MODULUS,
    Known,
    checked,
    digest_of,
    identity_of,
)
from eventstore.importing.mlmd_database import MlmdDatabase
from eventstore.importing.mlmd_rows import MlmdReader, parent_context
from eventstore.log import Draft
from eventstore.log import record as kind_names
from eventstore.log.kinds import KINDS
from eventstore.proto import metadata_store_pb2 as mlmd

READ_AT_ONCE: Final = 5_000
"""How many nodes or links are read of one snapshot: an SQLite database is locked meanwhile."""
COMPARED_IN_TURN: Final = 1_000
_IDS_AT_ONCE: Final = 1_000
_GONE_AT_ONCE_MAX: Final = 1_000

_NODES: Final = {
    kind_names.CONTEXT: "Context",
    kind_names.ARTIFACT: "Artifact",
    kind_names.EXECUTION: "Execution",
}
_LINKS: Final = {
    kind_names.ATTRIBUTION: "Attribution",
    kind_names.ASSOCIATION: "Association",
    kind_names.EVENT: "Event",
}

_SUMS: Final = f"""
    SELECT id - id % {BLOCK_IDS} AS block, count(*) AS number,
        sum({{value}} % {{modulus}} * (id % {BLOCK_IDS} + 1)) AS checksum
    FROM {{table}} AS this GROUP BY id - id % {BLOCK_IDS}
"""
_SUM_OF_PARENTS: Final = f"""
    SELECT count(*) AS number,
        sum(context_id % {LINK_MODULUS} * (parent_context_id % {BLOCK_IDS} + 1)) AS checksum
    FROM {{ParentContext}} AS this
"""


class Changes(NamedTuple):
    """What to append: entities that are new or have changed.

    `gone` has the positions of the newest records of types and nodes that are not there any more,
    `gone_links` says how many links have gone since the last look; a log cannot record that. With
    `is_part` there is more, to be read from a later snapshot.
    """

    drafts: list[Draft]
    gone: list[int]
    gone_links: int
    is_part: bool


class _Difference(NamedTuple):
    changed: list[tuple[int, int]]
    """(value, id) of rows that are not known, or with another value."""

    gone: list[int]
    """The positions of what has no row."""


class Comparison:
    """Compares a database with what is known of it, again and again."""

    def __init__(self, database: MlmdDatabase, known: Known) -> None:
        self._database = database
        self._known = known
        self._in_turn: tuple[str, int] = (kind_names.CONTEXT, 0)
        self._left_out: set[tuple[str, int]] = set()
        self._gone_parents = 0
        self._parents_with_some_gone: tuple[int, int] | None = None
        self._gone_links: dict[int, tuple[str, tuple[int, ...]]] = {}
        """What links are of whose rows are gone, by the position of their records."""

    def changes(self) -> Changes:
        """What the database has now and the log does not say.

        Raises FailedPreconditionError where the database is not the one that the log is of.
        """
        reader = MlmdReader(self._database)
        drafts, gone = self._type_changes(reader)
        self._left_out |= {
            (kind_names.EVENT, row_id) for row_id in self._database.repeated_events()
        }
        by_kind = {kind: self._difference(kind) for kind in (*_NODES, *_LINKS)}
        updates = sorted(
            (value, order, row_id)
            for order, kind in enumerate(_NODES)
            for value, row_id in by_kind[kind].changed
        )
        is_part = len(updates) > READ_AT_ONCE
        kinds = list(_NODES)
        chosen = [(kinds[order], row_id) for _, order, row_id in updates[:READ_AT_ONCE]]
        drafts += self._node_drafts(reader, dict.fromkeys([*chosen, *self._doubtful()]))
        parents, gone_parents = self._parent_changes()
        gone_links = self._note_gone_links(by_kind) + gone_parents
        # Links come when all nodes are there, so that none precedes its ends.
        if not is_part:
            link_drafts = self._link_drafts(reader, by_kind)
            drafts += islice(link_drafts, READ_AT_ONCE)
            is_part = next(link_drafts, None) is not None
            drafts += parents
        gone_nodes = [position for kind in _NODES for position in by_kind[kind].gone]
        self._refuse_emptied(len(gone_nodes))
        gone += gone_nodes
        return Changes(drafts, sorted(gone), gone_links, is_part)

    def _type_changes(self, reader: MlmdReader) -> tuple[list[Draft], list[int]]:
        known, drafts, found = self._known, [], set[int]()
        for kind, message in reader.types():
            found.add(message.id)
            before = known.types.get(message.id)
            if before is not None and (before.kind, before.name) != (kind, message.name):
                raise self._another("type", message.id, "of another kind or name")
            previous = before.position if before else known.gone.get((kind, message.id))
            draft = draft_of(self._database, kind, message.id, message, previous)
            if before is None or before.digest != digest_of(draft.payload):
                drafts.append(draft)
        gone = [before.position for row_id, before in known.types.items() if row_id not in found]
        return drafts, gone

    def _difference(self, kind: str) -> _Difference:
        table = (_NODES | _LINKS)[kind]
        is_node = kind in _NODES
        value = "last_update_time_since_epoch" if is_node else "id"
        sums = _SUMS.format(
            table=f"{{{table}}}", value=value, modulus=NODE_MODULUS if is_node else LINK_MODULUS
        )
        found = {
            int(row["block"]): (row["number"], int(row["checksum"] or 0))
            for row in self._database.rows(sums)
        }
        difference = _Difference([], [])
        for first in sorted({*found, *self._known.blocks(kind)}):
            block = self._known.block(kind, first)
            if found.get(first, (0, 0)) != (block.count, block.checksum):
                self._look_at(difference, kind, table, value, first)
        return difference

    def _look_at(
        self, difference: _Difference, kind: str, table: str, value: str, first: int
    ) -> None:
        block = self._known.block(kind, first)
        rows = self._database.rows(
            f"SELECT id, {value} AS value FROM {{{table}}} AS this "
            "WHERE id >= :first AND id < :end",
            first=first,
            end=first + BLOCK_IDS,
        )
        values = {
            row["id"]: row["value"] for row in rows if (kind, row["id"]) not in self._left_out
        }
        for row_id, found in values.items():
            if (kind, row_id) not in self._known.erased and not (
                block.position(row_id) and block.value(row_id) == found
            ):
                difference.changed.append((found, row_id))
        difference.gone.extend(
            block.position(row_id) for row_id in block.ids() if row_id not in values
        )

    def _doubtful(self) -> Iterator[tuple[str, int]]:
        """Nodes whose time of update does not tell whether they have changed."""
        recent = list(islice(self._known.recent, READ_AT_ONCE))
        for key in recent:
            # The next time the others come first.
            self._known.recent[key] = self._known.recent.pop(key)
        yield from recent
        kind, after = self._in_turn
        left = COMPARED_IN_TURN
        for _ in range(len(_NODES) + 1):
            rows = self._database.rows(
                f"SELECT id FROM {{{_NODES[kind]}}} AS this WHERE id > :after "
                f"ORDER BY id LIMIT {left}",
                after=after,
            )
            yield from ((kind, row["id"]) for row in rows)
            left -= len(rows)
            if not left:
                self._in_turn = kind, rows[-1]["id"]
                return
            kinds = [*_NODES]
            kind, after = kinds[(kinds.index(kind) + 1) % len(kinds)], 0
        self._in_turn = kind, after

    def _node_drafts(self, reader: MlmdReader, keys: Iterable[tuple[str, int]]) -> Iterator[Draft]:
        """The drafts of those nodes that have changed, in the order given."""
        keys = iter(keys)
        while chunk := list(islice(keys, _IDS_AT_ONCE)):
            messages = {
                kind: reader.read(kind, [row_id for of, row_id in chunk if of == kind])
                for kind in _NODES
            }
            for kind, row_id in chunk:
                message = messages[kind].get(row_id)
                if message is not None and (kind, row_id) not in self._known.erased:
                    draft = self._node_draft(kind, row_id, message)
                    if draft is not None:
                        yield draft

    def _node_draft(self, kind: str, row_id: int, message: Any) -> Draft | None:
        block = self._known.block(kind, row_id - row_id % BLOCK_IDS)
        position = block.position(row_id)
        if position and block.identity(row_id) != identity_of(message):
            raise self._another(kind, row_id, "of another type or creation time")
        previous = position or self._known.gone.get((kind, row_id))
        draft = draft_of(self._database, kind, row_id, message, previous)
        if position and block.digest(row_id) == digest_of(draft.payload):
            return None
        return draft

    def _link_drafts(self, reader: MlmdReader, by_kind: dict[str, _Difference]) -> Iterator[Draft]:
        gone = set(self._gone_links.values())
        for kind in _LINKS:
            ids = iter(sorted(row_id for _, row_id in by_kind[kind].changed))
            while chunk := list(islice(ids, _IDS_AT_ONCE)):
                messages = reader.read(kind, chunk)
                for row_id in chunk:
                    if gone and (kind, _ends(messages[row_id])) in gone:
                        # The log has the link already, under the id that it had before.
                        self._left_out.add((kind, row_id))
                    else:
                        yield draft_of(self._database, kind, row_id, messages[row_id])

    def _note_gone_links(self, by_kind: dict[str, _Difference]) -> int:
        """How many links have gone since the last time."""
        positions = {position: kind for kind in _LINKS for position in by_kind[kind].gone}
        new = positions.keys() - self._gone_links.keys()
        self._gone_links = {
            position: ends for position, ends in self._gone_links.items() if position in positions
        }
        for position in new:
            kind = positions[position]
            message = KINDS[kind].message.FromString(self._known.again(position).payload)
            self._gone_links[position] = kind, _ends(message)
        return len(new)

    def _parent_changes(self) -> tuple[list[Draft], int]:
        """Drafts of new parent contexts, and how many have gone since the last time."""
        known = self._known.parents
        (row,) = self._database.rows(_SUM_OF_PARENTS)
        sums = row["number"], int(row["checksum"] or 0)
        checksum = sum(checked(parent, child, LINK_MODULUS) for child, parent in known)
        if sums in ((len(known), checksum), self._parents_with_some_gone):
            return [], 0
        found = list(self._database.parent_contexts())
        drafts: list[Draft] = []
        for ends in found:
            if ends not in known:
                number = max(known.values(), default=0) + len(drafts) + 1
                message = parent_context(*ends)
                drafts.append(draft_of(self._database, kind_names.PARENT_CONTEXT, number, message))
        gone = len(known) + len(drafts) - len(found)
        new, self._gone_parents = gone - self._gone_parents, gone
        self._parents_with_some_gone = None if drafts else sums
        return drafts, max(0, new)

    def _refuse_emptied(self, gone: int) -> None:
        """Raise FailedPreconditionError for what is likelier a database that was made anew."""
        if gone > _GONE_AT_ONCE_MAX and 2 * gone > (count := self._known.node_count()):
            raise errors.FailedPreconditionError(
                f"{self._database.name} has {gone} of {count} nodes no longer: if it was made anew "
                "or restored, import it into another store"
            )

    def _another(self, kind: str, row_id: int, what: str) -> errors.FailedPreconditionError:
        return errors.FailedPreconditionError(
            f"{kind} {row_id} of {self._database.name} is {what} than the store has: a store can "
            "follow only the database that it was imported from, and takes no other puts"
        )


def _ends(link: Any) -> tuple[int, ...]:
    """What no two links of a kind have in common."""
    if isinstance(link, mlmd.Event):
        return link.artifact_id, link.execution_id, link.type
    if isinstance(link, mlmd.Attribution):
        return link.context_id, link.artifact_id
    return link.context_id, link.execution_id
