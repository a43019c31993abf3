"""How the package is put together: its names, its layers, what it loads, and its wheel."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Set
from pathlib import Path

import pytest

import eventstore
from eventstore.proto import metadata_store_pb2 as mlmd

ROOT = Path(__file__).parents[2]

# What each folder and module of the package may import of the others, and the benchmarks.
LAYERS = {
    "answers": {"log"},
    "errors": set[str](),
    "late_logger": set[str](),
    "version": set[str](),
    "shown_text": set[str](),
    "pandas_frames": set[str](),
    "plain_values": set[str](),
    "plain_json": {"shown_text", "plain_values"},
    "proto": set[str](),
    "long_work": set[str](),
    "cancellation": {"errors"},
    "memory_limit": set[str](),
    "repr_html": set[str](),
    "times": set[str](),
    "wording": set[str](),
    "moments": {"errors", "log", "plain_json", "times"},
    "moment_texts": {"errors", "wording"},
    "call_metadata": {"errors"},
    "log": {
        *("errors", "late_logger", "proto", "long_work", "plain_values", "repr_html", "times"),
        *("memory_limit", "wording"),
    },
    "projections": {
        *(
            "answers",
            "errors",
            "late_logger",
            "proto",
            "log",
            "long_work",
            "cancellation",
            "wording",
        ),
        "memory_limit",
    },
    "store": {"errors", "proto", "log", "projections", "times", "cancellation", "wording"},
    "sql": {
        *(
            "errors",
            "memory_limit",
            "proto",
            "log",
            "projections",
            "store",
            "cancellation",
            "wording",
        ),
    },
    "copies": {
        *("errors", "proto", "log", "projections", "store", "retention", "long_work", "times"),
    },
    "lineage": {
        *("errors", "proto", "log", "projections", "store", "shown_text"),
        *("plain_values", "repr_html", "cancellation"),
    },
    "history": {
        *("errors", "proto", "log", "projections", "store", "lineage", "plain_json"),
        *("plain_values", "repr_html", "times"),
    },
    "retention": {
        *("answers", "errors", "proto", "log", "projections", "store", "history", "times"),
        *("late_logger", "long_work", "cancellation", "wording"),
    },
    "audit": {"errors", "log", "projections", "plain_json", "times", "wording"},
    "report": {
        *("errors", "proto", "log", "projections", "store", "lineage", "history", "audit"),
        *("shown_text", "plain_json", "plain_values", "times", "wording"),
    },
    "notebook": {
        *("proto", "log", "lineage", "history", "report", "recording"),
        *("shown_text", "plain_json", "plain_values", "long_work", "wording"),
    },
    "recording": {"errors", "proto", "repr_html"},
    "metadata_store": {
        *("errors", "proto", "log", "projections", "store", "lineage", "history", "audit"),
        *("report", "recording", "notebook", "long_work", "moments", "pandas_frames", "sql"),
        *("answers", "late_logger", "plain_json", "repr_html", "retention", "times"),
        *("call_metadata", "copies", "importing"),
    },
    "spark": {
        *("errors", "log", "metadata_store", "moments", "projections", "proto", "sql", "store"),
        "times",
    },
    "iceberg": {"errors", "log", "wording"},
    "importing": {"errors", "late_logger", "proto", "log", "long_work", "times", "wording"},
    "server": {
        "metadata_store",
        *("call_metadata", "errors", "proto", "log", "store", "late_logger", "moment_texts"),
        *("memory_limit", "moments", "shown_text", "version", "cancellation"),
    },
    "http_api": {
        *(
            "audit",
            "metadata_store",
            "server",
            "late_logger",
            "cancellation",
            "version",
            "shown_text",
        ),
        *("errors", "proto", "log", "projections", "store", "history", "retention", "sql"),
        *("answers", "moments", "moment_texts", "plain_json", "plain_values", "times", "wording"),
        "lineage",
    },
    "page": {
        *("http_api", "metadata_store", "history", "sql", "answers", "errors", "log", "moments"),
        *("moment_texts", "plain_json", "plain_values", "proto", "shown_text", "times"),
        *("retention", "server"),
    },
}

# What `import eventstore` and `import ml_metadata` reach.
PUBLIC = {"errors", "metadata_store", "proto", "version"}

# What nothing of the layers imports.
ABOVE_ALL = {
    "__init__": PUBLIC | {"alias"},
    "__main__": {"cli"},
    "alias": (PUBLIC - {"version"}) | {"as_mlmd"},
    "as_mlmd": PUBLIC,
    "cli": set(LAYERS) | {"__init__", "demo"},
    "demo": {"__init__", "answers", "proto", "plain_json", "wording"},
    "startup": {"alias"},
    "testing": {"errors", "proto", "log", "metadata_store", "times"},
    "benchmarks": {"__init__", "proto", "metadata_store", "importing", "log", "times"},
}

# What shows itself asks the notebooks above it for its HTML, by their name.
REACHED_UP = {"repr_html": {"notebook"}}

# What a log is made of: nothing outside of it reads manifests, files of segments or their states.
INSIDE_THE_LOG = {
    *("acknowledged", "active_segment", "checking_process", "closed_segments"),
    *("commit_ends", "concealing", "creation", "destroying", "directory", "directory_reader"),
    *("directory_writer", "followed_directory", "followed_segment"),
    *("growing_digest", "ipc_message", "ipc_stream", "manifest", "memory", "parquet_structure"),
    *("record_dataset", "relations", "replacing", "rows_check", "sealing", "segment_check"),
    *("segmented_reader", "store_files"),
    *("store_place", "thrift", "verification", "writers_lock"),
}

# What takes long to import, and is imported where it is used.
COMMAND_LINES = {"click", "rich"}
HEAVY = {
    *("asyncio", "attr", "cryptography", "duckdb", "email", "grpc", "http", "importlib.metadata"),
    *("IPython", "jinja2", "multiprocessing", "networkx", "numpy", "pandas", "polars", "pyarrow"),
    *("google.protobuf.json_format", "sqlglot", "sqlite3", "unittest"),
}
LIBRARY = {
    *("concurrent.futures", "dataclasses", "json", "logging", "random", "secrets", "shutil"),
    *("tempfile", "zipfile", "zoneinfo"),
}
"""Modules of the standard library that add up."""
REQUESTS = {"eventstore.proto.metadata_store_service_pb2", "eventstore.store.rpcs"}


def test_public_names_are_all_there() -> None:
    assert set(dir(eventstore)) == set(eventstore.__all__)
    for name in eventstore.__all__:
        assert getattr(eventstore, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        eventstore.nothing  # noqa: B018


def test_imports_point_one_way() -> None:
    for layer, allowed in (LAYERS | ABOVE_ALL).items():
        for module, imported in _imports_of(layer).items():
            for name in imported:
                used = name.removeprefix("eventstore").strip(".").split(".")[0] or "__init__"
                known = allowed | REACHED_UP.get(layer, set())
                assert used in known | {layer}, f"{module} imports {name}"
    _refuse_circles(LAYERS | ABOVE_ALL)


def test_nothing_outside_of_the_log_reads_its_files() -> None:
    for folder in ("eventstore", "projections"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            inside = path.is_relative_to(ROOT / "eventstore" / "log")
            for module in [] if inside else _imported(path):
                name = module.removeprefix("eventstore.log").strip(".")
                assert name not in INSIDE_THE_LOG, f"{path} imports {module}"


def test_no_modules_of_a_layer_import_each_other_in_a_circle() -> None:
    for layer in LAYERS | ABOVE_ALL:
        _refuse_circles(_imports_of(layer, is_run=True))


def test_a_circle_is_refused() -> None:
    _refuse_circles({"a": {"b", "c"}, "b": {"c"}, "c": set()})
    with pytest.raises(AssertionError, match=r"a circle: \['b', 'c'\]"):
        _refuse_circles({"a": set(), "b": {"a", "c"}, "c": {"b"}})


def test_every_module_is_in_a_layer_or_above_all() -> None:
    found = {path.stem for path in (ROOT / "eventstore").iterdir() if path.suffix in ("", ".py")}
    assert found - {"__pycache__"} == (LAYERS | ABOVE_ALL).keys() - {"benchmarks"}


def test_the_map_has_one_line_for_every_module_and_nothing_else() -> None:
    listed = _listed_in_the_map()
    assert len(listed) == len({*listed})
    folders = [ROOT / name for name in ("eventstore", "projections", "benchmarks")]
    # What is reached by a link is found in its own place; `protos` holds generated code.
    found = {path.resolve() for folder in folders for path in folder.rglob("*.py")}
    modules = {path for path in found if path.parent.name != "protos"}
    of_tests = {*(ROOT / "tests").glob("*.py")}
    rooms = {
        path for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name[0] not in "._"
    }
    known = {path.resolve() for path in modules | of_tests | rooms if path.name != "__init__.py"}
    assert {*listed} == known


def test_what_the_map_names_elsewhere_is_there() -> None:
    listed = {path.name for path in _listed_in_the_map()} | {"test_package.py"}
    told = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    assert {name.rpartition("/")[2] for name in re.findall(r"`([\w./]+\.py)`", told)} <= listed


def _listed_in_the_map() -> list[Path]:
    """What the lists of ARCHITECTURE.md name, each below the heading of its folder."""
    top = ROOT.resolve()
    folder, listed = top, list[Path]()
    for line in (ROOT / "ARCHITECTURE.md").read_text("utf-8").splitlines():
        if line.startswith("#"):
            heading = re.fullmatch(r"### .+: `(.+)/`", line)
            folder = top / heading[1] if heading else top
        elif folder != top and line.startswith("- "):
            names = re.findall(r"`([\w*/]+(?:\.py|/))`", line.partition(": ")[0])
            paths = [
                path for name in names for path in sorted(folder.glob(name)) or [folder / name]
            ]
            listed += paths
    return listed


def _imports_of(layer: str, *, is_run: bool = False) -> dict[str, set[str]]:
    """By module of a layer what it imports; without what is for types alone if `is_run`."""
    top = ROOT / layer if layer == "benchmarks" else ROOT / "eventstore" / layer
    paths = sorted(top.rglob("*.py")) if top.is_dir() else [top.with_suffix(".py")]
    assert paths
    return {_name_of(path): _imported(path, is_run=is_run) for path in paths}


def _name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _refuse_circles(imported: Mapping[str, Set[str]]) -> None:
    left = {name: {*others} & imported.keys() - {name} for name, others in imported.items()}
    while left:
        free = {name for name, others in left.items() if not others & left.keys()}
        assert free, f"a circle: {sorted(left)}"
        left = {name: others for name, others in left.items() if name not in free}


def _imported(path: Path, *, is_run: bool = False) -> set[str]:
    """The modules that a module imports: at its top, in a function, or by `import_module`."""
    found: set[str] = set()
    text = path.read_text()
    waiting: list[ast.AST] = [ast.parse(text)]
    texts, prefixes = set[str](), {""}
    while waiting:
        node = waiting.pop()
        if is_run and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if _is_module(name) else str(node.module) for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Constant):
            texts.add(str(node.value).partition(":")[0])
        elif isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
            prefixes.add(str(node.values[0].value))
    if "import_module(" in text:
        # What is imported late is named by a literal: alone, or in a table, perhaps by its end.
        names = {prefix + name for prefix in prefixes for name in texts}
        found |= {name for name in names if re.fullmatch(r"\w+(\.\w+)+", name) and _is_module(name)}
    return {name for name in found if name.split(".")[0] in ("eventstore", "benchmarks")}


def _is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert _loaded("import eventstore", HEAVY | LIBRARY | {"google.protobuf", "msgspec"}) == []


def test_a_get_by_id_loads_nothing_heavy(tmp_path: Path) -> None:
    code = f"""
