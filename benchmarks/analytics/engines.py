"""One engine's answers, in a process of its own: `python -m benchmarks.analytics.engines`.

It is given the engine and the number of records, and on standard input the files, a line each, and
prints an `Answer` as a line of JSON for each question.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks.analytics.questions import QUESTIONS
from benchmarks.analytics.showing import Answer

DUCKDB_MEMORY: Final = "4GB"
SPARK_MEMORY: Final = "4g"
"""The heap; beside it a JVM takes a gigabyte or two, and its Python little."""

Rows = Sequence[Sequence[Any]]


def _duckdb(files: Sequence[str], scratch: Path) -> tuple[Callable[[str], Rows], list[int]]:
    import duckdb

    connection = duckdb.connect(
        config={"memory_limit": DUCKDB_MEMORY, "temp_directory": str(scratch)}
    )
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"CREATE VIEW records AS FROM read_parquet({[*files]})")
    return lambda sql: connection.execute(sql).fetchall(), [os.getpid()]


def _spark(files: Sequence[str], scratch: Path) -> tuple[Callable[[str], Rows], list[int]]:
    # It stands apart, and is found by PYTHONPATH.
    from pyspark.sql import SparkSession

    settings = {
        "spark.driver.memory": SPARK_MEMORY,
        "spark.local.dir": str(scratch),
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "32",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
    }
    builder = SparkSession.builder.master("local[*]").appName("analytics")
    for name, value in settings.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.read.parquet(*files).createOrReplaceTempView("records")
    jvm = spark.sparkContext._jvm.ProcessHandle.current().pid()
    return lambda sql: spark.sql(sql).collect(), [os.getpid(), jvm]


ENGINES: Final = {"duckdb": _duckdb, "spark": _spark}


def main() -> None:
    """Answer all questions, one after the other."""
    engine, records = sys.argv[1], int(sys.argv[2])
    files = sys.stdin.read().splitlines()
    with tempfile.TemporaryDirectory(prefix="eventstore-analytics-") as scratch:
        ask, processes = ENGINES[engine](files, Path(scratch))
        # What an engine does once, as it begins, is no question's.
        ask("SELECT count(*) FROM records WHERE previous IS NULL")
        for question in QUESTIONS:
            for process in processes:
                # From here on the kernel counts the peak anew.
                Path(f"/proc/{process}/clear_refs").write_text("5")
            started = time.perf_counter()
            rows = ask(question.sql.replace("$position", str(records // 2)))
            seconds = time.perf_counter() - started
            answer = Answer(
                engine=engine,
                records=records,
                what=question.what,
                seconds=seconds,
                mebibytes=sum(map(_peak, processes)),
                rows_sha256=_digest(rows),
            )
            print(msgspec.json.encode(answer).decode(), flush=True)


def _digest(rows: Rows) -> str:
    plain = [[_plain(value) for value in row] for row in rows]
    return hashlib.sha256(msgspec.json.encode(plain)).hexdigest()


def _peak(process: int) -> float:
    status = Path(f"/proc/{process}/status").read_text()
    (kibibytes,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return int(kibibytes) / 1024


def _plain(value: Any) -> Any:
    """A value as both engines give it: sums of doubles depend on their order in the last digits."""
    if isinstance(value, float | Decimal):
        return float(f"{value:.9g}")
    return value.isoformat() if isinstance(value, date) else value


if __name__ == "__main__":
    main()
