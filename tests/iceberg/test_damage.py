"""What others did to a table: damage, nonsense of a catalog, and changes by hand."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pyiceberg.table import Table
from pyiceberg.types import StringType

from eventstore import errors
from eventstore.iceberg import catalog_at, publish
from tests.iceberg.test_publishing import TABLE, Place, place  # noqa: F401


@pytest.mark.parametrize("pattern", ["*.metadata.json", "snap-*.avro", "*-m0.avro"])
def test_damaged_metadata_is_named(place: Place, pattern: str) -> None:  # noqa: F811
    place.put()
    place.publish()
    place.put()
    where = Path(urlsplit(place.table().metadata_location).path).parent
    files = {path: path.read_bytes() for path in where.glob(pattern)}
    assert files
    for damage in (None, lambda _: b"", lambda content: content[: len(content) // 2], _junk):
        for path, content in files.items():
            path.unlink() if damage is None else path.write_bytes(damage(content))
        with pytest.raises(errors.DataLossError) as raised:
            place.publish()
        told = str(raised.value)
        assert TABLE in told
        assert "\n" not in told
        assert "purging" in told
        assert any(path.name in told for path in files) or (damage and "json" in pattern), told
        for path, content in files.items():
            path.write_bytes(content)
    assert place.publish().files_added == 1
    place.agrees()


def _junk(_: bytes) -> bytes:
    return b"hello \xff"


@pytest.mark.parametrize("letter", "?#%")
def test_a_warehouse_that_engines_read_differently_is_refused(tmp_path: Path, letter: str) -> None:
    for warehouse in (str(tmp_path / f"a{letter}b"), f"s3://bucket/a{letter}b"):
        with pytest.raises(errors.InvalidArgumentError, match="in different ways"):
            catalog_at(f"sqlite:///{tmp_path}/c.db", warehouse=warehouse)


def test_a_warehouse_of_no_storage_that_is_known_is_refused(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="ftp"):
        catalog_at(f"sqlite:///{tmp_path}/c.db", warehouse="ftp://host/x")
    assert not [*recwarn]


@pytest.mark.parametrize(
    "name",
    ["a.b/../../out", "a.b?c", "a.b#c", "a.b%2f", "a.\x00", "a.\n", "a. ", "a...b", "../a.b"],
)
def test_a_name_that_is_no_plain_one_is_refused(place: Place, name: str) -> None:  # noqa: F811
    place.put()
    with pytest.raises(errors.InvalidArgumentError, match="letters"):
        place.publish(table=name)
    assert not place.warehouse.exists()


def test_a_name_of_any_script(place: Place) -> None:  # noqa: F811
    place.put()
    place.publish(table="prüfung.aufzeichnungen-2")
    place.agrees("prüfung.aufzeichnungen-2")


def _edit(change: Callable[..., object]) -> Callable[[Table], None]:
    def edited(table: Table) -> None:
        with table.update_schema(allow_incompatible_changes=True) as columns:
            change(columns)

    return edited


@pytest.mark.parametrize(
    "change",
    [
        lambda columns: columns.rename_column("name", "nom"),
        lambda columns: columns.delete_column("name"),
        lambda columns: columns.delete_column("position"),
        lambda columns: columns.rename_column("properties.value.int_value", "int"),
    ],
)
def test_columns_that_were_changed_by_hand_are_told(
    place: Place,  # noqa: F811
    change: Callable[..., object],
) -> None:
    """Adding them again would make a further column, of which older snapshots have nothing."""
    place.put()
    place.publish()
    before = place.table().metadata
    _edit(change)(place.table())
    place.put()
    with pytest.raises(errors.FailedPreconditionError, match=r"column (name|position|properties)"):
        place.publish()
    assert place.table().metadata.current_snapshot_id == before.current_snapshot_id


def test_a_column_of_somebody_else_s_is_left_alone(place: Place) -> None:  # noqa: F811
    place.put()
    place.publish()
    _edit(lambda columns: columns.add_column("remark", StringType()))(place.table())
    place.put()
    assert place.publish().files_added == 1
    assert place.table().scan(selected_fields=("remark",)).to_arrow().num_rows > 0


def test_a_table_that_was_partitioned_by_hand_is_refused(place: Place) -> None:  # noqa: F811
    place.put()
    place.publish()
    with place.table().update_spec() as spec:
        spec.add_identity("kind")
    place.put()
    with pytest.raises(errors.FailedPreconditionError, match="partition"):
        place.publish()
    with place.table().update_spec() as spec:
        spec.remove_field("kind")
    assert place.publish().files_added == 1
    place.agrees()


@contextmanager
def rest_catalog(answer: bytes, status: int, *, at_once: bool) -> Iterator[str]:
    """The URL of a REST catalog that answers all, but for its configuration, with one thing."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def _answer(self) -> None:
            is_asked = self.path.startswith("/v1/config") and not at_once
            content = b'{"defaults": {}, "overrides": {}}' if is_asked else answer
            self.send_response(200 if is_asked else status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _answer  # noqa: N815

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


_ERROR = json.dumps({"error": {"message": "no\nsecond line", "type": "X", "code": 1}}).encode()


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("answer", [b"<html><b>hi</b></html>", b"{}", b"", b"\xff\x00", _ERROR])
@pytest.mark.parametrize("status", [200, 401, 403, 419, 500])
def test_nonsense_of_a_rest_catalog_is_one_line(
    place: Place,  # noqa: F811
    answer: bytes,
    status: int,
    at_once: bool,
) -> None:
    place.put()
    with (
        rest_catalog(answer, status, at_once=at_once) as url,
        pytest.raises(errors.StatusError) as raised,
    ):
        publish(place.path, catalog_at(url))
    assert "\n" not in str(raised.value)
    assert not isinstance(raised.value, errors.DataLossError)
