"""Where a store is opened: paths, URLs, what installed packages open, and what no message shows."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import eventstore
from eventstore import errors
from eventstore.log import MemoryLog
from eventstore.log.places import StoreUrl, named_path, open_at, place_of
from eventstore.log.sql import database
from eventstore.proto import metadata_store_pb2 as mlmd

OTHERS = """
from eventstore.log import MemoryLog
opened = []
def open_log(url, **how):
    opened.append((url, how))
    return MemoryLog()
def open_without(url, **how):
    raise ModuleNotFoundError("No module named 'driver'")
"""
ENTRIES = """
[eventstore.logs]
others = others_log:open_log
lacking = others_log:open_without [fast,safe]
missing = no_such_module:open_log
"""


@pytest.fixture
def others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[tuple[StoreUrl, dict[str, object]]]]:
    """What an installed distribution has been asked to open that registers logs."""
    folder = tmp_path / "installed"
    about = folder / "others-1.0.dist-info"
    about.mkdir(parents=True)
    (folder / "others_log.py").write_text(OTHERS)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(ENTRIES)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.chdir(tmp_path)
    import others_log  # type: ignore[import-not-found]

    yield others_log.opened
    monkeypatch.delitem(__import__("sys").modules, "others_log")


def configured(place: str) -> mlmd.ConnectionConfig:
    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = place
    return config


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("store", "store"),
        ("a:b", "a:b"),
        ("a:b/c", "a:b/c"),
        ("a/b://c", "a/b:/c"),
        ("C:/store", "C:/store"),
        ("C://store", "C:/store"),
        ("C:\\store", "C:\\store"),
        ("1x://y", "1x:/y"),
        ("file:///a%20b/c", "/a b/c"),
        ("file://localhost/a", "/a"),
        ("file:a", "a"),
        ("FILE:///a", "/a"),
    ],
)
def test_what_is_a_path(text: str, path: str) -> None:
    assert place_of(text) == Path(path)


def test_a_folder_whose_name_looks_like_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for place in ("~/store", Path("~/store"), "~ana"):
        with pytest.raises(
            errors.InvalidArgumentError, match=r"no folder ~\w* here.* write ~\w* out"
        ):
            eventstore.open(place)
    assert os.listdir() == []
    Path("~").mkdir()
    eventstore.open("~/store").close()
    assert os.listdir("~") == ["store"]


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://u:secret@h/db",
        "POSTGRESQL://u:s@secret@h/db?password=secret&secret",
        "mysql://u:secret@h:3306/db",
        "s3://bucket?key=secret",
        "postgresql:/u:secret@h/db",
        "postgresql://u:/secret@h/db",
        "postgresql://u/secret:x@h/db",
        "postgresql://u:#secret@h/db",
        "postgresql://u:?secret@h/db",
        "postgresql://u: secret@h/db",
        "postgresql://u:secret@[::1/db",
        "postgresql://u:secret@h\N{FULLWIDTH SOLIDUS}/db",
        "file://u:secret@h/db",
        "file:///x?secret",
        "memory://u:secret@",
    ],
)
def test_no_password_is_shown_and_no_folder_made(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # Nobody is there, however often it is tried.
    monkeypatch.setattr(database, "_FIRST_WAIT_SECONDS", 0)
    uses: list[Callable[[], object]] = [
        lambda: eventstore.open(text),
        lambda: eventstore.open(Path(text)),
        lambda: eventstore.open(text, read_only=True),
        lambda: eventstore.restore(text, tmp_path / "x"),
        lambda: eventstore.restore(tmp_path / "x", text),
        lambda: named_path(text),
        lambda: eventstore.MetadataStore(text),  # type: ignore[arg-type]
    ]
    if not text.startswith(("file", "postgresql:/u")):
        uses.append(lambda: eventstore.MetadataStore(configured(text)))
        uses.append(lambda: eventstore.downgrade_schema(configured(text), 0))
    for use in uses:
        with pytest.raises((errors.StatusError, RuntimeError, ValueError)) as raised:
            use()
        error: BaseException | None = raised.value
        while error is not None:
            assert "secret" not in str(error)
            assert "\n" not in str(error)
            error = error.__cause__
    assert os.listdir() == []


def test_a_url_hides_what_it_reveals() -> None:
    url = StoreUrl("PG+x://ana:secret@h:1/db?a=1&b")
    assert url.scheme == "pg+x"
    assert str(url) == "pg+x://ana:***@h:1/db?a=***&***"
    assert repr(url) == "StoreUrl('pg+x://ana:***@h:1/db?a=***&***')"
    assert url.revealed() == "PG+x://ana:secret@h:1/db?a=1&b"
    assert pickle.loads(pickle.dumps(url)) == url
    assert url != StoreUrl("PG+x://ana:other@h:1/db?a=1&b")
    assert len({url, StoreUrl(url.revealed())}) == 1


def test_an_unknown_scheme_is_refused_with_those_that_are_known(others: object) -> None:
    with pytest.raises(errors.InvalidArgumentError) as raised:
        eventstore.open("nobodys://u:secret@h/db")
    told, _, known = str(raised.value).partition("; name a path, or a URL with ")
    assert told == (
        "no store can be opened at nobodys://u:***@h/db: nothing that is installed opens nobodys://"
    )
    # This project's own are known, too, where it is installed and not just there.
    assert {"file://", "lacking://", "memory://", "missing://", "others://"} <= {*known.split(", ")}


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("lacking://x", r"pip install 'others\[fast,safe\]' \(No module named 'driver'\)"),
        ("missing://x", r"pip install 'others' \(No module named 'no_such_module'\)"),
    ],
)
def test_a_package_that_is_missing_is_named(others: object, url: str, told: str) -> None:
    with pytest.raises(errors.FailedPreconditionError, match=told):
        eventstore.open(url)


def test_an_installed_log_is_opened_by_its_scheme(
    others: list[tuple[StoreUrl, dict[str, object]]],
) -> None:
    url = "others://u:secret@h/db"
    with eventstore.open(url, cache_folder="caches") as store:
        assert store.put_artifact_type(mlmd.ArtifactType(name="Data"))
    eventstore.MetadataStore(configured(url.replace("others", "OTHERS"))).close()
    read_only = configured(url)
    read_only.sqlite.connection_mode = mlmd.SqliteMetadataSourceConfig.READONLY
    eventstore.MetadataStore(read_only).close()
    assert [how for _, how in others] == [
        {"read_only": False, "creates": True, "cache_folder": Path("caches"), "store_id": None},
        {"read_only": False, "creates": True, "cache_folder": None, "store_id": None},
        {"read_only": True, "creates": False, "cache_folder": None, "store_id": None},
    ]
    assert {str(url) for url, _ in others} == {"others://u:***@h/db"}


def test_a_store_in_memory_is_new_each_time() -> None:
    with eventstore.open("memory://", actor="ana") as store:
        assert isinstance(store.log, MemoryLog)
        store.put_artifact_type(mlmd.ArtifactType(name="Data"))
    with pytest.raises(errors.NotFoundError, match="each opening makes a new one"):
        eventstore.open("memory://", read_only=True)
    with pytest.raises(errors.NotFoundError):
        open_at(StoreUrl("memory://"))
    eventstore.MetadataStore(configured("memory://")).close()


def test_a_file_url_is_a_directory(tmp_path: Path) -> None:
    with eventstore.open((tmp_path / "a store").as_uri()) as store:
        type_id = store.put_artifact_type(mlmd.ArtifactType(name="Data"))
    with eventstore.MetadataStore(configured(str(tmp_path / "a store"))) as again:
        assert again.get_artifact_type("Data").id == type_id
    with pytest.raises(errors.InvalidArgumentError, match="leave cache_folder out"):
        eventstore.open(tmp_path / "a store", cache_folder=tmp_path / "caches")
    with pytest.raises(RuntimeError, match="unable to open"):
        eventstore.MetadataStore(configured((tmp_path / "b").as_uri() + "?mode=ro"))
