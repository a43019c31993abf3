"""Names in place of ids, long values, times and bytes: how commands show what is stored."""

from __future__ import annotations

import base64
import html
import json
import re
from pathlib import Path

import pytest

import eventstore
from eventstore.audit import SigningKey
from eventstore.history.fields import plain_fields
from eventstore.notebook import html_of
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.command_line.runner import run

LONG = "long " * 400


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("shown") / "store"
    with eventstore.open(directory, actor="ana") as opened:
        with opened.run("Trainer", contexts={"Run": "7"}) as recorded:
            recorded.output("Model", uri="s3://m", name="churn", accuracy=0.93, note=LONG)
        with pytest.raises(ZeroDivisionError), opened.run("Trainer"):
            _ = 1 / 0
        for version in (None, "2"):
            opened.put_artifact_type(mlmd.ArtifactType(name="Data", version=version))
        opened.put_artifact_type(mlmd.ArtifactType(name="12"))
    return directory


@pytest.mark.parametrize(
    "words",
    [("artifact", "Model", "churn"), ("context", "Run", "7"), ("artifact_type", "Model")],
)
def test_get_takes_names(words: tuple[str, ...], store: Path) -> None:
    by_name = run("get", store, *words, "--json")
    assert by_name.code == 0, by_name.err
    found = json.loads(by_name.out)
    assert found["name"] == words[-1]
    assert run("get", store, words[0], found["id"], "--json").out == by_name.out


def test_get_tells_versions_of_a_type_apart(store: Path) -> None:
    one, two = (
        json.loads(run("get", store, "artifact_type", "Data", *version, "--json").out)
        for version in ((), ("2",))
    )
    assert "version" not in one
    assert two["version"] == "2"
    assert json.loads(run("get", store, "artifact_type", "12", "", "--json").out)["name"] == "12"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("artifact", "Model", "chrun"), 1, "no artifact has type 'Model' and name 'chrun'"),
        (("artifact", "Modl", "churn"), 1, "did you mean 'Model'?"),
        (("artifact_type", "Modl"), 1, "did you mean 'Model'?"),
        (("artifact_type", "Data", "3"), 1, "no artifact type has name 'Data' and version '3'"),
        (("artifact", "churn"), 2, "'churn' names no artifact: say its id, or its type and name"),
        (("artifact", "a", "b", "c"), 2, "'a b c' names no artifact"),
        (("artifact", "Model", "churn", "--as-of", "9"), 1, "Model"),
    ],
)
def test_get_says_what_it_did_not_find(
    words: tuple[str, ...], code: int, said: str, store: Path
) -> None:
    done = run("get", store, *words)
    assert (done.code, done.out) == (code, "")
    assert said in " ".join(done.err.split())


@pytest.mark.parametrize(
    "command",
    [
        ("get", "STORE", "artifact", 1),
        ("list", "STORE", "artifact"),
        ("changes", "STORE"),
        ("history", "STORE", "artifact", 1),
        ("diff", "STORE", 10),
        ("sql", "STORE", "SELECT string_value FROM properties WHERE name = 'note'"),
    ],
)
def test_long_values_are_cut_on_a_terminal_alone_and_say_how_to_see_them(
    command: tuple[object, ...], store: Path
) -> None:
    given = [store if word == "STORE" else word for word in command]
    size = len(LONG.strip())
    cut, whole, pipe = run(*given, width=80), run(*given, "--full", width=80), run(*given)
    assert (cut.code, whole.code, pipe.code) == (0, 0, 0)
    assert cut.out.count("long") < 300
    assert "more characters: say --full)" in " ".join(cut.out.split())
    for done in (whole, pipe):
        # A property's name is above it, and no more of the words.
        assert " ".join(done.out.split()).count(LONG.strip()) == 1, size
        assert "more characters" not in done.out


def test_a_list_leaves_out_what_a_run_records_of_its_surroundings(store: Path) -> None:
    listed = run("list", store, "execution")
    assert "environment" not in listed.out
    assert "Traceback" not in listed.out
    assert "ZeroDivisionError" in listed.out
    assert listed.err == "environment and traceback are left out: eventstore get shows them.\n"
    for form in ("--json", "--csv"):
        assert "Traceback" in run("list", store, "execution", form).out
        assert run("list", store, "execution", form).err == ""
    assert "Traceback" in run("get", store, "execution", 2).out
    assert run("list", store, "artifact").err == ""


