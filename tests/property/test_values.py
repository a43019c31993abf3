"""Values of every kind at their edges, through every way that a value takes."""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path
from typing import Any, NoReturn

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import eventstore
from eventstore.audit import SigningKey
from eventstore.cli.main import cli
from eventstore.plain_values import is_same
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.edge_values import PROPERTIES, VALUES_BY_TYPE, node_with

KEY = SigningKey.generate("auditor")
TYPED = {mlmd.PropertyType.Name(kind).lower(): kind for kind in VALUES_BY_TYPE}
TYPED_PROPERTIES = st.fixed_dictionaries(
    {}, optional={name: VALUES_BY_TYPE[kind] for name, kind in TYPED.items()}
)


def content(message: Any) -> bytes:
    """All that a message says, to the bit: one with a NaN is not equal to itself."""
    serialized: bytes = message.SerializeToString(deterministic=True)
    return serialized


def plain(value: mlmd.Value) -> Any:
    """A value as histories tell it, found in another way than theirs."""
    member = value.WhichOneof("value")
    assert member is not None
    if member == "struct_value":
        return {name: plain_json(value.struct_value.fields[name]) for name in value.struct_value}
    if member == "proto_value":
        held = value.proto_value
        return {"type_url": held.type_url, "value": base64.b64encode(held.value).decode()}
    return getattr(value, member)


def plain_json(value: Any) -> Any:
    if value.HasField("struct_value"):
        fields = value.struct_value.fields
        return {name: plain_json(fields[name]) for name in fields}
    if value.HasField("list_value"):
        return [plain_json(element) for element in value.list_value.values]
    for member in ("number_value", "string_value", "bool_value"):
        if value.HasField(member):
            return getattr(value, member)
    return None


