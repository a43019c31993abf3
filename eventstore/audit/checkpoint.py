"""Checkpoints: small signed texts that pin all of a store's history (c2sp.org/tlog-checkpoint).

Whoever keeps one outside the store can show later that nothing before it was changed, or that
something was. The text is

    eventstore/STORE-ID
    SIZE
    ROOT
    commit NUMBER
    recorded-at TIME
    signed-at TIME

and then the signature. SIZE is the number of records, ROOT the head of their Merkle tree in base64,
the commit is the one that ends there, and times are UTC with microseconds.
"""

from __future__ import annotations

import base64
import binascii
import re
import time
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Final
from uuid import UUID

from eventstore.audit.signed_note import SigningKey, VerifierKey, opened
from eventstore.errors import InvalidArgumentError, NotFoundError, OutOfRangeError
from eventstore.log import Log, SignedHead

ORIGIN_PREFIX: Final = "eventstore/"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_BODY: Final = re.compile(
    rf"{ORIGIN_PREFIX}(?P<store_id>[0-9a-f-]{{36}})\n"
    r"(?P<size>0|[1-9][0-9]{0,18})\n"
    r"(?P<root>[A-Za-z0-9+/]{43}=)\n"
    r"commit (?P<commit>0|[1-9][0-9]{0,18})\n"
    r"recorded-at (?P<recorded_at>[0-9T:.-]{26}Z)\n"
    r"signed-at (?P<signed_at>[0-9T:.-]{26}Z)\n"
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint states, and `text`, the signed note that states it.

    `recorded_at` is that of the newest record, `signed_at` the signer's clock.
    """

    store_id: UUID
    size: int
    root: bytes
    commit: int
    recorded_at: datetime
    signed_at: datetime
    signer: str
    text: str

    @classmethod
    def parse(cls, text: str, key: VerifierKey) -> Checkpoint:
        """Read a checkpoint and check its signature.

        Raises InvalidArgumentError when it is none, or this key has not signed it as it stands.
        """
        body = opened(text, key)
        found = _BODY.fullmatch(body)
        if found is None:
            raise InvalidArgumentError(f"signed by {key.name}, but not a checkpoint of a store")
        try:
            checkpoint = cls(
                UUID(found["store_id"]),
                int(found["size"]),
                base64.b64decode(found["root"], validate=True),
                int(found["commit"]),
                _parsed_time(found["recorded_at"]),
                _parsed_time(found["signed_at"]),
                key.name,
                text,
            )
        except (ValueError, binascii.Error) as error:
            raise InvalidArgumentError(f"not a checkpoint of a store: {error}") from None
        return checkpoint

    def of_store(self, store_id: UUID) -> SignedHead:
        """What a log is verified against. Raises NotFoundError when it is another store's."""
        if self.store_id != store_id:
            raise NotFoundError(
                f"the checkpoint is of store {self.store_id}, this is store {store_id}"
            )
        signed = f"{self.signer} signed on {self.signed_at.isoformat()}"
        return SignedHead(self.size, self.root.hex(), signed)


def signed_checkpoint(log: Log, position: int, key: SigningKey) -> Checkpoint:
    """Sign the head of the log's tree as of a position, which ends a commit.

    Raises OutOfRangeError for a log that is empty there: it has nothing to sign.
    """
    if position < 1:
        raise OutOfRangeError("the store is empty: there is nothing to sign")
    first = log.commit_end(position - 1)
    (commit,) = log.commits(first, position)
    signed_at = time.time_ns() // 1000
    root = base64.b64encode(commit.tree_head).decode()
    body = (
        f"{ORIGIN_PREFIX}{log.store_id}\n{position}\n{root}\ncommit {commit.number}\n"
        f"recorded-at {_time_text(commit.recorded_at)}\nsigned-at {_time_text(signed_at)}\n"
    )
    return Checkpoint.parse(key.signed(body), key.verifier_key)


def _time_text(microseconds: int) -> str:
    moment = _EPOCH + timedelta(microseconds=microseconds)
    return moment.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def _parsed_time(text: str) -> datetime:
    return datetime.fromisoformat(text.removesuffix("Z") + "+00:00")
