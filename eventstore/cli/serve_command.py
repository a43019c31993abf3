"""`eventstore serve`: MLMD's gRPC service on a store."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import click

from eventstore.cli.access_options import (
    IN_MEMORY,
    Admission,
    access_options,
    admission,
    refuse_same_place,
)
from eventstore.cli.end_signals import told_to_end
from eventstore.cli.exit_codes import EXIT_FAILED
from eventstore.cli.operations_options import (
    Operations,
    announce,
    begin_log,
    observers,
    operations_options,
)
from eventstore.cli.page_options import PageServer, asked_page, page_options
from eventstore.cli.paths import PlaceName
from eventstore.cli.upstream_flags import Configured, FlaggedCommand, configured, upstream_flags
from eventstore.cli.web_options import web_listening, web_options
from eventstore.cli.workers_option import (
    as_worker,
    refuse_in_memory,
    run_workers,
    workers_option,
)
from eventstore.late_logger import late_logger
from eventstore.log.places import Place
from eventstore.metadata_store.opening import open_configured, open_place
from eventstore.server.configuration import MEBIBYTE, Listening, parsed_channel_arguments
from eventstore.shown_text import shown_text
from eventstore.store import Engine

if TYPE_CHECKING:
    from eventstore.server.server import Server

_LOGGER = late_logger("eventstore")


@click.command(
    "serve",
    cls=FlaggedCommand,
    examples=(
        "eventstore serve my-store",
        "eventstore serve my-store --grpc_host=0.0.0.0 --grpc_port=8080",
        "eventstore serve my-store --workers=4 --metrics-port=9464 --log-format=json",
        "eventstore serve my-store --read-only --grpc_port=8081",
        "eventstore serve my-store --token-file=tokens --tls-certificate=tls.crt --tls-key=tls.key",
        "eventstore serve my-store --http=8400 --token-file=tokens",
        "eventstore serve postgresql://recorder@db.example.com/metadata",
        "eventstore serve --metadata_store_server_config_file=server.pbtxt",
        "eventstore serve --mysql_config_host=mysql --mysql_config_port=3306 "
        "--mysql_config_database=metadata --mysql_config_user=root",
    ),
    epilog="SIGTERM and SIGINT end it: calls that are being answered are, no new one is taken, and "
    "the exit code is 0. Flags with underscores are those of MLMD's server, in gflags' forms, too.",
)
@click.argument("place", metavar="[STORE]", type=PlaceName(), required=False)
@click.option(
    "--grpc_host",
    default="127.0.0.1",
    show_default=True,
    help="The address to listen on; 0.0.0.0 is every one of this machine.",
)
@click.option(
    "--grpc_port",
    type=click.IntRange(0, 65_535),
    default=8080,
    show_default=True,
    help="The port; 0 is any free one.",
)
@click.option(
    "--grpc_channel_arguments",
    default="",
    help="Arguments of gRPC's own: name=value,name=value.",
)
@click.option(
    "--max-message-mib",
    type=click.IntRange(1, 2047),
    default=100,
    show_default=True,
    help="How long a request and an answer may be.",
)
@click.option(
    "--max-calls",
    type=click.IntRange(min=1),
    default=1_000,
    show_default=True,
    help="How many calls may wait or be answered at once; more are refused.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    help="How many calls are answered at once.",
)
@click.option(
    "--grace-seconds",
    type=click.FloatRange(min=0),
    default=25.0,
    show_default=True,
    help="How long calls may take that are being answered when it ends.",
)
@workers_option
@access_options
@operations_options
@web_options
@page_options
@upstream_flags
def serve_command(
    place: Place | None,
    grpc_host: str,
    grpc_port: int,
    grpc_channel_arguments: str,
    max_message_mib: int,
    max_calls: int,
    threads: int,
    grace_seconds: float,
    workers: int,
    grpc_web_port: int | None,
    grpc_web_origins: tuple[str, ...],
    http_address: tuple[str, int] | None,
    http_names: tuple[str, ...],
    http_proxies: tuple[str, ...],
    checkpoints: Path | None,
    named_stores: tuple[tuple[str, Place], ...],
    token_file: Path | None,
    access_file: Path | None,
    tls_certificate: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
    operations: Operations,
    **flags: Any,
) -> None:
    """Serve a store to clients of MLMD over gRPC, which change the address and nothing else.

    STORE is the path or URL of a store, which is made if there is none. Flags of MLMD's server can
    name it instead. Where nothing does, the store is in memory, and gone when this ends.

    It listens on this machine alone unless --grpc_host says otherwise. Without --token-file,
    --access-file or --tls-client-ca nobody is asked who they are: whoever reaches the port can read
    and change the store.
    """
    # Else its library writes to standard error, as it comes, what strangers send.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    from eventstore.server.caller import Callers
    from eventstore.server.principal import DEFAULT_STORE
    from eventstore.server.server import Server
    from eventstore.server.workers import report_serving, this_worker, when_left_alone

    asked = configured(flags, names_store=place is not None)
    admitted = admission(
        named_stores, token_file, access_file, tls_certificate, tls_key, tls_client_ca
    )
    if admitted.tls is not None and asked.tls is not None:
        raise click.UsageError("ssl_config and --tls-certificate exclude each other")
    listening = Listening(
        host=grpc_host.removeprefix("[").removesuffix("]"),
        port=grpc_port,
        tls=asked.tls if admitted.tls is None else admitted.tls.now(),
        tls_now=admitted.tls,
        channel_arguments=parsed_channel_arguments(grpc_channel_arguments),
        message_bytes_max=max_message_mib * MEBIBYTE,
        threads=threads,
        calls_max=max_calls,
        call_seconds_max=operations.call_seconds_max,
    )
    web = web_listening(grpc_web_port, grpc_web_origins)
    page = asked_page(http_address, http_names, http_proxies, checkpoints, listening, workers)
    worker = this_worker()
    begin_log(operations)
    if worker is None:
        for line in asked.notes:
            _LOGGER.warning(line)
        if workers > 1:
            _warn(place, asked, admitted, listening)
            if not run_workers(workers, listening, web, operations):
                raise click.exceptions.Exit(EXIT_FAILED)
            return
    else:
        listening, web, operations = as_worker(worker, listening, web, operations)
    with contextlib.ExitStack() as opened:
        server = Server(listening, web)
        # Without a call it stops at once, and lets go of the port.
        opened.callback(server.stop, 0)
        pages = None if page is None else PageServer(page, listening)
        if pages is not None:
            opened.callback(pages.stop)
        engines = dict[str, Engine]()
        for name, engine in _opened(place, asked, admitted, operations):
            engine.max_staleness = operations.max_staleness
            engines[name] = engine
            opened.callback(engine.close)
            if worker is not None:
                refuse_in_memory(engine)
        ended = SimpleQueue[int]()
        with told_to_end(ended.put):
            callers = Callers(
                engines,
                admitted.access,
                wait_seconds_max=operations.max_wait_seconds,
                is_replica=operations.read_only,
            )
            observing = opened.enter_context(observers(operations, engines))
            server.start(callers, observing.observers)
            # Whatever ends it, calls that have begun are answered before the store is closed.
            opened.callback(_stop, server, grace_seconds)
            if pages is not None:
                opened.callback(pages.stop)
                pages.start(engines, admitted.access, observing.observers)
            names = ", ".join(
                engine.log.name if name == DEFAULT_STORE else f"{name}={engine.log.name}"
                for name, engine in engines.items()
            )
            lines = [shown_text(f"Serving {names} on {server.address}")]
            if server.web is not None:
                lines.append(f"gRPC-Web on {server.web.address}")
            if pages is not None:
                lines.append(f"Page on {pages.address}")
            if observing.metrics_address is not None:
                lines.append(f"Metrics on {observing.metrics_address}")
            if worker is not None:
                when_left_alone(lambda: ended.put(signal.SIGTERM))
                report_serving(lines)
            else:
                _warn(place, asked, admitted, listening)
                for line in lines:
                    announce(operations, line)
            number = ended.get()
            _LOGGER.info(
                "%s came: the server ends; calls that are being answered: %d",
                signal.Signals(number).name,
                server.calls_inside(),
            )


def _stop(server: Server, grace_seconds: float) -> None:
    if server.stop(grace_seconds):
        _LOGGER.info("The server has ended: all calls that had begun are answered")
    else:
        _LOGGER.warning(
            "The server has ended: calls that were not answered within %g s were cut off",
            grace_seconds,
        )


def _opened(
    place: Place | None, asked: Configured, admitted: Admission, operations: Operations
) -> Iterator[tuple[str, Engine]]:
    """The stores by name, each open before the next is."""
    from eventstore.server.principal import DEFAULT_STORE

    read_only = operations.read_only
    has_default = asked.connection is not None or place is not None
    if has_default and DEFAULT_STORE in admitted.stores:
        raise click.UsageError(f"{DEFAULT_STORE} is the name of STORE: use another for --store")
    refuse_same_place({**({} if place is None else {DEFAULT_STORE: place}), **admitted.stores})
    if read_only and not has_default and not admitted.stores:
        raise click.UsageError(
            "--read-only is for a store that others write: name it, as STORE, by --store or by "
            "flags of MLMD's"
        )
    if asked.connection is not None:
        yield (
            DEFAULT_STORE,
            open_configured(asked.connection, upgrade=asked.upgrades, read_only=read_only),
        )
    elif place is not None or not admitted.stores:
        yield DEFAULT_STORE, open_place(IN_MEMORY if place is None else place, read_only=read_only)
    for name, named in admitted.stores.items():
        yield name, open_place(named, read_only=read_only)


def _warn(
    place: Place | None, asked: Configured, admitted: Admission, listening: Listening
) -> None:
    """Log what whoever starts the server should know."""
    if place is None and asked.connection is None and not admitted.stores:
        _LOGGER.warning("No store is named: this one is in memory, and gone when the server ends.")
    asks = admitted.asks(listening.tls)
    if admitted.lets_nobody_in():
        _LOGGER.warning(
            "The token file has no token, and nothing else says who may call: nobody gets in. "
            "eventstore token makes tokens; the file is read again when it changes."
        )
    if listening.is_here():
        _LOGGER.info("Only this machine reaches it: --grpc_host=0.0.0.0 serves others, too.")
    elif listening.tls is None and asks:
        _LOGGER.warning(
            "Nothing is encrypted, tokens neither: use TLS, or a proxy or mesh that does."
        )
    elif listening.tls is None:
        _LOGGER.warning(
            "Whoever reaches it can read and change the store, and nothing is encrypted."
        )
    elif not asks:
        _LOGGER.warning(
            "Whoever reaches it can read and change the store: there are no tokens, and clients "
            "need no certificate (ssl_config.client_verify, or --tls-client-ca)."
        )
