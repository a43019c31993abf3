"""Where FORMAT.md leaves one form alone, both verifiers take that one and refuse the others."""

from __future__ import annotations

import base64
import json
import shutil
import uuid
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as parquet
import pytest

from eventstore import errors
from eventstore.audit import (
    Checkpoint,
    ConsistencyProof,
    InclusionProof,
    SigningKey,
    VerifierKey,
    standalone_verifier,
)
from eventstore.audit.merkle_proofs import is_consistent
from eventstore.audit.proof_text import InclusionText
from eventstore.audit.standalone_verifier import Refused, check_consistency
from eventstore.log.leaf import leaf_hashes
from eventstore.log.merkle import EMPTY_HEAD, node_hash
from eventstore.log.verification import verify_directory
from tests.attacks.forging import forge, mend_manifest, sealed_path, stored_records, write
from tests.audit.records_by_hand import AT, STORE, artifact, as_record, signed
from tests.audit.records_by_hand import KEY as RECORDS_KEY
from tests.audit.records_by_hand import STANDALONE_KEY as RECORDS_KEY_APART

GOLDEN = Path(__file__).parents[1] / "data" / "format-2"
KEY_TEXT = (GOLDEN / "auditor.pub").read_text()
KEY = VerifierKey.parse(KEY_TEXT)
STANDALONE_KEY = standalone_verifier.parse_key(KEY_TEXT)
SIGNER = SigningKey("signer", bytes(range(32)))
SIGNER_APART = standalone_verifier.parse_key(str(SIGNER.verifier_key))


@pytest.fixture(scope="module")
def rewritten(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of one sealed segment, as the Arrow that is there writes it."""
    directory = tmp_path_factory.mktemp("rewritten") / "store"
    shutil.copytree(GOLDEN / "erased", directory)
    forge(directory, lambda records: records)
    assert standalone_refusal(directory) == ""
    return directory


@pytest.fixture
def store(rewritten: Path, tmp_path: Path) -> Path:
    """A copy of it, to be forged."""
    return Path(shutil.copytree(rewritten, tmp_path / "store"))


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


@pytest.mark.parametrize("swapped", [b"name/kind", b"create_time/update_time", b"actor/owner"])
def test_a_footer_names_its_columns_once(store: Path, swapped: bytes) -> None:
    """Arrow takes names from the schema of Parquet, others may from the one beside it."""
    one, other = (len(n).to_bytes(4, "little") + n + b"\0" for n in swapped.split(b"/"))
    path = sealed_path(store)
    stored = parquet.ParquetFile(path).metadata.metadata[b"ARROW:schema"]
    schema = base64.b64decode(stored)
    changed = schema.replace(one, b"*").replace(other, one).replace(b"*", other)
    assert changed != schema
    content = path.read_bytes()
    assert content.count(stored) == 1
    path.write_bytes(content.replace(stored, base64.b64encode(changed)))
    mend_manifest(store)
    assert not verify_directory(store).ok
    assert "has two schemas" in standalone_refusal(store)


def signed_checkpoint(**stated: object) -> str:
    said = {"store_id": uuid.UUID(int=7), "size": 24, "root": "A" * 43 + "=", "commit": 12} | {
        "recorded_at": "2026-09-21T14:13:38.000000Z",
        "signed_at": "2027-09-21T14:13:39.000000Z",
    }
    said |= stated
    return SIGNER.signed(
        f"eventstore/{said['store_id']}\n{said['size']}\n{said['root']}\ncommit {said['commit']}\n"
        f"recorded-at {said['recorded_at']}\nsigned-at {said['signed_at']}\n"
    )


@pytest.mark.parametrize(
    ("stated", "holds"),
    [
        ({}, True),
        ({"size": 12}, True),
        ({"size": 2**63 - 1, "commit": 2**63 - 1}, True),
        ({"recorded_at": "9999-12-31T23:59:59.999999Z"}, True),
        ({"size": 11}, False),
        ({"size": 0, "commit": 0}, False),
        ({"size": 2**63}, False),
        ({"size": 2**64}, False),
        ({"size": "9" * 19}, False),
        ({"size": "9" * 6000}, False),
        ({"commit": "9" * 6000}, False),
        ({"commit": 25}, False),
        ({"commit": "\uff11\uff12"}, False),
        ({"store_id": f"{'0' * 8}----{'0' * 24}"}, False),
        ({"store_id": uuid.UUID(int=10).hex + "----"}, False),
        ({"recorded_at": "20260921T14:13:38.0000000Z"}, False),
        ({"recorded_at": "2026-09-21T14:13:60.000000Z"}, False),
        ({"signed_at": "2026-09-31T14:13:38.000000Z"}, False),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_a_checkpoint_may_state(stated: dict[str, object], holds: bool) -> None:
    note = signed_checkpoint(**stated)
    if holds:
        Checkpoint.parse(note, SIGNER.verifier_key)
        standalone_verifier.open_checkpoint(note, SIGNER_APART)
        return
    with pytest.raises(errors.InvalidArgumentError):
        Checkpoint.parse(note, SIGNER.verifier_key)
    with pytest.raises(Refused):
        standalone_verifier.open_checkpoint(note, SIGNER_APART)


@pytest.mark.parametrize(
    ("changes", "stated", "holds"),
    [
        ({}, {}, True),
        ({"commit": 2}, {}, True),
        ({"commit": 4}, {}, False),
        ({"recorded_at": AT + 1}, {}, False),
        ({"recorded_at": AT - 1}, {}, True),
        ({"recorded_at": -1}, {}, False),
        ({"recorded_at": 253_402_300_800_000_000}, {}, False),
        ({"recorded_at": 2**63 - 1}, {}, False),
        ({"previous": 2**63 - 1}, {}, False),
        ({"previous": 2}, {}, False),
        ({"previous": 0}, {}, False),
        ({"position": 3}, {}, True),
        ({"position": 3, "commit": 2}, {}, False),
        ({"position": 3, "recorded_at": AT - 1}, {}, False),
        ({}, {"recorded_at": AT - 1}, False),
    ],
    ids=str,
)
def test_a_record_and_its_checkpoint(
    changes: dict[str, Any], stated: dict[str, Any], holds: bool
) -> None:
    """Signed by one who has not looked at the record that is proved."""
    position = changes.get("position", 2)
    records = [artifact(1), artifact(2), artifact(3)]
    proved = records[position - 1]
    proved |= {"position": position, "commit": 3} | changes
    note = signed(records, size=3, **({"commit": 3, "recorded_at": AT} | stated))
    leaves = [*leaf_hashes(STORE, map(as_record, records))]
    path = (leaves[0], leaves[2]) if position == 2 else (node_hash(*leaves[:2]),)
    text = str(InclusionText(msgspec.json.encode(as_record(proved)), position - 1, path, note))
    key = RECORDS_KEY.verifier_key
    if holds:
        assert InclusionProof.check(text, key).record.position == position
        assert standalone_verifier.verify_proof(text, RECORDS_KEY_APART)
        return
    with pytest.raises((errors.InvalidArgumentError, errors.DataLossError)):
        InclusionProof.check(text, key)
    with pytest.raises(Refused):
        standalone_verifier.verify_proof(text, RECORDS_KEY_APART)


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
