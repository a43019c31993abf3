"""After any program of puts and erasures, a store answers as a plain model, as of every position.

And nothing that was erased is in its files, and all that was proved before is proved still.
"""

from __future__ import annotations

import contextlib
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

import eventstore
from eventstore import errors
from eventstore.audit import InclusionProof, SigningKey
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import memory_store, put_types
from tests.property.model import dump, expected
from tests.retention.model import KIND_OF, ErasureModel
from tests.stored_bytes import stored_bytes

NAMES, URIS = [f"n{n}" for n in range(6)], [f"s3://{n}" for n in range(3)]
MARKER = re.compile(rb"(?:owner|actor)-\d{4}")


class Program:
    """A store, random calls on it, and the model of what it answers."""

    def __init__(self, seed: int, directory: Path | None) -> None:
        self.random = random.Random(seed)
        self.directory = directory
        self.store = self.opened()
        self.other = None if directory is None else eventstore.open(directory)
        self.model = ErasureModel()
        self.heads: dict[int, bytes] = {}
        self.noted = 0
        self.numbers = iter(range(10_000))
        self.types = put_types(self.store)
        self.key = SigningKey.generate("ana@example.com")
        self.signed: list[tuple[Any, list[InclusionProof]]] = []
        self.learn(0)

    def opened(self) -> eventstore.MetadataStore:
        return memory_store() if self.directory is None else eventstore.open(self.directory)

    def learn(self, after: int) -> None:
        for commit in self.store.log.commits(after):
            self.model.learn(commit)
        self.note_heads()

    def note_heads(self) -> None:
        for commit in self.store.log.commits(self.noted):
            self.heads[commit.number] = commit.tree_head
            self.noted = commit.last_position

    def node(self, kind: str) -> Any:
        chosen = self.random.choice
        node = KIND_OF[kind].message(type_id=self.types[[*KIND_OF].index(kind)])
        if kind == "context" or self.random.random() < 0.7:
            node.name = chosen(NAMES)
        if self.random.random() < 0.3:
            node.external_id = f"x-{chosen(NAMES)}"
        if kind == "artifact":
            node.uri = chosen(URIS)
        node.custom_properties["owner"].string_value = f"owner-{next(self.numbers):04}"
        node.custom_properties["score"].int_value = self.random.randrange(3)
        return node

    def step(self) -> None:
        chosen = self.random.choices(
            (
                self.put,
                self.update,
                self.link,
                self.erase,
                self.redact,
                self.seal,
                self.reopen,
                self.sign,
            ),
            (8, 6, 4, 4, 3, 1, 1, 1),
        )[0]
        before = self.store.log_position()
        with self.store.acting(actor=f"actor-{next(self.numbers):04}", reason="r"):
            chosen()
        if chosen not in (self.erase, self.redact):
            self.learn(before)
        self.note_heads()

    def tried(self, put: Any, *arguments: Any) -> None:
        with contextlib.suppress(errors.AlreadyExistsError):
            put(*arguments)

    def put(self) -> None:
        kind = self.random.choice([*KIND_OF])
        nodes = [self.node(kind) for _ in range(self.random.choice((1, 1, 3)))]
        self.tried(getattr(self.store, f"put_{kind}s"), nodes)

    def some(self, count: int = 1) -> list[tuple[str, int]]:
        known = sorted(self.model.versions)
        return self.random.sample(known, min(count, len(known)))

    def update(self) -> None:
        for kind, node_id in self.some():
            given = self.node(kind)
            given.id = node_id
            (now,) = getattr(self.store, f"get_{kind}s_by_id")([node_id])
            if self.random.random() < 0.5 and "owner" in now.custom_properties:
                given.custom_properties["owner"].CopyFrom(now.custom_properties["owner"])
            if erased_by(now):
                with pytest.raises(errors.FailedPreconditionError, match="was erased by erasure"):
                    getattr(self.store, f"put_{kind}s")([given])
            else:
                self.tried(getattr(self.store, f"put_{kind}s"), [given])

    def link(self) -> None:
        ids = {kind: [i for of, i in sorted(self.model.versions) if of == kind] for kind in KIND_OF}
        if not all(ids.values()):
            return
        artifact, execution, context = (self.random.choice(ids[kind]) for kind in KIND_OF)
        self.tried(
            self.store.put_events,
            [mlmd.Event(artifact_id=artifact, execution_id=execution, type=mlmd.Event.INPUT)],
        )
        self.tried(
            self.store.put_attributions_and_associations,
            [mlmd.Attribution(artifact_id=artifact, context_id=context)],
            [mlmd.Association(execution_id=execution, context_id=context)],
        )

    def erase(self) -> None:
        entities, before = self.some(self.random.choice((1, 1, 3))), self.store.log_position()
        who, position = self.random.random() < 0.4, None
        if len(entities) == 1 and self.random.random() < 0.4:
            position = self.random.choice(self.model.versions[entities[0]]).position
            kind, node_id = entities[0]
            report = self.store.erase(kind, node_id, reason="GDPR-17", version=position, who=who)
        elif entities:
            report = self.store.erase_many(entities, reason="GDPR-17", who=who)
        else:
            return
        assert report.stage == ("completed" if report.number else "nothing to erase")
        if report.number is not None:
            self.model.erase(report.number, entities, position, who)
        self.note_whos(before)

    def note_whos(self, before: int) -> None:
        for commit in self.store.log.commits(before):
            for record in commit.records:
                self.model.who[record.position] = (record.actor, record.reason, record.request_id)

    def redact(self) -> None:
        entities, before = self.some(2), self.store.log_position()
        names = self.random.sample(["owner", "score", "uri", "name", "external_id"], 2)
        missing = self.model.missing(entities, names)
        if entities and missing:
            with pytest.raises(
                errors.NotFoundError, match=re.escape(", ".join(map(repr, missing)))
            ):
                self.store.erase_many(entities, reason="GDPR-17", redact=names)
            names = [name for name in names if name not in missing]
        if not entities or not names:
            return
        try:
            report = self.store.erase_many(entities, reason="GDPR-17", redact=names)
        except errors.FailedPreconditionError:
            # One has older versions than the erased one that have it.
            return
        if report.number is not None:
            commits = [*self.store.log.commits(before)]
            self.model.redact(report.number, entities, names, commits[0])
        self.note_whos(before)

    def seal(self) -> None:
        self.store.seal()

    def reopen(self) -> None:
        if self.directory is not None:
            self.store.close()
            self.store = self.opened()

    def sign(self) -> None:
        checkpoint = self.store.checkpoint(self.key)
        positions = self.random.sample(range(1, checkpoint.size + 1), min(3, checkpoint.size))
        self.signed.append((checkpoint, [self.store.prove(p, checkpoint) for p in positions]))

    # What must hold

    def assert_as_model(self, store: eventstore.MetadataStore, positions: list[int]) -> None:
        for position in positions:
            then = store.as_of(position)
            types = (
                then.get_artifact_types(),
                then.get_execution_types(),
                then.get_context_types(),
            )
            model = self.model.as_of(position)
            found = dump(then, URIS, NAMES)
            assert found == expected(model, URIS, NAMES, types), position

    def assert_filters(self, store: eventstore.MetadataStore, position: int) -> None:
        then, model = store.as_of(position), self.model.as_of(position)
        for number in range(1, 4):
            options = eventstore.ListOptions(
                filter_query=f"custom_properties.erased_by.int_value = {number}"
            )
            assert [node.id for node in then.get_artifacts(options)] == [
                node_id
                for node_id, node in sorted(model.artifacts.items())
                if erased_by(node) == number
            ], (position, number)
        for score in range(3):
            # A filter that asks for a property finds no node without it.
            query = f"custom_properties.score.int_value = {score} OR uri LIKE '%{score}'"
            options = eventstore.ListOptions(filter_query=query)
            assert [node.id for node in then.get_artifacts(options)] == [
                node_id
                for node_id, node in sorted(model.artifacts.items())
                if "score" in node.custom_properties
                and (
                    node.custom_properties["score"].int_value == score
                    or node.uri.endswith(str(score))
                )
            ], (position, score)

    def assert_sql(self, store: eventstore.MetadataStore, position: int) -> None:
        model, erasures = self.model.as_of(position), self.model.erasures_as_of(position)
        for kind in KIND_OF:
            rows = store.as_of(position).sql(
                "SELECT id, type, name, external_id, last_update_time_since_epoch, erased_by "
                f"FROM {kind}s ORDER BY id"
            )
            assert rows.rows() == [
                (
                    node_id,
                    node.type,
                    node.name if node.HasField("name") else None,
                    node.external_id if node.HasField("external_id") else None,
                    node.last_update_time_since_epoch,
                    erasures[kind, node_id],
                )
                for node_id, node in sorted(getattr(model, f"{kind}s").items())
            ], (kind, position)

    def assert_history(self, store: eventstore.MetadataStore) -> None:
        for (kind, node_id), versions in self.model.versions.items():
            told = store.history(kind, node_id)
            assert [version.position for version in told] == [v.position for v in versions]
            for version, known in zip(told, versions, strict=True):
                answer = self.model.answer(known)
                assert version.message == (None if erased_by(answer) else answer)
                assert any(mark.content for mark in version.erasures) == (not known.has_content)
                who = self.model.who_erased.get(known.position)
                assert [mark.number for mark in version.erasures if mark.who] == [who] * bool(who)
                assert (version.actor is None) == bool(who)

    def living(self) -> set[bytes]:
        """The markers that something still says."""
        found: set[bytes] = set()
        for versions in self.model.versions.values():
            for version in versions:
                owned = "owner" in version.message.custom_properties
                if version.has_content and owned:
                    found.add(version.message.custom_properties["owner"].string_value.encode())
        for position, (actor, _, _) in self.model.who.items():
            if actor is not None and position not in self.model.who_erased:
                found.add(actor.encode())
        return found

    def assert_destroyed(self) -> None:
        assert self.directory is not None
        living = self.living()
        for path in self.directory.rglob("*"):
            if path.is_file():
                assert {*MARKER.findall(stored_bytes(path))} <= living, path.name
        assert {*_in_tables(self.directory / "projections" / "tables.duckdb")} <= living

    def assert_proved(self) -> None:
        assert {c.number: c.tree_head for c in self.store.log.commits()} == self.heads
        for checkpoint, proofs in self.signed:
            for proof in proofs:
                again = self.store.prove(proof.record.position, checkpoint)
                assert again.path == proof.path
                InclusionProof.check(again.to_text(), self.key.verifier_key)
        last = self.store.checkpoint(self.key)
        for checkpoint, _ in self.signed:
            self.store.prove_consistency(checkpoint, last)
        assert self.store.verify(checkpoints=[checkpoint for checkpoint, _ in self.signed]).ok


