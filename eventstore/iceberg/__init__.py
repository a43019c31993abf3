"""A store's sealed segments as an Apache Iceberg table. It needs the extra `iceberg`."""

from eventstore.iceberg.catalogs import catalog_at
from eventstore.iceberg.publication import TABLE, Published, publish

__all__ = ["TABLE", "Published", "catalog_at", "publish"]
