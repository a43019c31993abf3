"""State machine: what is erased is answered as erased, as of every position, by every way."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from eventstore.log import Commit, DirectoryLog, Draft, Position
from eventstore.log.compacting import Target
from eventstore.log.erased import Erased, Spans
from eventstore.log.kinds import ARTIFACT, ATTRIBUTION, CONTEXT, ERASURE, EXECUTION, NodeKind
from eventstore.projections import Projections
from eventstore.projections.filter import compile_filter
from eventstore.projections.index_tables import ARTIFACT_URIS, TABLES_OF, hash64
from eventstore.projections.judging import Candidates, judged, neighbours_in_index
from eventstore.projections.limits import IndexLimits, Limits
from eventstore.projections.listing import Listing
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import retention_pb2
from eventstore.store.snapshot import Snapshot

KINDS = (ARTIFACT, EXECUTION, CONTEXT)
TYPE_IDS = {ARTIFACT: 1, EXECUTION: 2, CONTEXT: 3}
NAMES, URIS, OWNERS = ("a", "b", "c"), ("", "u", "v"), ("eve", "bob")
SMALL = Limits(
    index=IndexLimits(
        tail_records_max=5, built_records_max=12, run_records_max=40, closing_records_min=2
    )
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(NAMES),
        "external_id": st.sampled_from(NAMES),
        "uri": st.sampled_from(URIS),
        "owner": st.sampled_from(OWNERS),
    },
)
_Holds = Callable[[Any, bool], bool]
FILTERS: dict[str, _Holds] = {
    "name = 'a'": lambda node, _: node.HasField("name") and node.name == "a",
    "name != 'a'": lambda node, _: node.HasField("name") and node.name != "a",
    "external_id = 'b'": lambda node, _: node.external_id == "b",
    "custom_properties.owner.string_value = 'eve'": lambda node, _: (
        node.custom_properties["owner"].string_value == "eve"
    ),
    "custom_properties.erased_by.int_value > 1": lambda node, _: (
        node.custom_properties["erased_by"].int_value > 1
    ),
    "create_time_since_epoch = 5": lambda node, is_erased: not is_erased,
    "last_update_time_since_epoch > 5": lambda node, is_erased: is_erased,
}
OF_ARTIFACTS: dict[str, _Holds] = {
    "uri = ''": lambda node, is_erased: not is_erased and node.uri == "",
    "uri = 'u' OR uri = 'v'": lambda node, _: node.uri in ("u", "v"),
}
REDACTED = st.sets(st.sampled_from(("name", "external_id", "uri", "owner")), min_size=1)


class Record:
    """A version of a node as it was put, and what erased it."""

    def __init__(self, kind: NodeKind, node: Any, recorded_ms: int) -> None:
        self.kind, self.node, self.recorded_ms = kind, node, recorded_ms
        self.erased_by = self.replaced_by = 0


# Named, since Hypothesis parses the source of a lambda, which CPython 3.11 does wrongly while
# garbage is collected.
def _has_nodes(machine: Any) -> bool:
    return bool(machine.nodes)


def _has_pending(machine: Any) -> bool:
    return bool(machine.pending)


class ErasedAnswers(RuleBasedStateMachine):
    @initialize()
    def set_up(self) -> None:
        self.directory = Path(tempfile.mkdtemp()) / "store"
        DirectoryLog.create(self.directory).close()
        self.records: dict[int, Record] = {}
        self.versions: dict[tuple[NodeKind, int], list[int]] = {}
        self.links: list[tuple[int, int, int]] = []
        self.pending: dict[int, list[int]] = {}
        self.erasures: dict[int, int] = {}
        """The position of the newest record of each."""
        self.moments: list[Position] = []
        self.log, self.projections = self.opened()
        self.others = [self.opened()]
        types = []
        for kind, type_id in TYPE_IDS.items():
            payload = kind.type.message(id=type_id, name="T").SerializeToString()
            types.append(Draft(kind.type.name, type_id, None, None, payload))
        self.append(types, True)

    def opened(self) -> tuple[DirectoryLog, Projections]:
        log = DirectoryLog.open(self.directory, segment_records_max=9)
        return log, Projections(log, SMALL)

    @property
    def nodes(self) -> list[tuple[NodeKind, int]]:
        return [*self.versions]

    def append(self, drafts: list[Draft], is_added: bool) -> Commit:
        commit = self.log.append(drafts, expected_position=self.log.position)
        if is_added:
            self.projections.add(commit)
        for record in commit.records:
            kind = next((kind for kind in KINDS if kind.name == record.kind), None)
            if kind is not None:
                node = kind.message.FromString(record.payload or b"")
                self.records[record.position] = Record(kind, node, commit.recorded_at // 1_000)
                self.versions.setdefault((kind, node.id), []).append(record.position)
        self.moments.append(Position(commit.last_position))
        return commit

    @rule(
        changes=st.lists(
            st.tuples(st.sampled_from(KINDS), FIELDS, st.integers(0, 99), st.booleans()),
            min_size=1,
            max_size=4,
        ),
        is_added=st.booleans(),
    )
    def put(self, changes: Any, is_added: bool) -> None:
        drafts: list[Draft] = []
        begun = self.log.position
        made: dict[NodeKind, int] = {}
        for kind, fields, which, is_update in changes:
            known = [node_id for of_kind, node_id in self.nodes if of_kind is kind]
            previous = None
            node = kind.message(type_id=TYPE_IDS[kind])
            if is_update and known:
                node.id = known[which % len(known)]
                previous = self.versions[kind, node.id][-1]
                if self.records[previous].erased_by or any(
                    (draft.kind, draft.entity_id) == (kind.name, node.id) for draft in drafts
                ):
                    continue
                fields = dict(fields)
                if kind is not CONTEXT:
                    # Their names never change.
                    before = self.records[previous].node
                    fields.pop("name", None)
                    if before.HasField("name"):
                        fields["name"] = before.name
            else:
                made[kind] = node.id = made.get(kind, len(known)) + 1
            self.fill(kind, node, fields)
            payload = node.SerializeToString(deterministic=True)
            drafts.append(Draft(kind.name, node.id, TYPE_IDS[kind], previous, payload))
        if drafts:
            self.append(drafts, is_added)
        assert self.log.position == begun + len(drafts)

    def fill(self, kind: NodeKind, node: Any, fields: dict[str, str]) -> None:
        node.create_time_since_epoch = node.last_update_time_since_epoch = 5
        for field, value in fields.items():
            if field == "owner":
                node.custom_properties["owner"].string_value = value
            elif field != "uri" or kind is ARTIFACT:
                setattr(node, field, value)

    @precondition(_has_nodes)
    @rule(which=st.integers(0, 99), context=st.integers(0, 99))
    def link(self, which: int, context: int) -> None:
        artifacts = [node_id for kind, node_id in self.nodes if kind is ARTIFACT]
        contexts = [node_id for kind, node_id in self.nodes if kind is CONTEXT]
        if artifacts and contexts:
            artifact_id = artifacts[which % len(artifacts)]
            context_id = contexts[context % len(contexts)]
            link = mlmd.Attribution(context_id=context_id, artifact_id=artifact_id)
            payload, link_id = link.SerializeToString(), len(self.links) + 1
            self.append([Draft(ATTRIBUTION.name, link_id, None, None, payload)], True)
            self.links.append((self.log.position, context_id, artifact_id))

    def request(self, positions: list[int], replacements: list[Draft], redact: Any) -> None:
        number, at = len(self.erasures) + 1, self.log.position + 1
        ranges = [
            retention_pb2.ErasedRange(
                first_position=position,
                last_position=position,
                content=True,
                redacted_properties=sorted(redact),
                replaced_by=at + offset + 1 if replacements else 0,
            )
            for offset, position in enumerate(positions)
        ]
        erasure = retention_pb2.Erasure(
            id=number, stage=retention_pb2.Erasure.REQUESTED, ranges=ranges
        )
        payload = erasure.SerializeToString(deterministic=True)
        drafts = [Draft(ERASURE.name, number, None, None, payload), *replacements]
        self.append(drafts, len(self.records) % 2 == 0)
        for range_ in ranges:
            record = self.records[range_.first_position]
            record.erased_by, record.replaced_by = number, range_.replaced_by
        self.pending[number], self.erasures[number] = positions, at

    @precondition(_has_nodes)
    @rule(which=st.integers(0, 99), version=st.none() | st.integers(0, 9))
    def erase(self, which: int, version: int | None) -> None:
        positions = self.versions[self.nodes[which % len(self.nodes)]]
        if version is not None:
            positions = [positions[version % len(positions)]]
        self.request(list(positions), [], ())

    @precondition(_has_nodes)
    @rule(which=st.integers(0, 99), redact=REDACTED)
    def redact(self, which: int, redact: set[str]) -> None:
        kind, node_id = self.nodes[which % len(self.nodes)]
        positions = [p for p in self.versions[kind, node_id] if not self.records[p].erased_by]
        if not positions or positions[-1] != self.versions[kind, node_id][-1]:
            return
        drafts = []
        previous = positions[-1]
        for offset, position in enumerate(positions):
            node = kind.message()
            node.CopyFrom(self.records[position].node)
            for field in redact:
                if field == "owner":
                    node.custom_properties.pop("owner", None)
                elif field != "uri" or kind is ARTIFACT:
                    node.ClearField(field)
            payload = node.SerializeToString(deterministic=True)
            drafts.append(Draft(kind.name, node_id, TYPE_IDS[kind], previous, payload))
            previous = self.log.position + 2 + offset
        self.request(positions, drafts, redact)

    @precondition(_has_pending)
    @rule(which=st.integers(0, 99))
    def complete(self, which: int) -> None:
        number = [*self.pending][which % len(self.pending)]
        positions = self.pending.pop(number)
        self.log.destroy(Erased(content=Spans.of((position, position) for position in positions)))
        erasure = retention_pb2.Erasure(id=number, stage=retention_pb2.Erasure.COMPLETED)
        payload = erasure.SerializeToString(deterministic=True)
        previous = self.erasures[number]
        self.append([Draft(ERASURE.name, number, None, previous, payload)], number % 2 == 0)
        self.erasures[number] = self.log.position

    @rule()
    def seal(self) -> None:
        self.log.seal()

    @rule(records=st.sampled_from((20, 1_000)))
    def compact(self, records: int) -> None:
        self.log.compact(Target(records))

    @rule(is_cleared=st.booleans())
    def reopen(self, is_cleared: bool) -> None:
        self.projections.close()
        self.log.close()
        folder = self.directory / "projections"
        if is_cleared and folder.exists():
            shutil.rmtree(folder)
        self.log, self.projections = self.opened()

    @rule()
    def open_another(self) -> None:
        for log, projections in self.others[:-1]:
            projections.close()
            log.close()
        self.others = [*self.others[-1:], self.opened()]

    @rule()
    def scrub(self) -> None:
        self.projections.scrub()

    @rule()
    def rebuild(self) -> None:
        self.projections.rebuild()

    @precondition(_has_nodes)
    @rule(
        kind=st.sampled_from(KINDS),
        text=st.sampled_from([*FILTERS, *OF_ARTIFACTS, "contexts_a.name = 'a'"]),
        moment=st.integers(0, 99),
        is_other=st.booleans(),
    )
    def list_by_filter(self, kind: NodeKind, text: str, moment: int, is_other: bool) -> None:
        if text not in FILTERS and kind is not ARTIFACT:
            return
        projections = self.others[-1][1] if is_other else self.projections
        projections.catch_up()
        as_of = self.moments[moment % len(self.moments)]
        listing = Listing(kind, as_of, where=compile_filter(text, kind.name))
        wanted = [n.id for n in self.current(kind, as_of) if self.holds(text, n, as_of)]
        planner, index = projections.planner, projections.index
        scanned = planner._scanned(listing, planner._scan(listing, ""))
        neighbours_of = neighbours_in_index(index, listing, 1_000)
        of_all = Candidates("", 0, range(1, 100), 1_000, 64, neighbours_of)
        for found in planner.find(listing), scanned, judged(index, listing, of_all):
            assert [node_id for node_id, _ in found.rows] == wanted
        parts = projections.all_nodes(kind, as_of=as_of, type_id=TYPE_IDS[kind])
        nodes = [kind.message.FromString(payload.as_py()) for part in parts for payload in part]
        assert nodes == self.current(kind, as_of)

    def holds(self, text: str, node: Any, as_of: int) -> bool:
        if text in FILTERS or text in OF_ARTIFACTS:
            found = type(node)()
            # A look-up adds what is missing.
            found.CopyFrom(node)
            return (FILTERS | OF_ARTIFACTS)[text](found, "erased_by" in node.custom_properties)
        named = {n.id for n in self.current(CONTEXT, as_of) if n.HasField("name") and n.name == "a"}
        return any(
            position <= as_of and context_id in named and artifact_id == node.id
            for position, context_id, artifact_id in self.links
        )

    def answer(self, position: int) -> Any:
        """What the model answers for a version."""
        record, last = self.records[position], self.records[position]
        while last.replaced_by and last.erased_by:
            last = self.records[last.replaced_by]
        if not last.erased_by:
            return last.node
        node = record.kind.message(id=record.node.id, type_id=record.node.type_id)
        node.create_time_since_epoch = node.last_update_time_since_epoch = record.recorded_ms
        node.type = "T"
        node.custom_properties["erased_by"].int_value = last.erased_by
        return node

    def current(self, kind: NodeKind, as_of: int) -> list[Any]:
        found = []
        for (of_kind, _), positions in self.versions.items():
            upto = [position for position in positions if position <= as_of]
            if of_kind is kind and upto:
                found.append(self.answer(upto[-1]))
        return sorted(found, key=lambda node: int(node.id))

    @invariant()
    def answers_as_the_model(self) -> None:
        if not self.moments:
            return
        log, projections = self.others[-1]
        assert self.projections.catch_up() == self.log.position
        assert projections.catch_up() == log.position
        # The newest and, in turn, others.
        turn = len(self.moments) * 7 % len(self.moments)
        for as_of in {self.moments[-1], self.moments[turn], self.moments[len(self.moments) // 2]}:
            for each in (self.projections, projections):
                if as_of <= each.index.position:
                    self.check(Snapshot(each, as_of))

    def check(self, snapshot: Snapshot) -> None:
        as_of, index = snapshot.position, snapshot.index
        for kind in KINDS:
            tables, nodes = TABLES_OF[kind], self.current(kind, as_of)
            ids = [node.id for node in nodes]
            assert [*index.keys(tables.stored, as_of)] == ids
            found = snapshot.newest_of_each(tables.stored, ids)
            for node in nodes:
                versions = [p for p in self.versions[kind, node.id] if p <= as_of]
                assert kind.message.FromString(snapshot.node_payload(kind, node.id) or b"") == node
                assert kind.message.FromString(found[node.id][1]) == node
                entries = snapshot.entries(tables.stored, node.id)
                assert [position for position, _ in entries] == versions
                for position, payload in entries:
                    assert kind.message.FromString(payload) == self.answer(position)
            for text in NAMES:
                named = [node.id for node in nodes if node.HasField("name") and node.name == text]
                by_name = snapshot.node_id_by_name(kind, TYPE_IDS[kind], text)
                assert by_name == min(named, default=None)
                bearing = [n.id for n in nodes if n.HasField("external_id")]
                bearing = [n.id for n in nodes if n.id in bearing and n.external_id == text]
                assert snapshot.id_by_external_id(kind, text) == min(bearing, default=None)
        for uri in URIS[1:]:
            ids = snapshot.linked_ids(ARTIFACT_URIS, hash64(uri))
            artifacts = [
                mlmd.Artifact.FromString(snapshot.node_payload(ARTIFACT, i) or b"") for i in ids
            ]
            wanted = [n.id for n in self.current(ARTIFACT, as_of) if n.uri == uri]
            assert [node.id for node in artifacts if node.uri == uri] == wanted

    def teardown(self) -> None:
        if hasattr(self, "projections"):
            for log, projections in [(self.log, self.projections), *self.others]:
                projections.close()
                log.close()
            shutil.rmtree(self.directory.parent)


def test_what_is_erased_is_answered_as_erased() -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        ErasedAnswers,
        settings=settings(max_examples=12, stateful_step_count=25, deadline=None),
    )
