"""Which records an erasure takes, what it puts in their place, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

import eventstore
from eventstore import errors
from eventstore.log.kinds import ERASURE
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import retention_pb2 as retention
from eventstore.retention.erasing import plan_of, request_erasure
from eventstore.retention.planning import Plan, Wanted, check_wanted
from tests.builders import memory_store, put_types

WANTED = Wanted(basis="GDPR-17")


@pytest.fixture
def store() -> eventstore.MetadataStore:
    """Artifacts 1 (four versions) and 2 (one), execution 1 that made the first, context 1."""
    store = memory_store()
    artifact_type, execution_type, context_type = put_types(store)
    node = mlmd.Artifact(type_id=artifact_type, name="model", uri="s3://a")
    node.custom_properties["owner"].string_value = "ana"
    node.properties["double"].double_value = 0.9
    store.put_execution(
        mlmd.Execution(type_id=execution_type, name="e"),
        [(node, mlmd.Event(type=mlmd.Event.OUTPUT))],
        [mlmd.Context(type_id=context_type, name="c")],
    )
    node.id = 1
    for uri in ("s3://b", "s3://c"):
        node.uri = uri
        store.put_artifacts([node])
    del node.custom_properties["owner"]
    store.put_artifacts([node])
    store.put_artifacts([mlmd.Artifact(type_id=artifact_type, name="other")])
    return store


def positions(store: eventstore.MetadataStore, kind: str, entity_id: int) -> list[int]:
    return [version.position for version in store.history(kind, entity_id)]


def planned(
    store: eventstore.MetadataStore,
    *entities: tuple[str, int],
    version: int | None = None,
    **wanted: Any,
) -> Plan:
    choose = plan_of(store.log, entities, Wanted(basis="GDPR-17", **wanted), version)
    return choose(store._source.snapshot())


def test_all_versions_of_all_entities(store: eventstore.MetadataStore) -> None:
    first, second = positions(store, "artifact", 1), positions(store, "artifact", 2)
    assert len(first) == 4
    assert second == [first[-1] + 1]
    made = planned(store, ("artifact", 2), ("artifact", 1), ("artifact", 2))
    assert [(v.id, v.position) for v in made.versions] == [
        *((1, position) for position in first),
        (2, *second),
    ]
    # Neighbours are one range.
    assert [(r.first, r.last) for r in made.ranges] == [
        (first[0], first[0]),
        (first[1], second[0]),
    ]
    assert all(r.content and not r.who for r in made.ranges)
    assert not made.replacements


def test_one_version(store: eventstore.MetadataStore) -> None:
    some = positions(store, "artifact", 1)
    made = planned(store, ("artifact", 1), version=some[1], who=True)
    assert [(r.first, r.last, r.content, r.who) for r in made.ranges] == [
        (some[1], some[1], True, True)
    ]
    with pytest.raises(errors.NotFoundError, match=f"no version at position 1: .* {some[0]}, "):
        planned(store, ("artifact", 1), version=1)


def test_who_alone_of_types_and_links(store: eventstore.MetadataStore) -> None:
    made = planned(store, ("event", 1), ("artifact_type", 10), ("execution", 1), who=True)
    assert [(v.kind, v.content, v.who) for v in made.versions] == [
        ("artifact_type", False, True),
        ("execution", True, True),
        ("event", False, True),
    ]
    (event,) = [v for v in made.versions if v.kind == "event"]
    assert event.ends == (("artifact", 1), ("execution", 1))
    made = planned(store, ("execution", 1), who=True, content=False)
    assert [(r.content, r.who) for r in made.ranges] == [(False, True)]


@pytest.mark.parametrize(
    ("kind", "wanted", "match"),
    [
        (
            "event",
            {},
            "content is erased of artifacts, executions and contexts.*ask for `who`",
        ),
        ("event", {"redact": ("path",), "who": True}, "content is erased of"),
        ("artifact_type", {}, "types are names of fields"),
        ("hold", {"who": True}, "a record of a hold is never erased"),
        ("erasure", {}, "a record of an erasure is never erased"),
        ("node", {}, "'node' is no kind of entity: use one of artifact_type, "),
    ],
)
def test_kinds_that_have_nothing_to_erase(
    store: eventstore.MetadataStore, kind: str, wanted: dict[str, Any], match: str
) -> None:
    with pytest.raises(errors.InvalidArgumentError, match=match):
        planned(store, (kind, 1), **wanted)


def test_entities_that_there_are_not(store: eventstore.MetadataStore) -> None:
    for kind in ("artifact", "context_type", "attribution"):
        with pytest.raises(errors.NotFoundError, match=f"no {kind.replace('_', ' ')} has id 99"):
            planned(store, ("artifact", 1), (kind, 99), who=True)


@pytest.mark.parametrize(
    ("wanted", "match"),
    [
        (Wanted(basis=""), "reason is ''"),
        (Wanted(basis="ana asked us to"), "without spaces"),
        (Wanted(basis="GDPR-17", ticket="ana@example.com"), "ticket is 'ana@example.com'"),
        (Wanted(basis="GDPR-17", redact=("",)), "redact is"),
        (Wanted(basis="GDPR-17", redact=("owner",), content=False), "redact erases content"),
        (Wanted(basis="GDPR-17", content=False), "nothing to erase without"),
    ],
)
def test_what_cannot_be_wanted(wanted: Wanted, match: str) -> None:
    check_wanted(WANTED)
    with pytest.raises(errors.InvalidArgumentError, match=match):
        check_wanted(wanted)


def test_a_redaction_replaces_each_version_that_has_it_and_repeats_the_newest(
    store: eventstore.MetadataStore,
) -> None:
    some = positions(store, "artifact", 1)
    made = planned(store, ("artifact", 1), redact=("owner",))
    assert [(r.first, r.redacted, r.replacement) for r in made.ranges] == [
        (position, ("owner",), number) for number, position in enumerate(some[:3])
    ]
    assert [r.message.uri for r in made.replacements] == ["s3://a", "s3://b", "s3://c", "s3://c"]
    for replacement in made.replacements:
        assert not replacement.message.custom_properties
        assert replacement.message.properties["double"].double_value == 0.9

    made = planned(store, ("artifact", 1), redact=("uri", "double", "name"), version=some[3])
    (replacement,) = made.replacements
    assert replacement.message.HasField("uri")
    assert not replacement.message.uri
    assert not replacement.message.HasField("name")
    assert not replacement.message.properties


def test_each_name_is_found_in_a_version_or_was_redacted_before(
    store: eventstore.MetadataStore,
) -> None:
    some, end = positions(store, "artifact", 1), store.log_position()
    both = (("artifact", 1), ("artifact", 2))
    for entities, version, names, missing in (
        (both[:1], None, ("onwer",), "artifact 1 has 'onwer'"),
        (
            both,
            None,
            ("owner", "note", "name", "memo"),
            "artifact 1, artifact 2 has 'note', 'memo'",
        ),
        # Versions before it have that.
        (both[:1], some[3], ("uri", "owner"), "artifact 1 has 'owner'"),
        ((("execution", 1),), None, ("name", "uri"), "execution 1 has 'uri'"),
    ):
        wanted = Wanted(basis="GDPR-17", redact=names, who=True)
        with pytest.raises(errors.NotFoundError, match=missing):
            request_erasure(store._engine, plan_of(store.log, entities, wanted, version))
    assert store.log_position() == end
    assert store.erase("artifact", 1, reason="GDPR-17", redact=["owner"]).number == 1
    assert store.erase("artifact", 1, reason="GDPR-17", redact=["owner"]).number is None
    assert store.erase("artifact", 1, reason="GDPR-17", redact=["owner", "uri"]).number == 2
    with pytest.raises(errors.NotFoundError, match="artifact 1 has 'note'"):
        planned(store, ("artifact", 1), redact=("owner", "note"))


def test_a_replacement_does_not_bear_what_has_gone_to_another(
    store: eventstore.MetadataStore,
) -> None:
    context_type = store.get_context_type("Run").id
    node = mlmd.Context(type_id=context_type, name="first", external_id="x")
    node.custom_properties["owner"].string_value = "ana"
    (node.id,) = store.put_contexts([node])
    node.name, node.external_id = "second", "y"
    store.put_contexts([node])
    store.put_contexts([mlmd.Context(type_id=context_type, name="first", external_id="x")])
    made = planned(store, ("context", node.id), redact=("owner",))
    assert [(r.message.name, r.message.external_id) for r in made.replacements] == [
        ("", ""),
        ("second", "y"),
    ]


def test_the_record_of_an_erasure_comes_before_the_replacements(
    store: eventstore.MetadataStore,
) -> None:
    some, end = positions(store, "artifact", 1), store.log_position()
    wanted = Wanted(basis="GDPR-17", ticket="P-1", redact=("owner",), who=True)
    number, _ = request_erasure(store._engine, plan_of(store.log, [("artifact", 1)], wanted))
    (commit,) = store.log.commits(end)
    assert [(r.kind, r.entity_id) for r in commit.records] == [
        ("erasure", number),
        *[("artifact", 1)] * 4,
    ]
    assert [r.previous for r in commit.records] == [None, some[-1], end + 2, end + 3, end + 4]
    erasure = ERASURE.message.FromString(commit.records[0].payload)
    assert (erasure.id, erasure.stage) == (1, retention.Erasure.REQUESTED)
    assert (erasure.basis, erasure.ticket) == ("GDPR-17", "P-1")
    assert [
        (r.first_position, r.last_position, r.content, r.who, r.replaced_by) for r in erasure.ranges
    ] == [
        *((position, position, True, True, end + 2 + n) for n, position in enumerate(some[:3])),
        (some[3], some[3], False, True, 0),
    ]
