"""Databases of ml-metadata's on servers, filled by ml-metadata itself."""

from __future__ import annotations

import random
from typing import Any

from eventstore import errors
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.differential.generator import Generator
from tests.differential.oracle import Oracle
from tests.sql_servers import Server

WORD = "mlmd"
"""A user and its password: ml-metadata connects to PostgreSQL with no password that has a space."""

TEXTS = ("", "ä", "数据 🦆", "it's \"%_$:x", "line\nbreak", "Ã¤")
DOUBLES = (0.0, -0.5, 1e300, 123456.75)
ODD_DOUBLES = ("NaN", "Infinity", "-Infinity")
"""What PostgreSQL can hold, though ml-metadata does not put it there."""

INTS = (0, -1, 2**31 - 1, -(2**31))


def new_config(server: Server) -> tuple[str, mlmd.ConnectionConfig]:
    """The name of a new database, and how ml-metadata connects to it."""
    database = server.new_database()
    config = mlmd.ConnectionConfig()
    if server.scheme == "mysql":
        server.execute(
            f"CREATE USER IF NOT EXISTS '{WORD}'@'%' IDENTIFIED BY '{WORD}'",
            f"GRANT ALL ON *.* TO '{WORD}'@'%'",
        )
        config.mysql.host, config.mysql.port = "127.0.0.1", server.port
        config.mysql.user = config.mysql.password = WORD
        config.mysql.database = database
    else:
        if not server.execute(f"SELECT 1 FROM pg_roles WHERE rolname = '{WORD}'"):
            server.execute(f"CREATE USER {WORD} SUPERUSER PASSWORD '{WORD}'")
        config.postgresql.host, config.postgresql.port = "127.0.0.1", str(server.port)
        config.postgresql.user = config.postgresql.password = WORD
        config.postgresql.dbname = database
    config.retry_options.max_num_retries = 1
    return database, config


def reader_url(server: Server, database: str) -> str:
    """The URL for a user who may read the tables that are there, and nothing else."""
    name = f"reader_of_{database}"
    if server.scheme == "mysql":
        server.execute(
            f"CREATE USER {name} IDENTIFIED BY '{WORD}'", f"GRANT SELECT ON {database}.* TO {name}"
        )
    else:
        server.execute(
            f"CREATE USER {name} PASSWORD '{WORD}'",
            f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}",
            database=database,
        )
    return server.url(database, user=name, password=WORD)


def random_puts(oracle: Oracle, seed: int, number: int) -> None:
    """Run puts, most of which succeed, on what the oracle has open."""
    generator = Generator(random.Random(seed))
    while number:
        rpc, request = generator.next_call()
        if rpc.startswith("Put"):
            number -= 1
        try:
            response = oracle.call(rpc, request)
        except errors.StatusError:
            continue
        generator.learn(rpc, request, response)


def downgrade(oracle: Oracle, server: Server, config: mlmd.ConnectionConfig, version: int) -> None:
    """Have ml-metadata bring a database to an older schema.

    It leaves properties without a value where an older schema has no column for theirs, and fails
    to read these: they are removed before.
    """
    database = config.mysql.database or config.postgresql.dbname
    server.execute(
        *(
            f"DELETE FROM {kind}Property WHERE proto_value IS NOT NULL OR bool_value IS NOT NULL"
            for kind in ("Artifact", "Execution", "Context")
        ),
        database=database,
    )
    oracle.downgrade(config, version)


def put_odd_values(oracle: Oracle, server: Server, database: str) -> None:
    """One node with values of all kinds at their edges, and an event with a path."""
    node_type = mlmd.ArtifactType(name="Odd", version="v 1", description="ä")
    for name, kind in (("proto", mlmd.PROTO), ("bool", mlmd.BOOLEAN), ("struct", mlmd.STRUCT)):
        node_type.properties[name] = kind
    odd = mlmd.Artifact(
        type_id=oracle.method("put_artifact_type", node_type),
        name="naïve 🦆",
        uri="s3://ä/数据",
        external_id="ü",
    )
    odd.properties["proto"].proto_value.Pack(mlmd.Artifact(uri="inside ä"))
    odd.properties["bool"].bool_value = False
    odd.properties["struct"].struct_value.update({"a": [1, None, {"b": "ç"}]})
    values: dict[str, tuple[Any, ...]] = {
        "string": TEXTS,
        "int": INTS,
        "double": DOUBLES,
    }
    for kind, of_kind in values.items():
        for number, value in enumerate(of_kind):
            setattr(odd.custom_properties[f"{kind} {number} ö"], f"{kind}_value", value)
    odd.custom_properties["none"].struct_value.SetInParent()
    run = mlmd.Execution(
        type_id=oracle.method("put_execution_type", mlmd.ExecutionType(name="Odd run"))
    )
    event = mlmd.Event(type=mlmd.Event.INPUT, milliseconds_since_epoch=-5)
    event.path.steps.add().key = "數"
    event.path.steps.add().index = 0
    event.path.steps.add().key = ""
    oracle.method("put_execution", run, [(odd, event)], [])
    if server.scheme == "postgresql":
        changes = [
            f"UPDATE ArtifactProperty SET double_value = '{value}' WHERE name = 'double {number} ö'"
            for number, value in enumerate(ODD_DOUBLES)
        ]
        server.execute(*changes, database=database)
