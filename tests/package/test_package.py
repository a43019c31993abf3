"""How the package is put together: its names, its layers, what it loads, and its wheel."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import eventstore
from eventstore.proto import metadata_store_pb2 as mlmd

ROOT = Path(__file__).parents[2]

# What each layer may import of the others; the command line may import all.
LAYERS = {
    "answers": {"log"},
    "errors": set[str](),
    "version": set[str](),
    "shown_text": set[str](),
    "pandas_frames": set[str](),
    "plain_values": set[str](),
    "plain_json": {"shown_text", "plain_values"},
    "proto": set[str](),
    "long_work": set[str](),
    "repr_html": set[str](),
    "wording": set[str](),
    "moments": {"errors", "log", "plain_json"},
    "log": {"errors", "proto", "long_work", "plain_values", "repr_html", "wording"},
    "projections": {"answers", "errors", "proto", "log", "long_work", "wording"},
    "store": {"errors", "proto", "log", "projections", "plain_json", "wording"},
    "lineage": {
        *("errors", "proto", "log", "projections", "store", "shown_text", "plain_json"),
        *("plain_values", "repr_html"),
    },
    "history": {
        *("errors", "proto", "log", "projections", "store", "lineage", "plain_json"),
        *("plain_values", "repr_html"),
    },
    "audit": {"errors", "log", "projections", "plain_json", "wording"},
    "report": {
        *("errors", "proto", "log", "projections", "store", "lineage", "history", "audit"),
        *("shown_text", "plain_json", "plain_values", "wording"),
    },
    "notebook": {
        *("proto", "log", "lineage", "history", "report", "recording"),
        *("shown_text", "plain_json", "plain_values", "long_work", "wording"),
    },
    "recording": {"errors", "proto", "repr_html"},
    "metadata_store": {
        *("errors", "proto", "log", "projections", "store", "lineage", "history", "audit"),
        *("report", "recording", "notebook", "long_work", "moments", "pandas_frames"),
        *("answers", "plain_json", "repr_html"),
    },
    "importing": {"errors", "proto", "log", "long_work", "wording"},
}

# What nothing of the layers imports.
ABOVE_ALL = {"__init__", "__main__", "alias", "as_mlmd", "cli", "demo", "startup"}

# What a log is made of: nothing outside of it reads manifests, files of segments or their states.
INSIDE_THE_LOG = {
    *("acknowledged", "active_segment", "checking_process", "closed_segments"),
    *("commit_ends", "creation", "directory", "directory_reader", "followed_directory"),
    "followed_segment",
    *("growing_digest", "ipc_message", "ipc_stream", "manifest", "memory", "parquet_structure"),
    *("record_dataset", "relations", "replacing", "sealing", "segment_check", "store_files"),
    *("store_place", "thrift", "verification", "writers_lock"),
}

# What takes long to import, and is imported where it is used.
COMMAND_LINES = {"click", "rich"}
HEAVY = {
    *("asyncio", "attr", "cryptography", "duckdb", "email", "grpc", "http", "importlib.metadata"),
    *("IPython", "jinja2", "multiprocessing", "networkx", "numpy", "pandas", "polars", "pyarrow"),
    *("google.protobuf.json_format", "sqlglot", "sqlite3", "unittest"),
}


def test_public_names_are_all_there() -> None:
    assert set(dir(eventstore)) == set(eventstore.__all__)
    for name in eventstore.__all__:
        assert getattr(eventstore, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        eventstore.nothing  # noqa: B018


def test_imports_point_one_way() -> None:
    for layer, allowed in LAYERS.items():
        folder = ROOT / "eventstore" / layer
        paths = sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
        assert paths
        for path in paths:
            for module in _imported(path):
                used = module.removeprefix("eventstore").strip(".").split(".")[0]
                assert used in allowed | {layer}, f"{path} imports {module}"


def test_nothing_outside_of_the_log_reads_its_files() -> None:
    for folder in ("eventstore", "projections"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            inside = path.is_relative_to(ROOT / "eventstore" / "log")
            for module in [] if inside else _imported(path):
                name = module.removeprefix("eventstore.log").strip(".")
                assert name not in INSIDE_THE_LOG, f"{path} imports {module}"


def test_no_modules_of_a_layer_import_each_other_in_a_circle() -> None:
    # In the projections two still do: what writes a run and what reads it.
    for layer in LAYERS.keys() - {"projections"}:
        paths = sorted((ROOT / "eventstore" / layer).rglob("*.py"))
        modules = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in paths}
        imported = {
            name: set(_imported(path, is_run=True)) & set(modules) for name, path in modules.items()
        }
        while imported:
            free = {name for name, others in imported.items() if not others & set(imported)}
            assert free, f"a circle: {sorted(imported)}"
            imported = {name: others for name, others in imported.items() if name not in free}


def test_every_module_is_in_a_layer_or_above_all() -> None:
    found = {path.stem for path in (ROOT / "eventstore").iterdir() if path.suffix in ("", ".py")}
    assert found - {"__pycache__"} == set(LAYERS) | ABOVE_ALL


def test_the_map_names_every_module_and_nothing_else() -> None:
    told = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    named = {name.rpartition("/")[2] for name in re.findall(r"`([\w./]+\.py)`", told)}
    found = {
        path.name
        for folder in ("eventstore", "projections")
        for path in (ROOT / folder).rglob("*.py")
        if path.name != "__init__.py" and "proto" not in path.parts
    }
    commands = {path.name for path in (ROOT / "eventstore" / "cli").glob("*_command.py")}
    assert found - commands - named == set()
    assert named - found == {"test_package.py"}
    for folder in (ROOT / "tests").iterdir():
        if folder.is_dir() and folder.name[0] not in "._":
            assert f"`{folder.name}`" in told


def _imported(path: Path, *, is_run: bool = False) -> list[str]:
    """The modules that a module imports, at its top or in a function; not for types if `is_run`."""
    found = []
    tree = ast.parse(path.read_text())
    if is_run:
        is_for_types = {
            id(below)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            for below in ast.walk(node)
        }
    for node in ast.walk(tree):
        if is_run and id(node) in is_for_types:
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("eventstore"):
            if node.module == "eventstore":
                found += [f"eventstore.{alias.name}" for alias in node.names]
            else:
                found.append(node.module or "")
        elif isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.startswith("eventstore")]
    return found


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert _loaded("import eventstore", {*HEAVY, "google.protobuf", "msgspec", "logging"}) == []


def test_a_get_by_id_loads_nothing_heavy(tmp_path: Path) -> None:
    """What is looked up is in a run of the index: the log is not decoded, and nothing queried."""
    code = f"""
