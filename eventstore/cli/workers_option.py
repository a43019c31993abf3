"""The option of `eventstore serve` by which several processes answer, and what starts them."""

from __future__ import annotations

import contextlib
import socket
from functools import partial

import click
import msgspec

from eventstore.cli.end_signals import told_to_end
from eventstore.cli.operations_options import Operations, announce
from eventstore.errors import FailedPreconditionError, UnimplementedError
from eventstore.server.configuration import Listening, WebListening
from eventstore.server.workers import Worker, Workers, shared_port
from eventstore.store import Engine

_PORT_MAX = 65_535

workers_option = click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="How many processes answer on the same ports; not for a store in memory.",
)


def run_workers(
    count: int, listening: Listening, web: WebListening | None, operations: Operations
) -> bool:
    """Have so many processes serve until a signal comes; whether all went well."""
    from eventstore.server.server import refuse_taken

    if not hasattr(socket, "SO_REUSEPORT"):
        raise UnimplementedError("--workers needs a system on which processes can share a port")
    metrics_port = operations.metrics_port
    if metrics_port and metrics_port + count - 1 > _PORT_MAX:
        raise click.UsageError(
            f"the metrics of {count} workers have the ports from --metrics-port={metrics_port} on, "
            f"of which {_PORT_MAX} is the last: choose a lower one"
        )
    with contextlib.ExitStack() as kept:
        refuse_taken(listening)
        port = kept.enter_context(shared_port(listening.host, listening.port))
        web_port = None
        if web is not None:
            refuse_taken(msgspec.structs.replace(listening, port=web.port))
            web_port = kept.enter_context(shared_port(listening.host, web.port))
        workers = Workers(count, port, web_port, partial(announce, operations))
        with told_to_end(lambda _: workers.end()):
            return workers.run()


def as_worker(
    worker: Worker, listening: Listening, web: WebListening | None, operations: Operations
) -> tuple[Listening, WebListening | None, Operations]:
    """The same for one of several processes: shared ports, and one of its own for metrics."""
    listening = msgspec.structs.replace(listening, port=worker.port, shares_port=True)
    if web is not None and worker.web_port is not None:
        web = msgspec.structs.replace(web, port=worker.web_port)
    if operations.metrics_port:
        own = operations.metrics_port + worker.number
        operations = msgspec.structs.replace(operations, metrics_port=own)
    return listening, web, operations


def refuse_in_memory(engine: Engine) -> None:
    """Raise FailedPreconditionError for a store that other processes cannot see."""
    from eventstore.log import MemoryLog

    if isinstance(engine.log, MemoryLog):
        raise FailedPreconditionError(
            "--workers is for stores that several processes share, and this one is in memory: name "
            "a directory, a database or a bucket, or leave --workers out"
        )
