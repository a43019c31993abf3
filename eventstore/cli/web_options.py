"""The options of `eventstore serve` that are about gRPC-Web."""

from __future__ import annotations

from collections.abc import Callable

import click

from eventstore.server.configuration import WebListening
from eventstore.server.web_origins import checked_origin


def web_options(run: Callable[..., None]) -> Callable[..., None]:
    """Add the options; they reach the command by their names."""
    options = [
        click.option(
            "--grpc-web-port",
            type=click.IntRange(0, 65_535),
            help="A port for gRPC-Web, which pages in browsers speak; 0 is any free one.",
        ),
        click.option(
            "--grpc-web-origin",
            "grpc_web_origins",
            metavar="ORIGIN",
            multiple=True,
            help="A site, such as https://ui.example.com, whose pages may call, too; * is any.",
        ),
    ]
    for option in reversed(options):
        run = option(run)
    return run


def web_listening(port: int | None, origins: tuple[str, ...]) -> WebListening | None:
    """What the options say; None without a port."""
    if port is None:
        if origins:
            raise click.UsageError("--grpc-web-origin is for --grpc-web-port: say both")
        return None
    return WebListening(port, frozenset(map(checked_origin, origins)))
