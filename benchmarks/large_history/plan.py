"""What happens in a block of the history, and where its records stand: numbers alone.

A block is planned from its seed and number, so that whoever makes another block can look up what
it refers to here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Final

import numpy as np

from benchmarks.large_history.world import (
    ACTORS,
    ATTEMPTS,
    FAILED,
    FIRST_DATASETS,
    GIVEN_UP,
    INGESTED,
    JANITOR,
    LOST,
    MARKED_AT_ONCE,
    MARKING,
    MICROSECONDS_PER_RECORD,
    PEOPLE,
    PIPELINES,
    RECORDS_PER_BLOCK,
    SHAPES,
    STARTED_AT,
    TYPES,
    VALIDATOR,
)

Numbers = np.ndarray[Any, Any]

RECORDS_MIN: Final = 1_000
_KEPT_MAX: Final = 4
_FIRST_COMMITS: Final = (len(TYPES), len(PIPELINES), FIRST_DATASETS)
"""How many records the first commits have: types, contexts of pipelines, datasets."""

_RECORDS: Final = np.array([sum(len(step.slots) for step in shape) for shape in SHAPES])
_STEPS_MAX: Final = max(map(len, SHAPES))
_STEP_RECORDS: Final = np.array(
    [[len(s.slots) for s in shape] + [0] * (_STEPS_MAX - len(shape)) for shape in SHAPES]
)
_SECONDS: Final = np.array(
    [[s.seconds for s in shape] + [0.0] * (_STEPS_MAX - len(shape)) for shape in SHAPES]
)


def _slots(prefix: str) -> Numbers:
    """How many slots of a kind each shape has."""
    return np.array(
        [sum(slot.what.startswith(prefix) for step in s for slot in step.slots) for s in SHAPES]
    )


@dataclass(frozen=True)
class Totals:
    """How many there are of each."""

    runs: int = 0
    commits: int = 0
    contexts: int = 0
    executions: int = 0
    datasets: int = 0
    models: int = 0
    evaluations: int = 0
    events: int = 0
    attributions: int = 0
    associations: int = 0

    def __add__(self, other: Totals) -> Totals:
        return Totals(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def artifacts(self) -> int:
        return self.datasets + self.models + self.evaluations


_OF_SHAPES: Final = {
    "commits": np.array([len(shape) for shape in SHAPES]),
    "contexts": _slots("run"),
    "executions": np.array(
        [sum(slot.what.endswith("RUNNING") for step in s for slot in step.slots) for s in SHAPES]
    ),
    "datasets": _slots("dataset PENDING"),
    "models": _slots("model PENDING"),
    "evaluations": _slots("evaluation"),
    "events": _slots("input") + _slots("output"),
    "attributions": _slots("attribution"),
    "associations": _slots("association"),
}


@dataclass(frozen=True)
class Rows:
    """Records of one sort: the run of each, which one of several there, position and time (ms)."""

    run: Numbers
    number: Numbers
    position: Numbers
    milliseconds: Numbers


class Block:
    """A stretch of the history. Runs, nodes and so on are numbered in it from 0."""

    def __init__(
        self, seed: int, number: int, first_position: int, records: int, before: Totals
    ) -> None:
        self.number, self.records, self.before = number, records, before
        self.first_position = first_position
        self._seed = seed
        random = self.random("runs")
        room = records - (0 if number else sum(_FIRST_COMMITS))
        count = records // int(_RECORDS.min()) + 1
        weights = 1 / np.arange(1, len(PIPELINES) + 1) ** 0.8
        pipelines = random.choice(len(PIPELINES), count, p=weights / weights.sum())
        shapes = _shapes(random, pipelines, may_mark=number > 0)
        runs = int(np.searchsorted(np.cumsum(_RECORDS[shapes]), room, "right"))
        self.shapes, self.pipelines = shapes[:runs], pipelines[:runs]
        self.uploads = room - int(_RECORDS[self.shapes].sum())
        """Datasets that people put, which fill what the runs leave."""

    def random(self, what: str) -> np.random.Generator:
        """Random numbers of a purpose, the same each time."""
        return np.random.default_rng([self._seed, self.number, *what.encode()])

    @cached_property
    def totals(self) -> Totals:
        """How many there are in this block."""
        sums = {name: int(of[self.shapes].sum()) for name, of in _OF_SHAPES.items()}
        sums["datasets"] += self.uploads
        sums["commits"] += self.uploads
        if not self.number:
            sums["commits"] += len(_FIRST_COMMITS)
            sums["contexts"] += len(PIPELINES)
            sums["datasets"] += FIRST_DATASETS
        return Totals(runs=len(self.shapes), **sums)

    def first_of_runs(self, what: str) -> Numbers:
        """For each run, the number of the first execution, model or other that it makes."""
        counts = _OF_SHAPES[what][self.shapes]
        return np.cumsum(counts) - counts

    @cached_property
    def commits(self) -> Commits:
        """Its commits."""
        return Commits(self)

    @cached_property
    def rows(self) -> dict[str, Rows]:
        """The records by what they are of, as slots say it, and `first` and `upload` datasets."""
        commits = self.commits
        parts: dict[str, list[tuple[Numbers, ...]]] = {}
        for shape, steps in enumerate(SHAPES):
            runs = np.flatnonzero(self.shapes == shape)
            for step, made in enumerate(steps):
                commit = commits.ranks[runs, step]
                for place, slot in enumerate(made.slots):
                    numbers = np.full(len(runs), slot.number)
                    positions = commits.first_positions[commit] + place
                    row = (runs, numbers, positions, commits.times[commit] // 1000)
                    parts.setdefault(slot.what, []).append(row)
        found = {
            what: Rows(*map(np.concatenate, zip(*some, strict=True)))
            for what, some in parts.items()
        }
        return found | {
            what: Rows(
                np.full(len(positions), -1),
                np.arange(len(positions)),
                positions,
                np.repeat(commits.times[commit] // 1000, len(positions) // max(len(commit), 1)),
            )
            for what, (commit, positions) in commits.without_run.items()
        }


class Commits:
    """The commits of a block in the order of their times.

    By commit: `sizes` are how many records it has, `first_positions` where they begin, `times` when
    it was recorded (µs), `actors` who put it, by number in ACTORS, and `runs` its run, -1 for none.
    `ranks` has the commit of each step of each run, `without_run` the commits and positions of what
    no run makes.
    """

    def __init__(self, block: Block) -> None:
        random = block.random("times")
        start = STARTED_AT + (block.first_position - 1) * MICROSECONDS_PER_RECORD
        window = block.records * MICROSECONDS_PER_RECORD / 1e6
        runs = len(block.shapes)
        pace = 0.4 + (block.pipelines * 13 % len(PIPELINES)) / len(PIPELINES) * 2
        delays = _SECONDS[block.shapes] * random.lognormal(0, 0.7, (runs, _STEPS_MAX))
        delays *= pace[:, None]
        is_there = _STEP_RECORDS[block.shapes] > 0
        in_all = np.maximum(delays.sum(axis=1), 1e-9)
        delays *= np.minimum(1, 0.9 * window / in_all)[:, None]
        in_all = delays.sum(axis=1)
        begins = 1 + random.random(runs) * np.maximum(window - in_all - 2, 0)
        moments = begins[:, None] + np.cumsum(delays, axis=1)
        run, step = np.nonzero(is_there)
        first = _FIRST_COMMITS if not block.number else ()
        uploads = random.random(block.uploads) * window
        seconds = np.concatenate((np.arange(len(first)) / 100, uploads, moments[is_there]))
        sizes = np.concatenate(
            (first, np.ones(block.uploads), _STEP_RECORDS[block.shapes][is_there])
        ).astype(np.int64)
        others = len(first) + block.uploads
        order = np.argsort(seconds, kind="stable")
        if first:
            # Nobody uploads anything before there are types.
            order = np.concatenate((np.arange(len(first)), order[order >= len(first)]))
        rank = np.argsort(order, kind="stable")
        self.sizes = sizes[order]
        # Even, as those of single puts are.
        times = start + (seconds[order] * 500_000).astype(np.int64) * 2
        self.times = np.maximum.accumulate(times)
        self.first_positions = block.first_position + np.cumsum(self.sizes) - self.sizes
        self.ranks = np.full((runs, _STEPS_MAX), -1)
        self.ranks[run, step] = rank[others:]
        who = np.array([ACTORS.index(PEOPLE[0])] * len(first), np.int64)
        people = len(PIPELINES) + random.integers(len(PEOPLE), size=block.uploads)
        actors = np.concatenate((who, people, _actors(block)[run, step]))
        self.actors = actors[order]
        self.runs = np.concatenate((np.full(others, -1), run))[order]
        self.without_run = {
            "upload": (
                rank[len(first) : others],
                self.first_positions[rank[len(first) : others]],
            )
        }
        for number, what in enumerate(("type", "pipeline", "first dataset")[: len(first)]):
            positions = self.first_positions[number] + np.arange(first[number])
            self.without_run[what] = (np.array([number]), positions)


_WHO: Final = np.array(
    [
        [{"janitor": ACTORS.index(JANITOR), "validator": ACTORS.index(VALIDATOR)}.get(s.who, -1)
         for s in shape] + [-1] * (_STEPS_MAX - len(shape))
        for shape in SHAPES
    ]
)  # fmt: skip
"""Who puts each step of a shape, by number in ACTORS; -1 for the run's own pipeline."""


