"""What programs written for ml-metadata rely on around its calls: opening, arguments, errors."""

from __future__ import annotations

import copy
import inspect
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import eventstore
from eventstore import errors
from eventstore.metadata_store import metadata_store as module
from eventstore.metadata_store.metadata_store import MetadataStore
from eventstore.proto import metadata_store_pb2 as mlmd

ROOT = Path(__file__).parents[2]
Mode = mlmd.SqliteMetadataSourceConfig


def opened(filename_uri: str, mode: int | None = None) -> MetadataStore:
    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = filename_uri
    if mode is not None:
        config.sqlite.connection_mode = mode
    return MetadataStore(config)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("missing/store", None),
        ("much/is/missing", None),
        ("~/store", None),
        ("file:missing/store?mode=rwc", None),
        (".", None),
        ("none", Mode.READONLY),
        ("none", Mode.READWRITE),
        ("file:none?mode=ro", None),
        ("file:none?mode=rw", None),
    ],
)
def test_what_cannot_be_opened_is_said_as_upstream_says_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, mode: int | None
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(RuntimeError, match="unable to open database file"):
        opened(name, mode)
    assert {"missing", "much", "~", "none"}.isdisjoint(os.listdir())


@pytest.mark.parametrize(
    "uri", [":memory:", "file::memory:", "file:", "file:x?mode=memory", "file:x?mode=memory&a=b"]
)
def test_a_store_in_memory_leaves_nothing_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with opened(uri) as store:
        store.put_artifact_type(mlmd.ArtifactType(name="T"))
    assert os.listdir() == []
    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = uri
    with pytest.raises(RuntimeError, match="memory"):
        eventstore.downgrade_schema(config, 0)


def test_uris_are_read_as_sqlite_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for uri, name in (
        ("~plain", "~plain"),
        ("a%20b", "a%20b"),
        ("file:c%20d", "c d"),
        ("e?f", "e?f"),
        ("file:g?cache=private", "g"),
        (f"file://{tmp_path}/h", "h"),
        (f"file://localhost{tmp_path}/i", "i"),
    ):
        opened(uri).close()
        assert (tmp_path / name).is_dir()
    for uri in (f"file://elsewhere{tmp_path}/j", "file:k?mode=nonsense"):
        with pytest.raises(RuntimeError):
            opened(uri)
    assert len(os.listdir()) == 7


def test_our_own_opening_makes_folders(tmp_path: Path) -> None:
    eventstore.open(tmp_path / "a" / "b" / "store").close()
    assert (tmp_path / "a" / "b" / "store" / "manifest.json").is_file()


REQUIRED_TO_BE_GIVEN = {
    "type_name",
    "artifact_name",
    "execution_name",
    "context_name",
    "type_ids",
    "artifact_id",
    "execution_id",
    "context_id",
    "uri",
    "artifacts",
    "executions",
    "contexts",
    "events",
    "attributions",
    "associations",
    "parent_contexts",
}
METHODS = sorted(
    name
    for name in dir(MetadataStore)
    if name.startswith(("get_", "put_")) and name not in ("put_execution", "put_lineage_subgraph")
)


@pytest.mark.parametrize("name", METHODS)
def test_none_for_what_has_to_be_given_is_a_type_error(store: MetadataStore, name: str) -> None:
    method = getattr(store, name)
    needed = [
        parameter.name
        for parameter in inspect.signature(method).parameters.values()
        if parameter.default is parameter.empty
    ]
    for left_out in REQUIRED_TO_BE_GIVEN.intersection(needed):
        arguments: dict[str, Any] = {
            argument: "T" if argument.endswith(("name", "uri")) else [] for argument in needed
        }
        arguments[left_out] = None
        with pytest.raises(TypeError):
            method(**arguments)


def test_external_ids_that_are_none_are_none_of_them(store: MetadataStore) -> None:
    assert store.get_artifacts_by_external_ids(None) == []  # type: ignore[arg-type]


def test_names_are_where_upstream_has_them() -> None:
    assert module.downgrade_schema is eventstore.downgrade_schema
    assert module.ListOptions is eventstore.ListOptions
    assert eventstore.ListOptions(1) < eventstore.ListOptions(2)


@pytest.mark.parametrize("code", [*range(1, 17), 0, 17, 99, -1])
def test_errors_survive_copies_and_pickles(code: int) -> None:
    error = errors.make_exception("what", code)
    known = code if 1 <= code <= 16 else errors.UNKNOWN
    for found in (error, copy.deepcopy(error), copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(found) is type(error)
        assert (str(found), found.message, found.error_code) == ("what", "what", known)
        assert found.args == ("what",)


class OwnError(errors.NotFoundError):
    """An error of a program's own."""


def test_errors_of_a_programs_own_survive_pickles() -> None:
    found = pickle.loads(pickle.dumps(OwnError("mine")))
    assert (type(found), found.error_code, str(found)) == (OwnError, errors.NOT_FOUND, "mine")
    base = pickle.loads(pickle.dumps(errors.StatusError("base", 7)))
    assert (type(base), base.error_code) == (errors.StatusError, 7)


_PROGRAM = """
import eventstore
eventstore.install_as_ml_metadata()
import ml_metadata
from ml_metadata import __version__
from ml_metadata.version import __version__ as version
from ml_metadata.metadata_store import metadata_store, MetadataStore
from ml_metadata.metadata_store.metadata_store import downgrade_schema, ExtraOptions
kept = open
from ml_metadata import *
assert open is kept
assert __version__ == version == ml_metadata.__version__ == ml_metadata.version.__version__
assert MetadataStore is eventstore.MetadataStore is ml_metadata.MetadataStore
assert downgrade_schema is ml_metadata.downgrade_schema is eventstore.downgrade_schema
assert ml_metadata.errors is eventstore.errors
assert sorted(ml_metadata.__all__) == [
    "ListOptions", "MetadataStore", "OrderByField", "downgrade_schema"
]
try:
    ml_metadata.nothing
except AttributeError:
    print(version, eventstore.__version__ != version)
"""


def test_the_alias_tells_the_version_whose_api_it_has() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.stdout == "1.17.1 True\n", done.stderr


@pytest.mark.parametrize("kind", ["artifact", "execution", "context"])
@pytest.mark.parametrize("with_property", [False, True])
def test_a_type_put_again_with_an_empty_external_id_keeps_what_it_has(
    store: MetadataStore, kind: str, with_property: bool
) -> None:
    put, get = getattr(store, f"put_{kind}_type"), getattr(store, f"get_{kind}_type")
    message = getattr(mlmd, f"{kind.capitalize()}Type")
    for name, external_id in (("with", "e"), ("without", None)):
        type_id = put(message(name=name, external_id=external_id))
        again = message(name=name, external_id="")
        if with_property:
            again.properties["added"] = mlmd.INT
        assert put(again, can_add_fields=True) == type_id
        found = get(name)
        assert (found.external_id or None, found.HasField("external_id")) == (
            external_id,
            external_id is not None,
        )
        assert dict(found.properties) == ({"added": mlmd.INT} if with_property else {})
