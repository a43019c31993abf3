"""Bring in what other metadata stores have recorded."""

from eventstore.importing.importer import ImportReport, import_mlmd_database

__all__ = ["ImportReport", "import_mlmd_database"]
