"""Generate the Python code beside the .proto files: `make protos`.

The descriptors carry the file names that MLMD's own have, so that a process may load both: the
compiler therefore sees the sources under those names, and the imports of its output are turned to
this package. An old compiler is used on purpose: its output runs on every protobuf from 4.21 on.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path

SOURCES = {
    "metadata_store.proto": "ml_metadata/proto",
    "metadata_store_service.proto": "ml_metadata/proto",
    "simple_types.proto": "ml_metadata/simple_types/proto",
    "retention.proto": "eventstore/proto",
    "eventstore_service.proto": "eventstore/proto",
}
"""Each .proto file here, and the folder of its name in the descriptor."""

PACKAGE = "eventstore.proto"


def compile_sources(folder: Path, output: Path, *, with_code: bool = True) -> Path:
    """Compile the .proto files of `folder`; the path of the descriptor set made in `output`.

    Raises RuntimeError when the compiler refuses a source; it has printed why.
    """
    import grpc_tools
    from grpc_tools import protoc

    well_known = Path(grpc_tools.__file__).parent / "_proto"
    tree = output / "sources"
    names = []
    for name, virtual in SOURCES.items():
        target = tree / virtual / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / name, target)
        names.append(f"{virtual}/{name}")
    descriptor_set = output / "descriptors.binpb"
    arguments = ["protoc", f"-I{tree}", f"-I{well_known}", f"--descriptor_set_out={descriptor_set}"]
    if with_code:
        arguments += [
            f"--python_out={output}",
            f"--pyi_out={output}",
            f"--grpc_python_out={output}",
        ]
    if protoc.main(arguments + names) != 0:
        raise RuntimeError("protoc refused a source: see its message above")
    return descriptor_set


def generate(folder: Path) -> list[Path]:
    """Write the generated modules and type stubs into `folder`; their paths."""
    written = []
    with tempfile.TemporaryDirectory() as temporary:
        output = Path(temporary)
        compile_sources(folder, output)
        for name, virtual in SOURCES.items():
            stem = name.removesuffix(".proto")
            for suffix in ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py"):
                made = output / virtual / f"{stem}{suffix}"
                if suffix == "_pb2_grpc.py" and stem != "metadata_store_service":
                    # Stubs are for MLMD's guides; ours is called by the store itself.
                    continue
                target = folder / made.name
                target.write_text(_with_our_imports(made.read_text()))
                written.append(target)
    return written


def _with_our_imports(code: str) -> str:
    return re.sub(r"from ml_metadata(\.\w+)*\.proto import", f"from {PACKAGE} import", code)


if __name__ == "__main__":
    for path in generate(Path(__file__).resolve().parent):
        sys.stdout.write(f"wrote {path.name}\n")
