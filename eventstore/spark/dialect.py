"""How Spark reads the SQL of the views, whatever its session is set to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_SETTINGS: Final = {
    # Else Spark puts what its configuration or the driver's environment has in the place of
    # `${...}` in a name of a type or property.
    "spark.sql.variable.substitute": "false",
    "spark.sql.parser.escapedStringLiterals": "false",
    # Times are instants.
    "spark.sql.timestampType": "TIMESTAMP_LTZ",
}


@contextlib.contextmanager
def plain_sql(spark: SparkSession) -> Iterator[None]:
    """A block in which Spark reads SQL as it stands; the session's settings come back after it."""
    before = {name: spark.conf.get(name, None) for name in _SETTINGS}
    try:
        for name, value in _SETTINGS.items():
            spark.conf.set(name, value)
        yield
    finally:
        for name, value in before.items():
            if value is None:
                spark.conf.unset(name)
            else:
                spark.conf.set(name, value)
