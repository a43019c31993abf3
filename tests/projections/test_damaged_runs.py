"""A run that changes under an open index is built again, and every look-up answers rightly."""

from __future__ import annotations

import logging
import os
import random
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import eventstore
from eventstore.projections.index_tables import (
    ARTIFACT_URIS,
    hash64,
    name_key,
)
from eventstore.projections.limits import IndexLimits
from eventstore.projections.run_batches import run_batch
from eventstore.projections.run_file import RUN_FORMAT_VERSION, RunMetadata
from eventstore.projections.run_table import DamagedRunError, RunTable
from eventstore.projections.run_writing import write_run
from eventstore.projections.sorted_run import SortedRun
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import ARTIFACT_NAMES, ARTIFACTS, open_with

COUNT = 60


@pytest.fixture(params=["mapped", "held"])
def kept(request: pytest.FixtureRequest) -> str:
    """How runs are read: as long ones are, or as short ones, which are copied into memory."""
    return str(request.param)


def limits_of(kept: str) -> dict[str, int]:
    """Those with which all but the newest record is in one run."""
    return {"closing_records_min": 1} | ({"copied_bytes_max": 0} if kept == "mapped" else {})


only_mapped = pytest.mark.parametrize("kept", ["mapped"], indirect=True)
only_held = pytest.mark.parametrize("kept", ["held"], indirect=True)


@pytest.fixture
def store(tmp_path: Path, kept: str) -> Iterator[eventstore.MetadataStore]:
    """All but the newest record in one run."""
    with open_with(tmp_path / "store", **limits_of(kept)) as store:
        type_id = store.put_artifact_type(mlmd.ArtifactType(name="Made"))
        artifacts = [
            mlmd.Artifact(type_id=type_id, name=f"a{n}", uri=f"u{n % 5}") for n in range(COUNT)
        ]
        store.put_artifacts(artifacts)
        known = store.get_artifacts_by_id([3])
        known[0].uri = "u9"
        store.put_artifacts(known)
    with open_with(tmp_path / "store", **limits_of(kept)) as store:
        yield store


def run_of(store: eventstore.MetadataStore) -> Path:
    (path,) = (store.log.directory / "projections" / "index").glob("*.run")  # type: ignore[operator]
    return path


def answers(store: eventstore.MetadataStore) -> list[object]:
    index = store._engine.projections.index
    end = index.position
    ids = range(-1, COUNT + 3)
    type_id = store.get_artifact_type("Made").id
    names = [name_key(type_id, f"a{n}") for n in ids]
    uris = [hash64(f"u{n}") for n in range(11)]
    return [
        [index.newest(ARTIFACTS, n, end) for n in ids],
        [index.newest(ARTIFACTS, n, end - 1) for n in ids],
        index.newest_of_each(ARTIFACTS, [*ids], end),
        [index.ids(ARTIFACT_NAMES, key, end) for key in names],
        [index.entries(ARTIFACT_URIS, key, end) for key in uris],
        index.values_of_each(ARTIFACT_URIS, uris, end),
        index.known_keys(ARTIFACT_NAMES, names),
        index.known_keys(ARTIFACTS, [*ids]),
        [*index.keys(ARTIFACTS, end)],
    ]


def flip(path: Path, offset: int, bit: int) -> None:
    content = path.read_bytes()
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes([content[offset] ^ 1 << bit]))


@pytest.mark.parametrize("seed", range(4))
def test_a_flipped_bit_changes_no_answer(store: eventstore.MetadataStore, seed: int) -> None:
    expected, rng = answers(store), random.Random(seed)
    for _ in range(3):
        path = run_of(store)
        size, before = path.stat().st_size, path.stat().st_ino
        flips = [(rng.randrange(size), rng.randrange(8)) for _ in range(12)]
        for offset, bit in flips:
            flip(path, offset, bit)
            assert answers(store) == expected, (offset, bit)
            if path.stat().st_ino == before:
                # Where nothing was read; else the run was built again.
                flip(path, offset, bit)
            else:
                break


