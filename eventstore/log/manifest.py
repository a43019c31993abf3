"""The manifest: which segments a store consists of. Replaced as a whole, atomically."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from pathlib import Path
from uuid import UUID

import msgspec

from eventstore import errors
from eventstore.log.no_store import refuse_encrypted_backup
from eventstore.log.os_errors import translated
from eventstore.log.record import LATEST
from eventstore.log.regular_file import read_regular
from eventstore.log.syncing import sync_directory
from eventstore.times import Microseconds

FORMAT_VERSION = 2
COMPACTED_VERSION = 3
"""That of a manifest with merged segments, which readers of the one before do not know."""

MANIFEST_NAME = "manifest.json"

_HASH = re.compile("[0-9a-f]{64}")
_REWRITTEN = re.compile(r"([0-9]{10})-([2-9]|[1-9][0-9]{1,9})\.parquet")


class Segment(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """A segment that takes no more commits.

    `file` is relative to the store's `log` folder; it is Parquet once `sealed`, an Arrow IPC stream
    before. `file_sha256` is of the whole file. Times are microseconds since the epoch. `frontier`
    are the complete subtrees of the Merkle tree up to the segment's end, in hexadecimal.
    `rewritten_from` are the SHA-256 of the sealed files that erasures and compaction have replaced,
    the first one first. A segment that compaction has merged takes the place of all from
    `first_number` to `number`.
    """

    number: int
    sealed: bool
    file: str
    file_bytes: int
    file_sha256: str
    first_position: int
    last_position: int
    first_commit: int
    last_commit: int
    first_recorded_at: Microseconds
    last_recorded_at: Microseconds
    tree_head: str
    frontier: tuple[str, ...]
    rewritten_from: tuple[str, ...] = ()
    first_number: int | None = None

    @property
    def numbers(self) -> range:
        """The numbers of the segments whose place it takes; its own alone unless it was merged."""
        return range(self.first_number or self.number, self.number + 1)


class ActiveSegment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The segment that commits are appended to; `header_sha256` is of its schema message."""

    number: int
    file: str
    header_bytes: int
    header_sha256: str
    first_position: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`generation` counts the manifests of a store, from 1. `created_at` is in microseconds."""

    store_id: UUID
    created_at: Microseconds
    generation: int
    segments: tuple[Segment, ...]
    active: ActiveSegment


IF_COPIED = "if this is a plain copy of a store that was in use, copy it with `eventstore backup`"
"""What else may be wrong with a store that lacks what it says it has."""

HEADER_BYTES_MAX = 65_536


_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class _Stored(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format_version: int
    sha256: str
    manifest: msgspec.Raw


class _FormatVersion(msgspec.Struct, frozen=True):
    format_version: int


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a store, as a store has written it.

    Raises what `stored_manifest` does, and DataLossError for what no store has written.
    """
    manifest = stored_manifest(directory)
    _refuse_impossible(directory, manifest)
    return manifest


def stored_manifest(directory: Path) -> Manifest:
    """The manifest of a store, whoever wrote it: for a caller that compares what it says.

    Raises NotFoundError when there is none, DataLossError when it is damaged, and
    FailedPreconditionError when a version of this package wrote it whose format this one does not
    read.
    """
    path = directory / MANIFEST_NAME
    try:
        text = read_regular(path)
    except OSError as error:
        refuse_encrypted_backup(directory)
        raise translated(error, "reading the manifest", path) from None
    try:
        version = msgspec.json.decode(text, type=_FormatVersion).format_version
    except _UNREADABLE as error:
        raise _damaged(
            path, f"it is not readable as JSON with a format_version ({error})"
        ) from None
    if 0 < version < FORMAT_VERSION:
        raise errors.FailedPreconditionError(
            f"{path} has format version {version}; this version reads {FORMAT_VERSION} and "
            f"{COMPACTED_VERSION}: use the version of mlmd-eventstore that made the store"
        )
    if version > COMPACTED_VERSION:
        raise errors.FailedPreconditionError(
            f"{path} has format version {version}; this version reads up to {COMPACTED_VERSION}: "
            "upgrade mlmd-eventstore to open the store"
        )
    try:
        stored = msgspec.json.decode(text, type=_Stored)
        manifest = msgspec.json.decode(stored.manifest, type=Manifest)
    except _UNREADABLE as error:
        raise _damaged(path, str(error)) from None
    if text != _encode(manifest):
        raise _damaged(path, "its content does not match its SHA-256")
    if not 0 <= manifest.created_at <= LATEST or not 0 < manifest.generation < 2**63:
        raise _damaged(path, "what it says of itself cannot be")
    return manifest


