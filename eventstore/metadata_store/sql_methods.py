"""SQL over everything that a store knows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from eventstore.errors import FailedPreconditionError
from eventstore.store import Engine
from eventstore.store.snapshot import Snapshot

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa


class SqlResult:
    """The rows of a query, in whichever form the caller works with."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    @property
    def columns(self) -> list[str]:
        """The names of the columns, in order."""
        names: list[str] = self._table.column_names
        return names

    def __len__(self) -> int:
        rows: int = self._table.num_rows
        return rows

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.rows())

    def __repr__(self) -> str:
        return f"<SqlResult of {len(self)} rows: {', '.join(self.columns)}>"

    def rows(self) -> list[tuple[Any, ...]]:
        """The rows as tuples of plain Python values."""
        columns = [column.to_pylist() for column in self._table.columns]
        return list(zip(*columns, strict=True)) if columns else []

    def arrow(self) -> pa.Table:
        """The rows as an Arrow table."""
        return self._table

    def pandas(self) -> pd.DataFrame:
        """The rows as a pandas data frame. Raises FailedPreconditionError without pandas."""
        try:
            import pandas  # noqa: F401
        except ImportError as error:
            raise _missing("pandas") from error
        frame: pd.DataFrame = self._table.to_pandas()
        return frame

    def polars(self) -> pl.DataFrame:
        """The rows as a Polars data frame. Raises FailedPreconditionError without Polars."""
        try:
            import polars
        except ImportError as error:
            raise _missing("polars") from error
        frame = polars.from_arrow(self._table)
        assert isinstance(frame, polars.DataFrame)
        return frame


class SqlMethods:
    """SQL on the store, now or as of a moment."""

    _engine: Engine

    def _snapshot(self) -> Snapshot:
        raise NotImplementedError

    def sql(
        self,
        query: str,
        parameters: Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        as_of: int | datetime | None = None,
    ) -> SqlResult:
        """Run one query in DuckDB's SQL over views of the store, now or as of a moment.

        The views are `types`, `artifacts`, `executions`, `contexts`, `properties`, `events`,
        `links`, `records` and `commits`, and `type_versions`, `artifact_versions`, ... with every
        version up to the moment; docs/sql.md has their columns. `parameters` are bound to `?` or,
        by name, to `$name`. Queries can neither change anything nor read files.

        Raises InvalidArgumentError for anything but one query, one that fails, and a moment that
        `as_of` refuses; ResourceExhaustedError when it needs too much memory.

        >>> store.sql("SELECT type, count(*) FROM artifacts GROUP BY type").rows()  # doctest: +SKIP
        """
        newest = self._snapshot().position
        position = newest if as_of is None else min(newest, self._engine.position_of(as_of))
        return SqlResult(self._engine.projections.sql(query, parameters, position))


def _missing(package: str) -> FailedPreconditionError:
    return FailedPreconditionError(
        f"this needs the package {package}: pip install 'mlmd-eventstore[analytics]'"
    )
