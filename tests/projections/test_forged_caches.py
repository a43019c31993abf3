"""Caches forged with their checksums: nothing of them enters the log, and `verify` finds them."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import msgspec
import pytest

import eventstore
from eventstore import errors
from eventstore.audit import compared_caches
from eventstore.audit.compared_caches import with_caches
from eventstore.log.kinds import ARTIFACT
from eventstore.projections import duckdb_faults
from eventstore.projections.index_tables import (
    TABLES,
    TABLES_OF,
    type_name_key,
)
from eventstore.projections.projections import Projections
from eventstore.projections.run_batches import run_batch
from eventstore.projections.run_file import RunMetadata
from eventstore.projections.run_writing import write_run_file
from eventstore.projections.sorted_run import SortedRun
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import ARTIFACT_NAMES, ARTIFACTS, open_with


@pytest.fixture(scope="module", params=["sealed", "active"])
def template(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Path]:
    """A store all of whose records are in a run, and in the tables."""
    path = tmp_path_factory.mktemp("forged") / "store"
    with open_with(path, closing_records_min=1) as store:
        made = mlmd.ArtifactType(name="Made", properties={"text": mlmd.STRING, "n": mlmd.INT})
        type_id = store.put_artifact_type(made)
        artifacts = [mlmd.Artifact(type_id=type_id, name=f"a{n}", uri="u") for n in range(300)]
        for number, artifact in enumerate(artifacts):
            artifact.properties["text"].string_value = f"true {number}"
        store.put_artifacts(artifacts)
        if request.param == "sealed":
            store.seal()
        store.get_artifacts(eventstore.ListOptions(filter_query="uri LIKE 'u%'"))
        store.close()
        yield path


@pytest.fixture
def directory(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "store"))


def run_of(directory: Path) -> Path:
    (path,) = (directory / "projections" / "index").glob("*.run")
    return path


Rows = list[dict[str, object]]


def forge(
    directory: Path,
    table: int,
    change: Callable[[Rows], Rows],
    metadata: Callable[[RunMetadata], RunMetadata] = lambda metadata: metadata,
) -> None:
    """Write the run anew with other entries in a table."""
    run = SortedRun(run_of(directory))
    tables = {number: run.batch(number) for number in TABLES}
    rows = change(tables[table].to_pylist())
    columns = [[row[name] for row in rows] for name in ("key", "position", "value")]
    tables[table] = run_batch(*columns)  # type: ignore[arg-type]
    write_run_file(run.path, metadata(run.metadata), tables)


def changed_text(rows: Rows) -> Rows:
    return [{**row, "value": row["value"].replace(b"true", b"lies")} for row in rows]  # type: ignore[attr-defined]


def renamed(rows: Rows) -> Rows:
    return [{**row, "value": row["value"].replace(b"Made", b"Fake")} for row in rows]  # type: ignore[attr-defined]


def masked_put(store: eventstore.MetadataStore, node_id: int) -> mlmd.Artifact:
    known = store.get_artifact_type("Made")
    changed = mlmd.Artifact(id=node_id, type_id=known.id if known is not None else 10)
    changed.properties["n"].int_value = 5
    store.put_artifacts([changed], ["properties.n"])
    (stored,) = store.get_artifacts_by_id([node_id])
    return stored


def payloads(store: eventstore.MetadataStore) -> list[bytes]:
    return [record.payload or b"" for commit in store.log.commits() for record in commit.records]


def test_a_masked_put_takes_nothing_from_a_forged_run(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    forge(directory, ARTIFACTS, changed_text)
    with eventstore.open(directory) as store:
        (read,) = store.get_artifacts_by_id([7])
        assert "lies" in str(read), "the forgery is not seen"
        stored = masked_put(store, 7)
        assert stored.properties["text"].string_value == "true 6"
        assert stored.properties["n"].int_value == 5
        assert not [payload for payload in payloads(store) if b"lies" in payload]
        assert "the point index gives a record at position" in caplog.text
        assert store.verify().ok


@pytest.mark.parametrize("copied_bytes_max", [0, 1 << 30])
def test_a_masked_put_takes_nothing_from_a_damaged_run(
    directory: Path, copied_bytes_max: int
) -> None:
    path = run_of(directory)
    content, chance = path.read_bytes(), random.Random(copied_bytes_max)
    value = content.index(b"true 6")
    for number, offset in enumerate([value, value + 5, *chance.sample(range(len(content)), 8)]):
        damaged = bytearray(content)
        damaged[offset] ^= 1 << chance.randrange(8)
        store_path = directory.with_name(f"damaged-{number}")
        shutil.copytree(directory, store_path)
        run_of(store_path).write_bytes(damaged)
        with open_with(store_path, copied_bytes_max=copied_bytes_max) as store:
            stored = masked_put(store, 7)
            assert (stored.properties["text"].string_value, stored.uri) == ("true 6", "u")
            (newest,) = next(iter(store.log.commits(store.log.position - 1))).records
            assert newest.payload == stored.SerializeToString(deterministic=True)
        shutil.rmtree(store_path)


def test_a_rebuild_during_a_put_lets_nothing_of_a_forged_run_by(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read before it is compared, though the index has no run any more."""
    forge(directory, ARTIFACTS, changed_text)
    check_bases, rebuilt = Projections.check_bases, []

    def check(self: Projections, *arguments: object, **options: object) -> None:
        if not rebuilt:
            rebuilt.append(True)
            self.rebuild()
        check_bases(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Projections, "check_bases", check)
    with eventstore.open(directory) as store:
        stored = masked_put(store, 7)
        assert (stored.properties["text"].string_value, stored.uri) == ("true 6", "u")
        assert stored.properties["n"].int_value == 5
        assert not [payload for payload in payloads(store) if b"lies" in payload]


