"""The options of `eventstore serve` for those who run it: limits, the log, metrics, replicas."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click
from msgspec import Struct

from eventstore.errors import FailedPreconditionError
from eventstore.late_logger import late_logger
from eventstore.store import Engine

if TYPE_CHECKING:
    from eventstore.server.observing import Observer

_LOGGER = late_logger("eventstore")

_LEVELS: Final = ("debug", "info", "warning", "error")


class Operations(Struct, frozen=True):
    """What the options say, by their names."""

    log_format: str
    log_level: str
    log_calls: str
    metrics_port: int | None
    metrics_host: str
    max_call_seconds: float | None
    read_only: bool
    max_staleness: float
    max_wait_seconds: float

    @property
    def call_seconds_max(self) -> float:
        """How long a call may take."""
        return math.inf if self.max_call_seconds is None else self.max_call_seconds


def operations_options(run: Callable[..., None]) -> Callable[..., None]:
    """Add the options; they reach the command as one `operations`."""
    options = [
        click.option(
            "--log-format",
            type=click.Choice(["text", "json"]),
            default="text",
            show_default=True,
            help="How lines of the log on standard error are written.",
        ),
        click.option(
            "--log-level",
            type=click.Choice(_LEVELS),
            default="info",
            show_default=True,
            help="What the log leaves out is less than this.",
        ),
        click.option(
            "--log-calls",
            type=click.Choice(["all", "failed", "none"]),
            default="failed",
            show_default=True,
            help="Which calls have a line; `failed` are those that could not be served.",
        ),
        click.option(
            "--metrics-port",
            type=click.IntRange(0, 65_535),
            help="A port for Prometheus; 0 is any free one.",
        ),
        click.option(
            "--metrics-host",
            default="127.0.0.1",
            show_default=True,
            help="The address of that port. Whoever reaches it can read the metrics.",
        ),
        click.option(
            "--max-call-seconds",
            type=click.FloatRange(min=0, min_open=True),
            help="How long a call may take, whatever its client says; unlimited by default.",
        ),
        click.option(
            "--read-only",
            is_flag=True,
            help="Be a replica: answer gets of stores that others write, and refuse puts.",
        ),
        click.option(
            "--max-staleness",
            type=click.FloatRange(min=0),
            default=0.0,
            show_default=True,
            help="For how many seconds gets may miss what other processes have put.",
        ),
        click.option(
            "--max-wait-seconds",
            type=click.FloatRange(min=0),
            default=10.0,
            show_default=True,
            help="How long a call may wait for the position that it asks for.",
        ),
    ]

    @functools.wraps(run)
    def collected(**given: Any) -> None:
        names = Operations.__struct_fields__
        operations = Operations(**{name: given.pop(name) for name in names})
        run(operations=operations, **given)

    collected_run: Callable[..., None] = collected
    for option in reversed(options):
        collected_run = option(collected_run)
    return collected_run


def begin_log(operations: Operations) -> None:
    """Write the log of this process to standard error."""
    from eventstore.server.log_lines import LogFormat, log_to_standard_error

    log_to_standard_error(LogFormat(operations.log_format), operations.log_level.upper())


def announce(operations: Operations, line: str) -> None:
    """Say on what the server listens: on standard output, or in a log that is JSON."""
    if operations.log_format == "json":
        _LOGGER.info(line)
    else:
        click.echo(line)


class Observed(Struct, frozen=True):
    """Who is told of calls, and where metrics are read, if anywhere."""

    observers: list[Observer]
    metrics_address: str | None


@contextmanager
def observers(operations: Operations, stores: Mapping[str, Engine]) -> Iterator[Observed]:
    """A block in which calls are logged, counted and traced, as the options say."""
    from eventstore.server.call_log import LoggedCalls, call_log
    from eventstore.server.traces import call_tracing

    logged = LoggedCalls(operations.log_calls)
    found = [] if logged is LoggedCalls.NONE else [call_log(logged)]
    tracing = call_tracing()
    if tracing is not None:
        found.append(tracing)
    if operations.metrics_port is None:
        yield Observed(found, None)
        return
    try:
        from eventstore.server.metrics import Metrics, MetricsListening
    except ImportError as error:
        raise FailedPreconditionError(
            "--metrics-port needs a package that is missing: pip install "
            f"'mlmd-eventstore[server]' ({error})"
        ) from None
    metrics = Metrics()
    listening = MetricsListening(operations.metrics_port, operations.metrics_host)
    address = metrics.start(stores, listening)
    try:
        yield Observed([*found, metrics.begin], address)
    finally:
        metrics.stop()
