"""On a full disk reads go on, and what cannot be written says so; afterwards all goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import layer

pytestmark = pytest.mark.skipif(layer.why_not() is not None, reason=str(layer.why_not()))

_SCRIPT = """
import errno, sys
from pathlib import Path
import eventstore
from eventstore import errors
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.faults.layer import Action, Layer

root = Path(sys.argv[1])
faults = Layer()
faults.begin(root)
store = eventstore.open(root / "store")
made = store.put_artifact_type(mlmd.ArtifactType(name="Made"))


def artifact(number):
    node = mlmd.Artifact(type_id=made, uri=f"u{number}")
    node.custom_properties["n"].int_value = number
    return node


def found():
    options = eventstore.ListOptions(filter_query="custom_properties.n.int_value > 0")
    return len(store.get_artifacts(options))


def refused(call):
    try:
        call()
    except errors.ResourceExhaustedError as error:
        return "No space left on device" in error.message
    return False


store.put_artifacts([artifact(n) for n in range(1, 101)])
if sys.argv[2] == "folded":
    assert found() == 100
store.put_artifacts([artifact(n) for n in range(101, 301)])
faults.arm(faults.state.count, Action.FULL, errno.ENOSPC)
assert found() == 300
assert store.sql("SELECT count(*) FROM artifacts").rows() == [(300,)]
assert refused(store.rebuild)
assert found() == 300
assert refused(store.seal)
assert refused(lambda: store.put_artifacts([artifact(n) for n in range(2000)]))
assert found() == 300
faults.disarm()
store.put_artifacts([artifact(301)])
assert found() == 301
store.rebuild()
store.seal()
assert found() == 301
assert store.verify().ok
store.close()
with eventstore.open(root / "store") as store:
    assert found() == 301
    assert store.log.verify().ok
"""


@pytest.mark.parametrize("before", ["folded", "new"])
def test_a_full_disk_stops_writes_and_no_reads(tmp_path: Path, before: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(tmp_path), before],
        capture_output=True,
        text=True,
        env=layer.environment(),
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
