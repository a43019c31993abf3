"""Files that results go into: what replaces one, what grows, and what ends a command."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import eventstore
from eventstore.cli import results
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.command_line.runner import ENVIRONMENT, run

# What nohup started ignores this signal, and so do its children.
HANGING_UP = "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_DFL)\n"


def run_script(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=False,
        timeout=60,
    )


@pytest.fixture
def store(tmp_path: Path) -> Path:
    directory = tmp_path / "store"
    with eventstore.open(directory, actor="ana") as opened:
        opened.put_artifact_type(mlmd.ArtifactType(name="a"))
    return directory


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o400])
def test_what_replaces_a_file_has_its_mode(mode: int, store: Path, tmp_path: Path) -> None:
    file = tmp_path / "out"
    file.write_text("before")
    file.chmod(mode)
    for arguments in (
        ("info", store, "--json"),
        ("sql", store, "SELECT 1 AS a", "--format", "parquet"),
        ("export", store),
    ):
        done = run(*arguments, "--output", file, "--force")
        assert done.code == 0, done.err
        assert stat.S_IMODE(file.stat().st_mode) == mode
    assert file.read_text() != "before"


def test_what_replaces_a_file_has_its_mode_before_it_has_content(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "out"
    file.touch()
    file.chmod(0o600)
    with results.written_file(file, force=True) as written:
        (unfinished,) = tmp_path.glob(".out.*.tmp")
        assert stat.S_IMODE(unfinished.stat().st_mode) == 0o600
        written.write(b"x")
    assert file.read_bytes() == b"x"


@pytest.mark.parametrize("form", ["json", "csv"])
def test_an_export_to_standard_output_tells_of_no_file(store: Path, form: str) -> None:
    done = run("export", store, "-", f"--{form}")
    assert (done.code, done.out) == (2, "")
    said = " ".join(done.err.split())
    assert f"leave --{form} out: the records are lines of JSON by themselves" in said
    assert f"name a FILE, of which --{form} tells" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_replaces_a_file_has_its_owner(store: Path, tmp_path: Path) -> None:
    file = tmp_path / "out"
    file.touch()
    os.chown(file, 12_345, 54_321)
    file.chmod(0o640)
    assert run("info", store, "--output", file, "--force").code == 0
    status = file.stat()
    assert (status.st_uid, status.st_gid) == (12_345, 54_321)
    assert stat.S_IMODE(status.st_mode) == 0o640


def test_a_link_stays_one_and_what_it_leads_to_keeps_its_mode(store: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "file").chmod(0o600)
    (tmp_path / "link").symlink_to("file")
    assert run("info", store, "--output", tmp_path / "link", "--force").code == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text()
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("number", "form"),
    [
        (signal.SIGINT, ()),
        (signal.SIGTERM, ()),
        (signal.SIGTERM, ("--json",)),
        (signal.SIGHUP, ("--csv",)),
    ],
)
def test_what_came_is_in_the_file_of_tail(
    number: signal.Signals, form: tuple[str, ...], store: Path, tmp_path: Path
) -> None:
    file = tmp_path / "came"
    os.mkfifo(tmp_path / "told")
    # Through the fifo the test learns that a line was written, without waiting for a while.
    script = HANGING_UP + (
        "import sys\n"
        "from eventstore.cli import main\n"
        "from eventstore.cli.results import _Written\n"
        "flushing = _Written.flush\n"
        "told = open(sys.argv.pop(1), 'w')\n"
        "def flush(self):\n"
        "    flushing(self)\n"
        "    told.write('x')\n"
        "    told.flush()\n"
        "_Written.flush = flush\n"
        "main()\n"
    )
    arguments = ("tail", store, "--after", 0, "--output", file, *form)
    with (
        subprocess.Popen(
            [sys.executable, "-c", script, tmp_path / "told", *map(str, arguments)],
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        ) as process,
        open(tmp_path / "told") as told,
    ):
        assert told.read(1) == "x"
        assert file.read_text()
        process.send_signal(number)
        try:
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    expected = (130, "eventstore: interrupted\n") if number == signal.SIGINT else (-number, "")
    assert (process.returncode, err) == expected
    assert "ana" in file.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["came", "store", "told"]


def test_tail_replaces_a_file_only_with_force(store: Path, tmp_path: Path) -> None:
    file = tmp_path / "came"
    file.write_text("before")
    file.chmod(0o600)
    arguments = ("tail", store, "--after", 0, "--commits", 1, "--output", file)
    refused = run(*arguments)
    assert (refused.code, file.read_text()) == (1, "before")
    assert "say --force" in refused.err
    assert run(*arguments, "--force").code == 0
    assert file.read_text().startswith("commit 1 at ")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    inside = run("tail", store, "--commits", 1, "--output", store / "log" / "came")
    assert "is inside of the store" in inside.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_is_ended_leaves_nothing_unfinished(
    number: signal.Signals, store: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    script = HANGING_UP + (
        "import os\n"
        "from eventstore.cli import main\n"
        "from eventstore.cli.results import _Written\n"
        "def line(self, text='', *, bold=False):\n"
        f"    assert any(n.endswith('.tmp') for n in os.listdir({str(folder)!r}))\n"
        f"    os.kill(os.getpid(), {int(number)})\n"
        "_Written.line = line\n"
        "main()\n"
    )
    done = run_script(script, "info", store, "--output", folder / "file")
    assert (done.returncode, done.stderr) == (-number, "")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130)]
)
def test_a_signal_that_reaches_duckdb_first(number: signal.Signals, code: int, store: Path) -> None:
    script = (
        "import os, signal, threading\n"
        "import duckdb\n"
        "from eventstore.cli import main\n"
        "from eventstore.metadata_store import sql_methods\n"
        "def sql(*arguments, **options):\n"
        f"    ended = threading.Timer(0.1, os.kill, (os.getpid(), {int(number)}))\n"
        "    ended.start()\n"
        "    try:\n"
        "        duckdb.sql('SELECT count(*) FROM range(10**9) a, range(10**9) b').fetchall()\n"
        "    finally:\n"
        "        ended.join()\n"
        "sql_methods.SqlMethods.sql = sql\n"
        "main()\n"
    )
    done = run_script(script, "sql", store, "SELECT 1")
    said = "" if code < 0 else "eventstore: interrupted\n"
    assert (done.returncode, done.stdout, done.stderr) == (code, "", said)


def test_a_signal_that_is_ignored_stays_so(store: Path) -> None:
    script = (
        "import os, signal\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from eventstore.cli import main\n"
        "from eventstore.cli.results import _Written\n"
        "line = _Written.line\n"
        "def ended(self, *texts, **options):\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    line(self, *texts, **options)\n"
        "_Written.line = ended\n"
        "main()\n"
    )
    done = run_script(script, "info", store, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("{")


def test_handlers_of_a_program_are_its_own_again(store: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert run("info", store).code == 0
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("zone", "near"),
    [("Europe/Berln", "Europe/Berlin"), (":Asia/Tokio", "Asia/Tokyo"), ("CEST", "")],
)
def test_a_zone_that_is_not_known_is_said(
    zone: str, near: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    for arguments in (("log",), ("list", "artifact", "--as-of", "today"), ("info", "--json")):
        done = run(arguments[0], store, *arguments[1:], "--local")
        assert (done.code, done.out) == (2, "")
        assert f"TZ={zone} names no time zone that is known here" in " ".join(done.err.split())
        assert near in done.err
    assert run("info", store).code == 0


@pytest.mark.parametrize(
    "zone",
    [
        "",
        "UTC",
        "Europe/Berlin",
        ":Europe/Berlin",
        "EST5EDT",
        "CET-1CEST,M3.5.0,M10.5.0/3",
        "<+0330>-3:30",
        "XYZ3",
        "/usr/share/zoneinfo/Asia/Tokyo",
    ],
)
def test_zones_that_are_known(zone: str, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if zone.startswith("/") and not Path(zone).exists():
        pytest.skip("the system has no zones there")
    monkeypatch.setenv("TZ", zone)
    assert run("info", store, "--local").code == 0
    monkeypatch.delenv("TZ")
    assert run("info", store, "--local").code == 0


def test_an_empty_file_is_called_empty(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run("import", tmp_path / "file", tmp_path / "new")
    assert (done.code, done.out) == (1, "")
    said = f"eventstore: {tmp_path}/file is empty: name the file of an MLMD SQLite database\n"
    assert done.err == said
    assert not (tmp_path / "new").exists()
