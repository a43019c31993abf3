"""The options of `eventstore serve` that say which stores there are, and who may call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from msgspec import Struct

from eventstore.cli.paths import PathName, file_option
from eventstore.errors import InvalidArgumentError
from eventstore.log.places import Place, StoreUrl, place_of

if TYPE_CHECKING:
    from eventstore.server.access import Access
    from eventstore.server.reloading import Reloaded
    from eventstore.server.tls import SslConfig


IN_MEMORY: Final = StoreUrl("memory://")
"""A store of its own, each time that it is opened."""


class NamedPlace(PathName):
    """`NAME=PLACE`: a store, and how calls name it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from eventstore.server.principal import checked_store_name

        if isinstance(value, tuple):
            return value
        name, equals, place = str(value).partition("=")
        try:
            if not (equals and place):
                raise InvalidArgumentError(
                    f"{name!r} is not of the form NAME=PLACE, such as team-a=stores/team-a"
                )
            return checked_store_name(name), place_of(place)
        except InvalidArgumentError as error:
            return self.fail(error.message, param, ctx)


class Admission(Struct, frozen=True):
    """The stores with a name, and who may call; without `access` nobody is asked."""

    stores: Mapping[str, Place]
    access: Access | None
    tls: Reloaded[SslConfig] | None

    def asks(self, tls: SslConfig | None) -> bool:
        """Whether nobody may call who does not prove something, if only by a certificate."""
        return self.access is not None or (tls is not None and tls.client_verify)

    def lets_nobody_in(self) -> bool:
        """Whether tokens alone say who may call, and there are none yet."""
        access = self.access
        return (
            access is not None
            and access.rules is None
            and access.tokens is not None
            and not access.tokens.now()
        )


def access_options(run: Callable[..., None]) -> Callable[..., None]:
    """Add the options; they reach the command by the names that `admission` has."""
    options = [
        click.option(
            "--store",
            "named_stores",
            metavar="NAME=PLACE",
            multiple=True,
            type=NamedPlace(),
            help="A further store, which calls name by eventstore-store, or their token does.",
        ),
        file_option(
            "--token-file",
            "token_file",
            "Who may call: lines of `eventstore token`. It is read again when it changes.",
        ),
        file_option(
            "--access-file",
            "access_file",
            "Stores, and who may call by JWT, certificate or proxy; as TOML, read again likewise.",
        ),
        file_option(
            "--tls-certificate",
            "tls_certificate",
            "The server's certificate, and those that lead to it, as PEM; read again likewise.",
        ),
        file_option("--tls-key", "tls_key", "Its key, without a password."),
        file_option(
            "--tls-client-ca",
            "tls_client_ca",
            "Let only clients in whose certificate one of these has signed; its name is the actor.",
        ),
    ]
    for option in reversed(options):
        run = option(run)
    return run


def refuse_same_place(stores: Mapping[str, Place]) -> None:
    """Raise click.UsageError for two names of one place: what is granted would be for both."""
    names = dict[Place, str]()
    for name, place in stores.items():
        known = place.resolve() if isinstance(place, Path) else place
        if known in names and known != IN_MEMORY:
            raise click.UsageError(
                f"{names[known]} and {name} are the same store, {place}: name it once, and grant "
                "what is to be granted under that name"
            )
        names[known] = name


def admission(
    named_stores: tuple[tuple[str, Place], ...],
    token_file: Path | None,
    access_file: Path | None,
    tls_certificate: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
) -> Admission:
    """What the options say. Raises click.UsageError, and what reading the files raises."""
    from eventstore.server.access import Access
    from eventstore.server.reloading import Reloaded
    from eventstore.server.rules import read_rules
    from eventstore.server.tls import TlsFiles, read_tls
    from eventstore.server.token_file import read_tokens

    if (tls_certificate is None) != (tls_key is None):
        raise click.UsageError("--tls-certificate and --tls-key belong together: say both")
    tls = None
    if tls_certificate is not None and tls_key is not None:
        files = TlsFiles(tls_certificate, tls_key, tls_client_ca)
        tls = Reloaded(files.paths(), partial(read_tls, files))
    elif tls_client_ca is not None:
        raise click.UsageError("--tls-client-ca is for --tls-certificate and --tls-key: say all")
    tokens = rules = None
    if token_file is not None:
        tokens = Reloaded([token_file], partial(read_tokens, token_file))
    if access_file is not None:
        rules = Reloaded([access_file], partial(read_rules, access_file))
    stores = dict[str, Place]({} if rules is None else rules.now().stores)
    for name, place in named_stores:
        if name in stores:
            raise click.UsageError(f"the store {name} is named twice")
        stores[name] = place
    access = Access(tokens, rules) if tokens is not None or rules is not None else None
    return Admission(stores, access, tls)
