"""State machine: whatever is put, sealed, reopened or thrown away, the answers are the model's."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import eventstore
from eventstore import errors
from eventstore.log import DirectoryLog
from eventstore.metadata_store.metadata_store import MetadataStore
from eventstore.projections import Projections
from eventstore.projections.limits import IndexLimits, Limits
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.store import Engine
from eventstore.store.attribution import Attribution
from tests.builders import put_types
from tests.property.model import Model, dump, expected
from tests.shares import is_whole

URIS = ["", "s3://a", "s3://ä"]
NAMES = ["one", "two", "three"]
VALUES = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(max_size=5),
    st.booleans(),
)


def _set_value(value: mlmd.Value, content: Any) -> None:
    if isinstance(content, bool):
        value.bool_value = content
    elif isinstance(content, int):
        value.int_value = content
    elif isinstance(content, float):
        value.double_value = content
    else:
        value.string_value = content


# Named, since Hypothesis parses the source of a lambda, which CPython 3.11 does wrongly while
# garbage is collected.
def _has_artifacts(machine: Any) -> bool:
    return bool(machine.model.artifacts)


def _has_contexts(machine: Any) -> bool:
    return bool(machine.model.contexts)


def _has_two_contexts(machine: Any) -> bool:
    return len(machine.model.contexts) > 1


def _has_past(machine: Any) -> bool:
    return bool(machine.past)


SMALL = Limits(index=IndexLimits(tail_records_max=9, closing_records_min=3))


class StoreAgainstModel(RuleBasedStateMachine):
    @initialize()
    def set_up(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.directory = self.folder / "store"
        DirectoryLog.create(self.directory).close()
        self.open()
        self.other: MetadataStore | None = None
        self.type_ids = put_types(self.store)
        self.types = self.read_types(self.store)
        self.model = Model()
        self.past: list[tuple[int, Model]] = []

    def open(self) -> None:
        # Tiny segments and runs, so that short programs rotate, seal, flush and merge.
        log = DirectoryLog.open(self.directory, segment_records_max=7)
        engine = Engine(log, Projections(log, SMALL), Attribution(actor="tester"))
        engine.ensure_system_types()
        self.store = MetadataStore._of(engine)

    @staticmethod
    def read_types(store: Any) -> Any:
        return store.get_artifact_types(), store.get_execution_types(), store.get_context_types()

    def teardown(self) -> None:
        if hasattr(self, "store"):
            assert self.store.verify().ok
            self.store.close()
            if self.other is not None:
                self.other.close()
            shutil.rmtree(self.folder)

    def committed(self) -> None:
        self.past.append((self.store.log_position(), self.model.snapshot()))

    @rule(
        uri=st.sampled_from(URIS),
        name=st.none() | st.sampled_from(NAMES),
        properties=st.dictionaries(st.text(max_size=3), VALUES, max_size=3),
    )
    def put_artifact(self, uri: str, name: str | None, properties: dict[str, Any]) -> None:
        artifact = mlmd.Artifact(type_id=self.type_ids[0], uri=uri, name=name)
        for key, content in properties.items():
            _set_value(artifact.custom_properties[key], content)
        taken = any(a.HasField("name") and a.name == name for a in self.model.artifacts.values())
        if name is not None and taken:
            before = self.store.log_position()
            with pytest.raises(errors.AlreadyExistsError):
                self.store.put_artifacts([mlmd.Artifact(type_id=self.type_ids[0]), artifact])
            assert self.store.log_position() == before
            return
        (node_id,) = self.store.put_artifacts([artifact])
        assert node_id == max(self.model.artifacts, default=0) + 1
        self.remember(self.model.artifacts, artifact, node_id, self.store.get_artifacts_by_id)

    @rule(name=st.none() | st.sampled_from(NAMES), context=st.none() | st.sampled_from(NAMES))
    def put_execution(self, name: str | None, context: str | None) -> None:
        taken = any(e.HasField("name") and e.name == name for e in self.model.executions.values())
        execution = mlmd.Execution(type_id=self.type_ids[1], name=None if taken else name)
        pairs = [
            (None, mlmd.Event(type=mlmd.Event.INPUT, artifact_id=artifact_id))
            for artifact_id in list(self.model.artifacts)[:2]
        ]
        contexts = []
        if context is not None:
            contexts = [mlmd.Context(type_id=self.type_ids[2], name=context)]
        execution_id, artifact_ids, context_ids = self.store.put_execution(
            execution, pairs, contexts, reuse_context_if_already_exist=True
        )
        assert execution_id == max(self.model.executions, default=0) + 1
        for context_id in context_ids:
            if context_id not in self.model.contexts:
                (self.model.contexts[context_id],) = self.store.get_contexts_by_id([context_id])
            self.model.associations.add((context_id, execution_id))
            self.model.attributions.update((context_id, node_id) for node_id in artifact_ids)
        self.model.events += self.store.get_events_by_execution_ids([execution_id])
        assert [e.artifact_id for e in self.store.get_events_by_execution_ids([execution_id])] == (
            artifact_ids
        )
        self.remember(
            self.model.executions, execution, execution_id, self.store.get_executions_by_id
        )

    @precondition(_has_artifacts)
    @rule(data=st.data(), uri=st.sampled_from(URIS), content=VALUES)
    def update_artifact(self, data: st.DataObject, uri: str, content: Any) -> None:
        node_id = data.draw(st.sampled_from(sorted(self.model.artifacts)))
        artifact = mlmd.Artifact()
        artifact.CopyFrom(self.model.artifacts[node_id])
        artifact.uri = uri
        _set_value(artifact.custom_properties["changed"], content)
        changes = artifact != self.model.artifacts[node_id]
        before = self.store.log_position()
        self.store.put_artifacts([artifact])
        assert (self.store.log_position() > before) == changes
        (after,) = self.store.get_artifacts_by_id([node_id])
        assert after.last_update_time_since_epoch >= artifact.last_update_time_since_epoch
        artifact.last_update_time_since_epoch = after.last_update_time_since_epoch
        assert after == artifact
        self.model.artifacts[node_id] = after
        self.committed()

    @precondition(_has_contexts)
    @rule(data=st.data(), name=st.sampled_from(NAMES))
    def rename_context(self, data: st.DataObject, name: str) -> None:
        node_id = data.draw(st.sampled_from(sorted(self.model.contexts)))
        context = mlmd.Context()
        context.CopyFrom(self.model.contexts[node_id])
        if any(c.name == name and i != node_id for i, c in self.model.contexts.items()):
            context.name = name
            with pytest.raises(errors.AlreadyExistsError):
                self.store.put_contexts([context])
            return
        context.name = name
        self.store.put_contexts([context])
        (self.model.contexts[node_id],) = self.store.get_contexts_by_id([node_id])
        assert self.model.contexts[node_id].name == name
        self.committed()

    @precondition(_has_two_contexts)
    @rule()
    def put_parent(self) -> None:
        child, parent = max(self.model.contexts), min(self.model.contexts)
        link = mlmd.ParentContext(child_id=child, parent_id=parent)
        if (child, parent) in self.model.parents:
            with pytest.raises(errors.AlreadyExistsError):
                self.store.put_parent_contexts([link])
            return
        self.store.put_parent_contexts([link])
        back = mlmd.ParentContext(child_id=parent, parent_id=child)
        with pytest.raises(errors.InvalidArgumentError, match="cycle"):
            self.store.put_parent_contexts([back])
        self.model.parents.add((child, parent))
        self.committed()

    @rule()
    def seal(self) -> None:
        self.store.seal()

    @rule()
    def compact(self) -> None:
        self.store.compact(target_records=1_000)

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.open()

    @rule()
    def reopen_without_projections(self) -> None:
        self.store.close()
        if self.other is not None:
            self.other.close()
            self.other = None
        shutil.rmtree(self.directory / "projections", ignore_errors=True)
        self.open()

    @rule()
    def look_from_another_handle(self) -> None:
        if self.other is None:
            self.other = eventstore.open(self.directory, read_only=True)
        assert self.dumped(self.other) == self.wanted(self.model)

    @precondition(_has_past)
    @rule(data=st.data())
    def look_back(self, data: st.DataObject) -> None:
        position, model = data.draw(st.sampled_from(self.past))
        assert self.dumped(self.store.as_of(position)) == self.wanted(model)

    @invariant()
    def answers_are_the_models(self) -> None:
        if hasattr(self, "model"):
            assert self.dumped(self.store) == self.wanted(self.model)

    def dumped(self, store: Any) -> dict[str, Any]:
        return dump(store, URIS, NAMES)

    def wanted(self, model: Model) -> dict[str, Any]:
        return expected(model, URIS, NAMES, self.types)

    def remember(self, nodes: dict[int, Any], given: Any, node_id: int, get: Any) -> None:
        """Take the stored node into the model, after comparing it with what was put."""
        (stored,) = get([node_id])
        wanted = type(given)()
        wanted.CopyFrom(given)
        wanted.id = node_id
        wanted.type = stored.type
        wanted.create_time_since_epoch = stored.create_time_since_epoch
        wanted.last_update_time_since_epoch = stored.create_time_since_epoch
        assert stored == wanted
        nodes[node_id] = stored
        self.committed()


class TestStoreAgainstModel(StoreAgainstModel.TestCase):  # type: ignore[misc]
    settings = settings(
        stateful_step_count=25, max_examples=settings().max_examples // (2 if is_whole() else 3)
    )
