"""`store.compact` and `eventstore compact`: what is answered, kept and proved is as before."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import eventstore
from eventstore import errors
from eventstore.audit import SigningKey
from eventstore.log import DirectoryLog
from eventstore.log.compacting import Target
from eventstore.log.manifest import read_manifest
from eventstore.log.verification import verify_directory
from eventstore.projections import Projections
from tests.builders import artifact, memory_store, put_types
from tests.command_line.runner import run

DAYS = 8


def _fill(store: eventstore.MetadataStore) -> None:
    type_id, *_ = put_types(store)
    for day in range(DAYS):
        nodes = [artifact(type_id, name=f"{day}-{n}", uri=f"s3://{n}") for n in range(20)]
        store.put_artifacts(nodes)
        store.seal()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "store"
    with eventstore.open(path) as store:
        _fill(store)
        store.sql("SELECT count(*) FROM artifacts")
    return path


@pytest.fixture
def directory(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "store"))


@pytest.fixture
def store(directory: Path) -> Iterator[eventstore.MetadataStore]:
    with eventstore.open(directory) as store:
        yield store


def _answers(store: eventstore.MetadataStore) -> list[object]:
    counts = "SELECT name, count(*) AS count FROM artifacts GROUP BY name ORDER BY name"
    options = eventstore.ListOptions(filter_query="uri = 's3://3'")
    middle = store.as_of(70)
    return [
        store.sql(counts).rows(),
        middle.sql(counts).rows(),
        [a.SerializeToString(deterministic=True) for a in store.get_artifacts(options)],
        [a.name for a in middle.get_artifacts()],
        store.history("artifact", 7),
    ]


def test_answers_and_proofs_stay(store: eventstore.MetadataStore, directory: Path) -> None:
    key = SigningKey.generate("ana@example.com")
    signed, before = store.checkpoint(key), _answers(store)
    proofs = [store.prove(position, signed) for position in (1, 40, 100)]
    (merged,) = store.compact()
    assert (merged.files, merged.first_position, merged.last_position) == (
        DAYS,
        1,
        read_manifest(directory).segments[-1].last_position,
    )
    assert merged.new_bytes == os.path.getsize(store.segment_files()[0])
    assert [store.prove(position, signed) for position in (1, 40, 100)] == proofs
    assert _answers(store) == before
    assert store.verify().ok
    assert store.compact() == []
    with eventstore.open(directory, read_only=True) as reader:
        assert _answers(reader) == before


def test_nothing_is_folded_anew(directory: Path) -> None:
    """The caches are those of the log, whatever files it lies in."""
    with eventstore.open(directory) as store:
        store.compact()
    folder = directory / "projections"
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    with eventstore.open(directory) as store:
        assert store.get_artifact_by_type_and_name("DataSet", "3-3") is not None
        assert store.sql("SELECT count(*) FROM artifacts").rows() == [(DAYS * 20,)]
        projections = store._engine.projections
        assert projections.index.position == store._engine.log.position
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    assert {path.name for path in before} == {path.name for path in after}
    assert [
        path.name for path in before if "index" in path.parts and after[path] != before[path]
    ] == []


def test_sql_over_the_log_counts_each_record_once(
    store: eventstore.MetadataStore, directory: Path
) -> None:
    query = "SELECT count(*), count(DISTINCT position), max(position) FROM records"
    with eventstore.open(directory, read_only=True) as reader:
        before = reader.sql(query).rows()
        store.compact()
        assert reader.sql(query).rows() == before
        assert reader.sql("SELECT count(*) FROM commits").rows() == [(store.info().commits,)]


def test_an_erasure_names_the_files_that_had_it(
    store: eventstore.MetadataStore, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where others merge them before it is recorded as completed."""
    third = read_manifest(directory).segments[2]
    scrub = Projections.scrub

    def merging(self: Projections) -> None:
        with closing(DirectoryLog.open(directory)) as other:
            assert other.compact(Target())
        scrub(self)

    monkeypatch.setattr(Projections, "scrub", merging)
    node = store.get_artifact_by_type_and_name("DataSet", "2-3")
    assert node is not None
    report = store.erase("artifact", node.id, reason="GDPR-1")
    assert [(f.segment, f.old_sha256) for f in report.files] == [(3, third.file_sha256)]
    assert store.verify().ok


def test_a_follower_misses_nothing(store: eventstore.MetadataStore, directory: Path) -> None:
    with eventstore.open(directory, read_only=True) as reader:
        seen = []
        following = reader.follow(after=0)
        for commit in following:
            seen.append(commit.number)
            if len(seen) == 3:
                store.compact()
            if len(seen) == DAYS + 3:
                break
    assert seen == [*range(1, DAYS + 4)]


def test_copies_of_it(store: eventstore.MetadataStore, tmp_path: Path) -> None:
    store.compact()
    expected = _answers(store)
    store.copy_to(tmp_path / "copy")
    store.backup(tmp_path / "backup")
    for name in ("copy", "backup"):
        assert verify_directory(tmp_path / name).findings == []
        with eventstore.open(tmp_path / name) as other:
            assert _answers(other) == expected
            assert other.verify().tree_head == store.verify().tree_head


def test_an_encrypted_backup_of_it(store: eventstore.MetadataStore, tmp_path: Path) -> None:
    store.compact()
    expected = _answers(store)
    store.backup(tmp_path / "backup", keys=tmp_path / "keys")
    (register := tmp_path / "erasures").write_text("")
    eventstore.restore(
        tmp_path / "backup", tmp_path / "restored", keys=tmp_path / "keys", erasures=register
    )
    with eventstore.open(tmp_path / "restored") as other:
        assert _answers(other) == expected


def test_where_it_cannot_be() -> None:
    with memory_store() as store, pytest.raises(errors.UnimplementedError, match="eventstore copy"):
        store.compact()


@pytest.mark.parametrize("name", ["target_records", "target_bytes"])
@pytest.mark.parametrize("value", [0, -1, "x", float("nan")])
def test_targets_that_are_none(store: eventstore.MetadataStore, name: str, value: Any) -> None:
    with pytest.raises(errors.InvalidArgumentError, match=f"{name} is {value!r}"):
        store.compact(**{name: value})  # type: ignore[arg-type]


def test_the_command(directory: Path, tmp_path: Path) -> None:
    before = (directory / "manifest.json").read_bytes()
    (there := tmp_path / "there").touch()
    assert "exists" in run("compact", directory, "--output", there).err
    assert (directory / "manifest.json").read_bytes() == before
    done = run("compact", directory, "--dry-run", "--json")
    (told,) = map(json.loads, done.out.splitlines())
    assert (told["first_number"], told["number"], told["files"]) == (1, DAYS, DAYS)
    assert (directory / "manifest.json").read_bytes() == before
    assert f"1 to {DAYS} " in run("compact", directory, "--dry-run").out
    shutil.rmtree(directory / "projections", ignore_errors=True)
    said = run("compact", directory)
    assert (said.code, said.err) == (0, "")
    assert not (directory / "projections").exists(), "nothing is folded to merge files"
    assert f"1 to {DAYS} " in said.out
    assert "has nothing to merge" in run("compact", directory).out
    assert run("compact", directory, "--csv").out.splitlines()[0].startswith('"segments",')
    assert run("verify", directory).code == 0
    assert run("compact", directory, "--target-records", 0).code == 2
