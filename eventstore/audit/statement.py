"""What a checkpoint states of a store: the lines that its signature is of.

    eventstore/STORE-ID
    SIZE
    ROOT
    commit NUMBER
    recorded-at TIME
    signed-at TIME

A key rotation repeats those of the last checkpoint that the old key has signed.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from eventstore.plain_json import moment_text

ORIGIN_PREFIX: Final = "eventstore/"
"""How the first line begins, before the store's id."""

_SIZE_MAX: Final = 2**63 - 1

TIME: Final = "[0-9T:.-]{26}Z"

_LINES: Final = re.compile(
    rf"{ORIGIN_PREFIX}(?P<store_id>[0-9a-f-]{{36}})\n"
    r"(?P<size>[1-9][0-9]{0,18})\n"
    r"(?P<root>[A-Za-z0-9+/]{43}=)\n"
    r"commit (?P<commit>[1-9][0-9]{0,18})\n"
    rf"recorded-at (?P<recorded_at>{TIME})\n"
    rf"signed-at (?P<signed_at>{TIME})\n"
)


@dataclass(frozen=True, slots=True)
class Statement:
    """Of the tree over a store's first `size` records, by the clocks of the store and signer."""

    store_id: UUID
    size: int
    root: bytes
    commit: int
    recorded_at: datetime
    signed_at: datetime

    @classmethod
    def parse(cls, text: str) -> Statement:
        """Raises ValueError for anything but these lines."""
        found = _LINES.fullmatch(text)
        if found is None:
            raise ValueError("it has other lines")
        stated = cls(
            UUID(found["store_id"]),
            int(found["size"]),
            base64.b64decode(found["root"], validate=True),
            int(found["commit"]),
            parsed_time(found["recorded_at"]),
            parsed_time(found["signed_at"]),
        )
        if str(stated) != text:
            raise ValueError("ids, numbers and times are written in another way")
        if not stated.commit <= stated.size <= _SIZE_MAX:
            raise ValueError(f"no store has {stated.size} records in {stated.commit} commits")
        return stated

    def __str__(self) -> str:
        root = base64.b64encode(self.root).decode()
        recorded_at, signed_at = moment_text(self.recorded_at), moment_text(self.signed_at)
        return (
            f"{ORIGIN_PREFIX}{self.store_id}\n{self.size}\n{root}\ncommit {self.commit}\n"
            f"recorded-at {recorded_at}\nsigned-at {signed_at}\n"
        )


def parsed_time(text: str) -> datetime:
    """Raises ValueError for what is no time."""
    return datetime.fromisoformat(text.removesuffix("Z") + "+00:00")
