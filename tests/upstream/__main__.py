"""ML Metadata's own tests, unmodified, through our client against our server: `make upstream`.

They are not part of this project: a checkout of google/ml-metadata is named as the argument.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_TESTS = Path("ml_metadata", "metadata_store")
_FILES = ("conftest.py", "metadata_store_test.py", "mlmd_types_test.py")


def main() -> int:
    """Start a server, and run the tests; the exit code is pytest's."""
    parser = argparse.ArgumentParser(prog="python -m tests.upstream", description=__doc__)
    parser.add_argument("source", type=Path, help="a checkout of google/ml-metadata")
    parser.add_argument("--packages", type=Path, help="a folder that has the tests' own packages")
    arguments = parser.parse_args()
    paths = [str(path.resolve()) for path in (_ROOT, arguments.packages) if path is not None]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    eventstore = [sys.executable, "-m", "eventstore"]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            [*eventstore, "serve", f"{folder}/store", "--grpc_port=0"],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        ) as server,
    ):
        assert server.stdout is not None
        port = server.stdout.readline().rpartition(":")[2].strip()
        for name in _FILES:
            shutil.copy(arguments.source / _TESTS / name, folder)
        (Path(folder) / "pytest.ini").write_text("[pytest]\n")
        try:
            return subprocess.run(
                [
                    *(*eventstore, "run", "--", sys.executable, "-m", "pytest", "-q", "-rxX"),
                    *("-p", "tests.upstream.given_arguments", "--use_grpc_backend"),
                    *("--grpc_host=localhost", f"--grpc_port={port}", *_FILES[1:]),
                ],
                cwd=folder,
                env=environment,
                check=False,
            ).returncode
        finally:
            server.terminate()


if __name__ == "__main__":
    sys.exit(main())
