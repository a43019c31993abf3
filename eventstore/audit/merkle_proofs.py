"""Audit paths and consistency proofs of RFC 6962, section 2.1, made and checked.

Making them needs only the heads of complete subtrees, which the caller gives by a function of
(first leaf, leaf after the last). Checking follows the algorithms of RFC 9162, sections 2.1.3.2 and
2.1.4.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eventstore.log.merkle import node_hash

SubtreeHead = Callable[[int, int], bytes]
"""The head over the leaves [first, end), counted from 0."""


def inclusion_path(index: int, size: int, head: SubtreeHead) -> list[bytes]:
    """The audit path of the leaf at `index` (from 0) in a tree of `size` leaves, leaf to root."""
    path = []
    first, end = 0, size
    while end - first > 1:
        split = first + _left_size(end - first)
        if index < split:
            path.append(head(split, end))
            end = split
        else:
            path.append(head(first, split))
            first = split
    return path[::-1]


def consistency_path(older: int, newer: int, head: SubtreeHead) -> list[bytes]:
    """What shows that the first `older` leaves of a tree of `newer` are the older tree's."""
    path = []
    first, end = 0, newer
    is_whole = True
    while older != end:
        split = first + _left_size(end - first)
        if older <= split:
            path.append(head(split, end))
            end = split
        else:
            path.append(head(first, split))
            first = split
            is_whole = False
    if not is_whole:
        path.append(head(first, end))
    return path[::-1]


def includes(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Whether a path shows that the leaf with this hash is at `index` below this root."""
    if not 0 <= index < size:
        return False
    node, last, found = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            return False
        if node & 1 or node == last:
            found = node_hash(sibling, found)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            found = node_hash(found, sibling)
        node >>= 1
        last >>= 1
    return last == 0 and found == root


def is_consistent(
    older: int, newer: int, path: Sequence[bytes], older_root: bytes, newer_root: bytes
) -> bool:
    """Whether a path shows that the newer tree begins with the older one, which is not empty."""
    if not 0 < older <= newer:
        return False
    if older == newer:
        return not path and older_root == newer_root
    nodes = list(path)
    if older & (older - 1) == 0:
        nodes.insert(0, older_root)
    if not nodes:
        return False
    node, last = older - 1, newer - 1
    while node & 1:
        node >>= 1
        last >>= 1
    older_head = newer_head = nodes[0]
    for sibling in nodes[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            older_head = node_hash(sibling, older_head)
            newer_head = node_hash(sibling, newer_head)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            newer_head = node_hash(newer_head, sibling)
        node >>= 1
        last >>= 1
    return last == 0 and older_head == older_root and newer_head == newer_root


def _left_size(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << (size - 1).bit_length() - 1
