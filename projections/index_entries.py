"""What each record adds to the point index: said once, for puts, folds and builds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, Final

import msgspec

from eventstore.errors import DataLossError
from eventstore.log import Commit, kinds
from eventstore.log.kinds import KINDS, Kind, LinkKind
from eventstore.log.readable import UNREADABLE, read_message
from eventstore.projections import index_tables as tables
from eventstore.projections.erased_records import ErasedRecords, stub
from eventstore.projections.index_tables import (
    TABLES_OF,
    Entries,
    PendingEntries,
    add_entry,
    encode_id,
    event_key,
    hash64,
    name_key,
    type_name_key,
)

PAYLOAD: Final = "payload"
"""The value that is the record's message itself; every other one is a column of ids."""


class Rule(msgspec.Struct, frozen=True):
    """An entry that each record of a kind adds, in terms of the log's columns.

    The key is a column of ids, or the hash of some columns with a separator between their texts,
    which `hashed` makes of their values; where one is null, it is "". A record without a value of
    `present` adds no such entry, nor, with `is_of_first_version`, one that replaces another.
    """

    table: int
    key: tuple[str, ...]
    value: str
    separator: str = ""
    hashed: Callable[..., int] | None = None
    present: str | None = None
    is_of_first_version: bool = False


def _entity_rules(kind: Kind) -> tuple[Rule, ...]:
    own, is_type = TABLES_OF[kind], isinstance(kind, kinds.TypeKind)
    stored = Rule(own.stored, ("entity_id",), PAYLOAD)
    external_id = Rule(
        own.external_ids, ("external_id",), "entity_id", hashed=hash64, present="external_id"
    )
    if is_type:
        names = Rule(own.names, ("version", "name"), "entity_id", "\0", type_name_key)
        return stored, names, external_id
    # The name of an artifact or execution never changes, so its first version has said it.
    is_fixed = kind is not kinds.CONTEXT
    names = Rule(own.names, ("type_id", "name"), "entity_id", "/", name_key, "name", is_fixed)
    if kind is not kinds.ARTIFACT:
        return stored, names, external_id
    uri = Rule(tables.ARTIFACT_URIS, ("uri",), "entity_id", hashed=hash64)
    return stored, names, external_id, uri


RULES: Final[Mapping[Kind, tuple[Rule, ...]]] = {
    **{kind: _entity_rules(kind) for kind in (*kinds.TYPE_KINDS, *kinds.NODE_KINDS)},
    kinds.EVENT: (
        Rule(tables.EVENTS_BY_ARTIFACT, ("artifact_id",), PAYLOAD),
        Rule(tables.EVENTS_BY_EXECUTION, ("execution_id",), PAYLOAD),
        Rule(
            tables.EVENT_KEYS,
            ("artifact_id", "execution_id", "event_type"),
            "artifact_id",
            "/",
            event_key,
        ),
    ),
    kinds.ATTRIBUTION: (
        Rule(tables.ARTIFACTS_BY_CONTEXT, ("context_id",), "artifact_id"),
        Rule(tables.CONTEXTS_BY_ARTIFACT, ("artifact_id",), "context_id"),
    ),
    kinds.ASSOCIATION: (
        Rule(tables.EXECUTIONS_BY_CONTEXT, ("context_id",), "execution_id"),
        Rule(tables.CONTEXTS_BY_EXECUTION, ("execution_id",), "context_id"),
    ),
    kinds.PARENT_CONTEXT: (
        Rule(tables.PARENTS_BY_CONTEXT, ("context_id",), "parent_context_id"),
        Rule(tables.CHILDREN_BY_CONTEXT, ("parent_context_id",), "context_id"),
    ),
    **{
        kind: (Rule(table, ("entity_id",), PAYLOAD),)
        for kind, table in tables.RETENTION_TABLES.items()
    },
}
"""By kind the entries of its records. Each record of a put with a request id adds one more."""


def add_entries(
    pending: PendingEntries, kind: Kind, message: Any, payload: bytes, position: int, is_first: bool
) -> None:
    """Add the entries of a record: its message as such and as it is stored."""
    for table, key_of, value_of, is_added in _READERS[kind]:
        if is_added is None or is_added(message, is_first):
            by_key, key = pending[table], key_of(message)
            entry = (position, payload if value_of is None else encode_id(value_of(message)))
            if key in by_key:
                add_entry(by_key, key, entry)
            else:
                by_key[key] = entry


