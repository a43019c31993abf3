"""What a log says of the database that it follows: the newest record of each type, node and link.

A node takes 32 bytes of memory here. Nodes and links lie in blocks of 1,000 ids, each with a count
and a checksum that a database can compute, too, so that only blocks that differ are looked at.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import xxhash

from eventstore.log import Commit, Draft, Log
from eventstore.log import record as kind_names
from eventstore.log.kinds import KINDS
from eventstore.log.record import Record
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import retention_pb2 as retention
from eventstore.times import Microseconds, now_in_microseconds

BLOCK_IDS: Final = 1_000
NODE_MODULUS: Final = 1_000_000_007
LINK_MODULUS: Final = 1_000_003
"""What values enter a checksum by: PostgreSQL counts with the 32 bits that ids have."""

SEEN: Final = "seen in "
GONE: Final = "no longer in "
"""What the reason of a commit begins with that a follower made; GONE says so of what is in it."""

_RECENT_MICROSECONDS: Final = 60 * 1_000_000
_RECENT_MILLISECONDS: Final = 60 * 1_000
_PRUNED_FROM: Final = 10_000

_NODES: Final[dict[str, Any]] = {
    kind_names.CONTEXT: mlmd.Context,
    kind_names.ARTIFACT: mlmd.Artifact,
    kind_names.EXECUTION: mlmd.Execution,
}
_LINKS: Final = (kind_names.ATTRIBUTION, kind_names.ASSOCIATION, kind_names.EVENT)
_TYPES: Final = (kind_names.ARTIFACT_TYPE, kind_names.EXECUTION_TYPE, kind_names.CONTEXT_TYPE)
_IN_EFFECT: Final = (retention.Erasure.REQUESTED, retention.Erasure.COMPLETED)

_NO_POSITIONS: Final = array("q", [0]) * BLOCK_IDS


class KnownType(NamedTuple):
    """`position` is that of its newest record, `digest` of the message in it."""

    kind: str
    name: str
    position: int
    digest: int


class Block:
    """The nodes or links of one kind whose ids are `first` to `first + BLOCK_IDS - 1`.

    `count` and `checksum` are over all of them.
    """

    def __init__(self, first: int, modulus: int) -> None:
        self.first = first
        self._modulus = modulus
        self.count = 0
        self.checksum = 0
        self._positions = array("q", _NO_POSITIONS)
        self._values = array("q", _NO_POSITIONS)
        self._digests = array("Q", bytes(8 * BLOCK_IDS))
        self._identities = array("q", _NO_POSITIONS)

    def put(self, entity_id: int, position: int, value: int, digest: int, identity: int) -> None:
        self.remove(entity_id)
        at = entity_id - self.first
        self._positions[at] = position
        self._values[at] = value
        self._digests[at] = digest
        self._identities[at] = identity
        self.count += 1
        self.checksum += checked(entity_id, value, self._modulus)

    def remove(self, entity_id: int) -> None:
        at = entity_id - self.first
        if self._positions[at]:
            self.count -= 1
            self.checksum -= checked(entity_id, self._values[at], self._modulus)
            self._positions[at] = 0

    def position(self, entity_id: int) -> int:
        """That of its newest record, 0 without one."""
        return self._positions[entity_id - self.first]

    def value(self, entity_id: int) -> int:
        """When a node was last updated, a link's id: a row with another one has changed."""
        return self._values[entity_id - self.first]

    def digest(self, entity_id: int) -> int:
        return self._digests[entity_id - self.first]

    def identity(self, entity_id: int) -> int:
        return self._identities[entity_id - self.first]

    def ids(self) -> Iterator[int]:
        return (self.first + at for at, position in enumerate(self._positions) if position)


