"""What is around every page: where one is, and as of when."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec

from eventstore.page.links import Links

SECTIONS: Final = (
    ("Overview", "/"),
    ("Artifacts", "/artifacts"),
    ("Executions", "/executions"),
    ("Contexts", "/contexts"),
    ("Log", "/log"),
    ("Rules", "/rules/holds"),
    ("SQL", "/sql"),
)
_ALL_MAY: Final = {"/rules/holds": "/rules/erasures"}
"""What who may not audit is shown in the place of a section."""


class ShownMoment(msgspec.Struct, frozen=True):
    """A moment as the header shows it: the commit that it ends with.

    `before` is the position just before that commit; None for the first one.
    """

    position: int
    commit: int
    recorded_at: datetime
    actor: str | None
    reason: str | None
    before: int | None


class Tick(msgspec.Struct, frozen=True):
    """A commit that touches what the page shows: `time` is in ms since the epoch."""

    position: int
    commit: int
    time: float
    actor: str | None = None
    reason: str | None = None


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """`at` is A, `until` is B where there are two moments; `newest` is now.

    `section` is one of SECTIONS by name. `kept` is the query of the address without its moments,
    which forms repeat. `verified` is a word (`ok`, `bad` or `none`), and what is said.
    `has_others` says that the server has more stores, `user` who could sign out, `may_audit`
    whether holds, retention rules and proofs are answered.
    """

    store: str
    links: Links
    path: str
    section: str = ""
    at: ShownMoment | None
    until: ShownMoment | None = None
    newest: ShownMoment | None
    kept: tuple[tuple[str, str], ...] = ()
    ticks: tuple[Tick, ...] = ()
    verified: tuple[str, str] = ("none", "not verified since the start")
    has_others: bool = False
    user: str | None = None
    may_audit: bool = True

    @property
    def is_past(self) -> bool:
        """Whether A is earlier than now."""
        if self.at is None or self.newest is None:
            return False
        return self.at.position < self.newest.position

    @property
    def sections(self) -> tuple[tuple[str, str], ...]:
        if self.may_audit:
            return SECTIONS
        return tuple((name, _ALL_MAY.get(path, path)) for name, path in SECTIONS)
