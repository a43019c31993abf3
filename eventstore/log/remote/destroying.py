"""Rewrite the sealed segments that a server keeps without what is erased."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import msgspec

from eventstore.log.creation import LOG_FOLDER, start_segment
from eventstore.log.destroying import rewrite_segments
from eventstore.log.erased import Erased
from eventstore.log.log import Progress, RewrittenFile
from eventstore.log.manifest import Manifest, Segment, read_manifest, write_manifest
from eventstore.log.remote.keeper import Keeper
from eventstore.log.temporary_folder import TemporaryFolder
from eventstore.times import Microseconds


def rewrite_kept(
    keeper: Keeper,
    store_id: UUID,
    segments: Sequence[Segment],
    erased: Erased,
    progress: Progress | None,
) -> list[RewrittenFile]:
    """Rewrite each segment that still has any of it, in a folder first: see `Log.destroy`."""
    with TemporaryFolder() as temporary:
        directory = temporary / "store"
        folder = directory / LOG_FOLDER
        folder.mkdir(parents=True)
        for segment in segments:
            if erased.within(segment.first_position, segment.last_position):
                keeper.fetch(segment, folder / segment.file)
        last = segments[-1].last_position if segments else 0
        active = start_segment(folder, store_id, len(segments) + 1, first_position=last + 1)
        write_manifest(
            directory,
            Manifest(
                store_id=store_id,
                created_at=Microseconds(0),
                generation=1,
                segments=tuple(segments),
                active=active,
            ),
        )

        def replace(before: Segment, entry: Segment, prepared: Path) -> None:
            keeper.replace_segment(before, entry, prepared)
            prepared.rename(folder / entry.file)
            manifest = read_manifest(directory)
            known = tuple(entry if s == before else s for s in manifest.segments)
            write_manifest(directory, msgspec.structs.replace(manifest, segments=known))

        return rewrite_segments(directory, erased, replace, progress)
