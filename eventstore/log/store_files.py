"""Find files in a store's folders that belong to nothing: readers of a folder read them, too."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from itertools import chain
from pathlib import Path
from typing import Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as parquet

from eventstore import errors
from eventstore.log import acknowledged, commit_ends
from eventstore.log.closed_segments import ClosedSegments, SegmentMovedError
from eventstore.log.columns import (
    DERIVED_NAMES,
    RECORD_SCHEMA,
    derive,
    one_batch,
    same_values,
)
from eventstore.log.commit import records_of
from eventstore.log.destroying import is_left
from eventstore.log.erased import Erased
from eventstore.log.ipc_stream import schema_message_bytes
from eventstore.log.leaf import leaf_hashes
from eventstore.log.log import Finding
from eventstore.log.manifest import (
    MANIFEST_NAME,
    Manifest,
    Segment,
    closed_name,
    rewriting_of,
    sealed_name,
    stored_manifest,
)
from eventstore.log.os_errors import (
    read_to_check,
    refuse_lack_of_threads,
    tells_of_damage,
    translated,
)
from eventstore.log.parquet_structure import NOT_AS_WRITTEN, ParquetStructure, check_schema
from eventstore.log.regular_file import IRREGULAR, is_irregular
from eventstore.log.sealing import sealed_batches
from eventstore.log.segment_check import SegmentJob, check_segment, segment_metadata

_TOP: Final = {MANIFEST_NAME: False, "lock": False, "sealing.lock": False, "log": True}
_HAS_ERASED: Final = (
    "still has what an erasure says was destroyed; open the store for writing: that removes it"
)
_CACHES: Final = "projections"
_LOG: Final = frozenset((acknowledged.FILE_NAME, commit_ends.FILE_NAME))
_SEGMENT_FILE: Final = re.compile(r"[0-9]{10}(\.[^.]+)?\.(arrows|parquet)")
_TEMPORARY: Final = re.compile(r"(manifest\.json|[0-9]{10}\.(arrows|parquet))\..+\.tmp")
"""What a writer writes under before it renames; one that dies leaves it for the next to remove."""


def strange_files(directory: Path) -> list[Finding]:
    """What lies in the store's folders, caches apart, and is no part of it."""
    before = stored_manifest(directory)
    try:
        beside = _entries(directory)
    except OSError as error:
        return [_unreadable(error, directory)]
    findings = [_strange(entry, why) for entry in beside if (why := _strange_beside_it(entry))]
    try:
        inside = _entries(directory / "log")
    except OSError as error:
        return [_unreadable(error, directory / "log")]
    # A writer that has gone on since names files that the first manifest does not know.
    manifests = [before, stored_manifest(directory)]
    for entry in inside:
        finding = _strange_in_log(directory, entry, manifests)
        if finding is not None:
            findings.append(finding)
    return findings


def _strange(entry: os.DirEntry[str], why: str) -> Finding:
    advice = "move it out of the store"
    return Finding(f"{entry.path} belongs to nothing: {why}; {advice}", entry.path)


def _perhaps_newer(entry: os.DirEntry[str], why: str) -> Finding:
    """What may be of the log: a manifest that was put back does not name what came after it."""
    advice = (
        "leave it there, since the manifest may be older than it: restore the store from a backup, "
        "and verify that with your newest checkpoint"
    )
    return Finding(f"{entry.path} belongs to nothing: {why}; {advice}", entry.path)


def _unreadable(error: OSError, folder: Path) -> Finding:
    """The finding where this is damage; raises a class of the API's where it is not."""
    if not tells_of_damage(error):
        raise translated(error, "reading", folder) from None
    return Finding(f"{folder} cannot be read: {error.strerror}", str(folder))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _strange_beside_it(entry: os.DirEntry[str]) -> str | None:
    """Why what lies beside the log is no part of a store, None when it is one."""
    if entry.name == _CACHES or _TEMPORARY.fullmatch(entry.name):
        return None
    if _TOP.get(entry.name) is not entry.is_dir(follow_symlinks=False):
        return "it is no part of a store"
    return f"it is {IRREGULAR}" if is_irregular(Path(entry.path)) else None


