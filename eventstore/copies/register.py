"""The register of erasures: what was erased of a store, kept apart from it and its backups.

A line of JSON for each erasure that is in effect, for each hold that was released, since what it
held may be erased after that, and one that says how many these are. A backup that is older than an
erasure still has what was erased; restoring it with the register erases it again before anything is
answered.

Records are named by their positions and the beginnings of their leaves. An erasure changes no leaf,
and no two histories of a store have the same one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Annotated, Final, TypeAlias
from uuid import UUID

import msgspec

from eventstore import errors
from eventstore.log import Log, Record, records_at
from eventstore.log.commit import records_of
from eventstore.log.erased import Spans
from eventstore.log.kinds import HOLD
from eventstore.log.leaf import leaf_hashes
from eventstore.log.os_errors import taking
from eventstore.log.regular_file import read_regular
from eventstore.proto import retention_pb2
from eventstore.retention.guards import Recorded, all_versions
from eventstore.store.erasures import StoredErasure, in_effect
from eventstore.store.snapshot import Snapshot
from eventstore.times import moment_of

LEAF_BYTES: Final = 16
"""So much of a leaf tells a record from all others."""

Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class NamedRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A record by its position and the first 16 bytes of its leaf hash, in base64 as JSON."""

    position: int
    leaf: bytes


class RegisteredPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The records that an erasure has taken the same of.

    `spans` are their positions, (first, last), ascending; `leaves` the leaves of all of them, one
    after the other. Where properties were `redacted`, `replaced_by` has for each record the
    position of what took its place, and `replacement_leaves` the leaves of these.
    """

    content: bool
    who: bool
    redacted: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]
    leaves: bytes
    replaced_by: tuple[int, ...]
    replacement_leaves: bytes

    def records(self) -> Iterator[tuple[int, bytes]]:
        """Position and leaf of each record."""
        return zip(self._positions(), _split(self.leaves), strict=True)

    def replacements(self) -> Iterator[tuple[int, bytes]]:
        """Position and leaf of what took the place of each record; nothing where none was."""
        return zip(self.replaced_by, _split(self.replacement_leaves), strict=True)

    def _positions(self) -> Iterator[int]:
        return chain.from_iterable(range(first, last + 1) for first, last in self.spans)

    def is_sound(self, end: int) -> bool:
        """Whether an erasure whose record is at `end` can have said so."""
        count, before = 0, 0
        for first, last in self.spans:
            if not before < first <= last < end:
                return False
            count, before = count + last - first + 1, last
        replaced = count if self.redacted else 0
        return (
            (self.content or self.who)
            and (self.content or not self.redacted)
            and len(self.leaves) == count * LEAF_BYTES
            and len(self.replaced_by) == replaced
            and len(self.replacement_leaves) == replaced * LEAF_BYTES
            and all(position > end for position in self.replaced_by)
        )


class RegisteredErasure(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="what", tag="erasure"
):
    """An erasure of a store: its number, the record that put it into effect, and what it is of.

    `rule` is the record of the rule by which that expired. It holds names of properties, positions
    and codes, and nothing of what was erased.
    """

    store_id: UUID
    number: int
    record: NamedRecord
    recorded_at: Moment
    basis: str
    ticket: str
    rule: NamedRecord | None
    parts: tuple[RegisteredPart, ...]

    @property
    def is_sound(self) -> bool:
        return all(part.is_sound(self.record.position) for part in self.parts)


class RegisteredRelease(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="what", tag="release"
):
    """The end of a hold: its number, the records of both, and the ticket it was released by."""

    store_id: UUID
    number: int
    record: NamedRecord
    recorded_at: Moment
    ticket: str
    placed: NamedRecord

    @property
    def is_sound(self) -> bool:
        return 0 < self.placed.position < self.record.position


class RegisterEnd(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="what", tag="end"
):
    """How many lines a store's register has before this one, as of a position."""

    store_id: UUID
    position: int
    lines: int


RegisteredLine: TypeAlias = RegisteredErasure | RegisteredRelease
Register: TypeAlias = list[RegisteredLine]


def registered(log: Log, snapshot: Snapshot) -> Register:
    """The erasures that are in effect as of a snapshot and the holds released, by position."""
    erasures = in_effect(snapshot.index, snapshot.position)
    released = [
        known
        for known in all_versions(snapshot, HOLD)
        if known[-1].message.stage == retention_pb2.Hold.RELEASED
    ]
    leaves = {
        record.position: leaf
        for record, leaf in with_leaves(log, _named_by(erasures, released), snapshot.position)
    }
    lines: Register = [_erasure(log, erasure, leaves) for erasure in erasures]
    lines += [_release(log, known, leaves) for known in released]
    return sorted(lines, key=lambda line: line.record.position)


def register_text(store_id: UUID, position: int, lines: Register) -> str:
    """The register of a store as it is kept."""
    every = [*lines, RegisterEnd(store_id, position, len(lines))]
    return "".join(msgspec.json.encode(line).decode() + "\n" for line in every)


