"""What could make other readers count wrongly while every record is as it was written."""

from __future__ import annotations

import hashlib
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

import eventstore
from eventstore import errors
from eventstore.audit import SigningKey, standalone_verifier
from eventstore.log.manifest import read_manifest, write_manifest
from eventstore.log.parquet_structure import ParquetStructure, check_schema
from eventstore.log.thrift import read_struct
from eventstore.log.verification import verify_directory
from tests.attacks.forging import make_store, mend_manifest, sealed_path, write
from tests.builders import memory_store

KEY = SigningKey.generate("auditor")


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("beside") / "store"
    make_store(directory)
    return directory


@pytest.fixture
def store(honest: Path, tmp_path: Path) -> Path:
    shutil.copytree(honest, tmp_path / "store")
    return tmp_path / "store"


def found(directory: Path) -> str:
    report = verify_directory(directory)
    assert report.ok == (not report.findings)
    return "; ".join(finding.what for finding in report.findings)


def patched(directory: Path, change: Callable[[bytes], bytes]) -> str:
    path = sealed_path(directory)
    path.write_bytes(change(path.read_bytes()))
    mend_manifest(directory)
    return found(directory)


def footer_start(content: bytes) -> int:
    return len(content) - 8 - struct.unpack("<I", content[-8:-4])[0]


def test_the_untouched_store_is_sound(store: Path) -> None:
    assert found(store) == ""
    write(store, parquet.read_table(sealed_path(store)))
    assert found(store) == ""


@pytest.mark.parametrize(
    "options",
    [
        {"write_page_index": True},
        {"write_statistics": False},
        {"compression": "snappy"},
        {"compression": "none"},
        {"write_page_checksum": False},
        {"data_page_version": "2.0"},
        {"sorting_columns": [parquet.SortingColumn(0)]},
        {"use_byte_stream_split": ["create_time"], "use_dictionary": False},
        {"coerce_timestamps": "ms", "allow_truncated_timestamps": True},
        {"store_schema": False},
    ],
    ids=lambda options: next(iter(options)),
)
def test_a_file_that_the_writer_would_not_write(store: Path, options: dict[str, Any]) -> None:
    write(store, parquet.read_table(sealed_path(store)), **options)
    assert found(store)


@pytest.mark.parametrize("kind", ["more", "other-store", "fields"])
def test_metadata_of_other_kinds(store: Path, kind: str) -> None:
    table = parquet.read_table(sealed_path(store))
    metadata = dict(table.schema.metadata)
    if kind == "more":
        metadata[b"hidden"] = b"message"
    elif kind == "other-store":
        metadata[b"eventstore.store_id"] = b"1b781869-debc-4374-a4b3-02eb802f5dd4"
    else:
        fields = [field.with_metadata({"hidden": "message"}) for field in table.schema]
        table = table.cast(pa.schema(fields))
    write(store, table.replace_schema_metadata(metadata))
    assert "metadata" in found(store) or "columns are not those" in found(store)


def test_bytes_between_pages_and_footer(store: Path) -> None:
    words = patched(store, lambda c: c[: footer_start(c)] + b"hidden" + c[footer_start(c) :])
    assert "6 bytes between pages and footer belong to nothing" in words


def test_bytes_after_the_footer(store: Path) -> None:
    def change(content: bytes) -> bytes:
        start = footer_start(content)
        footer = content[start:-8] + b"hidden"
        return content[:start] + footer + struct.pack("<I", len(footer)) + content[-4:]

    assert "6 bytes after the footer belong to nothing" in patched(store, change)


@pytest.mark.parametrize("place", ["footer", "page"])
def test_statistics_that_lie(store: Path, place: str) -> None:
    """The largest entity id, that of an artifact type, said to be smaller: rows would be hidden."""
    file = parquet.ParquetFile(sealed_path(store))
    names = file.schema_arrow.names
    largest = file.metadata.row_group(0).column(names.index("entity_id")).statistics.max
    stated = struct.pack("<q", largest)

    def change(content: bytes) -> bytes:
        start = footer_start(content)
        column = file.metadata.row_group(0).column(names.index("entity_id"))
        begin, end = (
            (start, len(content))
            if place == "footer"
            else (column.data_page_offset, column.data_page_offset + 100)
        )
        part = content[begin:end].replace(stated, struct.pack("<q", largest - 1))
        return content[:begin] + part + content[end:]

    words = patched(store, change)
    assert "the file says of itself what is not so" in words
    assert "column entity_id: its statistics state other limits" in words


