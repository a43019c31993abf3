"""What the objects of a log are called, below its prefix."""

from __future__ import annotations

from typing import Final

import msgspec

from eventstore.log.manifest import Segment, sealed_name

STORE: Final = "store.json"
SEGMENTS: Final = "segments"

POSITIONS_PER_FOLDER: Final = 100_000
"""Commits that begin at as many positions are in a folder, since Azure lists no part of one."""


def commit_key(first_position: int) -> str:
    """Of the commit whose first record has a position: nobody else can put one there."""
    return f"{commit_folder(first_position)}/{first_position:020d}"


def copied_commits(segment: int) -> bytes:
    """What the object of commits has that only the segment of a number has: a copy brought them."""
    return msgspec.json.encode({"segment": segment})


def commit_folder(position: int) -> str:
    """Where the commit is that begins at a position."""
    return f"commits/{position // POSITIONS_PER_FOLDER:015d}"


def position_of(key: str) -> int:
    """The first position of the commit that has a key; 0 for what is none of a commit."""
    name = key.rpartition("/")[2]
    position = int(name) if name.isascii() and name.isdecimal() else 0
    return position if key == commit_key(position) else 0


def entry_key(number: int) -> str:
    """Of the entry of a sealed segment."""
    return f"{SEGMENTS}/{number:010d}.json"


def number_of_entry(key: str) -> int | None:
    """The number of the segment whose entry has a key; None for what is no entry."""
    stem = key.rpartition("/")[2].removesuffix(".json")
    is_number = stem.isascii() and stem.isdecimal()
    return int(stem) if is_number and key == entry_key(int(stem)) else None


def file_key(segment: Segment) -> str:
    """Of the Parquet file of a sealed segment.

    That of a rewritten one is named by what it has: two who rewrite it have two of them.
    """
    if not segment.rewritten_from:
        return f"{SEGMENTS}/{sealed_name(segment.number)}"
    stem = sealed_name(segment.number, len(segment.rewritten_from)).removesuffix(".parquet")
    return f"{SEGMENTS}/{stem}-{segment.file_sha256[:16]}.parquet"
