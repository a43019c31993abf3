"""Nothing is put that could not be read again; what is stored anyway is read if it can be."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import DecodeError

import eventstore
from eventstore import errors
from eventstore.log import DirectoryLog, readable
from eventstore.log.columns import derive
from eventstore.log.kinds import KINDS
from eventstore.log.readable import mended, read_message, refuse_unreadable
from eventstore.log.record import Draft
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import metadata_store_service_pb2 as service
from tests.builders import append, draft, memory_store, put_types

NOT_UTF8 = b"a\xff\xc3"


def field(number: int, *contents: bytes) -> bytes:
    """A field of bytes or of a message on the wire, with these contents one after the other."""
    content = b"".join(contents)
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    encoded = b""
    while value > 0x7F:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])


def struct_of(levels: int) -> bytes:
    """A struct in a struct and so on, `levels` in all."""
    content = b""
    for _ in range(levels - 1):
        content = field(1, field(1, b"a"), field(2, field(5, content)))
    return content


def lists_in(levels: int) -> bytes:
    """A struct with a list in a list and so on."""
    content = b""
    for _ in range(levels - 1):
        content = field(1, field(6, content))
    return field(1, field(1, b"a"), field(2, field(6, content)))


def type_of(levels: int) -> bytes:
    """The type of a list of lists and so on."""
    content = b""
    for _ in range(levels):
        content = field(4, field(1, content))
    return content


def custom(*value: bytes, key: bytes = b"deep") -> bytes:
    """An artifact's custom property on the wire."""
    return field(5, field(1, key), field(2, *value))


def artifact(type_id: int, *fields: bytes) -> bytes:
    return b"\x10" + varint(type_id) + field(3, b"s3://a") + b"".join(fields) + field(7, b"named")


# As deep as is accepted, and one level too deep.
DEEP = [
    (custom(field(4, struct_of(32))), custom(field(4, struct_of(33)))),
    (custom(field(4, lists_in(47))), custom(field(4, lists_in(48)))),
]
BAD_TEXTS = [
    custom(field(3, NOT_UTF8)),
    custom(field(3, b"text"), key=NOT_UTF8),
    custom(field(4, field(1, field(1, NOT_UTF8), field(2, field(3, b"a"))))),
    custom(field(5, field(1, NOT_UTF8))),
    field(4, field(1, b"string"), field(2, field(3, NOT_UTF8))),
    field(7, NOT_UTF8),
    field(11, NOT_UTF8),
    field(3, NOT_UTF8),
]


def wire_ways(store: eventstore.MetadataStore, content: bytes) -> list[Callable[[], Any]]:
    """How an artifact on the wire can come into the store."""
    call = store._engine.call

    def request(message: Any, serialized: bytes) -> Callable[[], Any]:
        def put() -> Any:
            rpc = message.DESCRIPTOR.name.removesuffix("Request")
            try:
                parsed = message.FromString(serialized)
            except readable.UNREADABLE:
                # Then no library takes it in the first place.
                raise errors.InvalidArgumentError("Could not parse proto") from None
            return call(rpc, parsed)

        return put

    def by_method() -> Any:
        try:
            parsed = mlmd.Artifact.FromString(content)
        except readable.UNREADABLE:
            raise errors.InvalidArgumentError("Could not parse proto") from None
        return store.put_artifacts([parsed])

    execution = b"\x10" + varint(store.get_execution_type("Train").id)
    return [
        by_method,
        request(service.PutArtifactsRequest, field(1, content)),
        request(service.PutExecutionRequest, field(1, execution) + field(2, field(1, content))),
        request(service.PutLineageSubgraphRequest, field(2, content)),
    ]


def all_answers(store: eventstore.MetadataStore) -> None:
    """Read everything."""
    store.get_artifacts()
    store.get_artifacts_by_type("DataSet")
    options = eventstore.ListOptions(
        filter_query="uri LIKE 's3%' AND custom_properties.n.int_value = 1"
    )
    store.get_artifacts(options)
    store.get_execution_types()
    for commit in store.changes():
        for change in commit.changes:
            store.history(change.kind, change.id)
    store.diff(0)
    store.sql("SELECT * FROM properties")
    store.sql("SELECT count(*) FROM records")
    subgraph = mlmd.LineageSubgraphQueryOptions()
    subgraph.starting_artifacts.filter_query = "id > 0"
    if store.get_artifacts():
        store.get_lineage_subgraph(subgraph)
    assert store.verify().ok


