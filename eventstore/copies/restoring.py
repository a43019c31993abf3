"""Make encrypted backups and destroy their keys; restore any backup without what was erased."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import msgspec

from eventstore import errors
from eventstore.copies.encrypted_backup import (
    EncryptedBackup,
    read_backup,
    read_commits,
    write_backup,
)
from eventstore.copies.keyring import Keyring, opened_keyring
from eventstore.copies.register import Register, read_register
from eventstore.copies.repeating import Repeated, repeat
from eventstore.log import Log, Position, Progress, VerifyReport
from eventstore.log.backup import copy_store, new_directory
from eventstore.log.erased import Erased
from eventstore.log.leaf import leaf_hashes
from eventstore.log.merkle import Frontier
from eventstore.log.no_store import BACKUP_NAME, is_encrypted_backup
from eventstore.log.os_errors import refuse_no_path, resolved
from eventstore.log.recreating import recreate
from eventstore.log.stores import is_store, open_log, store_id_of, verify_store
from eventstore.log.syncing import sync_directory
from eventstore.long_work import long_work
from eventstore.projections import Projections
from eventstore.retention.erasing import complete
from eventstore.store import Engine
from eventstore.store.attribution import Attribution
from eventstore.store.erasures import erased_as_of
from eventstore.store.snapshot import Snapshot


class RestoreReport(VerifyReport, frozen=True):
    """What `verify` saw of a restored store, and what was `repeated` of the register."""

    repeated: Repeated = Repeated()


@long_work("Encrypting")
def back_up_encrypted(
    log: Log, upto: Position, target: Path, keys: Path, progress: Progress | None = None
) -> EncryptedBackup:
    """Write an encrypted backup of all up to a position to `target`, and read it back.

    `keys` is the file of keys, made if there is none, and the same for all backups of a store: keep
    it apart from them. Each record counts twice in the progress. Raises AlreadyExistsError when
    there is anything but an empty directory at `target`, InvalidArgumentError for keys within the
    backup or the store, and what `opened_keyring` does.
    """
    _refuse_beside(keys, *filter(None, (target, log.directory)))

    def tell(done: int, _: int) -> None:
        if progress is not None:
            progress(done, 2 * upto)

    with (
        new_directory(target) as folder,
        opened_keyring(keys, log.store_id, makes=True) as keyring,
    ):
        folder.mkdir()
        made = write_backup(log, upto, folder, keyring, tell)
        _check(folder, made, keyring, lambda done: tell(upto + done, 0))
        sync_directory(folder)
    return made


@long_work("Restoring")
def restore(
    backup: Path,
    target: Path,
    *,
    keys: Path | None = None,
    erasures: Path | None = None,
    actor: str | None = None,
    progress: Progress | None = None,
) -> RestoreReport:
    """Make a store of a backup, erase again what the register says, and verify it.

    The store appears when it is whole and has nothing of that any more. `actor` is whose these
    erasures are. An encrypted backup takes its `keys` and the register, an empty one where nothing
    was ever erased. What has lost its key stays erased.

    Raises AlreadyExistsError when there is anything but an empty directory at `target`,
    InvalidArgumentError for keys of a backup that is not encrypted, NotFoundError for keys of a
    folder that is no backup, FailedPreconditionError without keys or register where they are
    needed, DataLossError for what is damaged and for a record without its key that no erasure is
    of, and what `opened_keyring`, `read_register` and `repeat` do.
    """
    refuse_no_path(backup)
    is_encrypted = is_encrypted_backup(backup)
    if is_encrypted and (keys is None or erasures is None):
        raise errors.FailedPreconditionError(
            f"{backup} is encrypted: give the file of its keys, and the register of erasures (an "
            "empty file if nothing was ever erased), which `eventstore erasures` writes"
        )
    if keys is not None and not is_encrypted:
        if backup.is_dir() and not is_store(backup):
            raise errors.NotFoundError(
                f"there is no {BACKUP_NAME} in {backup}, which an encrypted backup has: check the "
                "path, or take another copy of the backup"
            )
        raise errors.InvalidArgumentError(f"{backup} is not encrypted: leave the keys out")
    if erasures is None:
        return _report(copy_store(backup, target, progress), Repeated())
    with new_directory(target) as store:
        destroyed = Erased()
        if keys is None:
            copy_store(backup, store, progress)
        else:
            destroyed = _decrypt(backup, store, keys, progress)
        register = read_register(erasures, store_id_of(store))
        with contextlib.closing(open_log(store)) as log:
            repeated, erased = repeat_and_complete(log, register, actor)
        lost = [
            *destroyed.content.without(erased.content).positions(),
            *destroyed.who.without(erased.who).positions(),
        ]
        if lost:
            raise errors.DataLossError(
                f"{backup} cannot be restored: keys of records are destroyed, that at position "
                f"{min(lost)} the first, and {erasures} does not name an erasure of "
                "that; take the newest register of erasures, or a copy of the keys that still has "
                "them"
            )
        report = verify_store(store, None, after=0, upto=None, signed_heads=())
        if not report.ok:
            raise errors.DataLossError(f"{backup} cannot be restored: {report.findings[0].what}")
    return _report(report, repeated)


def destroy_keys(log: Log, snapshot: Snapshot, keys: Path) -> int:
    """Destroy the keys of all that is erased, so that no encrypted backup gives it back; how many.

    Raises what `opened_keyring` does.
    """
    with opened_keyring(keys, log.store_id) as keyring:
        return keyring.destroy(erased_as_of(snapshot.index, snapshot.position))


def _report(report: VerifyReport, repeated: Repeated) -> RestoreReport:
    return RestoreReport(**msgspec.structs.asdict(report), repeated=repeated)


def _decrypt(backup: Path, store: Path, keys: Path, progress: Progress | None) -> Erased:
    """Make a store of an encrypted backup; what has lost its key is erased in it, and returned."""
    said = read_backup(backup)
    store.mkdir()
    with opened_keyring(keys, said.store_id) as keyring:
        commits = read_commits(backup, said, keyring)

        def told() -> Any:
            for commit in commits:
                yield commit
                if progress is not None:
                    progress(commit.last_position, said.position)

        recreate(store, said.store_id, said.created_at, told())
        return keyring.destroyed(said.position)


def _check(folder: Path, said: EncryptedBackup, keyring: Keyring, tell: Any) -> None:
    """Read a backup back. Raises DataLossError unless it gives the store's tree heads."""
    frontier = Frontier()
    for commit in read_commits(folder, said, keyring):
        frontier.extend(leaf_hashes(said.store_id, commit.records))
        if frontier.head() != commit.tree_head:
            raise errors.DataLossError(
                f"commit {commit.number} does not read back as it was written: check the disk"
            )
        tell(commit.last_position)


def repeat_and_complete(log: Log, register: Register, actor: str | None) -> tuple[Repeated, Erased]:
    """Record again in a store what a register says, and complete it; all that is erased then.

    Raises what `repeat` does.
    """
    with contextlib.closing(Projections(log)) as projections:
        engine = Engine(log, projections, Attribution(actor, "restored from a backup"))
        repeated = repeat(engine, register)
        complete(engine)
        snapshot = engine.snapshot()
        return repeated, erased_as_of(snapshot.index, snapshot.position)


def _refuse_beside(keys: Path, *folders: Path) -> None:
    for folder in folders:
        if resolved(folder) in resolved(keys).parents:
            raise errors.InvalidArgumentError(
                f"{keys} is inside of {folder}: keep the keys apart from what they encrypt"
            )
