"""A metadata store for machine learning that forgets nothing, with the API of ML Metadata."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from eventstore.version import __version__

if TYPE_CHECKING:
    from eventstore import errors, proto
    from eventstore.metadata_store.metadata_store import MetadataStore
    from eventstore.metadata_store.metadata_store import open_store as open
    from eventstore.metadata_store.options import ListOptions, OrderByField

__all__ = [
    "ListOptions",
    "MetadataStore",
    "OrderByField",
    "__version__",
    "errors",
    "open",
    "proto",
]

_EXPORTS = {
    "ListOptions": ("eventstore.metadata_store.options", "ListOptions"),
    "MetadataStore": ("eventstore.metadata_store.metadata_store", "MetadataStore"),
    "OrderByField": ("eventstore.metadata_store.options", "OrderByField"),
    "errors": ("eventstore.errors", None),
    "open": ("eventstore.metadata_store.metadata_store", "open_store"),
    "proto": ("eventstore.proto", None),
}


def __getattr__(name: str) -> Any:
    """Import what is asked for only then: the log and DuckDB are slow to load."""
    if name not in _EXPORTS:
        raise AttributeError(f"module 'eventstore' has no attribute {name!r}")
    module_name, attribute = _EXPORTS[name]
    module = import_module(module_name)
    return module if attribute is None else getattr(module, attribute)


def __dir__() -> list[str]:
    return __all__
