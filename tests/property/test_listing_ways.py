"""A listing gives the same rows whichever way it is answered: by SQL, or from the point index."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from msgspec.structs import replace

import eventstore
from eventstore import errors
from eventstore.log import DirectoryLog
from eventstore.metadata_store.options import ListOptions
from eventstore.projections import Projections, held_values
from eventstore.projections.filter import compile_filter
from eventstore.projections.index_tables import STORED_TABLES
from eventstore.projections.judging import Candidates
from eventstore.projections.listing import InContext, Listing, NodeIds
from eventstore.projections.planning import Plan, Scan
from eventstore.projections.recent_records import RECENT_RECORDS_MAX
from eventstore.projections.tables import Tables
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import NODE_KINDS, append, draft, limited_planner, list_ids, memory_store
from tests.differential.filters import random_filter
from tests.differential.programs import Generator
from tests.shares import is_whole

KINDS = ("artifact", "execution", "context")
SIGNS = ("<", "<=", ">", ">=")
_STORES = ("memory", "directory")
_SEEDS = [
    (seed, store) for seed in range(6) for store in (_STORES if is_whole() else [_STORES[seed % 2]])
]


def random_listing(choice: random.Random, kind: str, as_of: int) -> Listing | None:
    """A listing by filter, of a context, or of given nodes; None when the filter is not valid."""
    listing = Listing(
        NODE_KINDS[kind],
        as_of,
        order_by=choice.choice(("id", "id", "create_time", "update_time")),
        descending=choice.random() < 0.3,
        limit=choice.choice((None, 1, 3, 20)),
        after=choice.choice((None, None, None, (2, 2), (5, 5))),
        type_id=choice.choice((None, None, None, 10)),
    )
    if kind != "context" and choice.random() < 0.2:
        listing = replace(listing, among=InContext(choice.randrange(1, 4)))
    elif choice.random() < 0.2:
        listing = replace(listing, among=NodeIds(range(1, choice.randrange(2, 9))))
    if isinstance(listing.among, InContext) and choice.random() < 0.5:
        return listing
    text = choice.choice(
        (
            random_filter(choice, kind),
            f"id IN (1, {choice.randrange(9)}, 3) AND ({random_filter(choice, kind)})",
            f"name = 'n{choice.randrange(9)}' OR FALSE",
            f"name = 'n{choice.randrange(40)}' AND ({random_filter(choice, kind)})",
            f"contexts_a.id = {choice.randrange(1, 5)} AND contexts_a.name != 'n1'",
            f"contexts_a.name IN ('n{choice.randrange(40)}', 'n{choice.randrange(40)}')",
            "contexts_a.type = 'T0' AND contexts_a.id = 1 AND NOT name LIKE '%1_'",
            f"events_e.type IN (INPUT, OUTPUT) AND ({random_filter(choice, kind)})",
            f"id > {choice.randrange(5)} AND events_e.type != {choice.choice(('INPUT', 'OUTPUT'))}",
            "NOT events_0.milliseconds_since_epoch = 5 AND create_time_since_epoch > 0 "
            f"AND events_0.type = {choice.choice(('INPUT', 'OUTPUT'))}",
            f"id > 0 AND (events_0.type = INPUT OR id = {choice.randrange(9)})",
            "id > 0 AND events_0.type = INPUT AND events_1.type = OUTPUT",
        )
    )
    try:
        return replace(listing, where=compile_filter(text, kind))
    except errors.InvalidArgumentError:
        return None


def positions_of_puts(
    store: eventstore.MetadataStore, generator: Generator, calls: int
) -> Iterator[int]:
    """Make random calls; the log's position after each that is not refused."""
    for _ in range(calls):
        rpc, request = generator.next_call()
        try:
            generator.learn(rpc, request, store._engine.call(rpc, request))
        except errors.StatusError:
            continue
        yield store.log_position()


@pytest.mark.share(2)
@pytest.mark.parametrize(("seed", "store"), _SEEDS, indirect=["store"])
def test_every_plan_gives_the_same_rows(store: eventstore.MetadataStore, seed: int) -> None:
    choice = random.Random(seed)
    generator = Generator(choice)
    engine = store._engine
    planner = limited_planner(
        engine.projections,
        nodes_max=choice.choice((4, 2_000)),
        neighbours_max=choice.choice((2, 20_000)),
        at_once=choice.choice((1, 2, 64)),
        first_ids=choice.choice((3, 6, 32_768)),
        first_share=choice.choice((1, 2)),
    )
    # Of their own, so that the planner's are not always up to date.
    tables = Tables(engine.log, None)
    found, plans = 0, Counter[str]()
    for position in positions_of_puts(store, generator, 80):
        for kind in KINDS * 5:
            as_of = choice.choice((position, position, max(1, position - choice.randrange(30))))
            listing = random_listing(choice, kind, engine.log.commit_end(as_of))
            if listing is None:
                continue
            plan = planner.plan(listing)
            try:
                rows, payloads = planner.find(listing)
            except errors.InvalidArgumentError:
                continue
            plans[sort_of(plan)] += 1
            if choice.random() < 0.1:
                engine.projections.opened_tables().fold(position)
            tables.fold(listing.as_of)
            assert rows == tables.scanned(listing), listing
            stored = engine.projections.index.newest_of_each(
                STORED_TABLES[kind], [node_id for node_id, _ in rows], listing.as_of
            )
            for node_id, _ in rows:
                assert payloads.get(node_id) in (None, stored[node_id][1])
            found += bool(rows)
    tables.close()
    assert found > 10
    assert plans["candidates"] > 10
    assert min(plans["folded"], plans["folds"], plans["laid over"] + plans["links laid over"]) > 3


