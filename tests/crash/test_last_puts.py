"""Puts while the interpreter ends, when no thread can be started any more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import eventstore

PROGRAM = """
import atexit
from pathlib import Path
from eventstore.log import DirectoryLog
from tests.builders import open_with
from eventstore.proto import metadata_store_pb2 as mlmd

for opened in (DirectoryLog.open.__func__, DirectoryLog.create.__func__):
    opened.__kwdefaults__["segment_records_max"] = 15
store = open_with(Path("store"), tail_records_max=20)
type_id = store.put_artifact_type(mlmd.ArtifactType(name="Data"))

@atexit.register
def put_late():
    for _ in range(3):
        store.put_artifacts([mlmd.Artifact(type_id=type_id) for _ in range(40)])
    print(len(store.get_artifacts()))
    store.close()
"""


def test_a_put_at_the_end_of_the_interpreter_is_a_put(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(eventstore.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "120", done.stderr
    with eventstore.open(tmp_path / "store") as store:
        assert len(store.get_artifacts()) == 120
        assert store.verify().ok
