"""Somebody whose credential was checked: a name, and what one may do with which store."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from msgspec import Struct

from eventstore.errors import InvalidArgumentError
from eventstore.server.roles import Role, with_implied

DEFAULT_STORE: Final = "default"
"""The name of the store that is served without a name."""

EVERY_STORE: Final = "*"

_STORE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)

Grants: TypeAlias = Mapping[str, frozenset[Role]]
"""Roles by store, with those that are implied; `EVERY_STORE` stands for each."""


class Principal(Struct, frozen=True):
    """A caller. Without an actor it is anybody, who may say who that is."""

    actor: str | None
    grants: Grants

    def roles_in(self, store: str) -> frozenset[Role]:
        """What it may do there, which is nothing in a store that it does not have."""
        nothing = frozenset[Role]()
        return self.grants.get(store, nothing) | self.grants.get(EVERY_STORE, nothing)


def grants_of(pairs: Iterable[tuple[str, Role]]) -> Grants:
    """All that is granted one by one."""
    found = dict[str, frozenset[Role]]()
    for store, role in pairs:
        found[store] = found.get(store, frozenset()) | with_implied(role)
    return found


def checked_store_name(name: str) -> str:
    """Raises InvalidArgumentError for what no store can be called."""
    if not _STORE_NAME.fullmatch(name):
        raise InvalidArgumentError(
            f"{name!r} is no name of a store: use up to 100 letters, digits, dots, hyphens and "
            "underscores, and begin with a letter or digit"
        )
    return name


def parsed_grant(text: str) -> tuple[str, Role]:
    """What `STORE=ROLE` grants; a role alone is one in the store that is served without a name.

    Raises InvalidArgumentError for any other text.
    """
    store, equals, role = text.rpartition("=")
    roles = {each.value: each for each in Role}
    if role not in roles:
        raise InvalidArgumentError(
            f"{text!r} grants nothing: write STORE=ROLE, and as a role {', '.join(roles)}"
        )
    name = store if equals else DEFAULT_STORE
    return name if name == EVERY_STORE else checked_store_name(name), roles[role]