@pytest.mark.parametrize(("accepted", "refused"), DEEP)
def test_what_is_nested_is_read_again_or_refused(
    store: eventstore.MetadataStore, accepted: bytes, refused: bytes
) -> None:
    type_id, _, _ = put_types(store)
    position = store.log_position()
    for put in wire_ways(store, artifact(type_id, refused)):
        with pytest.raises(errors.InvalidArgumentError, match="Could not parse proto"):
            put()
    assert store.log_position() == position
    (node_id,) = store.put_artifacts([mlmd.Artifact.FromString(artifact(type_id, accepted))])
    (stored,) = store.get_artifacts_by_id([node_id])
    graph = service.GetLineageSubgraphResponse()
    graph.lineage_subgraph.artifacts.add().CopyFrom(stored)
    assert service.GetLineageSubgraphResponse.FromString(graph.SerializeToString()) == graph
    store.seal()
    all_answers(store)


@pytest.mark.share(2)
@pytest.mark.parametrize("bad", BAD_TEXTS)
def test_a_text_that_is_not_utf8_is_refused(store: eventstore.MetadataStore, bad: bytes) -> None:
    type_id, _, _ = put_types(store)
    position = store.log_position()
    for put in wire_ways(store, artifact(type_id) + bad):
        with pytest.raises(errors.InvalidArgumentError, match="Could not parse proto"):
            put()
    assert store.log_position() == position
    all_answers(store)


def test_a_mask_takes_nothing_that_cannot_be_read(store: eventstore.MetadataStore) -> None:
    type_id, _, _ = put_types(store)
    (node_id,) = store.put_artifacts([mlmd.Artifact(type_id=type_id, name="named")])
    given = mlmd.Artifact.FromString(custom(field(4, struct_of(33))))
    given.id = node_id
    for paths in (["custom_properties"], ["custom_properties.deep"]):
        with pytest.raises(
            errors.InvalidArgumentError, match="artifact 'named' is nested too deep"
        ):
            store.put_artifacts([given], paths)


def test_types_are_read_again_or_refused(store: eventstore.MetadataStore) -> None:
    accepted = mlmd.ExecutionType.FromString(field(2, b"A") + field(4, type_of(48)))
    store.put_execution_type(accepted)
    deep = mlmd.ExecutionType.FromString(field(2, b"B") + field(4, type_of(49)))
    for put in (
        lambda: store.put_execution_type(deep),
        lambda: store._engine.call("PutTypes", service.PutTypesRequest(execution_types=[deep])),
    ):
        with pytest.raises(errors.InvalidArgumentError, match="execution type 'B' is nested too"):
            put()
    grown = deep.input_type
    while grown.HasField("list"):
        grown = grown.list.element
    for _ in range(20):
        grown = grown.list.element
    grown.any.SetInParent()
    with pytest.raises(errors.InvalidArgumentError, match="Could not parse proto"):
        store.put_execution_type(deep)
    described = mlmd.ExecutionType.FromString(field(2, b"C") + field(7, NOT_UTF8))
    with pytest.raises(errors.InvalidArgumentError, match="not UTF-8"):
        store.put_execution_type(described)
    all_answers(store)


def test_a_path_that_is_not_utf8_is_refused(store: eventstore.MetadataStore) -> None:
    type_id, execution_type_id, _ = put_types(store)
    (artifact_id,) = store.put_artifacts([mlmd.Artifact(type_id=type_id)])
    (execution_id,) = store.put_executions([mlmd.Execution(type_id=execution_type_id)])
    event = mlmd.Event(artifact_id=artifact_id, execution_id=execution_id, type=mlmd.Event.INPUT)
    event.MergeFromString(field(3, field(1, field(2, NOT_UTF8))))
    with pytest.raises(errors.InvalidArgumentError, match="the event with id 1 holds a text that"):
        store.put_events([event])


def test_a_question_that_is_not_utf8_finds_nothing(store: eventstore.MetadataStore) -> None:
    put_types(store)
    request = service.GetArtifactByTypeAndNameRequest.FromString(
        field(1, b"DataSet") + field(3, NOT_UTF8)
    )
    response = store._engine.call("GetArtifactByTypeAndName", request)
    assert not response.HasField("artifact")
    for rpc, asked in (
        ("GetArtifactsByURI", service.GetArtifactsByURIRequest.FromString(field(2, NOT_UTF8))),
        (
            "GetArtifactsByExternalIds",
            service.GetArtifactsByExternalIdsRequest.FromString(field(1, NOT_UTF8)),
        ),
    ):
        try:
            assert not store._engine.call(rpc, asked).artifacts
        except errors.NotFoundError:
            continue


