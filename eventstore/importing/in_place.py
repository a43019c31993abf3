"""Import what MLMD has in a database on a server into a new store in the same database."""

from __future__ import annotations

from contextlib import closing

from eventstore.importing.importer import ImportReport, import_into
from eventstore.importing.mlmd_database import MlmdDatabase
from eventstore.importing.server_source import ServerSource
from eventstore.late_logger import late_logger
from eventstore.log import Log, Progress
from eventstore.log.sql.database import Database
from eventstore.log.sql.making import make_filled
from eventstore.long_work import long_work

_LOGGER = late_logger("eventstore.importing")


@long_work("Importing")
def import_in_place(
    database: Database, progress: Progress | None = None, *, actor: str | None = None
) -> ImportReport | None:
    """Make a store of MLMD's tables in the database that has them; None where there is one by now.

    They are read in one snapshot, and not changed. The store is there when the import is complete;
    one that fails or is broken off leaves empty tables, and the next begins anew. Of several
    processes at once, one imports, and the others wait.

    Raises what `MlmdDatabase` does, and `make_filled`.
    """
    reports: list[ImportReport] = []
    with closing(ServerSource(database.url, database.connect_options)) as source:
        mlmd = MlmdDatabase(source)

        def fill(log: Log) -> None:
            # What was written while others were waited for is to be seen.
            mlmd.look_again()
            reason = f"import of {mlmd.described}"
            reports.append(import_into(mlmd, log, progress=progress, actor=actor, reason=reason))

        if not make_filled(database, fill):
            return None
    (report,) = reports
    _LOGGER.info(
        "imported %d records of ML Metadata into a store in %s", report.position, report.source
    )
    for warning in report.warnings:
        _LOGGER.warning("%s: %s", report.source, warning)
    return report
