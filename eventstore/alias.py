"""Let programs that import `ml_metadata` run on this project, unchanged."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType

NAME = "ml_metadata"

_TARGETS = {
    "ml_metadata": "eventstore.as_mlmd",
    "ml_metadata.errors": "eventstore.errors",
    "ml_metadata.version": "eventstore.as_mlmd.version",
    "ml_metadata.proto": "eventstore.proto",
    "ml_metadata.proto.metadata_store_pb2": "eventstore.proto.metadata_store_pb2",
    "ml_metadata.proto.metadata_store_service_pb2": "eventstore.proto.metadata_store_service_pb2",
    "ml_metadata.proto.metadata_store_service_pb2_grpc": (
        "eventstore.proto.metadata_store_service_pb2_grpc"
    ),
    "ml_metadata.metadata_store": "eventstore.metadata_store",
    "ml_metadata.metadata_store.metadata_store": "eventstore.metadata_store.metadata_store",
    "ml_metadata.metadata_store.mlmd_types": "eventstore.metadata_store.mlmd_types",
    "ml_metadata.simple_types": "eventstore.proto",
    "ml_metadata.simple_types.proto": "eventstore.proto",
    "ml_metadata.simple_types.proto.simple_types_pb2": "eventstore.proto.simple_types_pb2",
}


def install_as_ml_metadata() -> None:
    """Make `import ml_metadata`, and what lies below it, reach this project.

    Call it before anything imports `ml_metadata`; calling it again does nothing. Raises
    RuntimeError when the real package was imported already.

    >>> import eventstore
    >>> eventstore.install_as_ml_metadata()
    >>> from ml_metadata.proto import metadata_store_pb2
    """
    if any(isinstance(finder, _AliasFinder) for finder in sys.meta_path):
        return
    if NAME in sys.modules:
        raise RuntimeError(
            "ml_metadata was imported already: call eventstore.install_as_ml_metadata() before "
            "anything imports it"
        )
    sys.meta_path.insert(0, _AliasFinder())


class _AliasFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Answers imports of the aliases with the modules that they stand for."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in _TARGETS:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = importlib.import_module(_TARGETS[spec.name])
        # The import system writes these onto what it takes for a new module.
        self._kept = {name: vars(module)[name] for name in _OVERWRITTEN if name in vars(module)}
        return module

    def exec_module(self, module: ModuleType) -> None:
        for name in _OVERWRITTEN:
            vars(module).pop(name, None)
        vars(module).update(self._kept)


_OVERWRITTEN = ("__spec__", "__path__")