def test_one_among_many_is_named() -> None:
    good = Draft("artifact", 7, 1, None, artifact(1, DEEP[0][0]))
    bad = Draft("artifact", 8, 1, None, artifact(1, DEEP[0][1]))
    refuse_unreadable([good] * 5)
    with pytest.raises(errors.InvalidArgumentError, match="artifact 'named' is nested too deep"):
        refuse_unreadable([good, good, bad, good])
    event = Draft("event", 3, None, None, field(3, field(1, field(2, NOT_UTF8))))
    with pytest.raises(errors.InvalidArgumentError, match="event with id 3 holds a text"):
        refuse_unreadable([good, event])


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_of_every_kind_is_known(kind: str) -> None:
    strict = readable._envelope().DESCRIPTOR.fields_by_name["inner"].message_type
    name = KINDS[kind].message.DESCRIPTOR.name

    def numbers(descriptor: Any, seen: set[str]) -> dict[str, Any]:
        if descriptor.full_name in seen:
            return {}
        seen = {*seen, descriptor.full_name}
        return {
            field.name: (
                field.number,
                numbers(field.message_type, seen) if field.message_type is not None else None,
            )
            for field in descriptor.fields
        }

    expected = numbers(KINDS[kind].message.DESCRIPTOR, set())
    assert numbers(strict.fields_by_name[name].message_type, set()) == expected


UNREADABLE_BY_OLDER = [custom(field(4, struct_of(40))), custom(field(3, NOT_UTF8)), DEEP[0][1]]


@pytest.mark.share(3)
@pytest.mark.parametrize("bad", UNREADABLE_BY_OLDER)
@pytest.mark.parametrize("is_sealed", [False, True])
def test_a_store_that_holds_such_a_record_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: bytes, is_sealed: bool
) -> None:
    with eventstore.open(tmp_path / "store") as store:
        type_id, _, _ = put_types(store)
        store.put_artifacts([mlmd.Artifact(type_id=type_id, name="other", uri="s3://b")])
        of_type, times = b"\x42\x07DataSet", b"\x48\x05\x50\x06"
        node = artifact(type_id, custom(b"\x08\x01", key=b"n"), bad)
        payload = b"\x08\x02" + node + of_type + times
        draft = Draft("artifact", 2, type_id, None, payload)
        store.log.append([draft], expected_position=store.log_position())
        if is_sealed:
            store.seal()
            assert store.log.segments()[0].state == "sealed"
    for _ in range(2):
        with eventstore.open(tmp_path / "store") as store:
            (found,) = store.get_artifacts_by_id([2])
            assert (found.name, found.uri) == ("named", "s3://a")
            assert found.custom_properties["n"].int_value == 1
            assert [a.id for a in store.get_artifacts()] == [1, 2]
            options = eventstore.ListOptions(filter_query="custom_properties.n.int_value = 1")
            assert [a.id for a in store.get_artifacts(options)] == [2]
            (version,) = store.history("artifact", 2)
            assert version.message.SerializeToString()
            all_answers(store)
            store.rebuild()
    # A put of it as a whole mends it.
    with eventstore.open(tmp_path / "store") as store:
        store.put_artifacts([mlmd.Artifact(id=2, uri="s3://c")])
        assert store.get_artifacts_by_id([2])[0].name == "named"
        all_answers(store)


def test_what_can_be_read_is_kept_where_it_is() -> None:
    payload = artifact(1, custom(field(3, b"a\xffb")), custom(field(4, struct_of(40)), key=b"s"))
    message = read_message(mlmd.Artifact, mended("Artifact", payload))
    assert message.custom_properties["deep"].string_value == "a\ufffdb"
    depth, inner = 0, message.custom_properties["s"].struct_value
    while "a" in inner.fields:
        depth, inner = depth + 1, inner.fields["a"].struct_value
    assert 30 <= depth <= 33
    for cut in range(len(payload)):
        # Of what is damaged, too, nothing but what protobuf raises.
        try:
            mlmd.Artifact.FromString(mended("Artifact", payload[:cut]))
        except readable.UNREADABLE:
            continue
    columns = derive(["artifact", "artifact"], [payload, artifact(1)])
    assert columns["name"].to_pylist() == ["named", "named"]


@pytest.mark.parametrize("nested", [struct_of, lists_in])
def test_nothing_that_can_be_read_is_left_out(nested: Callable[[int], bytes]) -> None:
    kept = []
    for levels in range(20, 60):
        payload = artifact(1, custom(field(4, nested(levels))))
        found = mended("Artifact", payload)
        assert readable.readable("artifact", found) == found
        if readable.readable("artifact", payload) == payload:
            assert found == payload
            kept.append(levels)
    assert kept == [*range(20, len(kept) + 20)]
    assert len(kept) < 40