def sort_of(plan: Plan) -> str:
    match plan:
        case Candidates():
            return "candidates"
        case Scan(fold_to=None, laid_over=laid_over, listing=listing) if laid_over:
            where = listing.where
            is_of_links = where is not None and where.neighbours is not None
            return "links laid over" if is_of_links else "laid over"
        case Scan(fold_to=None):
            return "folded"
    return "folds"


def test_nodes_that_were_put_behind_the_newest_known_records_are_not_missed(
    tmp_path: Path,
) -> None:
    log = DirectoryLog.create(tmp_path / "store")
    append(log, draft(1, name="one"))
    reader = Projections(DirectoryLog.open(log.directory, read_only=True))
    where = compile_filter("name LIKE '%e'", "artifact")

    def listed() -> list[int]:
        rows = list_ids(reader, "artifact", as_of=reader.catch_up(), where=where)
        return [node_id for node_id, _ in rows]

    assert listed() == [1]
    append(log, draft(2, name="twice"))
    assert listed() == [1, 2]
    for number in range(3, 3 + RECENT_RECORDS_MAX):
        append(log, draft(number, name="other"))
    append(log, draft(100, name="last one"))
    assert listed() == [1, 2, 100]
    append(log, draft(1, name="one", previous=1))
    assert listed() == [1, 2, 100]
    reader.close()
    log.close()


