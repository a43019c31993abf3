"""Ten questions of analysts, in SQL that DuckDB and Spark both read, over the log's records.

`records` has the columns of sealed segments, `$position` is a position half way.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Question(NamedTuple):
    """What is asked, and the query: its rows have an order."""

    what: str
    sql: str


_NAMED_TYPES: Final = """
    types AS (
        SELECT entity_id AS type_id, max_by(name, position) AS type,
            max_by(version, position) AS version
        FROM records WHERE kind IN ('artifact_type', 'execution_type', 'context_type')
        GROUP BY entity_id
    )
"""

QUESTIONS: Final = (
    Question(
        "new artifacts of each type by day",
        f"""
        WITH {_NAMED_TYPES}
        SELECT type, CAST(recorded_at AS DATE) AS day, count(*) AS artifacts
        FROM records JOIN types USING (type_id)
        WHERE kind = 'artifact' AND previous IS NULL
        GROUP BY type, CAST(recorded_at AS DATE)
        ORDER BY type, day
        """,
    ),
    Question(
        "failure rate of each pipeline by week",
        f"""
        WITH {_NAMED_TYPES},
        ended AS (
            SELECT entity_id AS execution_id, state, date_trunc('week', recorded_at) AS week
            FROM records WHERE kind = 'execution' AND state IN (3, 4)
        ),
        runs AS (
            SELECT execution_id, context_id FROM records WHERE kind = 'association'
        ),
        parents AS (
            SELECT context_id, parent_context_id FROM records WHERE kind = 'parent_context'
        ),
        pipelines AS (
            SELECT entity_id AS parent_context_id, max_by(name, position) AS pipeline
            FROM records JOIN types USING (type_id)
            WHERE kind = 'context' AND type = 'Pipeline'
            GROUP BY entity_id
        )
        SELECT pipeline, CAST(week AS DATE) AS week, count(*) AS ended,
            count(*) FILTER (WHERE state = 4) / count(*) AS failure_rate
        FROM ended JOIN runs USING (execution_id) JOIN parents USING (context_id)
        JOIN pipelines USING (parent_context_id)
        GROUP BY pipeline, week
        ORDER BY pipeline, week
        """,
    ),
    Question(
        "executions by type and attempt, and how they ended",
        f"""
        WITH {_NAMED_TYPES}
        SELECT type, properties['attempt'].int_value AS attempt,
            count(*) FILTER (WHERE previous IS NULL) AS begun,
            count(*) FILTER (WHERE state = 3) AS complete,
            count(*) FILTER (WHERE state = 4) AS failed
        FROM records JOIN types USING (type_id)
        WHERE kind = 'execution'
        GROUP BY type, properties['attempt'].int_value
        ORDER BY type, attempt
        """,
    ),
    Question(
        "records and updates of each actor by month",
        """
        SELECT actor, CAST(date_trunc('month', recorded_at) AS DATE) AS month,
            count(*) AS records, count(previous) AS updates
        FROM records
        GROUP BY actor, CAST(date_trunc('month', recorded_at) AS DATE)
        ORDER BY actor, month
        """,
    ),
    Question(
        "nodes by type and state as of half way",
        f"""
        WITH {_NAMED_TYPES},
        states AS (
            SELECT kind, entity_id, max(type_id) AS type_id, max_by(state, position) AS state
            FROM records
            WHERE kind IN ('artifact', 'execution') AND position <= $position
            GROUP BY kind, entity_id
        )
        SELECT type, state, count(*) AS nodes
        FROM states JOIN types USING (type_id)
        GROUP BY type, state
        ORDER BY type, state
        """,
    ),
    Question(
        "how accuracy is distributed, by version and framework",
        f"""
        WITH {_NAMED_TYPES},
        models AS (
            SELECT type_id, properties['framework'].string_value AS framework,
                properties['accuracy'].double_value AS accuracy
            FROM records WHERE kind = 'artifact' AND state = 2
        )
        SELECT version, framework, CAST(floor(accuracy * 20) AS INT) AS twentieths,
            count(*) AS models, avg(accuracy) AS mean
        FROM models JOIN types USING (type_id)
        WHERE type = 'Model'
        GROUP BY version, framework, CAST(floor(accuracy * 20) AS INT)
        ORDER BY version, framework, twentieths
        """,
    ),
    Question(
        "how long after they are made artifacts are first used",
        f"""
        WITH {_NAMED_TYPES},
        made AS (
            SELECT entity_id AS artifact_id, type_id, create_time
            FROM records WHERE kind = 'artifact' AND previous IS NULL
        ),
        used AS (
            SELECT artifact_id, min(event_time) AS used_at
            FROM records WHERE kind = 'event' AND event_type = 3
            GROUP BY artifact_id
        )
        SELECT type, count(*) AS made, count(used_at) AS used,
            avg(used_at - create_time) / 3600000 AS mean_hours,
            max(used_at - create_time) / 3600000 AS most_hours
        FROM made LEFT JOIN used USING (artifact_id) JOIN types USING (type_id)
        GROUP BY type
        ORDER BY type
        """,
    ),
    Question(
        "the longest executions, and those that never ended",
        f"""
        WITH {_NAMED_TYPES},
        ends AS (
            SELECT entity_id, max(type_id) AS type_id, max(name) AS name, max(state) AS state,
                max(update_time) - min(create_time) AS milliseconds
            FROM records WHERE kind = 'execution'
            GROUP BY entity_id
        ),
        ranked AS (
            SELECT *, count(*) OVER (PARTITION BY type_id, state) AS alike,
                row_number() OVER (
                    PARTITION BY type_id, state ORDER BY milliseconds DESC, entity_id
                ) AS place
            FROM ends
        )
        SELECT type, state, alike, place, name, milliseconds
        FROM ranked JOIN types USING (type_id)
        WHERE place <= 5
        ORDER BY type, state, place
        """,
    ),
    Question(
        "what was marked for deletion, by whom and why",
        f"""
        WITH {_NAMED_TYPES}
        SELECT type, actor, reason, count(*) AS marked,
            avg(update_time - create_time) / 86400000 AS mean_days,
            max(properties['accuracy'].double_value) AS best_accuracy
        FROM records JOIN types USING (type_id)
        WHERE kind = 'artifact' AND state = 3
        GROUP BY type, actor, reason
        ORDER BY type, actor, reason
        """,
    ),
    Question(
        "which datasets led to most models and evaluations, two hops on",
        """
        WITH inputs AS (
            SELECT artifact_id, execution_id
            FROM records WHERE kind = 'event' AND event_type = 3
        ),
        outputs AS (
            SELECT artifact_id, execution_id
            FROM records WHERE kind = 'event' AND event_type = 4
        ),
        hops AS (
            SELECT inputs.artifact_id AS source, outputs.artifact_id AS target
            FROM inputs JOIN outputs USING (execution_id)
        )
        SELECT first.source AS dataset, count(DISTINCT first.target) AS models,
            count(DISTINCT second.target) AS evaluations
        FROM hops AS first JOIN hops AS second ON second.source = first.target
        GROUP BY first.source
        ORDER BY evaluations DESC, dataset
        LIMIT 20
        """,
    ),
)