def test_times_have_the_digits_that_are_stored(store: Path) -> None:
    milliseconds = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    microseconds = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"
    fields = dict(line.split(None, 1) for line in run("get", store, "artifact", 1).out.splitlines())
    assert re.fullmatch(milliseconds, fields["created_at"])
    assert re.fullmatch(microseconds, run("log", store, "--json").out.split('"')[7])
    events = run("lineage", store, "artifact", 1, "--events", "--csv").out.splitlines()
    assert re.fullmatch(milliseconds, events[1].rpartition(",")[2])
    local = run("get", store, "artifact", 1, "--local").out
    assert re.search(milliseconds.replace("Z", r"(Z|[+-]\d\d:\d\d)"), local)


def test_whole_numbers_of_a_struct_are_shown_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    key = SigningKey.generate("ana")
    Path("key").write_text(str(key.verifier_key))
    with eventstore.open("store") as opened:
        type_id = opened.put_artifact_type(mlmd.ArtifactType(name="t"))
        for name, epochs in (("a", 2), ("b", 3)):
            artifact = mlmd.Artifact(type_id=type_id, name=name)
            artifact.custom_properties["s"].struct_value.update({"a": epochs, "b": [1.5, 7]})
            opened.put_artifacts([artifact])
        (version,) = opened.history("artifact", 1)
        proof = opened.prove(version.position, opened.checkpoint(key)).to_text()
        pages = {
            "artifact": opened.get_artifacts_by_id([1])[0]._repr_html_(),
            "artifacts": html_of(opened.get_artifacts()),
            "changes": next(opened.changes(version.position - 1))._repr_html_(),
            "comparison": opened.compare("artifact", 1, 2)._repr_html_(),
            "history": version._repr_html_(),
            "report": opened.report("artifact", 1),
        }
    Path("proof").write_text(proof)
    shown = {name: html.unescape(str(page)) for name, page in pages.items()}
    shown["prove"] = run("prove", "--check", "proof", "--key", "key").out
    for command in (("get", "artifact", 1), ("list", "artifact"), ("history", "artifact", 1)):
        shown[command[0]] = run(command[0], "store", *command[1:]).out
    assert [name for name, text in shown.items() if '{"a":2,"b":[1.5,7]}' not in text] == []


@pytest.mark.parametrize("number", [2**53 - 1, 2**53, 2**60, -(2**62), 10**16])
def test_whole_numbers_of_a_struct_are_whole_as_far_as_int64(tmp_path: Path, number: int) -> None:
    with eventstore.open(tmp_path / "store") as opened:
        type_id = opened.put_artifact_type(mlmd.ArtifactType(name="t"))
        artifact = mlmd.Artifact(type_id=type_id, name="a")
        artifact.custom_properties["s"].struct_value.update({"n": number, "beyond": 2.0**63})
        opened.put_artifacts([artifact])
    shown = f'{{"beyond":9.223372036854776e18,"n":{number}}}'
    for form in ((), ("--json",)):
        assert shown in run("get", tmp_path / "store", "artifact", 1, *form).out


def test_sql_is_explained_whole_on_any_terminal(store: Path) -> None:
    condition = " OR ".join(f"name LIKE '%{number}'" for number in range(40))
    command = ("list", store, "artifact", "--filter", condition, "--explain")
    explained = json.loads(run(*command, "--json").out)
    sql = " ".join(explained["sql"].splitlines())
    assert len(sql) > 1_000
    for width in (40, 80, 200):
        assert f"  {sql}\n" in run(*command, width=width).out


def test_bytes_are_base64_in_every_json(tmp_path: Path) -> None:
    content = bytes(range(256))
    with eventstore.open(tmp_path / "store") as opened:
        type_id = opened.put_artifact_type(mlmd.ArtifactType(name="t"))
        artifact = mlmd.Artifact(type_id=type_id, name="a")
        artifact.custom_properties["bytes"].proto_value.value = content
        opened.put_artifacts([artifact])
        fields = plain_fields("artifact", opened.get_artifacts_by_id([1])[0])
        compared = opened.compare("artifact", 1, 1).fields
    text = base64.b64encode(content).decode()
    assert fields["custom_properties.bytes"]["value"] == text
    assert text in [f.left["value"] for f in compared if f.field == "custom_properties.bytes"]
    for command in (
        ("get", "artifact", 1),
        ("list", "artifact"),
        ("history", "artifact", 1),
        ("changes",),
        ("diff", 9),
        ("log",),
    ):
        done = run(command[0], tmp_path / "store", *command[1:], "--json")
        assert text in done.out.replace("\\u", "u"), command


def test_options_that_would_do_nothing_are_refused(store: Path) -> None:
    for options in (("--hops", 2), ("--direction", "both")):
        assert run("lineage", store, "context", 1, *options).code == 2
    assert run("lineage", store, "artifact", 1, "--events").code == 2
    for command in ("rebuild", "files", "backup", "restore", "import", "key"):
        helped = run(command, "--help").out
        assert "--full" not in helped
        assert "--local" not in helped
