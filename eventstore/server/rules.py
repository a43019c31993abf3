"""The access file: what is trusted to tell who calls, and what is granted to whom."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final, TypeAlias

import msgspec
from msgspec import Struct

from eventstore.errors import InvalidArgumentError, UnauthenticatedError
from eventstore.log.os_errors import translating
from eventstore.log.places import is_url, place_of
from eventstore.server.incoming import Incoming, Peer
from eventstore.server.jwt_tokens import Claims, JwtCheck, JwtRules, has_claim
from eventstore.server.principal import EVERY_STORE, Principal, checked_store_name, grants_of
from eventstore.server.roles import Role

_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_NUMBERED: Final = re.compile(r"grants\[(\d+)\]")

ANY: Final = "*"
"""Among users and certificates: whoever has a name of this kind."""


class HeaderRules(Struct, frozen=True, forbid_unknown_fields=True):
    """A header that says who the user is, believed if it comes from one of these."""

    name: str
    addresses: tuple[str, ...] = ()
    certificates: tuple[str, ...] = ()

    def trusts(self, peer: Peer) -> bool:
        """Whether what this peer says of users is so."""
        if peer.name and peer.name in self.certificates:
            return True
        if not peer.address:
            return False
        address = _plain(peer.address)
        return any(address in network for network in map(_network, self.addresses))


class Grant(Struct, frozen=True, forbid_unknown_fields=True):
    """A role in a store, for users of the header, for certificates, or for who has claims."""

    store: str
    role: str
    users: tuple[str, ...] = ()
    certificates: tuple[str, ...] = ()
    claims: Mapping[str, str] = {}


class AccessFile(Struct, frozen=True, forbid_unknown_fields=True):
    """What an access file says. The paths of stores are taken from its folder."""

    stores: Mapping[str, str] = {}
    header: HeaderRules | None = None
    jwt: JwtRules | None = None
    grants: tuple[Grant, ...] = ()


class Rules:
    """Tells who calls, and what is granted to them. Safe to use from several threads."""

    def __init__(self, said: AccessFile, folder: Path) -> None:
        """Raises InvalidArgumentError for what contradicts itself."""
        _check(said)
        self.stores = {
            name: place_of(place if is_url(place) else folder / place)
            for name, place in said.stores.items()
        }
        self._header = said.header
        self._grants = said.grants
        self._jwt = None if said.jwt is None else JwtCheck(said.jwt, folder)

    @property
    def takes_jwt(self) -> bool:
        """Whether there is an issuer of tokens."""
        return self._jwt is not None

    def by_peer(self, incoming: Incoming) -> Principal | None:
        """Who calls by the header of a trusted proxy, or by a certificate; None for nobody.

        Raises UnauthenticatedError for the header from anybody else.
        """
        if self._header is not None:
            name = self._header.name.lower()
            users = [value for key, value in incoming.metadata() if key == name]
            if users:
                return self._by_header(self._header, users, incoming.peer())
        certificate = incoming.certificate_name()
        if not certificate:
            return None
        return self._granted(certificate, lambda grant: _is_among(certificate, grant.certificates))

    def by_jwt(self, token: str) -> Principal:
        """Who calls by a JWT. Raises UnauthenticatedError, UnavailableError."""
        assert self._jwt is not None
        actor, claims = self._jwt.claims_of(token)
        return self._granted(actor, lambda grant: _are_all_in(claims, grant))

    def _by_header(self, header: HeaderRules, users: list[str | bytes], peer: Peer) -> Principal:
        if not header.trusts(peer):
            raise UnauthenticatedError(
                f"{header.name} is taken from a trusted proxy alone: leave it out"
            )
        user = users[0]
        if len(users) > 1 or not isinstance(user, str) or not user:
            raise UnauthenticatedError(f"{header.name} has to say one user")
        return self._granted(user, lambda grant: _is_among(user, grant.users))

    def _granted(self, actor: str, is_for: Callable[[Grant], bool]) -> Principal:
        mine = filter(is_for, self._grants)
        return Principal(actor, grants_of((grant.store, Role(grant.role)) for grant in mine))


def read_rules(file: Path) -> Rules:
    """What an access file says. Raises InvalidArgumentError for one that says no rules."""
    with translating("reading", file):
        content = file.read_bytes()
    try:
        return Rules(msgspec.toml.decode(content, type=AccessFile), file.parent)
    except msgspec.ValidationError as error:
        raise InvalidArgumentError(f"{file}: {_placed(str(error))}") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise InvalidArgumentError(f"{file} is no TOML: {error}") from None
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"{file}: {error.message}") from None


def _placed(error: str) -> str:
    """What msgspec says of a file, with the place first, and as the file has it."""
    said, _, path = error.removeprefix("Object ").partition(" - at `$.")
    table, _, rest = path.removesuffix("`").partition(".")
    number = _NUMBERED.fullmatch(table)
    if number is not None:
        table = f"grant {int(number[1]) + 1}"
    elif table:
        table = f"[{table}]"
    return " ".join(part for part in (f"{table}:" if table else "", rest, said) if part)


def _check(said: AccessFile) -> None:
    for store in said.stores:
        checked_store_name(store)
    if said.header is not None:
        if not said.header.addresses and not said.header.certificates:
            raise InvalidArgumentError(
                "[header] trusts nobody: name addresses or certificates of the proxy"
            )
        for network in said.header.addresses:
            _network(network)
    for number, grant in enumerate(said.grants, 1):
        _check_grant(grant, f"grant {number}", said)


def _check_grant(grant: Grant, called: str, said: AccessFile) -> None:
    if grant.store != EVERY_STORE:
        checked_store_name(grant.store)
    roles = [role.value for role in Role]
    if grant.role not in roles:
        raise InvalidArgumentError(f"{called}: {grant.role!r} is no role: use {', '.join(roles)}")
    if sum(map(bool, (grant.users, grant.certificates, grant.claims))) != 1:
        raise InvalidArgumentError(f"{called}: say one of users, certificates and claims")
    if grant.users and said.header is None:
        raise InvalidArgumentError(f"{called} is for users, and no [header] says who they are")
    if grant.claims and said.jwt is None:
        raise InvalidArgumentError(f"{called} is for claims, and there is no [jwt]")


def _is_among(name: str, names: tuple[str, ...]) -> bool:
    return name in names or ANY in names


def _are_all_in(claims: Claims, grant: Grant) -> bool:
    return bool(grant.claims) and all(
        has_claim(claims, name, value) for name, value in grant.claims.items()
    )


@lru_cache(maxsize=256)
def _network(text: str) -> _Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise InvalidArgumentError(
            f"[header] {text!r} is no IP address and no network, such as 10.0.0.0/8"
        ) from None


def _plain(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An IPv4 address stays one that comes by a socket of IPv6."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped if mapped is not None else address
