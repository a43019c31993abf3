"""In one line the stand-alone verifier says what does not hold, or what it cannot check."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

import eventstore
from eventstore.audit import SigningKey
from eventstore.audit.standalone_verifier import main
from eventstore.log.manifest import read_manifest
from eventstore.log.verification import verify_directory

KEY = SigningKey.generate("ana@example.com")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    with eventstore.open(tmp_path / "store") as store:
        store.put_artifact_type(eventstore.proto.ArtifactType(name="t"))
        checkpoint = store.checkpoint(KEY)
        texts = {
            "checkpoint": checkpoint.text,
            "key": str(KEY.verifier_key) + "\n",
            "proof": store.prove(1, checkpoint).to_text(),
        }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    return {name: str(tmp_path / name) for name in (*texts, "store", "missing")}


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main([*arguments])
    written = capsys.readouterr()
    lines = written.out + written.err
    assert lines.count("\n") == 1
    assert lines.endswith("\n")
    return code, written.out, written.err


def test_it_holds(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint, key = files["checkpoint"], files["key"]
    for arguments in (
        ("checkpoint", checkpoint, key),
        ("proof", files["proof"], key),
        ("store", files["store"], checkpoint, key),
    ):
        code, out, _ = run(capsys, *arguments)
        assert (code, out[:7]) == (0, "holds: ")


def test_what_cannot_be_checked(
    files: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, key, missing = files["checkpoint"], files["key"], files["missing"]
    for arguments in (
        (),
        ("nothing",),
        ("checkpoint", checkpoint),
        ("checkpoint", checkpoint, key, key),
        ("store", files["store"], checkpoint),
        ("checkpoint", missing, key),
        ("checkpoint", checkpoint, missing),
        ("checkpoint", files["store"], key),
        ("checkpoint", checkpoint, checkpoint),
        ("proof", missing, key),
        ("records", missing, checkpoint, key),
        ("store", missing, checkpoint, key),
        ("tiles", missing, key),
    ):
        code, _, err = run(capsys, *arguments)
        assert (code, err[:13]) == (2, "CANNOT CHECK:"), arguments
    imported = builtins.__import__

    def without_pyarrow(name: str, *rest: Any, **others: Any) -> Any:
        if name.partition(".")[0] == "pyarrow":
            raise ImportError(name)
        return imported(name, *rest, **others)

    monkeypatch.setattr(builtins, "__import__", without_pyarrow)
    code, _, err = run(capsys, "store", files["store"], checkpoint, key)
    assert (code, "pip install pyarrow" in err) == (2, True)


def test_what_does_not_hold(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint, key = files["checkpoint"], files["key"]
    for arguments in (
        ("checkpoint", files["proof"], key),
        ("proof", checkpoint, key),
        ("records", files["proof"], checkpoint, key),
    ):
        code, out, _ = run(capsys, *arguments)
        assert (code, out[:8]) == (1, "REFUSED:"), arguments
    for content in (b"\xff\xfe", b"[" * 100_000, b"", b"{}\n", b"nul\n", b"[1]\n"):
        Path(files["proof"]).write_bytes(content)
        code, out, _ = run(capsys, "proof", files["proof"], key)
        assert (code, out[:8]) == (1, "REFUSED:"), content[:5]
    segment = Path(files["store"]) / "log" / "0000000001.arrows"
    segment.write_bytes(segment.read_bytes()[:900])
    assert run(capsys, "store", files["store"], checkpoint, key)[0] == 1
    segment.write_bytes(b"nothing")
    assert run(capsys, "store", files["store"], checkpoint, key)[0] == 1
    segment.unlink()
    assert run(capsys, "store", files["store"], checkpoint, key)[0] == 1


def exported(store: str) -> list[str]:
    with eventstore.open(store, read_only=True) as opened:
        log = opened.log
        return [
            msgspec.json.encode(record).decode() + "\n"
            for commit in log.commits(0, log.position)
            for record in commit.records
        ]


def changed(line: str, **members: Any) -> str:
    return json.dumps(json.loads(line) | members, separators=(",", ":"), ensure_ascii=False) + "\n"


def put_more(store: str, *names: str) -> None:
    with eventstore.open(store) as opened:
        for name in names:
            opened.put_artifact_type(eventstore.proto.ArtifactType(name=name))


def test_records_after_the_checkpoint_are_counted(
    files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    signed = ("checkpoint", "key")
    rest = [files[name] for name in signed]
    export = files["missing"]
    size = len(exported(files["store"]))
    for more, words in ((1, "1 further record is"), (2, "2 further records are")):
        put_more(files["store"], f"more{more}")
        Path(export).write_text("".join(exported(files["store"])))
        for arguments in (("records", export), ("store", files["store"])):
            code, out, _ = run(capsys, *arguments, *rest)
            assert (code, f"the first {size} records" in out) == (0, True)
            assert f"{words} not covered by the checkpoint" in out


def test_a_write_that_was_cut_off_after_the_checkpoint_is_told(
    files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    put_more(files["store"], "more", "other")
    active = Path(files["store"]) / "log" / "0000000001.arrows"
    active.write_bytes(active.read_bytes()[:-40])
    (active.parent / "acknowledged").unlink()
    assert verify_directory(Path(files["store"])).ok
    code, out, _ = run(capsys, "store", files["store"], files["checkpoint"], files["key"])
    assert (code, "1 further record is not covered" in out) == (0, True)
    assert "what follows cannot be read" in out


def test_forged_records_after_the_checkpoint_are_refused(
    files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = exported(files["store"])
    put_more(files["store"], "more", "other")
    *_, next_line, last = exported(files["store"])
    position, commit = json.loads(next_line)["position"], json.loads(next_line)["commit"]
    export = Path(files["missing"])
    for forged in (
        [lines[-1]],
        [lines[0]],
        [*reversed([next_line, last])],
        [last],
        [next_line, next_line],
        [next_line, last, lines[0]],
        [changed(next_line, position=position + 7)],
        [changed(next_line, commit=commit + 1)],
        [changed(next_line, commit=commit - 1)],
        [changed(next_line, previous=1)],
        [changed(next_line, recorded_at=1)],
        [changed(next_line, entity_id=99)],
        [changed(next_line, payload="//8=")],
        [changed(next_line, payload="CgFh", kind="artifact", type_id=1)],
        [changed(next_line, payload="IgUKABIBOA==", kind="artifact", type_id=0)],
        [changed(next_line, salt=json.loads(lines[-1])["salt"])],
        ["nonsense\n"],
        [next_line[:-1]],
    ):
        export.write_text("".join([*lines, *forged]))
        code, out, _ = run(capsys, "records", str(export), files["checkpoint"], files["key"])
        assert (code, out[:8]) == (1, "REFUSED:"), forged


def test_files_that_are_no_part_of_the_store_are_refused(
    files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    store = Path(files["store"])
    with eventstore.open(store) as opened:
        opened.seal()
    put_more(files["store"], "more")
    arguments = ("store", files["store"], files["checkpoint"], files["key"])
    assert run(capsys, *arguments)[0] == 0
    active = store / "log" / "0000000002.arrows"
    header = active.read_bytes()[: read_manifest(store).active.header_bytes]
    for name, content in (
        ("extra.parquet", b""),
        ("manifest.json.bak", b""),
        (".hidden", b""),
        ("projections.old", b""),
        ("some.tmp", b""),
        ("log/extra.parquet", b""),
        ("log/some.tmp", b""),
        ("log/.hidden", b""),
        ("log/0000000002.parquet", (store / "log" / "0000000001.parquet").read_bytes()),
        ("log/0000000003.arrows", active.read_bytes()),
        ("log/0000000003.parquet", header),
        ("log/0000000001.arrows", active.read_bytes()),
        ("log/0000000009.arrows", header),
    ):
        (store / name).write_bytes(content)
        code, out, _ = run(capsys, *arguments)
        assert (code, out[:8]) == (1, "REFUSED:"), name
        assert not verify_directory(store).ok
        (store / name).unlink()
    for folder in (store / "more", store / "log" / "more", store / "log" / "0000000003.arrows"):
        folder.mkdir()
        code, out, _ = run(capsys, *arguments)
        assert (code, out[:8]) == (1, "REFUSED:"), folder
        folder.rmdir()
    for name, content in (
        ("manifest.json.12.tmp", b""),
        ("log/0000000001.parquet.12.tmp", b""),
        ("log/0000000003.arrows", header),
    ):
        (store / name).write_bytes(content)
        assert run(capsys, *arguments)[0] == 0, name
        assert verify_directory(store).ok
        (store / name).unlink()
    manifest = store / "manifest.json"
    for content in (b"", b"[]", b"{}", b"\xff", b'{"manifest":{"segments":[1],"active":2}}'):
        manifest.write_bytes(content)
        code, out, _ = run(capsys, *arguments)
        assert (code, out[:8]) == (1, "REFUSED:"), content
