"""`eventstore`: the commands, and how their errors reach the shell."""

from __future__ import annotations

import atexit
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import NoReturn

import click

from eventstore.cli.exit_codes import (
    EXIT_DAMAGED,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_PIPE_CLOSED,
    EXIT_USAGE,
)
from eventstore.cli.help import CommandGroup, ErrorInLines, write_examples
from eventstore.errors import DataLossError, StatusError
from eventstore.shown_text import shown_text
from eventstore.version import __version__

_ENDING = ("SIGTERM", "SIGHUP")

_COMMANDS = {
    "audit": "eventstore.cli.audit_command:audit_command",
    "backup": "eventstore.cli.backup_command:backup_command",
    "changes": "eventstore.cli.changes_command:changes_command",
    "checkpoint": "eventstore.cli.checkpoint_command:checkpoint_command",
    "compact": "eventstore.cli.compact_command:compact_command",
    "copy": "eventstore.cli.copy_command:copy_command",
    "cosign": "eventstore.cli.cosign_command:cosign_command",
    "demo": "eventstore.cli.demo_command:demo_command",
    "destroy-keys": "eventstore.cli.backup_command:destroy_keys_command",
    "diff": "eventstore.cli.diff_command:diff_command",
    "erase": "eventstore.cli.erase_command:erase_command",
    "erasures": "eventstore.cli.backup_command:erasures_command",
    "export": "eventstore.cli.export_command:export_command",
    "files": "eventstore.cli.files_command:files_command",
    "get": "eventstore.cli.get_command:get_command",
    "history": "eventstore.cli.history_command:history_command",
    "hold": "eventstore.cli.hold_command:hold_command",
    "import": "eventstore.cli.import_command:import_command",
    "info": "eventstore.cli.info_command:info_command",
    "key": "eventstore.cli.checkpoint_command:key_command",
    "lineage": "eventstore.cli.lineage_command:lineage_command",
    "list": "eventstore.cli.get_command:list_command",
    "log": "eventstore.cli.log_command:log_command",
    "prove": "eventstore.cli.prove_command:prove_command",
    "publish": "eventstore.cli.publish_command:publish_command",
    "rebuild": "eventstore.cli.rebuild_command:rebuild_command",
    "report": "eventstore.cli.report_command:report_command",
    "retention": "eventstore.cli.retention_command:retention_command",
    "restore": "eventstore.cli.backup_command:restore_command",
    "rotate": "eventstore.cli.checkpoint_command:rotate_command",
    "run": "eventstore.cli.run_command:run_command",
    "serve": "eventstore.cli.serve_command:serve_command",
    "sql": "eventstore.cli.sql_command:sql_command",
    "tail": "eventstore.cli.changes_command:tail_command",
    "timestamp": "eventstore.cli.timestamp_command:timestamp_command",
    "token": "eventstore.cli.token_command:token_command",
    "ui": "eventstore.cli.ui_command:ui_command",
    "verify": "eventstore.cli.verify_command:verify_command",
}

_EXTRAS = {
    "cryptography": "audit",
    "jinja2": "audit",
    "networkx": "lineage",
    "pandas": "analytics",
    "polars": "analytics",
    "pyiceberg": "iceberg",
    "sqlalchemy": "iceberg",
    "rfc3161_client": "timestamp",
    "jwt": "jwt",
    "grpc": "server",
    "starlette": "ui",
    "uvicorn": "ui",
    "grpc_health": "server",
    "grpc_reflection": "server",
}

_EXAMPLES = (
    "eventstore demo",
    "eventstore import metadata.sqlite my-store",
    "eventstore info my-store",
    "eventstore list my-store artifact --type Model --as-of 2026-11-20",
    "eventstore history my-store artifact 7",
    "eventstore changes my-store --since yesterday",
    "eventstore lineage my-store artifact 7 --format mermaid",
    'eventstore sql my-store "SELECT type, count(*) FROM artifacts GROUP BY type"',
    "eventstore serve my-store",
    "eventstore verify my-store",
    "eventstore backup my-store /backup/my-store-2026-11-20",
)