def test_a_reader_of_a_forged_run_leaves_nothing_of_it_after_a_rebuild(directory: Path) -> None:
    def of_fake(rows: Rows) -> Rows:
        return [{**row, "key": type_name_key("", "Fake")} for row in rows if row["value"]]

    forge(directory, TABLES_OF[ARTIFACT.type].stored, renamed)
    forge(directory, TABLES_OF[ARTIFACT.type].names, of_fake)
    with eventstore.open(directory) as store:
        before = store._engine.snapshot()
        store.rebuild()
        assert before.stored_type_id(ARTIFACT, "Fake", None) is not None, "the forgery is not seen"
        assert store._engine.snapshot().stored_type_id(ARTIFACT, "Fake", None) is None


def test_a_put_takes_no_type_from_a_forged_run(directory: Path) -> None:
    forge(directory, TABLES_OF[ARTIFACT.type].stored, renamed)
    with eventstore.open(directory) as store:
        (artifact,) = store.get_artifacts_by_id([7])
        store.put_artifacts([mlmd.Artifact(type_id=artifact.type_id, name="new", uri="u")])
        assert not [payload for payload in payloads(store) if b"Fake" in payload]


@pytest.mark.share(3)
@pytest.mark.parametrize(
    "change",
    [
        changed_text,
        lambda rows: rows[:-1],
        lambda rows: rows[1:],
        lambda rows: [*rows[:5], *rows[6:]],
        lambda rows: [*rows, {**rows[-1], "key": 10_000}],
        lambda rows: [*rows[:-1], {**rows[-1], "position": 2}],
    ],
)
def test_verify_finds_a_forged_run(directory: Path, change: Callable[[Rows], Rows]) -> None:
    with eventstore.open(directory, read_only=True) as store:
        assert store.verify().not_checked == []
    forge(directory, ARTIFACTS, change)
    with eventstore.open(directory, read_only=True) as store:
        with pytest.raises(errors.FailedPreconditionError, match="eventstore rebuild") as raised:
            store.verify()
        assert str(run_of(directory)) in str(raised.value)
        report = store.verify(caches=False)
        assert (report.ok, report.not_checked) == (True, ["the caches"])