def as_json(value: Any) -> Any:
    """What JSON has in the place of a plain value."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {name: as_json(member) for name, member in value.items()}
    return [as_json(member) for member in value] if isinstance(value, list) else value


def with_doubles(value: Any) -> Any:
    """Whole numbers of JSON as the doubles that a struct has."""
    if isinstance(value, dict):
        return {name: with_doubles(member) for name, member in value.items()}
    if isinstance(value, list):
        return [with_doubles(member) for member in value]
    return float(value) if type(value) is int else value


def with_one_nan(value: Any) -> Any:
    """DuckDB knows one NaN alone."""
    return math.nan if isinstance(value, float) and math.isnan(value) else value


def parsed_json(text: str) -> Any:
    def refuse(constant: str) -> NoReturn:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def keys_are_sorted(value: Any) -> bool:
    if isinstance(value, dict):
        return list(value) == sorted(value) and all(map(keys_are_sorted, value.values()))
    return all(map(keys_are_sorted, value)) if isinstance(value, list) else True


def run(*arguments: str) -> list[Any]:
    """The lines of JSON that a command prints."""
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return [parsed_json(line) for line in result.output.split("\n") if line]


def properties_of(node: Any) -> dict[str, Any]:
    """By name as histories have it, what the properties of a node say."""
    return {
        f"{map_name}.{name}": plain(getattr(node, map_name)[name])
        for map_name in ("properties", "custom_properties")
        for name in getattr(node, map_name)
    }


def assert_tells(fields: dict[str, Any], node: Any) -> None:
    told = {name: value for name, value in fields.items() if "." in name}
    assert is_same(told, properties_of(node))
    assert keys_are_sorted([value for value in told.values() if isinstance(value, dict)])


@given(
    st.lists(st.tuples(PROPERTIES, TYPED_PROPERTIES), min_size=1, max_size=4),
    st.data(),
)
@settings(max_examples=settings().max_examples // 5)
def test_a_value_comes_back_by_every_way(
    tmp_path_factory: pytest.TempPathFactory,
    given_properties: list[tuple[dict[str, mlmd.Value], dict[str, mlmd.Value]]],
    data: st.DataObject,
) -> None:
    directory: Path = tmp_path_factory.mktemp("values") / "store"
    with eventstore.open(directory) as store:
        type_id = store.put_artifact_type(mlmd.ArtifactType(name="T", properties=TYPED))
        start = store.log_position()
        nodes = [
            node_with(mlmd.Artifact, custom, type_id=type_id) for custom, _ in given_properties
        ]
        for node, (_, typed) in zip(nodes, given_properties, strict=True):
            for name, value in typed.items():
                node.properties[name].CopyFrom(value)
        ids = store.put_artifacts(nodes)
        stored = store.get_artifacts_by_id(ids)
        for node, back in zip(nodes, stored, strict=True):
            assert all(
                content(getattr(node, of)[name]) == content(getattr(back, of)[name])
                for of in ("properties", "custom_properties")
                for name in {*getattr(node, of), *getattr(back, of)}
            )
        # As it was read it is no change, whatever a NaN says of being equal.
        position = store.log_position()
        store.put_artifacts(store.get_artifacts_by_id(ids))
        store.put_artifacts(store.get_artifacts_by_id(ids), ["properties", "custom_properties"])
        assert store.log_position() == position
        if data.draw(st.booleans()):
            store.seal()
            assert [segment.state for segment in store.log.segments()] == ["sealed", "active"]
        assert store.verify().ok
        if data.draw(st.booleans()):
            store.rebuild()
    with eventstore.open(directory, read_only=True) as store:
        for found in (
            store.get_artifacts_by_id(ids),
            store.get_artifacts(),
            store.get_artifacts_by_type("T"),
            store.as_of(position).get_artifacts_by_id(ids),
        ):
            assert [*map(content, found)] == [*map(content, stored)]
        checkpoint = store.checkpoint(KEY)
        (commit,) = store.changes(start)
        differences = {entity.id: entity for entity in store.diff(start)}
        for node, change in zip(stored, commit.changes, strict=True):
            (version,) = store.history("artifact", node.id)
            assert content(version.message) == content(change.message) == content(node)
            for fields in (version.changes, change.fields, differences[node.id].fields):
                assert_tells({field.field: field.after for field in fields}, node)
            assert store.compare("artifact", node.id, node.id).differences == ()
            proof = store.prove(change.position, checkpoint)
            assert content(proof.message) == content(node)
            assert store.report("artifact", node.id)
        rows = store.sql("SELECT * FROM properties ORDER BY node_id").arrow().to_pylist()
        assert_rows(rows, stored)
    assert_printed(directory, stored)
    assert_exported(directory, stored)


def assert_rows(rows: list[dict[str, Any]], nodes: list[Any]) -> None:
    told: dict[int, dict[str, Any]] = {node.id: {} for node in nodes}
    for row in rows:
        name = f"{'custom_' if row['is_custom'] else ''}properties.{row['name']}"
        ((member, value),) = (
            (member, row[member])
            for member in mlmd.Value.DESCRIPTOR.fields_by_name
            if row[member] is not None
        )
        if member == "struct_value":
            value = parsed_json(value)
            assert keys_are_sorted(value)
        told[row["node_id"]][name] = with_one_nan(value)
    for node in nodes:
        expected = {
            f"{of}.{name}": value.proto_value.SerializeToString(deterministic=True)
            if value.HasField("proto_value")
            else as_json(plain(value))
            if value.HasField("struct_value")
            else with_one_nan(plain(value))
            for of in ("properties", "custom_properties")
            for name, value in getattr(node, of).items()
        }
        assert is_same(told[node.id], expected)


def assert_printed(directory: Path, nodes: list[Any]) -> None:
    """Each command that prints JSON prints nothing but JSON, and these values."""
    first, path = str(nodes[0].id), str(directory)
    changes = run("history", path, "artifact", first, "--json")[0]["changes"]
    told = {
        field["field"]: with_doubles(field["after"])
        if isinstance(field["after"], dict)
        else field["after"]
        for field in changes
        if "." in field["field"]
    }
    assert is_same(told, as_json(properties_of(nodes[0])))
    (got,) = run("get", path, "artifact", first, "--json")
    for name, value in nodes[0].custom_properties.items():
        ((member, shown),) = got["custom_properties"][name].items()
        assert member == value.WhichOneof("value")
        if member == "proto_value":
            assert shown["type_url"] == value.proto_value.type_url
            assert base64.b64decode(shown["value"]) == value.proto_value.value
        elif member == "struct_value":
            assert is_same(with_doubles(shown), as_json(plain(value)))
        else:
            assert is_same(shown, as_json(plain(value)))
    for arguments in (
        ("list", path, "artifact", "--json"),
        ("changes", path, "--json"),
        ("diff", path, "1", "--json"),
        ("log", path, "--json"),
        ("lineage", path, "artifact", first, "--json"),
        ("sql", path, "SELECT * FROM properties", "--json"),
    ):
        run(*arguments)


def assert_exported(directory: Path, nodes: list[Any]) -> None:
    exported = directory.parent / "records.jsonl"
    result = CliRunner().invoke(cli, ["export", str(directory), str(exported)])
    assert result.exit_code == 0, result.output
    records = [parsed_json(line) for line in exported.read_text("utf-8").split("\n") if line]
    payloads = [base64.b64decode(record["payload"]) for record in records[-len(nodes) :]]
    assert payloads == [content(node) for node in nodes]


def test_a_nan_is_the_greatest_number_in_every_filter(tmp_path: Path) -> None:
    doubles = [math.nan, -math.nan, math.inf, 7.0, 0.0, -0.0, -math.inf]
    expected = {
        "> 5": [1, 2, 3, 4],
        "< 5": [5, 6, 7],
        "= 0": [5, 6],
        "!= 7": [1, 2, 3, 5, 6, 7],
        "<= 1e308": [4, 5, 6, 7],
        "IN (0, 7)": [4, 5, 6],
    }
    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = str(tmp_path / "store")
    for _ in range(2):
        with eventstore.MetadataStore(config) as store:
            if not store.get_artifacts():
                type_id = store.put_artifact_type(mlmd.ArtifactType(name="T"))
                for number in doubles:
                    node = mlmd.Artifact(type_id=type_id)
                    node.custom_properties["x"].double_value = number
                    store.put_artifacts([node])
            # From the third question of a kind on, values are held in memory.
            for _ in range(4):
                for condition, ids in expected.items():
                    text = f"custom_properties.x.double_value {condition}"
                    found = store.get_artifacts(eventstore.ListOptions(filter_query=text))
                    assert [node.id for node in found] == ids, condition
