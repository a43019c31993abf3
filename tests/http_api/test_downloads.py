"""Lists in forms for other tools: the rows that pages have, in batches."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from starlette.testclient import TestClient

import eventstore
from eventstore.http_api import node_batches
from eventstore.http_api.application import make_application
from eventstore.http_api.authentication import NoAuthentication
from eventstore.http_api.lists import node_list
from eventstore.http_api.node_routes import order_of
from eventstore.http_api.serving import Serving
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.http_api.test_commits import source_of

COLUMNS = (
    *("id", "name", "state", "type", "uri", "position", "created_at", "by"),
    *("properties.accuracy", "properties.rows", "custom_properties.quality"),
)
READ = {
    "arrow": lambda content: pa.ipc.open_stream(content).read_all(),
    "parquet": lambda content: parquet.read_table(io.BytesIO(content)),
}


@pytest.fixture(scope="module")
def client(small: eventstore.MetadataStore) -> Iterator[TestClient]:
    application = make_application(Serving({"default": small._engine}), NoAuthentication())
    headers = {"sec-fetch-site": "same-origin"}
    with TestClient(application, base_url="http://localhost/api/v1", headers=headers) as made:
        yield made


@pytest.fixture(autouse=True)
def short_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_batches, "_IDS_AT_ONCE", 7)
    monkeypatch.setattr(node_batches, "_ROWS_AT_ONCE", 5)


@pytest.mark.parametrize(
    ("sort", "form"),
    [("id", "arrow"), ("-id", "csv"), ("-properties.accuracy", "parquet"), ("name", "csv")],
)
@pytest.mark.parametrize(
    "chosen", [{}, {"type": "Model", "filter": "properties.accuracy.double_value > 0.52"}]
)
def test_a_download_has_the_rows_of_the_list(
    client: TestClient,
    small: eventstore.MetadataStore,
    sort: str,
    form: str,
    chosen: dict[str, str],
) -> None:
    parameters: dict[str, Any] = {"format": form, "sort": sort, "columns": COLUMNS, **chosen}
    answer = client.get("artifacts", params=parameters)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-disposition"].startswith("attachment")
    listed = node_list(
        source_of(small),
        "artifact",
        type_name=chosen.get("type"),
        filter_query=chosen.get("filter", ""),
        order=order_of(sort),
        columns=COLUMNS,
        limit=1_000,
    )
    expected = [[value if value != "" else None for value in row.cells] for row in listed.rows]
    if form == "csv":
        header, *rows = csv.reader(io.StringIO(answer.content.decode()))
        assert header == list(COLUMNS)
        assert [row[1] for row in rows] == [row[1] for row in expected]
        assert {row[8] for row in rows} == {
            "" if row[8] is None else str(row[8]) for row in expected
        }
        return
    found = [
        [value if value != "" else None for value in row.values()]
        for row in READ[form](answer.content).to_pylist()
    ]
    assert found == expected


def test_the_header_chooses_a_form_too(client: TestClient) -> None:
    headers = {"accept": "application/vnd.apache.arrow.stream"}
    answer = client.get("executions", headers=headers)
    assert answer.headers["content-type"] == "application/vnd.apache.arrow.stream"
    assert pa.ipc.open_stream(answer.content).read_all().num_rows == 12


def test_an_error_is_told_before_anything_is_sent(client: TestClient) -> None:
    answer = client.get("artifacts", params={"format": "csv", "filter": "name ="})
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_ARGUMENT")


def test_a_type_of_many_properties_is_downloaded_whole() -> None:
    """Messages, too; and a version's own values, not those of others."""
    with eventstore.open("memory://") as store:
        names = {f"p{number}": mlmd.INT for number in range(300)}
        kind = mlmd.ArtifactType(name="Wide", properties=names | {"message": mlmd.PROTO})
        wide = mlmd.Artifact(type_id=store.put_artifact_type(kind))
        for number in range(300):
            wide.properties[f"p{number}"].int_value = number
        wide.properties["message"].proto_value.Pack(mlmd.Event(artifact_id=7))
        wide.custom_properties["p3"].int_value = -3
        [wide.id] = store.put_artifacts([wide])
        wide.properties["p1"].int_value = -1
        store.put_artifacts([wide, mlmd.Artifact(type_id=wide.type_id)])
        application = make_application(Serving({"default": store._engine}), NoAuthentication())
        with TestClient(application, base_url="http://localhost/api/v1") as client:
            client.headers["sec-fetch-site"] = "same-origin"
            listed = client.get("artifacts", params={"type": "Wide"}).json()
            answer = client.get("artifacts", params={"type": "Wide", "format": "arrow"})
            found = pa.ipc.open_stream(answer.content).read_all()
    names_of_columns = [column["name"] for column in listed["columns"]]
    message = names_of_columns.index("properties.message")
    for shown, row in zip(listed["rows"], found.to_pylist(), strict=True):
        is_text = isinstance(row["properties.message"], str)
        read = json.loads(row["properties.message"]) if is_text else None
        assert read == shown["cells"][message]
        for number in range(300):
            name = f"properties.p{number}"
            assert row[name] == shown["cells"][names_of_columns.index(name)]


