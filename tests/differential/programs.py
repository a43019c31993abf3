"""Random programs of RPCs, valid and invalid, on the oracle and on the store at once.

A program is generated call by call from what the oracle has answered so far, and is then plain
data: it can be run again, and cut down to the calls that a difference needs.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from typing import Any

from tests.differential.answers import Call, compared, is_same
from tests.differential.generator import Generator


@dataclass
class Difference:
    """The call at which the sides parted, and what each answered."""

    program: list[tuple[str, Any]]
    expected: Any
    found: Any

    def kind(self) -> tuple[Any, ...]:
        """What tells this difference from another one that a shorter program may have."""
        results = (self.expected, self.found)
        return self.program[-1][0], *(r if isinstance(r, type) else "response" for r in results)

    def __str__(self) -> str:
        shown = "\n".join(f"{rpc}: {request}" for rpc, request in self.program)
        return f"{shown}\nexpected {self.expected}\nfound {self.found}"


def run_program(
    seed: int, length: int, oracle: Call, ours: Call, counts: Counter[str]
) -> Difference | None:
    """Generate and run one program on fresh stores; the first difference, if there is one.

    `counts` gains the calls of each RPC, and under `<rpc> ok` those that succeeded.
    """
    generator = Generator(random.Random(seed))
    program: list[tuple[str, Any]] = []
    for _ in range(length):
        rpc, request = generator.next_call()
        program.append((rpc, request))
        expected = compared(oracle, rpc, request)
        found = compared(ours, rpc, request)
        counts[rpc] += 1
        if not isinstance(expected, type):
            counts[f"{rpc} ok"] += 1
            generator.learn(rpc, request, expected)
        if not is_same(rpc, expected, found):
            return Difference(program, expected, found)
    return None


def run_again(program: list[tuple[str, Any]], oracle: Call, ours: Call) -> Difference | None:
    """Run a given program on fresh stores."""
    for number, (rpc, request) in enumerate(program):
        expected, found = compared(oracle, rpc, request), compared(ours, rpc, request)
        if not is_same(rpc, expected, found):
            return Difference(program[: number + 1], expected, found)
    return None
