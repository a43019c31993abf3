"""The tree against the definition of RFC 6962 and its published test vectors."""

from __future__ import annotations

import hashlib

import pytest

from eventstore.log.merkle import EMPTY_HEAD, Frontier, tree_head

# The inputs and heads that the reference implementation of RFC 6962 publishes.
INPUTS = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
HEADS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def leaf_hash(data: bytes) -> bytes:
    """As the RFC defines it."""
    return hashlib.sha256(b"\x00" + data).digest()


def test_published_vectors() -> None:
    frontier = Frontier()
    assert frontier.head() == EMPTY_HEAD
    for leaf, head in zip(INPUTS, HEADS, strict=True):
        frontier.append(leaf_hash(leaf))
        assert frontier.head().hex() == head


def test_frontier_agrees_with_the_recursive_definition() -> None:
    leaves = [leaf_hash(bytes([number])) for number in range(70)]
    frontier = Frontier()
    for size, leaf in enumerate(leaves, start=1):
        frontier.append(leaf)
        assert frontier.head() == tree_head(leaves[:size])
        assert Frontier(size, frontier.subtrees).head() == frontier.head()


def test_many_leaves_are_appended_as_one_after_the_other() -> None:
    leaves = [leaf_hash(bytes([number])) for number in range(70)]
    for before in range(35):
        for more in range(35):
            one_by_one, at_once = Frontier(), Frontier()
            for leaf in leaves[:before]:
                one_by_one.append(leaf)
            at_once.extend(leaves[:before])
            for leaf in leaves[before : before + more]:
                one_by_one.append(leaf)
            at_once.extend(iter(leaves[before : before + more]))
            assert (at_once.size, at_once.subtrees) == (before + more, one_by_one.subtrees)


def test_a_frontier_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="complete subtrees"):
        Frontier(3, [bytes(32)])
