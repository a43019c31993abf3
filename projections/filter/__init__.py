"""MLMD's filter language, compiled to SQL on the DuckDB tables."""

from eventstore.projections.filter.filter_sql import FilterSql, Join, PropertyField, SemiJoin

__all__ = ["FilterSql", "Join", "PropertyField", "SemiJoin", "compile_filter"]


def compile_filter(text: str, kind: str) -> FilterSql:
    """Compile a filter query on nodes of a kind (`artifact`, `execution`, `context`).

    Raises InvalidArgumentError that says what is wrong and where.
    """
    # Not at the top: the SQL parser takes longer to load than most programs need it for.
    from eventstore.projections.filter import compiler

    return compiler.compile_filter(text, kind)
