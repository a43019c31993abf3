"""Our messages are the real package's, field by field."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2

from eventstore.proto import metadata_store_pb2, metadata_store_service_pb2, simple_types_pb2
from tests.differential.oracle import ORACLE_PYTHON

MODULES = (metadata_store_pb2, metadata_store_service_pb2, simple_types_pb2)


@pytest.fixture(scope="module")
def upstream() -> dict[str, bytes]:
    if not ORACLE_PYTHON.exists():
        pytest.skip("ml-metadata is not installed: run `make oracle`")
    script = Path(__file__).with_name("descriptor_dump.py")
    printed = subprocess.run([ORACLE_PYTHON, script], capture_output=True, check=True).stdout
    return {name: base64.b64decode(text) for name, text in json.loads(printed).items()}


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_fact_of_the_descriptors_agrees(module: Any, upstream: dict[str, bytes]) -> None:
    ours = descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
    theirs = descriptor_pb2.FileDescriptorProto.FromString(upstream[ours.name])
    assert dict(_facts(ours)) == dict(_facts(theirs))


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_descriptors_are_equal_to_the_byte(module: Any, upstream: dict[str, bytes]) -> None:
    # Equal bytes under one file name: both packages can then be loaded into one process.
    assert module.DESCRIPTOR.serialized_pb == upstream[module.DESCRIPTOR.name]


def _facts(file: Any) -> Iterator[tuple[str, Any]]:
    yield "file", (file.syntax, file.package, list(file.dependency))
    for enum in file.enum_type:
        yield from _enum_facts(file.package, enum)
    for message in file.message_type:
        yield from _message_facts(file.package, message)
    for extension in file.extension:
        yield f"extension {extension.name}", _field(extension)
    for service in file.service:
        for method in service.method:
            yield f"rpc {method.name}", (method.input_type, method.output_type)


def _message_facts(scope: str, message: Any) -> Iterator[tuple[str, Any]]:
    name = f"{scope}.{message.name}"
    yield (
        name,
        (
            [oneof.name for oneof in message.oneof_decl],
            [(r.start, r.end) for r in message.reserved_range],
            [(r.start, r.end) for r in message.extension_range],
            message.options.map_entry,
            message.options.deprecated,
        ),
    )
    for field in message.field:
        yield f"{name}.{field.name}", _field(field)
    for enum in message.enum_type:
        yield from _enum_facts(name, enum)
    for nested in message.nested_type:
        yield from _message_facts(name, nested)


def _enum_facts(scope: str, enum: Any) -> Iterator[tuple[str, Any]]:
    values = [(v.name, v.number, v.options.SerializeToString()) for v in enum.value]
    yield f"{scope}.{enum.name}", values


def _field(field: Any) -> Any:
    return (
        field.number,
        field.type,
        field.type_name,
        field.label,
        field.default_value,
        field.oneof_index if field.HasField("oneof_index") else None,
        field.options.SerializeToString(),
        field.extendee,
    )
