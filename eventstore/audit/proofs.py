"""Proofs that can be checked without the store: of one record, and of two checkpoints' history.

FORMAT.md describes their texts; checking takes the bytes as they stand, so that no byte of a proof
can be changed unnoticed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec
from google.protobuf.message import DecodeError

from eventstore.audit.checkpoint import Checkpoint, Trust
from eventstore.audit.merkle_proofs import (
    consistency_path,
    includes,
    inclusion_path,
    is_consistent,
)
from eventstore.audit.proof_text import ConsistencyText, InclusionText
from eventstore.audit.subtree_heads import SubtreeHeads
from eventstore.errors import (
    DataLossError,
    InvalidArgumentError,
    OutOfRangeError,
)
from eventstore.log import Log, Progress, Record
from eventstore.log.kinds import KINDS
from eventstore.log.leaf import SALT_BYTES, leaf_hashes
from eventstore.log.readable import read_message
from eventstore.log.record import LATEST
from eventstore.log.record_check import ContentCheck, envelope_fault
from eventstore.plain_json import moment_text
from eventstore.times import microseconds_of
from eventstore.wording import counted


@dataclass(frozen=True, slots=True)
class InclusionProof:
    """That a record is part of the history that a checkpoint pins."""

    record: Record
    path: tuple[bytes, ...]
    checkpoint: Checkpoint

    @property
    def message(self) -> Any:
        """The artifact, execution, event, ... that the record holds; None once erased."""
        payload = self.record.payload
        return None if payload is None else read_message(KINDS[self.record.kind].message, payload)

    def to_text(self) -> str:
        """The proof as a C2SP `tlog-proof`, for whoever is to check it."""
        extra, index = msgspec.json.encode(self.record), self.record.position - 1
        return str(InclusionText(extra, index, self.path, self.checkpoint.text))

    @classmethod
    def check(cls, text: str, trust: Trust) -> InclusionProof:
        """Read a proof and check it against the key that signed its checkpoint, or by a policy.

        Raises InvalidArgumentError when the text is no such proof or its checkpoint does not hold
        by itself, DataLossError when the record is not part of what was signed.
        """
        parsed = InclusionText.parse(text)
        checkpoint = Checkpoint.parse(parsed.checkpoint, trust)
        record = _decoded(parsed.extra)
        if parsed.index != record.position - 1:
            raise InvalidArgumentError(
                f"the proof is of leaf {parsed.index}, its record that of leaf "
                f"{record.position - 1}"
            )
        proof = cls(record, parsed.path, checkpoint)
        proof.refuse_broken()
        return proof

    def refuse_broken(self) -> None:
        """Check the record and the path, wherever they come from; the checkpoint is believed.

        Raises InvalidArgumentError for what cannot be a record's, DataLossError when the record is
        not part of what the checkpoint states.
        """
        record, checkpoint = self.record, self.checkpoint
        if record.kind not in KINDS:
            raise InvalidArgumentError(f"the proof's record has no kind of record: {record.kind!r}")
        if not _has_content_or_commitment(record):
            raise InvalidArgumentError(
                "the proof's record needs a salt of 16 bytes and a payload, or in their place a "
                "commitment of 32"
            )
        if not _has_who_or_commitment(record):
            raise InvalidArgumentError(
                "the proof's record needs a salt of 16 bytes for who put it, or in place of that "
                "and them a commitment of 32"
            )
        if (fault := _fault(record)) is not None:
            raise DataLossError(f"the record of the proof is none that a put writes: {fault}")
        leaf = _leaf(checkpoint.store_id, record)
        if not includes(leaf, record.position - 1, checkpoint.size, self.path, checkpoint.root):
            raise DataLossError(
                f"the record at position {record.position} is not part of the history that the "
                f"checkpoint of {moment_text(checkpoint.signed_at)} states"
            )
        _refuse_later(record, checkpoint)


@dataclass(frozen=True, slots=True)
class ConsistencyProof:
    """That the history which a newer checkpoint pins begins with that of an older one."""

    older: Checkpoint
    newer: Checkpoint
    path: tuple[bytes, ...]

    def to_text(self) -> str:
        """The proof as a request to a C2SP `tlog-witness`, which is to cosign the newer checkpoint.

        The older checkpoint is not in it: whoever checks has it.
        """
        return str(ConsistencyText(self.older.size, self.path, self.newer.text))

    @classmethod
    def check(cls, text: str, older: Checkpoint, trust: Trust) -> ConsistencyProof:
        """Read a proof and check it against the key that signed its checkpoint, or by a policy.

        Raises InvalidArgumentError when the text is no such proof, starts from another size, or its
        checkpoint does not hold by itself; DataLossError when history was changed since `older`.
        """
        parsed = ConsistencyText.parse(text)
        newer = Checkpoint.parse(parsed.checkpoint, trust)
        if older.store_id != newer.store_id:
            raise DataLossError(
                f"the checkpoints are of two stores, {older.store_id} and {newer.store_id}"
            )
        if parsed.older != older.size:
            raise InvalidArgumentError(
                f"the proof starts from {counted(parsed.older, 'record')}, the older checkpoint "
                f"states {older.size}: use the checkpoint that the proof was made for"
            )
        proof = cls(older, newer, parsed.path)
        proof.refuse_broken()
        return proof

    def refuse_broken(self) -> None:
        """Check the path, wherever it comes from; both checkpoints are believed.

        Raises DataLossError when history was changed between them.
        """
        older, newer = self.older, self.newer
        if not is_consistent(older.size, newer.size, self.path, older.root, newer.root):
            raise DataLossError(
                f"the history of {counted(newer.size, 'record')} does not begin with that of "
                f"{older.size}: what the older checkpoint states was changed, or the proof was"
            )


def prove_inclusion(
    log: Log,
    heads: SubtreeHeads,
    position: int,
    checkpoint: Checkpoint,
    progress: Progress | None = None,
) -> InclusionProof:
    """Prove the record at a position to be part of what a checkpoint of this store states.

    Raises OutOfRangeError for a position after the checkpoint, NotFoundError when the checkpoint is
    another store's, DataLossError when the log is not as it was signed.
    """
    _check_store(log, checkpoint)
    if not 1 <= position <= checkpoint.size:
        raise OutOfRangeError(
            f"position {position} is not among the {counted(checkpoint.size, 'record')} of the "
            "checkpoint"
        )
    record = next(
        record
        for commit in log.commits(log.commit_end(position - 1), None)
        for record in commit.records
        if record.position == position
    )
    leaf = _leaf(log.store_id, record)
    for is_retry in (False, True):
        if is_retry:
            heads.forget()
        heads.extend(checkpoint.size, progress)
        path = inclusion_path(position - 1, checkpoint.size, heads.head)
        if includes(leaf, position - 1, checkpoint.size, path, checkpoint.root):
            return InclusionProof(record, tuple(path), checkpoint)
    raise _changed(checkpoint)


def prove_consistency(
    log: Log,
    heads: SubtreeHeads,
    older: Checkpoint,
    newer: Checkpoint,
    progress: Progress | None = None,
) -> ConsistencyProof:
    """Prove that what a newer checkpoint of this store states begins with what an older one does.

    Raises InvalidArgumentError when they are swapped, NotFoundError when one is another store's,
    DataLossError when the log is not as it was signed.
    """
    for checkpoint in (older, newer):
        _check_store(log, checkpoint)
    if older.size > newer.size:
        raise InvalidArgumentError(
            f"the older checkpoint has {counted(older.size, 'record')}, the newer {newer.size}: "
            "swap them"
        )
    for is_retry in (False, True):
        if is_retry:
            heads.forget()
        heads.extend(newer.size, progress)
        path = consistency_path(older.size, newer.size, heads.head)
        if is_consistent(older.size, newer.size, path, older.root, newer.root):
            return ConsistencyProof(older, newer, tuple(path))
    if heads.head(0, newer.size) != newer.root:
        raise _changed(newer)
    raise DataLossError(
        f"the records are those that {newer.signer} signed on {moment_text(newer.signed_at)}, and "
        f"do not begin with the {older.size} that the older checkpoint states, which "
        f"{older.signer} signed on {moment_text(older.signed_at)}: history was changed; keep both "
        "checkpoints, they show it"
    )


class OtherHistoryError(DataLossError):
    """A checkpoint states something else than the records of the store are."""


def _check_store(log: Log, checkpoint: Checkpoint) -> None:
    checkpoint.of_store(log.store_id)
    if checkpoint.size > log.position:
        raise OtherHistoryError(
            f"the checkpoint states {counted(checkpoint.size, 'record')}, the store has "
            f"{log.position}: some that were there when it was signed are missing"
        )


def _changed(checkpoint: Checkpoint) -> OtherHistoryError:
    return OtherHistoryError(
        f"the first {checkpoint.size} records are not those that {checkpoint.signer} signed on "
        f"{moment_text(checkpoint.signed_at)}: history was changed; verify the store with the "
        "checkpoint"
    )


def _leaf(store_id: UUID, record: Record) -> bytes:
    try:
        return next(leaf_hashes(store_id, [record]))
    except struct.error as error:
        raise InvalidArgumentError(f"the proof's record cannot be one: {error}") from None


def _has_content_or_commitment(record: Record) -> bool:
    if record.commitment is not None:
        return len(record.commitment) == 32 and record.salt is None and record.payload is None
    # Salt and payload are hashed as one: of another length, a byte could move between them.
    return record.salt is not None and len(record.salt) == SALT_BYTES and record.payload is not None


def _has_who_or_commitment(record: Record) -> bool:
    if record.who_commitment is None:
        return record.who_salt is not None and len(record.who_salt) == SALT_BYTES
    who = (record.who_salt, record.actor, record.reason, record.request_id)
    return len(record.who_commitment) == 32 and who == (None, None, None, None)


def _refuse_later(record: Record, checkpoint: Checkpoint) -> None:
    """Raise DataLossError for a record of another commit or time than its checkpoint allows."""
    found = (record.commit, record.recorded_at)
    stated = (checkpoint.commit, microseconds_of(checkpoint.recorded_at))
    is_last = record.position == checkpoint.size
    if found[0] > stated[0] or found[1] > stated[1] or (is_last and found != stated):
        raise DataLossError(
            f"the record at position {record.position} is of commit {record.commit}, recorded at "
            f"{record.recorded_at} µs, which its checkpoint does not reach to: that ends with "
            f"commit {checkpoint.commit}, recorded at {moment_text(checkpoint.recorded_at)}"
        )


def _fault(record: Record) -> str | None:
    """What a record's content and envelope disagree in."""
    if not 0 <= record.recorded_at <= LATEST:
        return f"it was recorded at {record.recorded_at} µs, which is no time of a record"
    if record.previous is not None and not 0 < record.previous < record.position:
        return f"it replaces position {record.previous}, which is not before it"
    if record.payload is None:
        return envelope_fault(record)
    content = ContentCheck()
    try:
        content.look_at(record, KINDS[record.kind].message.FromString(record.payload))
    except DecodeError as error:
        return f"its content cannot be read ({error})"
    return envelope_fault(record) or (content.fault[1] if content.fault else None)


def _decoded(extra: bytes | None) -> Record:
    """The record that a proof gives beside its hashes, encoded in the one way that is written."""
    if extra is None:
        raise InvalidArgumentError("the proof has no record as its extra data")
    try:
        record = msgspec.json.decode(extra, type=Record)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise InvalidArgumentError(f"the proof's extra data is no record: {error}") from None
    if msgspec.json.encode(record) != extra:
        raise InvalidArgumentError("the proof's extra data is no record as it was written")
    return record
