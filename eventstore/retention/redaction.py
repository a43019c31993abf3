"""What a node says without chosen properties and fields."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from eventstore.log.kinds import ARTIFACT, Node, NodeKind
from eventstore.store.snapshot import Snapshot

FIELDS: Final = ("name", "uri", "external_id")
"""The fields that can be redacted, beside properties of any name."""

_MAPS: Final = ("properties", "custom_properties")


def redacted(kind: NodeKind, node: Node, names: Collection[str]) -> Node | None:
    """A copy of a node without what is named; None when it has nothing of that."""
    if not any(has(kind, node, name) for name in names):
        return None
    copy: Node = kind.message()
    copy.CopyFrom(node)
    for name in names:
        for properties in _MAPS:
            if name in getattr(copy, properties):
                del getattr(copy, properties)[name]
        if name in FIELDS and name in kind.message.DESCRIPTOR.fields_by_name:
            copy.ClearField(name)
    if kind is ARTIFACT:
        # A node without a uri has the empty one.
        copy.uri = copy.uri
    return copy


def has(kind: NodeKind, node: Node, name: str) -> bool:
    """Whether a node has a property of a name, or a field that can be redacted."""
    if any(name in getattr(node, properties) for properties in _MAPS):
        return True
    is_field = name in FIELDS and name in kind.message.DESCRIPTOR.fields_by_name
    return is_field and bool(getattr(node, name))


def without_what_others_bear(snapshot: Snapshot, kind: NodeKind, node: Node) -> Node:
    """The node without a name or external id that has gone to another since."""
    taken = []
    if node.name and snapshot.node_id_by_name(kind, node.type_id, node.name) not in (None, node.id):
        taken.append("name")
    if node.external_id:
        bearer = snapshot.id_by_external_id(kind, node.external_id)
        if bearer not in (None, node.id):
            taken.append("external_id")
    for field in taken:
        node.ClearField(field)
    return node
