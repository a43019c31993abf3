"""Reads of types. What answers an RPC fills its response."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from eventstore.errors import NotFoundError
from eventstore.log.kinds import CONTEXT, NodeKind
from eventstore.log.readable import read_message
from eventstore.projections.index_tables import TABLES_OF
from eventstore.store.snapshot import Snapshot
from eventstore.store.system_types import SYSTEM_TYPE_NAMES
from eventstore.store.wire import fill_repeated
from eventstore.wording import quoted


def get_type(snapshot: Snapshot, kind: NodeKind, request: Any, response: Any) -> None:
    node_type = snapshot.type_by_name(kind, request.type_name, request.type_version)
    if node_type is None:
        version = f" and version {quoted(request.type_version)}" if request.type_version else ""
        raise NotFoundError(
            f"no {kind.name} type has the name {quoted(request.type_name)}{version}"
        )
    getattr(response, kind.type.name).CopyFrom(node_type)


def get_types(snapshot: Snapshot, kind: NodeKind, _: Any, response: Any) -> None:
    """Every type of the kind that does not bear the name of a system type of it."""
    payloads = type_payloads(snapshot, kind)
    if kind is not CONTEXT:
        message = kind.type.message
        payloads = [p for p in payloads if read_message(message, p).name not in SYSTEM_TYPE_NAMES]
    fill_repeated(response, f"{kind.name}_types", payloads)


def get_types_by_id(snapshot: Snapshot, kind: NodeKind, request: Any, response: Any) -> None:
    """In the order of the request, repeated where it repeats; unknown ids are left out."""
    _fill(snapshot, kind, request.type_ids, response)


def get_types_by_external_ids(
    snapshot: Snapshot, kind: NodeKind, request: Any, response: Any
) -> None:
    """In the order of the external ids, as upstream's index has them; each type once."""
    found = snapshot.ids_by_external_ids(kind.type, request.external_ids)
    _fill(snapshot, kind, [found[id_] for id_ in sorted(found, key=str.encode)], response)


def type_payloads(snapshot: Snapshot, kind: NodeKind) -> list[bytes]:
    """Every type of the kind, system types included, by id ascending."""
    table = TABLES_OF[kind.type].stored
    type_ids = [*snapshot.index.keys(table, snapshot.position)]
    found = snapshot.newest_of_each(table, type_ids)
    return [found[type_id][1] for type_id in type_ids]


def _fill(snapshot: Snapshot, kind: NodeKind, type_ids: Iterable[int], response: Any) -> None:
    payloads = (snapshot.type_payload(kind, type_id) for type_id in type_ids)
    fill_repeated(response, f"{kind.name}_types", (p for p in payloads if p is not None))
