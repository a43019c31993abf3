"""What holds and rules keep from being erased, now and as records come."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

import eventstore
from eventstore import MetadataStore, errors
from eventstore.log import DirectoryLog, directory, file_clock
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.retention import scopes
from eventstore.retention.choosing import chosen_versions
from eventstore.retention.planning import Wanted
from eventstore.retention.precedence import ChosenVersion, approval_demanded, refusals
from eventstore.times import Microseconds
from tests.builders import open_with

DAY = timedelta(days=1)


class Shop:
    """A store with data -> train -> model -> serve -> report, and a dataset that nobody uses."""

    def __init__(self, store: MetadataStore) -> None:
        self.store = store
        artifact_type = mlmd.ArtifactType(name="Data")
        artifact_type.properties["owner"] = mlmd.STRING
        self.type_id = store.put_artifact_type(artifact_type)
        self.run_type_id = store.put_execution_type(mlmd.ExecutionType(name="Run"))
        self.context_type_id = store.put_context_type(mlmd.ContextType(name="Project"))
        self.data, self.model, self.report, self.unused = store.put_artifacts(
            [self.artifact(name) for name in ("data", "model", "report", "unused")]
        )
        self.train, self.serve = store.put_executions(
            [mlmd.Execution(type_id=self.run_type_id, name=name) for name in ("train", "serve")]
        )
        self.project, self.other = store.put_contexts(
            [mlmd.Context(type_id=self.context_type_id, name=name) for name in ("p", "o")]
        )
        event = mlmd.Event
        store.put_events(
            [
                event(artifact_id=self.data, execution_id=self.train, type=event.INPUT),
                event(artifact_id=self.model, execution_id=self.train, type=event.OUTPUT),
                event(artifact_id=self.model, execution_id=self.serve, type=event.INPUT),
                event(artifact_id=self.report, execution_id=self.serve, type=event.OUTPUT),
            ]
        )
        store.put_attributions_and_associations(
            [mlmd.Attribution(artifact_id=self.model, context_id=self.project)], []
        )

    def artifact(self, name: str, **fields: Any) -> mlmd.Artifact:
        artifact = mlmd.Artifact(type_id=self.type_id, name=name, **fields)
        artifact.properties["owner"].string_value = "ana"
        return artifact

    def versions(self, kind: str, entity_id: int) -> list[ChosenVersion]:
        wanted, engine = Wanted(basis="TEST", who=True), self.store._engine
        is_node = kind in ("artifact", "execution", "context")
        wanted = msgspec.structs.replace(wanted, content=is_node)
        return chosen_versions(engine.log, engine.snapshot(), [(kind, entity_id)], wanted)

    def refusing(self, kind: str, entity_id: int) -> list[tuple[str, int]]:
        """By what the versions of an entity are kept."""
        engine = self.store._engine
        found = refusals(engine.log, engine.snapshot(), self.versions(kind, entity_id))
        return [(refusal.by, refusal.number) for refusal in found]

    def kept(self) -> set[tuple[str, int]]:
        """The nodes of which anything is kept."""
        nodes = [
            *(("artifact", artifact.id) for artifact in self.store.get_artifacts()),
            *(("execution", execution.id) for execution in self.store.get_executions()),
            *(("context", context.id) for context in self.store.get_contexts()),
        ]
        return {node for node in nodes if self.refusing(*node)}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with eventstore.open(tmp_path / "store", actor="ana") as store:
        yield Shop(store)


def test_a_hold_covers_what_led_to_it(shop: Shop) -> None:
    assert shop.kept() == set()
    number = shop.store.place_hold(entities=[("artifact", shop.model)], basis="CASE-1")
    held = {("artifact", shop.model), ("execution", shop.train), ("artifact", shop.data)}
    assert shop.kept() == held
    shop.store.release_hold(number, ticket="CASE-1-END")
    assert shop.kept() == set()


@pytest.mark.parametrize("seal", [False, True])
def test_a_hold_covers_links_and_types(shop: Shop, seal: bool) -> None:
    shop.store.place_hold(entities=[("artifact", shop.data)], basis="CASE-1")
    if seal:
        shop.store.seal()
    assert shop.refusing("artifact_type", shop.type_id) == [("hold", 1)]
    assert shop.refusing("execution_type", shop.run_type_id) == []
    assert [shop.refusing("event", number) for number in (1, 2, 3, 4)] == [
        [("hold", 1)],
        [],
        [],
        [],
    ]
    assert shop.refusing("attribution", 1) == []


def test_a_hold_of_a_context_covers_what_comes_into_it(shop: Shop) -> None:
    shop.store.place_hold(context_ids=[shop.other], basis="CASE-1")
    assert shop.kept() == {("context", shop.other)}
    shop.store.put_attributions_and_associations(
        [mlmd.Attribution(artifact_id=shop.unused, context_id=shop.other)], []
    )
    assert shop.kept() == {("context", shop.other), ("artifact", shop.unused)}


def test_what_a_filter_found_once_stays_held(shop: Shop) -> None:
    shop.store.place_hold(filter_query="uri = 's3://evidence'", basis="CASE-1")
    assert shop.kept() == set()
    (artifact,) = shop.store.get_artifacts_by_id([shop.unused])
    artifact.uri = "s3://evidence"
    shop.store.put_artifacts([artifact])
    assert shop.kept() == {("artifact", shop.unused)}
    artifact.uri = "s3://nothing"
    shop.store.put_artifacts([artifact])
    assert shop.kept() == {("artifact", shop.unused)}


def test_what_a_filter_found_at_first_stays_held_when_its_context_is_renamed(shop: Shop) -> None:
    shop.store.place_hold(filter_query="contexts_c.name = 'q'", basis="CASE-1")
    (context,) = shop.store.get_contexts_by_id([shop.project])
    for name in ("q", "p"):
        context.name = name
        shop.store.put_contexts([context])
    assert ("artifact", shop.model) in shop.kept()


def test_what_leads_to_a_node_that_a_filter_found_once_stays_held(shop: Shop) -> None:
    shop.store.place_hold(filter_query="uri = 's3://evidence'", basis="CASE-1")
    (artifact,) = shop.store.get_artifacts_by_id([shop.model])
    for uri in ("s3://evidence", "s3://nothing"):
        artifact.uri = uri
        shop.store.put_artifacts([artifact])
    assert shop.kept() == {
        ("artifact", shop.model),
        ("execution", shop.train),
        ("artifact", shop.data),
    }


@pytest.mark.parametrize("guard", ["hold", "lock", "approval"])
def test_a_context_by_which_a_filter_finds_nodes_is_kept_with_them(shop: Shop, guard: str) -> None:
    store, asked = shop.store, {"filter_query": "contexts_c.name = 'p'"}
    if guard == "hold":
        store.place_hold(**asked, basis="CASE-1")
    elif guard == "lock":
        store.set_retention_rule(**asked, keep_at_least=DAY, basis="AI-ACT-18")
    else:
        store.set_retention_rule(**asked, needs_approval=True, basis="FOUR-EYES")
    for redact in (None, ["name"]):
        if guard == "approval":
            assert (
                store.erase("context", shop.project, reason="R", redact=redact).stage == "proposed"
            )
            continue
        with pytest.raises(errors.FailedPreconditionError, match=f"context {shop.project}"):
            store.erase("context", shop.project, reason="R", redact=redact)
    assert store.erase("context", shop.other, reason="R").stage == "completed"


def test_a_version_by_which_a_filter_locks_a_later_one_is_kept_with_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = shop.store
    store.set_retention_rule(
        filter_query="name = 'unused' AND uri = ''", keep_at_least=DAY, basis="AI-ACT-18"
    )
    (artifact,) = store.get_artifacts_by_id([shop.unused])
    artifact.uri = "s3://elsewhere"
    store.put_artifacts([artifact])
    first, second = shop.versions("artifact", shop.unused)
    log, day = store._engine.log, DAY // timedelta(microseconds=1)
    for now, locked in (
        (log.recorded_at(first.position) + day, 2),
        (log.recorded_at(second.position) + day, 0),
    ):
        monkeypatch.setattr(DirectoryLog, "now", lambda _, now=now: Microseconds(now))
        assert len(shop.refusing("artifact", shop.unused)) == locked


def test_one_clock_alone_is_not_believed(shop: Shop, tmp_path: Path) -> None:
    shop.store.set_retention_rule(keep_at_least=DAY, basis="AI-ACT-18")
    shop.store.close()
    shutil.rmtree(tmp_path / "store" / "projections", ignore_errors=True)
    (tmp_path / "store" / "projections").write_text("")
    with (
        eventstore.open(tmp_path / "store") as store,
        pytest.raises(errors.StatusError, match="asking for the time"),
    ):
        store.erase("artifact", shop.data, reason="R")


def test_a_lock_ends_by_age_alone(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.store.set_retention_rule(kinds=["artifact"], keep_at_least=DAY, basis="AI-ACT-18")
    assert {kind for kind, _ in shop.kept()} == {"artifact"}
    recorded_at = shop.store._engine.log.recorded_at(
        shop.versions("artifact", shop.data)[0].position
    )
    at = Microseconds(recorded_at + DAY // timedelta(microseconds=1))
    for now, kept in ((at - 1, [("lock", 1)]), (at, [])):
        monkeypatch.setattr(DirectoryLog, "now", lambda _, now=now: Microseconds(now))
        assert shop.refusing("artifact", shop.data) == kept


def test_the_clock_of_one_process_moved_on_frees_nothing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.store.set_retention_rule(keep_at_least=DAY, basis="AI-ACT-18")
    moved = Microseconds(file_clock.now_in_microseconds() + 10 * (DAY // timedelta(microseconds=1)))
    monkeypatch.setattr(file_clock, "now_in_microseconds", lambda: moved)
    assert shop.refusing("artifact", shop.data) == [("lock", 1)]


def test_a_rule_that_is_replaced_or_withdrawn_still_locks_what_it_locked(shop: Shop) -> None:
    store = shop.store
    number = store.set_retention_rule(type_ids=[shop.type_id], keep_at_least=DAY, basis="AI-ACT-18")
    with pytest.raises(errors.FailedPreconditionError, match="lock only ever lengthens"):
        store.set_retention_rule(
            type_ids=[shop.type_id], keep_at_least=DAY / 2, basis="X", number=number
        )
    # About something else now, and longer: what was locked stays so.
    store.set_retention_rule(
        entities=[("context", shop.other)], keep_at_least=2 * DAY, basis="X", number=number
    )
    locked = {("artifact", id_) for id_ in (shop.data, shop.model, shop.report, shop.unused)}
    assert shop.kept() == {*locked, ("context", shop.other)}
    store.withdraw_retention_rule(number, ticket="T-1")
    assert shop.kept() == {*locked, ("context", shop.other)}
    (later,) = store.put_artifacts([shop.artifact("later")])
    assert ("artifact", later) not in shop.kept()
    with pytest.raises(errors.FailedPreconditionError, match="was withdrawn at position"):
        store.withdraw_retention_rule(number, ticket="T-2")


def test_a_hold_is_named_before_a_lock(shop: Shop) -> None:
    shop.store.set_retention_rule(keep_at_least=DAY, basis="AI-ACT-18")
    shop.store.place_hold(entities=[("artifact", shop.data)], basis="CASE-1", ticket="T-9")
    engine = shop.store._engine
    chosen = shop.versions("artifact", shop.data)
    (refusal,) = refusals(engine.log, engine.snapshot(), chosen)
    assert (refusal.by, refusal.number) == ("hold", 1)
    assert str(refusal) == (
        f"artifact {shop.data} at position {chosen[0].position} is held by hold 1 (CASE-1, T-9, "
        f"recorded at position {refusal.recorded_at_position})"
    )


def test_a_second_person_releases_a_hold(shop: Shop) -> None:
    store = shop.store
    number = store.place_hold(
        entities=[("artifact", shop.data)], basis="CASE-1", needs_approval=True
    )
    assert store.release_hold(number, ticket="T-1").stage == "release proposed"
    proposed_at = store.log_position()
    (refusal,) = store.erase("artifact", shop.data, reason="R", dry_run=True).refused
    assert (refusal.recorded_at_position, refusal.release_proposed_at) == (
        proposed_at - 1,
        proposed_at,
    )
    assert str(refusal).endswith(
        f"(CASE-1, recorded at position {proposed_at - 1}; its release is proposed at position "
        f"{proposed_at})"
    )
    with pytest.raises(errors.FailedPreconditionError, match="'ana' proposed it"):
        store.release_hold(number, ticket="T-1")
    with store.acting(actor="bo"):
        with pytest.raises(errors.FailedPreconditionError, match=r"'T-1', .* 'T-2' is another"):
            store.release_hold(number, ticket="T-2")
        assert store.log_position() == proposed_at
        assert store.release_hold(number, ticket="T-1").release_ticket == "T-1"
    assert not shop.kept()
    with pytest.raises(errors.FailedPreconditionError, match="was released before"):
        store.release_hold(number, ticket="T-3")
    assert [hold.stage for hold in store.holds()] == ["released"]


def test_a_rule_asks_for_a_second_person_for_good(shop: Shop) -> None:
    store, engine = shop.store, shop.store._engine
    chosen = shop.versions("artifact", shop.data)
    assert approval_demanded(engine.snapshot(), chosen) is None
    number = store.set_retention_rule(kinds=["artifact"], needs_approval=True, basis="FOUR-EYES")
    with pytest.raises(errors.FailedPreconditionError, match="stays so"):
        store.set_retention_rule(keep_at_least=DAY, basis="X", number=number)
    store.withdraw_retention_rule(number, ticket="T-1")
    demanded = approval_demanded(engine.snapshot(), chosen)
    assert demanded is not None
    assert demanded.message.id == number
    assert approval_demanded(engine.snapshot(), shop.versions("context", 1)) is None


def with_types(shop: Shop, scope: dict[str, Any]) -> dict[str, Any]:
    """A scope with the ids of the shop's types in place of their names."""
    ids = {"DATA": shop.type_id, "RUN": shop.run_type_id, "PROJECT": shop.context_type_id}
    made = dict(scope)
    if "type_ids" in made:
        made["type_ids"] = [ids.get(given, given) for given in made["type_ids"]]
    if isinstance(made.get("entities"), list):
        made["entities"] = [(kind, ids.get(given, given)) for kind, given in made["entities"]]
    return made


