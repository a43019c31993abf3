"""Which part of a long enumeration a run of the suite tries; it differs from run to run.

With HYPOTHESIS_PROFILE=long all of it is tried. EVENTSTORE_SEED repeats what a run printed.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Sequence
from typing import TypeVar

_Thing = TypeVar("_Thing")


def is_whole() -> bool:
    """Whether tests try all that there is."""
    return os.environ.get("HYPOTHESIS_PROFILE") == "long"


def some_of(things: Sequence[_Thing], share: int) -> list[_Thing]:
    """One of each `share` neighbours, by chance, in order."""
    if share == 1 or is_whole():
        return [*things]
    seed = os.environ.get("EVENTSTORE_SEED") or str(random.randrange(1 << 32))
    # Pytest shows it when the test fails.
    print(f"EVENTSTORE_SEED={seed}", file=sys.stderr)
    chance = random.Random(seed)
    return [chance.choice(things[at : at + share]) for at in range(0, len(things), share)]
