"""What a caller may do with a store, and what each RPC needs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Enum
from typing import Final

from eventstore.log import record as names
from eventstore.metadata_store.metadata_store import MetadataStore
from eventstore.metadata_store.served import OWN_SERVICE, served_by
from eventstore.proto import metadata_store_service_pb2 as service
from eventstore.store.rpcs import GETS, PUTS

MLMD_SERVICE: Final = service.DESCRIPTOR.services_by_name["MetadataStoreService"].full_name


class Role(Enum):
    """What one may do. `READ` is part of all others, and `ADMIN` has them all."""

    READ = "read"
    WRITE = "write"
    AUDIT = "audit"
    ADMIN = "admin"


ALL_ROLES: Final = frozenset(Role)

_IMPLIED: Final = {
    Role.READ: frozenset({Role.READ}),
    Role.WRITE: frozenset({Role.READ, Role.WRITE}),
    Role.AUDIT: frozenset({Role.READ, Role.AUDIT}),
    Role.ADMIN: ALL_ROLES,
}

METHODS: Final = served_by(MetadataStore)
"""What is served beyond MLMD's service, by RPC."""

_OF_AUDITORS: Final = frozenset((names.RETENTION_RULE, names.HOLD))


def is_withheld(kind: str, roles: Collection[Role]) -> bool:
    """Whether records of a kind say what these roles may not know."""
    return kind in _OF_AUDITORS and Role.AUDIT not in roles


NEEDED: Final[Mapping[str, Mapping[str, Role]]] = {
    OWN_SERVICE: {rpc: Role(method.need) for rpc, method in METHODS.items()},
    MLMD_SERVICE: {**dict.fromkeys(GETS, Role.READ), **dict.fromkeys(PUTS, Role.WRITE)},
}
"""The role that each RPC needs, by service. What is not here is not answered."""


def with_implied(role: Role) -> frozenset[Role]:
    """A role, and those that are part of it."""
    return _IMPLIED[role]
