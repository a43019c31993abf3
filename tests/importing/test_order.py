"""The order in which an import appends."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from eventstore.importing.importer import drafts
from eventstore.importing.mlmd_database import MlmdDatabase
from eventstore.importing.mlmd_rows import MlmdReader
from eventstore.importing.sqlite_source import SqliteSource
from eventstore.log import Draft
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.differential.recorded import DATABASES
from tests.importing.conftest import Change

NODES = {"artifact": mlmd.Artifact, "execution": mlmd.Execution, "context": mlmd.Context}
ENDS = {
    "event": (mlmd.Event, (("artifact_id", "artifact"), ("execution_id", "execution"))),
    "attribution": (
        mlmd.Attribution,
        (("artifact_id", "artifact"), ("context_id", "context")),
    ),
    "association": (
        mlmd.Association,
        (("execution_id", "execution"), ("context_id", "context")),
    ),
    "parent_context": (
        mlmd.ParentContext,
        (("child_id", "context"), ("parent_id", "context")),
    ),
}


def drafts_of(database: Path) -> list[Draft]:
    with closing(SqliteSource(database)) as source:
        opened = MlmdDatabase(source)
        return list(drafts(opened, MlmdReader(opened)))


def ids(found: list[Draft], kind: str) -> list[int]:
    return [draft.entity_id for draft in found if draft.kind == kind]


@pytest.mark.parametrize("database", DATABASES, ids=[path.stem for path in DATABASES])
def test_everything_precedes_what_uses_it(database: Path) -> None:
    seen: set[tuple[str, int]] = set()
    newest = 0
    found = drafts_of(database)
    for draft in found:
        if draft.kind in NODES:
            node = NODES[draft.kind].FromString(draft.payload)
            assert (f"{draft.kind}_type", node.type_id) in seen
            assert draft.type_id == node.type_id
            assert node.create_time_since_epoch >= newest
            newest = node.create_time_since_epoch
        elif draft.kind in ENDS:
            message, ends = ENDS[draft.kind]
            link = message.FromString(draft.payload)
            for field, kind in ends:
                assert (kind, getattr(link, field)) in seen
        assert (draft.kind, draft.entity_id) not in seen
        seen.add((draft.kind, draft.entity_id))
    assert found == drafts_of(database)


def test_links_come_with_the_younger_of_their_ends_and_by_id(changed: Change) -> None:
    # Artifacts 1, 2, 3 and executions 1, 2 are a second apart, each linked to others.
    database = changed(
        "UPDATE Artifact SET create_time_since_epoch = id * 1000",
        "UPDATE Execution SET create_time_since_epoch = 500 + id * 1000",
        "UPDATE Context SET create_time_since_epoch = 0",
        "DELETE FROM Event",
        "DELETE FROM EventPath",
        "DELETE FROM Attribution",
        "DELETE FROM Association",
        "DELETE FROM ParentContext",
        # Of execution 1: late by its own time; after it by id, though artifact 1 is old.
        "INSERT INTO Event VALUES (1, 2, 1, 4, 2700), (2, 1, 1, 3, 10)",
        # Of execution 2: a time from long ago, and none.
        "INSERT INTO Event VALUES (3, 1, 2, 3, -5), (4, 3, 2, 4, NULL)",
        "INSERT INTO Attribution VALUES (1, 1, 2), (2, 1, 1)",
        "INSERT INTO Association VALUES (1, 1, 1)",
    )
    found = [(draft.kind, draft.entity_id) for draft in drafts_of(database)]
    assert found[-len("123123121212341") :] == [
        ("context", 1),
        ("context", 2),
        ("context", 3),
        ("artifact", 1),
        ("execution", 1),
        ("association", 1),
        ("artifact", 2),
        ("attribution", 1),
        ("attribution", 2),
        ("execution", 2),
        ("event", 3),
        ("event", 1),
        ("event", 2),
        ("artifact", 3),
        ("event", 4),
    ]


def test_an_event_far_in_the_future_holds_up_only_its_execution(changed: Change) -> None:
    database = changed(
        "DELETE FROM Event",
        "DELETE FROM EventPath",
        f"INSERT INTO Event VALUES (1, 1, 1, 3, {2**62}), (2, 2, 1, 4, 5), (3, 1, 2, 3, 5)",
    )
    assert ids(drafts_of(database), "event") == [3, 1, 2]


def test_of_events_with_one_key_the_newest_stays(changed: Change) -> None:
    database = changed(
        """
        INSERT INTO Event(id, artifact_id, execution_id, type, milliseconds_since_epoch)
        SELECT 50, artifact_id, execution_id, type, 77 FROM Event WHERE id = 1
        """,
        "INSERT INTO EventPath(event_id, is_index_step, step_key) VALUES (50, 0, 'new')",
        database="mlmd-v7.db",
    )
    events = [draft for draft in drafts_of(database) if draft.kind == "event"]
    assert 1 not in [event.entity_id for event in events]
    (kept,) = [event for event in events if event.entity_id == 50]
    event = mlmd.Event.FromString(kept.payload)
    assert event.milliseconds_since_epoch == 77
    assert [step.key for step in event.path.steps] == ["new"]
