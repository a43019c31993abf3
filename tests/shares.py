"""Which part of a long enumeration a run of the suite tries; it differs from run to run.

With HYPOTHESIS_PROFILE=long all of it is tried. EVENTSTORE_SEED repeats what a run printed.

Cases of a test are thinned out by `@pytest.mark.share(n)`, in runs of the whole suite only: a file
or a test that is named on the command line is tried whole.
"""

from __future__ import annotations

import os
import random
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import pytest

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
    return _one_of_each(things, share, seed)


def kept_items(items: Iterable[pytest.Item]) -> set[pytest.Item]:
    """Those that this run tries; the same in each process of the run."""
    run = os.environ.get("EVENTSTORE_SEED") or os.environ.get("PYTEST_XDIST_TESTRUNUID")
    seed = run or str(random.randrange(1 << 32))
    cases: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        cases[item.nodeid.partition("[")[0]].append(item)
    kept: set[pytest.Item] = set()
    for name, group in cases.items():
        mark = group[0].get_closest_marker("share")
        share = 1 if mark is None or is_whole() else mark.args[0]
        kept.update(_one_of_each(group, share, f"{seed} {name}"))
    return kept


def _one_of_each(things: Sequence[_Thing], share: int, seed: str) -> list[_Thing]:
    chance = random.Random(seed)
    return [chance.choice(things[at : at + share]) for at in range(0, len(things), share)]
