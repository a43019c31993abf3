"""The folder of sorted runs: which of its files make up the index of a log."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from eventstore.late_logger import late_logger
from eventstore.log import Log, content_id
from eventstore.log.cache_file import TEMPORARY_SUFFIX, remove_abandoned
from eventstore.projections.limits import LIMITS, IndexLimits
from eventstore.projections.run_file import UnusableRunError
from eventstore.projections.sorted_run import SortedRun

_LOGGER = late_logger("eventstore.projections")

_LISTINGS_MAX: Final = 5


def run_path(folder: Path, first_position: int, last_position: int) -> Path:
    """Where the run of these positions is kept: equal names have equal meaning."""
    return folder / f"{first_position:019d}-{last_position:019d}.run"


def usable_runs(
    folder: Path,
    log: Log,
    limits: IndexLimits = LIMITS.index,
    *,
    remove_useless: bool,
    opened: Mapping[Path, SortedRun] | None = None,
) -> list[SortedRun]:
    """The runs that cover positions 1 to some p without a gap, as far as any do, oldest first.

    Those that are `opened` already are not opened again. Runs that are damaged, of another log,
    format or history, or merged into others are not used, and with `remove_useless` removed.
    Processes that have them open keep them.
    """
    runs, useless = _opened_runs(folder, log, limits, opened or {})
    chain = _longest_chain(runs)
    while chain and log.recorded_at(chain[-1].last_position) != chain[-1].metadata.last_recorded_at:
        _LOGGER.info("not using %s: it is of another history", chain[-1].path)
        useless.append(chain[-1].path)
        runs.remove(chain[-1])
        chain = _longest_chain(runs)
    if remove_useless:
        covered = chain[-1].last_position if chain else 0
        useless += [r.path for r in runs if r.last_position <= covered and r not in chain]
        remove_abandoned(folder)
        for path in useless:
            with contextlib.suppress(OSError):
                path.unlink()
    return chain


def _opened_runs(
    folder: Path, log: Log, limits: IndexLimits, opened: Mapping[Path, SortedRun]
) -> tuple[list[SortedRun], list[Path]]:
    """The runs of a log that are in a folder, and the files there that are none."""
    expected_id = content_id(log)
    for _ in range(_LISTINGS_MAX):
        runs: list[SortedRun] = []
        useless: list[Path] = []
        is_changed = False
        try:
            names = sorted(os.listdir(folder))
        except OSError as error:
            # Mostly there is no folder yet. What this process may not read, it does without.
            tell = _LOGGER.debug if isinstance(error, FileNotFoundError) else _LOGGER.warning
            tell("doing without the point index in %s: %s", folder, error.strerror)
            return [], []
        for path in map(folder.joinpath, names):
            if path.name.endswith(TEMPORARY_SUFFIX):
                continue
            try:
                run = opened.get(path) or SortedRun(path, limits)
            except UnusableRunError as error:
                if os.path.exists(path):
                    _LOGGER.info("not using a run of the point index: %s", error)
                    useless.append(path)
                else:
                    # Another process has merged it since the folder was listed.
                    is_changed = True
                continue
            expected_path = run_path(folder, run.first_position, run.last_position)
            if run.metadata.content_id != expected_id or path != expected_path:
                _LOGGER.info("not using %s: it is of another log", path)
                useless.append(path)
            elif run.last_position <= log.position:
                # Others may have written beyond what this log has seen yet.
                runs.append(run)
        if not is_changed:
            break
    return runs, useless


def _longest_chain(runs: Sequence[SortedRun]) -> list[SortedRun]:
    """Of the ways to cover positions from 1 on, the farthest; of equals, one of few runs."""
    best: dict[int, list[SortedRun]] = {0: []}
    for run in sorted(runs, key=lambda run: (run.first_position, -run.last_position)):
        before = best.get(run.first_position - 1)
        if before is None:
            continue
        recorded_at = before[-1].metadata.last_recorded_at if before else 0
        if recorded_at != run.metadata.preceding_recorded_at:
            continue
        known = best.get(run.last_position)
        if known is None or len(known) > len(before) + 1:
            best[run.last_position] = [*before, run]
    return best[max(best)]
