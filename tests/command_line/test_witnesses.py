"""`eventstore cosign`, `publish` and `audit`, as a signer, witnesses and an auditor use them."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

import eventstore
from eventstore.audit import standalone_verifier
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.command_line.runner import run

BY_ANA = ("--key", "ana.pub")


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ana.pub").write_text(run("key", "ana", "ana.key").out)
    lines = [f"log {Path('ana.pub').read_text()}"]
    for name in ("north", "south", "west"):
        lines.append(f"witness {name} {run('key', name, f'{name}.key', '--witness').out}")
    lines.append("group sides 2 north south west\nquorum sides\n")
    Path("policy").write_text("".join(lines))
    for number in (1, 2, 3):
        with eventstore.open("store") as store:
            store.put_artifact_type(mlmd.ArtifactType(name=f"t{number}"))
        Path(f"c{number}").write_text(run("checkpoint", "store", "--key", "ana.key").out)


def cosign(request: str, witness: str) -> tuple[int, str]:
    by = ("--by", f"{witness}.key", *BY_ANA, "--last", f"{witness}.last")
    done = run("cosign", request, *by)
    if done.code == 0:
        assert Path(f"{witness}.last").read_text() == done.out
        Path(f"{request}-{witness}").write_text(done.out)
    return done.code, done.err


def prove_since(older: str, newer: str) -> str:
    proof = run("prove", "store", "--since", older, "--checkpoint", newer, *BY_ANA)
    Path(f"{older}-{newer}").write_text(proof.out)
    return f"{older}-{newer}"


def test_witnesses_an_auditor_and_a_rollback() -> None:
    assert cosign("c1", "north")[0] == 0
    assert cosign(prove_since("c1", "c2"), "north")[0] == 0
    assert cosign("c2", "south") == (
        0,
        "nothing of this store was cosigned before: its history up to here is believed\n",
    )
    # Of an older state, or of a newer one without a proof, a witness signs nothing.
    kept = Path("north.last").read_text()
    for request in ("c1", "c3", prove_since("c1", "c3"), "policy"):
        assert cosign(request, "north")[0] != 0
    assert Path("north.last").read_text() == kept
    # One that is only older accuses nobody.
    code, refusal = cosign("c1", "north")
    assert (code, "it is older" in refusal) == (1, True)
    one = run("cosign", "c2", "--add", "c1-c2-north", "--policy", "policy")
    assert (one.code, one.err) == (0, "the policy demands more cosignatures than those of north\n")
    added = ("--add", "c1-c2-north", "--add", "c2-south")
    both = run("cosign", "c2", *added, "--policy", "policy", "--json")
    answer = json.loads(both.out)
    assert (answer["witnesses"], answer["is_met"], both.err) == (["north", "south"], True, "")
    Path("cosigned").write_text(answer["text"])
    assert run("cosign", "c1", *added, "--policy", "policy").code == 1
    # What is published is checked by the policy, and goes on from what was checked last.
    publishing = ("publish", "tiles", "store", "www", "--policy", "policy", "--checkpoint")
    assert run(*publishing, "c2").code == 1
    assert not Path("www").exists()
    assert run(*publishing, "cosigned").code == 0
    first = run("audit", "www", "--policy", "policy", "--last", "last")
    assert first.err == "nothing was checked before: all of history is looked at\n"
    assert Path("last").read_text() == Path("cosigned").read_text()
    again = json.loads(run("audit", "www", "--policy", "policy", "--last", "last", "--json").out)
    assert (again["size"], again["older_size"], again["signer"]) == (11, 11, "ana")
    assert run("publish", "tiles", "store", "old", *BY_ANA, "--checkpoint", "c1").code == 0
    taken_back = run("audit", "old", *BY_ANA, "--last", "last")
    assert (taken_back.code, taken_back.out) == (3, "")
    assert "it was taken back" in taken_back.err
    Path("www/tile/0/000.p/11").unlink()
    lacking = run("audit", "www", "--policy", "policy")
    assert lacking.code == 3
    assert "lacks tile/0/000.p/11" in lacking.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("cosign", "c1"),
        ("cosign", "c1", "--by", "north.key"),
        ("cosign", "c1", "--by", "north.key", "--last", "last"),
        ("cosign", "c1", "--by", "north.key", "--last", "last", *BY_ANA, "--policy", "policy"),
        ("cosign", "c1", "--by", "north.key", "--last", "last", *BY_ANA, "--add", "c1"),
        ("cosign", "c1", "--add", "c1"),
        ("cosign", "c1", "--add", "c1", "--policy", "policy", *BY_ANA),
        ("audit", "www"),
        ("audit", "www", *BY_ANA, "--policy", "policy"),
        ("publish", "tiles", "store", "www", *BY_ANA),
        ("publish", "tile", "store", "www", *BY_ANA, "--checkpoint", "c1"),
        ("verify", "store", "--checkpoint", "c1"),
        ("prove", "--check", "c1"),
        ("prove", "--check", "c1-c2", *BY_ANA),
        ("prove", "--check", "record", "--since", "c1", *BY_ANA),
    ],
)
def test_what_is_missing_is_said(arguments: tuple[str, ...]) -> None:
    prove_since("c1", "c2")
    proof = run("prove", "store", 1, "--checkpoint", "c1", *BY_ANA)
    Path("record").write_text(proof.out)
    before = sorted(Path().iterdir())
    assert run(*arguments).code == 2
    assert sorted(Path().iterdir()) == before


def test_nothing_is_published_or_kept_inside_of_a_store() -> None:
    for arguments in (
        ("publish", "tiles", "store", "store/www", *BY_ANA, "--checkpoint", "c1"),
        ("cosign", "c1", "--by", "north.key", *BY_ANA, "--last", "store/last"),
        ("audit", "www", *BY_ANA, "--last", "store/last"),
    ):
        done = run(*arguments)
        assert (done.code, "is inside of the store" in done.err) == (1, True)


def test_a_policy_s_names_may_be_in_any_encoding(capsys: pytest.CaptureFixture[str]) -> None:
    """They are bytes to the specification; both verifiers read them."""
    witness = run("key", "east", "east.key", "--witness").out.encode()
    log = b"log " + Path("ana.pub").read_bytes()
    Path("latin").write_bytes(log + b"# \xfc\nwitness \xf6st " + witness + b"quorum \xf6st\n")
    by = ("--by", "east.key", *BY_ANA, "--last", "east.last")
    Path("cosigned").write_text(run("cosign", "c1", *by).out)
    assert run("verify", "store", "--checkpoint", "cosigned", "--policy", "latin").code == 0
    assert standalone_verifier.main(["checkpoint", "cosigned", "latin"]) == 0
    done = run("verify", "store", "--checkpoint", "c1", "--policy", "latin")
    assert (done.code, "demands more cosignatures" in done.err) == (1, True)
    assert standalone_verifier.main(["checkpoint", "c1", "latin"]) == 1
    assert "the policy demands more" in capsys.readouterr().out


def test_a_policy_without_a_log_takes_the_signer_s_key() -> None:
    Path("open").write_text("quorum none\n")
    assert run("verify", "store", "--checkpoint", "c1", "--policy", "open").code == 2
    assert run("verify", "store", "--checkpoint", "c1", "--policy", "open", *BY_ANA).code == 0


@pytest.mark.parametrize("ending", [b"\r\n", b"\r"])
def test_lines_that_end_otherwise_are_no_note(ending: bytes) -> None:
    """A note has no control character but newlines: both verifiers refuse what was converted."""
    since = prove_since("c1", "c2")
    Path("record").write_text(run("prove", "store", 1, "--checkpoint", "c1", *BY_ANA).out)
    for name in ("c1", "record", since):
        Path(f"{name}-converted").write_bytes(Path(name).read_bytes().replace(b"\n", ending))
    converted = f"{since}-converted"
    for command, code, alone in (
        (("verify", "store", "--checkpoint", "c1-converted"), 1, ["checkpoint", "c1-converted"]),
        (("prove", "--check", "record-converted"), 3, ["proof", "record-converted"]),
        (("prove", "--check", converted, "--since", "c1"), 3, ["consistency", converted, "c1"]),
        (
            ("prove", "--check", since, "--since", "c1-converted"),
            1,
            ["consistency", since, "c1-converted"],
        ),
    ):
        assert run(*command, *BY_ANA).code == code
        assert standalone_verifier.main([*alone, "ana.pub"]) == 1
    Path("ana.pub").write_bytes(Path("ana.pub").read_bytes().replace(b"\n", ending))
    assert run("verify", "store", "--checkpoint", "c1", *BY_ANA).code == 0
    assert standalone_verifier.main(["checkpoint", "c1", "ana.pub"]) == 0


def test_what_was_cosigned_is_kept_before_it_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file and its name in the folder: a witness without power must not forget either."""
    steps: list[str] = []
    sync, replace = os.fsync, os.replace

    def noted_sync(descriptor: int) -> None:
        sync(descriptor)
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")

    def noted_replace(source: Path, target: Path) -> None:
        replace(source, target)
        steps.append("name")

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(os, "replace", noted_replace)
    assert cosign("c1", "north")[0] == 0
    assert steps == ["file", "name", "folder"]
