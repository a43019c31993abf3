"""`store.run` as a decorator: which callables it records, when their runs end, what they read."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import eventstore
from eventstore import errors
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.recording import Run
from tests.coroutines import run_apart


def _put(store: eventstore.MetadataStore, number: int) -> list[mlmd.Artifact]:
    with store.run("Ingest", capture=False) as run:
        return [run.output("Dataset", uri=str(n)) for n in range(number)]


def _only(store: eventstore.MetadataStore) -> mlmd.Execution:
    (execution,) = store.get_executions_by_type("T")
    return execution


def _places(store: eventstore.MetadataStore, execution_id: int) -> dict[int, list[str | int]]:
    events = store.get_events_by_execution_ids([execution_id])
    return {
        event.artifact_id: [
            step.key if step.HasField("key") else step.index for step in event.path.steps
        ]
        for event in events
    }


def _wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*arguments: Any) -> Any:
        return function(*arguments)

    return wrapper


class _Later:
    """A callable object whose call is a coroutine."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    async def __call__(self) -> Any:
        return await self._function()


class _Awaitable:
    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __await__(self) -> Any:
        return self._function().__await__()


@pytest.mark.parametrize(
    "hidden",
    [
        _wrapped,
        _Later,
        functools.partial,
        lambda function: lambda: function(),
        lambda function: lambda: asyncio.ensure_future(function()),
        lambda function: lambda: _Awaitable(function),
    ],
)
@pytest.mark.parametrize("fails", [False, True])
def test_the_run_of_an_awaitable_ends_when_it_is_awaited(
    store: eventstore.MetadataStore, hidden: Callable[..., Any], fails: bool
) -> None:
    async def train() -> int:
        await asyncio.sleep(0)
        assert _only(store).last_known_state == mlmd.Execution.RUNNING
        if fails:
            raise KeyError("lost")
        return 7

    async def main() -> None:
        begun = store.run("T", capture=False)(hidden(train))()
        if fails:
            with pytest.raises(KeyError, match="lost"):
                await begun
        else:
            assert await begun == 7

    run_apart(main())
    ended_as = mlmd.Execution.FAILED if fails else mlmd.Execution.COMPLETE
    assert _only(store).last_known_state == ended_as


def _generator(number: int = 1) -> Iterator[int]:
    yield number


async def _generator_later(number: int = 1) -> Any:
    yield number


class _Generating:
    def __call__(self) -> Any:
        yield 1


async def _answers_a_generator() -> Any:
    return _generator()


@pytest.mark.parametrize(
    "function",
    [_wrapped(_generator), _wrapped(_generator_later), lambda: (n for n in [1]), _Generating()],
)
def test_what_answers_a_generator_fails(
    store: eventstore.MetadataStore, function: Callable[..., Any]
) -> None:
    recorded = store.run("T", capture=False)(function)
    with pytest.raises(errors.InvalidArgumentError, match="generator"):
        recorded()
    assert _only(store).last_known_state == mlmd.Execution.FAILED


def test_a_coroutine_that_answers_a_generator_fails(store: eventstore.MetadataStore) -> None:
    for function in (_answers_a_generator, lambda: _answers_a_generator()):
        with pytest.raises(errors.InvalidArgumentError, match="generator"):
            run_apart(store.run("T", capture=False)(function)())
    assert {run.last_known_state for run in store.get_executions()} == {mlmd.Execution.FAILED}


@pytest.mark.parametrize("generator", [_generator, _generator_later])
def test_a_generator_is_refused_before_it_is_called(
    store: eventstore.MetadataStore, generator: Any
) -> None:
    for function in (generator, functools.partial(generator, 1), staticmethod(generator)):
        with pytest.raises(errors.InvalidArgumentError, match=r"_generator.*is, or answers"):
            store.run("T")(function)
    assert not store.get_executions()


def test_the_type_is_asked_for_where_the_decorator_stands(store: eventstore.MetadataStore) -> None:
    bare: Any = store.run
    for function in (_put, print, functools.partial(_put), _Generating(), int):
        with pytest.raises(errors.InvalidArgumentError, match=r'`@store.run\("Type"\)`'):
            bare(function)


@pytest.mark.parametrize("function", [5, None, property(_put), "train"])
def test_what_is_no_function_is_refused(store: eventstore.MetadataStore, function: Any) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="cannot be called"):
        store.run("T")(function)


def test_methods_of_all_kinds_are_recorded(store: eventstore.MetadataStore) -> None:
    class Trainer:
        rate = 3

        @store.run("T", capture=False)
        @classmethod
        def of_class(cls, depth: int) -> int:
            return cls.rate + depth

        @store.run("T", capture=False)
        @staticmethod
        def static(depth: int) -> int:
            return depth

        @classmethod
        @store.run("T", capture=False)
        def below(cls, depth: int) -> int:
            return cls.rate + depth

        @store.run("T", capture=False)
        def method(self, depth: int) -> int:
            return self.rate + depth

    trainer = Trainer()
    assert [Trainer.of_class(1), Trainer.static(2), Trainer.below(3)] == [4, 2, 6]
    assert [trainer.of_class(4), trainer.static(5), trainer.method(6)] == [7, 5, 9]
    runs = store.get_executions_by_type("T")
    assert [run.properties["depth"].int_value for run in runs] == [1, 2, 3, 4, 5, 6]
    assert {tuple(run.properties) for run in runs} == {("depth",)}


