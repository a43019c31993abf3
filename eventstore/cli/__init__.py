"""The command line. Nothing imports it."""

from eventstore.cli.main import main

__all__ = ["main"]
