"""`import ml_metadata` reaches this project, or says why it cannot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

_PROGRAM = """
import eventstore
eventstore.install_as_ml_metadata()
eventstore.install_as_ml_metadata()
import ml_metadata
import ml_metadata as mlmd
from ml_metadata import errors, proto, version
from ml_metadata.metadata_store import metadata_store, mlmd_types
from ml_metadata.proto import metadata_store_pb2, metadata_store_service_pb2
from ml_metadata.proto import metadata_store_service_pb2_grpc
from ml_metadata.simple_types.proto import simple_types_pb2
assert mlmd.MetadataStore is metadata_store.MetadataStore is eventstore.MetadataStore
assert errors.NotFoundError is eventstore.errors.NotFoundError
assert metadata_store_pb2.Artifact is eventstore.proto.Artifact is mlmd.proto.Artifact
assert mlmd_types.Dataset().system_type == metadata_store_pb2.ArtifactType.DATASET
assert metadata_store_service_pb2_grpc.MetadataStoreServiceStub
assert metadata_store.MAX_NUM_RESULT == 100
assert mlmd.metadata_store.ListOptions(limit=3) == mlmd.ListOptions(3)
assert eventstore.errors.__spec__.name == "eventstore.errors"
assert eventstore.errors.__name__ == "eventstore.errors"
try:
    import ml_metadata.nothing
except ModuleNotFoundError:
    print("fine")
"""


def test_every_import_of_the_real_package_reaches_this_one() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.stdout == "fine\n", done.stderr


def test_the_real_package_imported_before_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "ml_metadata.py").write_text("real = True\n")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import ml_metadata, eventstore\n"
        "try: eventstore.install_as_ml_metadata()\n"
        "except RuntimeError as error: print(error)\n"
        "import ml_metadata; assert ml_metadata.real"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert "imported already" in done.stdout, done.stderr