@pytest.mark.parametrize(
    "scope",
    [
        {"kinds": ["artifact"], "type_ids": ["DATA"], "context_ids": [1], "filter_query": "id = 1"},
        {"kinds": ["artifact_type"], "type_ids": ["DATA"]},
        {"kinds": ["context"], "context_ids": [1], "type_ids": ["PROJECT"]},
        {"kinds": ["parent_context"], "context_ids": [1]},
        {"entities": [("artifact", 1), ("event", 1)], "filter_query": "uri = 'x'"},
        {"entities": [("attribution", 1)], "context_ids": [1, 2]},
        # It may come into that context yet.
        {"entities": [("artifact", 4)], "context_ids": [2], "type_ids": ["DATA"]},
        {"entities": [("artifact_type", "DATA")], "type_ids": ["DATA", "RUN"]},
    ],
)
def test_a_scope_that_something_can_be_in_is_taken(shop: Shop, scope: dict[str, Any]) -> None:
    assert shop.store.place_hold(**with_types(shop, scope), basis="CASE-1") == 1


@pytest.mark.parametrize(
    ("scope", "said"),
    [
        ({"kinds": ["artefact"]}, "no kind of entity"),
        ({"kinds": ["hold"]}, "no kind of entity"),
        ({"type_ids": [99]}, "no type with id 99"),
        ({"context_ids": [-1]}, "no context with id -1"),
        ({"context_ids": [2**70]}, "no context with id"),
        ({"entities": [("artifact", 99)]}, "no artifact with id 99"),
        ({"entities": [("event", 5)]}, "no event with id 5"),
        ({"entities": "artifact"}, "give a list"),
        ({"entities": [("artifact", "1")]}, "the scope is none"),
        ({"filter_query": "nonsense ="}, "filter"),
        ({"filter_query": "uri = 'x'", "kinds": ["context"]}, "uri"),
        ({"filter_query": "uri = 'x'", "kinds": ["event"]}, "the kinds .*'event'.* and the filter"),
        ({"kinds": ["execution"], "entities": [("artifact", 1)]}, "the kinds .* the entities"),
        ({"kinds": ["artifact_type"], "filter_query": "id = 1"}, "the kinds .* and the filter"),
        ({"kinds": ["context"], "type_ids": ["DATA"]}, "the kinds .* the types"),
        (
            {"kinds": ["event", "artifact_type"], "context_ids": [1]},
            "the kinds .* the contexts",
        ),
        (
            {"type_ids": ["DATA"], "filter_query": "last_known_state = COMPLETE"},
            "the types .* and the filter",
        ),
        ({"type_ids": ["RUN"], "entities": [("artifact", 1)]}, "the types .* the entities"),
        ({"type_ids": ["RUN"], "entities": [("event", 1)]}, "the types .* the entities"),
        (
            {"type_ids": ["RUN"], "entities": [("artifact_type", "DATA")]},
            "the types .* the entities",
        ),
        ({"context_ids": [1], "entities": [("context", 2)]}, "the contexts .* the entities"),
        ({"context_ids": [1], "entities": [("event", 1)]}, "the contexts .* the entities"),
        (
            {"context_ids": [2], "entities": [("attribution", 1)]},
            "the contexts .* the entities",
        ),
        ({"entities": [("event", 1)], "filter_query": "id = 1"}, "the entities .* and the filter"),
        (
            {"kinds": ["artifact_type"], "type_ids": ["DATA"], "context_ids": [1]},
            "the kinds .* the contexts",
        ),
        (
            {
                "kinds": ["artifact"],
                "type_ids": ["DATA", "RUN"],
                "entities": [("artifact_type", "DATA"), ("execution", 1)],
            },
            "the kinds .* the entities",
        ),
        (
            {
                "kinds": ["artifact", "execution"],
                "entities": [("artifact", 1), ("event", 1)],
                "type_ids": ["RUN"],
            },
            "the types .* the entities",
        ),
        (
            {
                "kinds": ["attribution"],
                "context_ids": [2],
                "entities": [("attribution", 1), ("artifact", 1)],
            },
            "the kinds .*, the contexts .* the entities",
        ),
    ],
)
def test_a_scope_that_nothing_can_be_in_is_refused(
    shop: Shop, scope: dict[str, Any], said: str
) -> None:
    before = shop.store.log_position()
    scope = with_types(shop, scope)
    with pytest.raises(errors.InvalidArgumentError, match=said):
        shop.store.place_hold(**scope, basis="CASE-1")
    with pytest.raises(errors.InvalidArgumentError, match=said):
        shop.store.set_retention_rule(**scope, keep_at_least=DAY, basis="CASE-1")
    assert shop.store.log_position() == before


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({}, "says nothing"),
        ({"keep_at_least": timedelta(0)}, "keep_at_least is"),
        ({"keep_at_most": timedelta(days=10**6)}, "keep_at_most is"),
        ({"keep_at_most": 5}, "keep_at_most is 5"),
        ({"keep_at_least": DAY, "includes_current": True}, "includes_current"),
        ({"keep_at_least": DAY, "keep_at_most": DAY / 2}, "shorter"),
        ({"keep_at_least": DAY, "ticket": "Ana Example, please"}, "ticket is"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(shop: Shop, rule: dict[str, Any], said: str) -> None:
    with pytest.raises(errors.InvalidArgumentError, match=said):
        shop.store.set_retention_rule(**rule, basis="X")
    with pytest.raises(errors.InvalidArgumentError, match="basis is ''"):
        shop.store.set_retention_rule(keep_at_least=DAY, basis="")


@pytest.mark.parametrize("seal", [False, True])
def test_holds_and_rules_are_records_like_others(shop: Shop, tmp_path: Path, seal: bool) -> None:
    store = shop.store
    hold = store.place_hold(entities=[("artifact", shop.data)], basis="CASE-1")
    rule = store.set_retention_rule(keep_at_least=DAY, basis="AI-ACT-18")
    before = store.log_position()
    store.release_hold(hold, ticket="T-1")
    store.withdraw_retention_rule(rule, ticket="T-2")
    if seal:
        store.seal()
    assert store.verify().ok
    answers = store.holds(), store.retention_rules()
    store.close()
    with eventstore.open(tmp_path / "store") as again:
        assert (again.holds(), again.retention_rules()) == answers
        again.rebuild()
        assert (again.holds(), again.retention_rules()) == answers
        assert [a.name for a in again.as_of(before).get_artifacts_by_id([shop.data])] == ["data"]
        assert again.verify().ok


def test_a_hold_or_rule_that_is_not_there_is_named(shop: Shop) -> None:
    with pytest.raises(errors.NotFoundError, match="there is no hold 99"):
        shop.store.release_hold(99, ticket="T-1")
    with pytest.raises(errors.NotFoundError, match="there is no retention rule 99"):
        shop.store.withdraw_retention_rule(99, ticket="T-1")
    with pytest.raises(errors.NotFoundError, match="there is no retention rule 99"):
        shop.store.set_retention_rule(keep_at_least=DAY, basis="X", number=99)


def test_caches_of_another_history_free_nothing(tmp_path: Path) -> None:
    held, other = tmp_path / "held", tmp_path / "other"

    def fill(path: Path, chosen: int) -> None:
        with open_with(path, tail_records_max=4) as store:
            store.place_hold(entities=[("artifact", chosen)], basis="CASE-1")
            store.put_artifacts([mlmd.Artifact(type_id=type_id) for _ in range(8)])

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(directory, "now_in_microseconds", lambda: Microseconds(10**15))
        with open_with(held, tail_records_max=4) as store:
            type_id = store.put_artifact_type(mlmd.ArtifactType(name="Data"))
            nodes = [mlmd.Artifact(type_id=type_id) for _ in range(3)]
            first, second, third = store.put_artifacts(nodes)
            store.erase("artifact", third, reason="TEST")
        shutil.copytree(held, other)
        fill(held, first)
        fill(other, second)
    shutil.rmtree(held / "projections")
    shutil.copytree(other / "projections", held / "projections")
    with open_with(held, tail_records_max=4) as store:
        with pytest.raises(errors.FailedPreconditionError, match="disagree about the rule or hold"):
            store.erase("artifact", first, reason="TEST")
        assert any("other holds or rules" in w for w in store.verify(caches=False).not_checked)
        store.rebuild()
        with pytest.raises(errors.FailedPreconditionError, match="is held by hold 1"):
            store.erase("artifact", first, reason="TEST")
        assert store.verify().ok


def test_a_filter_is_asked_about_many_nodes_at_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, many = shop.store, 20
    store.place_hold(filter_query="properties.owner.string_value = 'bo'", basis="CASE-1")
    ids = store.put_artifacts([shop.artifact(f"n{i}") for i in range(many)])
    for owner in ("bo", "cy"):
        nodes = store.get_artifacts_by_id(ids)
        # One comes before another, so that each is seen once as it was.
        for node in nodes[: many // 2]:
            node.properties["owner"].string_value = owner
        store.put_artifacts(nodes)
    asked: list[int] = []
    holding = scopes._holding
    monkeypatch.setattr(
        scopes, "_holding", lambda *given: asked.append(given[-1]) or holding(*given)
    )
    engine = store._engine
    versions = [version for id_ in ids for version in shop.versions("artifact", id_)]
    found = refusals(engine.log, engine.snapshot(), versions)
    assert {refusal.id for refusal in found} == {*ids[: many // 2]}
    assert len(asked) <= 8