import eventstore
with eventstore.open({os.fspath(_closed_store(tmp_path))!r}) as store:
    assert store.get_artifacts_by_id([7])[0].uri == "of 7"
"""
    assert _loaded(code, HEAVY | COMMAND_LINES) == []


def test_info_loads_nothing_heavy(tmp_path: Path) -> None:
    path = os.fspath(_closed_store(tmp_path))
    assert _loaded(_command("info", path), HEAVY | {"rich.console"}) == []


def test_help_loads_nothing_heavy() -> None:
    names = HEAVY | {"rich.console", "eventstore.history", "eventstore.log.verification"}
    assert _loaded(_command("--help"), names) == []


def _command(*arguments: str) -> str:
    return f"""
import sys
from eventstore.cli import main
sys.argv = ["eventstore", *{arguments}]
try:
    main()
except SystemExit as ended:
    assert not ended.code
"""


def _closed_store(folder: Path) -> Path:
    """A store whose index has a run of all that is in it."""
    path = folder / "store"
    with eventstore.open(path) as store:
        type_id = store.put_artifact_type(mlmd.ArtifactType(name="Data"))
        store.put_artifacts([mlmd.Artifact(type_id=type_id, uri=f"of {n}") for n in range(1, 1501)])
    assert [*path.glob("projections/index/*.run")]
    return path


def _loaded(code: str, names: set[str]) -> list[str]:
    """Which of these modules a new process has loaded once it has run the code."""
    code += f"\nimport sys; print('loaded:', *[n for n in {sorted(names)} if n in sys.modules])"
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return printed.stdout.splitlines()[-1].split()[1:]


def test_modules_stay_small() -> None:
    for folder in ("eventstore", "projections", "protos"):
        for path in (ROOT / folder).rglob("*.py"):
            if "_pb2" not in path.name:
                # The verifier that stands alone is one file, so that it can be copied and run.
                most = 960 if path.name == "standalone_verifier.py" else 600
                assert len(path.read_text().splitlines()) <= most, path


def test_the_wheel_holds_one_package(tmp_path: Path) -> None:
    build = subprocess.run(
        [
            sys.executable,
            *("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"),
            *("--wheel-dir", str(tmp_path), str(ROOT)),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        check=False,
    )
    assert build.returncode == 0, build.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"eventstore"}
    for name in (
        *("projections/tables.py", "proto/metadata_store_pb2.py", "py.typed"),
        *("report/report.html.j2", "audit/standalone_verifier.py"),
    ):
        assert f"eventstore/{name}" in names
    assert "eventstore/proto/metadata_store.proto" in names
