"""`eventstore`: the commands, and how their errors reach the shell.

Exit codes: 0 done, 1 it failed, 2 wrong usage, 3 the store is damaged.
"""

from __future__ import annotations

import sys
from importlib import import_module

import click

from eventstore.errors import DataLossError, StatusError
from eventstore.version import __version__

EXIT_FAILED = 1
EXIT_DAMAGED = 3

_COMMANDS = {
    "changes": "eventstore.cli.changes_command",
    "checkpoint": "eventstore.cli.checkpoint_command",
    "demo": "eventstore.cli.demo_command",
    "diff": "eventstore.cli.diff_command",
    "export": "eventstore.cli.export_command",
    "get": "eventstore.cli.get_command:get_command",
    "history": "eventstore.cli.history_command",
    "import": "eventstore.cli.import_command",
    "info": "eventstore.cli.info_command",
    "key": "eventstore.cli.checkpoint_command:key_command",
    "lineage": "eventstore.cli.lineage_command",
    "list": "eventstore.cli.get_command:list_command",
    "log": "eventstore.cli.log_command",
    "prove": "eventstore.cli.checkpoint_command:prove_command",
    "rebuild": "eventstore.cli.rebuild_command",
    "report": "eventstore.cli.report_command",
    "run": "eventstore.cli.run_command",
    "sql": "eventstore.cli.sql_command",
    "tail": "eventstore.cli.changes_command:tail_command",
    "verify": "eventstore.cli.verify_command",
}


class _LazyGroup(click.Group):
    """Imports a command's module when it is asked for: `--help` then starts at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), name or "command")
        return command


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  eventstore demo
  eventstore import metadata.sqlite my-store
  eventstore info my-store
  eventstore list my-store artifact --type Model --as-of 2026-11-20T08:00+00:00
  eventstore history my-store artifact 7
  eventstore changes my-store --since 2026-11-17T00:00+00:00
  eventstore lineage my-store artifact 7 --format mermaid
  eventstore sql my-store "SELECT type, count(*) FROM artifacts GROUP BY type"
  eventstore verify my-store

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the store is damaged.
""",
)
@click.version_option(__version__, prog_name="eventstore")
def cli() -> None:
    """A metadata store for machine learning that forgets nothing."""


def main() -> None:
    """Run the command line; errors of the store become one line and an exit code."""
    try:
        cli.main(standalone_mode=True)
    except DataLossError as error:
        click.echo(f"eventstore: {error}", err=True)
        sys.exit(EXIT_DAMAGED)
    except StatusError as error:
        click.echo(f"eventstore: {error}", err=True)
        sys.exit(EXIT_FAILED)
