"""Both verifiers read the same texts, of proofs and policies, and refuse the same others."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from eventstore.audit import CosigningKey, Policy, SigningKey, standalone_verifier
from eventstore.audit.merkle_proofs import (
    consistency_path,
    includes,
    inclusion_path,
    is_consistent,
)
from eventstore.audit.proof_text import ConsistencyText, InclusionText
from eventstore.audit.signed_note import Note
from eventstore.audit.standalone_verifier import Refused
from eventstore.errors import InvalidArgumentError
from eventstore.log.merkle import tree_head
from tests.log.test_merkle import leaf_hash

LEAVES = [leaf_hash(bytes([number])) for number in range(36)]
NOTE = SigningKey("ana", bytes(32)).signed("origin\n1\nroot\n")


def head(first: int, end: int) -> bytes:
    return tree_head(LEAVES[first:end])


def test_the_proofs_of_every_leaf_and_every_size_are_written_and_read() -> None:
    for size in range(1, len(LEAVES) + 1):
        root = head(0, size)
        for index in range(size):
            path = tuple(inclusion_path(index, size, head))
            written = InclusionText(bytes([index]), index, path, NOTE)
            assert InclusionText.parse(str(written)) == written
            alone = standalone_verifier.split_proof(str(written))
            assert alone == (bytes([index]), index, list(path), NOTE)
            assert includes(LEAVES[index], index, size, path, root)
            assert (
                standalone_verifier.root_from_inclusion(LEAVES[index], *alone[1:2], size, alone[2])
                == root
            )
        for older in range(1, size + 1):
            path = tuple(consistency_path(older, size, head))
            written_since = ConsistencyText(older, path, NOTE)
            assert ConsistencyText.parse(str(written_since)) == written_since
            assert is_consistent(older, size, path, head(0, older), root)


def read_alone(parse: Callable[[str], Any], text: str) -> Any:
    try:
        return parse(text)
    except Refused:
        return None


def read_here(parse: Callable[[str], Any], text: str) -> Any:
    try:
        return parse(text)
    except InvalidArgumentError:
        return None


def mutated(text: str, words: list[str], count: int) -> Iterator[str]:
    """The text with lines, words and characters taken out, doubled, moved and replaced."""
    choice = random.Random(text)
    for _ in range(count):
        lines = text.split("\n")
        place = choice.randrange(len(lines))
        line = lines[place]
        parts = line.split(" ")
        word = choice.randrange(len(parts))
        character = choice.randrange(len(line) + 1)
        new = choice.choice(words)
        lines[place : place + 1] = choice.choice(
            [
                [],
                [line, line],
                [line, choice.choice(lines)],
                [new],
                [" ".join([*parts[:word], new, *parts[word + 1 :]])],
                [" ".join(parts[:word] + parts[word + 1 :])],
                [line[:character] + new + line[character:]],
                [line[:character] + line[character + 1 :]],
                [line[:character], line[character:]],
            ]
        )
        yield "\n".join(lines)


ODD = [
    *("", " ", "\t", "\r", "\x00", "\x7f", "\u00a0", "\u2028", "#", "=", "+", "-1", "0", "00", "1"),
    *(
        "2",
        "9" * 19,
        "9" * 40,
        "\u0663",
        "none",
        "all",
        "any",
        "quorum",
        "log",
        "index 0",
        "extra ",
    ),
    *("old 1", "extra AAAA", "AAAB", base64.b64encode(bytes(32)).decode(), "\u2014", "A" * 5_000),
]


def test_both_read_the_same_proofs() -> None:
    path = tuple(inclusion_path(5, 13, head))
    read = {True: 0, False: 0}
    for proof in (InclusionText(b"extra", 5, path, NOTE), InclusionText(None, 0, (), NOTE)):
        for text in mutated(str(proof), ODD, 1_500):
            here = read_here(InclusionText.parse, text)
            alone = read_alone(standalone_verifier.split_proof, text)
            if here is not None:
                assert str(here) == text
                here = (here.extra, here.index, list(here.path), here.checkpoint)
            assert here == alone, text
            read[here is not None] += 1
    assert min(read.values()) > 300


def test_both_take_the_same_notes_apart() -> None:
    note = CosigningKey("north", bytes(32)).cosigned(NOTE, 5)
    read = {True: 0, False: 0}
    for text in mutated(note, ODD, 3_000):
        here = read_here(Note.parse, text)
        alone = read_alone(standalone_verifier.split_note, text)
        assert (here and (here.text, list(here.signatures))) == alone, text
        read[here is not None] += 1
    assert min(read.values()) > 300


@pytest.mark.parametrize("seed", [1])
def test_both_read_the_same_policies(seed: int) -> None:
    log, *witnesses = (bytes([seed * 10 + number]) * 32 for number in range(5))
    lines = [f"# {seed}", f"log {SigningKey('ana', log).verifier_key} https://log.example"]
    for number, key in enumerate(witnesses):
        lines.append(f"witness w{number} {CosigningKey(f'w{number}', key).verifier_key}")
    lines += ["group a 1 w0 w1", "group b any w2", "group c all a b w3", "quorum c", ""]
    text = "\n".join(lines)
    names = ["a", "b", "c", "w0", "w3", "ana", "group d 2 a b", "quorum a", *text.split()]
    read = {True: 0, False: 0}
    for changed in mutated(text, [*ODD, *names], 700):
        here = read_here(Policy.parse, changed)
        alone = read_alone(standalone_verifier.parse_policy, changed)
        assert (here is None) == (alone is None), changed
        read[here is not None] += 1
        if here is not None:
            assert [key.public_key for key in here.logs] == [key[2] for key in alone.logs]
            assert [*here.witnesses] == [*alone.witnesses]
            groups = [(group.name, group.needed, [*group.members]) for group in here.groups]
            assert (groups, here.quorum) == (alone.groups, alone.quorum)
    assert min(read.values()) > 100
