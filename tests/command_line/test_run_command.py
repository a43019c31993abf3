"""`eventstore run`: programs that import `ml_metadata`, unedited."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.command_line.runner import ROOT, program

PROGRAM = """
import multiprocessing, subprocess, sys
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2

def where(_):
    import ml_metadata
    return ml_metadata.MetadataStore.__module__

if __name__ == "__main__":
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = "metadata.db"
    store = metadata_store.MetadataStore(config)
    store.put_artifact_type(metadata_store_pb2.ArtifactType(name="Data"))
    child = "import ml_metadata; print(ml_metadata.MetadataStore.__module__)"
    subprocess.run([sys.executable, "-c", child], check=True)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(where, [1])[0])
    sys.exit(7)
"""


def _run(
    folder: Path, *arguments: str, path: str | None = None
) -> subprocess.CompletedProcess[str]:
    folders = [folder for folder in (path, str(ROOT)) if folder]
    return subprocess.run(
        program("run", *arguments),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_program_and_its_children_run_on_this_project(tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text(PROGRAM)
    done = _run(tmp_path, "--", sys.executable, "pipeline.py")
    assert done.stdout.split() == ["eventstore.metadata_store.metadata_store"] * 2, done.stderr
    assert done.returncode == 7
    assert (tmp_path / "metadata.db" / "manifest.json").exists()


def test_the_path_can_be_set_by_hand(tmp_path: Path) -> None:
    path = _run(tmp_path, "--path").stdout.strip()
    done = subprocess.run(
        [sys.executable, "-c", "import ml_metadata as m; print(m.MetadataStore.__module__)"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([path, str(ROOT)])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "eventstore.metadata_store.metadata_store"


def test_the_environments_own_customization_still_runs(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "sitecustomize.py").write_text("print('customized')")
    code = "import ml_metadata, sitecustomize; print(sitecustomize.__file__)"
    done = _run(tmp_path, "--", sys.executable, "-c", code, path=str(tmp_path / "own"))
    assert done.stdout.split()[-1] == str(tmp_path / "own" / "sitecustomize.py"), done.stderr
    assert "customized" in done.stdout


def test_arguments_reach_the_program_as_they_are(tmp_path: Path) -> None:
    code = "import sys; print(sys.argv[1:])"
    done = _run(tmp_path, "--", sys.executable, "-c", code, "--help", "-x", "--", "a b", "")
    assert done.stdout.strip() == "['--help', '-x', '--', 'a b', '']"


def test_a_program_that_cannot_run_is_named(tmp_path: Path) -> None:
    missing = _run(tmp_path, "--", "no-such-program")
    assert missing.returncode == 127
    assert "'no-such-program'" in missing.stderr
    assert _run(tmp_path).returncode == 2
    (tmp_path / "notexec").write_text("")
    refused = _run(tmp_path, "--", "./notexec")
    assert refused.returncode == 126
    assert "cannot be run: Permission denied" in refused.stderr
    misspelt = _run(tmp_path, "--nope", "--", "x")
    assert misspelt.returncode == 2
    assert "--nope" in misspelt.stderr


def test_an_interpreter_without_this_project_is_told(tmp_path: Path) -> None:
    # -S: no site-packages, so nothing of this project's dependencies; the path is only the folder.
    path = _run(tmp_path, "--path").stdout.strip()
    done = subprocess.run(
        [sys.executable, "-S", "-c", "import sitecustomize; print('ran')"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "ran"
    assert "install mlmd-eventstore" in done.stderr
