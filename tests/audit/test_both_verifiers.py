"""Where FORMAT.md leaves one form alone, both verifiers take that one and refuse the others."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path

import pyarrow.parquet as parquet
import pytest

from eventstore import errors
from eventstore.audit import (
    Checkpoint,
    ConsistencyProof,
    InclusionProof,
    VerifierKey,
    standalone_verifier,
)
from eventstore.audit.merkle_proofs import is_consistent
from eventstore.audit.standalone_verifier import Refused, check_consistency
from eventstore.log.merkle import EMPTY_HEAD
from eventstore.log.verification import verify_directory
from tests.attacks.forging import forge, sealed_path, stored_records, write

GOLDEN = Path(__file__).parents[1] / "data" / "format-2"
KEY_TEXT = (GOLDEN / "auditor.pub").read_text()
KEY = VerifierKey.parse(KEY_TEXT)
STANDALONE_KEY = standalone_verifier.parse_key(KEY_TEXT)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store of one sealed segment, as the Arrow that is there writes it."""
    shutil.copytree(GOLDEN / "erased", tmp_path / "store")
    forge(tmp_path / "store", lambda records: records)
    assert standalone_refusal(tmp_path / "store") == ""
    return tmp_path / "store"


def standalone_refusal(directory: Path) -> str:
    records = standalone_verifier.stored_records(str(directory))
    try:
        standalone_verifier.verify_records(
            records, (GOLDEN / "erased.checkpoint").read_text(), STANDALONE_KEY
        )
    except Refused as refused:
        return str(refused)
    return ""


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("artifact_type", "properties"),
        ("artifact", "custom_properties"),
        ("hold", "properties"),
        ("erased", "custom_properties"),
    ],
)
def test_maps_are_empty_and_never_null(store: Path, name: str, kind: str) -> None:
    position = next(
        record.position
        for record in stored_records(store)
        if (record.commitment is not None if kind == "erased" else record.kind == kind)
    )
    assert verify_directory(store).ok
    forge(store, lambda records: records, columns={name: {position: None}})
    assert not verify_directory(store).ok
    assert f"column {name} of position {position}" in standalone_refusal(store)


@pytest.mark.parametrize("name", ["name", "uri", "create_time"])
def test_no_column_says_what_is_erased(store: Path, name: str) -> None:
    position = next(r.position for r in stored_records(store) if r.commitment is not None)
    value = {"name": "n0", "uri": ""}.get(name, 0)
    forge(store, lambda records: records, columns={name: {position: value}})
    assert not verify_directory(store).ok
    assert f"column {name} of position {position}" in standalone_refusal(store)


def test_structs_are_one_text() -> None:
    records = standalone_verifier.segment_records(GOLDEN / "put" / "log" / "0000000001.parquet")
    maps = [dict(record["derived"]["properties"]) for record in records]
    texts = [properties["struct"]["struct_value"] for properties in maps if "struct" in properties]
    assert texts == [
        r'{"a": {"inf": "Infinity", "minus": "-Infinity", "nan": "NaN", "no kind": null, '
        r'"\u00e4\u007f": "\ud83d\ude00"}, "z": [1.0, -0.0, 1e+16, 1e-05, null, true]}'
    ]


@pytest.mark.parametrize("name", ["format_version", "store_id", "segment"])
@pytest.mark.parametrize("value", ["3", None])
def test_a_file_says_whose_it_is(store: Path, name: str, value: str | None) -> None:
    table = parquet.read_table(sealed_path(store))
    metadata = {k: v for k, v in table.schema.metadata.items() if k.startswith(b"eventstore")}
    if value is None:
        del metadata[f"eventstore.{name}".encode()]
    else:
        metadata[f"eventstore.{name}".encode()] = value.encode()
    write(store, table.replace_schema_metadata(metadata))
    assert not verify_directory(store).ok
    assert f"does not say that its eventstore.{name} is" in standalone_refusal(store)


def proof(place: int) -> str:
    found: str = json.loads((GOLDEN / "put.proofs").read_text())[place]
    return found


def record_in(text: str) -> str:
    """The record of an inclusion proof, as it is written."""
    return base64.b64decode(text.split("\n")[1].removeprefix("extra ")).decode()