def test_no_bit_of_the_footer_can_be_changed(store: Path) -> None:
    content = sealed_path(store).read_bytes()
    table = parquet.read_table(sealed_path(store))
    metadata = {
        name: value.decode()
        for key, value in table.schema.metadata.items()
        if (name := key.decode()).startswith("eventstore")
    }
    ParquetStructure(content, metadata).check_group(0, table)
    start = footer_start(content)
    # No other reader reads which version wrote it or how Arrow stores its own schema.
    free = [
        (content.index(b"/////", start), content.index(b"parquet-cpp-arrow version ", start)),
        (
            content.index(b"parquet-cpp-arrow version ", start) + 26,
            content.index(b"parquet-cpp-arrow version ", start) + 34,
        ),
    ]
    said = _said(content)
    choice = random.Random(12)
    places = [
        place
        for place in choice.sample(range(start, len(content)), 700)
        if not any(first - 3 <= place < end for first, end in free)
    ]
    unnoticed = []
    for place in places:
        changed = bytearray(content)
        changed[place] ^= 1 << choice.randrange(8)
        # An integer of another width, or a set for a list, says the same.
        if _said(changed) != said and _is_accepted(bytes(changed), metadata, table):
            unnoticed.append(place - start)
    assert unnoticed == []


def _said(content: bytes | bytearray) -> object:
    try:
        return read_struct(bytes(content[:-8]), footer_start(bytes(content)))
    except ValueError:
        return None


def _is_accepted(content: bytes, metadata: dict[str, str], table: pa.Table) -> bool:
    try:
        file = parquet.ParquetFile(pa.py_buffer(content))
        check_schema(file, metadata)
        structure = ParquetStructure(content, metadata)
        if not file.read_row_group(0).equals(table):
            return False
        structure.check_group(0, table)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, IndexError):
        return False
    return True


# Files beside those that the manifest names


@pytest.mark.parametrize(
    "name",
    [
        "log/0000000009.parquet",
        "log/0000000003.arrows",
        "log/old.parquet",
        "log/0000000001.parquet.bak",
        "log/.hidden",
        "notes.txt",
        "log/folder/",
        "folder/",
        "log/x.tmp",
    ],
)
def test_a_file_that_belongs_to_nothing_is_named(store: Path, name: str) -> None:
    path = store / name
    if name.endswith("/"):
        path.mkdir()
    else:
        shutil.copy(sealed_path(store), path)
    words = found(store)
    assert "belongs to nothing" in words
    assert str(path) in words
    path.rmdir() if name.endswith("/") else path.unlink()
    assert found(store) == ""


def test_a_manifest_in_the_place_of_a_folder(store: Path) -> None:
    (store / "lock").unlink()
    (store / "lock").mkdir()
    assert "belongs to nothing" in found(store)


@pytest.mark.parametrize(
    "name", ["manifest.json.1.tmp", "log/0000000002.parquet.77.tmp", "log/0000000003.arrows.9.tmp"]
)
def test_what_a_writer_is_writing_is_not_named(store: Path, name: str) -> None:
    (store / name).write_bytes(b"half")
    assert found(store) == ""


@pytest.fixture
def both_forms(tmp_path: Path) -> tuple[Path, Path]:
    """A store whose sealing stopped before the stream was removed, and the stream."""
    directory = tmp_path / "both"
    with eventstore.open(directory) as store:
        store.put_artifact_type(eventstore.proto.ArtifactType(name="t"))
        active = directory / "log" / "0000000001.arrows"
        store.log._rotate()  # type: ignore[attr-defined]
        kept = active.read_bytes()
        store.seal()
    active.write_bytes(kept)
    return directory, active


def test_both_forms_of_a_segment_are_sound_when_they_are_the_same(
    both_forms: tuple[Path, Path],
) -> None:
    directory, stream = both_forms
    assert found(directory) == ""
    with eventstore.open(directory, read_only=True) as store:
        checkpoint = store.checkpoint(KEY).text
    key = standalone_verifier.parse_key(str(KEY.verifier_key))

    def standalone() -> str:
        records = standalone_verifier.stored_records(str(directory))
        return standalone_verifier.verify_records(records, checkpoint, key)

    assert standalone()
    content = bytearray(stream.read_bytes())
    place = content.index(b"system.") if b"system." in content else len(content) // 2
    content[place] ^= 1
    stream.write_bytes(content)
    assert "belongs to nothing: it is not segment 1 in another form" in found(directory)
    with pytest.raises(standalone_verifier.Refused):
        standalone()
    sealed = sealed_path(directory)
    shutil.copy(sealed, directory / "log" / "0000000007.parquet")
    stream.unlink()
    with pytest.raises(standalone_verifier.Refused, match="belongs to nothing"):
        standalone()
    shutil.move(directory / "log" / "0000000007.parquet", directory / "log" / "old.parquet")
    with pytest.raises(standalone_verifier.Refused, match="belongs to nothing"):
        standalone()


