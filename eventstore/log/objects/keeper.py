"""The commits and sealed segments of a log, as objects of a bucket."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from uuid import UUID

import msgspec

from eventstore import errors
from eventstore.log.closed_segments import ClosedSegments, SegmentMovedError
from eventstore.log.commit import has_valid_checksum
from eventstore.log.ipc_message import (
    Envelope,
    UndecodableError,
    commit_of_message,
    message_envelope,
)
from eventstore.log.ipc_stream import walk_messages
from eventstore.log.log import Finding
from eventstore.log.manifest import Manifest, Segment
from eventstore.log.objects.bucket import Bucket, Listed
from eventstore.log.objects.keys import (
    POSITIONS_PER_FOLDER,
    SEGMENTS,
    commit_folder,
    commit_key,
    copied_commits,
    entry_key,
    file_key,
    number_of_entry,
    position_of,
)
from eventstore.log.record import Commit
from eventstore.log.remote.sealed_segments import damaged, fetching, in_order, read_entry
from eventstore.log.remote.sealing import entry_of
from eventstore.log.temporary_folder import TemporaryFolder
from eventstore.times import Microseconds
from eventstore.wording import counted


class ObjectKeeper:
    """What `Keeper` describes, below the prefix of a bucket.

    Nothing is ever removed. Only erasing overwrites: commits with nothing, and files of segments
    that were rewritten with a file of no records, so that nobody can make them once more.
    """

    def __init__(self, bucket: Bucket, store_id: UUID, created_at: Microseconds) -> None:
        self.bucket = bucket
        self.name = bucket.name
        self.place = bucket.place
        self._store_id = store_id
        self._created_at = created_at
        self._entries: dict[str, tuple[str, Segment]] = {}
        """By key, the tag of an entry that was read."""

    def now(self) -> Microseconds:
        return self.bucket.now()

    def created_at(self) -> Microseconds:
        return self._created_at

    def segments(self) -> tuple[Segment, ...]:
        listed = {
            one.key: one.tag
            for one in self.bucket.list(SEGMENTS)
            if number_of_entry(one.key) is not None
        }
        known = self._entries
        unread = [key for key, tag in listed.items() if not tag or known.get(key, ("",))[0] != tag]
        found = {key: entry for key, entry in known.items() if key in listed}
        for key, content in self.bucket.get_many(unread):
            number = number_of_entry(key)
            assert number is not None
            found[key] = (
                listed[key],
                read_entry(self.name, number, content or b"", f"the object {key}"),
            )
        self._entries = found
        return in_order(self.name, (found[key][1] for key in sorted(found)))

    def messages_after(self, segment: Segment | None) -> Iterator[bytes]:
        for position, content in self.commits_after(segment.last_position if segment else 0):
            if content == copied_commits(segment.number + 1 if segment else 1):
                raise errors.DataLossError(
                    f"{self.name}: a copy to this store was broken off at position {position}: go "
                    "on with it"
                )
            if not content:
                raise self.lost(position)
            messages = messages_of(content)
            self._refuse_misplaced(position, messages)
            yield from messages

    def commits_after(self, position: int) -> Iterator[tuple[int, bytes]]:
        """The positions and contents of all objects of commits after one, in order."""
        while True:
            folder = commit_folder(position + 1)
            keys = [one.key for one in self.bucket.list(folder, after=commit_key(position))]
            for key, content in self.bucket.get_many(filter(position_of, keys)):
                first, content = position_of(key), content or b""
                yield first, content
                envelope = _envelope(messages_of(content)[-1]) if content else None
                position = envelope.last_position if envelope else first
            # The next one may be in the next folder.
            if not keys or commit_folder(position + 1) == folder:
                return

    def file_of(self, segment: Segment) -> str:
        return file_key(segment)

    def url_of(self, segment: Segment) -> str:
        return f"{self.name}/{file_key(segment)}"

    def fetch(self, segment: Segment, path: Path) -> None:
        content = self.bucket.get(file_key(segment), is_file=True)
        if content is None:
            raise SegmentMovedError(segment)
        with fetching(path) as file:
            file.write(content)

    def add_segment(self, entry: Segment, path: Path) -> bool:
        """Where its file was made by another process, which may have died, that is the segment."""
        found = self.bucket.create(file_key(entry), path.read_bytes(), is_file=True)
        if found is not None:
            if self.bucket.get(entry_key(entry.number)) is not None:
                return False
            entry = self._adopted(entry, found)
        self.bucket.create(entry_key(entry.number), msgspec.json.encode(entry))
        return found is None

    def add_recorded(
        self,
        commits: Sequence[Commit],
        entry: Segment,
        path: Path,
    ) -> bool:
        """Of the commits only the first has an object, which says that the segment has them.

        Nobody else can come to the positions of the others: who knows them has the segment. The
        file of a copy that was broken off, which may have fewer of them, is the segment then.
        """
        told = copied_commits(entry.number)
        if self.bucket.create(commit_key(entry.first_position), told) is not None:
            return False
        kept = entry
        found = self.bucket.create(file_key(entry), path.read_bytes(), is_file=True)
        if found is not None:
            if self.bucket.get(entry_key(entry.number)) is not None:
                return False
            kept, _ = self._entry_of(entry, found)
            heads = {commit.last_position: commit.tree_head.hex() for commit in commits}
            if heads.get(kept.last_position) != kept.tree_head:
                raise self._strange(entry)
        if self.bucket.create(entry_key(entry.number), msgspec.json.encode(kept)) is not None:
            return False
        return kept.last_position == entry.last_position

    def replace_segment(self, before: Segment, entry: Segment, path: Path) -> None:
        self.bucket.create(file_key(entry), path.read_bytes(), is_file=True)
        encoded = (msgspec.json.encode(before), msgspec.json.encode(entry))
        if not self.bucket.replace(entry_key(entry.number), *encoded):
            raise errors.AbortedError(
                f"another process erases in {self.name}: nothing of segment {entry.number} was "
                "erased: try again"
            )

    def refuse_no_right(self) -> None:
        """The right to overwrite shows as something is overwritten."""

    def finish_erasing(self, segments: Iterable[Segment], first_positions: Iterable[int]) -> None:
        named = {file_key(segment) for segment in segments}
        numbers = {f"{segment.number:010d}" for segment in segments}
        for one in self.bucket.list(SEGMENTS):
            if (
                _number_in(one.key) in numbers
                and one.key not in named
                and one.size != len(no_records())
            ):
                self.bucket.overwrite(one.key, no_records())
        listed: dict[str, list[Listed]] = {}
        found = {self._object_with(position, listed) for position in first_positions}
        self.bucket.overwrite_many(sorted(one.key for one in found if one and one.size), b"")

    def faults(
        self, closed: ClosedSegments, manifest: Manifest, tell: Callable[[str], None]
    ) -> Iterator[Finding]:
        """Of commits that segments have as well, the newest in each is read, and tells of all.

        And those that were put together, since only their object tells of which one it is.
        """
        yield from self._other_files(manifest)
        unread = 0
        for segment in manifest.segments:
            erased_by_first = _commits_in(closed, segment)
            sizes = self._sizes(segment)
            key, told = commit_key(segment.first_position), copied_commits(segment.number)
            if sizes.get(key) == len(told) and self.bucket.get(key) == told:
                sizes[key] = 0
            for key in sorted(sizes.keys() - set(map(commit_key, erased_by_first))):
                yield Finding(f"the object {key} is of no commit", segment=segment.number)
            # The first positions of the commits that each object has.
            kept: dict[int, list[int]] = {}
            together: list[int] = []
            for first in erased_by_first:
                if commit_key(first) in sizes or first == segment.first_position:
                    together = kept[first] = []
                together.append(first)
            for begin, firsts in kept.items():
                size = sizes.get(commit_key(begin))
                found = self._firsts_in(begin) if size and len(firsts) > 1 else {*firsts}
                if not found:
                    yield self._differs(begin, segment)
                elif size is None:
                    what = f"the object {commit_key(begin)} is missing"
                    yield Finding(what, segment=segment.number)
                elif found != {*firsts}:
                    first = min(found ^ {*firsts})
                    what = "is of no commit" if first in found else "is missing"
                    what = f"the object {commit_key(first)} {what}"
                    yield Finding(what, segment=segment.number)
                if size and any(erased_by_first[first] for first in firsts):
                    yield Finding(
                        f"the object {commit_key(begin)} still has what was erased: open the store "
                        "to write, which goes on with it",
                        segment=segment.number,
                        position=begin,
                    )
            full = [begin for begin in kept if sizes.get(commit_key(begin))]
            unread += len(full)
            if full:
                unread -= 1
                yield from self._fault_of(full[-1], kept[full[-1]][-1], closed, segment)
        if unread:
            tell(
                f"{counted(unread, 'object')} of commits that sealed segments have as well: of "
                "each segment the newest was compared, whose tree head covers the others"
            )

    def close(self) -> None:
        """Nothing is held."""

    def _sizes(self, segment: Segment) -> dict[str, int]:
        """By key, how long the objects of commits are that begin in a segment."""
        first, last = segment.first_position, segment.last_position
        found: dict[str, int] = {}
        position = first
        while position <= last:
            folder = commit_folder(position)
            for one in self.bucket.list(folder, after=commit_key(position - 1)):
                if first <= position_of(one.key) <= last or not position_of(one.key):
                    found[one.key] = one.size
            position += POSITIONS_PER_FOLDER - position % POSITIONS_PER_FOLDER
        return found

    def _object_with(self, position: int, listed: dict[str, list[Listed]]) -> Listed | None:
        """The object that has the commit which begins at a position; `listed` is by folder."""
        begin = position
        while begin >= 0:
            folder = commit_folder(begin)
            if folder not in listed:
                listed[folder] = [one for one in self.bucket.list(folder) if position_of(one.key)]
            before = [one for one in listed[folder] if position_of(one.key) <= position]
            if before:
                return before[-1]
            begin = begin // POSITIONS_PER_FOLDER * POSITIONS_PER_FOLDER - 1
        return None

    def _firsts_in(self, begin: int) -> set[int]:
        """The first positions of the commits in the object that begins at one; none if damaged."""
        messages = messages_of(self.bucket.get(commit_key(begin)) or b"")
        if not _begins_at(begin, messages):
            return set()
        return {envelope.first_position for envelope in map(_envelope, messages) if envelope}

    def _fault_of(
        self, begin: int, first: int, closed: ClosedSegments, segment: Segment
    ) -> Iterator[Finding]:
        """What is wrong with an object that a segment has the commits of; where the last begins."""
        columns = ["position", "commit", "tree_head"]
        head = None
        for batch in closed.batches(
            segment, first - 1, segment.last_position, columns, derived=False
        ):
            head = next(filter(None, batch["tree_head"].to_pylist()), None)
            if head is not None:
                break
        if self.head_of(begin) != head:
            yield self._differs(begin, segment)

    def _differs(self, begin: int, segment: Segment) -> Finding:
        return Finding(
            f"the object {commit_key(begin)} has something else than its sealed segment",
            segment=segment.number,
            position=begin,
        )

    def _other_files(self, manifest: Manifest) -> Iterator[Finding]:
        """Files of rewritten segments that have records yet."""
        named = {file_key(segment) for segment in manifest.segments}
        numbers = {f"{segment.number:010d}" for segment in manifest.segments}
        for one in self.bucket.list(SEGMENTS):
            is_other = _number_in(one.key) in numbers and one.key not in named
            if is_other and one.size != len(no_records()):
                yield Finding(
                    f"the object {one.key} is of no segment: open the store to write, which goes "
                    "on with an erasure that was interrupted"
                )

    def head_of(self, begin: int) -> bytes | None:
        """The newest tree head in the object that begins at a position.

        None where it is damaged or empty.
        """
        return newest_head_in(begin, self.bucket.get(commit_key(begin)) or b"")

    def _adopted(self, entry: Segment, content: bytes) -> Segment:
        """The entry of a file that was made in the place of one. Raises DataLossError."""
        adopted, first = self._entry_of(entry, content)
        found = self._object_with(first, {})
        if found is None or self.head_of(position_of(found.key)) != bytes.fromhex(
            adopted.tree_head
        ):
            raise self._strange(entry)
        return adopted

    def _entry_of(self, entry: Segment, content: bytes) -> tuple[Segment, int]:
        """The entry of such a file, and where its last commit begins. Raises DataLossError."""
        with TemporaryFolder() as temporary:
            path = temporary / "found.parquet"
            path.write_bytes(content)
            before = next((s for s in self.segments() if s.number == entry.number - 1), None)
            return entry_of(path, self._store_id, entry.number, before)

    def _strange(self, entry: Segment) -> errors.DataLossError:
        what = f"{file_key(entry)} is not what commits say: remove that object"
        return damaged(self.name, entry, what)

    def lost(self, position: int) -> errors.DataLossError:
        """What to raise for an object of commits that has none, though no segment has them."""
        return errors.DataLossError(
            f"{self.name}: the commit at position {position} is lost: the object "
            f"{commit_key(position)} has no commit, and no segment has it; restore it from a "
            "backup or an older version"
        )

    def _refuse_misplaced(self, position: int, messages: Sequence[bytes]) -> None:
        """Raise DataLossError for commits that are not those that their key says."""
        if not _begins_at(position, messages):
            raise errors.DataLossError(
                f"{self.name}: the object {commit_key(position)} is damaged, or that of another "
                "commit; restore it from a backup or an older version"
            )


@cache
def no_records() -> bytes:
    """A sealed segment's file without records, which adds nothing to whoever reads all files."""
    import pyarrow.parquet as parquet

    from eventstore.log.columns import RECORD_SCHEMA

    sink = io.BytesIO()
    with parquet.ParquetWriter(sink, RECORD_SCHEMA):
        pass
    return sink.getvalue()


