"""The files of a store: which there are, whether they are sound, and verified copies of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from eventstore import errors
from eventstore.answers import SegmentAnswer, StoreInfo
from eventstore.log import Finding, Progress, SignedHead, VerifyReport
from eventstore.log.places import named_path, place_of
from eventstore.metadata_store.opening import operating_system_user
from eventstore.metadata_store.served import served, where_the_store_is
from eventstore.metadata_store.source import SourceMethods
from eventstore.moments import Moment, range_of
from eventstore.store.attribution import checked_attribution

if TYPE_CHECKING:
    from eventstore.audit import Checkpoint, KeyRotation
    from eventstore.copies.copying import CopyReport
    from eventstore.copies.restoring import RestoreReport
    from eventstore.log.compacting import MergedSegments


class FileMethods(SourceMethods):
    """What concerns a store in a directory as files."""

    def verify(
        self,
        progress: Progress | None = None,
        *,
        since: int | datetime | None = None,
        until: int | datetime | None = None,
        checkpoints: Sequence[Checkpoint | KeyRotation] = (),
        caches: bool = True,
    ) -> VerifyReport:
        """Check every byte and hash of the log, that checkpoints hold, and what is folded from it.

        A key rotation holds when the checkpoint in it does.

        The caches, from which reads are answered, are folded again and compared entry by entry,
        unless `caches` is false or there is a range; the report says what was not checked.

        With `since` and `until` only the segments with records between these moments are checked;
        what comes before is then believed. `progress` is called with (records done, records in
        all). Raises DataLossError that names the commit when anything is wrong with the log,
        FailedPreconditionError when it is sound and a cache does not agree with it (`rebuild` makes
        it anew), NotFoundError for a checkpoint of another store, InvalidArgumentError for moments
        that `as_of` refuses or that are swapped, and for checkpoints together with a range.
        """
        heads = list[SignedHead]()
        if checkpoints:
            store_id = UUID(self.info().store_id)
            heads = [checkpoint.of_store(store_id) for checkpoint in checkpoints]
        return self._verified(progress, since=since, until=until, heads=heads, caches=caches)

    @served("audit", rpc="Verify")
    def _verified(
        self,
        progress: Progress | None,
        *,
        since: Moment | None,
        until: Moment | None,
        heads: Sequence[SignedHead],
        caches: bool,
    ) -> VerifyReport:
        log = self._source.log
        after, upto = range_of(log, since, until)
        report = log.verify(
            progress, after=after, upto=None if until is None else upto, signed_heads=heads
        )
        from eventstore.retention.checking import GUARDS, with_guards

        is_whole = since is None and until is None
        report = with_guards(report, log) if is_whole else report.without(GUARDS)
        if report.findings:
            raise errors.DataLossError(f"the store is damaged: {_first(report.findings)}")
        if not (is_whole and caches):
            return report.without("the caches")
        from eventstore.audit.compared_caches import DISAGREES, with_caches

        report = with_caches(report, log)
        if report.cache_findings:
            raise errors.FailedPreconditionError(
                f"{DISAGREES}run `eventstore rebuild`: {_first(report.cache_findings)}"
            )
        return report

    @served("admin")
    def seal(self) -> None:
        """Turn what was put so far into Parquet, which any analytics tool reads."""
        self._source.log.seal()

    @where_the_store_is
    def compact(
        self,
        progress: Progress | None = None,
        *,
        target_records: int | None = None,
        target_bytes: int | None = None,
        dry_run: bool = False,
    ) -> list[MergedSegments]:
        """Merge small Parquet files into large ones, which analytics engines read faster.

        Neighbours are merged while they have at most `target_records` together (by default
        1,048,576), and their files at most `target_bytes` (256 MiB). Positions, proofs, tree heads
        and caches stay as they are; others may put and read meanwhile. Returns what was merged,
        oldest first; with `dry_run` nothing is changed, and it is what would be. `progress` is
        called with (records done, in all).

        Raises UnimplementedError for a store in memory, in a SQL database or in object storage,
        InvalidArgumentError for targets below 1, FailedPreconditionError when the store is opened
        to read only.
        """
        from eventstore.log.compacting import compact

        return compact(
            self._source.log,
            progress,
            target_records=target_records,
            target_bytes=target_bytes,
            dry_run=dry_run,
        )

    @served("admin")
    def rebuild(self, progress: Progress | None = None) -> None:
        """Throw away what was folded from the log to answer reads, and fold it anew.

        Never needed, unless a disk has damaged it. `progress` is called with (done, in all); each
        record counts twice. Raises FailedPreconditionError when the store is opened to read only.
        """
        self._source.projections.rebuild(progress)

    @served("read")
    def info(self) -> StoreInfo:
        """Position, counts, segments and sizes (in bytes).

        >>> store.info().segments[0].state
        'active'
        """
        from eventstore.times import moment_of

        log, position = self._source.log, self._source.position()
        segments = log.segments()
        return StoreInfo(
            store_id=str(log.store_id),
            position=position,
            commits=log.commit_number,
            recorded_at=moment_of(log.recorded_at(position)) if position else None,
            log_bytes=sum(segment.file_bytes for segment in segments),
            projections_bytes=self._source.projections.file_bytes(),
            counts=self._source.projections.counts(position),
            segments=[
                SegmentAnswer(
                    segment.number,
                    segment.state,
                    segment.first_position,
                    segment.last_position,
                    segment.file_bytes,
                    segment.file_name,
                )
                for segment in segments
            ],
        )

    @where_the_store_is
    def segment_files(self) -> list[Path | str]:
        """The Parquet files that the store consists of, for other tools to read, oldest first.

        They are paths, and URLs where the store is in object storage.

        A pattern such as `log/*.parquet` would also find what does not belong to the store. What
        was put since the last `seal` may be in none of them. Raises FailedPreconditionError for a
        store that has no such files, as one in memory.
        """
        return [file.path for file in self._source.log.sealed_files()]

    @where_the_store_is
    def backup(
        self,
        path: str | Path,
        progress: Progress | None = None,
        *,
        keys: str | Path | None = None,
    ) -> VerifyReport:
        """Copy the store to `path`, even while others write to it, and verify the copy.

        It has all that was acknowledged before, synced to disk and checked, and appears when it is
        whole; `progress` is called with (done, in all). With `keys`, the file of the keys of this
        store's encrypted backups, which is made if need be, it has each record encrypted with a key
        of its own: docs/backup.md.

        Raises AlreadyExistsError when there is anything but an empty directory at `path`,
        DataLossError when a file of the store or that of the keys is damaged,
        FailedPreconditionError for a store in memory and for keys of another store,
        InvalidArgumentError for keys within the backup or the store.
        """
        if keys is None:
            return self._source.log.backup(named_path(path), progress)
        from eventstore.copies.restoring import back_up_encrypted

        upto = self._source.position()
        made = back_up_encrypted(
            self._source.log, upto, named_path(path), named_path(keys), progress
        )
        return VerifyReport(True, made.position, made.commits, made.position, made.tree_head, [])

    @where_the_store_is
    def copy_to(
        self,
        target: str | Path,
        progress: Progress | None = None,
        *,
        erasures: str | Path | None = None,
        actor: str | None = None,
    ) -> CopyReport:
        """Copy this store to a path or URL, or what it has more than the copy there: see `copy`."""
        from eventstore.copies.copying import copy_log

        return copy_log(
            self._source.log,
            place_of(target),
            progress,
            erasures=None if erasures is None else named_path(erasures),
            actor=who_repeats(actor),
        )

    @served("audit")
    def register_of_erasures(self) -> str:
        """What was erased, as the text that `eventstore.restore` takes: keep it apart.

        A line of JSON for each erasure and each release of a hold, and one that ends the register.
        They hold positions, hashes, codes, tickets and names of properties.
        """
        from eventstore.copies.register import register_text, registered

        log, snapshot = self._source.log, self._source.snapshot()
        return register_text(log.store_id, snapshot.position, registered(log, snapshot))

    @where_the_store_is
    def destroy_keys(self, keys: str | Path) -> int:
        """Destroy the keys of all that is erased, so that no encrypted backup gives it back.

        How many were there yet. Raises NotFoundError when there is no file of keys,
        FailedPreconditionError for those of another store, DataLossError for a file of anything
        else.
        """
        from eventstore.copies.restoring import destroy_keys

        return destroy_keys(self._source.log, self._source.snapshot(), named_path(keys))


def _first(findings: Sequence[Finding]) -> str:
    found = "; ".join(finding.what for finding in findings[:3])
    return f"{found} (and {len(findings) - 3} more)" if len(findings) > 3 else found


def copy(
    source: str | Path,
    target: str | Path,
    progress: Progress | None = None,
    *,
    erasures: str | Path | None = None,
    actor: str | None = None,
) -> CopyReport:
    """Copy a store from one path or URL to another: the same records, heads and proofs.

    A target that has what the source begins with gets what it lacks; what was broken off is
    continued so. Each commit is verified before it is appended. What is erased is not copied, and
    is destroyed in the target. With `erasures`, for a source that is a backup, all that this
    register names is erased in the target, by an `actor`, as `restore` does. See docs/copying.md.

    Raises FailedPreconditionError for a target with anything else, DataLossError for a damaged
    source, once all before that is copied, AbortedError when somebody else puts or copies into the
    target, NotFoundError without a source, InvalidArgumentError for a target in memory or within
    the source, and for the register what `restore` does.
    """
    from eventstore.copies.copying import copy_store

    return copy_store(
        place_of(source),
        place_of(target),
        progress,
        erasures=None if erasures is None else named_path(erasures),
        actor=who_repeats(actor),
    )


def restore(
    backup: str | Path,
    path: str | Path,
    progress: Progress | None = None,
    *,
    keys: str | Path | None = None,
    erasures: str | Path | None = None,
    actor: str | None = None,
) -> RestoreReport:
    """Make a store at `path` of what `MetadataStore.backup` has made, and verify it.

    With `erasures`, a file of what `register_of_erasures` gives, all that it names is erased before
    the store is there, by an `actor`, who is the operating system's user if none is named; the
    report's `repeated` counts what was. An encrypted backup demands its `keys` and this file. The
    backup is only read.

    Raises AlreadyExistsError when there is anything but an empty directory at `path`, DataLossError
    when a file of the backup, the keys or the erasures is damaged, NotFoundError when the backup is
    none or the file of keys is not there, FailedPreconditionError without keys or erasures where
    they are demanded and for those of another store, InvalidArgumentError for keys of a backup that
    is not encrypted.
    """
    from eventstore.copies.restoring import restore

    return restore(
        named_path(backup),
        named_path(path),
        keys=None if keys is None else named_path(keys),
        erasures=None if erasures is None else named_path(erasures),
        actor=who_repeats(actor),
        progress=progress,
    )


def who_repeats(actor: str | None) -> str | None:
    """Whose erasures are that are recorded again: the operating system's user's by default."""
    return checked_attribution(actor, None, None).actor or operating_system_user()
