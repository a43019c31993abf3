"""Bring in what other metadata stores have recorded."""

from eventstore.importing.following import Followed, follow_mlmd_database
from eventstore.importing.importer import ImportReport, import_mlmd_database

__all__ = ["Followed", "ImportReport", "follow_mlmd_database", "import_mlmd_database"]
