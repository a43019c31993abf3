"""SQL over everything that a store knows, and how listings are answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from eventstore.errors import FailedPreconditionError, InvalidArgumentError, OutOfRangeError
from eventstore.log.kinds import CONTEXT, NODE_KINDS
from eventstore.metadata_store.calls import as_integer, checked_limit, list_operation
from eventstore.metadata_store.served import served
from eventstore.metadata_store.source import SourceMethods

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    from eventstore.answers import Explanation
    from eventstore.metadata_store.options import ListOptions


_BATCH_ROWS: Final = 16_384


class SqlResult:
    """The rows of a query, in whichever form the caller works with."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    @classmethod
    def of_stream(cls, file: BinaryIO) -> SqlResult:
        """Read what `write_stream` has written."""
        import pyarrow as pa

        with pa.ipc.open_stream(pa.PythonFile(file, "r")) as reader:
            return cls(reader.read_all())

    def write_stream(self, file: BinaryIO) -> None:
        """Write the rows in Arrow's IPC format for streams, in batches of a moderate length."""
        import pyarrow as pa

        sink = pa.PythonFile(file, "w")
        with pa.ipc.new_stream(sink, self._table.schema) as writer:
            writer.write_table(self._table, max_chunksize=_BATCH_ROWS)

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
        rows = "1 row" if len(self) == 1 else f"{len(self)} rows"
        return f"<SqlResult of {rows}: {', '.join(self.columns)}>"

    def _repr_html_(self) -> str:
        from eventstore.notebook import sql_html

        try:
            rows = SqlResult(self._table.slice(0, 20)).rows()
        except OutOfRangeError:
            return sql_html(self.columns, [], len(self))
        return sql_html(self.columns, rows, len(self))

    def rows(self) -> list[tuple[Any, ...]]:
        """The rows as tuples of plain Python values.

        Raises OutOfRangeError for a value that Python cannot hold, such as a time in the year
        10000.
        """
        try:
            columns = [column.to_pylist() for column in self._table.columns]
        except (ValueError, OverflowError, NotImplementedError) as error:
            raise _without_counterpart(error, "Python") from None
        return list(zip(*columns, strict=True)) if columns else []

    def arrow(self) -> pa.Table:
        """The rows as an Arrow table."""
        return self._table

    def pandas(self) -> pd.DataFrame:
        """The rows as a pandas data frame.

        Whole numbers stay whole: a column of them that has nulls is of pandas' nullable type
        (`Int64`), and so is one of booleans (`boolean`); lists
        and structs that hold such nulls are lists and dictionaries.

        Raises FailedPreconditionError without pandas, OutOfRangeError for a value that pandas has
        none for.
        """
        try:
            import pandas  # noqa: F401
        except ImportError as error:
            raise _missing("pandas") from error
        from eventstore.pandas_frames import exact_frame

        try:
            frame: pd.DataFrame = exact_frame(self._table)
        except (ValueError, OverflowError, NotImplementedError) as error:
            raise _without_counterpart(error, "pandas") from None
        return frame

    def polars(self) -> pl.DataFrame:
        """The rows as a Polars data frame.

        Raises FailedPreconditionError without Polars, InvalidArgumentError when two columns have
        one name, OutOfRangeError for a type that Polars has none for, such as INTERVAL.
        """
        try:
            import polars
        except ImportError as error:
            raise _missing("polars") from error
        if len(set(self.columns)) < len(self.columns):
            raise InvalidArgumentError(
                f"a frame's columns have a name each, and these are {', '.join(self.columns)}: "
                "tell them apart with AS"
            )
        try:
            frame = polars.from_arrow(self._table)
        except (polars.exceptions.PolarsError, ValueError, OverflowError) as error:
            raise _without_counterpart(error, "Polars") from None
        assert isinstance(frame, polars.DataFrame)
        return frame


class SqlMethods(SourceMethods):
    """SQL on the store, now or as of a moment."""

    @served("read")
    def sql(
        self,
        query: str,
        parameters: Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        as_of: int | datetime | None = None,
        timeout_seconds: float | None = None,
    ) -> SqlResult:
        """Run one query in DuckDB's SQL over views of the store, now or as of a moment.

        The views are `types`, `artifacts`, `executions`, `contexts`, `properties`, `events`,
        `links`, `records` and `commits`, and `type_versions`, `artifact_versions`, ... with every
        version up to the moment. Each type is a view, too, with its properties as columns:
        docs/sql.md has them all. `parameters` are bound to `?` or, by name, to `$name`. Queries
        reach these views alone: they can neither change anything nor read files. Times are
        instants, in UTC.

        Raises InvalidArgumentError for anything but one query, one that fails, and a moment that
        `as_of` refuses; ResourceExhaustedError when it, or its result, takes more than half of the
        machine's memory; DeadlineExceededError when it takes longer than `timeout_seconds`.

        >>> store.sql("SELECT type, count(*) FROM artifacts GROUP BY type ORDER BY type").rows()
        [('Dataset', 1), ('Model', 1)]
        """
        if timeout_seconds is not None and not timeout_seconds > 0:
            raise InvalidArgumentError(
                f"timeout_seconds={timeout_seconds}: give a number above 0, or None for no limit"
            )
        # Not at the top: most stores are asked nothing in SQL.
        from eventstore.sql import run_sql

        source, position = self._source, self._source.position(as_of)
        return SqlResult(
            run_sql(source.log, source.projections, query, parameters, position, timeout_seconds)
        )

    @served("read")
    def explain(
        self, list_options: ListOptions, *, kind: str = "artifact", context_id: int | None = None
    ) -> Explanation:
        """How a listing would be answered now, and the SQL if it takes a query.

        `kind` is `artifact`, `execution` or `context`, and `context_id` that of a listing by
        context. Nothing is run or folded for it. Raises what the listing would raise, and
        InvalidArgumentError for another kind and for no options, without which nothing is listed.

        >>> store.explain(eventstore.ListOptions(filter_query="name = 'churn'")).reason
        'look-up by name'
        >>> store.explain(eventstore.ListOptions(filter_query="name LIKE 'churn%'")).way
        'scan'
        """
        from eventstore.store.pages import listing_of
        from eventstore.store.snapshot import distinct_ids

        kinds = {known.name: known for known in NODE_KINDS}
        if kind not in kinds or (context_id is not None and kind == CONTEXT.name):
            raise InvalidArgumentError(
                f"kind={kind!r}: use artifact, execution or, without a context_id, context"
            )
        if list_options is None:
            raise InvalidArgumentError(
                "list_options=None: without options all nodes are read by id, which needs no plan; "
                "pass ListOptions()"
            )
        if context_id is not None:
            [context_id] = distinct_ids([as_integer(context_id)])
        limit, options = checked_limit(list_options), list_operation(list_options)
        snapshot = self._source.snapshot()
        listing = listing_of(snapshot, kinds[kind], options, limit=limit, context_id=context_id)
        return snapshot.projections.planner.explain(listing)


def _without_counterpart(error: Exception, where: str) -> OutOfRangeError:
    return OutOfRangeError(
        f"a value has no counterpart in {where} ({error}): take the result as .arrow(), or cast it "
        "to text"
    )


def _missing(package: str) -> FailedPreconditionError:
    return FailedPreconditionError(
        f"this needs the package {package}: pip install 'mlmd-eventstore[analytics]'"
    )