def _strange_in_log(
    directory: Path, entry: os.DirEntry[str], manifests: list[Manifest]
) -> Finding | None:
    """What is wrong with a file that is none of the log's, None when it is one."""
    if entry.is_dir(follow_symlinks=False):
        return _strange(entry, "a log has no folders")
    if is_irregular(Path(entry.path)):
        return _strange(entry, f"it is {IRREGULAR}")
    if entry.name in _LOG or _TEMPORARY.fullmatch(entry.name):
        return None
    for manifest in manifests:
        named = {manifest.active.file, *(segment.file for segment in manifest.segments)}
        if entry.name in named:
            return None
    manifest = manifests[-1]
    if entry.name == closed_name(manifest.active.number + 1):
        # A rotation writes the header of the next segment before the manifest names it.
        why = _unless_gone(entry, _is_not_a_header(Path(entry.path)))
        return None if why is None else _perhaps_newer(entry, why)
    if _merging(entry.name, manifest):
        return _unless_sound(entry, _differs_from_log(directory, entry.name, manifest))
    previous: Segment | None = None
    for segment in manifest.segments:
        if _is_replaced(entry.name, segment):
            return _unless_sound(entry, _differs_from_log(directory, entry.name, manifest))
        if _rewritings(entry.name, segment) is not None:
            return _other_form(directory, entry, segment, previous, manifest)
        previous = segment
    why = "the manifest does not name it"
    if entry.name == sealed_name(manifest.active.number):
        why += " (where a copy to this store was broken off, go on with that, which removes it)"
    if _SEGMENT_FILE.fullmatch(entry.name):
        return _perhaps_newer(entry, why)
    return _strange(entry, why)


def _merging(name: str, manifest: Manifest) -> bool:
    """Whether a compaction may have been merging segments into a file of this name."""
    number, rewritings = rewriting_of(name) or (0, 0)
    end = next((n for n, s in enumerate(manifest.segments) if s.number == number), 0)
    files = len(manifest.segments[end].rewritten_from) + 1 if end else 0
    for segment in reversed(manifest.segments[:end]):
        files += len(segment.rewritten_from) + 1
        if files >= rewritings:
            return files == rewritings
    return False


def _is_replaced(name: str, segment: Segment) -> bool:
    """Whether a merged segment may have taken the place of a sealed file of this name."""
    never = _SEGMENT_FILE.fullmatch(name) and name == sealed_name(int(name[:10]))
    found = (int(name[:10]), 0) if never else rewriting_of(name)
    return (
        found is not None
        and segment.first_number is not None
        and found[0] in segment.numbers
        # One with as many rewritings as the merged one is that.
        and found[1] < len(segment.rewritten_from)
    )


def _unless_sound(entry: os.DirEntry[str], why: str | None) -> Finding | None:
    why = _unless_gone(entry, why)
    return None if why is None else _perhaps_newer(entry, why)


def _differs_from_log(directory: Path, name: str, manifest: Manifest) -> str | None:
    """Why a file is not records of the log, as a compaction leaves them that stopped half-way."""
    folder = directory / "log"
    closed = ClosedSegments(folder)
    metadata = segment_metadata(manifest.store_id, int(name[:10]))
    end: int | None = None
    try:
        data = read_to_check(folder / name)
        file = parquet.ParquetFile(pa.py_buffer(data), page_checksum_verification=True)
        check_schema(file, metadata)
        structure = ParquetStructure(data, metadata)
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            structure.check_group(group, table)
            batch = one_batch(table.to_batches())
            first, last = batch["position"][0].as_py(), batch["position"][-1].as_py()
            if end not in (None, first - 1):
                return f"it has no records between position {end} and {first}"
            end = last
            there = chain.from_iterable(
                records_of(part)
                for segment in manifest.segments
                if segment.first_position <= last and first <= segment.last_position
                for part in closed.batches(
                    segment,
                    max(first, segment.first_position) - 1,
                    min(last, segment.last_position),
                    RECORD_SCHEMA.names,
                    derived=True,
                )
            )
            leaves = [*leaf_hashes(manifest.store_id, records_of(batch))]
            if leaves != [*leaf_hashes(manifest.store_id, there)]:
                return f"its records from position {first} on are not those of the log"
            fault = _derived_otherwise(batch)
            if fault is not None:
                return fault
    except SegmentMovedError:
        # Whoever has moved it removes what is left as well.
        return None
    except OSError as error:
        refuse_lack_of_threads(error)
        return f"it cannot be read: {error}"
    except (errors.StatusError, AssertionError, *NOT_AS_WRITTEN) as error:
        refuse_lack_of_threads(error)
        return f"it is not as a store writes records of the log: {error}"
    return None


def _derived_otherwise(batch: pa.RecordBatch) -> str | None:
    derived = derive(batch["kind"].to_pylist(), batch["payload"].to_pylist())
    for name in DERIVED_NAMES:
        if not same_values(batch[name], derived[name]):
            first = batch["position"][0].as_py()
            return f"column {name} does not agree with the payloads from position {first} on"
    return None


