"""What answers tell besides the entities: earlier values, counts, findings, labels, notes."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

import eventstore
from eventstore import errors
from eventstore.audit import Checkpoint, SigningKey
from eventstore.audit.signed_note import VerifierKey, opened
from eventstore.log import MemoryLog
from eventstore.log.log import SignedHead
from eventstore.metadata_store.metadata_store import MetadataStore
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import append, draft, put_types


def updated_artifact(store: MetadataStore) -> tuple[int, int, int]:
    """The id of an artifact with three versions, and the positions of the last two."""
    type_id, _, _ = put_types(store)
    (node_id,) = store.put_artifacts([mlmd.Artifact(type_id=type_id, uri="a")])
    positions = []
    for uri in ("b", "c"):
        changed = mlmd.Artifact(id=node_id, uri=uri, state=mlmd.Artifact.LIVE)
        changed.properties["int"].int_value = len(positions)
        store.put_artifacts([changed])
        positions.append(store.log_position())
    return node_id, positions[0], positions[1]


def test_changes_tell_what_was_there_before(store: MetadataStore) -> None:
    node_id, second, third = updated_artifact(store)
    other = mlmd.Artifact(type_id=store.get_artifact_type("DataSet").id, uri="other")
    store.put_artifacts([other])
    expected = {
        second: [("state", None, "LIVE"), ("uri", "a", "b"), ("properties.int", None, 0)],
        third: [("uri", "b", "c"), ("properties.int", 0, 1)],
    }
    for since in (0, second - 1, third - 1):
        told = {
            change.position: [(f.field, f.before, f.after) for f in change.fields]
            for commit in store.changes(since)
            for change in commit.changes
        }
        for position, fields in expected.items():
            if position > since:
                assert told[position] == fields
    versions = store.history("artifact", node_id)
    assert [[(f.field, f.before, f.after) for f in v.changes] for v in versions[1:]] == [
        *expected.values()
    ]
    (difference,) = (e for e in store.diff(second, third) if e.kind == "artifact")
    assert [(f.field, f.before, f.after) for f in difference.fields] == expected[third]
    assert (difference.before.uri, difference.after.uri) == ("b", "c")


def test_counts_are_right_at_the_position_of_a_replacement(store: MetadataStore) -> None:
    _, second, third = updated_artifact(store)
    evolved = mlmd.ArtifactType(name="DataSet", properties={"more": mlmd.INT})
    store.put_artifact_type(evolved, can_add_fields=True, can_omit_fields=True)
    (context_id,) = store.put_contexts([mlmd.Context(type_id=12, name="one")])
    store.put_contexts([mlmd.Context(id=context_id, name="two")])
    end = store.log_position()
    for position in (second - 1, second, third, third + 1, end - 1, end):
        counts = store._engine.projections.counts(position)
        assert counts["artifact"] == 1
        assert counts["artifact_type"] == 5
        assert counts["context"] == (1 if position >= end - 1 else 0)
    assert store.info().counts["artifact"] == 1


def test_findings_of_a_verify_in_memory() -> None:
    log = MemoryLog()
    for number in range(1, 4):
        append(log, draft(number))
    sound = log.verify()
    assert (sound.ok, sound.records, sound.commits, sound.findings) == (True, 3, 3, [])

    def signed(size: int, commit: int) -> SignedHead:
        recorded_at = log._commits[min(commit, 3) - 1].recorded_at
        return SignedHead(size, sound.tree_head, commit, recorded_at, "ana signed on a day")

    assert log.verify(signed_heads=[signed(3, 3)]).ok
    (finding,) = log.verify(signed_heads=[signed(4, 4)]).findings
    assert "ana signed on a day with 4 records, the store has 3" in finding.what
    other = log.verify(signed_heads=[signed(2, 2)])
    (finding,) = other.findings
    assert (other.ok, finding.commit, finding.position) == (False, 2, 2)
    assert "history up to commit 2 is not what ana signed on a day" in finding.what
    forged = msgspec.structs.replace(log._commits[1].records[0], payload=b"forged")
    log._commits[1] = msgspec.structs.replace(log._commits[1], records=(forged,))
    report = log.verify()
    assert not report.ok
    assert [(f.commit, f.position) for f in report.findings] == [(2, 2), (3, 3)]
    assert "commit 2 does not match its tree head" in report.findings[0].what
    assert not log.verify(signed_heads=[signed(3, 3)]).ok


CONTROLS = [chr(code) for code in range(0x20) if chr(code) != "\n"]


@pytest.mark.parametrize("control", CONTROLS)
def test_a_note_holds_no_control_characters(control: str) -> None:
    key = SigningKey.generate("ana")
    with pytest.raises(errors.InvalidArgumentError, match="printable"):
        key.signed(f"a{control}b\n")
    with pytest.raises(errors.InvalidArgumentError, match="name"):
        SigningKey.generate(f"a{control}b")
    note = key.signed("text\n")
    for place in (1, len("text\n\n\u2014 a")):
        with pytest.raises(errors.InvalidArgumentError, match=r"signed note|signature"):
            opened(note[:place] + control + note[place:], key.verifier_key)
    text = str(key.verifier_key)
    with pytest.raises(errors.InvalidArgumentError):
        VerifierKey.parse(text.replace("ana", f"a{control}na", 1))


@pytest.mark.parametrize("name", ["", " ", "a b", "a+b", "a\u2003b", "a\nb", "a\u2028b"])
def test_a_key_has_a_name_of_one_word(name: str) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="key's name is"):
        SigningKey.generate(name)


def test_a_checkpoint_with_a_control_character_is_none(tmp_path: Path) -> None:
    key = SigningKey.generate("ana")
    with eventstore.open(tmp_path / "store") as store:
        text = store.checkpoint(key).text
    assert Checkpoint.parse(text, key.verifier_key).text == text
    for place in (3, text.index("recorded-at") + 2, len(text) - 3):
        with pytest.raises(errors.InvalidArgumentError):
            Checkpoint.parse(text[:place] + "\t" + text[place:], key.verifier_key)


def test_a_request_is_known_after_its_content_was_erased() -> None:
    config = mlmd.ConnectionConfig()
    config.fake_database.SetInParent()
    store = MetadataStore(config)
    type_id, _, _ = put_types(store)
    given = [mlmd.Artifact(type_id=type_id, name=f"n{number}") for number in range(2)]
    with store.acting(request_id="once"):
        ids = store.put_artifacts(given)
    log = store.log
    assert isinstance(log, MemoryLog)
    commit = log._commits[-1]
    erased = msgspec.structs.replace(
        commit.records[0], payload=None, salt=None, commitment=bytes(32)
    )
    log._commits[-1] = msgspec.structs.replace(commit, records=(erased, commit.records[1]))
    position = store.log_position()
    with store.acting(request_id="once"):
        assert store.put_artifacts(given) == ids
        # What is left can still tell another request from this one.
        given[1].uri = "another"
        with pytest.raises(errors.AlreadyExistsError, match="used before, for other content"):
            store.put_artifacts(given)
        with pytest.raises(errors.AlreadyExistsError, match="used before, for other content"):
            store.put_artifacts(given[:1])
        with pytest.raises(errors.AlreadyExistsError, match="used before, for other content"):
            store.put_executions([mlmd.Execution(type_id=11)])
    assert store.log_position() == position


def test_lineage_graphs_are_labelled(store: MetadataStore) -> None:
    type_id, execution_type_id, _ = put_types(store)
    (artifact_id, unnamed_id) = store.put_artifacts(
        [mlmd.Artifact(type_id=type_id, name='in "1"'), mlmd.Artifact(type_id=type_id)]
    )
    (execution_id,) = store.put_executions([mlmd.Execution(type_id=execution_type_id)])
    read = mlmd.Event(type=mlmd.Event.INPUT, artifact_id=artifact_id, execution_id=execution_id)
    read.path.steps.add().key = "examples"
    read.path.steps.add().index = 2
    read.path.steps.add().key = "split"
    made = mlmd.Event(type=mlmd.Event.OUTPUT, artifact_id=unnamed_id, execution_id=execution_id)
    store.put_events([read, made])
    graph = store.lineage("artifact", artifact_id)
    assert [(node.key, node.label, node.state) for node in graph.nodes] == [
        (("artifact", artifact_id), ("DataSet", 'in "1"'), ""),
        (("artifact", unnamed_id), ("DataSet", f"artifact {unnamed_id}"), ""),
        (("execution", execution_id), ("Train", f"execution {execution_id}"), ""),
    ]
    assert [(edge.source, edge.target, edge.label) for edge in graph.edges] == [
        (("artifact", artifact_id), ("execution", execution_id), "INPUT examples[2].split"),
        (("execution", execution_id), ("artifact", unnamed_id), "OUTPUT"),
    ]
    assert graph.to_dot() == (
        "digraph lineage {\n"
        "  rankdir=LR;\n"
        f'  a{artifact_id} [shape=box, style=rounded, label="DataSet\\nin \\"1\\""];\n'
        f'  a{unnamed_id} [shape=box, style=rounded, label="DataSet\\nartifact {unnamed_id}"];\n'
        f'  e{execution_id} [shape=box, label="Train\\nexecution {execution_id}"];\n'
        f'  a{artifact_id} -> e{execution_id} [label="INPUT examples[2].split"];\n'
        f'  e{execution_id} -> a{unnamed_id} [label="OUTPUT"];\n'
        "}\n"
    )
    assert graph.to_mermaid() == (
        "flowchart LR\n"
        f'  a{artifact_id}(["DataSet<br/>in #34;1#34;"])\n'
        f'  a{unnamed_id}(["DataSet<br/>artifact {unnamed_id}"])\n'
        f'  e{execution_id}["Train<br/>execution {execution_id}"]\n'
        f'  a{artifact_id} -->|"INPUT examples#91;2#93;.split"| e{execution_id}\n'
        f'  e{execution_id} -->|"OUTPUT"| a{unnamed_id}\n'
    )
    drawn = graph.to_networkx()
    (edge,) = (data for *_, data in drawn.edges(data=True) if data["type"] == "INPUT")
    assert edge["path"] == "examples[2].split"
