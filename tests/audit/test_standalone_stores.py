"""What the stand-alone verifier checks of a store's files: messages, tree heads, the manifest."""

from __future__ import annotations

import functools
import hashlib
import json
import random
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from eventstore.audit import SigningKey, signed_checkpoint, standalone_verifier
from eventstore.audit.standalone_verifier import Refused, stored_records, verify_records
from eventstore.log import DirectoryLog
from eventstore.log.ipc_stream import END_OF_STREAM
from eventstore.log.manifest import read_manifest
from eventstore.log.sealing import ROWS_PER_GROUP
from tests.attacks.conftest import store
from tests.attacks.one_segment import path_of, rewrite, three_segments
from tests.attacks.test_forged_messages import forge, replaced, with_checksum

__all__ = ["store"]

KEY = SigningKey("auditor", bytes(range(32)))
STANDALONE_KEY = standalone_verifier.parse_key(str(KEY.verifier_key))
SEALED, CLOSED, ACTIVE = 1, 2, 3


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return three_segments(tmp_path_factory.mktemp("built") / "store")


@pytest.fixture(scope="module")
def note(built: Path) -> str:
    with closing(DirectoryLog.open(built, read_only=True)) as log:
        return signed_checkpoint(log, log.position, KEY).text


@pytest.fixture(autouse=True)
def each_signature_once(monkeypatch: pytest.MonkeyPatch) -> None:
    verifies = functools.cache(standalone_verifier.ed25519_verifies)
    monkeypatch.setattr(standalone_verifier, "ed25519_verifies", verifies)


def refusal(directory: Path, note: str) -> str:
    """Why the store is refused, empty when it is not."""
    try:
        verify_records(stored_records(str(directory)), note, STANDALONE_KEY)
    except Refused as refused:
        return str(refused)
    return ""


def test_a_byte_of_a_stream_that_was_changed(store: Path, note: str) -> None:
    path = path_of(store, ACTIVE)
    content = path.read_bytes()
    assert refusal(store, note) == ""
    for place in range(0, len(content), 41):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        assert refusal(store, note), place


@pytest.mark.parametrize("number", [CLOSED, ACTIVE])
def test_a_message_with_a_checksum_that_fits(store: Path, note: str, number: int) -> None:
    """What Arrow would read out of bounds is refused; what is read is what was signed."""
    chance, path = random.Random(number), path_of(store, number)
    content, manifest = path.read_bytes(), (store / "manifest.json").read_bytes()

    def change(message: bytes) -> bytes:
        changed = bytearray(message)
        at = chance.randrange(8, len(changed) - 32) & -4
        value = chance.choice([-1, 0, 1, 2**24, 2**30, -(2**31)])
        changed[at : at + 4] = value.to_bytes(4, "little", signed=True)
        return bytes(changed)

    refused = 0
    for _ in range(40):
        forge(store, number, chance.randrange(2), change)
        refused += refusal(store, note) != ""
        path.write_bytes(content)
        (store / "manifest.json").write_bytes(manifest)
    assert refused > 20


@pytest.mark.parametrize("number", [CLOSED, ACTIVE])
@pytest.mark.parametrize(
    "heads", [[None, None], [bytes(32), bytes(32)], [bytes(32), None], [None, bytes(32)]]
)
def test_tree_heads_of_a_stream(store: Path, note: str, number: int, heads: list[Any]) -> None:
    forge(store, number, 0, replaced("tree_head", heads))
    assert refusal(store, note)


@pytest.mark.parametrize("heads", [[None, None], [bytes(32), bytes(32)], [None, bytes(32)], [b""]])
def test_tree_heads_of_a_sealed_segment(store: Path, note: str, heads: list[Any]) -> None:
    table = parquet.read_table(path_of(store, SEALED))
    heads = [*heads, *table["tree_head"].to_pylist()[len(heads) :]]
    put_column(store, "tree_head", heads)
    assert re.search("tree head|says of segment 1", refusal(store, note))


def put_column(directory: Path, name: str, values: list[Any], **options: Any) -> None:
    """Write the sealed segment again with a column that has other values."""
    path = path_of(directory, SEALED)
    table = parquet.read_table(path)
    place = table.schema.get_field_index(name)
    table = table.set_column(
        place, table.schema.field(name), pa.array(values, table.schema.field(name).type)
    )
    parquet.write_table(table, path, row_group_size=ROWS_PER_GROUP, **options)
    rewrite(directory, SEALED, path.read_bytes())


def with_two_commits(message: bytes) -> bytes:
    return with_checksum(replaced("commit", [3, 4])(message))


def test_a_message_is_one_commit(store: Path, note: str) -> None:
    path = path_of(store, ACTIVE)
    content = path.read_bytes()
    forge(store, ACTIVE, 0, replaced("checksum", [bytes(32), bytes(32)]))
    assert "not one commit" in refusal(store, note)
    path.write_bytes(content)
    forge(store, ACTIVE, 0, with_two_commits)
    assert refusal(store, note)


