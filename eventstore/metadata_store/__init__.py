"""The API of MLMD: `MetadataStore` and what its methods take."""

from eventstore.metadata_store.downgrading import downgrade_schema
from eventstore.metadata_store.metadata_store import ListOptions, MetadataStore, OrderByField

__all__ = ["ListOptions", "MetadataStore", "OrderByField", "downgrade_schema"]
