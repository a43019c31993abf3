"""`eventstore publish STORE CATALOG`: what it says, and what it refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import eventstore
from tests.builders import artifact, put_types
from tests.command_line.runner import run


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    with eventstore.open("my [b]store[/b]") as store:
        type_id, *_ = put_types(store)
        nodes = [artifact(type_id, name=f"{n}") for n in range(10)]
        store.put_artifacts(nodes)
        store.seal()
        store.put_artifacts([artifact(type_id, name="two")])
    return tmp_path


AT = ("my [b]store[/b]", "sqlite:///catalog.db", "--warehouse", "tables")


def test_what_it_says(here: Path) -> None:
    done = run("publish", *AT, "--dry-run")
    assert (done.code, done.err) == (0, "")
    assert "would have the records of my [b]store[/b] up to position 22, 22 of them new" in done.out
    assert not (here / "tables").exists()
    said = run("publish", *AT).out
    assert "mlmd.records has the records of" in said
    assert "1 record after them is not sealed yet: publish with --seal" in " ".join(said.split())
    told = json.loads(run("publish", "iceberg", *AT, "--seal", "--json").out)
    assert (told["position"], told["position_before"], told["files_added"]) == (23, 22, 1)
    assert told["unsealed_records"] == 0
    again = json.loads(run("publish", *AT, "--seal", "--json").out)
    assert (again["snapshot_id"], again["files_added"]) == (told["snapshot_id"], 0)


def test_a_store_of_which_nothing_is_sealed(here: Path) -> None:
    with eventstore.open("unsealed") as store:
        put_types(store)
    done = run("publish", "unsealed", *AT[1:])
    assert done.code == 0
    said = " ".join(done.out.split())
    assert said == (
        "nothing of unsealed is sealed yet, so that mlmd.records is not made: publish with --seal"
    )
    assert not (here / "tables").exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("nowhere", *AT[1:]), 1, "nowhere"),
        (("memory://", *AT[1:]), 1, "memory"),
        ((AT[0], "ftp://ana:secret@host/x"), 1, "no catalog that pyiceberg opens"),
        ((AT[0], "no-such-catalog"), 1, "has no catalog 'no-such-catalog'"),
        ((*AT, "--table", "records"), 1, "name it NAMESPACE.NAME"),
        ((*AT, "--table", "../../records"), 1, "name it NAMESPACE.NAME"),
        ((*AT[:2], "--warehouse", "/dev/null"), 1, "Not a directory"),
        ((*AT, "--property", "x"), 2, "--property takes NAME=VALUE"),
        ((AT[0], "sqlite:///catalog.db"), 1, "--warehouse"),
        ((AT[0], "sqlite:////no/such/folder/catalog.db"), 1, "unable to open database file"),
        ((AT[0], "http://ana:secret@127.0.0.1:9"), 1, "opening the catalog: it is not reached: "),
        ((AT[0],), 2, "Missing argument 'CATALOG'"),
    ],
)
def test_what_it_refuses(here: Path, words: tuple[str, ...], code: int, said: str) -> None:
    done = run("publish", *words)
    assert done.code == code
    assert said in " ".join(done.err.split())
    assert "secret" not in done.err
    assert len(done.err.splitlines()) <= 4
    assert not (here / "tables").exists()


def test_without_its_extra(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyiceberg", None)
    for name in [name for name in sys.modules if name.startswith("pyiceberg.")]:
        monkeypatch.delitem(sys.modules, name)
    done = run("publish", *AT)
    assert done.code == 1
    assert "pip install 'mlmd-eventstore[iceberg]'" in done.err
