"""Random filter queries: mostly valid, some not."""

from __future__ import annotations

import random

_COMMON = {
    "id": "int",
    "type_id": "int",
    "name": "string",
    "type": "string",
    "external_id": "string",
}
NODE = {
    "artifact": {**_COMMON, "uri": "string"},
    "execution": _COMMON,
    "context": _COMMON,
}
ENUMS = {
    "artifact": ("state", ("PENDING", "LIVE", "DELETED", "UNKNOWN")),
    "execution": ("last_known_state", ("NEW", "RUNNING", "COMPLETE", "CACHED")),
}
NEIGHBOURS = {
    "artifact": ("contexts_a.id", "contexts_a.name", "contexts_b.type", "events_0.execution_id"),
    "execution": ("contexts_a.id", "contexts_a.name", "contexts_b.type", "events_0.artifact_id"),
    "context": (
        "parent_contexts_a.id",
        "child_contexts_a.name",
        "artifacts_a.uri",
        "artifacts_a.id",
        "executions_a.name",
        "executions_b.id",
        "parent_contexts_p.type",
    ),
}
PROPERTIES = (
    ("properties.int.int_value", "int"),
    ("properties.double.double_value", "float"),
    ("properties.string.string_value", "string"),
    ("properties.bool.bool_value", "bool"),
    ("custom_properties.c_int.int_value", "int"),
    ("custom_properties.`c.dot`.int_value", "int"),
    ("custom_properties.`c.dot`.double_value", "float"),
    ("properties.none.int_value", "int"),
)
LITERALS = {
    "int": ("0", "1", "2", "3", "10", "-5", "0x2"),
    "float": ("0.25", "1", "-1.5", "1e10", "0.0"),
    "string": ("'n1'", '"n2"', "'N3'", "'T0'", "''", "'s3://a'", "'%'", "'n%'", "'_1'"),
    "bool": ("TRUE", "false"),
}
_BROKEN = (
    "id = 'a'",
    "nonsense = 1",
    "id ==",
    "id",
    "name",
    "state = 1",
    "contexts_a.foo = 1",
    "contexts.name = 'a'",
    "id IN ()",
    "name = NULL",
    "(id = 1",
    "id = 1)",
    "id = 1;",
    "SELECT 1",
    "id % 2 = 0",
    "name ILIKE 'a'",
    "'a'",
    "properties.int",
    "properties.int.foo = 1",
    "uri.x = 'a'",
    "MAX(id) = 1",
    "id = @p",
    " ",
)

_SEVERAL = {
    "artifact": (
        "events_0.type = INPUT",
        "events_0.execution_id > 1",
        "events_1.type != OUTPUT",
        "events_1.execution_id IN (1, 3)",
        "events_2.milliseconds_since_epoch IS NULL",
        "contexts_a.name LIKE 'n%'",
        "contexts_a.id = events_0.execution_id",
        "contexts_b.type = 'T0'",
        "contexts_b.name = name",
        "contexts_c.id < contexts_a.id",
    ),
    "execution": (
        "events_0.type = OUTPUT",
        "events_0.artifact_id = id",
        "events_1.artifact_id > 2",
        "contexts_a.name = 'n1'",
        "contexts_b.id < 3",
        "contexts_b.id = contexts_a.id",
        "contexts_c.type IN ('T0', 'T1')",
    ),
    "context": (
        "artifacts_a.uri = 's3://a'",
        "artifacts_b.name LIKE 'n%'",
        "artifacts_b.id = executions_a.id",
        "executions_a.name = 'n1'",
        "executions_b.type = 'T0'",
        "parent_contexts_p.name > 'n1'",
        "child_contexts_c.id = id",
        "child_contexts_d.type = type",
    ),
}
_TESTS = ("TRUE", "NOT TRUE", "FALSE", "NOT FALSE", "NULL", "NOT NULL")


def random_junction(choice: random.Random, kind: str, depth: int = 4) -> str:
    """AND, OR, NOT and IS over several neighbours, properties and the node itself."""
    roll = choice.random()
    if depth and (roll < 0.5 or depth == 4):
        parts = [random_junction(choice, kind, depth - 1) for _ in range(choice.randrange(2, 4))]
        return f"({choice.choice((' AND ', ' OR ')).join(parts)})"
    if depth and roll < 0.62:
        return f"NOT ({random_junction(choice, kind, depth - 1)})"
    if depth and roll < 0.7:
        return f"(({random_junction(choice, kind, depth - 1)}) IS {choice.choice(_TESTS)})"
    if depth and roll < 0.74:
        condition, then, otherwise = (random_junction(choice, kind, 0) for _ in range(3))
        return f"(CASE WHEN {condition} THEN {then} ELSE {otherwise} END)"
    return choice.choice(_SEVERAL[kind]) if choice.random() < 0.75 else _comparison(choice, kind)


def random_filter(choice: random.Random, kind: str, depth: int = 2) -> str:
    """A filter on nodes of a kind, as a user might write it."""
    if depth == 2 and choice.random() < 0.06:
        return choice.choice(_BROKEN)
    roll = choice.random()
    if depth and roll < 0.35:
        left, right = random_filter(choice, kind, depth - 1), random_filter(choice, kind, depth - 1)
        return f"({left}) {choice.choice(('AND', 'OR', 'and'))} ({right})"
    if depth and roll < 0.45:
        return f"NOT ({random_filter(choice, kind, depth - 1)})"
    return _comparison(choice, kind)


def _comparison(choice: random.Random, kind: str) -> str:
    roll = choice.random()
    if kind in ENUMS and roll < 0.15:
        # Equalities are rare: upstream stumbles over a second one in a query (contract Q17).
        column, names = ENUMS[kind]
        return choice.choice(
            (
                f"{column} IS NULL",
                f"{column} IS NOT NULL",
                f"{column} > {choice.randrange(5)}",
                f"{column} BETWEEN 1 AND {choice.randrange(1, 7)}",
                f"{column} = {choice.choice(names)}" if choice.random() < 0.3 else "TRUE",
            )
        )
    if roll < 0.35:
        column, value_type = choice.choice(PROPERTIES)
    elif roll < 0.55:
        column = choice.choice(NEIGHBOURS[kind])
        value_type = "int" if column.endswith("id") else "string"
    else:
        column = choice.choice(sorted(NODE[kind]))
        value_type = NODE[kind][column]
    literals = LITERALS[value_type]
    if value_type == "bool":
        return choice.choice((column, f"{column} = {choice.choice(literals)}"))
    form = choice.randrange(8)
    if form == 0:
        return f"{column} IS {choice.choice(('', 'NOT '))}NULL"
    if form == 1:
        members = ", ".join(choice.sample(literals, 2))
        return f"{column} {choice.choice(('', 'NOT '))}IN ({members})"
    if form == 2:
        low, high = choice.choice(literals), choice.choice(literals)
        return f"{column} BETWEEN {low} AND {high}"
    if form == 3 and value_type == "string":
        return f"{column} {choice.choice(('', 'NOT '))}LIKE {choice.choice(literals)}"
    if form == 4 and value_type == "int":
        return f"{column} {choice.choice('+-*')} 1 {choice.choice(('=', '>'))} 2"
    operator = choice.choice(("=", "!=", "<>", "<", "<=", ">", ">="))
    return f"{column} {operator} {choice.choice(literals)}"
