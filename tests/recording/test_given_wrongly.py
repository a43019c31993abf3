"""Names, uris, types and properties that are none, and those that cannot be encoded."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import pytest

import eventstore
from eventstore import errors
from eventstore.proto import metadata_store_pb2 as mlmd


def _deep() -> Any:
    value: Any = []
    for _ in range(5_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda s, r: r.output("M", uri=5), "uri is text or a path, not int: 5"),
        (lambda s, r: r.output("M", name=5), "name is text, not int: 5"),
        (lambda s, r: r.output("M", key=5), "key is text, not int: 5"),
        (lambda s, r: r.output(5), "the type of an artifact is text, not int: 5"),
        (lambda s, r: r.output("M", properties=[1]), "properties maps names .* list"),
        (lambda s, r: r.input("M", uri=b"x"), "uri is text or a path, not bytes"),
        (lambda s, r: r.input("M", uri="x", properties="x"), "properties maps names .* str"),
        (lambda s, r: r.input(None), "None is neither an artifact nor an id"),
        (lambda s, r: r.input(True), "True is neither an artifact nor an id"),
        (lambda s, r: r.input(2**70), "is no id"),
        (lambda s, r: r.input(mlmd.Artifact(uri="u")), "'u' has no id"),
        (lambda s, r: r.record([1]), "properties maps names .* list"),
        (lambda s, r: s.run(5), "the type of an execution is text, not int: 5"),
        (lambda s, r: s.run("T", name=5), "name is text, not int: 5"),
        (lambda s, r: s.run("T", properties=[1]), "properties maps names .* list"),
        (lambda s, r: s.run("T", inputs=None), "inputs takes a list"),
        (lambda s, r: s.run("T", inputs=[_deep()]), "<list> is neither"),
        (lambda s, r: s.run("T", contexts={"P": _deep()}), "not <list>"),
        (lambda s, r: s.run("T", inputs={"a": None}), "None is neither an artifact nor an id"),
        (lambda s, r: s.run("T", inputs={1: [1]}), "the name of an input is text, not int: 1"),
        (lambda s, r: s.run("T", inputs=[2**70]).__enter__(), "is no id"),
        (lambda s, r: s.run("T", properties={"\udc80": 1, "\\udc80": 2}).__enter__(), "same text"),
    ],
)
def test_what_is_given_wrongly_is_named(
    store: eventstore.MetadataStore, call: Any, said: str
) -> None:
    with (
        store.run("Trainer", capture=False) as run,
        pytest.raises(errors.InvalidArgumentError, match=said),
    ):
        call(store, run)
    assert len(store.get_executions()) == 1
    assert not store.get_artifacts()


def test_a_path_is_a_uri(store: eventstore.MetadataStore) -> None:
    with store.run("Trainer", capture=False) as run:
        model = run.output("Model", uri=PurePosixPath("/m.pt"))
        assert run.input("Model", uri=PurePosixPath("/m.pt")).id == model.id
    assert model.uri == "/m.pt"


def test_texts_that_cannot_be_encoded_are_escaped(store: eventstore.MetadataStore) -> None:
    odd, said = "a\udc80", "a\\udc80"
    contexts: Any = {odd: odd}
    with store.run(
        odd, name=odd, contexts=contexts, inputs={odd: []}, properties={odd: odd}, capture=False
    ) as run:
        model = run.output(odd, uri=odd, name=odd, key=odd)
        assert run.input(odd, uri=odd, name=odd).id == model.id
    assert (model.type, model.uri, model.name) == (said, said, said)
    execution = run.execution
    assert (execution.type, execution.name) == (said, said)
    assert execution.properties[said].string_value == said
    (context,) = store.get_contexts()
    assert (context.type, context.name) == (said, said)