def test_functions_that_do_not_say_what_they_take_are_recorded(
    store: eventstore.MetadataStore,
) -> None:
    assert store.run("T", capture=False)(max)(3, 4) == 4
    assert list(_only(store).properties["arguments"].struct_value["values"]) == [3, 4]


def test_artifacts_are_inputs_wherever_they_lie(store: eventstore.MetadataStore) -> None:
    @store.run("T", capture=False)
    def train(first: Any, *rest: Any, options: Any = None, **more: Any) -> None: ...

    a, b, c, d, e, f, g = _put(store, 7)
    options = {"data": {"test": c}, "pair": (0.5, d), "rate": 0.1, 3: e, "hook": print}
    train(a, "text", b, b"bytes", 2, options=options, other=f, blob=b"x", depth=3, nest=[[[g]]])
    execution = _only(store)
    assert _places(store, execution.id) == {
        a.id: ["first", 0],
        b.id: ["rest", 1],
        c.id: ["options", "data", "test"],
        d.id: ["options", "pair", 1],
        e.id: ["options", "3"],
        f.id: ["more", "other"],
        g.id: ["more", "nest", 0, 0, 0],
    }
    found = {name: dict(value.struct_value) for name, value in execution.properties.items()}
    assert set(found) == {"rest", "options", "more"}
    assert list(found["rest"]["values"]) == ["text", None, None, 2]
    assert set(found["options"]) == {"pair", "rate"}
    assert list(found["options"]["pair"]) == [0.5, None]
    assert found["more"] == {"depth": 3}


def test_what_cannot_be_recorded_leaves_the_rest(store: eventstore.MetadataStore) -> None:
    class Hostile:
        dtype = "x"

        def tolist(self) -> Any:
            raise RuntimeError("not on this device")

    @store.run("T", capture=False)
    def train(**options: Any) -> None: ...

    in_itself: list[Any] = [1, 2]
    in_itself[1] = in_itself
    train(a=1, b=Hostile(), c=in_itself, d={None: 1, "x": 2}, e=mlmd.Execution(), f=[object()])
    (found,) = _only(store).properties.values()
    struct = found.struct_value
    assert set(struct) == {"a", "c", "d"}
    assert list(struct["c"]) == [1, None]
    assert dict(struct["d"]) == {"x": 2}


def test_large_data_is_no_setting(store: eventstore.MetadataStore) -> None:
    @store.run("T", capture=False)
    def train(table: Any, text: str, rate: float) -> None: ...

    class Table:
        dtype, nbytes = "float64", 2**60

        def tolist(self) -> Any:
            raise AssertionError("it is too large for that")

    train(Table(), "x" * 2**27, 0.1)
    assert set(_only(store).properties) == {"rate"}


def test_an_artifact_under_several_names_bears_them_all(store: eventstore.MetadataStore) -> None:
    (data, other) = _put(store, 2)

    @store.run("T", inputs={"train": [other, data], "fixed": [data]}, capture=False)
    def train(train: Any, check: Any) -> None: ...

    train([data, data], data)
    execution = _only(store)
    assert _places(store, execution.id) == {
        data.id: ["train", 0, "train", 1, "check", 0, "train", 3, "fixed", 0],
        other.id: ["train", 2],
    }
    for name in ("train", "check", "fixed"):
        wanted = {"train": [data.id, other.id], "check": [data.id], "fixed": [data.id]}
        assert [r.execution.id for r in store.find_runs("T", inputs=wanted)] == [execution.id]
        assert not store.find_runs("T", inputs={**wanted, name: []})
    labels = {edge.label for edge in store.upstream("execution", execution.id).edges}
    assert {"INPUT train[0], train[1], check[0], train[3], fixed[0]", "INPUT train[2]"} <= labels


def test_a_name_that_an_input_gets_later_is_a_property(store: eventstore.MetadataStore) -> None:
    (data,) = _put(store, 1)
    with store.run("T", inputs={"train": data}, capture=False) as run:
        run.input(data, key="train")
        run.input(data, key="check")
        run.input(data.id, key="check")
    assert _places(store, run.id) == {data.id: ["train", 0]}
    further = run.execution.custom_properties["further_input_names"].struct_value
    assert {name: list(ids) for name, ids in further.items()} == {"check": [data.id]}


def test_inputs_that_can_be_read_once_serve_each_call(store: eventstore.MetadataStore) -> None:
    @store.run("T", inputs=iter(_put(store, 1)), capture=False)
    def train() -> None: ...

    train()
    train()
    runs = store.get_executions_by_type("T")
    assert [len(_places(store, run.id)) for run in runs] == [1, 1]


def test_a_run_that_is_given_by_position_is_not_given_twice(
    store: eventstore.MetadataStore,
) -> None:
    @store.run("T", capture=False)
    def train(rate: float, run: Any = None) -> Any:
        return run

    assert train(0.1, "mine") == "mine"
    assert isinstance(train(0.1), Run)

    @store.run("T", capture=False)
    def positional(*run: Any) -> Any:
        return run

    assert positional(1) == (1,)
