"""SQL of users: one query over views of the store, as of a moment, that can do no harm."""

from eventstore.sql.views import run_sql

__all__ = ["run_sql"]