@pytest.mark.parametrize(
    ("keys", "width"), [([1, 2, 3, 4], 3), ([1, 1, 3, 3], 3), ([1, 1, 3, 3], 8), ([7, 9, 9], 20)]
)
def test_no_changed_bit_of_a_run_gives_another_answer(
    tmp_path: Path, kept: str, keys: list[int], width: int
) -> None:
    positions = range(11, 11 + len(keys))
    values = [bytes([position]) * width for position in positions]
    metadata = RunMetadata(
        format_version=RUN_FORMAT_VERSION,
        content_id=uuid.UUID(int=1),
        first_position=11,
        last_position=positions[-1],
        preceding_recorded_at=0,
        last_recorded_at=1,
        highest_ids={},
    )
    path = tmp_path / "one.run"
    run = write_run(
        path,
        metadata,
        {ARTIFACTS: run_batch(keys, positions, values)},
        IndexLimits(**limits_of(kept)),
    )
    asked = range(keys[0] - 1, keys[-1] + 2)

    def looked_up(run: SortedRun) -> list[object]:
        reads: list[Callable[[], object]] = [
            lambda: run.newest_of_each(ARTIFACTS, asked, 99),
            lambda: run.values_of_each(ARTIFACTS, asked, 99),
            lambda: run.known_keys(ARTIFACTS, asked),
        ]
        for key in asked:
            reads += [
                lambda key=key: run.newest(ARTIFACTS, key, 99),  # type: ignore[misc]
                lambda key=key: run.newest(ARTIFACTS, key, 12),  # type: ignore[misc]
                lambda key=key: [*run.entries(ARTIFACTS, key, 99)],  # type: ignore[misc]
            ]
        return [*map(answered, reads)]

    expected, content = looked_up(run), path.read_bytes()
    assert None in expected
    for offset in range(content.index(b'{"metadata"')):
        for bit in (0, 6):
            flip(path, offset, bit)
            damaged = run
            if kept == "held":
                assert looked_up(run) == expected
                damaged = SortedRun(path)
            for found, right in zip(looked_up(damaged), expected, strict=True):
                assert found in (right, "damaged"), (offset, bit)
            flip(path, offset, bit)
    assert path.read_bytes() == content


def answered(read: Callable[[], object]) -> object:
    try:
        return read()
    except DamagedRunError:
        return "damaged"


@pytest.mark.parametrize(
    "cut", [lambda size: 0, lambda size: 100, lambda size: size // 2, lambda size: size - 1]
)
def test_a_run_that_was_cut_is_built_again(
    store: eventstore.MetadataStore, cut: Callable[[int], int]
) -> None:
    expected, path = answers(store), run_of(store)
    os.truncate(path, cut(path.stat().st_size))
    assert answers(store) == expected


@only_mapped
@pytest.mark.parametrize("cut", [0, 100, -1])
def test_the_shortest_way_to_a_node_misses_no_cut(
    store: eventstore.MetadataStore, tmp_path: Path, cut: int
) -> None:
    # It is there where each node was put once, unlike in the other run.
    type_id = store.get_artifact_type("Made").id
    with open_with(tmp_path / "other", **limits_of("mapped")) as other:
        assert other.put_artifact_type(mlmd.ArtifactType(name="Made")) == type_id
        other.put_artifacts([mlmd.Artifact(type_id=type_id, name=f"a{n}") for n in range(COUNT)])
    with open_with(tmp_path / "other", **limits_of("mapped")) as other:
        expected, path = other.get_artifacts_by_id([7]), run_of(other)
        os.truncate(path, cut % path.stat().st_size)
        assert other.get_artifacts_by_id([7]) == expected


@only_held
def test_what_was_copied_is_not_read_again(
    store: eventstore.MetadataStore, caplog: pytest.LogCaptureFixture
) -> None:
    expected, path = answers(store), run_of(store)
    path.write_bytes(b"")
    assert answers(store) == expected
    assert not caplog.records


@only_held
@pytest.mark.parametrize("part", ["entries", "directory", "filter", "values"])
def test_damage_to_any_part_of_a_table_is_found_when_it_is_copied(
    store: eventstore.MetadataStore, caplog: pytest.LogCaptureFixture, part: str
) -> None:
    path = run_of(store)
    layout = SortedRun(path).file.tables.layouts[ARTIFACTS if part == "values" else ARTIFACT_NAMES]
    flip(path, getattr(layout, part), 3)
    with eventstore.open(path.parents[2], read_only=True) as undamaged:
        expected = answers(undamaged)
    caplog.clear()
    assert answers(store) == expected
    assert caplog.text.count("building it again from the log") == 1


@only_mapped
def test_what_is_built_again_is_named(
    store: eventstore.MetadataStore, caplog: pytest.LogCaptureFixture
) -> None:
    expected, path = answers(store), run_of(store)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.write(bytes(size - 1000))
    with caplog.at_level(logging.WARNING, "eventstore.projections"):
        assert answers(store) == expected
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(path) in caplog.text
    assert "building it again" in caplog.text


@only_mapped
def test_a_run_is_not_built_for_ever(
    store: eventstore.MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where memory or the disk is unsound."""

    def damaged(table: RunTable, number: int) -> bytes:
        raise DamagedRunError(table.file, f"block {number}")

    monkeypatch.setattr(RunTable, "block", damaged)
    with pytest.raises(eventstore.errors.DataLossError, match="check the disk and the memory"):
        store.get_artifact_by_type_and_name("Made", "a7")