class _LazyGroup(CommandGroup):
    """Imports a command's module only when it is asked for, so that each command starts fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(_EXAMPLES, formatter)
        super().format_epilog(ctx, formatter)


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 3 what was checked does not hold, 4 a "
    "cache of a store does not agree with its log, 130 interrupted. docs/command-line.md tells "
    "more, of completion, too.",
)
@click.version_option(__version__, prog_name="eventstore")
def cli() -> None:
    """A metadata store for machine learning that forgets nothing."""


def main() -> None:
    """Run the command line; whatever goes wrong becomes one line and an exit code."""
    atexit.register(_leave_garbage)
    _open_closed_streams()
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_OneLine())
    try:
        with _ended_by_signals():
            _run(sys.argv[1:])
        # What is written last may fail, too.
        sys.stdout.flush()
    except click.exceptions.Exit as exit_:
        sys.exit(exit_.exit_code)
    except click.ClickException as error:
        if not isinstance(error, ErrorInLines):
            # It may say again what was written on the command line.
            object.__setattr__(error, "message", shown_text(error.message))
        with suppress(OSError):
            error.show()
        sys.exit(EXIT_USAGE if isinstance(error, click.UsageError) else EXIT_FAILED)
    except (click.Abort, KeyboardInterrupt):
        _end("interrupted", EXIT_INTERRUPTED)
    except RuntimeError as error:
        # DuckDB's, where the signal reached it.
        if str(error) != "Query interrupted":
            raise
        _end("interrupted", EXIT_INTERRUPTED)
    except _EndedError as ended:
        # Nothing unfinished is left by now. Whoever sent the signal sees that it did its work.
        with suppress(OSError):
            sys.stdout.flush()
        os.kill(os.getpid(), ended.signal)
    except BrokenPipeError:
        # Whoever read has enough, as `head` does.
        _leave(EXIT_PIPE_CLOSED)
    except OSError as error:
        # Errors of the store's own files were translated before: what is left is the output.
        with suppress(OSError):
            click.echo(f"eventstore: writing the result failed: {error.strerror}", err=True)
        _leave(EXIT_FAILED)
    except DataLossError as error:
        _end(str(error), EXIT_DAMAGED)
    except StatusError as error:
        _end(str(error), EXIT_FAILED)
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package not in _EXTRAS:
            raise
        _end(
            f"this needs the package {package}: pip install 'mlmd-eventstore[{_EXTRAS[package]}]'",
            EXIT_FAILED,
        )
    sys.exit(0)


class _EndedError(BaseException):
    """The process was asked to end, by a signal."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = number


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let what is unfinished be removed when the process is asked to end; a second time it ends."""

    def ended(number: int, frame: object) -> NoReturn:  # noqa: ARG001
        signal.signal(number, signal.SIG_DFL)
        received.append(number)
        raise _EndedError(number)

    received: list[int] = []
    numbers = [getattr(signal, name) for name in _ENDING if hasattr(signal, name)]
    is_main = threading.current_thread() is threading.main_thread()
    # One that is ignored stays so: the process is to go on when its terminal is closed.
    caught = [n for n in numbers if is_main and signal.getsignal(n) is signal.SIG_DFL]
    for number in caught:
        signal.signal(number, ended)
    try:
        yield
    except BaseException:
        # Native code may have raised an error of its own in place of the handler's.
        if received:
            raise _EndedError(received[0]) from None
        raise
    finally:
        for number in caught:
            signal.signal(number, signal.SIG_DFL)


class _OneLine(logging.Formatter):
    """A warning as the line that it is, whatever is in the paths that it names."""

    def format(self, record: logging.LogRecord) -> str:
        return shown_text(record.getMessage())


def _open_closed_streams() -> None:
    """Open the streams that are closed: otherwise a store's file could take their place.

    There is nothing to read, what is said is dropped, and writing a result fails.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            flags = os.O_WRONLY if name == "stderr" else os.O_RDONLY
            opened = os.open(os.devnull, flags)
            mode = "r" if descriptor == 0 else "w"
            setattr(sys, name, open(opened, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def _run(arguments: list[str]) -> None:
    if "_EVENTSTORE_COMPLETE" in os.environ:
        cli.main(prog_name="eventstore")
    # Not Click's main, which has exit codes and lines of its own for interrupts and closed pipes.
    with cli.make_context("eventstore", arguments) as context:
        cli.invoke(context)


def _end(sentence: str, code: int) -> NoReturn:
    # The code says it, too, where nothing can be written.
    with suppress(OSError):
        click.echo(f"eventstore: {shown_text(sentence)}", err=True)
    sys.exit(code)


def _leave_garbage() -> None:
    """Spare the interpreter its search for garbage at the end, which takes a fifth of `info`."""
    # DuckDB complains of what is left of it.
    if "duckdb" not in sys.modules:
        gc.freeze()


def _leave(code: int) -> NoReturn:
    """End without writing what is buffered, which would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)
