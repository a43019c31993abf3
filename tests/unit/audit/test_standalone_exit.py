"""The stand-alone verifier tells what does not hold from what it cannot check, in one line."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

import eventstore
from eventstore.audit import SigningKey
from eventstore.audit.standalone_verifier import main

KEY = SigningKey.generate("ana@example.com")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    with eventstore.open(tmp_path / "store") as store:
        store.put_artifact_type(eventstore.proto.ArtifactType(name="t"))
        checkpoint = store.checkpoint(KEY)
        texts = {
            "checkpoint": checkpoint.text,
            "key": str(KEY.verifier_key) + "\n",
            "proof": store.prove(1, checkpoint).to_json(),
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
        ("proof", missing, key),
        ("records", missing, checkpoint, key),
        ("store", missing, checkpoint, key),
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
        ("checkpoint", checkpoint, checkpoint),
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