def test_verify_finds_forged_ids(directory: Path) -> None:
    def lower(metadata: RunMetadata) -> RunMetadata:
        return msgspec.structs.replace(
            metadata, highest_ids={**metadata.highest_ids, "artifact": 3}
        )

    forge(directory, ARTIFACTS, lambda rows: rows, lower)
    with (
        eventstore.open(directory, read_only=True) as store,
        pytest.raises(errors.FailedPreconditionError, match="is not what the log gives"),
    ):
        store.verify()


@pytest.mark.share(2)
@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE artifacts SET uri = 'x' WHERE id = 7",
        "UPDATE artifact_properties SET string_value = 'x' WHERE node_id = 7",
        "DELETE FROM artifacts WHERE id = 7",
        "INSERT INTO artifacts FROM artifacts WHERE id = 7",
    ],
)
def test_verify_finds_forged_tables(directory: Path, sql: str) -> None:
    path = directory / "projections" / "tables.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute(sql)
    with (
        eventstore.open(directory, read_only=True) as store,
        pytest.raises(errors.FailedPreconditionError, match=r"tables\.duckdb is not what the log"),
    ):
        store.verify()


OTHER_DEFINITIONS = (
    "DROP TABLE events",
    "DROP TABLE artifact_properties",
    "DROP TABLE folded_position",
    "ALTER TABLE folded_position DROP COLUMN recorded_at",
    "ALTER TABLE events DROP COLUMN time",
    "ALTER TABLE artifacts RENAME COLUMN uri TO other",
    "ALTER TABLE artifacts ADD COLUMN other INTEGER",
    "ALTER TABLE artifacts ALTER state TYPE VARCHAR; UPDATE artifacts SET state = 'x'",
    "ALTER TABLE types ALTER name SET NOT NULL",
    "CREATE TABLE other (id BIGINT)",
    "CREATE SCHEMA other; CREATE TABLE other.artifacts AS FROM artifacts",
    "ALTER TABLE artifacts RENAME TO others;"
    "CREATE VIEW artifacts AS SELECT * REPLACE ('x' AS uri) FROM others",
)
MORE_THAN_TABLES = (
    "CREATE MACRO count(x) AS 0; CREATE MACRO max(x) AS 'x'",
    "CREATE MACRO strlen(x) AS 0; CREATE MACRO translate(x, y, z) AS ''",
    "CREATE MACRO current_database() AS 'x'; CREATE MACRO coalesce(x, y) AS 0",
    "CREATE MACRO duckdb_functions() AS TABLE SELECT 'x' AS database_name, true AS internal;"
    "CREATE MACRO duckdb_tables() AS TABLE SELECT 'main' AS schema_name, '' AS sql LIMIT 0",
    "CREATE MACRO range(x) AS TABLE SELECT 7 AS range",
    "CREATE TYPE mood AS ENUM ('x')",
    "CREATE SEQUENCE other",
    "CREATE SCHEMA other; CREATE MACRO other.count(x) AS 0",
    "CREATE VIEW duckdb_columns AS SELECT 1 AS x",
    "CREATE INDEX other ON artifacts (uri)",
)


def uses(store: eventstore.MetadataStore) -> list[object]:
    query = eventstore.ListOptions(filter_query="properties.n.int_value > 1 OR uri LIKE 'u%'")
    return [
        [artifact.id for artifact in store.get_artifacts(query)],
        store.sql("SELECT count(state), min(uri), max(uri) FROM artifacts").rows(),
        store.sql("SELECT count(milliseconds_since_epoch) FROM events").rows(),
        store.sql("SELECT count(*), max(string_value) FROM properties").rows(),
        store.sql("SELECT count(id), sum(n) FROM artifacts, range(3) AS r(n)").rows(),
        store.as_of(store.log_position()).sql("SELECT count(uri) FROM artifacts").rows(),
        [artifact.id for artifact in store.as_of(store.log_position()).get_artifacts(query)],
    ]