def test_how_streams_end(store: Path, note: str) -> None:
    active, closed = path_of(store, ACTIVE), path_of(store, CLOSED)
    content = active.read_bytes()
    for end, words in (
        (bytes(8), ""),
        (bytes(4096), ""),
        (END_OF_STREAM, ""),
        (b"\xff\xff\xff\xff", ""),
        (b"junk", "no part of one"),
        (bytes(8) + b"junk", "no part of one"),
    ):
        active.write_bytes(content + end)
        assert words in refusal(store, note)
        assert bool(refusal(store, note)) == bool(words), end
    active.write_bytes(content)
    content = closed.read_bytes()
    for other in (content[: -len(END_OF_STREAM)], content + bytes(8), content + END_OF_STREAM):
        rewrite(store, CLOSED, other)
        assert "does not end where its commits do" in refusal(store, note)


def put_manifest(directory: Path, body: str) -> None:
    digest = hashlib.sha256(body.encode()).hexdigest()
    text = f'{{"format_version":2,"sha256":"{digest}","manifest":{body}}}\n'
    (directory / "manifest.json").write_text(text)


def in_one_line(manifest: Any) -> str:
    return json.dumps(manifest, separators=(",", ":"))


def test_each_member_of_the_manifest(store: Path, note: str) -> None:
    manifest = json.loads((store / "manifest.json").read_text())["manifest"]
    put_manifest(store, in_one_line(manifest))
    assert refusal(store, note) == ""
    for part, members in (
        (lambda m: m["segments"][0], manifest["segments"][0]),
        (lambda m: m["segments"][1], manifest["segments"][1]),
        (lambda m: m["active"], manifest["active"]),
    ):
        for name, value in members.items():
            for other in (None, 10**30, True, "0" * 64, [value]):
                changed = json.loads(json.dumps(manifest))
                part(changed)[name] = other
                if json.dumps(other) != json.dumps(value):
                    put_manifest(store, in_one_line(changed))
                    assert refusal(store, note), (name, other)
            changed = json.loads(json.dumps(manifest))
            del part(changed)[name]
            put_manifest(store, in_one_line(changed))
            assert refusal(store, note), name
        changed = json.loads(json.dumps(manifest))
        part(changed)["more"] = 1
        put_manifest(store, in_one_line(changed))
        assert refusal(store, note)


@pytest.mark.parametrize(
    "changes",
    [
        {"created_at": 1.0},
        {"created_at": None},
        {"generation": "1"},
        {"generation": True},
        {"generation": 0},
        {"generation": 2**63},
        {"created_at": -1},
        {"created_at": 10**30},
        {"segments": {}},
        {"segments": [1, 2]},
        {"active": 1},
        {"active": None},
        {"store_id": "x"},
        {"more": 1},
    ],
    ids=str,
)
def test_the_manifest_as_a_whole(store: Path, note: str, changes: dict[str, Any]) -> None:
    manifest = json.loads((store / "manifest.json").read_text())["manifest"]
    put_manifest(store, in_one_line(manifest | changes))
    assert refusal(store, note)


def test_the_text_of_the_manifest(store: Path, note: str) -> None:
    path = store / "manifest.json"
    text = path.read_text()
    body = text.partition(',"manifest":')[2][:-2]
    segments = json.loads(body)["segments"]
    for other in (
        json.dumps(json.loads(body)),
        in_one_line(dict(reversed(json.loads(body).items()))),
        body[:-1] + ',"generation":1}',
        in_one_line(json.loads(body) | {"segments": segments[::-1]}),
        in_one_line(json.loads(body) | {"segments": segments[:1]}),
        in_one_line(json.loads(body) | {"segments": [*segments, segments[-1]]}),
    ):
        put_manifest(store, other)
        assert refusal(store, note), other
    for whole in (
        text[:-1],
        text + "\n",
        " " + text,
        text.replace("\n", "\r\n"),
        text.replace('"sha256":"', '"sha256":"0'),
        text.replace('"format_version":2', '"format_version":2.0'),
        text.replace(",", ", ", 1),
        '{"format_version":2,"x":' + "[" * 5000 + "]" * 5000 + "}",
        "[" * 100_000,
    ):
        path.write_bytes(whole.encode())
        assert refusal(store, note), whole[:60]


def test_the_same_segment_in_another_form(store: Path, note: str) -> None:
    """As a sealing leaves it that stopped half-way."""
    closed = path_of(store, CLOSED)
    content = closed.read_bytes()
    with closing(DirectoryLog.open(store)) as log:
        log.seal()
    assert read_manifest(store).segments[CLOSED - 1].sealed
    closed.write_bytes(content)
    assert refusal(store, note) == ""
    forms = [path_of(store, SEALED).read_bytes(), content[: len(content) // 2]]
    for other in forms:
        closed.write_bytes(other)
        assert refusal(store, note)
    closed.unlink()
    sealed = path_of(store, CLOSED)
    further = sealed.with_name(f"{sealed.stem}-2.parquet")
    further.write_bytes(sealed.read_bytes())
    assert refusal(store, note) == ""
    further.write_bytes(path_of(store, SEALED).read_bytes())
    assert refusal(store, note)
    # The name of what is merged of two segments.
    further = further.rename(sealed.with_name(f"{sealed.stem}-3.parquet"))
    assert refusal(store, note)
    further.rename(sealed.with_name(f"{sealed.stem}-4.parquet"))
    assert "belongs to nothing" in refusal(store, note)


def test_a_file_that_is_missing(store: Path, note: str) -> None:
    for number in (SEALED, CLOSED, ACTIVE):
        path = path_of(store, number)
        content = path.read_bytes()
        path.unlink()
        assert "is missing" in refusal(store, note)
        path.write_bytes(content)