def test_what_is_left_of_an_erased_node_has_the_same_times_everywhere() -> None:
    with eventstore.open("memory://") as store:
        type_id = store.put_artifact_type(mlmd.ArtifactType(name="Data"))
        artifact = mlmd.Artifact(type_id=type_id, name="Eve", create_time_since_epoch=1_000)
        [artifact.id] = store.put_artifacts([artifact])
        store.erase("artifact", artifact.id, reason="GDPR-17")
        [left] = store.get_artifacts_by_id([artifact.id])
        application = make_application(Serving({"default": store._engine}), NoAuthentication())
        with TestClient(application, base_url="http://localhost/api/v1") as client:
            client.headers["sec-fetch-site"] = "same-origin"
            entity = client.get(f"artifacts/{artifact.id}").json()
            [row] = client.get("artifacts", params={"columns": ["updated_at"]}).json()["rows"]
            answer = client.get("artifacts", params={"format": "arrow"})
            [downloaded] = pa.ipc.open_stream(answer.content).read_all().to_pylist()
    time = datetime.fromtimestamp(left.create_time_since_epoch / 1_000, UTC)
    assert left.last_update_time_since_epoch == left.create_time_since_epoch
    assert datetime.fromisoformat(row["created_at"]) == time
    assert datetime.fromisoformat(row["cells"][0]) == time
    assert datetime.fromisoformat(entity["created_at"]) == time
    assert datetime.fromisoformat(entity["updated_at"]) == time
    assert downloaded["created_at"] == time


def test_values_of_several_types_are_all_there() -> None:
    with eventstore.open("memory://") as store:
        values = [7, "seven", 7.5, True, float("nan"), {"a": [1.5]}, 8]
        declared = (mlmd.INT, mlmd.STRING, mlmd.DOUBLE)
        members = {int: "int_value", str: "string_value", float: "double_value", bool: "bool_value"}
        for number, value in enumerate(values):
            kind = mlmd.ArtifactType(name=f"T{number}", properties={"v": declared[number % 3]})
            made = mlmd.Artifact(type_id=store.put_artifact_type(kind), name=f"n{number}")
            own: Any = (3, "three", 3.5)[number % 3]
            setattr(made.properties["v"], members[type(own)], own)
            if isinstance(value, dict):
                made.custom_properties["m"].struct_value.update(value)
            else:
                setattr(made.custom_properties["m"], members[type(value)], value)
            store.put_artifacts([made])
        application = make_application(Serving({"default": store._engine}), NoAuthentication())
        with TestClient(application, base_url="http://localhost/api/v1") as client:
            client.headers["sec-fetch-site"] = "same-origin"
            columns = ["name", "custom_properties.m", "properties.v"]
            asked: dict[str, Any] = {"columns": columns}
            rows = client.get("artifacts", params=asked).json()["rows"]
            text = client.get("artifacts", params=asked | {"format": "csv"}).text
            arrow = client.get("artifacts", params=asked | {"format": "arrow"}).content
            of_one = client.get("artifacts", params={"type": "T2", "format": "arrow"}).content
            query = "SELECT {'a': '\"', 'b': [1]} AS s, 'nan'::DOUBLE AS n, '-inf'::DOUBLE AS i"
            told = client.get("sql", params={"q": query, "format": "csv"}).text
    shown = [
        cell if isinstance(cell, str) else json.dumps(cell)
        for row in rows
        for cell in row["cells"][1:]
    ]
    found = pa.ipc.open_stream(arrow).read_all().to_pylist()
    assert [row[name] for row in found for name in columns[1:]] == shown
    assert [cell for row in [*csv.reader(io.StringIO(text))][1:] for cell in row[-2:]] == shown
    # Of one type they are what it declares.
    assert pa.ipc.open_stream(of_one).read_all()["properties.v"].to_pylist() == [3.5]
    assert [*csv.reader(io.StringIO(told))][1] == ['{"a":"\\"","b":[1]}', "NaN", "-Infinity"]


def test_a_spreadsheet_computes_nothing() -> None:
    with eventstore.open("memory://") as store:
        type_id = store.put_artifact_type(mlmd.ArtifactType(name="Data"))
        for name in ("=1+1", "+1", "-1", "@x", 'plain, "quoted"'):
            store.put_artifacts([mlmd.Artifact(type_id=type_id, name=name)])
        application = make_application(Serving({"default": store._engine}), NoAuthentication())
        with TestClient(application, base_url="http://localhost/api/v1") as client:
            client.headers["sec-fetch-site"] = "same-origin"
            answer = client.get("artifacts", params={"format": "csv", "columns": ["name"]})
            rows = [row[1] for row in csv.reader(io.StringIO(answer.text))][1:]
            assert rows == ["'=1+1", "'+1", "'-1", "'@x", 'plain, "quoted"']
