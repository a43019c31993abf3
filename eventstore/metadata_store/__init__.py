"""The API of MLMD: `MetadataStore` and what its methods take."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eventstore.metadata_store.downgrading import downgrade_schema
    from eventstore.metadata_store.metadata_store import MetadataStore
    from eventstore.metadata_store.options import ListOptions, OrderByField

__all__ = ["ListOptions", "MetadataStore", "OrderByField", "downgrade_schema"]

_MODULES = {
    "ListOptions": "options",
    "MetadataStore": "metadata_store",
    "OrderByField": "options",
    "downgrade_schema": "downgrading",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for only then."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
