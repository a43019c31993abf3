"""The tables of the point index, their keys, and what a key has of entries.

A table maps an int64 key to values. Nodes and types are found by id; names, external ids, uris and
event identities by a 64-bit hash, so whoever looks one up compares the entity itself as well.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

import msgspec
from xxhash import xxh3_64_intdigest

from eventstore.log import kinds
from eventstore.log.kinds import Kind

ARTIFACT_URIS: Final = 19
EVENTS_BY_ARTIFACT: Final = 20
EVENTS_BY_EXECUTION: Final = 21
EVENT_KEYS: Final = 22
ARTIFACTS_BY_CONTEXT: Final = 23
CONTEXTS_BY_ARTIFACT: Final = 24
EXECUTIONS_BY_CONTEXT: Final = 25
CONTEXTS_BY_EXECUTION: Final = 26
PARENTS_BY_CONTEXT: Final = 27
CHILDREN_BY_CONTEXT: Final = 28
REQUEST_IDS: Final = 29


class EntityTables(msgspec.Struct, frozen=True):
    """Where the nodes or the types of a kind are found: by id, by name, and by external id."""

    stored: int
    names: int
    external_ids: int


TABLES_OF: Final[Mapping[Kind, EntityTables]] = {
    kinds.ARTIFACT: EntityTables(1, 7, 10),
    kinds.EXECUTION: EntityTables(2, 8, 11),
    kinds.CONTEXT: EntityTables(3, 9, 12),
    kinds.ARTIFACT_TYPE: EntityTables(4, 13, 16),
    kinds.EXECUTION_TYPE: EntityTables(5, 14, 17),
    kinds.CONTEXT_TYPE: EntityTables(6, 15, 18),
}

STORED_TABLES: Final = {kind.name: tables.stored for kind, tables in TABLES_OF.items()}
"""Where the versions of a node or type are found by its id, by the name of its kind."""

LINK_TABLES: Final = {
    kinds.EVENT.name: EVENTS_BY_ARTIFACT,
    kinds.ATTRIBUTION.name: CONTEXTS_BY_ARTIFACT,
    kinds.ASSOCIATION.name: CONTEXTS_BY_EXECUTION,
    kinds.PARENT_CONTEXT.name: PARENTS_BY_CONTEXT,
}
"""Where there is one entry for each link of a kind."""

RETENTION_TABLES: Final[Mapping[Kind, int]] = {
    kinds.RETENTION_RULE: 30,
    kinds.HOLD: 31,
    kinds.ERASURE: 32,
}
"""Where the records of a rule, hold or erasure are found by its number."""

EVENTS_OF: Final = {kinds.ARTIFACT: EVENTS_BY_ARTIFACT, kinds.EXECUTION: EVENTS_BY_EXECUTION}
"""The events of a node."""

CONTEXTS_OF: Final = {kinds.ARTIFACT: CONTEXTS_BY_ARTIFACT, kinds.EXECUTION: CONTEXTS_BY_EXECUTION}
"""The contexts that a node is in."""

MEMBERS_OF: Final = {kinds.ARTIFACT: ARTIFACTS_BY_CONTEXT, kinds.EXECUTION: EXECUTIONS_BY_CONTEXT}
"""The nodes of a kind in a context."""

HALF: Final = 1 << 63
"""Taken off an unsigned 64-bit hash, so that it fits an int64."""

_ID: Final = struct.Struct("<q")

encode_id: Final[Callable[[int], bytes]] = _ID.pack
"""An id as the value of an entry."""

TABLES: Final = tuple(range(1, max(RETENTION_TABLES.values()) + 1))

Entry: TypeAlias = tuple[int, bytes]
"""The position of a record, and the value that it adds to a table under some key."""

Entries: TypeAlias = Entry | list[Entry]
"""What a key has, oldest first. Most have one, and a list for each of them would take as long to
make as all else that is kept of a record, and longer each time that garbage is collected."""

PendingEntries: TypeAlias = dict[int, dict[int, Entries]]
"""By table and key what a commit adds."""


def hash64(text: str) -> int:
    """A signed 64-bit key for a text: its XXH3."""
    try:
        return xxh3_64_intdigest(text.encode()) - HALF
    except AttributeError:
        # A text of a message that is not UTF-8 is bytes.
        return xxh3_64_intdigest(text) - HALF  # type: ignore[arg-type]


def name_key(type_id: int, name: str) -> int:
    """The key of a node's name, which is unique within its type."""
    return xxh3_64_intdigest(f"{type_id}/{name}".encode()) - HALF


def type_name_key(version: str, name: str) -> int:
    """The key of a type's version, "" for none, and name."""
    return hash64(f"{version}\0{name}")


def event_key(artifact_id: int, execution_id: int, event_type: int) -> int:
    """The key of what tells events apart."""
    return xxh3_64_intdigest(f"{artifact_id}/{execution_id}/{event_type}".encode()) - HALF


def add_entry(by_key: dict[int, Entries], key: int, entry: Entry) -> None:
    """Add an entry that is newer than all that the key has."""
    known = by_key.get(key)
    if known is None:
        by_key[key] = entry
    elif isinstance(known, list):
        known.append(entry)
    else:
        by_key[key] = [known, entry]


def as_sequence(entries: Entries | None) -> Sequence[Entry]:
    """The entries of a key, empty if it has none."""
    if isinstance(entries, list):
        return entries
    return () if entries is None else (entries,)


def newest_entry(entries: Entries) -> Entry:
    return entries[-1] if isinstance(entries, list) else entries


def decode_id(value: bytes) -> int:
    decoded: int = _ID.unpack(value)[0]
    return decoded
