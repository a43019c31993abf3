"""Random programs of calls, valid and invalid, on the oracle and on a store at once.

A program is generated call by call from what the oracle has answered so far, and is then plain
data: it can be run again, and cut down to what a difference needs. When it has run, the two stores
must agree in every read there is, and our store's past must be what it was.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from eventstore.errors import InvalidArgumentError
from tests.differential.answers import Side, Step, is_same
from tests.differential.clients import Client
from tests.differential.generator import Generator
from tests.differential.ids import GivenOut, Ids
from tests.differential.methods import has_method
from tests.differential.reads import all_reads
from tests.differential.times import Steps

__all__ = ["Difference", "Generator", "run_again", "run_program"]


@dataclass(frozen=True)
class Difference:
    """The steps that ran, the step or the question afterwards that parted the sides, and answers.

    A change of the past is a difference, too: what was answered once, and what is now. `given_out`
    holds the ids that each step of the program was the first to answer.
    """

    program: Sequence[Step]
    given_out: Sequence[Ids]
    at: Step
    expected: Any
    found: Any
    is_at_the_end: bool = False

    def kind(self) -> tuple[Any, ...]:
        """What distinguishes this difference from another one that a shorter program may have."""
        results = (self.expected, self.found)
        return self.at.rpc, *(r if isinstance(r, type) else "response" for r in results)

    def __str__(self) -> str:
        shown = "\n".join(map(str, self.program))
        return f"{shown}\nat {self.at}\nexpected {self.expected}\nfound {self.found}"


def run_program(
    seed: int, length: int, oracle: Client, ours: Client, counts: Counter[str]
) -> Difference | None:
    """Generate and run one program on empty stores; the first difference, if there is one.

    `counts` gains the calls of each RPC, and under `<rpc> ok` those that succeeded.
    """
    generator = Generator(random.Random(seed))
    run = Run(oracle, ours)
    for step in _generated(generator, length):
        expected, found = run.answers(step)
        if step.request is None:
            continue
        counts[step.rpc] += 1
        if not isinstance(expected, type):
            counts[f"{step.rpc} ok"] += 1
            generator.learn(step.rpc, step.request, expected)
        if not is_same(step, expected, found):
            return Difference(run.program, run.given_out, step, expected, found)
    return run.difference_at_the_end()


def run_again(
    program: Sequence[Step], oracle: Client, ours: Client, *, read_all: bool = True
) -> Difference | None:
    """Run given steps on empty stores, and then all reads."""
    run = Run(oracle, ours)
    for step in program:
        expected, found = run.answers(step)
        if step.request is not None and not is_same(step, expected, found):
            return Difference(run.program, run.given_out, step, expected, found)
    return run.difference_at_the_end() if read_all else None


class Run:
    """Two empty stores, and the steps that have run on both."""

    def __init__(self, oracle: Client, ours: Client) -> None:
        self.program: list[Step] = []
        self.given_out: list[Ids] = []
        self._ids = GivenOut()
        self._oracle, self._ours = oracle, ours
        self._steps = Steps()
        self._sides = Side(oracle, self._steps), Side(ours, self._steps)
        oracle.start_over()
        ours.start_over()

    def answers(self, step: Step) -> tuple[Any, Any]:
        self._steps.begin()
        theirs, mine = self._sides
        expected, found = theirs.answer(step), mine.answer(step)
        self.program.append(step)
        self.given_out.append(self._ids.by(step.rpc, expected))
        return expected, found

    def not_refused(self, step: Step) -> Difference | None:
        """A difference unless our store refuses a step that kills ml-metadata."""
        found = self._sides[1].answer(step)
        if found is InvalidArgumentError:
            return None
        return Difference(self.program, self.given_out, step, InvalidArgumentError, found)

    def difference_at_the_end(self) -> Difference | None:
        ran = list(self.program), list(self.given_out)
        for rpc, request in all_reads(self._oracle.call):
            step = Step(rpc, request)
            expected, found = self.answers(step)
            if not is_same(step, expected, found):
                return Difference(*ran, step, expected, found, True)
        changed = self._ours.changed_past()
        return changed and Difference(*ran, Step("as of a position"), *changed, True)


def _generated(generator: Generator, length: int) -> Iterator[Step]:
    for _ in range(length):
        if generator.chance(0.03):
            yield Step(generator.random.choice(("reopen", "seal")))
        rpc, request = generator.next_call()
        yield Step(rpc, request, generator.chance(0.5) and has_method(rpc, request))
