"""The examples in docstrings run, and give what they say."""

from __future__ import annotations

import doctest
import pkgutil
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import eventstore

_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
_NOT_IMPORTED = ("eventstore.proto", "eventstore.startup", "eventstore.__main__")


def _examples() -> Iterator[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    for module in pkgutil.walk_packages(eventstore.__path__, "eventstore."):
        if not module.name.startswith(_NOT_IMPORTED):
            found = finder.find(import_module(module.name), module.name)
            yield from (test for test in found if test.examples)


EXAMPLES = {test.name: test for test in _examples()}


@pytest.fixture
def names(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What the examples take for granted: a store with a dataset and a model made from it."""
    with eventstore.open(tmp_path / "store", actor="ana") as store:
        with store.run("Ingest", capture=False) as run:
            dataset = run.output("Dataset", uri="s3://sales", name="sales", rows=18_250)
        with store.run("Trainer", inputs=[dataset], capture=False) as run:
            model = run.output("Model", uri="s3://models/churn", name="churn", accuracy=0.93)
        yield {"eventstore": eventstore, "store": store, "dataset": dataset, "model": model}


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_gives_what_it_says(
    name: str, names: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # One of the examples puts this project in the place of ml_metadata.
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    modules = set(sys.modules)
    test = EXAMPLES[name]
    test.globs = names
    said: list[str] = []
    result = doctest.DocTestRunner(optionflags=_FLAGS).run(test, out=said.append)
    for module in set(sys.modules) - modules:
        if module.startswith("ml_metadata"):
            del sys.modules[module]
    assert result.failed == 0, "".join(said)
    assert all(example.options.get(doctest.SKIP) is None for example in test.examples)


def test_the_examples_are_found() -> None:
    for method in ("as_of", "run", "acting", "history", "lineage", "sql", "follow"):
        assert any(name.endswith(f".{method}") for name in EXAMPLES), method
