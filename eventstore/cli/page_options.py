"""The options of `eventstore serve` that are about the page, and what serves it."""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec import Struct

from eventstore.cli.paths import PathName
from eventstore.errors import CancelledError
from eventstore.late_logger import late_logger
from eventstore.server.configuration import Listening, joined
from eventstore.store import Engine

if TYPE_CHECKING:
    from eventstore.http_api.serving import Serving
    from eventstore.server.access import Credentials
    from eventstore.server.observing import Observer

_LOGGER = late_logger("eventstore.server")
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class HttpAddress(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """`HOST:PORT`, or a port of this machine."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        host, _, port = str(value).rpartition(":")
        if not port.isascii() or not port.isdigit() or int(port) > 65_535:
            return self.fail(
                f"{str(value)[:100]!r} is no address: write HOST:PORT, or a port of this machine",
                param,
                ctx,
            )
        return host.removeprefix("[").removesuffix("]") or _LOOPBACK[0], int(port)


class Asked(Struct, frozen=True):
    """Where the page is asked for, under which names, and from which proxies."""

    host: str
    port: int
    names: frozenset[str]
    proxies: frozenset[str]
    checkpoints: Path | None

    def is_here(self) -> bool:
        """Whether it is for this machine alone."""
        return self.host in _LOOPBACK


checkpoints_option = click.option(
    "--checkpoints",
    metavar="FOLDER",
    type=PathName(exists=True, file_okay=False),
    help="A folder of signed checkpoints, against which the page proves records.",
)


def page_options(run: Callable[..., None]) -> Callable[..., None]:
    """Add the options; they reach the command by the names that `asked_page` has."""
    options = [
        click.option(
            "--http",
            "http_address",
            metavar="[HOST:]PORT",
            type=HttpAddress(),
            help="Where the page and its HTTP API are served, too; beyond this machine by TLS.",
        ),
        click.option(
            "--http-name",
            "http_names",
            metavar="NAME",
            multiple=True,
            help="A name by which browsers reach --http, such as models.example.com.",
        ),
        click.option(
            "--http-tls-proxy",
            "http_proxies",
            metavar="ADDRESS",
            multiple=True,
            help="The IP address of a proxy that speaks TLS in front of --http; nobody else is "
            "answered then.",
        ),
        checkpoints_option,
    ]
    for option in reversed(options):
        run = option(run)
    return run


def asked_page(
    address: tuple[str, int] | None,
    names: tuple[str, ...],
    proxies: tuple[str, ...],
    checkpoints: Path | None,
    listening: Listening,
    workers: int,
) -> Asked | None:
    """What the options say; None where no page is asked for. Raises click.UsageError."""
    if address is None:
        if names or proxies or checkpoints:
            raise click.UsageError(
                "--http-name, --http-tls-proxy and --checkpoints are for --http: say it, too"
            )
        return None
    if workers > 1:
        raise click.UsageError(
            "--http is for one process, which knows who has signed in: leave --workers out"
        )
    for proxy in proxies:
        try:
            ipaddress.ip_address(proxy)
        except ValueError:
            raise click.UsageError(f"--http-tls-proxy: {proxy!r} is no IP address") from None
    known = frozenset(name.lower() for name in names)
    asked = Asked(*address, known, frozenset(proxies), checkpoints)
    if not asked.is_here() and listening.tls is None and not proxies:
        raise click.UsageError(
            f"--http={joined(*address)} is open to the network, where proofs and sign-in need TLS: "
            "add --tls-certificate and --tls-key, or --http-tls-proxy=ADDRESS for a proxy that has "
            "them, or serve this machine alone (--http=127.0.0.1:PORT)"
        )
    return asked


class PageServer:
    """Serves the page over some stores, from the time when they are open and folded."""

    def __init__(self, asked: Asked, listening: Listening) -> None:
        """Take the port. Raises UnavailableError for an address that cannot be listened on."""
        from eventstore.http_api.opening import Opening
        from eventstore.http_api.serving import HERE
        from eventstore.server.web_server import WebServer

        tls = None if asked.proxies else listening.tls
        self._is_secure = tls is not None or bool(asked.proxies)
        self._proxies = asked.proxies
        self._checkpoints = asked.checkpoints
        self._web = WebServer(
            asked.host,
            asked.port,
            tls,
            listening.calls_max,
            None if asked.proxies else listening.tls_now,
        )
        own = frozenset() if asked.host in ("0.0.0.0", "::") else {asked.host.lower()}  # noqa: S104
        own = frozenset(f"[{host}]" if ":" in host else host for host in own)
        self._hosts = asked.names | own | (HERE if asked.is_here() or not asked.names else own)
        self._opening = Opening(self._hosts)
        self._is_ending = False
        self._serving: Serving | None = None
        self._folding: threading.Thread | None = None
        scheme = "https" if tls is not None else "http"
        self.address = f"{scheme}://{self._web.address}/"

    def start(
        self,
        engines: Mapping[str, Engine],
        credentials: Credentials | None,
        observers: Sequence[Observer] = (),
    ) -> None:
        """Answer requests: once all is folded with the page, until then with how far that is.

        Observers are told of each request to a store.
        """
        from eventstore.http_api.application import make_application
        from eventstore.http_api.authentication import Authenticator, NoAuthentication
        from eventstore.http_api.opening import warm
        from eventstore.http_api.serving import Serving
        from eventstore.http_api.sessions import SignedIn
        from eventstore.page.pages import PAGES

        authenticator: Authenticator = NoAuthentication()
        if credentials is not None:
            authenticator = SignedIn(credentials, self._web.port, is_secure=self._is_secure)
        serving = self._serving = Serving(
            engines, hosts=self._hosts, proxies=self._proxies, checkpoints=self._checkpoints
        )
        application = make_application(serving, authenticator, PAGES, observers)

        def note(done: int, of_all: int) -> None:
            if self._is_ending:
                raise CancelledError("the server ends")
            self._opening.note(done, of_all)

        def fold() -> None:
            for engine in engines.values():
                try:
                    warm(engine, note)
                except CancelledError:
                    return
                except Exception as error:
                    # Whoever asks of this store is told what is wrong with it.
                    _LOGGER.error("folding %s failed", engine.log.name, exc_info=error)
            self._opening.opened(application)

        self._folding = threading.Thread(target=fold, name="folding for the page", daemon=True)
        self._folding.start()
        self._web.start(self._opening)

    def stop(self) -> None:
        """Let go of the port, a second after the last answer at most."""
        self._is_ending = True
        self._web.stop()
        if self._folding is not None:
            self._folding.join()
        if self._serving is not None:
            self._serving.verifications.close()