import eventstore
with eventstore.open({os.fspath(_store(tmp_path))!r}) as store:
    assert [a.uri for a in store.get_artifacts_by_id([7, 1501])] == ["of 7", "of 1501"]
"""
    # Of the packages that are needed, an old msgspec imports json.
    by_packages = _loaded("import google.protobuf.message, msgspec, xxhash", LIBRARY)
    assert _loaded(code, HEAVY | COMMAND_LINES | LIBRARY | REQUESTS) == by_packages


def test_a_put_loads_nothing_heavy(tmp_path: Path) -> None:
    code = f"""
import eventstore
from eventstore.proto import metadata_store_pb2 as mlmd
with eventstore.open({os.fspath(_store(tmp_path))!r}) as store:
    (known,) = store.get_artifacts_by_id([1501])
    store.put_artifacts([mlmd.Artifact(type_id=known.type_id), known])
"""
    # Arrow compares with the log what a put takes from a run, such as a type.
    assert _loaded(code, HEAVY - {"numpy", "pyarrow"} | COMMAND_LINES | REQUESTS) == []


def test_what_is_done_after_puts_loads_no_pandas(tmp_path: Path) -> None:
    """Nor do filters and listings; pyarrow would, where it is installed.

    Earlier versions of DuckDB do.
    """
    own = _loaded('import duckdb; duckdb.connect().execute("SELECT ?", [1])', {"duckdb", "pandas"})
    code = f"""
