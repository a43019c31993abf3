"""The smallest database of MLMD's on a server: schema version 0, which has the fewest tables."""

from __future__ import annotations

from tests.sql_servers import Server

_PROPERTIES = (
    "name VARCHAR(255), is_custom_property INT, int_value INT, double_value DOUBLE PRECISION,"
    " string_value TEXT"
)


def make_database(server: Server, database: str) -> None:
    """A type and an artifact of it."""
    server.execute(
        "CREATE TABLE Type (id INT PRIMARY KEY, name VARCHAR(255), is_artifact_type INT,"
        " input_type TEXT, output_type TEXT)",
        "CREATE TABLE TypeProperty (type_id INT, name VARCHAR(255), data_type INT)",
        "CREATE TABLE Artifact (id INT PRIMARY KEY, type_id INT, uri TEXT)",
        "CREATE TABLE Execution (id INT PRIMARY KEY, type_id INT)",
        f"CREATE TABLE ArtifactProperty (artifact_id INT, {_PROPERTIES})",
        f"CREATE TABLE ExecutionProperty (execution_id INT, {_PROPERTIES})",
        "CREATE TABLE Event (id INT PRIMARY KEY, artifact_id INT, execution_id INT, type INT,"
        " milliseconds_since_epoch BIGINT)",
        "CREATE TABLE EventPath (event_id INT, is_index_step INT, step_index INT, step_key TEXT)",
        "INSERT INTO Type VALUES (1, 'T', 1, NULL, NULL)",
        "INSERT INTO Artifact VALUES (1, 1, 'first')",
        database=database,
    )
