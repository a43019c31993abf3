"""A backup whose contents only its keys open: envelopes and commitments in the clear.

It is a folder of Parquet files, with a `backup.json` that names them. A record has its envelope,
the commitments to its content and to who put it, and both encrypted (AES-256-GCM), each with a key
of its own. So the tree of the store can be checked without a key, and destroying a key leaves the
record as an erasure does.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import msgspec

from eventstore import errors
from eventstore.copies.keyring import Keyring
from eventstore.log import Commit, Log, Position, Progress, Record
from eventstore.log.leaf import SALT_BYTES, encode_attribution
from eventstore.log.no_store import BACKUP_NAME
from eventstore.log.os_errors import translating
from eventstore.log.recorded import grouped
from eventstore.log.regular_file import opened_to_read, read_regular
from eventstore.times import Microseconds

if TYPE_CHECKING:
    import pyarrow as pa

_VERSION: Final = 1
_FORMAT: Final = "eventstore-encrypted-backup"
_COMMITMENTS: Final = {"content": "commitment", "who": "who_commitment"}
_PARTS: Final = tuple(_COMMITMENTS)
_NONCE: Final = bytes(12)
"""Each key encrypts one thing, and always the same: `_cipher`."""


class BackupFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of a backup; its digest is in hexadecimal."""

    file: str
    sha256: str
    first_position: int
    last_position: int


class EncryptedBackup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `backup.json` says: which store, up to where, the tree's head there, and the files."""

    format: str
    version: int
    store_id: UUID
    created_at: Microseconds
    position: int
    commits: int
    tree_head: str
    files: tuple[BackupFile, ...]


def write_backup(
    log: Log, upto: Position, folder: Path, keyring: Keyring, progress: Progress | None
) -> EncryptedBackup:
    """Write the records up to a position, encrypted, into an empty folder, durably."""
    keyring.make_up_to(upto)
    files: list[BackupFile] = []
    commits, head = 0, hashlib.sha256(b"").digest()
    for some in grouped(log.commits(0, upto)):
        files.append(_written(log.store_id, folder, len(files) + 1, some, keyring))
        commits, head = some[-1].number, some[-1].tree_head
        if progress is not None:
            progress(some[-1].last_position, upto)
    created_at = log.recorded_at(1) if upto else Microseconds(0)
    made = EncryptedBackup(
        _FORMAT, _VERSION, log.store_id, created_at, upto, commits, head.hex(), tuple(files)
    )
    _write_durably(folder / BACKUP_NAME, msgspec.json.encode(made) + b"\n")
    return made


def read_backup(folder: Path) -> EncryptedBackup:
    """What a backup says of itself. Raises DataLossError for one that is damaged."""
    path = folder / BACKUP_NAME
    with translating("reading", path):
        text = read_regular(path)
    try:
        said = msgspec.json.decode(text, type=EncryptedBackup)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise errors.DataLossError(f"{path} is damaged: {error}") from None
    if (said.format, said.version) != (_FORMAT, _VERSION):
        raise errors.FailedPreconditionError(
            f"{path} is of format {said.format!r}, version {said.version}: this version reads "
            f"{_FORMAT}, version {_VERSION}"
        )
    return said


def read_commits(folder: Path, backup: EncryptedBackup, keyring: Keyring) -> Iterator[Commit]:
    """The commits of a backup; what has no key is erased in them.

    Raises DataLossError for what is missing, damaged or was encrypted with other keys.
    """
    pending: list[Record] = []
    position, commits, last_head = 0, 0, hashlib.sha256(b"").digest()
    for entry in backup.files:
        if entry.first_position != position + 1 or "/" in entry.file:
            raise errors.DataLossError(
                f"{folder / BACKUP_NAME} is damaged: its files do not follow"
            )
        for record, head in _read(folder / entry.file, entry, backup.store_id, keyring):
            position += 1
            if record.position != position:
                raise _damaged(folder / entry.file, f"position {position} was to come")
            pending.append(record)
            if head is not None:
                yield Commit(record.commit, record.recorded_at, head, tuple(pending))
                pending, commits, last_head = [], record.commit, head
    if pending or position != backup.position:
        raise errors.DataLossError(f"{folder} ends before its last commit, at position {position}")
    if (commits, last_head.hex()) != (backup.commits, backup.tree_head):
        raise _damaged(
            folder / BACKUP_NAME,
            f"it says {backup.commits} commits with the tree head {backup.tree_head}, and its "
            f"files have {commits} with {last_head.hex()}",
        )


def _written(
    store_id: UUID, folder: Path, number: int, commits: Sequence[Commit], keyring: Keyring
) -> BackupFile:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    records = [record for commit in commits for record in commit.records]
    first, last = records[0].position, records[-1].position
    columns: dict[str, list[Any]] = {name: [] for name in _schema().names}
    for record, keys in zip(records, keyring.keys(first, last), strict=True):
        for name in _ENVELOPE:
            columns[name].append(getattr(record, name))
        for name, value in _sealed(store_id, record, keys).items():
            columns[name].append(value)
    columns["tree_head"] = [head for commit in commits for head in commit.tree_heads]
    path = folder / f"{number:010d}.parquet"
    table = pa.Table.from_pydict(columns, schema=_schema())
    parquet.write_table(table, path, compression="zstd", write_page_checksum=True)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return BackupFile(path.name, _sha256(path), first, last)


