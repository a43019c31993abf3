"""Makes the small stores of both formats beside it: `python tests/data/make_stores.py`.

Ids, salts, times and keys are the same each time, and so is each head. `format-1` was made by the
version that wrote it, which no longer exists; it is there to be refused.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias
from unittest import mock
from uuid import NAMESPACE_URL, uuid5

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent.parent))

import msgspec  # noqa: E402

import eventstore  # noqa: E402
from eventstore import times  # noqa: E402
from eventstore.audit import SigningKey  # noqa: E402
from eventstore.importing import import_mlmd_database  # noqa: E402
from eventstore.log import DirectoryLog, Draft, Record, commit, creation  # noqa: E402
from eventstore.log.verification import verify_directory  # noqa: E402
from eventstore.proto import metadata_store_pb2 as mlmd  # noqa: E402
from eventstore.proto import retention_pb2 as retention  # noqa: E402
from tests.attacks.forging import forge  # noqa: E402

KEY = SigningKey("auditor@example.com", bytes(range(32)))
_START_SECONDS = 1_790_000_000


@contextmanager
def made_alike(name: str) -> Iterator[None]:
    """Salts and an id that are the same each time, and a clock that goes on when it is asked."""
    calls, seconds = count(), count(_START_SECONDS)

    def urandom(size: int) -> bytes:
        return hashlib.shake_256(f"{name} {next(calls)}".encode()).digest(size)

    def time_ns() -> int:
        return next(seconds) * 10**9

    with (
        mock.patch.object(commit, "os", SimpleNamespace(urandom=urandom)),
        mock.patch.object(times, "time", SimpleNamespace(time_ns=time_ns)),
        mock.patch.object(creation, "uuid4", return_value=uuid5(NAMESPACE_URL, name)),
    ):
        yield


def make_put(directory: Path) -> None:
    """A sealed segment with a record of every kind of entity, and an active one."""
    with eventstore.open(directory, actor="ana", reason="golden") as store:
        data_set = mlmd.ArtifactType(name="DataSet", version="v1", external_id="type-1")
        for name, kind in (
            ("int", mlmd.INT),
            ("double", mlmd.DOUBLE),
            ("string", mlmd.STRING),
            ("struct", mlmd.STRUCT),
            ("proto", mlmd.PROTO),
            ("bool", mlmd.BOOLEAN),
        ):
            data_set.properties[name] = kind
        type_id = store.put_artifact_type(data_set)
        train = store.put_execution_type(mlmd.ExecutionType(name="Train"))
        run = store.put_context_type(mlmd.ContextType(name="Run"))
        full = mlmd.Artifact(
            type_id=type_id,
            name="full",
            uri="s3://full",
            external_id="a-1",
            state=mlmd.Artifact.LIVE,
        )
        full.properties["int"].int_value = -(2**63)
        full.properties["double"].double_value = float("nan")
        full.properties["string"].string_value = 'ä"\\\n\x01\x7f\U0001f600'
        full.properties["struct"].struct_value.update(
            {"z": [1, -0.0, 1e16, 1e-5, None, True], "a": {"ä\x7f": "\U0001f600"}}
        )
        strange = full.properties["struct"].struct_value.fields["a"].struct_value.fields
        for name, number in (("nan", "nan"), ("inf", "inf"), ("minus", "-inf")):
            strange[name].number_value = float(number)
        strange["no kind"].SetInParent()
        full.properties["proto"].proto_value.Pack(mlmd.Event(artifact_id=3))
        full.properties["bool"].bool_value = False
        full.custom_properties["zero"].double_value = -0.0
        empty = mlmd.Artifact(type_id=type_id)
        with store.acting(actor="ä\n", request_id="request 1"):
            ids = store.put_artifacts([full, empty])
        (execution,) = store.put_executions(
            [mlmd.Execution(type_id=train, name="x", last_known_state=mlmd.Execution.COMPLETE)]
        )
        contexts = store.put_contexts([mlmd.Context(type_id=run, name=n) for n in ("a", "b")])
        store.put_events(
            [mlmd.Event(artifact_id=ids[0], execution_id=execution, type=mlmd.Event.OUTPUT)]
        )
        store.put_attributions_and_associations(
            [mlmd.Attribution(context_id=contexts[0], artifact_id=ids[0])],
            [mlmd.Association(context_id=contexts[0], execution_id=execution)],
        )
        store.put_parent_contexts([mlmd.ParentContext(child_id=contexts[1], parent_id=contexts[0])])
        store.seal()
        full.id, full.uri = ids[0], "s3://changed"
        store.put_artifacts([full])
        store.put_artifacts([mlmd.Artifact(type_id=type_id, name="newest"), empty])


def make_erased(directory: Path) -> None:
    """A sealed segment in which content and who are erased, with a rule, a hold and the erasure."""
    with eventstore.open(directory, actor="ana", reason="golden") as store:
        type_id = store.put_artifact_type(mlmd.ArtifactType(name="DataSet"))
        store.put_artifacts([mlmd.Artifact(type_id=type_id, name=f"n{n}") for n in range(4)])
        last = store.log_position()
    first = last - 3
    # Of other entities: what is held or locked is not erased.
    scope = retention.Scope(kinds=["context"], context_ids=[1])
    erasure = retention.Erasure(
        id=1,
        stage=retention.Erasure.REQUESTED,
        basis="GDPR-17-1-b",
        ticket="T-3",
        ranges=[
            retention.ErasedRange(first_position=first, last_position=first, content=True),
            retention.ErasedRange(first_position=first + 1, last_position=first + 1, who=True),
            retention.ErasedRange(
                first_position=first + 2, last_position=first + 2, content=True, who=True
            ),
        ],
    )
    completed = retention.Erasure()
    completed.CopyFrom(erasure)
    completed.stage = retention.Erasure.COMPLETED
    completed.contents_erased = completed.whos_erased = 2
    completed.files.add(segment=1, old_sha256=bytes(32), new_sha256=bytes([1]) * 32)
    log = DirectoryLog.open(directory)
    for kind, message, previous in (
        (
            "retention_rule",
            retention.RetentionRule(
                id=1, scope=scope, keep_at_least_seconds=60, basis="17a-4", ticket="T-1"
            ),
            None,
        ),
        (
            "hold",
            retention.Hold(id=1, scope=scope, stage=retention.Hold.PLACED, ticket="T-2"),
            None,
        ),
        ("erasure", erasure, None),
        ("erasure", completed, last + 3),
    ):
        payload = message.SerializeToString(deterministic=True)
        log.append(
            [Draft(kind, 1, None, previous, payload)], expected_position=log.position, actor="ben"
        )
    log.seal()
    log.close()
    positions = {first: "content", first + 1: "who", first + 2: "both"}
    forge(
        directory,
        lambda records: [erased(record, positions.get(record.position)) for record in records],
    )


def erased(record: Record, what: str | None) -> Record:
    """The record with its content, who, or both replaced by commitments."""
    if what in ("content", "both"):
        assert record.salt is not None
        assert record.payload is not None
        commitment = hashlib.sha256(record.salt + record.payload).digest()
        record = msgspec.structs.replace(record, salt=None, payload=None, commitment=commitment)
    if what in ("who", "both"):
        assert record.who_salt is not None
        who = b""
        for text in (record.actor, record.reason, record.request_id):
            encoded = b"" if text is None else text.encode()
            who += b"\0" if text is None else b"\1" + len(encoded).to_bytes(4, "big") + encoded
        record = msgspec.structs.replace(
            record,
            actor=None,
            reason=None,
            request_id=None,
            who_salt=None,
            who_commitment=hashlib.sha256(record.who_salt + who).digest(),
        )
    return record


def make_imported(directory: Path) -> None:
    """What an import makes of an MLMD database."""
    import_mlmd_database(FOLDER / "mlmd-v10.db", directory, actor="ana")


def make_merged(directory: Path) -> None:
    """Segments that were merged into one, another sealed one, and an active one."""
    make_put(directory)
    with eventstore.open(directory, actor="ben") as store:
        store.seal()
        store.compact()
        (node,) = store.get_artifacts_by_id([1])
        for uri in ("s3://after", "s3://at the end"):
            store.seal()
            node.uri = uri
            store.put_artifacts([node])


Makers: TypeAlias = dict[str, Callable[[Path], None]]

FORMATS: dict[str, Makers] = {
    "format-2": {"put": make_put, "erased": make_erased, "imported": make_imported},
    "format-3": {"merged": make_merged},
}


def make_all(folder: Path, makers: Makers) -> None:
    """Make each store in a folder, with what was signed of it and what is expected of it."""
    expected: dict[str, Any] = {}
    for name, make in makers.items():
        with made_alike(name):
            make(folder / name)
            with eventstore.open(folder / name) as store:
                checkpoint = store.checkpoint(KEY)
                proofs = [
                    store.prove(position, checkpoint).to_text()
                    for position in range(1, checkpoint.size + 1)
                ]
                proofs.append(store.prove_consistency(checkpoint, checkpoint).to_text())
                commits = [*store.log.commits()]
                artifacts = [[node.id, node.name] for node in store.get_artifacts()]
            report = verify_directory(folder / name)
        (folder / f"{name}.checkpoint").write_text(checkpoint.text)
        texts = json.dumps(proofs, indent=1, ensure_ascii=False)
        (folder / f"{name}.proofs").write_text(texts + "\n")
        lines = [msgspec.json.encode(r).decode() + "\n" for c in commits for r in c.records]
        (folder / f"{name}.export").write_text("".join(lines))
        expected[name] = {
            "store_id": str(checkpoint.store_id),
            "records": report.records,
            "commits": report.commits,
            "head": report.tree_head,
            "artifacts": artifacts,
            "heads_of_commits": [commit.tree_head.hex() for commit in commits],
        }
        shutil.rmtree(folder / name / "projections", ignore_errors=True)
        for needless in ("lock", "sealing.lock", "log/acknowledged"):
            (folder / name / needless).unlink(missing_ok=True)
    (folder / "auditor.pub").write_text(str(KEY.verifier_key) + "\n")
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    for name, makers in FORMATS.items():
        shutil.rmtree(FOLDER / name, ignore_errors=True)
        (FOLDER / name).mkdir()
        make_all(FOLDER / name, makers)
