"""A point index that names what it does not have: each caller is told what to do about it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import eventstore
from eventstore import errors
from eventstore.log.kinds import ARTIFACT, CONTEXT
from eventstore.metadata_store.options import ListOptions
from eventstore.projections.index_tables import TABLES_OF
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import memory_store

Asking = Callable[[eventstore.MetadataStore], object]

TYPE_ID = 10


def filtered(query: str) -> Asking:
    return lambda store: store.get_artifacts(ListOptions(filter_query=query))


@pytest.mark.parametrize(
    ("table", "key", "lacking", "ask"),
    [
        (TABLES_OF[CONTEXT].stored, 1, "context 1", filtered("id = 1 AND contexts_a.name = 'c'")),
        (
            TABLES_OF[ARTIFACT].stored,
            1,
            "artifact 1",
            lambda s: s.get_artifact_by_type_and_name("T", "a"),
        ),
        (
            TABLES_OF[ARTIFACT.type].stored,
            TYPE_ID,
            "artifact type 10",
            filtered("id = 1 AND type LIKE 'T%'"),
        ),
        (
            TABLES_OF[ARTIFACT.type].stored,
            TYPE_ID,
            "artifact type 10",
            lambda s: s.put_artifacts([mlmd.Artifact(id=1, uri="another")]),
        ),
    ],
)
def test_what_is_not_there_is_named(table: int, key: int, lacking: str, ask: Asking) -> None:
    with memory_store() as store:
        assert store.put_artifact_type(mlmd.ArtifactType(name="T")) == TYPE_ID
        context_type = store.put_context_type(mlmd.ContextType(name="C"))
        node = mlmd.Artifact(type_id=TYPE_ID, name="a")
        store.put_artifacts([node])
        store.put_contexts([mlmd.Context(type_id=context_type, name="c")])
        link = mlmd.Attribution(artifact_id=1, context_id=1)
        store.put_attributions_and_associations([link], [])
        del store._engine.projections.index._tail._tables[table][key]
        with pytest.raises(errors.DataLossError, match=f"{lacking} .*run `eventstore rebuild`"):
            ask(store)
