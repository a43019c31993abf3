"""Catalogs of Iceberg tables, by a URL or by their names in pyiceberg's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from eventstore import errors
from eventstore.iceberg.iceberg_errors import first_line, translating
from eventstore.log.places import is_url, named_path

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog

AMBIGUOUS: Final = frozenset("%?#")
"""What engines read in a URL in different ways: as it stands, or decoded."""

NAME: Final = "default"
"""The name of a catalog that is named by its URL: one in a database keeps its tables below it."""


def catalog_at(
    catalog: str,
    *,
    warehouse: str | Path | None = None,
    properties: Mapping[str, str] | None = None,
) -> Catalog:
    """The catalog at a URL, or of that name in pyiceberg's configuration.

    `warehouse` is where it keeps the metadata of new tables: a folder, or the URL of one in object
    storage; of a REST catalog, whatever that calls a warehouse. `properties` are pyiceberg's for
    catalogs, such as credentials of object storage.

    Raises InvalidArgumentError for what is no catalog, UnavailableError where it is not reached.
    """
    from pyiceberg.catalog import load_catalog
    from pyiceberg.utils.config import Config

    named = dict(properties or {})
    name, uri = catalog, catalog
    if is_url(catalog):
        name, named["uri"] = NAME, catalog
    else:
        configured = Config().get_catalog_config(catalog)
        if configured is None:
            raise errors.InvalidArgumentError(
                f"pyiceberg's configuration has no catalog {catalog!r}: name one of it, or give a "
                "URL, such as sqlite:///catalog.db or https://host"
            )
        uri = str(configured.get("uri", ""))
    if warehouse is not None:
        is_rest = uri.startswith(("http://", "https://"))
        named["warehouse"] = str(warehouse) if is_rest else _warehouse_url(warehouse)
    with translating("opening the catalog"):
        try:
            return load_catalog(name, **named)
        except (ValueError, KeyError) as error:
            # For a URL as it was given, the message could have its password.
            said = f": {first_line(error)}" if name == catalog else ""
            raise errors.InvalidArgumentError(
                f"this is no catalog that pyiceberg opens{said}; give a URL, such as "
                "sqlite:///catalog.db or https://host, or a name that its configuration has"
            ) from None


def _warehouse_url(warehouse: str | Path) -> str:
    """Where a table's metadata shall lie, as it will be said in them.

    Raises InvalidArgumentError for what pyiceberg does not write, or not all engines would find.
    """
    from pyiceberg.io import SCHEMA_TO_FILE_IO

    # An absolute path: readers have another working directory.
    url = str(warehouse) if is_url(warehouse) else f"file://{named_path(warehouse).absolute()}"
    scheme, _, path = url.partition("://")
    if scheme not in SCHEMA_TO_FILE_IO:
        raise errors.InvalidArgumentError(
            f"pyiceberg writes to no {scheme}:// warehouse: name a folder, or a URL of object "
            "storage"
        )
    if found := AMBIGUOUS.intersection(path):
        raise errors.InvalidArgumentError(
            f"the warehouse {path} has {' and '.join(sorted(found))} in its name, which engines "
            "read in different ways: name another one"
        )
    return url