@pytest.mark.share(2)
@pytest.mark.parametrize(("seed", "store"), _SEEDS, indirect=["store"])
def test_held_values_of_properties_lead_to_the_same_rows(
    store: eventstore.MetadataStore, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = random.Random(seed)
    monkeypatch.setattr(held_values, "USES_MIN", 1)
    monkeypatch.setattr(held_values, "TOUCHED_MAX", choice.choice((0, 3, 1_000)))
    monkeypatch.setattr(held_values, "ROWS_MAX", choice.choice((12, 60, 1_000)))
    monkeypatch.setattr(held_values, "_NOTED_MAX", choice.choice((8, 1_000)))
    monkeypatch.setattr(held_values, "_NEW_SHARE_MAX", choice.choice((0.01, 0.25, 5)))
    generator = Generator(choice)
    engine, found, ways = store._engine, 0, 0
    planner = limited_planner(
        engine.projections,
        at_once=choice.choice((1, 2, 64)),
        neighbours_max=choice.choice((1, 256)),
        nodes_max=choice.choice((4, 2_000)),
        sorted_max=choice.choice((5, 2_000)),
    )
    for position in positions_of_puts(store, generator, 60):
        for kind in KINDS * 3:
            nodes = getattr(store, f"get_{kind}s")()
            as_of = choice.choice((position, position, max(1, position - choice.randrange(30))))
            listing = Listing(
                NODE_KINDS[kind],
                engine.log.commit_end(as_of),
                order_by=choice.choice(("id", "id", "id", "create_time")),
                descending=choice.random() < 0.3,
                limit=choice.choice((None, 1, 3, 20)),
                after=choice.choice((None, None, (2, 2), (5, 5))),
                where=compile_filter(random_equality(choice, kind, nodes), kind),
            )
            rows = planner.find(listing).rows
            plan = planner.plan(listing)
            ways += isinstance(plan, Candidates) and "held" in plan.reason
            tables = engine.projections.opened_tables()
            tables.fold(listing.as_of)
            expected = tables.scanned(listing)
            assert rows == expected, listing
            found += bool(rows)
    assert ways > 30
    assert found > 5


def random_equality(choice: random.Random, kind: str, nodes: Sequence[Any]) -> str:
    """A filter that asks for values of a property, mostly ones that nodes have, or for more."""
    borne = [
        (map_name, name, value)
        for node in nodes
        for map_name in ("properties", "custom_properties")
        for name, value in getattr(node, map_name).items()
        if name and value.WhichOneof("value") in ("int_value", "double_value", "string_value")
    ]
    if not borne or choice.random() < 0.1:
        asked = "custom_properties.c_int.int_value IN (0, 1, 1.0)"
    else:
        map_name, name, value = choice.choice(borne)
        member = value.WhichOneof("value")
        some = {repr(getattr(value, member))}
        some |= {repr(getattr(v, member)) for *_, v in borne if v.HasField(member)}
        listed = ", ".join(choice.sample(sorted(some), choice.randrange(1, len(some) + 1)))
        asked = f"{map_name}.`{name}`.{member} IN ({listed})"
        if choice.random() < 0.5:
            sign = choice.choice(("=", "=", *SIGNS))
            asked = f"{map_name}.`{name}`.{member} {sign} {getattr(value, member)!r}"
        elif member != "string_value" and choice.random() < 0.3:
            ends = sorted(choice.choices(sorted(some, key=float), k=2), key=float)
            asked = f"{map_name}.`{name}`.{member} BETWEEN {ends[0]} AND {ends[1]}"
        if kind != "context" and choice.random() < 0.3:
            return f"{asked} AND events_e.type {choice.choice(('=', '!='))} INPUT"
    beside = ["", "", " AND id > 2", " AND type != 'T1'"]
    if kind != "context":
        beside += [" AND events_e.type = INPUT", " AND events_e.type != OUTPUT"]
    return asked + choice.choice(beside)


def test_held_doubles_compare_as_in_sql(
    store: eventstore.MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_values, "USES_MIN", 1)
    doubles = [1.5, math.nan, 0.0, -0.0, math.inf, -math.inf, -2.0, math.nan, 1.5, 0.0, 5e-324]
    doubles += [2.0**53, 2.0**53 + 2]
    large = 2**53 + 1
    (type_id,) = [store.put_artifact_type(mlmd.ArtifactType(name="T"))]
    (run_type,) = [store.put_execution_type(mlmd.ExecutionType(name="R"))]
    nodes = [mlmd.Artifact(type_id=type_id) for _ in doubles * 2]
    for node, double in zip(nodes, doubles * 2, strict=True):
        node.custom_properties["x"].double_value = double
    (run,) = store.put_executions([mlmd.Execution(type_id=run_type)])
    store.put_events(
        [
            mlmd.Event(artifact_id=id_, execution_id=run, type=mlmd.Event.INPUT)
            for id_ in store.put_artifacts(nodes)
        ]
    )
    projected, position = store._engine.projections, store.log_position()
    asked = [
        f"{sign} {literal}"
        for sign in ("=", *SIGNS)
        for literal in ("0.0", "-0.0", "1.5", "1", "2", "5e-324", "1e308", f"{2**53}", f"{large}.0")
    ]
    asked += ["BETWEEN -2 AND 0.0", "BETWEEN 1 AND 1e308", "BETWEEN 2 AND 1"]
    for beside, condition in product(("", " AND events_0.type = INPUT"), asked):
        text = f"custom_properties.x.double_value {condition}{beside}"
        listing = Listing(
            NODE_KINDS["artifact"], position, limit=50, where=compile_filter(text, "artifact")
        )
        rows = projected.planner.find(listing).rows
        plan = projected.planner.plan(listing)
        assert isinstance(plan, Candidates)
        assert "held" in plan.reason
        assert rows == projected.opened_tables().scanned(listing), text


def test_numbers_of_two_kinds_compare_as_in_sql(
    store: eventstore.MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An integer is compared with a double as a double, whichever of them is held."""
    monkeypatch.setattr(held_values, "USES_MIN", 1)
    type_id = store.put_artifact_type(mlmd.ArtifactType(name="T"))
    nodes = [mlmd.Artifact(type_id=type_id) for _ in range(6)]
    for number, node in enumerate(nodes, 2**53 - 2):
        node.custom_properties["n"].int_value = number
        node.custom_properties["x"].double_value = float(number)
    store.put_artifacts(nodes)
    projected, position = store._engine.projections, store.log_position()
    literals = (f"{2**53}", f"{2**53 + 1}", f"{2**53}.0", f"{2**53 + 1}.0", f"{2**63}", "1.5")
    for name, sign, literal in product(("n.int", "x.double"), ("=", *SIGNS), literals):
        where = compile_filter(f"custom_properties.{name}_value {sign} {literal}", "artifact")
        listing = Listing(NODE_KINDS["artifact"], position, where=where)
        rows = projected.planner.find(listing).rows
        assert rows == projected.opened_tables().scanned(listing), (name, sign, literal)


def test_values_that_are_asked_for_in_turns_are_not_read_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(held_values, "ROWS_MAX", 25)
    read = Mock(wraps=held_values._read_part)
    monkeypatch.setattr(held_values, "_read_part", read)
    store = memory_store()
    type_id = store.put_artifact_type(mlmd.ArtifactType(name="T"))
    nodes = [mlmd.Artifact(type_id=type_id) for _ in range(10)]
    for node in nodes:
        for name in ("a", "b", "c"):
            node.custom_properties[name].int_value = 1
    store.put_artifacts(nodes)

    def ask(name: str) -> None:
        query = f"custom_properties.{name}.int_value = 1"
        assert len(store.get_artifacts(ListOptions(filter_query=query))) == 10

    for _ in range(20):
        for name in ("a", "b", "c"):
            ask(name)
    assert read.call_count == 2
    for _ in range(30):
        ask("c")
    assert read.call_count == 3