def add_event_entries(
    pending: PendingEntries,
    payload: bytes,
    position: int,
    artifact_id: int,
    execution_id: int,
    key: int,
) -> None:
    """What `add_entries` does for an event, of which there are very many, from what is at hand."""
    stored = (position, payload)
    for table, under, entry in (
        (tables.EVENTS_BY_ARTIFACT, artifact_id, stored),
        (tables.EVENTS_BY_EXECUTION, execution_id, stored),
        (tables.EVENT_KEYS, key, (position, encode_id(artifact_id))),
    ):
        by_key = pending[table]
        if by_key.setdefault(under, entry) is not entry:
            add_entry(by_key, under, entry)


_Adder = Callable[[int, int, bytes, int | None, str | None, str], None]


def new_node_adder(pending: PendingEntries, kind: kinds.NodeKind) -> _Adder:
    """What `add_entries` does for new nodes, of which there are very many, from what is at hand.

    That is the record's position, the node's id, its payload, the key of its name, its external id,
    and its uri; None for what it has not.
    """
    own, is_artifact = TABLES_OF[kind], kind is kinds.ARTIFACT
    stored, names, uris = pending[own.stored], pending[own.names], pending[tables.ARTIFACT_URIS]

    def add(
        position: int,
        node_id: int,
        payload: bytes,
        key: int | None,
        external_id: str | None,
        uri: str,
    ) -> None:
        stored[node_id] = (position, payload)
        entry = (position, encode_id(node_id))
        # Most keys are new.
        if key is not None and names.setdefault(key, entry) is not entry:
            add_entry(names, key, entry)
        if external_id is not None:
            add_entry(pending[own.external_ids], hash64(external_id), entry)
        if is_artifact:
            uri_key = hash64(uri)
            if uris.setdefault(uri_key, entry) is not entry:
                add_entry(uris, uri_key, entry)

    return add


def commit_entries(commit: Commit, erased: ErasedRecords | None = None) -> PendingEntries:
    """The entries of all records of a commit, but for its request id.

    `erased` tells what takes the place of content: a node without any is found by its id, and by
    the keys of what replaces it.
    """
    entries: PendingEntries = defaultdict(dict)
    for record in commit.records:
        content = payload = record.payload
        position, previous, kind = record.position, record.previous, KINDS[record.kind]
        if payload is None:
            if not isinstance(kind, kinds.NodeKind):
                continue
            payload = stub(kind, record.entity_id, record.type_id)
            content = None if erased is None else erased.replacement_of(position)
        is_first = previous is None or (erased is not None and erased.is_erased(previous))
        try:
            if content is None:
                stored = entries[TABLES_OF[kind].stored]
                add_entry(stored, record.entity_id, (position, payload))
                continue
            message = read_message(kind.message, content)
            add_entries(entries, kind, message, payload, position, is_first)
        except UNREADABLE as error:
            raise DataLossError(
                f"the record at position {position} is damaged: it does not decode "
                f"({error}); run `eventstore verify` and restore its segment from a backup"
            ) from None
    return entries


def add_request_id(entries: PendingEntries, commit: Commit) -> None:
    """Let the commit be found by its request id, if it has one."""
    request_id = commit.who[2]
    if request_id is not None:
        key = hash64(request_id)
        found: dict[int, Entries] = entries.setdefault(tables.REQUEST_IDS, {})
        for record in commit.records:
            if record.who_commitment is None:
                add_entry(found, key, (record.position, b""))


_Reader = tuple[
    int,
    Callable[[Any], int],
    Callable[[Any], int] | None,
    Callable[[Any, bool], bool] | None,
]
"""A rule on messages: its table, their key and their value, and whether they add an entry."""


def _reader(kind: Kind, rule: Rule) -> _Reader:
    fields = {"entity_id": "id", **(dict(kind.fields) if isinstance(kind, LinkKind) else {})}
    values_of: Callable[[Any], Any] = attrgetter(*(fields.get(name, name) for name in rule.key))
    value_of = None if rule.value == PAYLOAD else attrgetter(fields[rule.value])
    hashed, key_of, is_added = rule.hashed, values_of, None
    if hashed is not None:
        is_one = len(rule.key) == 1

        def key_of(message: Any) -> int:
            return hashed(values_of(message)) if is_one else hashed(*values_of(message))

    present, is_of_first_version = rule.present, rule.is_of_first_version
    if present is not None:

        def is_added(message: Any, is_first: bool) -> bool:
            return (is_first or not is_of_first_version) and message.HasField(present)

    return rule.table, key_of, value_of, is_added


_READERS: Final = {kind: [_reader(kind, rule) for rule in rules] for kind, rules in RULES.items()}
