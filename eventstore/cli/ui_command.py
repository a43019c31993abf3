"""`eventstore ui`."""

from __future__ import annotations

import threading
import webbrowser
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue

import click

from eventstore.cli.commands import command, store_argument
from eventstore.cli.end_signals import told_to_end
from eventstore.cli.page_options import checkpoints_option
from eventstore.cli.results import note
from eventstore.errors import InvalidArgumentError
from eventstore.log.places import Place, is_server
from eventstore.metadata_store.opening import open_place
from eventstore.shown_text import shown_text

_HOST = "127.0.0.1"
_CONNECTIONS_MAX = 100


@command(
    "ui",
    examples=(
        "eventstore ui my-store",
        "eventstore ui my-store --port 8400 --no-browser",
    ),
)
@store_argument
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=0,
    help="The port on this machine; without it, any free one.",
)
@click.option("--no-browser", is_flag=True, help="Open no browser; only show the address.")
@checkpoints_option
def ui_command(place: Place, port: int, no_browser: bool, checkpoints: Path | None) -> None:
    """Open the page over a store in the browser: lists, history, lineage, log, SQL, proofs.

    It only reads. It listens on this machine alone, and answers the browser alone that it opens:
    the address has a token, which is good for once. It ends with Ctrl+C.
    """
    from eventstore.http_api.application import make_application
    from eventstore.http_api.authentication import OneBrowser
    from eventstore.http_api.opening import Opening, warm
    from eventstore.http_api.serving import Serving
    from eventstore.page.pages import PAGES
    from eventstore.server.principal import DEFAULT_STORE
    from eventstore.server.web_server import WebServer

    if is_server(place):
        raise InvalidArgumentError(
            f"{place} is a server: open the page that it serves (eventstore serve --http)"
        )
    with ExitStack() as opened:
        web = WebServer(_HOST, port, None, _CONNECTIONS_MAX)
        opened.callback(web.stop)
        authenticator, opening = OneBrowser(web.port), Opening()
        web.start(opening)
        address = f"http://{web.address}/open?token={authenticator.token}"
        engine = open_place(place, read_only=True, saves_caches=True)
        opened.callback(engine.close)
        warm(engine, opening.note)
        serving = Serving({DEFAULT_STORE: engine}, checkpoints=checkpoints)
        opened.callback(serving.verifications.close)
        opening.opened(make_application(serving, authenticator, PAGES))
        ended = SimpleQueue[int]()
        with told_to_end(ended.put):
            click.echo(f"{shown_text(engine.log.name)} on {address}")
            note("Ctrl+C ends it.")
            if not no_browser:
                # It may wait for the browser, and fail without one: then the address is there.
                threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
            ended.get()