import eventstore
from eventstore.proto import metadata_store_pb2 as mlmd
for opening in range(2):
    # Closing writes a run each time, and merges both.
    with eventstore.open({os.fspath(tmp_path / "store")!r}) as store:
        type_id = store.put_artifact_type(mlmd.ArtifactType(name="Data"))
        artifacts = [mlmd.Artifact(type_id=type_id, name=f"{{opening}}.{{n}}") for n in range(4500)]
        for artifact in artifacts:
            artifact.custom_properties["n"].int_value = len(artifact.name)
        store.put_artifacts(artifacts)
        store.seal()
        for length in range(3, 7):
            store.get_artifacts(
                eventstore.ListOptions(filter_query=f"custom_properties.n.int_value = {{length}}")
            )
        assert len(store.get_artifacts_by_type("Data")) == 4500 * (opening + 1)
"""
    assert _loaded(code, {"duckdb", "pandas", "pyarrow.parquet"}) == [*own, "pyarrow.parquet"]


@pytest.mark.parametrize(
    "arguments", [["info"], ["info", "--json"], ["get", "artifact", "7"]], ids=str
)
def test_a_command_loads_nothing_heavy(tmp_path: Path, arguments: list[str]) -> None:
    name, *others = arguments
    names = HEAVY | {"rich.console", "zoneinfo", "concurrent.futures"}
    assert _loaded(_command(name, os.fspath(_store(tmp_path)), *others), names) == []


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


def _store(folder: Path) -> Path:
    """A store whose index has a run of all that is in it but the newest commit."""
    path = folder / "store"
    with eventstore.open(path) as store:
        type_id = store.put_artifact_type(mlmd.ArtifactType(name="Data"))
        store.put_artifacts([mlmd.Artifact(type_id=type_id, uri=f"of {n}") for n in range(1, 1501)])
    assert [*path.glob("projections/index/*.run")]
    with eventstore.open(path) as store:
        store.put_artifacts([mlmd.Artifact(type_id=type_id, uri="of 1501")])
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
                most = 2_610 if path.name == "standalone_verifier.py" else 600
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
        *("page/templates/frame.html.j2", "page/static/page.css", "page/static/parts/LICENCES.txt"),
    ):
        assert f"eventstore/{name}" in names
    assert "eventstore/proto/metadata_store.proto" in names