@pytest.mark.parametrize(
    "before",
    [
        pytest.param(b"", id="nothing"),
        # What is skipped holds bytes that would begin a text, were they read as fields.
        *(
            pytest.param(b"\x08" + varint((1 << bits) - 1), id=f"number of {bits} bits")
            for bits in (1, 8, 15, 29, 36, 64)
        ),
        pytest.param(b"\x11\x3a\x01\x3a\x01\x3a\x01\x3a\x01", id="double"),
        pytest.param(b"\x1d\x3a\x01\x3a\x01", id="float"),
        pytest.param(field(99, b"\xff"), id="unknown bytes"),
        pytest.param(field(99, field(7, NOT_UTF8)), id="unknown message"),
    ],
)
def test_what_is_mended_is_mended_alone(before: bytes) -> None:
    mark = field(7, "a\ufffd\ufffd".encode())
    after = b"\x10\x07"
    assert mended("Artifact", before + field(7, NOT_UTF8) + after) == before + mark + after
    inner = custom(before, field(3, NOT_UTF8))
    assert mended("Artifact", inner) == custom(before, field(3, "a\ufffd\ufffd".encode()))


def test_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    store = memory_store()
    type_id, _, _ = put_types(store)
    monkeypatch.setattr(readable, "RECORD_BYTES_MAX", 1_000)
    monkeypatch.setattr(readable, "COMMIT_BYTES_MAX", 5_000)
    long = mlmd.Artifact(type_id=type_id, uri="x" * 1_000)
    with pytest.raises(errors.ResourceExhaustedError, match="a record may have 1,000"):
        store.put_artifacts([long])
    long.uri = "x" * 900
    store.put_artifacts([long] * 5)
    with pytest.raises(errors.ResourceExhaustedError, match="6 records of this put are"):
        store.put_artifacts([long] * 6)
    assert len(store.get_artifacts()) == 5


@pytest.mark.parametrize("implementation", ["python", "upb"])
def test_every_library_draws_the_line_at_the_same_depth(implementation: str) -> None:
    code = (
        "from tests.log.test_readable import *\n"
        "import eventstore.log.readable as r\n"
        "for good, bad in DEEP:\n"
        "    print(r._is_readable('artifact', artifact(1, good)))\n"
        "    print(r._is_readable('artifact', artifact(1, bad)))\n"
        "print(r._is_readable('execution_type', field(2, b'A') + field(4, type_of(48))))\n"
        "print(r._is_readable('execution_type', field(2, b'A') + field(4, type_of(49))))\n"
    )
    environment = os.environ | {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": implementation}
    printed = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    ).stdout
    assert printed.split() == ["True", "False"] * 3


def test_the_record_that_does_not_decode_is_named(tmp_path: Path) -> None:
    log = DirectoryLog.create(tmp_path / "store")
    append(log, draft(1))
    append(log, draft(2), Draft("artifact", 3, 10, None, b"\xff"), draft(4))
    with pytest.raises(errors.DataLossError, match="record at position 3 is damaged: it does not"):
        list(log.scan())
    log.close()


@pytest.mark.parametrize(
    "broken",
    [
        b"\x0a\xff\xff\xff\xff\x0f",
        b"\x0a\x05a",
        b"\x80",
        b"\xfb\x3f",
        b"\xf9\x07abc",
        b"\xf6\x07",
        b"\xfb\x3f" * 100_000,
    ],
    ids=lambda broken: broken[:8].hex(),
)
def test_what_is_no_message_is_not_mended(broken: bytes) -> None:
    """What is cut off, or of no wire type, is damage: no library ever read it."""
    payload = mlmd.Artifact(id=1, type_id=1).SerializeToString() + broken
    with pytest.raises(DecodeError):
        derive(["artifact"], [payload])
    with pytest.raises(DecodeError):
        read_message(mlmd.Artifact, payload)


def test_groups_stay_as_the_rest_is_mended() -> None:
    group = b"\xfb\x3f\x0b\x08\x01\x0c\xfc\x3f"
    payload = field(3, NOT_UTF8) + group + b"\x08\x07"
    assert (
        mended("Artifact", payload) == field(3, b"a\xef\xbf\xbd\xef\xbf\xbd") + group + b"\x08\x07"
    )
    assert derive(["artifact"], [payload])["uri"].to_pylist() == ["a\ufffd\ufffd"]
