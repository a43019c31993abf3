"""The files of sealed segments in object storage, where a SQL database has only their entries."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit
from uuid import UUID

import msgspec

from eventstore import errors
from eventstore.log.closed_segments import SegmentMovedError
from eventstore.log.manifest import Segment
from eventstore.log.objects.bucket import Bucket
from eventstore.log.objects.connecting import of_url
from eventstore.log.objects.opening import refuse_within
from eventstore.log.remote.sealed_segments import fetching

_SCHEMES: Final = ("s3", "gs", "az")
_FILE: Final = re.compile(r"(\d{10})(?:-(\d+))?-[0-9a-f]{16}\.parquet")


class SegmentBucket:
    """Objects in a folder of the store's own, named by what they have: none is ever changed."""

    def __init__(self, bucket: Bucket, store_id: UUID) -> None:
        self._bucket = bucket
        self._folder = str(store_id)
        self.name = bucket.name

    def make(self) -> None:
        """Note whose folder it is, which shows whether objects can be put there.

        Raises FailedPreconditionError where a store in object storage is.
        """
        refuse_within(self._bucket)
        note = msgspec.json.encode({"store_id": self._folder})
        self._bucket.create(f"{self._folder}/store.json", note)

    def key_of(self, segment: Segment) -> str:
        """Two who seal or rewrite a segment in two ways have two objects."""
        stem = segment.file.removesuffix(".parquet")
        return f"{self._folder}/{stem}-{segment.file_sha256[:16]}.parquet"

    def url_of(self, segment: Segment) -> str:
        return f"{self.name}/{self.key_of(segment)}"

    def put(self, entry: Segment, path: Path) -> None:
        """Put a segment's file. It is overwritten if it has not the bytes that its name says."""
        key, content = self.key_of(entry), path.read_bytes()
        if self._bucket.create(key, content, is_file=True) is not None:
            self._bucket.overwrite(key, content, doing="putting in", is_file=True)

    def fetch(self, segment: Segment, path: Path) -> None:
        """Write a segment's file. Raises SegmentMovedError where there is none."""
        content = self._bucket.get(self.key_of(segment), is_file=True)
        if content is None:
            raise SegmentMovedError(segment)
        with fetching(path) as file:
            file.write(content)

    def others(self, segments: Iterable[Segment]) -> Iterator[tuple[str, Segment]]:
        """The keys of objects that are of none of the segments, each with that of its number.

        Without those that another process may be about to name: of later rewritings.
        """
        by_number = {segment.number: segment for segment in segments}
        for one in self._bucket.list(self._folder):
            found = _FILE.fullmatch(one.key.rpartition("/")[2])
            segment = by_number.get(int(found[1])) if found else None
            if found is None or segment is None or one.key == self.key_of(segment):
                continue
            if int(found[2] or 1) <= len(segment.rewritten_from) + 1:
                yield one.key, segment

    def remove_others(self, segments: Iterable[Segment]) -> None:
        """Remove these."""
        for key, _ in self.others(segments):
            self._bucket.remove(key)

    def refuse_no_right(self) -> None:
        """Raise PermissionDeniedError where nothing may be removed."""
        # There is none of this name.
        self._bucket.remove(f"{self._folder}/none")


def segment_bucket(url: str, store_id: UUID) -> SegmentBucket:
    """Where the segments of a store lie by a URL. Raises InvalidArgumentError for what is none."""
    if urlsplit(url).scheme not in _SCHEMES:
        raise errors.InvalidArgumentError(
            "segments= names no object storage: write s3://bucket/prefix, gs:// or az://"
        )
    return SegmentBucket(of_url(url), store_id)


def recorded_place(url: str) -> str:
    """The URL as the store records it: without the profile, which is a name of one machine."""
    parts = urlsplit(url)
    options = sorted(option for option in parse_qsl(parts.query) if option[0] != "profile")
    place = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
    return f"{place}?{urlencode(options, safe=':/')}" if options else place
