"""What an MLMD database holds that MLMD accepted, and a reader of the store may stumble over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from eventstore.importing.mlmd_database import MlmdDatabase

_COUNTS: Final = {
    "events name an artifact or an execution that does not exist": """
        SELECT count(*) AS number FROM Event AS link
        LEFT JOIN Artifact AS artifact ON artifact.id = link.artifact_id
        LEFT JOIN Execution AS execution ON execution.id = link.execution_id
        WHERE artifact.id IS NULL OR execution.id IS NULL
    """,
    "attributions name a context or an artifact that does not exist": """
        SELECT count(*) AS number FROM {Attribution} AS link
        LEFT JOIN {Context} AS context ON context.id = link.context_id
        LEFT JOIN Artifact AS artifact ON artifact.id = link.artifact_id
        WHERE context.id IS NULL OR artifact.id IS NULL
    """,
    "associations name a context or an execution that does not exist": """
        SELECT count(*) AS number FROM {Association} AS link
        LEFT JOIN {Context} AS context ON context.id = link.context_id
        LEFT JOIN Execution AS execution ON execution.id = link.execution_id
        WHERE context.id IS NULL OR execution.id IS NULL
    """,
    "parent context links name a context that does not exist": """
        SELECT count(*) AS number FROM {ParentContext} AS link
        LEFT JOIN {Context} AS child ON child.id = link.context_id
        LEFT JOIN {Context} AS parent ON parent.id = link.parent_context_id
        WHERE child.id IS NULL OR parent.id IS NULL
    """,
    "nodes have a type that does not exist or is of another kind": """
        SELECT count(*) AS number FROM (
            SELECT type_id, 1 AS kind FROM Artifact
            UNION ALL SELECT type_id, 0 FROM Execution
            UNION ALL SELECT type_id, 2 FROM {Context} AS context
        ) AS node
        LEFT JOIN {Type} AS type ON type.id = node.type_id AND type.type_kind = node.kind
        WHERE type.id IS NULL
    """,
    "properties belong to a node that does not exist and were left out": """
        SELECT (SELECT count(*) FROM ArtifactProperty
                WHERE artifact_id NOT IN (SELECT id FROM Artifact))
             + (SELECT count(*) FROM ExecutionProperty
                WHERE execution_id NOT IN (SELECT id FROM Execution))
             + (SELECT count(*) FROM {ContextProperty} AS property
                WHERE context_id NOT IN (SELECT id FROM {Context} AS context)) AS number
    """,
}
"""Queries that count, by the words that follow the number."""

_TABLES_WITH_IDS: Final = ("Type", "Artifact", "Execution", "Context")


def oddities(database: MlmdDatabase) -> Iterator[str]:
    """One line for each kind of oddity that the database has."""
    counts = {words: database.number(sql) for words, sql in _COUNTS.items()}
    # Servers compare texts as they are set up to, such as without regard to case.
    named = [
        (row["type_kind"], row["version"] or "", row["name"])
        for row in database.rows(f"{database.table('Type')}")
    ]
    counts["types bear the name and version of another one of their kind"] = len(named) - len(
        set(named)
    )
    counts["events repeat an artifact, execution and type and were left out for the newest one"] = (
        len(database.repeated_events())
    )
    yield from (f"{number} {words}" for words, number in counts.items() if number)
    yield from _ids_to_come_again(database)


def _ids_to_come_again(database: MlmdDatabase) -> Iterator[str]:
    """Ids that were given out last and that no row has: a store does not remember them."""
    given = database.source.last_ids()
    for table in _TABLES_WITH_IDS:
        highest = database.number(f"SELECT max(id) AS number FROM {{{table}}} AS this")
        if given.get(table, 0) > highest:
            yield (
                f"ids {highest + 1} to {given[table]} of table {table} were given out and no row "
                "has them: the store will give them out again"
            )
