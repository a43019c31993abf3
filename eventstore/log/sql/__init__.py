"""The log in a SQL database, which any number of machines share."""

from eventstore.log.sql.sql_log import SqlLog

__all__ = ["SqlLog"]