def _actors(block: Block) -> Numbers:
    who = _WHO[block.shapes]
    return np.where(who < 0, block.pipelines[:, None], who)


def _shapes(random: np.random.Generator, pipelines: Numbers, *, may_mark: bool) -> Numbers:
    """How each run goes; some pipelines fail more often than others."""
    count = len(pipelines)
    chance = 0.03 + 0.22 * (pipelines * 7 % len(PIPELINES)) / len(PIPELINES)
    is_failed = random.random((count, ATTEMPTS)) < chance[:, None]
    failures = np.cumprod(is_failed, axis=1).sum(axis=1)
    kind, fate = random.random((2, count))
    shapes = np.where(failures == ATTEMPTS, FAILED, failures)
    shapes[(failures == 1) & (fate < 0.15)] = GIVEN_UP
    shapes[fate > 0.996] = LOST
    is_ingested = kind < 0.15
    shapes[is_ingested] = INGESTED + np.minimum(failures[is_ingested], ATTEMPTS - 1)
    if may_mark:
        shapes[kind > 0.975] = MARKING
    return shapes


class History:
    """The plan of a history of so many records.

    Blocks have a power of two of them, but for the last one.
    """

    def __init__(self, seed: int, records: int, block_records: int = RECORDS_PER_BLOCK) -> None:
        if records < RECORDS_MIN:
            raise ValueError(f"a history has {RECORDS_MIN:,} records at least, not {records}")
        self.seed, self.records, self.block_records = seed, records, block_records
        self.blocks = -(-records // block_records)
        totals = Totals()
        before = [totals]
        for number in range(self.blocks):
            totals += self._planned(number, totals).totals
            before.append(totals)
        self.before: Sequence[Totals] = before
        """What was before each block, and in the end all."""
        self._datasets = np.array([total.datasets for total in before])
        self._artifacts = np.array([total.artifacts for total in before])
        self._kept: dict[int, Block] = {}

    def _planned(self, number: int, before: Totals) -> Block:
        start = number * self.block_records
        records = min(self.block_records, self.records - start)
        return Block(self.seed, number, start + 1, records, before)

    def block(self, number: int) -> Block:
        """The plan of a block; the last few are kept."""
        if number not in self._kept:
            if len(self._kept) >= _KEPT_MAX:
                del self._kept[next(iter(self._kept))]
            self._kept[number] = self._planned(number, self.before[number])
        return self._kept[number]

    def dataset_ids(self, datasets: Numbers) -> Numbers:
        """The ids of datasets that are numbered from 0 over all of the history.

        In a block they come before models and evaluations.
        """
        block = np.searchsorted(self._datasets, datasets, "right") - 1
        return self._artifacts[block] + datasets - self._datasets[block] + 1

    def used_datasets(self, block: Block) -> tuple[Numbers, Numbers]:
        """Two datasets for each run, numbered over the history: a popular one and a recent one.

        They are of earlier blocks, or the first ones.
        """
        random = block.random("datasets")
        known = self.before[block.number].datasets if block.number else FIRST_DATASETS
        runs = len(block.shapes)
        popular = (known * random.random(runs) ** 4).astype(np.int64)
        recent = known - 1 - np.minimum(random.geometric(0.004, runs) - 1, known - 1)
        recent = np.where(recent == popular, (recent + 1) % known, recent)
        return popular, recent

    def marked_models(self, block: Block) -> tuple[Block, Numbers]:
        """The models that a block marks for deletion, and the earlier block that made them.

        Two blocks mark those of one: the even ones and the odd ones.
        """
        of = self.block(block.number // 2)
        count = int((block.shapes == MARKING).sum()) * MARKED_AT_ONCE
        half = of.totals.models // 2
        chosen = block.random("marked").choice(half, count, replace=False)
        return of, chosen * 2 + block.number % 2
