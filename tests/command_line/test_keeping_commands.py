"""`eventstore hold` and `eventstore retention`: what they say, in the words of the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

import eventstore
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import put_types
from tests.command_line.runner import run

HOLD = ("hold", "place")
RULE = ("retention", "rule")
BASIS = ("--basis", "CASE-1")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("kept") / "store"
    with eventstore.open(directory, actor="ana") as store:
        artifact_type, *_ = put_types(store)
        node = mlmd.Artifact(type_id=artifact_type, name="[bold]n[/bold]")
        node.custom_properties["[u]nan[/u]"].double_value = float("nan")
        store.put_artifacts([node])
    return directory


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((*RULE, *BASIS), 2, "say --keep-at-least, --keep-at-most or --needs-approval"),
        ((*RULE, "--includes-current", "--needs-approval"), 2, "goes with --keep-at-most"),
        (
            (*RULE, "--keep-at-least", "90d", "--keep-at-most", "36h"),
            2,
            "--keep-at-most (1 day 12 hours) is shorter than --keep-at-least (90 days)",
        ),
        ((*RULE, "--keep-at-least", "0d"), 2, "'0d' is no span to keep anything for"),
        ((*RULE, "--keep-at-most", "1001y"), 2, "'1001y' is no span to keep anything for"),
        ((*RULE, "--needs-approval", "--basis", "she asked"), 1, "basis is 'she asked'"),
        ((*RULE, "--needs-approval", "--type-id", 99), 1, ": there is no type with id 99"),
        ((*HOLD, "--context", 99), 1, ": there is no context with id 99"),
        ((*HOLD, "--entity", "artifact:99"), 1, ": there is no artifact with id 99"),
        ((*HOLD, "--kind", "event", "--filter", "id = 1"), 1, ": nothing can ever fit the kinds"),
        (("erase", "artifact", 1, "--keep-content"), 2, "--keep-content goes with --who"),
        (
            ("erase", "artifact", 1, "--keep-content", "--who", "--redact", "uri"),
            2,
            "--keep-content and --redact exclude each other",
        ),
        (("erase", "artifact", 1, "--redact", ""), 2, "--redact takes a name"),
        (("erase", "artifact_type", 10), 1, "who put it can be erased"),
    ],
    ids=range(14),
)
def test_what_cannot_be_is_said_in_options(
    directory: Path, words: tuple[object, ...], code: int, said: str
) -> None:
    group = words[:1] if words[0] == "erase" else words[:2]
    needed = ("--reason", "GDPR-17") if words[0] == "erase" else BASIS
    for tried in ((), ("--dry-run",)):
        done = run(*group, directory, *needed, *words[len(group) :], *tried)
        assert (done.code, said in done.err) == (code, True), (tried, done)
        for python in ("=True", "=False", "timedelta", "keep_at", "_ids", "('"):
            assert python not in done.err.split("Error: ")[-1], done.err


def test_spans_are_told_in_days(directory: Path) -> None:
    longer = (*RULE, directory, *BASIS, "--keep-at-least", "90d", "--keep-at-most", "100d")
    assert run(*longer).code == 0
    for tried in ((), ("--dry-run",)):
        done = run(*RULE, directory, *BASIS, "--keep-at-least", "12h", "--number", 1, *tried)
        assert (done.code, "keeps records at least 90 days" in done.err) == (1, True)
        done = run(*RULE, directory, *BASIS, "--keep-at-least", "12h", "--number", 9, *tried)
        assert (done.code, "there is no retention rule 9" in done.err) == (1, True)
    withdrawing = ("retention", "withdraw", directory, 1, "--ticket", "T", "--dry-run")
    said = "Retention rule 1 of everything is in force; nothing was recorded\n"
    assert run(*withdrawing).out == said
    (row,) = run("retention", "list", directory).out.splitlines()[1:]
    assert row.split()[1:5] == ["90", "days", "100", "days"]
    answer = json.loads(run("retention", "list", directory, "--json").out)
    assert answer["keep_at_least_seconds"] == 90 * 86_400


def test_a_narrow_terminal_shows_markup_and_nan_as_they_are(directory: Path) -> None:
    scope = ("--filter", "name = '[bold]n[/bold]'")
    codes = ("--basis", "C[b]", "--ticket", "T[/b]", "--actor", "[i]ana[/i]")
    assert run(*HOLD, directory, *scope, *codes).code == 0
    for words, texts in (
        (("hold", "list", directory), (scope[1], "C[b]", "T[/b]")),
        (("changes", directory, "--limit", 1), ("by [i]ana[/i]", "new hold 1: C[b], T[/b]")),
        (("history", directory, "artifact", 1), ("[bold]n[/bold]", "[u]nan[/u]: + NaN")),
        (("erase", directory, "artifact", 1, "--reason", "X[b]"), ("(C[b], T[/b],",)),
    ):
        done = run(*words, width=40)
        shown = " ".join(done.out.split())
        assert done.code == 0, done.err
        assert all(text in shown for text in texts), done.out


def test_a_dry_run_of_a_release_says_by_which_record_it_takes_a_second_person(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "store"
    with eventstore.open(directory, actor="ana") as store:
        put_types(store)
        store.place_hold(basis="CASE-1", needs_approval=True)
        at = store.log_position()
    releasing = ("hold", "release", directory, 1, "--ticket", "END")
    assert run(*releasing, "--dry-run").out == (
        f"Hold 1 is in force; its release takes a second person, by its record at position {at}; "
        "nothing was recorded\n"
    )
    answer = json.loads(run(*releasing, "--dry-run", "--json").out)
    assert (answer["needs_approval"], answer["placed_at_position"]) == (True, at)
    assert run(*releasing, "--actor", "ana").code == 0
    proposed = "The release of hold 1 is proposed: somebody else has to approve it"
    assert run(*releasing, "--dry-run").out == f"{proposed}; nothing was recorded\n"


def test_holds_are_listed_with_who_placed_and_released_them(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    eventstore.open(directory).close()
    releasing = ("hold", "release", directory, 2, "--ticket", "T")
    assert run(*HOLD, directory, *BASIS, "--actor", "[i]ana[/i]").code == 0
    assert run(*HOLD, directory, *BASIS, "--actor", "ana", "--needs-approval").code == 0
    assert run(*releasing, "--actor", "bo").code == 0
    _, proposed = map(json.loads, run("hold", "list", directory, "--json").out.splitlines())
    assert (proposed["release_proposed_by"], proposed["released_at"]) == ("bo", None)
    assert run(*releasing, "--actor", "cleo").code == 0

    with eventstore.open(directory, read_only=True) as store:
        held, released = store.holds()
    assert held.placed_by == "[i]ana[/i]"
    assert held.release_proposed_at is held.release_proposed_by is None
    assert held.released_at is held.released_by is None
    by = (released.placed_by, released.release_proposed_by, released.released_by)
    assert by == ("ana", "bo", "cleo")
    at = (released.placed_at, released.release_proposed_at, released.released_at)
    assert None not in at
    assert list(at) == sorted(at)
    rows = list(csv.DictReader(run("hold", "list", directory, "--csv").out.splitlines()))
    assert [row["placed_by"] for row in rows] == ["[i]ana[/i]", "ana"]
    assert [row["released_by"] for row in rows] == ["", "cleo"]
    for width in (40, 200, None):
        shown = run("hold", "list", directory, width=width).out
        assert all(name in shown for name in ("[i]ana[/i]", "bo", "cleo")), shown


def test_what_takes_a_ticket_says_so(directory: Path) -> None:
    for words in (("hold", "release"), ("retention", "withdraw")):
        for tried in ((), ("--dry-run",)):
            done = run(*words, directory, 1, *tried)
            assert (done.code, "Missing option '--ticket'" in done.err) == (2, True), done.err


def test_nothing_that_has_expired_is_told_as_an_object(directory: Path) -> None:
    for tried in ((), ("--dry-run",)):
        done = run("retention", "apply", directory, "--json", *tried)
        assert json.loads(done.out) == {"due": [], "refused": [], "pinned": []}