def read_register(path: Path, store_id: UUID) -> Register:
    """What was recorded first comes first, each line once, of a store in a register.

    It may have other stores, too, and several registers of this one. Raises DataLossError for a
    line that is none and for a register that was cut, InvalidArgumentError for what is no file, and
    FailedPreconditionError where there are other stores' alone: to pass over a line would bring
    back what was erased.
    """
    with taking("reading", path, "one (an empty file if nothing was ever erased)"):
        text = read_regular(path)
    found: dict[NamedRecord, RegisteredLine] = {}
    ends: list[RegisterEnd] = []
    others = set()
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            said = msgspec.json.decode(
                line, type=RegisteredErasure | RegisteredRelease | RegisterEnd
            )
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise errors.DataLossError(
                f"{path}, line {number}: {error}; take the register as it was written"
            ) from None
        if not isinstance(said, RegisterEnd) and not said.is_sound:
            raise errors.DataLossError(f"{path}, line {number}: what it names cannot be")
        if said.store_id != store_id:
            others.add(str(said.store_id))
        elif isinstance(said, RegisterEnd):
            ends.append(said)
        else:
            found[said.record] = said
    if others and not found and not ends:
        raise errors.FailedPreconditionError(
            f"{path} has erasures of other stores alone ({', '.join(sorted(others))}), and none of "
            f"{store_id}: take the register of this one, or an empty file if nothing of it was "
            "ever erased"
        )
    if len(found) < max((end.lines for end in ends), default=1 if found else 0):
        raise errors.DataLossError(
            f"{path} lacks some of its lines: take the register as it was written"
        )
    if found and not ends:
        raise errors.DataLossError(
            f"{path} is cut off, since its last line is missing: take the register as it was "
            "written"
        )
    return sorted(found.values(), key=lambda line: (line.recorded_at, line.record.position))


def with_leaves(log: Log, spans: Spans, upto: int) -> Iterator[tuple[Record, bytes]]:
    """The records of a log at some positions up to one, and the beginnings of their leaves."""
    for batch in records_at(log, spans.within(1, upto), Record.__struct_fields__):
        records = [*records_of(batch)]
        for record, leaf in zip(records, leaf_hashes(log.store_id, records), strict=True):
            yield record, leaf[:LEAF_BYTES]


def _split(leaves: bytes) -> Iterator[bytes]:
    return (leaves[at : at + LEAF_BYTES] for at in range(0, len(leaves), LEAF_BYTES))


def _named_by(erasures: Iterable[StoredErasure], released: Iterable[list[Recorded]]) -> Spans:
    """The positions of all records whose leaves are in the register."""
    spans: list[tuple[int, int]] = []
    for erasure in erasures:
        single = {erasure.requested_at or 0, erasure.message.rule_position}
        for given in erasure.message.ranges:
            spans.append((given.first_position, given.last_position))
            single.add(given.replaced_by)
        spans += [(position, position) for position in single if position]
    for known in released:
        spans += [(at.position, at.position) for at in (known[0], known[-1])]
    return Spans.of(spans)


def _erasure(log: Log, erasure: StoredErasure, leaves: Mapping[int, bytes]) -> RegisteredErasure:
    assert erasure.requested_at is not None
    message = erasure.message
    alike: dict[tuple[bool, bool, tuple[str, ...]], list[retention_pb2.ErasedRange]]
    alike = defaultdict(list)
    for given in message.ranges:
        alike[given.content, given.who, tuple(given.redacted_properties)].append(given)
    parts = []
    for (content, who, redacted), ranges in alike.items():
        spans = Spans.of((given.first_position, given.last_position) for given in ranges)
        by = {
            position: given.replaced_by
            for given in ranges
            if redacted
            for position in range(given.first_position, given.last_position + 1)
        }
        replaced_by = tuple(by[position] for position in sorted(by))
        parts.append(
            RegisteredPart(
                content,
                who,
                redacted,
                tuple(spans),
                b"".join(leaves[position] for position in spans.positions()),
                replaced_by,
                b"".join(leaves[position] for position in replaced_by),
            )
        )
    rule = message.rule_position
    return RegisteredErasure(
        log.store_id,
        message.id,
        NamedRecord(erasure.requested_at, leaves[erasure.requested_at]),
        moment_of(log.recorded_at(erasure.requested_at)),
        message.basis,
        message.ticket,
        NamedRecord(rule, leaves[rule]) if rule else None,
        tuple(parts),
    )


def _release(log: Log, known: list[Recorded], leaves: Mapping[int, bytes]) -> RegisteredRelease:
    placed, released = known[0].position, known[-1].position
    return RegisteredRelease(
        log.store_id,
        known[-1].message.id,
        NamedRecord(released, leaves[released]),
        moment_of(log.recorded_at(released)),
        known[-1].message.release_ticket,
        NamedRecord(placed, leaves[placed]),
    )
