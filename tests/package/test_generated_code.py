"""The generated modules are those of the .proto files beside them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2

import eventstore.proto
from eventstore.proto import (
    eventstore_service_pb2,
    metadata_store_pb2,
    metadata_store_service_pb2,
    retention_pb2,
    simple_types_pb2,
)


def _generator() -> Any:
    path = Path(eventstore.proto.__file__).with_name("generate.py")
    spec = importlib.util.spec_from_file_location("generate", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_generated_code_is_fresh(tmp_path: Path) -> None:
    folder = Path(eventstore.proto.__file__).parent
    compiled = _generator().compile_sources(folder, tmp_path, with_code=False)
    files = descriptor_pb2.FileDescriptorSet.FromString(compiled.read_bytes()).file
    modules = (
        *(metadata_store_pb2, metadata_store_service_pb2, simple_types_pb2, retention_pb2),
        eventstore_service_pb2,
    )
    generated = {module.DESCRIPTOR.name: module.DESCRIPTOR for module in modules}
    assert {file.name for file in files} == set(generated)
    for file in files:
        known = descriptor_pb2.FileDescriptorProto.FromString(generated[file.name].serialized_pb)
        for made in (file, known):
            _clear_json_names(made)
        assert known == file, f"{file.name} has changed: run `make protos`"


def _clear_json_names(scope: Any) -> None:
    # Only a compiler's descriptor set states them.
    for field in [*getattr(scope, "field", ()), *scope.extension]:
        field.ClearField("json_name")
    for message in [*getattr(scope, "message_type", ()), *getattr(scope, "nested_type", ())]:
        _clear_json_names(message)