@pytest.fixture(scope="module")
def expected(template: Path, tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """What `uses` gives while nothing is forged."""
    copy = shutil.copytree(template, tmp_path_factory.mktemp("honest") / "store")
    with eventstore.open(copy) as store:
        return uses(store)


# What is in the tables does not depend on the form that the segments have.
_of_one_form = pytest.mark.parametrize("template", ["sealed"], indirect=True)


@pytest.mark.share(3)
@_of_one_form
@pytest.mark.parametrize("sql", OTHER_DEFINITIONS)
@pytest.mark.parametrize("read_only", [False, True])
def test_tables_with_other_definitions_are_built_again(
    directory: Path,
    expected: list[object],
    sql: str,
    read_only: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with duckdb.connect(str(directory / "projections" / "tables.duckdb")) as connection:
        connection.execute(sql)
    with eventstore.open(directory, read_only=read_only) as store:
        assert uses(store) == expected
    assert "tables.duckdb has other tables than were made in it" in caplog.text or read_only
    if not read_only:
        caplog.clear()
        with eventstore.open(directory) as store:
            assert uses(store) == expected
            assert store.verify().ok
        assert not caplog.text


@pytest.mark.share(3)
@_of_one_form
@pytest.mark.parametrize("sql", MORE_THAN_TABLES)
def test_tables_with_more_beside_them_are_built_again(
    directory: Path, expected: list[object], sql: str, caplog: pytest.LogCaptureFixture
) -> None:
    with duckdb.connect(str(directory / "projections" / "tables.duckdb")) as connection:
        connection.execute(sql)
    with (
        eventstore.open(directory, read_only=True) as store,
        pytest.raises(errors.FailedPreconditionError, match=r"tables\.duckdb is not what the log"),
    ):
        store.verify()
    with eventstore.open(directory) as store:
        assert uses(store) == expected
        assert "tables.duckdb has more in it than tables" in caplog.text
        assert store.verify().ok


def test_no_view_is_run_before_it_is_looked_at(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with duckdb.connect(str(directory / "projections" / "tables.duckdb")) as connection:
        connection.execute(
            "DROP TABLE folded_position; CREATE VIEW folded_position AS SELECT "
            "error('it was run') AS format_version, 'x' AS store_id, 1 AS position, "
            "1 AS recorded_at"
        )
    with eventstore.open(directory) as store:
        (words,) = store.verify().not_checked
        assert "tables.duckdb" in words
        assert store.sql("SELECT count(*) FROM artifacts").rows() == [(300,)]
    assert "tables.duckdb has other tables" in caplog.text
    assert "it was run" not in words + caplog.text


@pytest.mark.parametrize("name", ["contains", '"~~"'])
def test_no_macro_is_run_before_it_is_looked_at(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duckdb_faults, "_found", None)
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"CREATE MACRO {name}(x, y) AS error('it was run')")
        duckdb_faults.avoid_misleading_statistics(connection)
    assert duckdb_faults._found is None


@pytest.mark.parametrize("value", ["position = NULL", "position = -5", "recorded_at = NULL"])
def test_a_folded_position_of_no_sense_is_not_believed(directory: Path, value: str) -> None:
    with duckdb.connect(str(directory / "projections" / "tables.duckdb")) as connection:
        connection.execute(f"UPDATE folded_position SET {value}")
    with eventstore.open(directory) as store:
        assert store.sql("SELECT count(*) FROM artifacts").rows() == [(300,)]


def test_tables_whose_definitions_change_while_they_are_open_are_built_again(
    directory: Path, expected: list[object]
) -> None:
    with eventstore.open(directory) as store:
        assert uses(store) == expected
        tables = store._engine.projections._tables
        assert tables is not None
        tables._connection().execute("DROP TABLE events; DROP TABLE artifact_properties")
        assert uses(store) == expected


def test_verify_finds_forged_heads(directory: Path) -> None:
    pytest.importorskip("cryptography")
    from eventstore.audit import SigningKey

    with eventstore.open(directory) as store:
        store.prove(1, store.checkpoint(SigningKey.generate("tests")))
        path = directory / "projections" / "subtree-heads"
        content = bytearray(path.read_bytes())
        assert store.verify().ok
        content[-1] ^= 1
        path.write_bytes(content)
        with pytest.raises(errors.FailedPreconditionError, match="subtree-heads is not what the"):
            store.verify()
        path.write_bytes(b"junk")
        assert "subtree-heads, which is not usable" in " ".join(store.verify().not_checked)


def test_a_duplicate_that_a_forged_run_lets_by_is_found(directory: Path) -> None:
    forge(directory, ARTIFACT_NAMES, lambda _: [])
    with eventstore.open(directory) as store:
        with pytest.raises(errors.FailedPreconditionError, match="is not what the log gives"):
            store.verify()
        (known,) = store.get_artifacts_by_id([7])
        store.put_artifacts([mlmd.Artifact(type_id=known.type_id, name=known.name, uri="u")])
        with pytest.raises(errors.DataLossError, match=known.name):
            store.verify()


def test_a_forged_cache_is_no_damage_of_the_record(directory: Path) -> None:
    forge(directory, ARTIFACTS, changed_text)
    with eventstore.open(directory, read_only=True) as store:
        report = with_caches(store.log.verify(), store.log)
        assert (report.ok, report.findings) == (False, [])
        assert [found.file for found in report.cache_findings] == [str(run_of(directory))]
        with pytest.raises(errors.FailedPreconditionError) as raised:
            store.verify()
        assert "damaged" not in str(raised.value)
        assert "the log, which is sound" in str(raised.value)
    with eventstore.open(directory) as store:
        store.rebuild()
        assert store.verify().cache_findings == []


def _junk(path: Path) -> None:
    path.write_bytes(b"junk" * 10_000)


def _old_version(path: Path) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE folded_position SET format_version = format_version - 1")


def _empty_database(path: Path) -> None:
    path.unlink()
    duckdb.connect(str(path)).close()


def _without_a_table(path: Path) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute("DROP TABLE events")


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _zeroed_blocks(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        # The first pages lead to all else.
        file.seek(12_288)
        file.write(bytes(size - 12_288))


@pytest.mark.share(3)
@pytest.mark.parametrize(
    "spoil", [_junk, _old_version, _empty_database, _without_a_table, _cut, _zeroed_blocks]
)
def test_tables_of_no_use_are_not_called_forged(
    directory: Path, spoil: Callable[[Path], None]
) -> None:
    path = directory / "projections" / "tables.duckdb"
    spoil(path)
    with eventstore.open(directory, read_only=True) as store:
        (words,) = store.verify().not_checked
        assert words.startswith(f"{path}, which is not usable and will be rebuilt: ")
    with eventstore.open(directory) as store:
        uses(store)
    with eventstore.open(directory) as store:
        assert store.verify().not_checked == []


@pytest.mark.parametrize("kept", [0, 100, 5_000])
def test_a_run_of_no_use_is_not_called_forged(directory: Path, kept: int) -> None:
    path = run_of(directory)
    os.truncate(path, kept)
    with eventstore.open(directory, read_only=True) as store:
        (words,) = store.verify().not_checked
        assert words.startswith(f"{path}, which is not usable and will be rebuilt: ")


def test_verify_says_what_it_did_not_look_at(directory: Path) -> None:
    with eventstore.open(directory) as store:
        assert "the caches" in store.verify(since=5).not_checked
    config = mlmd.ConnectionConfig()
    config.fake_database.SetInParent()
    memory = eventstore.MetadataStore(config)
    assert "in memory" in memory.verify().not_checked[-1]


def test_a_run_that_is_merged_while_it_is_compared_is_no_finding(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    same_file = compared_caches.same_file

    def merged_first(one: Path, other: Path) -> bool:
        other.unlink()
        return same_file(one, other)

    monkeypatch.setattr(compared_caches, "same_file", merged_first)
    with eventstore.open(directory, read_only=True) as store:
        assert store.verify().ok
