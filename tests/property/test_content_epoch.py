"""What was erased is in no answer: all that was folded from it is folded anew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.dataset
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import eventstore
from eventstore.log import Commit, DirectoryLog
from eventstore.log.columns import RECORD_SCHEMA, with_derived_columns
from eventstore.log.record import ARTIFACT
from eventstore.log.record_dataset import record_dataset
from eventstore.projections import Projections
from eventstore.projections.limits import IndexLimits, Limits
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.store import Engine

SMALL = Limits(IndexLimits(tail_records_max=3, closing_records_min=1, built_records_max=8))


def _left_of(kind: str, payload: bytes) -> bytes:
    """What stays of a payload that is erased: which artifact it is of."""
    assert kind == ARTIFACT
    node = mlmd.Artifact.FromString(payload)
    return mlmd.Artifact(id=node.id, type_id=node.type_id).SerializeToString()


class ErasableLog(DirectoryLog):
    """A log in a directory in which payloads can be erased, by all handles of a test at once."""

    erased: set[int]

    @property
    def content_epoch(self) -> int:  # type: ignore[override]
        return len(self.erased)

    def commits(self, after: int = 0, upto: int | None = None) -> Iterator[Commit]:
        for commit in super().commits(after, upto):
            records = [
                msgspec.structs.replace(record, payload=_left_of(record.kind, record.payload))
                if record.position in self.erased and record.payload is not None
                else record
                for record in commit.records
            ]
            yield msgspec.structs.replace(commit, records=tuple(records))

    def scan(
        self, after: int = 0, upto: int | None = None, columns: Sequence[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        for batch in super().scan(after, upto):
            rows = zip(
                *(batch[n].to_pylist() for n in ("position", "kind", "payload")), strict=True
            )
            payloads = [
                _left_of(kind, payload) if position in self.erased else payload
                for position, kind, payload in rows
            ]
            place = RECORD_SCHEMA.get_field_index("payload")
            field = RECORD_SCHEMA.field(place)
            whole = batch.set_column(place, field, pa.array(payloads, field.type))
            yield with_derived_columns(whole).select(columns or RECORD_SCHEMA.names)

    def dataset(self, upto: int, columns: Sequence[str]) -> pyarrow.dataset.Dataset:
        return record_dataset([self.scan(0, upto, columns)], columns)


class Program:
    """Stores over one log, as of several processes, and what was put and erased."""

    def __init__(self, directory: Path, erased: set[int]) -> None:
        ErasableLog.erased = erased
        self._directory = directory
        self._erased = erased
        ErasableLog.create(directory, segment_records_max=6).close()
        self.stores = [self.opened()]
        self.stores.append(self.opened(read_only=True))
        self.type_id = self.stores[0].put_artifact_type(mlmd.ArtifactType(name="T"))
        self.uris: dict[int, str] = {}
        """By position."""

    def opened(self, *, read_only: bool = False) -> eventstore.MetadataStore:
        log = ErasableLog.open(self._directory, read_only=read_only, segment_records_max=6)
        projections = Projections(log, read_only=read_only, limits=SMALL)
        engine = Engine(log, projections)
        if not read_only:
            engine.ensure_system_types()
        return eventstore.MetadataStore._of(engine)

    def put(self, count: int) -> None:
        first = self.stores[0].log_position() + 1
        nodes = []
        for position in range(first, first + count):
            node = mlmd.Artifact(
                type_id=self.type_id, name=f"n{position}", uri=f"secret {position}"
            )
            node.custom_properties["p"].string_value = f"secret {position}"
            nodes.append(node)
            self.uris[position] = node.uri
        self.stores[0].put_artifacts(nodes)

    def erase(self, which: int) -> None:
        if self.uris:
            self._erased.add([*self.uris][which % len(self.uris)])

    def reopen(self, which: int) -> None:
        self.stores[which].close()
        self.stores[which] = self.opened(read_only=which == 1)

    def check(self, store: eventstore.MetadataStore) -> None:
        kept = sorted(uri for p, uri in self.uris.items() if p not in self._erased)
        listed = store.get_artifacts()
        ids = [node.id for node in listed]
        assert len(ids) == len(self.uris)
        by_filter = eventstore.ListOptions(filter_query="uri LIKE 'secret%'")
        for found in (
            listed,
            store.get_artifacts_by_id(ids),
            store.get_artifacts_by_type("T"),
            [node for uri in self.uris.values() for node in store.get_artifacts_by_uri(uri)],
            store.get_artifacts(by_filter),
            [node for uri in self.uris.values() for node in self._by_property(store, uri)],
        ):
            assert sorted(node.uri for node in found if node.uri) == kept
            assert b"".join(node.SerializeToString() for node in found).count(b"secret") == 2 * len(
                kept
            )
        rows = store.sql("SELECT uri FROM artifacts").rows()
        assert sorted(uri for (uri,) in rows if uri) == kept
        if ids:
            then = store.as_of(store.log_position())
            assert sorted(n.uri for n in then.get_artifacts_by_id(ids) if n.uri) == kept

    @staticmethod
    def _by_property(store: eventstore.MetadataStore, text: str) -> list[mlmd.Artifact]:
        asked = f"custom_properties.p.string_value = '{text}'"
        return store.get_artifacts(eventstore.ListOptions(filter_query=asked))

    def close(self) -> None:
        for store in self.stores:
            store.close()


STEPS = st.one_of(
    st.tuples(st.just("put"), st.integers(1, 7)),
    st.tuples(st.just("erase"), st.integers(0, 20)),
    st.tuples(st.just("reopen"), st.integers(0, 1)),
    st.tuples(st.just("check"), st.integers(0, 1)),
)


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(STEPS, min_size=3, max_size=9))
def test_no_answer_has_what_was_erased(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    program = Program(tmp_path_factory.mktemp("epoch") / "store", set())
    for name, argument in steps:
        if name == "check":
            program.check(program.stores[argument])
        else:
            getattr(program, name)(argument)
    for store in program.stores:
        program.check(store)
    program.close()


def test_an_erasure_between_two_reads_is_seen_by_all(tmp_path: Path) -> None:
    program = Program(tmp_path / "store", set())
    program.put(7)
    program.put(7)
    program.stores[0].seal()
    then = program.stores[0].as_of(program.stores[0].log_position())
    for step in range(3):
        for store in program.stores:
            program.check(store)
        program.erase(5 * step)
        assert not program.stores[0].log.is_still_at(then.log_position(), step)
        assert not then.get_artifacts_by_id([5 * step + 1])[0].uri
    program.reopen(0)
    program.check(program.stores[0])
    program.close()
