"""What an auditor's commands say of what was changed, and of what they cannot look at."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import eventstore
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.command_line.runner import Done, run

BY_ANA = ("--key", "ana.pub")
BY_POLICY = ("--policy", "policy")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A signer, a witness, a fork, checkpoints, proofs, and what was published of them."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("ana.pub").write_text(run("key", "ana", "ana.key").out)
        Path("eve.pub").write_text(run("key", "eve", "eve.key").out)
        witness = run("key", "north.example", "north.key", "--witness").out
        log = f"log {Path('ana.pub').read_text()}"
        Path("policy").write_text(f"{log}witness north {witness}quorum north\n")
        for store, number in (("store", 1), ("store", 2), ("fork", 3), ("store", 3)):
            if store == "fork":
                shutil.copytree("store", "fork")
            with eventstore.open(store, actor="ana", reason="why") as opened:
                opened.put_artifact_type(mlmd.ArtifactType(name=f"{store}{number}"))
            signed = run("checkpoint", store, "--key", "ana.key").out
            Path(f"c{number}" if store == "store" else f"f{number}").write_text(signed)
        by = ("--by", "north.key", *BY_ANA, "--last", "north.last")
        Path("cosigned").write_text(run("cosign", "c2", *by).out)
        for name, arguments in (
            ("record", ("store", 2, "--checkpoint", "c3")),
            ("since", ("store", "--since", "c1", "--checkpoint", "c3")),
        ):
            Path(name).write_text(run("prove", *arguments, *BY_ANA).out)
        for store, www, signed in (("store", "www", "cosigned"), ("fork", "www-fork", "f3")):
            publishing = ("tiles", store, www, *BY_ANA, "--checkpoint", signed)
            assert run("publish", *publishing).code == 0
    return folder


@pytest.fixture(autouse=True)
def workplace(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(made, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")


def assert_said(done: Done, code: int, *words: str) -> None:
    assert (done.code, done.err.count("\n")) == (code, 1), done
    for part in words:
        assert part in done.err


def _another(letter: re.Match[bytes]) -> bytes:
    return b"A" if letter[0] != b"A" else b"B"


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "size": lambda text: re.sub(rb"\n([0-9]+)\n", rb"\n1\1\n", text, count=1),
    "root": lambda text: re.sub(rb"(?<=\n)[A-Za-z0-9+/]{43}=", b"A" * 43 + b"=", text),
    "store id": lambda text: re.sub(rb"/[0-9a-f]{8}", b"/00000000", text),
    "signed-at": lambda text: text.replace(b"signed-at 20", b"signed-at 19"),
    "signature": lambda text: re.sub(rb"(?<= ana .{9}).", _another, text),
    "cosignature": lambda text: re.sub(rb"(?<= north.example .{30}).", _another, text),
    "no cosignature": lambda text: b"".join(text.splitlines(keepends=True)[:-1]),
    "lines ended otherwise": lambda text: text.replace(b"\n", b"\r\n"),
    "nothing": lambda text: b"",
    "a page": lambda text: b"<!DOCTYPE html>\n<html><body>Not here</body></html>\n",
    "no text": lambda text: b"\xff\xfe",
    "another checkpoint": lambda text: b"eventstore/x\n\n" + text,
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_published_checkpoint_that_was_changed_does_not_hold(what: str) -> None:
    published = Path("www/checkpoint")
    changed = CHANGES[what](published.read_bytes())
    assert changed != published.read_bytes()
    published.write_bytes(changed)
    done = run("audit", "www", *BY_POLICY, "--json")
    assert_said(done, 3, "www")
    answer = json.loads(done.out)
    assert (answer["ok"], answer["source"], answer["checkpoint"]) == (False, "www", None)
    assert answer["findings"][0]["what"] in done.err


def test_what_was_published_and_is_gone_does_not_hold() -> None:
    assert run("audit", "www", *BY_POLICY, "--last", "last").code == 0
    Path("www/checkpoint").unlink()
    assert_said(run("audit", "www", *BY_POLICY, "--last", "last"), 3, "has no checkpoint")
    # Nothing can be said of what nobody has seen, or where nothing can be.
    assert_said(run("audit", "www", *BY_POLICY), 1, "nothing is published there")
    assert_said(run("audit", "ww", *BY_POLICY, "--last", "last"), 1, "no folder")
    assert_said(run("audit", "ftp://h/", *BY_POLICY), 1, "neither a folder")
    assert_said(run("audit", "www", "--key", "c1"), 1, "c1: ")


def test_what_is_published_of_another_history_does_not_hold() -> None:
    Path("last").write_text(Path("c3").read_text())
    assert_said(run("audit", "www-fork", *BY_ANA, "--last", "last"), 3, "keep both checkpoints")
    with eventstore.open("other") as other:
        other.put_artifact_type(mlmd.ArtifactType(name="t"))
    Path("o").write_text(run("checkpoint", "other", "--key", "ana.key").out)
    assert run("publish", "tiles", "other", "www-o", *BY_ANA, "--checkpoint", "o").code == 0
    assert_said(run("audit", "www-o", *BY_ANA, "--last", "last"), 3, "of store")
    shutil.copy("c3", "www-fork/checkpoint")
    for last in ((), ("--last", "last")):
        done = run("audit", "www-fork", *BY_ANA, *last)
        assert_said(done, 3, "are not those that ana signed")
        assert "both" not in done.err


@pytest.mark.parametrize("what", ["folder", "circle", "dangling", "file"])
def test_what_lies_in_a_tile_s_place_is_damage_of_what_is_published(what: str) -> None:
    tile = next(Path("www/tile/0").rglob("[0-9]*[0-9]"))
    if what == "file":
        shutil.rmtree("www/tile/0")
        Path("www/tile/0").write_bytes(b"")
    elif what == "folder":
        tile.unlink()
        tile.mkdir()
    else:
        tile.unlink()
        tile.symlink_to(tile.name if what == "circle" else "nowhere")
    done = run("audit", "www", *BY_ANA)
    assert_said(done, 3, "www")
    assert "backup" not in done.err


def test_a_proof_that_was_changed_does_not_hold() -> None:
    for proof, *since in (("record",), ("since", "--since", "c1")):
        text = Path(proof).read_bytes()
        checked = ("prove", "--check", proof, *since)
        assert run(*checked, *BY_ANA).code == 0
        for changed in (
            *(change(text) for what, change in CHANGES.items() if "cosign" not in what),
            re.sub(rb"\n[A-Za-z0-9+/]{43}=(?=\n)", b"\n" + b"A" * 43 + b"=", text, count=1),
            text.replace(b"index 1", b"index 2").replace(b"old ", b"old 1"),
        ):
            Path(proof).write_bytes(changed)
            assert_said(run(*checked, *BY_ANA), 3, proof)
        Path(proof).write_bytes(text)
    record = ("prove", "--check", "record")
    assert_said(run(*record, "--key", "eve.pub"), 3, "record: ")
    assert_said(run(*record, *BY_POLICY), 3, "record: ", "demands more cosignatures")
    # What it is checked with is another matter.
    check = ("prove", "--check", "since", "--since")
    assert_said(run(*check, "f3", "--key", "eve.pub"), 1, "f3: ")
    assert_said(run(*check, "c2", *BY_ANA), 3, "since: ", "starts from")
    assert_said(run(*check, "ana.pub", *BY_ANA), 1, "ana.pub: ")


@pytest.mark.parametrize(
    ("file", "arguments"),
    [
        ("c2", ("verify", "store", "--checkpoint", "c2", "--key", "eve.pub")),
        ("ana.pub", ("verify", "store", "--checkpoint", "ana.pub", *BY_ANA)),
        ("c1", ("verify", "store", "--checkpoint", "c1", "--key", "c1")),
        ("c1", ("verify", "store", "--checkpoint", "c1", "--policy", "c1")),
        ("ana.pub", ("checkpoint", "store", "--key", "ana.pub")),
        ("f3", ("checkpoint", "store", "--key", "eve.key", "--previous", "f3")),
        ("ana.pub", ("prove", "store", 1, "--checkpoint", "ana.pub", *BY_ANA)),
        ("policy", ("prove", "store", "--since", "policy", "--checkpoint", "c2", *BY_ANA)),
        ("policy", ("publish", "tiles", "store", "new", "--checkpoint", "policy", *BY_ANA)),
        ("ana.key", ("cosign", "c1", "--by", "ana.key", *BY_ANA, "--last", "l")),
        ("policy", ("cosign", "policy", "--by", "north.key", *BY_ANA, "--last", "l")),
        ("c1", ("cosign", "c3", "--by", "north.key", *BY_ANA, "--last", "c1x")),
        ("c1", ("cosign", "c2", "--add", "c1", *BY_POLICY)),
        ("ana.pub", ("cosign", "c2", "--add", "ana.pub", *BY_POLICY)),
        ("ana.pub", ("cosign", "ana.pub", "--add", "cosigned", *BY_POLICY)),
        ("last", ("audit", "www", *BY_ANA, "--last", "last")),
        ("eve.pub", ("report", "store", "artifact", 1, "--checkpoint", "eve.pub", *BY_ANA)),
    ],
)
def test_an_error_names_the_file(file: str, arguments: tuple[str, ...]) -> None:
    Path("last").write_bytes(b"\xff")
    Path("c1x").write_text("c1: of nobody")
    more = ("--output", "-") if arguments[0] == "report" else ()
    assert_said(run(*arguments, *more), 1, f"{file}")


def test_a_policy_that_nothing_is_checked_with_is_refused() -> None:
    for trust in (BY_POLICY, BY_ANA):
        done = run("verify", "store", *trust)
        assert (done.code, done.out) == (2, "")
        assert "--checkpoint" in done.err


def test_a_key_s_public_half_is_printed_again() -> None:
    assert run("key", "--public", "ana.key").out == Path("ana.pub").read_text()
    assert run("key", "--public", "north.key").out.strip() in Path("policy").read_text()
    answer = json.loads(run("key", "--public", "ana.key", "--json").out)
    assert (answer["name"], answer["file"]) == ("ana", "ana.key")
    before = Path("ana.key").read_bytes()
    assert_said(run("key", "ana", "ana.key"), 1, "`eventstore key --public ana.key`")
    assert Path("ana.key").read_bytes() == before
    assert_said(run("key", "--public", "ana.pub"), 1, "ana.pub: a signing key starts with")
    assert_said(run("key", "--public", "c1"), 1, "c1: ")
    for wrong in (("--public", "ana.key", "ana"), ("--public", "ana.key", "--witness"), ("ana",)):
        assert run("key", *wrong).code == 2


def test_an_empty_text_is_no_source() -> None:
    done = run("audit", "", *BY_ANA)
    assert (done.code, "an empty text is no path" in done.err) == (2, True)


def test_it_is_said_who_cosigned() -> None:
    said = ", cosigned by north, as the policy demands"
    for arguments, witnesses in (
        (("audit", "www"), lambda answer: answer["witnesses"]),
        (
            ("verify", "store", "--no-caches", "--checkpoint", "cosigned"),
            lambda answer: answer["signed_heads"][0]["witnesses"],
        ),
    ):
        by_policy = run(*arguments, *BY_POLICY)
        assert (by_policy.code, said in by_policy.out) == (0, True)
        assert witnesses(json.loads(run(*arguments, *BY_POLICY, "--json").out)) == ["north"]
        by_key = run(*arguments, *BY_ANA)
        assert (by_key.code, "cosigned by" in by_key.out) == (0, False)
        assert witnesses(json.loads(run(*arguments, *BY_ANA, "--json").out)) == []


def test_a_proof_says_what_the_record_says() -> None:
    done = run("prove", "--check", "record", *BY_ANA)
    record = json.loads(run("log", "store", "--json", "--after", 1, "--upto", 2).out)
    for name in ("recorded_at", "commit", "reason", "actor"):
        assert str(record[name]) in done.out
    store_id = Path("c1").read_text().partition("\n")[0].partition("/")[2]
    assert store_id in done.out
    answer = json.loads(run("prove", "--check", "record", *BY_ANA, "--json").out)
    for name in ("recorded_at", "commit", "reason", "actor", "type_id", "previous", "request_id"):
        assert answer[name] == record[name]
    assert (answer["store_id"], answer["witnesses"]) == (store_id, [])
