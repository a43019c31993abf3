"""Paths in trees of every size: they lead to the tree's head, and no other path does."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from eventstore.audit import standalone_verifier
from eventstore.audit.merkle_proofs import (
    consistency_path,
    includes,
    inclusion_path,
    is_consistent,
)
from eventstore.audit.standalone_verifier import Refused
from eventstore.log.merkle import tree_head
from tests.log.test_merkle import leaf_hash


def test_every_path_of_every_tree_holds_and_no_other() -> None:
    leaves = [leaf_hash(bytes([number])) for number in range(40)]

    def subtree(first: int, end: int) -> bytes:
        return tree_head(leaves[first:end])

    for size in range(1, len(leaves) + 1):
        root = tree_head(leaves[:size])
        for index in range(size):
            path = inclusion_path(index, size, subtree)
            assert includes(leaves[index], index, size, path, root)
            for wrong in (index - 1, index + 1):
                assert not includes(leaves[index], wrong, size, path, root)
            assert not includes(leaves[index], index, size, [*path, root], root)
            assert not includes(leaves[index], index, size, path[:-1], root) or not path
        for older in range(1, size + 1):
            path = consistency_path(older, size, subtree)
            older_root = tree_head(leaves[:older])
            assert is_consistent(older, size, path, older_root, root)
            standalone_verifier.check_consistency(older, size, older_root, root, path)
            if older < size:
                assert not is_consistent(older, size, path, root, root)
                assert not is_consistent(older, size, [*path, root], older_root, root)
                assert not is_consistent(older, size, path[:-1], older_root, root)
                assert not is_consistent(size, older, path, root, older_root)


def is_refused(check: Callable[..., Any], *arguments: Any) -> bool:
    try:
        check(*arguments)
    except Refused:
        return True
    return False


def test_both_verifiers_judge_paths_of_other_sizes_alike() -> None:
    """A signer could state a size that is not the tree's: both verifiers judge alike."""
    leaves = [hashlib.sha256(bytes([number])).digest() for number in range(12)]

    def head(first: int, end: int) -> bytes:
        return tree_head(leaves[first:end])

    for size in range(1, 12):
        root = head(0, size)
        for index in range(size):
            path = inclusion_path(index, size, head)
            for claimed_size in range(13):
                for claimed in {-1, 0, index - 1, index, index + 1, claimed_size}:
                    leads = False
                    for cut in (path, path[:-1], [*path, root]):
                        arguments = (leaves[index], claimed, claimed_size, cut)
                        expected = includes(*arguments, root)
                        refused = is_refused(standalone_verifier.root_from_inclusion, *arguments)
                        leads = not refused and (
                            standalone_verifier.root_from_inclusion(*arguments) == root
                        )
                        assert leads == expected, (size, index, claimed_size, claimed)
        for older in range(1, size + 1):
            path = consistency_path(older, size, head)
            for first in range(13):
                for second in range(13):
                    for cut in (path, path[:-1], [*path, root]):
                        roots = head(0, older), root
                        assert is_consistent(first, second, cut, *roots) == (
                            not is_refused(
                                standalone_verifier.check_consistency, first, second, *roots, cut
                            )
                        ), (older, size, first, second)
