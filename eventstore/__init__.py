"""A metadata store for machine learning that forgets nothing, with the API of ML Metadata."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from eventstore.version import __version__

if TYPE_CHECKING:
    from eventstore import errors, proto
    from eventstore.alias import install_as_ml_metadata
    from eventstore.metadata_store.downgrading import downgrade_schema
    from eventstore.metadata_store.file_methods import copy, restore
    from eventstore.metadata_store.metadata_store import MetadataStore
    from eventstore.metadata_store.metadata_store import open_store as open
    from eventstore.metadata_store.options import ListOptions, OrderByField

__all__ = [
    "ListOptions",
    "MetadataStore",
    "OrderByField",
    "__version__",
    "copy",
    "downgrade_schema",
    "errors",
    "install_as_ml_metadata",
    "open",
    "proto",
    "restore",
]

_EXPORTS = {
    "ListOptions": ("eventstore.metadata_store.options", "ListOptions"),
    "MetadataStore": ("eventstore.metadata_store.metadata_store", "MetadataStore"),
    "OrderByField": ("eventstore.metadata_store.options", "OrderByField"),
    "copy": ("eventstore.metadata_store.file_methods", "copy"),
    "downgrade_schema": ("eventstore.metadata_store.downgrading", "downgrade_schema"),
    "errors": ("eventstore.errors", None),
    "install_as_ml_metadata": ("eventstore.alias", "install_as_ml_metadata"),
    "open": ("eventstore.metadata_store.metadata_store", "open_store"),
    "proto": ("eventstore.proto", None),
    "restore": ("eventstore.metadata_store.file_methods", "restore"),
}
# Reachable as attributes, as they are of ml_metadata, without being offered.
_SUBMODULES = ("metadata_store", "version")


def __getattr__(name: str) -> Any:
    """Import what is asked for only then: the log and DuckDB are slow to load."""
    if name in _SUBMODULES:
        return import_module(f"eventstore.{name}")
    if name not in _EXPORTS:
        raise AttributeError(f"module 'eventstore' has no attribute {name!r}")
    module_name, attribute = _EXPORTS[name]
    module = import_module(module_name)
    return module if attribute is None else getattr(module, attribute)


def __dir__() -> list[str]:
    return __all__
