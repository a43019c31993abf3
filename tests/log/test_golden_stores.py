"""Stores written before: those of this format are read for ever, one of another is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import eventstore
from eventstore import errors
from eventstore.audit import (
    Checkpoint,
    ConsistencyProof,
    InclusionProof,
    VerifierKey,
    standalone_verifier,
)
from eventstore.log import DirectoryLog
from eventstore.log.verification import verify_directory
from tests.command_line.runner import run
from tests.data import make_stores

DATA = Path(make_stores.__file__).parent
GOLDEN = DATA / "format-2"
OLDER = GOLDEN.with_name("format-1")
EXPECTED: dict[str, Any] = {
    f"{format_name}/{name}": expected
    for format_name in make_stores.FORMATS
    for name, expected in json.loads((DATA / format_name / "expected.json").read_text()).items()
}
KEY = VerifierKey.parse((GOLDEN / "auditor.pub").read_text())


@pytest.fixture(params=EXPECTED)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_both_verifiers_find_nothing(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    directory, key = str(DATA / name), str(GOLDEN / "auditor.pub")
    report = verify_directory(DATA / name)
    assert (report.findings, report.not_checked) == ([], [])
    found = (report.records, report.commits, report.tree_head)
    assert found == tuple(EXPECTED[name][what] for what in ("records", "commits", "head"))
    checkpoint = f"{directory}.checkpoint"
    for arguments in (
        ("checkpoint", checkpoint, key),
        ("records", f"{directory}.export", checkpoint, key),
        ("store", directory, checkpoint, key),
    ):
        assert standalone_verifier.main([*arguments]) == 0
    told = capsys.readouterr().out.splitlines()
    assert [line[:7] for line in told] == ["holds: "] * 3
    assert EXPECTED[name]["head"] in told[0]
    stated = Checkpoint.parse(Path(checkpoint).read_text(), KEY)
    assert (str(stated.store_id), stated.root.hex()) == (
        EXPECTED[name]["store_id"],
        EXPECTED[name]["head"],
    )


def test_its_proofs_hold_for_both_verifiers(name: str) -> None:
    *of_records, of_history = json.loads((DATA / f"{name}.proofs").read_text())
    checkpoint = (DATA / f"{name}.checkpoint").read_text()
    key = standalone_verifier.parse_key((GOLDEN / "auditor.pub").read_text())
    exported = (DATA / f"{name}.export").read_text().splitlines()
    for proof, record in zip(of_records, exported, strict=True):
        found = InclusionProof.check(proof, KEY).record
        assert msgspec.json.encode(found).decode() == record
        assert standalone_verifier.verify_proof(proof, key)
    assert ConsistencyProof.check(of_history, Checkpoint.parse(checkpoint, KEY), KEY).path == ()
    assert standalone_verifier.verify_consistency(of_history, checkpoint, key)


def test_it_is_read_and_written(name: str, tmp_path: Path) -> None:
    shutil.copytree(DATA / name, tmp_path / "store")
    with eventstore.open(tmp_path / "store") as store:
        commits = [*store.log.commits()]
        artifacts = store.get_artifacts()
        assert store.verify().ok
        store.put_artifact_type(eventstore.proto.ArtifactType(name="one more"))
        store.seal()
        assert store.verify().ok
    assert [c.tree_head.hex() for c in commits] == EXPECTED[name]["heads_of_commits"]
    assert [[node.id, node.name] for node in artifacts] == EXPECTED[name]["artifacts"]
    lines = [msgspec.json.encode(record).decode() for c in commits for record in c.records]
    assert lines == (DATA / f"{name}.export").read_text().splitlines()


@pytest.mark.parametrize("format_name", make_stores.FORMATS)
def test_this_version_would_write_them_alike(tmp_path: Path, format_name: str) -> None:
    make_stores.make_all(tmp_path, make_stores.FORMATS[format_name])
    for path in sorted((DATA / format_name).rglob("*")):
        # What Parquet compresses to is the library's affair, and the manifest has its hash.
        if path.is_file() and path.suffix != ".parquet" and path.name != "manifest.json":
            made = tmp_path / path.relative_to(DATA / format_name)
            assert made.read_bytes() == path.read_bytes(), path


@pytest.mark.parametrize("position", ["first", "second", "third"])
def test_what_is_erased_is_null_and_its_commitment_there(position: str) -> None:
    log = DirectoryLog.open(GOLDEN / "erased", read_only=True)
    rows = [row for batch in log.scan() for row in batch.to_pylist()]
    log.close()
    place = next(n for n, row in enumerate(rows) if row["commitment"] is not None)
    row = rows[place + ("first", "second", "third").index(position)]
    present = {name for name, value in row.items() if value is not None and value != []}
    always = {"position", "commit", "recorded_at", "kind", "entity_id", "type_id"}
    content = {"salt", "payload", "name", "uri", "create_time", "update_time"}
    assert (
        present - {"tree_head"}
        == always
        | {
            "first": {"commitment", "actor", "reason", "who_salt"},
            "second": content | {"who_commitment"},
            "third": {"commitment", "who_commitment"},
        }[position]
    )
    assert row["properties"] == row["custom_properties"] == []


def opened(directory: Path) -> object:
    return eventstore.open(directory)


def opened_to_read(directory: Path) -> object:
    return eventstore.open(directory, read_only=True)


@pytest.mark.parametrize("do", [opened, opened_to_read, DirectoryLog.open, verify_directory])
def test_a_store_of_format_1_is_refused(do: Callable[[Path], object], tmp_path: Path) -> None:
    shutil.copytree(OLDER, tmp_path / "store")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(errors.FailedPreconditionError, match="has format version 1; ") as raised:
        do(tmp_path / "store")
    assert "\n" not in raised.value.message
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    "arguments",
    [
        "backup STORE {}/copy",
        "changes STORE",
        "checkpoint STORE --key {}/key",
        "diff STORE 1 2",
        "export STORE -",
        "files STORE",
        "get STORE artifact 1",
        "history STORE artifact 1",
        "info STORE",
        "lineage STORE artifact 1",
        "list STORE artifact",
        "log STORE",
        "prove STORE 1 --checkpoint {}/checkpoint --key {}/auditor.pub",
        "rebuild STORE",
        "report STORE artifact 1 --output {}/report.html",
        "restore STORE {}/restored",
        "sql STORE SELECT",
        "tail STORE",
        "verify STORE",
    ],
    ids=lambda text: text.split()[0],
)
def test_every_command_refuses_it_in_one_line(arguments: str, tmp_path: Path) -> None:
    shutil.copytree(OLDER, tmp_path / "store")
    (tmp_path / "key").write_text(make_stores.KEY.text())
    shutil.copy(GOLDEN / "auditor.pub", tmp_path)
    shutil.copy(GOLDEN / "put.checkpoint", tmp_path / "checkpoint")
    given = arguments.replace("STORE", f"{tmp_path}/store").replace("{}", str(tmp_path)).split()
    done = run(*given)
    assert (done.code, done.out) == (1, ""), done
    assert "has format version 1; this version reads 2 and 3" in " ".join(done.err.split())


def test_the_stand_alone_verifier_refuses_it_in_one_line() -> None:
    checkpoint, key = GOLDEN / "put.checkpoint", GOLDEN / "auditor.pub"
    path = standalone_verifier.__file__
    ran = subprocess.run(
        [sys.executable, str(path), "store", str(OLDER), str(checkpoint), str(key)],
        capture_output=True,
        text=True,
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == f"CANNOT CHECK: {OLDER}/manifest.json has format version 1, not 2 or 3\n"
