"""What is read of segments that take no more commits, and what is kept of it."""

from __future__ import annotations

import errno
import os
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from eventstore import errors
from eventstore.log import DirectoryLog
from tests.attacks.one_segment import path_of, rewrite
from tests.builders import append, draft, rotate


@pytest.mark.parametrize("state", ["sealed", "closed"])
def test_a_column_that_is_kept_keeps_nothing_else(tmp_path: Path, state: str) -> None:
    """Of a commit that is read by itself, the columns are slices of the file."""
    with closing(DirectoryLog.create(tmp_path / "store")) as log:
        append(log, *map(draft, range(1, 21)))
        (log.seal if state == "sealed" else lambda: rotate(log))()
        assert log.commit_end(7) == 0
        (column,) = log._closed._columns.values()
        assert len(column) == 20
        assert column.buffers()[1].parent is None


def test_times_are_in_order_over_all_of_a_segment(tmp_path: Path) -> None:
    """Each row group is read by itself."""
    directory = tmp_path / "store"
    with closing(DirectoryLog.create(directory)) as log:
        for number in range(1, 7):
            append(log, draft(number))
        log.seal()
    path = path_of(directory, 1)
    table = parquet.read_table(path)
    column = table.column_names.index("recorded_at")
    later = table["recorded_at"].to_pylist()[5]
    times = pa.array([later] * 3 + table["recorded_at"].to_pylist()[3:], pa.timestamp("us", "UTC"))
    field = table.schema.field(column)
    parquet.write_table(table.set_column(column, field, times.cast(field.type)), path, 3)
    rewrite(directory, 1, path.read_bytes())
    with (
        closing(DirectoryLog.open(directory, read_only=True)) as log,
        pytest.raises(errors.DataLossError, match="positions 4 to 6 hold no times in order"),
    ):
        list(log.commits())


def test_a_segment_that_was_moved_is_looked_for_and_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(DirectoryLog.create(tmp_path / "store")) as log:
        append(log, draft(1))
        rotate(log)
        with closing(DirectoryLog.open(log.directory, read_only=True)) as reader:
            log.seal()

            def refused() -> NoReturn:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

            with monkeypatch.context() as patched:
                patched.setattr(reader, "_reload_manifest", refused)
                for ask in (lambda: list(reader.commits()), reader.check_closed):
                    with pytest.raises(errors.UnavailableError, match=r"reading .* failed: Too m"):
                        ask()
            assert len(list(reader.commits())) == 1