def messages_of(content: bytes) -> list[bytes]:
    """The messages of the commits that an object has; what is damaged comes last, as it is."""
    data = memoryview(content)
    walk = walk_messages(data)
    found = [bytes(data[start:end]) for start, end in pairwise([0, *walk.ends])]
    return [*found, bytes(data[walk.stopped_at :])] if walk.stopped_at < len(data) else found


def newest_head_in(begin: int, content: bytes) -> bytes | None:
    """The newest tree head in what the object that begins at a position has: see `head_of`."""
    messages = messages_of(content)
    commit = commit_of_message(messages[-1]) if _begins_at(begin, messages) else None
    return commit.tree_head if commit else None


def is_copied(content: bytes) -> bool:
    """Whether an object of commits says that a segment has them, which a copy brings."""
    return content.startswith(b"{")


def _begins_at(position: int, messages: Sequence[bytes]) -> bool:
    """Whether sound messages begin at a position."""
    found = [envelope.first_position for envelope in map(_envelope, messages) if envelope]
    return len(found) == len(messages) and found[:1] == [position]


def _envelope(message: bytes) -> Envelope | None:
    """What the message of a commit says of it; None where it is damaged or empty."""
    try:
        data = memoryview(message)
        return message_envelope(data) if has_valid_checksum(data) else None
    except UndecodableError:
        return None


def _number_in(key: str) -> str:
    """The digits of the segment's number in the key of a Parquet file; "" for other keys."""
    name = key.rpartition("/")[2]
    return name[:10] if name.endswith(".parquet") else ""


def _commits_in(closed: ClosedSegments, segment: Segment) -> dict[int, bool]:
    """The first positions of a segment's commits, and whether any of each is erased."""
    found: dict[int, bool] = {}
    after, number, first = segment.first_position - 1, 0, 0
    columns = ["position", "commit", "commitment", "who_commitment"]
    for batch in closed.batches(segment, after, segment.last_position, columns, derived=False):
        rows = zip(*(batch[name].to_pylist() for name in columns), strict=True)
        for position, commit, commitment, who_commitment in rows:
            if commit != number:
                number, first = commit, position
                found[first] = False
            found[first] |= commitment is not None or who_commitment is not None
    return found