def erased_by(node: Any) -> int | None:
    """The number that a tombstone has. A look into a map of a message would add to it."""
    has_it = "erased_by" in node.custom_properties
    return node.custom_properties["erased_by"].int_value if has_it else None


def _in_tables(path: Path) -> Iterator[bytes]:
    """The markers in the tables, which DuckDB may have compressed."""
    with duckdb.connect(str(path), read_only=True) as connection:
        for (table,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall():
            for row in connection.execute(f'FROM "{table}"').fetchall():
                yield from MARKER.findall(repr(row).encode())


@pytest.mark.parametrize("seed", range(3))
def test_any_program(tmp_path: Path, seed: int) -> None:
    run(seed, tmp_path / "store" if seed % 3 else None)


def run(seed: int, directory: Path | None) -> None:
    program = Program(seed, directory)
    for number in range(45):
        program.step()
        if number in (15, 30):
            program.assert_as_model(program.store, program.model.ends[-3:])
            # Folds the tables before what comes is erased.
            program.assert_sql(program.store, program.model.ends[-1])
    store, ends = program.store, program.model.ends
    some = program.random.sample(ends, 4)
    program.assert_as_model(store, program.random.sample(ends, 15))
    for position in some:
        program.assert_filters(store, position)
        program.assert_sql(store, position)
    program.assert_history(store)
    program.assert_proved()
    if program.other is not None:
        program.assert_as_model(program.other, some)
        program.assert_sql(program.other, some[0])
        program.other.close()
    if directory is None:
        return
    store.rebuild()
    program.assert_as_model(store, some)
    program.assert_sql(store, some[0])
    program.assert_filters(store, some[1])
    store.close()
    program.assert_destroyed()
    shutil.rmtree(directory / "projections")
    with eventstore.open(directory) as again:
        program.assert_as_model(again, some)
        program.assert_history(again)
        program.assert_sql(again, some[0])
