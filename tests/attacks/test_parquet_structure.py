"""Nothing that a sealed segment's file says of itself can be changed, however it is rewritten.

A forger who writes the footer and the page headers again changes one thing of each kind in them,
and shifts what follows.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from eventstore.log import DirectoryLog, Draft
from eventstore.log.columns import RECORD_SCHEMA
from eventstore.log.parquet_structure import NOT_AS_WRITTEN, ParquetStructure
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.attacks.forging import _DICTIONARY_COLUMNS, sealed_path
from tests.attacks.typed_thrift import Struct, changes, copy_of, decoded, encoded, of, put
from tests.builders import append

GROUP = 1
COLUMNS = {"kind", "custom_properties.key_value.value.bool_value"}


class File(NamedTuple):
    content: bytes
    metadata: dict[str, str]
    tables: list[pa.Table]
    footer: Struct
    columns: dict[str, int]

    def with_footer(self, footer: Struct) -> bytes:
        written = encoded(footer)
        start = len(self.content) - 8 - int.from_bytes(self.content[-8:-4], "little")
        return self.content[:start] + written + len(written).to_bytes(4, "little") + b"PAR1"


def artifact(number: int) -> Draft:
    node = mlmd.Artifact(id=number + 1, type_id=10, uri=f"u{number}", state=number % 4)  # type: ignore[arg-type]
    if number % 3:
        values = node.custom_properties
        values["bool"].bool_value = number > 13
        values["double"].double_value = number - 14.5
        values["int"].int_value = -number
        values["proto"].proto_value.type_url = f"a/{number}"
        values["struct"].struct_value["x"] = number
        values["text"].string_value = "x" * number
    return Draft("artifact", number + 1, 10, None, node.SerializeToString(deterministic=True))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> File:
    """Nodes with values of every kind, in groups of two pages a column."""
    directory = tmp_path_factory.mktemp("structure") / "store"
    log = DirectoryLog.create(directory)
    append(log, *map(artifact, range(24)))
    log.seal()
    log.close()
    table = parquet.read_table(sealed_path(directory))
    path: Path = directory / "small.parquet"
    parquet.write_table(
        table,
        path,
        compression="zstd",
        row_group_size=12,
        use_dictionary=_DICTIONARY_COLUMNS,
        write_page_checksum=True,
        data_page_size=20,
        write_batch_size=6,
    )
    read = parquet.ParquetFile(path)
    tables = [read.read_row_group(group) for group in range(read.num_row_groups)]
    metadata = {
        key.decode(): value.decode()
        for key, value in table.schema.metadata.items()
        if key.startswith(b"eventstore")
    }
    columns = {read.schema.column(n).path: n for n in range(len(read.schema.names))}
    content = path.read_bytes()
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    footer, end = decoded(content, start)
    assert end == len(content) - 8
    found = File(content, metadata, tables, footer, columns)
    assert found.with_footer(footer) == content
    assert columns.keys() >= COLUMNS
    return found


def is_refused(file: File, content: bytes) -> bool:
    try:
        structure = ParquetStructure(content, file.metadata)
        if len(structure.rows) != len(file.tables):
            return True
        for number, table in enumerate(file.tables):
            structure.check_group(number, table)
        read = parquet.ParquetFile(pa.py_buffer(content), page_checksum_verification=True)
        return any(
            not read.read_row_group(number).equals(table)
            for number, table in enumerate(file.tables)
        )
    except (*NOT_AS_WRITTEN, OSError):
        return True


def test_it_holds(file: File) -> None:
    assert not is_refused(file, file.content)


# Statistics may say less, and how Arrow stores its own schema no other reader asks.
MAY_BE_LEFT_OUT = {(12, number) for number in (1, 2, 5, 6, 7, 8)} | {(16, n) for n in (1, 2, 3)}
PAGE_MAY_LACK = {(5, 5, number) for number in (1, 2, 5, 6, 7, 8)}


def test_nothing_in_the_footer_can_be_changed(file: File) -> None:
    chosen = {file.columns[name] for name in COLUMNS}

    def is_wanted(path: tuple[int, ...]) -> bool:
        if path[:1] == (2,):
            return path[:2] in {(2, 0), (2, 1), (2, 4)} or len(path) == 1
        if path[:1] == (7,):
            return len(path) < 2 or path[1] == 0
        if path[:3] == (4, GROUP, 1) and len(path) > 3:
            return path[3] in chosen
        return path[:2] != (4, 0) or len(path) == 2

    seen, unnoticed = set(), []
    for path, what, footer in changes(file.footer, is_wanted):
        place = path[6:] if path[:1] == (4,) and path[2:3] == (1,) else path
        if what == "field left out" and path[4:5] == (3,) and path[5:] in MAY_BE_LEFT_OUT:
            assert not is_refused(file, file.with_footer(footer)), path
            continue
        if what == "field left out" and (path[4:] == (3, 16) or path[2:] == (7,)):
            continue
        if path == (6,) and what in ("byte added", "byte changed"):
            continue
        if path[:1] == (5,) and what in ("byte added", "byte changed"):
            entry = of(file.footer, 5)[1][path[1]]
            if of(entry, 1) == b"ARROW:schema" and path[2:] == (2,):
                continue
        seen.add((place, what))
        if not is_refused(file, file.with_footer(footer)):
            unnoticed.append((path, what))
    assert unnoticed == []
    assert len(seen) > 150


class Page(NamedTuple):
    column: int
    number: int
    start: int
    end: int
    header: Struct


def pages(file: File, column: int) -> Iterator[Page]:
    metadata = of(of(of(file.footer, 4)[1][GROUP], 1)[1][column], 3)
    numbers = [number for number, _, _ in metadata]
    place = of(metadata, 11) if 11 in numbers else of(metadata, 9)
    end = place + of(metadata, 7)
    number = 0
    while place < end:
        header, body = decoded(file.content, place)
        yield Page(column, number, place, body, header)
        place = body + of(header, 3)
        number += 1


def with_header(file: File, page: Page, header: Struct) -> bytes:
    """The file with another page header, and a footer that knows where everything is then."""
    return with_written(file, page, encoded(header))


def with_written(file: File, page: Page, written: bytes) -> bytes:
    """The file with other bytes in place of a page header."""
    longer = len(written) - (page.end - page.start)
    footer = copy_of(file.footer)
    for number, group in enumerate(of(footer, 4)[1]):
        if number > GROUP:
            put(group, 5, of(group, 5) + longer)
        if number == GROUP:
            put(group, 2, of(group, 2) + longer)
            put(group, 6, of(group, 6) + longer)
        for column, chunk in enumerate(of(group, 1)[1]):
            metadata = of(chunk, 3)
            if (number, column) == (GROUP, page.column):
                put(metadata, 6, of(metadata, 6) + longer)
                put(metadata, 7, of(metadata, 7) + longer)
            for field in metadata:
                if field[0] in (9, 11) and field[2] > page.start:
                    field[2] += longer
    content = file.content[: page.start] + written + file.content[page.end :]
    return File(content, {}, [], footer, {}).with_footer(footer)


def test_nothing_in_a_page_header_can_be_changed(file: File) -> None:
    seen, unnoticed = set(), []
    for name in sorted(COLUMNS):
        # The dictionary, where there is one, and a page of values.
        for page in [*pages(file, file.columns[name])][:2]:
            assert with_header(file, page, page.header) == file.content
            for path, what, header in changes(page.header):
                if path == (4,) and what != "field left out":
                    continue  # the checksum, which is compared as the rows are read
                if what == "field left out" and path in PAGE_MAY_LACK:
                    continue
                seen.add((of(page.header, 1), path, what))
                if not is_refused(file, with_header(file, page, header)):
                    unnoticed.append((name, path, what))
    assert unnoticed == []
    assert len(seen) > 50


def test_values_cannot_move_between_pages(file: File) -> None:
    column = file.columns["salt"]
    first, second = [*pages(file, column)][:2]
    for moved in (1, -1, of(of(first.header, 5), 1) + 1, -of(of(second.header, 5), 1) - 1):
        header = copy_of(first.header)
        put(of(header, 5), 1, of(of(header, 5), 1) - moved)
        content = with_header(file, first, header)
        other = copy_of(second.header)
        put(of(other, 5), 1, of(of(other, 5), 1) + moved)
        longer = len(encoded(header)) - (first.end - first.start)
        start = decoded(content, len(content) - 8 - int.from_bytes(content[-8:-4], "little"))[0]
        shifted = second._replace(start=second.start + longer, end=second.end + longer)
        moved_file = file._replace(content=content, footer=start)
        assert is_refused(file, with_header(moved_file, shifted, other)), moved


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param([[1, 5, 1], [2, 5, 0], [3, 5, 0], [6, 12, []]], id="index page"),
        pytest.param([[1, 5, 1], [2, 5, 0], [3, 5, 0]], id="page without a header of its kind"),
        pytest.param([[1, 5, 9], [2, 5, 0], [3, 5, 0]], id="page of an unknown kind"),
        pytest.param(
            [
                *([1, 5, 2], [2, 5, 0], [3, 5, 0], [4, 5, 0]),
                [7, 12, [[1, 5, 0], [2, 5, 0], [3, 2, None]]],
            ],
            id="dictionary after the values",
        ),
        pytest.param(
            [
                *([1, 5, 3], [2, 5, 0], [3, 5, 0]),
                [8, 12, [[1, 5, 1], [2, 5, 0], [3, 5, 1], [4, 5, 0], [5, 5, 0], [6, 5, 0]]],
            ],
            id="page of values in the second form",
        ),
    ],
)
def test_no_page_of_another_kind_can_be_put_in(file: File, extra: Struct) -> None:
    for name in ("kind", "salt"):
        last = [*pages(file, file.columns[name])][-1]
        assert last.number
        inserted = encoded(extra) + encoded(last.header)
        with pytest.raises(ValueError, match="that the writer does not make"):
            ParquetStructure(with_written(file, last, inserted), file.metadata)


def test_it_begins_and_ends_as_parquet_does(file: File) -> None:
    content = file.content
    for broken in (
        b"X" + content[1:],
        content[:-1] + b"X",
        content[:-8] + len(content).to_bytes(4, "little") + b"PAR1",
        content[:-8] + (len(content) - 8).to_bytes(4, "little") + b"PAR1",
        content[:-5] + b"\1PAR1",
    ):
        with pytest.raises(ValueError, match="does not start and end as Parquet does"):
            ParquetStructure(broken, file.metadata)


def test_a_file_without_rows_is_one(tmp_path: Path) -> None:
    path = tmp_path / "empty.parquet"
    parquet.ParquetWriter(path, RECORD_SCHEMA).close()
    assert ParquetStructure(path.read_bytes(), {}).rows == []


def test_another_writer_is_named(file: File) -> None:
    for name in (b"parquet-mr version 1.0.0", b"", b"parquet-cpp-arrow"):
        footer = copy_of(file.footer)
        put(footer, 6, name)
        with pytest.raises(ValueError, match="another writer"):
            ParquetStructure(file.with_footer(footer), file.metadata)


def without(fields: Struct, number: int) -> None:
    fields[:] = [field for field in fields if field[0] != number]


@pytest.mark.parametrize("unknown", [False, True])
def test_what_lacks_or_has_a_field_is_named(file: File, unknown: bool) -> None:
    footer = copy_of(file.footer)
    group = of(footer, 4)[1][GROUP]
    chunk = of(group, 1)[1][0]
    structs = [
        (of(chunk, 3), 4, "column position"),
        (chunk, 2, "column position"),
        (group, 6, "row group 1"),
        (of(footer, 5)[1][0], 2, "its metadata"),
        (footer, 6, "the footer"),
    ]
    for fields, number, what in structs:
        kept = copy_of(fields)
        if unknown:
            fields.append([fields[-1][0] + 6, 5, 1])
            words = rf"{what} says what the writer does not say: \[{fields[-1][0]}\]"
        else:
            without(fields, number)
            words = rf"{what} lacks \[{number}\]"
        with pytest.raises(ValueError, match=words):
            ParquetStructure(file.with_footer(footer), file.metadata)
        fields[:] = kept


def test_statistics_that_lack_or_have_a_field(file: File) -> None:
    for change, words in (
        (lambda stated: without(stated, 3), r"column position: its statistics lacks \[3\]"),
        (lambda stated: stated.append([14, 5, 1]), "column position: its statistics says what"),
    ):
        footer = copy_of(file.footer)
        change(of(of(of(of(footer, 4)[1][GROUP], 1)[1][0], 3), 12))
        structure = ParquetStructure(file.with_footer(footer), file.metadata)
        with pytest.raises(ValueError, match=words):
            structure.check_group(GROUP, file.tables[GROUP])


def test_columns_that_are_too_few_or_too_many(file: File) -> None:
    for change in (list.pop, lambda chunks: chunks.append(chunks[-1])):
        footer = copy_of(file.footer)
        change(of(of(footer, 4)[1][GROUP], 1)[1])
        with pytest.raises(ValueError, match="row group 1 has other columns"):
            ParquetStructure(file.with_footer(footer), file.metadata)


@pytest.mark.parametrize("size", [-1, -(2**31), 1, 2**31])
def test_pages_that_end_outside_of_their_column(file: File, size: int) -> None:
    for name in ("kind", "salt"):
        for page in [*pages(file, file.columns[name])][-1 if size == 1 else 0 :]:
            header = copy_of(page.header)
            put(header, 3, of(header, 3) + 1 if size == 1 else size)
            with pytest.raises(ValueError, match=f"a page of column {name} ends outside of it"):
                ParquetStructure(with_header(file, page, header), file.metadata)


@pytest.mark.parametrize("ordinal", [0, 1, 2])
def test_the_number_of_a_group_is_its_own(file: File, ordinal: int) -> None:
    """Only some versions of Arrow write it."""
    footer = copy_of(file.footer)
    group = of(footer, 4)[1][GROUP]
    without(group, 7)
    assert not is_refused(file, file.with_footer(footer))
    group.append([7, 4, ordinal])
    assert is_refused(file, file.with_footer(footer)) == (ordinal != GROUP)


def test_rows_in_several_chunks_are_the_same_rows(file: File) -> None:
    structure = ParquetStructure(file.content, file.metadata)
    for number, table in enumerate(file.tables):
        parts = [table.slice(start, 5) for start in range(0, len(table), 5)]
        structure.check_group(number, pa.concat_tables(parts))


def test_rows_of_another_number(file: File) -> None:
    structure = ParquetStructure(file.content, file.metadata)
    for table in (file.tables[GROUP][:-1], file.tables[GROUP][:0]):
        words = f"group 1 has {len(table)} rows, not 12"
        with pytest.raises(ValueError, match=words):
            structure.check_group(GROUP, table)
