"""What `import ml_metadata` gives after `eventstore.install_as_ml_metadata()`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from eventstore.as_mlmd.version import __version__ as __version__

if TYPE_CHECKING:
    from eventstore.metadata_store import (
        ListOptions,
        MetadataStore,
        OrderByField,
        downgrade_schema,
    )

__all__ = ["ListOptions", "MetadataStore", "OrderByField", "downgrade_schema"]

_SUBMODULES = ("errors", "metadata_store", "proto")


def __getattr__(name: str) -> Any:
    """Import what is asked for only then, as `eventstore` does."""
    if name in _SUBMODULES:
        return import_module(f"eventstore.{name}")
    if name not in __all__:
        raise AttributeError(f"module 'ml_metadata' has no attribute {name!r}")
    return getattr(import_module("eventstore.metadata_store"), name)


def __dir__() -> list[str]:
    return [*__all__, *_SUBMODULES, "version"]
