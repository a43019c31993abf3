"""The heads of subtrees of the log's Merkle tree, from which every proof is put together."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from eventstore.log import Log, Progress, Record, content_id
from eventstore.log.cache_file import written_whole
from eventstore.log.commit import records_of
from eventstore.log.leaf import leaf_hashes
from eventstore.log.merkle import tree_head
from eventstore.log.regular_file import read_regular

if TYPE_CHECKING:
    from eventstore.projections import Projections

_LOGGER = logging.getLogger("eventstore.projections")

SUBTREE_HEADS_NAME: Final = "subtree-heads"

BLOCK_LEAVES: Final = 256
_HASH_BYTES: Final = 32
_MAGIC: Final = b"eventstore subtree heads 1\n"


def _leaves(log: Log, first: int, end: int) -> Iterator[bytes]:
    """The hashes of the leaves [first, end), counted from 0: leaf n is the record at n + 1."""
    for batch in log.scan(first, end, Record.__struct_fields__):
        yield from leaf_hashes(log.store_id, records_of(batch))


class SubtreeHeads:
    """Heads over any range of leaves that is a subtree, for one log.

    The heads of all whole blocks of 256 leaves are kept, in the file `path` too unless it is None:
    a cache, which `forget` throws away. Computing them reads the log once; later only what is new.
    A cache that was tampered with gives proofs that do not hold, never wrong ones that do.
    Safe to use from several threads.
    """

    def __init__(self, log: Log, path: Path | None, *, read_only: bool) -> None:
        self._log = log
        self._path = path
        self._read_only = read_only
        self._mutex = threading.Lock()
        self._content_id = content_id(log)
        self._blocks = self._read()

    def extend(self, size: int, progress: Progress | None = None) -> None:
        """Have all whole blocks below `size` leaves. `progress` counts leaves."""
        self._blocks_below(size, progress)

    def _blocks_below(self, size: int, progress: Progress | None = None) -> list[bytes]:
        """The heads of at least all whole blocks below `size` leaves, which nobody changes."""
        with self._mutex:
            if self._content_id != content_id(self._log):
                self._content_id = content_id(self._log)
                self._blocks = self._read()
            known, wanted = len(self._blocks), size // BLOCK_LEAVES
            if known < wanted:
                blocks, block = [*self._blocks], []
                for leaf in _leaves(self._log, known * BLOCK_LEAVES, wanted * BLOCK_LEAVES):
                    block.append(leaf)
                    if len(block) == BLOCK_LEAVES:
                        blocks.append(tree_head(block))
                        block = []
                        if progress is not None:
                            progress(len(blocks) * BLOCK_LEAVES, size)
                self._blocks = blocks
                self._write()
            return self._blocks

    def _write(self) -> None:
        if self._path is None or self._read_only:
            return
        try:
            self._log.cache_folder(make=True)
            with written_whole(self._path) as file:
                file.write(self._stamp() + b"".join(self._blocks))
        except OSError as error:
            _LOGGER.warning("%s cannot be written (%s): proofs do without", self._path, error)

    def forget(self) -> None:
        """Throw away what is kept."""
        with self._mutex:
            self._blocks = []
            if self._path is not None and not self._read_only:
                self._path.unlink(missing_ok=True)

    def head(self, first: int, end: int) -> bytes:
        """The head over the leaves [first, end), a subtree of a tree that the log has."""
        whole_blocks = end // BLOCK_LEAVES
        if first % BLOCK_LEAVES or end - first < BLOCK_LEAVES:
            return tree_head(list(_leaves(self._log, first, end)))
        # Another thread may have thrown away what was kept.
        heads = self._blocks_below(end)[first // BLOCK_LEAVES : whole_blocks]
        rest = list(_leaves(self._log, whole_blocks * BLOCK_LEAVES, end))
        # A block is a complete subtree, so it stands for its leaves wherever the tree is split.
        return tree_head([*heads, tree_head(rest)] if rest else heads)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is kept, as where the file is of no use."""
        return not self._blocks

    def are_of_log(self) -> bool:
        """Whether what is kept is what the log gives."""
        leaves = len(self._blocks) * BLOCK_LEAVES
        if leaves > self._log.position:
            return False
        block: list[bytes] = []
        number = 0
        for leaf in _leaves(self._log, 0, leaves):
            block.append(leaf)
            if len(block) == BLOCK_LEAVES:
                if tree_head(block) != self._blocks[number]:
                    return False
                block, number = [], number + 1
        return True

    def _stamp(self) -> bytes:
        return _MAGIC + self._content_id.bytes

    def _read(self) -> list[bytes]:
        if self._path is None:
            return []
        try:
            content = read_regular(self._path)
        except OSError:
            return []
        stamp, blocks = self._stamp(), len(content) - len(self._stamp())
        if not content.startswith(stamp) or blocks % _HASH_BYTES:
            return []
        return [content[i : i + _HASH_BYTES] for i in range(len(stamp), len(content), _HASH_BYTES)]


class _Kept:
    """The heads of the stores that are open, kept between proofs."""

    def __init__(self) -> None:
        self.start_over()

    def start_over(self) -> None:
        """Forget all, as in a child: a thread of its parent may have been at them."""
        self._mutex = threading.Lock()
        self._heads: WeakKeyDictionary[Projections, SubtreeHeads] = WeakKeyDictionary()

    def of(self, log: Log, projections: Projections) -> SubtreeHeads:
        with self._mutex:
            found = self._heads.get(projections)
            if found is None:
                folder = log.cache_folder()
                path = None if folder is None else folder / SUBTREE_HEADS_NAME
                found = SubtreeHeads(log, path, read_only=not projections.saves)
                self._heads[projections] = found
            return found


_kept = _Kept()
os.register_at_fork(after_in_child=_kept.start_over)


def heads_of(log: Log, projections: Projections) -> SubtreeHeads:
    """The heads of an open store's log, the same ones for all of its proofs."""
    return _kept.of(log, projections)
