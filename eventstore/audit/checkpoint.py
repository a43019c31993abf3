"""Checkpoints: small signed texts that pin all of a store's history (c2sp.org/tlog-checkpoint).

Whoever keeps one outside the store can show later that nothing before it was changed, or that
something was. The text is

    eventstore/STORE-ID
    SIZE
    ROOT
    commit NUMBER
    recorded-at TIME
    signed-at TIME

and then the signature, which cosignatures may follow. SIZE is the number of records, ROOT the head
of their Merkle tree in base64, the commit is the one that ends there, and times are UTC with
microseconds.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from eventstore.audit.policy import Policy
from eventstore.audit.signed_note import Note, SigningKey, VerifierKey, opened
from eventstore.audit.statement import Statement
from eventstore.errors import (
    DataLossError,
    InvalidArgumentError,
    NotFoundError,
    OutOfRangeError,
)
from eventstore.log import Log, Progress, Record, SignedHead
from eventstore.log.commit import records_of
from eventstore.log.leaf import leaf_hashes
from eventstore.log.merkle import Frontier
from eventstore.plain_json import moment_text
from eventstore.times import microseconds_of, moment_of, now_in_microseconds
from eventstore.wording import counted

Trust = VerifierKey | Policy
"""What a checkpoint is checked with: the key of its signer, or a policy that names more."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint states, and `text`, the signed note that states it.

    `recorded_at` is that of the newest record, `signed_at` the signer's clock. `witnesses` are
    those of the policy that it was checked by, if any, which have cosigned it.
    """

    store_id: UUID
    size: int
    root: bytes
    commit: int
    recorded_at: datetime
    signed_at: datetime
    signer: str
    text: str
    witnesses: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str, trust: Trust) -> Checkpoint:
        """Read a checkpoint and check its signature, and all that a policy demands.

        Raises InvalidArgumentError when it is none, this key has not signed it as it stands, or
        signatures are missing that the policy demands.
        """
        if isinstance(trust, Policy):
            body, key, witnesses = trust.opened(text)
        else:
            body, key, witnesses = opened(text, trust), trust, ()
        return cls._of(body, key.name, text, witnesses)

    @classmethod
    def unchecked(cls, text: str) -> Checkpoint:
        """Read a checkpoint without checking who signed it, to prove something to who will.

        Raises InvalidArgumentError when it is none.
        """
        note = Note.parse(text)
        return cls._of(note.text, note.signatures[0][0], text, ())

    @classmethod
    def _of(cls, body: str, signer: str, text: str, witnesses: tuple[str, ...]) -> Checkpoint:
        try:
            stated = Statement.parse(body)
        except ValueError as error:
            raise InvalidArgumentError(
                f"signed by {signer}, but not a checkpoint of a store: {error}"
            ) from None
        return cls(
            stated.store_id,
            stated.size,
            stated.root,
            stated.commit,
            stated.recorded_at,
            stated.signed_at,
            signer,
            text,
            witnesses,
        )

    def of_store(self, store_id: UUID) -> SignedHead:
        """What a log is verified against. Raises NotFoundError when it is another store's."""
        if self.store_id != store_id:
            raise NotFoundError(
                f"the checkpoint is of store {self.store_id}, this is store {store_id}"
            )
        signed = f"{self.signer} signed on {moment_text(self.signed_at)}"
        recorded_at = microseconds_of(self.recorded_at)
        return SignedHead(self.size, self.root.hex(), self.commit, recorded_at, signed)


def signed_checkpoint(
    log: Log,
    position: int,
    key: SigningKey,
    *,
    previous: Checkpoint | None = None,
    progress: Progress | None = None,
) -> Checkpoint:
    """Sign the log's tree as of a position: what `statement_of` states."""
    return signed(statement_of(log, position, previous=previous, progress=progress), key)


def signed(statement: Statement, key: SigningKey) -> Checkpoint:
    """The checkpoint of a statement, signed now."""
    text = str(replace(statement, signed_at=moment_of(now_in_microseconds())))
    return Checkpoint.parse(key.signed(text), key.verifier_key)


def statement_of(
    log: Log,
    position: int,
    *,
    previous: Checkpoint | None = None,
    progress: Progress | None = None,
) -> Statement:
    """What a checkpoint of the log as of a position, which ends a commit, is to state.

    All records up to there are hashed: whoever can write the files can change a head that is stored
    or cached. `progress` counts records.

    Raises OutOfRangeError for a log that is empty there: it has nothing to sign. DataLossError when
    the records do not give the tree head that is stored with them, or do not begin with those that
    `previous` states. NotFoundError when that is another store's, InvalidArgumentError when it
    states more than `position`.
    """
    if position < 1:
        raise OutOfRangeError("the store is empty: there is nothing to sign")
    tree = _HashedRecords(log)
    if previous is not None:
        stated = _stated_before(log, position, previous)
        tree.extend(stated.size, position, progress)
        tree.refuse_other(stated)
    tree.extend(position, position, progress)
    newest = next(log.commits(log.commit_end(position - 1), position))
    stored = f"their tree head says, which is stored with commit {newest.number}"
    tree.refuse_other(
        SignedHead(position, newest.tree_head.hex(), newest.number, newest.recorded_at, stored)
    )
    return Statement(
        log.store_id,
        position,
        newest.tree_head,
        newest.number,
        moment_of(newest.recorded_at),
        # Until it is signed.
        moment_of(newest.recorded_at),
    )


def _stated_before(log: Log, position: int, previous: Checkpoint) -> SignedHead:
    stated = previous.of_store(log.store_id)
    if stated.size > log.position:
        raise DataLossError(
            f"nothing is signed: {stated.signed} with "
            f"{counted(stated.size, 'record')}, the store has {log.position}: "
            "records that were signed are missing"
        )
    if stated.size > position:
        raise InvalidArgumentError(
            f"the previous checkpoint states {counted(stated.size, 'record')}, of which "
            f"{position} are to be signed: sign a later moment"
        )
    return stated


class _HashedRecords:
    """The tree over a log's first records, and the last one of them."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._frontier = Frontier()
        self._last: Record | None = None

    def extend(self, size: int, in_all: int, progress: Progress | None) -> None:
        try:
            for batch in self._log.scan(self._frontier.size, size, Record.__struct_fields__):
                records = [*records_of(batch)]
                self._frontier.extend(leaf_hashes(self._log.store_id, records))
                self._last = records[-1]
                if progress is not None:
                    progress(self._frontier.size, in_all)
        except (AssertionError, KeyError, OverflowError, ValueError, struct.error) as error:
            raise DataLossError(
                f"nothing is signed: a record after position {self._frontier.size} cannot be one "
                f"({error!r}); run `eventstore verify`"
            ) from None

    def refuse_other(self, stated: SignedHead) -> None:
        """Raise DataLossError unless the records so far are what is stated of them."""
        found, last = self._frontier, self._last
        if (
            last is None
            or (found.size, found.head().hex()) != (stated.size, stated.head)
            or (last.commit, last.recorded_at) != (stated.commit, stated.recorded_at)
            or self._log.commit_end(stated.size) != stated.size
        ):
            raise DataLossError(
                f"nothing is signed: the first {counted(stated.size, 'record')} are not "
                f"what {stated.signed}; run `eventstore verify`"
            )
