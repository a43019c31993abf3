"""Every command that takes moments refuses those that make no sense, and names them."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path

import pytest

import eventstore
from eventstore import errors
from tests.builders import artifact, put_types
from tests.command_line.runner import run


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("moments") / "store"
    with eventstore.open(directory) as opened:
        type_id, _, _ = put_types(opened)
        for name in ("one", "two", "three"):
            opened.put_artifacts([artifact(type_id, name=name)])
    return directory


WRONG = (
    (("--since", "2031-01-01"), "2031-01-01"),
    (("--since", "99999"), "99999"),
    (("--until", "99999"), "99999"),
    (("--until", "2031-01-01"), "2031-01-01"),
    (("--until", "2001-01-01"), "2001-01-01"),
    (("--since", "13", "--until", "12"), "since 13 until 12"),
    (("--since", "2003-01-01", "--until", "2002-01-01"), "2002-01-01"),
)


@pytest.mark.parametrize(("options", "named"), WRONG)
@pytest.mark.parametrize("command", ["verify", "changes", "log"])
def test_a_range_that_holds_nothing_is_refused(
    store: Path, command: str, options: tuple[str, ...], named: str
) -> None:
    for form in ((), ("--json",)):
        done = run(command, store, *options, *form)
        assert (done.code, done.out) == (1, "")
        assert named in done.err


@pytest.mark.parametrize(
    "options", [("--after", 5, "--upto", 3), ("--after", 99999), ("--upto", 99999)]
)
def test_positions_of_log_are_refused_likewise(store: Path, options: tuple[object, ...]) -> None:
    done = run("log", store, *options)
    assert (done.code, done.out) == (1, "")
    assert str(options[1]) in done.err


def test_a_range_in_which_nothing_was_put_is_empty(store: Path) -> None:
    with eventstore.open(store, read_only=True) as opened:
        newest = opened.log_position()
    for command in ("changes", "log"):
        assert (run(command, store, "--since", newest, "--json").code) == 0
        assert run(command, store, "--since", "2001-01-01", "--json").out
    assert not run("changes", store, "--actor", "nobody", "--json").out


def test_verify_in_python_refuses_them(store: Path) -> None:
    late = datetime(2031, 1, 1, tzinfo=timezone.utc)
    early = datetime(2001, 1, 1, tzinfo=timezone.utc)
    with eventstore.open(store, read_only=True) as opened:
        newest = opened.log_position()
        for since, until, named in (
            (late, None, "2031-01-01T00:00:00.000000Z"),
            (99_999, None, "99999"),
            (None, 99_999, "99999"),
            (None, early, "2001-01-01T00:00:00.000000Z"),
            (newest, newest - 1, f"since {newest} until {newest - 1}"),
            (late, early, "2031"),
        ):
            with pytest.raises(errors.InvalidArgumentError, match=named):
                opened.verify(since=since, until=until)
            with pytest.raises(errors.InvalidArgumentError, match=named):
                opened.changes(since=since, until=until)


def test_verify_reports_damage_that_hides_the_range(store: Path, tmp_path: Path) -> None:
    import shutil

    damaged = tmp_path / "damaged"
    shutil.copytree(store, damaged)
    (segment,) = (damaged / "log").glob("*.arrows")
    content = bytearray(segment.read_bytes())
    content[-100] ^= 1
    segment.write_bytes(content)
    shutil.rmtree(damaged / "projections", ignore_errors=True)
    done = run("verify", damaged, "--json", "--since", 2)
    report = json.loads(done.out)
    assert (done.code, report["ok"]) == (3, False)
    assert report["findings"][0]["what"]
    assert "eventstore verify" not in done.out + done.err


def test_verify_says_which_checkpoint_held(store: Path, tmp_path: Path) -> None:
    secret, public, signed = tmp_path / "a.key", tmp_path / "a.pub", tmp_path / "checkpoint"
    public.write_text(run("key", "ana@example.com", secret).out)
    signed.write_text(run("checkpoint", store, "--key", secret).out)
    size, root = signed.read_text().split("\n")[1:3]
    keys = ("--checkpoint", signed, "--key", public)
    said = run("verify", store, *keys).out
    for words in ("ana@example.com", f"holds: {size} records", root):
        assert words in said
    (held,) = json.loads(run("verify", store, *keys, "--json").out)["signed_heads"]
    assert (held["signer"], held["size"], held["root"]) == ("ana@example.com", int(size), root)
    for name in ("recorded_at", "signed_at"):
        assert datetime.fromisoformat(held[name]).tzinfo is not None


def test_a_position_inside_a_commit_stands_for_the_end_of_the_one_before(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with eventstore.open(store) as opened:
        type_id, _, _ = put_types(opened)
        opened.put_artifacts([artifact(type_id, name=name) for name in ("one", "two", "three")])
        opened.put_artifacts([artifact(type_id, name="four")])
        newest = opened.log_position()
    before, inside, end = newest - 4, newest - 2, newest - 1

    def positions(*options: object) -> list[int]:
        records = run("log", store, *options, "--json", "--reverse").out.splitlines()
        shown = run("changes", store, *options, "--json", "--reverse").out.splitlines()
        commits = [(c["first_position"], c["last_position"]) for c in map(json.loads, shown)]
        found = [int(json.loads(record)["position"]) for record in records]
        assert found == [n for first, last in commits for n in range(first, last + 1)]
        return found

    assert positions("--since", inside) == [*range(before + 1, newest + 1)]
    assert positions("--until", inside) == [*range(1, before + 1)]
    assert positions("--since", end, "--until", newest) == [newest]
    assert positions("--since", inside, "--until", inside) == []
    for options, meant in (((inside,), 1), ((inside, newest), 1), ((before, inside), 1)):
        said = run("diff", store, *options)
        assert said.code == 0
        assert said.err.count(f"As of {inside}: position {before}, recorded at ") == meant
    assert run("diff", store, before, end).err == ""
    for command in ("changes", "log"):
        assert "inside a commit" in " ".join(run(command, "--help").out.split())
