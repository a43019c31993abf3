"""Turns of other threads in long Python loops of the background.

A put lets go of the interpreter's lock some ten times. Each time, a loop that runs meanwhile would
keep it until the interpreter ends that thread's turn: 5 ms.
"""

from __future__ import annotations

import time
from typing import Final

_STEPS: Final = 64
"""How many steps of about ten microseconds a turn has."""


def give_turn() -> None:
    """Let other threads go on. For loops whose steps take about a millisecond."""
    time.sleep(0)


def give_turns(step: int, *_: object) -> None:
    """Let other threads go on in some of the steps. For loops whose steps take microseconds."""
    if step % _STEPS == 0:
        give_turn()