def with_record(text: str, record: str) -> str:
    lines = text.split("\n")
    return "\n".join([lines[0], f"extra {base64.b64encode(record.encode()).decode()}", *lines[2:]])


def test_a_text_is_escaped_in_one_way() -> None:
    records = [json.loads(line) for line in (GOLDEN / "put.export").read_text().splitlines()]
    place = next(n for n, record in enumerate(records) if record["actor"] == "ä\n")
    text = proof(place)
    record = record_in(text)
    assert InclusionProof.check(text, KEY).record.actor == "ä\n"
    assert standalone_verifier.verify_proof(with_record(text, record), STANDALONE_KEY)
    assert record.count('"actor":"ä\\n"') == 1
    for other in ("ä\\u000a", "\\u00e4\\n", "ä\\u000A", "ä\n", "\\ä\\n"):
        changed = record.replace('"actor":"ä\\n"', f'"actor":"{other}"')
        refused(with_record(text, changed))


@pytest.mark.parametrize("other", ["-0", "0.0", "1e0", "01", "+1", "true", "1.0"])
def test_a_number_is_written_in_one_way(other: str) -> None:
    text = proof(0)
    record = record_in(text)
    assert record.count('"position":1,') == 1
    refused(with_record(text, record.replace('"position":1,', f'"position":{other},')))


def test_a_member_without_a_value_is_null_and_there_once() -> None:
    text = proof(0)
    record = record_in(text)
    for before, after in (
        ('"commitment":null,', ""),
        (',"who_commitment":null', ""),
        ('"commitment":null,', '"commitment":null,"commitment":null,'),
        ('"type_id":null,"previous":null', '"previous":null,"type_id":null'),
    ):
        assert record.count(before) == 1
        refused(with_record(text, record.replace(before, after)))


def refused(text: str) -> None:
    with pytest.raises((errors.InvalidArgumentError, errors.DataLossError)):
        InclusionProof.check(text, KEY)
    with pytest.raises(Refused):
        standalone_verifier.verify_proof(text, STANDALONE_KEY)


@pytest.mark.parametrize(
    ("older", "newer", "path", "roots", "holds"),
    [
        (5, 5, [], b"aa", True),
        (5, 5, [], b"ab", False),
        (5, 5, [b"c" * 32], b"aa", False),
        (0, 5, [], b"ea", False),
        (0, 0, [], b"ee", False),
        (5, 0, [], b"ae", False),
        (6, 5, [], b"aa", False),
    ],
)
def test_trees_of_one_size_and_empty_ones(
    older: int, newer: int, path: list[bytes], roots: bytes, holds: bool
) -> None:
    first, second = (EMPTY_HEAD if root == ord("e") else bytes([root]) * 32 for root in roots)
    assert is_consistent(older, newer, path, first, second) == holds
    if holds:
        check_consistency(older, newer, first, second, path)
    else:
        with pytest.raises(Refused):
            check_consistency(older, newer, first, second, path)


def test_a_path_between_equal_trees_is_empty() -> None:
    note = (GOLDEN / "put.checkpoint").read_text()
    text, older = proof(-1), Checkpoint.parse(note, KEY)
    assert ConsistencyProof.check(text, older, KEY).path == ()
    assert standalone_verifier.verify_consistency(text, note, STANDALONE_KEY)
    longer = text.replace("\n\n", f"\n{'A' * 43}=\n\n", 1)
    with pytest.raises(errors.DataLossError):
        ConsistencyProof.check(longer, older, KEY)
    with pytest.raises(Refused):
        standalone_verifier.verify_consistency(longer, note, STANDALONE_KEY)


def test_an_export_says_nothing_of_its_store_but_its_leaves_do() -> None:
    records = list(standalone_verifier.exported_records(str(GOLDEN / "put.export")))
    for name, holds in (("put", True), ("imported", False)):
        note = (GOLDEN / f"{name}.checkpoint").read_text()
        if holds:
            assert standalone_verifier.verify_records(iter(records), note, STANDALONE_KEY)
        else:
            with pytest.raises(Refused, match=r"not those that were signed|were signed, there"):
                standalone_verifier.verify_records(iter(records), note, STANDALONE_KEY)
