"""Lists of nodes, against those of the store: filtered, ordered, page by page."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

import eventstore
from eventstore import errors
from eventstore.http_api.catalog import totals, types, used_properties
from eventstore.http_api.lists import all_columns, found, node_list
from eventstore.http_api.ordering import Order
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.http_api.test_commits import source_of

FILTER = "properties.accuracy.double_value > 0.53 AND name LIKE 'model%'"


def walked(source: Any, kind: str, **chosen: Any) -> list[Any]:
    """The rows of all pages, which are short."""
    rows, after = [], None
    while True:
        page = node_list(source, kind, after=after, limit=5, **chosen)
        assert len(page.rows) <= 5
        rows += page.rows
        after = page.after
        if after is None:
            return rows
        assert len(page.rows) == 5


def value_of(message: Any, column: str) -> Any:
    map_name, _, name = column.partition(".")
    if name:
        held = getattr(message, map_name)
        return getattr(held[name], held[name].WhichOneof("value")) if name in held else None
    if column in ("created_at", "updated_at"):
        field = "create" if column == "created_at" else "last_update"
        return getattr(message, f"{field}_time_since_epoch")
    return getattr(message, column) if message.HasField(column) else None


@pytest.mark.parametrize("position", [None, 70])
@pytest.mark.parametrize("filter_query", ["", FILTER])
@pytest.mark.parametrize("type_name", [None, "Model"])
@pytest.mark.parametrize("descending", [False, True])
def test_pages_in_any_order_are_all_nodes_once(
    small: eventstore.MetadataStore,
    position: int | None,
    filter_query: str,
    type_name: str | None,
    descending: bool,
) -> None:
    store = small if position is None else small.as_of(position)
    source = source_of(store)
    where = " AND ".join(
        f"({one})" for one in (filter_query, type_name and f"type = '{type_name}'") if one
    )
    nodes = store.get_artifacts(eventstore.ListOptions(filter_query=where or None))
    assert nodes
    columns = ("id", "name", "uri", "state", "created_at", "properties.accuracy")
    for column in (*columns, "custom_properties.quality", "custom_properties.missing"):
        there = [node for node in nodes if value_of(node, column) is not None]
        lacking = [node.id for node in nodes if value_of(node, column) is None]
        there.sort(key=lambda node: (value_of(node, column), node.id), reverse=descending)
        expected = [node.id for node in there] + sorted(lacking, reverse=descending)
        rows = walked(
            source,
            "artifact",
            type_name=type_name,
            filter_query=filter_query,
            order=Order(column, descending),
        )
        assert [row.id for row in rows] == expected, column
    counted = found(source, "artifact", type_name=type_name, filter_query=filter_query)
    assert (counted.count, counted.is_exact) == (len(nodes), True)


def test_a_list_of_a_type_has_its_properties(small: eventstore.MetadataStore) -> None:
    page = node_list(source_of(small), "artifact", type_name="Model", limit=1)
    assert [column.name for column in page.columns] == [
        *("id", "name", "state", "properties.accuracy", "created_at", "by")
    ]
    (row,) = page.rows
    assert row.cells[:4] == [2, "model-00", "LIVE", 0.5]
    known = {one.name: one.type for one in all_columns(source_of(small), "artifact", "Model")}
    assert known["properties.accuracy"] == "DOUBLE"
    assert known["custom_properties.quality"] == "STRING"


def test_rows_say_who_made_a_node_unless_that_is_erased(small: eventstore.MetadataStore) -> None:
    rows = {row.id: row.by for row in node_list(source_of(small), "artifact").rows}
    assert rows[3] == "nightly"
    assert rows[8] is None


def test_what_there_is_agrees_with_the_store(small: eventstore.MetadataStore) -> None:
    for store in (small, small.as_of(40)):
        source = source_of(store)
        counted = totals(source)
        assert counted.counts == source.projections.counts(source.position())
        for one in types(source, "artifact"):
            nodes = store.get_artifacts_by_type(one.name)
            assert one.count == len(nodes)
            if nodes:
                assert (one.newest, one.newest_name) == (nodes[-1].id, nodes[-1].name)
        properties = {one.name: one for one in used_properties(source, "artifact")}
        assert properties["properties.rows"].types == ["INT"]
        assert properties["properties.rows"].nodes == len(store.get_artifacts_by_type("Data"))


@pytest.mark.parametrize(
    ("chosen", "what"),
    [
        ({"filter_query": "name ="}, "Invalid `filter_query`"),
        ({"order": Order("nothing")}, "cannot be ordered by 'nothing'"),
        ({"columns": ["nothing"]}, "no column"),
        ({"limit": 0}, "limit is 0"),
    ],
)
def test_what_is_no_list_is_refused(
    small: eventstore.MetadataStore, chosen: dict[str, Any], what: str
) -> None:
    with pytest.raises(errors.InvalidArgumentError, match=what):
        node_list(source_of(small), "artifact", **chosen)
    with pytest.raises(errors.NotFoundError, match="no artifact type is named 'Modle'"):
        node_list(source_of(small), "artifact", type_name="Modle")
    with pytest.raises(errors.InvalidArgumentError, match="no kind of node"):
        node_list(source_of(small), "event")


@pytest.mark.parametrize("column", ["name", "uri", "properties.note", "custom_properties.note"])
@pytest.mark.parametrize("descending", [False, True])
def test_long_texts_are_walked_by_short_cursors(column: str, descending: bool) -> None:
    texts = ["z", *("x" * 50_000 + str(number) for number in range(7)), "y", "é" * 1_000]
    with eventstore.open("memory://") as store:
        noted = mlmd.ArtifactType(name="Noted")
        noted.properties["note"] = mlmd.STRING
        type_id = store.put_artifact_type(noted)
        for text in reversed(texts):
            artifact = mlmd.Artifact(type_id=type_id)
            map_name, _, name = column.partition(".")
            if name:
                getattr(artifact, map_name)[name].string_value = text
            else:
                setattr(artifact, map_name, text)
            store.put_artifacts([artifact])
        order, source = Order(column, descending), source_of(store)
        walked_ids, after = [], None
        while True:
            page = node_list(source, "artifact", order=order, after=after, limit=1)
            walked_ids += [row.id for row in page.rows]
            if page.after is None:
                break
            assert len(msgspec.json.encode(page.after)) < 1_000
            after = page.after
        by_text = sorted(texts, reverse=descending)
        assert walked_ids == [len(texts) - texts.index(text) for text in by_text]
        place = node_list(source, "artifact", order=Order(column), limit=1).after
        store.erase("artifact", len(texts) - 1, reason="GDPR-1")
        with pytest.raises(errors.InvalidArgumentError, match="erased meanwhile"):
            node_list(source_of(store), "artifact", order=Order(column), after=place)