def _refuse_impossible(directory: Path, manifest: Manifest) -> None:
    """Raise DataLossError for a manifest that no store has written, although its SHA-256 fits.

    A reader could not make sense of what it names, and a writer could remove the wrong file.
    """
    number = position = commit = recorded_at = 0
    for segment in manifest.segments:
        first, number = number + 1, segment.number
        if (
            (segment.numbers.start, segment.file) != (first, file_name(segment))
            or not can_be_merged(segment)
            or not all(map(_HASH.fullmatch, segment.rewritten_from))
            or (segment.rewritten_from and not segment.sealed)
            or segment.first_position != position + 1
            or segment.first_commit != commit + 1
            or not 0 < segment.last_commit - commit <= segment.last_position - position
            or not recorded_at <= segment.first_recorded_at <= segment.last_recorded_at <= LATEST
        ):
            raise _damaged(directory / MANIFEST_NAME, f"what it says of segment {number} cannot be")
        position, commit = segment.last_position, segment.last_commit
        recorded_at = segment.last_recorded_at
    if manifest.segments:
        # Of the trees, only the most recent is read from here: the next append starts from it.
        newest = manifest.segments[-1]
        hashes = (newest.tree_head, *newest.frontier)
        if len(newest.frontier) != position.bit_count() or not all(map(_HASH.fullmatch, hashes)):
            raise _damaged(directory / MANIFEST_NAME, "what it says of the tree cannot be")
    active = manifest.active
    if (
        (active.number, active.file) != (number + 1, closed_name(number + 1))
        or active.first_position != position + 1
        or not 0 < active.header_bytes <= HEADER_BYTES_MAX
    ):
        raise _damaged(directory / MANIFEST_NAME, "what it says of the active segment cannot be")


def can_be_merged(segment: Segment) -> bool:
    """Whether the entry has the files of all segments whose place it takes."""
    if segment.first_number is None:
        return True
    replaced = len(segment.rewritten_from)
    return segment.sealed and 0 < segment.first_number < segment.number <= (
        segment.first_number + replaced - 1
    )


def file_name(segment: Segment) -> str:
    """The name that the segment's file must have."""
    if segment.sealed:
        return sealed_name(segment.number, len(segment.rewritten_from))
    return closed_name(segment.number)


def sealed_name(number: int, rewritings: int = 0) -> str:
    """Of a Parquet file, which is never changed: another name each time it is rewritten."""
    rewriting = f"-{rewritings + 1}" if rewritings else ""
    return f"{number:010d}{rewriting}.parquet"


def closed_name(number: int) -> str:
    return f"{number:010d}.arrows"


def rewriting_of(name: str) -> tuple[int, int] | None:
    """Which segment's file has a name, rewritten how often; None for one that was never rewritten.

    Also None for what is no name of a segment's file.
    """
    found = _REWRITTEN.fullmatch(name)
    return (int(found[1]), int(found[2]) - 1) if found is not None else None


def manifest_to_append_by(directory: Path, known: Manifest) -> Manifest:
    """The manifest of a store that is open, in which segments may have been sealed meanwhile.

    Raises DataLossError when whoever opens the store by it would not find what is appended now: it
    is missing, damaged, another store's, or older than the one `known`.
    """
    path = directory / MANIFEST_NAME
    try:
        found = stored_manifest(directory)
    except errors.NotFoundError:
        raise errors.DataLossError(
            f"the manifest {path} is missing: nothing was put; restore it from a backup, the "
            "segments beside it are not touched"
        ) from None
    except errors.StatusError as error:
        raise errors.make_exception(f"{error.message}; nothing was put", error.error_code) from None
    if not _goes_on_from(found, known) or found.generation < known.generation:
        raise errors.DataLossError(
            f"the manifest {path} is older than the store, or another store's: nothing was put; "
            "restore the newest one from a backup, the segments beside it are not touched"
        )
    _refuse_impossible(directory, found)
    return found


def _goes_on_from(found: Manifest, known: Manifest) -> bool:
    """Whether segments were sealed, rewritten or merged, and nothing else has changed."""
    ends, known_ends = (
        [(s.number, s.last_position, s.tree_head) for s in manifest.segments]
        for manifest in (found, known)
    )
    return (
        (found.store_id, found.active) == (known.store_id, known.active)
        and ends[-1:] == known_ends[-1:]
        and {*ends} <= {*known_ends}
    )


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Replace the manifest so that a crash leaves the old one or the new one, and durably so."""
    path = directory / MANIFEST_NAME
    write_durably(path, _encode(manifest))


def write_durably(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, sync it, and move it into place."""
    temporary = path.with_name(f"{path.name}.{os.urandom(8).hex()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_directory(path.parent)
    except OSError as error:
        raise translated(error, "writing", path) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _encode(manifest: Manifest) -> bytes:
    body = msgspec.json.encode(manifest)
    digest = hashlib.sha256(body).hexdigest()
    is_compacted = any(segment.first_number is not None for segment in manifest.segments)
    version = COMPACTED_VERSION if is_compacted else FORMAT_VERSION
    stored = _Stored(format_version=version, sha256=digest, manifest=msgspec.Raw(body))
    return msgspec.json.encode(stored) + b"\n"


def _damaged(path: Path, what: str) -> errors.DataLossError:
    return errors.DataLossError(
        f"the manifest {path} is damaged: {what}; restore it from a backup, the segments beside it "
        "are not touched"
    )
