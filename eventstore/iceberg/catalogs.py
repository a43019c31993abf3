"""Catalogs of Iceberg tables, by a URL or by their names in pyiceberg's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from eventstore import errors
from eventstore.iceberg.iceberg_errors import translating
from eventstore.log.places import is_url, named_path

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog

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
    storage. `properties` are pyiceberg's for catalogs, such as credentials of object storage.

    Raises InvalidArgumentError for what is no catalog, UnavailableError where it is not reached.
    """
    from pyiceberg.catalog import load_catalog
    from pyiceberg.utils.config import Config

    named = dict(properties or {})
    if warehouse is not None:
        # An absolute path: the table's metadata say where they lie.
        named["warehouse"] = (
            str(warehouse) if is_url(warehouse) else f"file://{named_path(warehouse).absolute()}"
        )
    name = catalog
    if is_url(catalog):
        name, named["uri"] = NAME, catalog
    elif Config().get_catalog_config(catalog) is None:
        raise errors.InvalidArgumentError(
            f"pyiceberg's configuration has no catalog {catalog!r}: name one of it, or give a URL, "
            "such as sqlite:///catalog.db or https://host"
        )
    with translating("opening the catalog"):
        try:
            return load_catalog(name, **named)
        except (ValueError, KeyError) as error:
            # For a URL as it was given, the message could have its password.
            said = f": {error}" if name == catalog else ""
            raise errors.InvalidArgumentError(
                f"this is no catalog that pyiceberg opens{said}; give a URL, such as "
                "sqlite:///catalog.db or https://host, or a name that its configuration has"
            ) from None
