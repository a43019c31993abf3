"""Spark's views and closures are DuckDB's and the store's, on random stores.

All of it runs in one program, since Spark takes long to start.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SPARK = ROOT / ".spark"


def test_random_stores_are_the_same_on_spark() -> None:
    if not (SPARK / "pyspark").exists() or shutil.which("java") is None:
        pytest.skip("Spark or Java is not installed: make engines")
    done = subprocess.run(
        [sys.executable, "-m", "tests.spark.compare", "--stores", "2"],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": f"{ROOT}:{SPARK}",
            "SPARK_LOCAL_IP": "127.0.0.1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
