"""The Merkle tree over all records: hashes and appending as in RFC 6962, section 2.1."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

HASH_BYTES = hashlib.sha256().digest_size

EMPTY_HEAD = hashlib.sha256(b"").digest()
"""The head of a tree without leaves."""


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """The right edge of a tree: the heads of its complete subtrees, the largest first.

    It is all that appending needs: one hash for each 1 in the binary form of the size.
    """

    def __init__(self, size: int = 0, subtrees: Iterable[bytes] = ()) -> None:
        self.size = size
        self.subtrees = list(subtrees)
        if len(self.subtrees) != size.bit_count():
            raise ValueError(
                f"a tree of {size} leaves has {size.bit_count()} complete subtrees, "
                f"not {len(self.subtrees)}"
            )

    def append(self, leaf: bytes) -> None:
        """Add the next leaf by its hash."""
        complete, remaining = leaf, self.size
        while remaining & 1:
            complete = node_hash(self.subtrees.pop(), complete)
            remaining >>= 1
        self.subtrees.append(complete)
        self.size += 1

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Append many leaves, level by level: without a step for each."""
        subtrees, sha256 = self.subtrees, hashlib.sha256
        level, remaining = [*leaves], self.size
        if len(level) == 1:
            self.append(level[0])
            return
        self.size += len(level)
        incomplete: list[bytes] = []
        while level:
            if remaining & 1:
                level.insert(0, subtrees.pop())
            if len(level) & 1:
                incomplete.append(level.pop())
            remaining >>= 1
            heads = iter(level)
            level = [
                sha256(b"\x01" + left + right).digest()
                for left, right in zip(heads, heads, strict=True)
            ]
        subtrees += reversed(incomplete)

    def head(self) -> bytes:
        """The tree head over all leaves so far."""
        if not self.subtrees:
            return EMPTY_HEAD
        head, sha256 = self.subtrees[-1], hashlib.sha256
        for subtree in reversed(self.subtrees[:-1]):
            head = sha256(b"\x01" + subtree + head).digest()
        return head

    def copy(self) -> Frontier:
        return Frontier(self.size, self.subtrees)


def tree_head(leaves: Sequence[bytes]) -> bytes:
    """The head over leaf hashes, by the recursive definition of the RFC."""
    if not leaves:
        return EMPTY_HEAD
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return node_hash(tree_head(leaves[:split]), tree_head(leaves[split:]))