class Known:
    """What the log of a store says by now of the database that it follows."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.position = 0
        self.types: dict[int, KnownType] = {}
        self.parents: dict[tuple[int, int], int] = {}
        """The ids that parent contexts have in the log, by those of child and parent."""
        self.gone: dict[tuple[str, int], int] = {}
        """The positions where it is recorded that a type or node is no longer in the database."""
        self.erased: set[tuple[str, int]] = set()
        """Entities of which something was erased here: they are followed no more."""
        self.recent: dict[tuple[str, int], Microseconds] = {}
        """Nodes that may be updated again in the millisecond of their update, and since when.

        Such an update cannot be told by its time: they are compared as a whole for a minute.
        """
        self._newest_update = 0
        self._pruned_from = _PRUNED_FROM
        self._blocks: dict[str, dict[int, Block]] = {kind: {} for kind in (*_NODES, *_LINKS)}

    def catch_up(self) -> None:
        """Take in what the log has by now."""
        is_first = not self.position
        self._log.refresh()
        for commit in self._log.commits(self.position, self._log.position):
            self.take(commit)
            if len(self.recent) > self._pruned_from:
                self.prune(commit.recorded_at)
        if is_first and self.position:
            self.prune(self._log.recorded_at(self.position))
            # Nobody has watched them since they were recorded, nor what was imported.
            self.recent = dict.fromkeys(
                [*self.recent, *self._updated_last()], now_in_microseconds()
            )

    def prune(self, now: int) -> None:
        """Forget which nodes were recent a minute ago."""
        oldest = now - _RECENT_MICROSECONDS
        self.recent = {key: since for key, since in self.recent.items() if since > oldest}
        self._pruned_from = 2 * len(self.recent) + _PRUNED_FROM

    def take(self, commit: Commit) -> None:
        """Take in the next commit."""
        is_gone = (commit.who[1] or "").startswith(GONE)
        erases = any(record.kind == kind_names.ERASURE for record in commit.records)
        for record in commit.records:
            if record.kind == kind_names.ERASURE:
                self._take_erasure(record)
            elif record.kind not in kind_names.ENTITY_KIND_NAMES:
                continue
            elif erases or record.payload is None:
                self._forget(record.kind, record.entity_id)
            elif (record.kind, record.entity_id) not in self.erased:
                self._take_entity(record, record.payload, is_gone=is_gone)
        self.position = commit.last_position

    def block(self, kind: str, first: int) -> Block:
        """The block of a kind that begins at an id; an empty one where nothing is known."""
        return self._blocks[kind].get(first) or Block(first, _modulus(kind))

    def blocks(self, kind: str) -> Iterable[int]:
        """The first ids of the blocks of which something is known."""
        return self._blocks[kind]

    def node_count(self) -> int:
        return sum(block.count for kind in _NODES for block in self._blocks[kind].values())

    def again(self, position: int) -> Draft:
        """A draft that says again what a record says."""
        (row,) = (
            row
            for batch in self._log.scan(
                position - 1, position, ["kind", "entity_id", "type_id", "payload"]
            )
            for row in batch.to_pylist()
        )
        return Draft(row["kind"], row["entity_id"], row["type_id"], position, row["payload"])

    def _updated_last(self) -> Iterator[tuple[str, int]]:
        """The nodes of the last minute before the newest update, by the clock of MLMD."""
        after = self._newest_update - _RECENT_MILLISECONDS
        for kind in _NODES:
            for block in self._blocks[kind].values():
                yield from ((kind, each) for each in block.ids() if block.value(each) > after)

    def _take_entity(self, record: Record, payload: bytes, *, is_gone: bool) -> None:
        kind, entity_id = record.kind, record.entity_id
        digest = digest_of(payload)
        if kind in _TYPES:
            self.types.pop(entity_id, None)
            if not is_gone:
                name = KINDS[kind].message.FromString(payload).name
                self.types[entity_id] = KnownType(kind, name, record.position, digest)
        elif kind == kind_names.PARENT_CONTEXT:
            link = mlmd.ParentContext.FromString(payload)
            self.parents[link.child_id, link.parent_id] = entity_id
        else:
            block = self._made_block(kind, entity_id)
            if is_gone:
                block.remove(entity_id)
            elif kind in _LINKS:
                block.put(entity_id, record.position, entity_id, digest, 0)
            else:
                node = _NODES[kind].FromString(payload)
                value = node.last_update_time_since_epoch
                block.put(entity_id, record.position, value, digest, identity_of(node))
                self._newest_update = max(self._newest_update, value)
                if (record.reason or "").startswith(SEEN):
                    self.recent[kind, entity_id] = record.recorded_at
        self.gone.pop((kind, entity_id), None)
        if is_gone:
            self.gone[kind, entity_id] = record.position

    def _take_erasure(self, record: Record) -> None:
        if record.payload is None:
            return
        erasure = retention.Erasure.FromString(record.payload)
        if erasure.stage not in _IN_EFFECT:
            return
        for span in erasure.ranges:
            if span.content:
                for batch in self._log.scan(
                    span.first_position - 1, span.last_position, ["kind", "entity_id"]
                ):
                    for kind, entity_id in zip(*batch.to_pydict().values(), strict=True):
                        self._forget(kind, entity_id)

    def _forget(self, kind: str, entity_id: int) -> None:
        if kind in self._blocks:
            self._made_block(kind, entity_id).remove(entity_id)
            self.erased.add((kind, entity_id))

    def _made_block(self, kind: str, entity_id: int) -> Block:
        first = entity_id - entity_id % BLOCK_IDS
        return self._blocks[kind].setdefault(first, Block(first, _modulus(kind)))


def checked(entity_id: int, value: int, modulus: int) -> int:
    """What a node or link adds to the checksum of its block; SQL computes it, too."""
    # In SQL the remainder of a negative number is negative.
    remainder = abs(value) % modulus * (-1 if value < 0 else 1)
    return remainder * (entity_id % BLOCK_IDS + 1)


def _modulus(kind: str) -> int:
    return NODE_MODULUS if kind in _NODES else LINK_MODULUS


def digest_of(payload: bytes) -> int:
    digest: int = xxhash.xxh3_64_intdigest(payload)
    return digest


def identity_of(node: Any) -> int:
    """What no put of MLMD changes of a node, as a number."""
    return hash((node.type_id, node.create_time_since_epoch))
