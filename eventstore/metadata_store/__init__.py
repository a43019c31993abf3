"""The API of MLMD: `MetadataStore` and what its methods take."""

from eventstore.metadata_store.metadata_store import (
    ListOptions,
    MetadataStore,
    OrderByField,
)

__all__ = ["ListOptions", "MetadataStore", "OrderByField"]