@pytest.mark.parametrize("place", [0.0, 0.3, 0.6, 0.999])
@pytest.mark.parametrize("form", ["arrows", "parquet", "2.parquet"])
def test_one_byte_changed_in_the_file_that_the_manifest_names(
    both_forms: tuple[Path, Path], place: float, form: str
) -> None:
    """Nothing says to move the log away, be it closed, sealed or rewritten."""
    directory, stream = both_forms
    if form == "arrows":
        sealed_path(directory).unlink()
        name_closed_form(directory, stream)
    else:
        stream.unlink()
    if form == "2.parquet":
        with eventstore.open(directory) as store:
            (type_,) = store.get_artifact_types()
            artifact = eventstore.proto.Artifact(type_id=type_.id, name="a")
            (erased,) = store.put_artifacts([artifact])
            store.seal()
            store.erase("artifact", erased, reason="LAW-1")
            store.seal()
    for segment in read_manifest(directory).segments:
        path = directory / "log" / segment.file
        kept = path.read_bytes()
        content = bytearray(kept)
        content[int(len(content) * place)] ^= 1
        path.write_bytes(content)
        report = verify_directory(directory)
        assert not report.ok
        assert {finding.file for finding in report.findings} == {str(path)}
        assert not any("move" in finding.what for finding in report.findings)
        path.write_bytes(kept)


@pytest.mark.parametrize("stream_is", ["gone", "damaged", "sound"])
def test_a_damaged_form_may_be_moved_only_where_the_named_one_is_sound(
    both_forms: tuple[Path, Path], stream_is: str
) -> None:
    """As in a copy whose manifest was taken before the segment was sealed, its file after that."""
    directory, stream = both_forms
    path = sealed_path(directory)
    name_closed_form(directory, stream)
    if stream_is == "gone":
        stream.unlink()
    elif stream_is == "damaged":
        flip_middle(stream)
    flip_middle(path)
    (what,) = [f.what for f in verify_directory(directory).findings if f.file == str(path)]
    if stream_is == "sound":
        assert "belongs to nothing" in what
        assert what.endswith("move it out of the store")
    else:
        assert f"{path} is damaged, and so is {stream.name}" in what
        assert "leave both there, restore the store from a backup" in what


def flip_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def name_closed_form(directory: Path, stream: Path) -> None:
    """Have the manifest name the first segment's stream, as before it was sealed."""
    manifest = read_manifest(directory)
    content = stream.read_bytes()
    first = msgspec.structs.replace(
        manifest.segments[0],
        sealed=False,
        file=stream.name,
        file_bytes=len(content),
        file_sha256=hashlib.sha256(content).hexdigest(),
    )
    segments = (first, *manifest.segments[1:])
    write_manifest(directory, msgspec.structs.replace(manifest, segments=segments))


def test_the_header_of_the_next_segment_is_no_finding(store: Path) -> None:
    active = store / "log" / read_manifest(store).active.file
    following = store / "log" / "0000000003.arrows"
    following.write_bytes(active.read_bytes()[: read_manifest(store).active.header_bytes])
    assert found(store) == ""


# Reading what the manifest names


def test_segment_files_are_what_the_manifest_names(store: Path) -> None:
    shutil.copy(sealed_path(store), store / "log" / "0000000009.parquet")
    with eventstore.open(store) as opened:
        assert opened.segment_files() == [store / "log" / "0000000001.parquet"]
        opened.put_artifact_type(eventstore.proto.ArtifactType(name="more"))
        assert len(opened.segment_files()) == 1
        with eventstore.open(store) as other:
            other.seal()
        # What another process has sealed, too.
        names = [path.name for path in opened.segment_files()]
        assert names == ["0000000001.parquet", "0000000002.parquet"]
        rows = sum(parquet.read_metadata(path).num_rows for path in opened.segment_files())
        assert rows == opened.log_position()
    with pytest.raises(errors.FailedPreconditionError, match="in memory has no files"):
        memory_store().segment_files()
