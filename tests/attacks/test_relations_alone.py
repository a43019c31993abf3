"""What does not hold between records, with the commit and the position that each finding names."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pytest

from eventstore.log import DirectoryLog, relations
from eventstore.log.columns import RECORD_SCHEMA
from eventstore.log.erasure_check import erasures_in_effect
from eventstore.log.record_check import TypeUse
from eventstore.log.relations import (
    COLUMNS,
    Related,
    RelationsUncheckedError,
    relation_findings,
)
from eventstore.log.verification import verify_directory
from tests.builders import append, draft

_SCHEMA = pa.schema([RECORD_SCHEMA.field(name) for name in COLUMNS])


def row(position: int, kind: str, entity_id: int, **values: Any) -> dict[str, Any]:
    """A record; each is in a commit of its own, whose number is a hundred more."""
    salt, who_salt = position.to_bytes(16, "little"), (position + 1_000).to_bytes(16, "little")
    known = dict.fromkeys(COLUMNS) | {"position": position, "commit": position + 100}
    salts = {"salt": salt, "who_salt": who_salt}
    return known | {"kind": kind, "entity_id": entity_id} | salts | values


def node(position: int, entity_id: int, **values: Any) -> dict[str, Any]:
    return row(position, "artifact", entity_id, **{"type_id": 10, "create_time": 5} | values)


def found(
    rows: list[dict[str, Any]],
    *types: TypeUse,
    after: int = 0,
    is_to_end: bool = True,
) -> list[tuple[str, int | None, int | None]]:
    batches = [pa.RecordBatch.from_pylist([one], _SCHEMA) for one in rows]
    upto = max((one["position"] for one in rows), default=0)
    related = Related(after, upto, types, erasures_in_effect([]), is_to_end=is_to_end)
    findings = relation_findings(batches, related)
    with mock.patch.object(relations, "_IN_MEMORY_RECORDS_MAX", -1):
        assert relation_findings(batches, related) == findings
    assert all(f.what.startswith(f"commit {f.commit} was changed: ") for f in findings)
    return [(f.what.partition("changed: ")[2], f.commit, f.position) for f in findings]


def link(position: int, kind: str, **ends: int) -> dict[str, Any]:
    return row(position, kind, position, **ends)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([node(1, 1), node(2, 1)], "artifact 1 is said to be new, it was put at position 1"),
        ([node(1, 2, previous=3)], "artifact 2 is said to replace position 3, which is none of"),
        (
            [node(1, 1), node(2, 1, previous=1), node(3, 1, previous=1)],
            "artifact 1 is said to replace position 1, which is not its former one, 2",
        ),
        ([node(1, 1), node(2, 1, previous=1, type_id=11)], "artifact 1 has another type than"),
        ([node(1, 1), node(2, 1, previous=1, create_time=6)], "has another create time than"),
        ([node(1, 1, name="a"), node(2, 1, previous=1)], "has another name than in its record"),
        (
            [
                row(1, "artifact_type", 1, version="a"),
                row(2, "artifact_type", 1, version="b", previous=1),
            ],
            "artifact type 1 has another version than in its record at position 1, which no put",
        ),
        (
            [row(1, "artifact_type", 1), row(2, "context_type", 1)],
            "types of two kinds have id 1",
        ),
        ([node(1, 1, name="a"), node(2, 2, name="a")], "artifact 2 bears the name a, which"),
        (
            [node(1, 1, external_id="a"), node(2, 2, external_id="a", type_id=11)],
            "artifact 2 bears the external id a, which another one still has",
        ),
        (
            [
                row(1, "artifact_type", 1, external_id="a"),
                row(2, "context_type", 2, external_id="a"),
            ],
            "context_type 2 bears the external id a",
        ),
        (
            [
                link(1, "event", artifact_id=1, execution_id=2, event_type=3),
                link(2, "event", artifact_id=1, execution_id=2, event_type=3),
            ],
            "event (1, 2, 3) is there twice",
        ),
        (
            [
                link(1, "attribution", artifact_id=1, context_id=2),
                link(2, "attribution", artifact_id=1, context_id=2),
            ],
            "attribution (2, 1) is there twice",
        ),
        (
            [
                link(1, "association", execution_id=1, context_id=2),
                link(2, "association", execution_id=1, context_id=2),
            ],
            "association (2, 1) is there twice",
        ),
        (
            [
                link(1, "parent_context", parent_context_id=1, context_id=2),
                link(2, "parent_context", parent_context_id=1, context_id=2),
            ],
            "parent context (2, 1) is there twice",
        ),
        ([node(1, 1), node(2, 2, salt=(1).to_bytes(16, "little"))], "a salt is there twice"),
    ],
)
def test_what_does_not_hold(rows: list[dict[str, Any]], words: str) -> None:
    ((what, commit, position),) = found(rows)
    assert words in what
    assert (commit, position) == (len(rows) + 100, len(rows))


def test_only_so_many_of_one_kind_are_named() -> None:
    rows = [node(position, 1) for position in range(1, 20)]
    findings = found(rows)
    assert [position for _, _, position in findings] == [*range(2, 12)]
    assert len(found([*rows, node(20, 2, salt=rows[0]["salt"])])) == 11


def test_what_came_before_a_range_is_not_known() -> None:
    rows = [node(6, 1, previous=5), node(7, 2, previous=6)]
    ((what, commit, position),) = found(rows, after=5)
    assert "artifact 2 is said to replace position 6" in what
    assert (commit, position) == (107, 7)
    use = TypeUse("artifact", 10, "other", 6, 106)
    types = [row(6, "artifact_type", 10, name="T")]
    assert found(types, use, after=5) == []
    assert len(found(types, use)) == 1


@pytest.mark.parametrize(
    ("rows", "use", "words"),
    [
        ([row(1, "artifact_type", 10, name="T")], TypeUse("artifact", 10, "T", 2, 102), None),
        (
            [row(1, "artifact_type", 10, name="T")],
            TypeUse("artifact", 10, "U", 2, 102),
            "the artifact at position 2 says that its type 10 is 'U', which is 'T'",
        ),
        (
            [row(1, "artifact_type", 10, name="T")],
            TypeUse("artifact", 11, "U", 1, 101),
            "the artifact at position 1 says that its type 11 is 'U', which is None",
        ),
        ([row(1, "artifact_type", 10, name="T")], TypeUse("artifact", 11, None, 1, 101), None),
        (
            [row(3, "artifact_type", 10, name="T")],
            TypeUse("artifact", 10, "T", 2, 102),
            "its type 10 is 'T', which is 'T' and was put at position 3",
        ),
        # Of no types nothing is known.
        ([node(1, 1)], TypeUse("artifact", 10, "U", 2, 102), None),
    ],
)
def test_types_of_nodes(rows: list[dict[str, Any]], use: TypeUse, words: str | None) -> None:
    findings = found(rows, use)
    if words is None:
        assert findings == []
        return
    ((what, commit, position),) = findings
    assert what.endswith(words)
    assert (commit, position) == (use.commit, use.position)


def test_what_there_is_no_room_to_compare_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = DirectoryLog.create(tmp_path / "store")
    append(log, draft(1))
    log.close()
    monkeypatch.setattr(relations, "_FORMER", "SELECT error('no room')")
    with pytest.raises(RelationsUncheckedError, match="no room"):
        found([node(1, 1)])
    report = verify_directory(tmp_path / "store")
    assert report.ok
    (words,) = report.not_checked
    assert words.startswith("whether records agree with each other")
    assert "no room" in words
