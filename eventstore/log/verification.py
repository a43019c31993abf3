"""Check a whole store on disk: every file, checksum, hash and derived column, from the files alone.

Then what relates records to each other, and that nothing else lies in the store's folders.
Segments are checked side by side, each from what the manifest states of the one before, so that a
damaged one does not hide the state of those after it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final

import msgspec

from eventstore import errors
from eventstore.log.checking_process import Answer
from eventstore.log.erased import Erased
from eventstore.log.erasure_check import erasures_in_effect
from eventstore.log.kinds import ERASURE
from eventstore.log.log import Finding, Progress, SignedHead, VerifyReport
from eventstore.log.manifest import Manifest, stored_manifest
from eventstore.log.merkle import EMPTY_HEAD
from eventstore.log.os_errors import starting_thread
from eventstore.log.record_check import TypeUse
from eventstore.log.relations import (
    COLUMNS,
    Related,
    RelationsUncheckedError,
    relation_findings,
)
from eventstore.log.retention_stages import RetentionRecord, repeated, stage_findings
from eventstore.log.rows_check import CheckedSegment
from eventstore.log.segment_check import SegmentJob, check_segment
from eventstore.log.store_files import forms_with_erased, strange_files
from eventstore.wording import counted

_RELATIONS: Final = (
    "whether records agree with each other (former ones, names, links, salts, erasures)"
)

_PARALLEL_RECORDS_MIN = 100_000
"""Below this many records that are not active, further processes cost more than they save."""

_INTERRUPTS_LOOKED_FOR_SECONDS: Final = 1
"""An interrupt just before a wait begins is noticed only when that ends."""


_LOOKS_MAX: Final = 100
"""A compaction that goes on meanwhile makes the check begin again, a merged segment at a time."""


def verify_directory(
    directory: Path,
    progress: Progress | None = None,
    *,
    after: int = 0,
    upto: int | None = None,
    signed_heads: Sequence[SignedHead] = (),
) -> VerifyReport:
    """Check the store in `directory`. Damage is reported, never raised.

    A file that is missing, or that the disk no longer gives, is damage; one that this process may
    not read is not.

    With `after` and `upto` only the segments that hold records in (after, upto] are checked; what
    the manifest states of those before them is then believed. Each of `signed_heads`, for which all
    must be checked, is compared with the tree of its size.

    Raises NotFoundError when there is no store, PermissionDeniedError and UnavailableError where a
    file cannot be read and so not be checked, FailedPreconditionError when its format is newer,
    InvalidArgumentError for signed heads together with a range.
    """
    if signed_heads and (after or upto is not None):
        raise errors.InvalidArgumentError(
            "a checkpoint is about all of history: verify it without a range"
        )
    for _ in range(_LOOKS_MAX):
        try:
            return _verified(directory, progress, after, upto, signed_heads)
        except _OutdatedError:
            continue
    raise errors.UnavailableError(f"{directory} was compacted all the time: verify it again")


class _OutdatedError(Exception):
    """The manifest that was read names what was merged meanwhile."""


def _verified(
    directory: Path,
    progress: Progress | None,
    after: int,
    upto: int | None,
    signed_heads: Sequence[SignedHead],
) -> VerifyReport:
    try:
        manifest = stored_manifest(directory)
    except errors.DataLossError as error:
        finding = Finding(error.message, file=str(directory / "manifest.json"))
        return VerifyReport(False, 0, 0, 0, EMPTY_HEAD.hex(), [finding])
    jobs = list(_jobs(directory, manifest, after, upto, tuple(signed_heads)))
    start = jobs[0].previous.last_position if jobs and jobs[0].previous else 0
    end = manifest.segments[-1].last_position if manifest.segments else 0
    if upto is not None:
        end = min(end, jobs[-1].entry.last_position if jobs and jobs[-1].entry else end)
    total = CheckedSegment(findings=[])
    types: list[TypeUse] = []
    retention: list[RetentionRecord] = []
    for checked in _checked_in_order(jobs):
        if checked.is_outdated:
            raise _OutdatedError
        total.records += checked.records
        total.commits += checked.commits
        total.head = checked.head
        total.findings += checked.findings
        types += checked.types
        retention += checked.retention
        if progress is not None:
            progress(total.records, max(end - start, total.records))
    total.findings += strange_files(directory)
    checked_to = start + total.records
    not_checked = [*_outside_of_range(start, checked_to, manifest, upto)]
    if total.findings:
        not_checked.append(f"{_RELATIONS}: only once nothing else is wrong")
    else:
        total.findings += stage_findings(retention, after=start)
        in_effect = erasures_in_effect(retention)
        is_to_end = upto is None or manifest.active.first_position <= upto
        related = Related(start, checked_to, types, in_effect, is_to_end=is_to_end)
        try:
            total.findings += _relations(directory, related)
        except RelationsUncheckedError as error:
            not_checked.append(f"{_RELATIONS}: {error}")
        total.findings += forms_with_erased(directory, in_effect.destroyed)
        not_checked += [
            f"whether what erasure {number} covers is destroyed: it is not completed yet"
            for number in in_effect.pending
        ]
        not_checked += [
            f"whether two people agreed to {what}: it was repeated as a backup was restored"
            for what in repeated(retention)
        ]
    position = max(end, checked_to)
    total.findings += [
        Finding(
            f"{signed.signed} with {counted(signed.size, 'record')}, the store has "
            f"{position}: records that were signed are missing",
            position=position,
        )
        for signed in signed_heads
        if signed.size > position
    ]
    return VerifyReport(
        not total.findings,
        position,
        total.commits,
        total.records,
        total.head,
        total.findings,
        not_checked,
        list(signed_heads),
    )


def _outside_of_range(start: int, end: int, manifest: Manifest, upto: int | None) -> Iterator[str]:
    if start:
        yield (
            f"records 1 to {start}, which were believed, and whether later ones replace the right "
            "ones of them or repeat their ids, names or links"
        )
    if upto is not None and manifest.active.first_position > upto:
        yield f"records after {end}"


def _relations(directory: Path, related: Related) -> list[Finding]:
    from eventstore.log.directory_reader import open_reader

    try:
        log = open_reader(directory)

        def erased_later() -> Erased:
            """What was erased, and may be destroyed, since the records were checked."""
            log.refresh()
            later = (record for commit in log.commits(related.upto) for record in commit.records)
            erasures = [
                RetentionRecord(
                    *(record.kind, record.position, record.commit), record.actor, record.payload
                )
                for record in later
                if record.kind == ERASURE.name and record.payload is not None
            ]
            return erasures_in_effect(erasures).erased

        try:
            records = log.scan(related.after, related.upto, COLUMNS)
            return relation_findings(records, related, erased_later)
        finally:
            log.close()
    except errors.DataLossError as error:
        return [Finding(error.message, position=related.after + 1)]


def _jobs(
    directory: Path,
    manifest: Manifest,
    after: int,
    upto: int | None,
    signed_heads: tuple[SignedHead, ...],
) -> Iterator[SegmentJob]:
    """The segments that hold records in (after, upto], in order, the active one last."""
    previous = None
    for segment in manifest.segments:
        if segment.last_position > after and (upto is None or segment.first_position <= upto):
            heads = tuple(
                signed
                for signed in signed_heads
                if segment.first_position <= signed.size <= segment.last_position
            )
            yield SegmentJob(str(directory), manifest.store_id, segment, None, previous, heads)
        previous = segment
    if upto is None or manifest.active.first_position <= upto:
        yield SegmentJob(
            str(directory), manifest.store_id, None, manifest.active, previous, signed_heads
        )


def _checked_in_order(jobs: Sequence[SegmentJob]) -> Iterator[CheckedSegment]:
    closed = [job.entry for job in jobs if job.entry is not None]
    workers = min(os.cpu_count() or 1, len(closed))
    records = closed[-1].last_position - closed[0].first_position + 1 if closed else 0
    if workers > 1 and records >= _PARALLEL_RECORDS_MIN:
        yield from _checked_by_processes(jobs, workers)
    else:
        yield from map(check_segment, jobs)


def _checked_by_processes(jobs: Sequence[SegmentJob], workers: int) -> Iterator[CheckedSegment]:
    """Check side by side in processes of our own.

    Not multiprocessing's: those import the caller's main module again, which a script without a
    guard does not survive.
    """
    waiting: SimpleQueue[tuple[int, SegmentJob]] = SimpleQueue()
    for entry in enumerate(jobs):
        waiting.put(entry)
    results: dict[int, CheckedSegment | BaseException] = {}
    changed = threading.Condition()
    processes: list[subprocess.Popen[bytes]] = []
    is_left = False

    def work() -> None:
        number = -1
        try:
            with _worker_process() as process:
                processes.append(process)
                # Otherwise it is still among the processes when this is left.
                if is_left:
                    process.kill()
                assert process.stdin is not None
                assert process.stdout is not None
                while True:
                    try:
                        number, job = waiting.get_nowait()
                    except Empty:
                        process.stdin.close()
                        return
                    process.stdin.write(msgspec.json.encode(job) + b"\n")
                    process.stdin.flush()
                    answer = msgspec.json.decode(process.stdout.readline(), type=Answer)
                    result = answer.result()
                    with changed:
                        results[number] = result
                        changed.notify()
        except Exception as error:
            with changed:
                results[number] = _ended(error) if isinstance(error, _ENDED) else error
                changed.notify()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(workers)]
    try:
        for thread in threads:
            with starting_thread():
                thread.start()
        for number in range(len(jobs)):
            with changed:
                while not changed.wait_for(
                    lambda: number in results or -1 in results,  # noqa: B023
                    _INTERRUPTS_LOOKED_FOR_SECONDS,
                ):
                    pass
                result = results.pop(number, None) or results[-1]
            if isinstance(result, BaseException):
                raise result
            yield result
    except BaseException:
        # Interrupted, as a rule: nobody waits for what the workers are at.
        is_left = True
        for process in processes:
            process.kill()
        raise
    finally:
        for thread in threads:
            if thread.ident is not None:
                thread.join()


_ENDED: Final = (OSError, msgspec.DecodeError)
"""What a pipe to a process that does not answer raises."""


def _ended(error: Exception) -> errors.InternalError:
    return errors.InternalError(
        f"a process that checks segments has ended before it was done ({error}), as where memory "
        "is short; verify a range of the store at a time"
    )


def _worker_process() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "eventstore.log.checking_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # An interrupt at the terminal is this process's to deal with.
        process_group=0,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
