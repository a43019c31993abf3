"""What each part of `make torture` offers: a function that runs it and a count of what it ran."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Outcome:
    """What a part ran, by what is counted, and every broken promise that it met, a line each."""

    counts: dict[str, int] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)

    def count(self, what: str, number: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + number


Report = Callable[[str], None]
"""Called with a line about how far a part is."""

Part = Callable[[Report], Outcome]