def _other_form(
    directory: Path,
    entry: os.DirEntry[str],
    segment: Segment,
    previous: Segment | None,
    manifest: Manifest,
) -> Finding | None:
    """What is wrong with a form of a segment that the manifest does not name.

    It may be all that is left of the segment, as in a copy that was made while this was sealed.
    """
    why = _unless_gone(entry, _differs(directory, entry.name, segment, previous, manifest))
    if why is None:
        return None
    job = SegmentJob(str(directory), manifest.store_id, segment, None, previous)
    if not check_segment(job).findings:
        return _strange(entry, why)
    return Finding(
        f"{entry.path} is damaged, and so is {segment.file}, which the manifest names for segment "
        f"{segment.number}: {why}; leave both there, restore the store from a backup, and verify "
        "that with a checkpoint",
        entry.path,
        segment.number,
        segment.first_commit,
        segment.first_position,
    )


def _rewritings(name: str, segment: Segment) -> int | None:
    """How often the segment was rewritten in the form whose file has a name, None if it has not.

    A crash leaves the next form, or the ones before.
    """
    if name in (closed_name(segment.number), sealed_name(segment.number)):
        return 0
    number, rewritings = rewriting_of(name) or (0, 0)
    is_form = number == segment.number and rewritings <= len(segment.rewritten_from) + 1
    return rewritings if is_form else None


def _differs(
    directory: Path, name: str, segment: Segment, previous: Segment | None, manifest: Manifest
) -> str | None:
    """A sealing or erasure that stopped half-way leaves two forms, which must have equal leaves."""
    try:
        other = _in_form(directory, name, segment)
    except OSError:
        return "it cannot be read"
    job = SegmentJob(str(directory), manifest.store_id, other, None, previous)
    findings = check_segment(job).findings
    if not findings:
        return None
    return f"it is not segment {segment.number} in another form: {findings[0].what}"


def _in_form(directory: Path, name: str, segment: Segment) -> Segment:
    """What the manifest would say of a segment if a file were its form. Raises OSError."""
    content = read_to_check(directory / "log" / name)
    return msgspec.structs.replace(
        segment,
        sealed=name != closed_name(segment.number),
        rewritten_from=("",) * (_rewritings(name, segment) or 0),
        file=name,
        file_bytes=len(content),
        file_sha256=hashlib.sha256(content).hexdigest(),
    )


def forms_with_erased(directory: Path, destroyed: Erased) -> list[Finding]:
    """The other forms of segments, none of them strange, that have what was destroyed."""
    folder = directory / "log"
    closed, findings = ClosedSegments(folder), []
    for segment in stored_manifest(directory).segments:
        erased = destroyed.within(segment.first_position, segment.last_position)
        for entry in _entries(folder) if erased else ():
            is_other = entry.name != segment.file and _rewritings(entry.name, segment) is not None
            if _is_replaced(entry.name, segment):
                continue
            # Whoever removes it meanwhile does what is to be done.
            with contextlib.suppress(OSError, SegmentMovedError):
                if is_other and is_left(closed, _in_form(directory, entry.name, segment), erased):
                    what = f"{entry.path} {_HAS_ERASED}"
                    findings.append(Finding(what, entry.path, segment.number))
    return findings + _merged_with_erased(directory, destroyed)


def _merged_with_erased(directory: Path, destroyed: Erased) -> list[Finding]:
    """What compactions have left that has what was destroyed."""
    folder, manifest = directory / "log", stored_manifest(directory)
    closed, findings = ClosedSegments(folder), []
    for entry in _entries(folder) if destroyed else ():
        is_replaced = any(_is_replaced(entry.name, segment) for segment in manifest.segments)
        if not is_replaced and not _merging(entry.name, manifest):
            continue
        with contextlib.suppress(OSError, SegmentMovedError):
            form = _in_form(directory, entry.name, manifest.segments[0])
            batches = sealed_batches(folder / entry.name, 0, 2**63 - 1, ["position"])
            positions = [batch["position"] for batch in batches]
            form = msgspec.structs.replace(
                form,
                first_position=positions[0][0].as_py(),
                last_position=positions[-1][-1].as_py(),
            )
            if is_left(closed, form, destroyed.within(form.first_position, form.last_position)):
                number = int(entry.name[:10])
                findings.append(Finding(f"{entry.path} {_HAS_ERASED}", entry.path, number))
    return findings


def _is_not_a_header(path: Path) -> str | None:
    try:
        content = read_to_check(path)
    except OSError:
        return "it cannot be read"
    if schema_message_bytes(memoryview(content)) == len(content):
        return None
    return "it is after the active segment, and more than the beginning of the next"


def _unless_gone(entry: os.DirEntry[str], why: str | None) -> str | None:
    return why if os.path.lexists(entry.path) else None
