"""A process that can open no more files is told so, ends nowhere, and takes nothing for damaged."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import contextlib, os, resource, sys
import eventstore
from eventstore.log import relations
from eventstore.proto import metadata_store_pb2 as mlmd

def filled(path):
    store = eventstore.open(path)
    kind = store.put_artifact_type(mlmd.ArtifactType(name="T"))
    store.put_artifacts([mlmd.Artifact(type_id=kind) for _ in range(3)])
    store.seal()
    return store

options = eventstore.ListOptions(filter_query="type_id > 1")
# So that all is imported.
filled(sys.argv[1] + "-other").get_artifacts(options)
store = filled(sys.argv[1])
log = store._engine.log
none = relations.Erased()
nothing = relations.Related(0, 0, [], relations.ErasuresInEffect([], none, none, [], []), False)
makes_folder = relations.TemporaryFolder()
relations.TemporaryFolder = lambda: contextlib.nullcontext(makes_folder.path)

asked = {
    "filter": lambda: store.get_artifacts(options),
    "scan": lambda: list(log.scan()),
    "verify": lambda: relations.relation_findings([], nothing),
}
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
taken = []
with contextlib.suppress(OSError):
    while True:
        taken.append(os.open(os.devnull, os.O_RDONLY))
for name, ask in asked.items():
    try:
        ask()
    except eventstore.errors.UnavailableError as error:
        print(name, error)
for descriptor in taken:
    os.close(descriptor)
print([len(ask()) for ask in asked.values()])
"""


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    path = tmp_path / "store"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, path], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    *said, last = done.stdout.splitlines()
    assert [line.partition(" failed: ")[2] for line in said] == ["Too many open files"] * 3
    assert [line.split()[0] for line in said] == ["filter", "scan", "verify"]
    assert last == "[3, 1, 0]"
    assert done.returncode == 0
