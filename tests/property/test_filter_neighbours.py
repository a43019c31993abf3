"""Filters on several neighbours: looking for each by itself finds what a join of all finds."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventstore
from eventstore.projections.filter import FilterSql, compile_filter, compiler
from eventstore.projections.filter.lexing import lex
from eventstore.projections.filter.rows import Rows
from eventstore.projections.listing import Listing
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import NODE_KINDS, memory_store

_ATOMS = {
    "artifact": (
        "events_0.type = INPUT", "events_0.milliseconds_since_epoch > 2", "events_1.type = OUTPUT",
        "events_1.milliseconds_since_epoch IN (1, 3)", "events_1.execution_id = id",
        "contexts_a.name = 'c1'", "contexts_a.type LIKE 'T%'", "contexts_b.id > 2",
        "events_0.execution_id < events_1.execution_id", "contexts_a.id = contexts_b.id",
        "contexts_b.name = name", "id < 4", "name = 'n3'", "type = 'T'",
        "properties.i.int_value > 1", "contexts_a.create_time_since_epoch IS NULL",
        "events_0.type < properties.i.int_value", "custom_properties.s.string_value = 'a'",
        "COALESCE(events_0.type = INPUT, contexts_b.id = 1)",
        "CASE WHEN events_0.type > 3 THEN contexts_a.id = 1 ELSE events_1.type > 3 END",
    ),
    "execution": (
        "events_0.type = INPUT", "events_1.artifact_id = 2", "contexts_a.type = 'T'",
        "contexts_b.name = 'c2'", "name != 'n1'", "events_0.artifact_id = id",
    ),
    "context": (
        "artifacts_a.uri = 'u1'", "artifacts_b.state = LIVE", "executions_a.name = 'n1'",
        "parent_contexts_p.name = 'c1'", "child_contexts_c.id > 2",
        "artifacts_a.id = executions_a.id",
        "executions_a.last_known_state IS NULL", "id > 1", "parent_contexts_p.type = type",
    ),
}  # fmt: skip


def _filters(kind: str) -> st.SearchStrategy[str]:
    atoms = st.sampled_from(_ATOMS[kind])
    tests = st.sampled_from(("TRUE", "NOT TRUE", "FALSE", "NOT FALSE", "NULL", "NOT NULL"))

    def composed(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        joined = st.tuples(
            st.sampled_from((" AND ", " OR ")), st.lists(parts, min_size=2, max_size=3)
        )
        return st.one_of(
            joined.map(lambda some: f"({some[0].join(some[1])})"),
            parts.map(lambda part: f"(NOT {part})"),
            st.tuples(parts, tests).map(lambda some: f"(({some[0]}) IS {some[1]})"),
        )

    return st.recursive(atoms, composed, max_leaves=7)


@pytest.fixture(scope="module")
def store() -> Iterator[eventstore.MetadataStore]:
    choice = random.Random(7)
    with closing(memory_store()) as store:
        artifact_type = mlmd.ArtifactType(name="T", properties={"i": mlmd.INT})
        type_ids = (
            store.put_artifact_type(artifact_type),
            store.put_execution_type(mlmd.ExecutionType(name="T")),
            store.put_context_type(mlmd.ContextType(name="T")),
            store.put_context_type(mlmd.ContextType(name="U")),
        )
        artifacts = [
            mlmd.Artifact(type_id=type_ids[0], name=f"n{i}", uri=f"u{i % 3}") for i in range(8)
        ]
        for number, artifact in enumerate(artifacts):
            if number % 4:
                artifact.properties["i"].int_value = number % 5
            if number % 3:
                artifact.custom_properties["s"].string_value = "ab"[number % 2]
            artifact.state = number % 5
        artifact_ids = store.put_artifacts(artifacts)
        executions = [mlmd.Execution(type_id=type_ids[1], name=f"n{i}") for i in range(6)]
        execution_ids = store.put_executions(executions)
        contexts = [mlmd.Context(type_id=type_ids[2 + i % 2], name=f"c{i}") for i in range(4)]
        contexts[3].name = "n3"
        context_ids = store.put_contexts(contexts)
        events = {
            (choice.choice(artifact_ids), choice.choice(execution_ids), choice.randrange(1, 6))
            for _ in range(16)
        }
        store.put_events(
            [
                mlmd.Event(artifact_id=a, execution_id=e, type=t, milliseconds_since_epoch=a % 4)
                for a, e, t in sorted(events)
            ]
        )
        attributed = {(choice.choice(artifact_ids), choice.choice(context_ids)) for _ in range(9)}
        associated = {(choice.choice(execution_ids), choice.choice(context_ids)) for _ in range(7)}
        store.put_attributions_and_associations(
            [mlmd.Attribution(artifact_id=a, context_id=c) for a, c in sorted(attributed)],
            [mlmd.Association(execution_id=e, context_id=c) for e, c in sorted(associated)],
        )
        pairs = ((2, 1), (3, 1), (3, 2), (4, 3))
        store.put_parent_contexts([mlmd.ParentContext(child_id=c, parent_id=p) for c, p in pairs])
        yield store


def _joining_all(text: str, kind: str) -> FilterSql:
    """The filter as one condition on a join of all that it names."""
    lexed = lex(text)
    compiled = compiler.Compiler(kind, {alias.lower(): alias for alias in lexed.aliases.values()})
    root = Rows(compiled, tuple(lexed.tokens)).read()
    shape = compiled.with_parameters(FilterSql(root.sql, compiled.joins_but(()), {}))
    values = {name: compiler._value(v, lexed.values) for name, v in shape.parameters.items()}
    return replace(shape, parameters=values)


@given(
    kind_and_text=st.sampled_from(sorted(_ATOMS)).flatmap(
        lambda k: st.tuples(st.just(k), _filters(k))
    )
)
def test_neighbours_apart_are_those_of_a_join(
    store: eventstore.MetadataStore, kind_and_text: tuple[str, str]
) -> None:
    kind, text = kind_and_text
    engine = store._engine
    position, tables = engine.log.position, engine.projections.opened_tables()
    tables.fold(position)
    listings = [
        Listing(NODE_KINDS[kind], position - before, where=where)
        for before in (0, 3)
        for where in (compile_filter(text, kind), _joining_all(text, kind))
    ]
    answers = [tables.scanned(listing) for listing in listings]
    assert answers[0] == answers[1]
    assert answers[2] == answers[3]
