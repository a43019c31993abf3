"""No command writes a file into a store's folder, whichever store it is."""

from __future__ import annotations

from pathlib import Path

import pytest

import eventstore
from eventstore.log.verification import verify_directory
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.command_line.runner import run


@pytest.fixture
def stores(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "one", tmp_path / "other"]
    for path in paths:
        with eventstore.open(path) as store:
            type_id = store.put_artifact_type(mlmd.ArtifactType(name="t"))
            store.put_artifacts([mlmd.Artifact(type_id=type_id)])
    return paths


@pytest.mark.share(3)
@pytest.mark.parametrize("is_own", [True, False], ids=["own", "another"])
@pytest.mark.parametrize(
    "name",
    [
        "manifest.json",
        "log/0000000001.arrows",
        "log/more.parquet",
        "more",
        "projections/more",
        "log/../more",
    ],
)
def test_no_file_is_written_into_a_store(stores: list[Path], name: str, is_own: bool) -> None:
    store = stores[0]
    inside = stores[0 if is_own else 1]
    target = inside / name
    before = {path: path.read_bytes() for path in inside.rglob("*") if path.is_file()}
    for command in (
        ("export", store, target, "--force"),
        ("export", store, "--output", target, "--force"),
        ("sql", store, "select 1", "--output", target, "--force"),
        ("sql", store, "select 1", "--format", "parquet", "--output", target, "--force"),
        ("list", store, "artifact", "--json", "--output", target, "--force"),
        ("report", store, "artifact", 1, "--no-verify", "--output", target, "--force"),
        ("verify", store, "--output", target, "--force"),
        ("key", "ana", target),
    ):
        done = run(*command)
        assert done.code == 1, command
        assert f"is inside of the store {inside}" in " ".join(done.err.split()), command
    after = {path: path.read_bytes() for path in inside.rglob("*") if path.is_file()}
    caches = inside / "projections"
    assert {path for path in after if caches not in path.parents} == {
        path for path in before if caches not in path.parents
    }
    assert all(after[path] == content for path, content in before.items() if path in after)
    assert verify_directory(inside).ok


def test_a_link_into_a_store_is_followed(stores: list[Path], tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(stores[0] / "manifest.json")
    folder = tmp_path / "folder"
    folder.symlink_to(stores[0] / "log")
    before = (stores[0] / "manifest.json").read_bytes()
    for target in (link, folder / "more"):
        assert run("export", stores[1], target, "--force").code == 1
    assert (stores[0] / "manifest.json").read_bytes() == before
    assert not (stores[0] / "log" / "more").exists()


def test_files_beside_a_store_are_written(stores: list[Path], tmp_path: Path) -> None:
    (tmp_path / "manifest.json").touch()
    assert run("export", stores[0], tmp_path / "records").code == 0
    assert run("export", stores[0], tmp_path / "one.records").code == 0