def _sealed(
    store_id: UUID, record: Record, keys: tuple[bytes | None, bytes | None]
) -> dict[str, bytes | None]:
    """The commitments of a record, and what they stand for, encrypted; None once that is erased."""
    content = None if record.salt is None else record.salt + (record.payload or b"")
    who = None
    if record.who_salt is not None:
        texts = (record.actor, record.reason, record.request_id)
        who = record.who_salt + encode_attribution(*texts)
    sealed: dict[str, bytes | None] = {
        "commitment": record.commitment if content is None else hashlib.sha256(content).digest(),
        "who_commitment": record.who_commitment if who is None else hashlib.sha256(who).digest(),
    }
    for part, plain, key in zip(_PARTS, (content, who), keys, strict=True):
        sealed[part] = None
        if plain is None:
            continue
        if key is None:
            raise errors.FailedPreconditionError(
                f"the key of position {record.position} is destroyed, and the record is there: the "
                "keys are of what this store was before it was restored; name a new file of keys"
            )
        bound = _bound(store_id, record.position, part)
        commitment = sealed[_COMMITMENTS[part]]
        assert commitment is not None
        sealed[part] = _cipher(key, commitment).encrypt(_NONCE, plain, bound)
    return sealed


def _read(
    path: Path, entry: BackupFile, store_id: UUID, keyring: Keyring
) -> Iterator[tuple[Record, bytes | None]]:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    with translating("reading", path):
        try:
            digest = _sha256(path)
        except FileNotFoundError:
            raise _damaged(path, "it is missing") from None
        if digest != entry.sha256:
            raise _damaged(path, "it does not match its SHA-256")
    try:
        table = parquet.read_table(path, schema=_schema(), page_checksum_verification=True)
        rows = table.set_column(2, "recorded_at", table["recorded_at"].cast(pa.int64())).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, str(error)) from None
    if len(rows) != entry.last_position - entry.first_position + 1:
        raise _damaged(path, f"it has {len(rows)} records")
    keys = keyring.keys(entry.first_position, entry.last_position)
    for row, of_record in zip(rows, keys, strict=True):
        yield _opened(path, row, store_id, of_record), row["tree_head"]


def _opened(
    path: Path, row: dict[str, Any], store_id: UUID, keys: tuple[bytes | None, bytes | None]
) -> Record:
    opened: dict[str, bytes | None] = {}
    for (part, commitment), key in zip(_COMMITMENTS.items(), keys, strict=True):
        opened[part] = None
        if row[part] is None or key is None:
            continue
        plain = _decrypted(path, row, part, store_id, key)
        if hashlib.sha256(plain).digest() != row[commitment]:
            raise _damaged(path, f"the {part} at position {row['position']} is not what was put")
        opened[part] = plain
    content, who = opened["content"], opened["who"]
    texts: Sequence[str | None] = (
        (None, None, None) if who is None else _texts(path, row, who[SALT_BYTES:])
    )
    actor, reason, request_id = texts
    return Record(
        **{name: row[name] for name in _ENVELOPE},
        actor=actor,
        reason=reason,
        request_id=request_id,
        salt=None if content is None else content[:SALT_BYTES],
        payload=None if content is None else content[SALT_BYTES:],
        commitment=row["commitment"] if content is None else None,
        who_salt=None if who is None else who[:SALT_BYTES],
        who_commitment=row["who_commitment"] if who is None else None,
    )


def _decrypted(path: Path, row: dict[str, Any], part: str, store_id: UUID, key: bytes) -> bytes:
    from cryptography.exceptions import InvalidTag

    try:
        bound = _bound(store_id, row["position"], part)
        cipher = _cipher(key, row[_COMMITMENTS[part]])
        plain: bytes = cipher.decrypt(_NONCE, row[part], bound)
        return plain
    except InvalidTag:
        raise _damaged(
            path,
            f"the key does not open the {part} at position {row['position']}; take the file of "
            "keys that the backup was made with",
        ) from None


def _texts(path: Path, row: dict[str, Any], encoded: bytes) -> Sequence[str | None]:
    texts: list[str | None] = []
    at = 0
    while at < len(encoded):
        if encoded[at] == 0:
            texts.append(None)
            at += 1
            continue
        length = int.from_bytes(encoded[at + 1 : at + 5], "big")
        texts.append(encoded[at + 5 : at + 5 + length].decode(errors="replace"))
        at += 5 + length
    if len(texts) != 3 or encode_attribution(*texts) != encoded:
        raise _damaged(path, f"who put the record at position {row['position']} is no text")
    return texts


def _cipher(key: bytes, commitment: bytes) -> Any:
    """What encrypts the one thing that a commitment is to, and nothing else.

    A store that was restored may have another record at a position, and the same key for it.
    """
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(hashlib.sha256(key + commitment).digest())


def _bound(store_id: UUID, position: int, part: str) -> bytes:
    """What is encrypted belongs to this store, record and part, and opens as no other."""
    return store_id.bytes + position.to_bytes(8, "big") + part.encode()


_ENVELOPE: Final = (
    *("position", "commit", "recorded_at", "kind", "entity_id", "type_id", "previous"),
)


def _schema() -> pa.Schema:
    import pyarrow as pa

    from eventstore.log.columns import RECORD_SCHEMA

    kept = (*_ENVELOPE, "commitment", "who_commitment")
    return pa.schema(
        [
            *(RECORD_SCHEMA.field(name) for name in kept),
            *(pa.field(part, pa.binary()) for part in _PARTS),
            RECORD_SCHEMA.field("tree_head"),
        ]
    )


def _sha256(path: Path) -> str:
    with opened_to_read(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_durably(path: Path, content: bytes) -> None:
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _damaged(path: Path, what: str) -> errors.DataLossError:
    return errors.DataLossError(f"{path} is damaged: {what}")
