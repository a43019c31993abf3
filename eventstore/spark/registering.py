"""The views of `store.sql` as temporary views of a Spark session."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import msgspec

from eventstore.errors import FailedPreconditionError, NotFoundError
from eventstore.log.kinds import ERASURE, NODE_KINDS_BY_NAME
from eventstore.log.readable import read_message
from eventstore.moments import Moment
from eventstore.spark.column_types import columns_of
from eventstore.spark.dialect import plain_sql
from eventstore.spark.locations import Location, segments_at
from eventstore.spark.relations import (
    KnownRecord,
    Relations,
    add_base,
    add_files,
    known_records,
)
from eventstore.sql.definitions import (
    STORED_ERASURES,
    type_view_definition,
    view_definitions,
)
from eventstore.sql.erasures import ERASURES_SCHEMA, erasure_row
from eventstore.sql.type_views import (
    NamedType,
    TypeView,
    full_name,
    type_view,
    types_by_view,
)
from eventstore.store.erasures import stored_erasure
from eventstore.times import Microseconds, moment_of

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_BASE: Final = "base"
_ERASURES: Final = columns_of(ERASURES_SCHEMA)


class RegisteredViews(msgspec.Struct, frozen=True):
    """The views that a session has now: their names, and the position that they show.

    `unsealed_records` is how many records before the moment are in no sealed segment, and so in no
    view: `store.seal()` would seal them.
    """

    views: tuple[str, ...]
    position: int
    unsealed_records: int


def register_views(
    spark: SparkSession,
    location: Location,
    as_of: Moment | None = None,
    *,
    prefix: str = "",
    types: Collection[str] | None = None,
) -> RegisteredViews:
    """Make the views of `store.sql` in a Spark session, over the sealed segments of a store.

    `location` is a store's directory, the URL of its place, or an open store; `as_of` is as in
    `store.as_of`. They are temporary views, whose names begin with `prefix`, in place of those that
    are called so. docs/sql.md has their columns. `types` names the types that get a view of their
    own, all of them if it is not given. Views of an earlier call with the same prefix are dropped.

    What they show stays as it is: they are registered again for what is sealed later, and after an
    erasure, which removes files. Raises FailedPreconditionError without pyspark, and for a store
    without files that Spark could read; NotFoundError for a type that is not there;
    InvalidArgumentError for a moment that `as_of` refuses.
    """
    try:
        import pyspark  # noqa: F401
    except ImportError as error:
        raise FailedPreconditionError(
            "this needs the package pyspark: pip install 'mlmd-eventstore[spark]'"
        ) from error
    with segments_at(location, as_of) as segments, plain_sql(spark):
        relations = Relations(spark)
        upto = min(segments.asked, segments.end)
        try:
            add_files(relations, spark, segments, upto)
            known = known_records(relations, spark, segments)
            add_base(relations, segments, known, upto)
            erasures = relations.local(_erasure_rows(known, upto), _ERASURES)
            relations.add(STORED_ERASURES, erasures)
            of_types = _chosen(known, upto, types)
            views = _made(spark, relations, upto, prefix, of_types)
            _drop_others(spark, prefix, views)
        finally:
            relations.drop()
        return RegisteredViews(views, upto, segments.asked - upto)


def spark_sql(text: str, names: Mapping[str, str]) -> str:
    """Spark's SQL for a definition, over relations and views that have other names there."""
    import sqlglot
    from sqlglot import exp

    parsed = sqlglot.parse_one(text, read="duckdb")
    for table in parsed.find_all(exp.Table):
        name = names[f"{table.db}.{table.name}" if table.db else table.name]
        table.set("db", None)
        table.set("this", exp.to_identifier(name, quoted=True))
    for function in parsed.find_all(exp.Anonymous):
        # Of milliseconds times 1000: an instant in both.
        if function.name.lower() == "make_timestamptz":
            function.set("this", "timestamp_micros")
    return parsed.sql(dialect="spark", identify=True)


def _made(
    spark: SparkSession,
    relations: Relations,
    upto: int,
    prefix: str,
    of_types: Mapping[str, TypeView],
) -> tuple[str, ...]:
    """Make the views; their names, those of types last."""
    definitions = view_definitions(_BASE, upto)
    names = relations.names | {name: f"{prefix}{name}" for name in definitions}
    # Some views read others, and some relations are called as the views are.
    views = {f"{_BASE}.{name}": made for name, made in relations.names.items()} | names
    made = []
    for name, text in definitions.items():
        _make(spark, names[name], spark_sql(text, views))
        made.append(names[name])
    for name, view in of_types.items():
        text = type_view_definition(_BASE, upto, view, has_maps=True)
        _make(spark, f"{prefix}{name}", spark_sql(text, views))
        made.append(f"{prefix}{name}")
    return tuple(made)


def _make(spark: SparkSession, name: str, query: str) -> None:
    quoted = name.replace("`", "``")
    spark.sql(query).createOrReplaceTempView(f"`{quoted}`")


_registered: Final[WeakKeyDictionary[Any, dict[str, tuple[str, ...]]]] = WeakKeyDictionary()
"""By session and prefix, the views that were made last."""


def _drop_others(spark: SparkSession, prefix: str, views: tuple[str, ...]) -> None:
    """Drop what was registered before: a type may be gone, or its short name be ambiguous now."""
    of_session = _registered.setdefault(spark, {})
    for name in {*of_session.get(prefix, ())} - {*views}:
        spark.catalog.dropTempView(name)
    of_session[prefix] = views


def _chosen(
    known: Iterable[KnownRecord], upto: int, types: Collection[str] | None
) -> dict[str, TypeView]:
    """The views of types by name, as of a position: of all types, or of those that are named."""
    newest = {
        record.entity_id: record
        for record in known
        if record.kind != ERASURE.name and record.position <= upto
    }
    named = [
        NamedType(one.kind.removesuffix("_type"), one.entity_id, one.name or "", one.position)
        for one in newest.values()
    ]
    if types is not None:
        missing = {*types} - {one.name for one in named}
        if missing:
            raise NotFoundError(f"there is no type {min(missing)!r} at position {upto}")
        wanted = {name.lower() for name in types}
        named = [one for one in named if one.name.lower() in wanted]
    found = {}
    for name, of_view in types_by_view(named, view_definitions(_BASE, upto)).items():
        first = of_view[0]
        shown = full_name(first)
        message = NODE_KINDS_BY_NAME[first.kind].type.message
        declared = [read_message(message, newest[one.id].payload).properties for one in of_view]
        found[shown if name == shown.lower() else first.name] = type_view(of_view, declared)
    return found


def _erasure_rows(known: Iterable[KnownRecord], upto: int) -> list[tuple[Any, ...]]:
    """The rows of the view of erasures, as of a position."""
    records: dict[int, list[KnownRecord]] = {}
    for record in known:
        if record.kind == ERASURE.name and record.position <= upto:
            records.setdefault(record.entity_id, []).append(record)
    rows = []
    for number, of_it in sorted(records.items()):
        stored = stored_erasure(number, [(one.position, one.payload) for one in of_it])
        actors = {one.position: one.actor for one in of_it}
        times = {one.position: moment_of(Microseconds(one.recorded_at)) for one in of_it}
        if stored is not None:
            row = erasure_row(stored, actors.__getitem__, times.__getitem__)
            rows.append(tuple(row[name] for name in _ERASURES))
    return rows
