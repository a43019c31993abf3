"""Several nodes side by side: what they say, what went into them, and what was measured of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Final

import msgspec

from eventstore.errors import InvalidArgumentError
from eventstore.http_api.catalog import node_kind
from eventstore.http_api.entities import require
from eventstore.http_api.lists import NodeRow, fields_of, node_rows
from eventstore.log.kinds import ARTIFACT, EXECUTION, NodeKind
from eventstore.log.readable import read_message
from eventstore.metadata_store.source import Source
from eventstore.plain_values import is_same
from eventstore.projections.erased_nodes import Tombstone
from eventstore.projections.index_tables import EVENTS_OF, MEMBERS_OF
from eventstore.projections.lineage import INPUTS
from eventstore.proto import metadata_store_pb2 as mlmd

NODES_MIN: Final = 2
NODES_MAX: Final = 20

_NEIGHBOURS_MAX: Final = 200
"""So many of a node's events, or of a context's members, are looked at: the newest."""

_LEFT_OUT: Final = frozenset(("created_at", "updated_at", "external_id"))
_OWN, _SETTINGS, _INPUTS, _METRICS = "Fields", "Settings", "Inputs", "Metrics"
_SECTIONS: Final = (_INPUTS, _SETTINGS, _METRICS, _OWN)


class Cell(msgspec.Struct, frozen=True):
    """A value of one of the nodes, and the node that says it; None where it is missing.

    `more` is how many further nodes say something of the same name.
    """

    value: Any
    kind: str
    id: int
    more: int = 0


class ComparedField(msgspec.Struct, frozen=True):
    """A field with its value for each node, in their order.

    `is_equal` says that all have the same, of one type; `types` are those that there are.
    """

    name: str
    cells: list[Cell | None]
    is_equal: bool
    types: list[str]


class Section(msgspec.Struct, frozen=True):
    """Inputs, settings, metrics or the fields of the nodes themselves."""

    name: str
    fields: list[ComparedField]


class Comparison(msgspec.Struct, frozen=True):
    """Nodes side by side, the first of which is the base."""

    nodes: list[NodeRow]
    sections: list[Section]


_Said = dict[tuple[str, str], Cell]
"""By section and field."""


def compare(source: Source, kind: str, node_ids: Sequence[int]) -> Comparison:
    """Compare 2 to 20 nodes of a kind as of the moment.

    An artifact brings the settings of the execution that made it, what that took in, and the
    numbers in metrics that were made from it. So does an execution. A context brings these of all
    of its executions, by their types. Raises InvalidArgumentError for another number of nodes,
    and what `entity` does.
    """
    of_kind, ids = node_kind(kind), [*dict.fromkeys(node_ids)]
    if not NODES_MIN <= len(ids) <= NODES_MAX:
        raise InvalidArgumentError(f"{NODES_MIN} to {NODES_MAX} nodes are compared: give so many")
    for node_id in ids:
        require(source, kind, node_id)
    reader = _Reader(source)
    said = [reader.said_of(of_kind, node_id) for node_id in ids]
    names: dict[str, dict[str, None]] = {section: {} for section in _SECTIONS}
    for of_node in said:
        for section, field in of_node:
            names[section][field] = None
    sections = []
    for section in _SECTIONS:
        fields = [
            _field(field, [of_node.get((section, field)) for of_node in said])
            for field in sorted(names[section], key=_order)
        ]
        if fields:
            sections.append(Section(section, fields))
    return Comparison(node_rows(source, of_kind, ids, ()), sections)


def _order(field: str) -> tuple[bool, str]:
    return "." in field, field


def _field(name: str, cells: list[Cell | None]) -> ComparedField:
    values = [None if cell is None else cell.value for cell in cells]
    types = dict.fromkeys(_type_name(value) for value in values if value is not None)
    is_equal = all(is_same(value, values[0]) for value in values[1:])
    return ComparedField(name, cells, is_equal, [*types])


def _type_name(value: Any) -> str:
    for held, name in ((bool, "BOOLEAN"), (int, "INT"), (float, "DOUBLE"), (str, "STRING")):
        if isinstance(value, held):
            return name
    return "STRUCT"


class _Reader:
    """Reads nodes and what is beside them, each of them once."""

    def __init__(self, source: Source) -> None:
        self._snapshot = source.snapshot()
        self._nodes: dict[tuple[str, int], tuple[Any, dict[str, Any]]] = {}

    def said_of(self, kind: NodeKind, node_id: int) -> _Said:
        """All that is compared of a node."""
        said: _Said = {}
        message, fields = self._node(kind, node_id)
        section = _SETTINGS if kind is EXECUTION else _OWN
        for name, value in fields.items():
            is_own = "." not in name or kind is not EXECUTION
            said[_OWN if is_own else section, _short(name)] = Cell(value, kind.name, node_id)
        said[_OWN, "type"] = Cell(message.type, kind.name, node_id)
        if kind is ARTIFACT:
            for execution_id in self._ends(ARTIFACT, node_id, is_input=False)[-1:]:
                self._add_execution(said, execution_id, "")
            self._add_metrics(said, [node_id], "")
        elif kind is EXECUTION:
            self._add_inputs(said, node_id, "")
            made = self._ends(EXECUTION, node_id, is_input=False)
            self._add_numbers(said, made, "")
            self._add_metrics(said, made, "")
        else:
            self._add_context(said, node_id)
        return said

    def _add_context(self, said: _Said, context_id: int) -> None:
        ids = self._snapshot.linked_ids(MEMBERS_OF[EXECUTION], context_id)[-_NEIGHBOURS_MAX:]
        made: set[int] = set()
        for execution_id in ids:
            made.update(self._ends(EXECUTION, execution_id, is_input=False))
        for execution_id in ids:
            prefix = f"{self._node(EXECUTION, execution_id)[0].type}."
            self._add_execution(said, execution_id, prefix, but=made)
        self._add_numbers(said, sorted(made), "", is_named=True)

    def _add_execution(
        self, said: _Said, execution_id: int, prefix: str, but: Iterable[int] = ()
    ) -> None:
        _, fields = self._node(EXECUTION, execution_id)
        for name, value in fields.items():
            if "." in name or name == "state":
                _add(said, _SETTINGS, prefix + _short(name), Cell(value, "execution", execution_id))
        self._add_inputs(said, execution_id, prefix, but)

    def _add_inputs(
        self, said: _Said, execution_id: int, prefix: str, but: Iterable[int] = ()
    ) -> None:
        left_out = {*but}
        for event in self._events(EXECUTION, execution_id):
            artifact_id = event.artifact_id
            if event.type not in INPUTS or artifact_id in left_out:
                continue
            message, fields = self._node(ARTIFACT, artifact_id)
            keys = [step.key for step in event.path.steps if step.HasField("key")]
            name = keys[0] if keys else message.type
            value = fields.get("name") or fields.get("uri") or f"artifact {artifact_id}"
            _add(said, _INPUTS, prefix + name, Cell(value, "artifact", artifact_id))

    def _add_metrics(self, said: _Said, artifact_ids: Iterable[int], prefix: str) -> None:
        """The numbers in what was made from some artifacts, where its type is one of metrics."""
        for artifact_id in artifact_ids:
            for execution_id in self._ends(ARTIFACT, artifact_id, is_input=True):
                made = self._ends(EXECUTION, execution_id, is_input=False)
                metrics = [one for one in made if _is_of_metrics(self._node(ARTIFACT, one)[0])]
                self._add_numbers(said, metrics, prefix)

    def _add_numbers(
        self, said: _Said, artifact_ids: Iterable[int], prefix: str, *, is_named: bool = False
    ) -> None:
        for artifact_id in artifact_ids:
            message, fields = self._node(ARTIFACT, artifact_id)
            start = f"{message.type}." if is_named else prefix
            for name, value in fields.items():
                if "." in name and _type_name(value) in ("INT", "DOUBLE"):
                    cell = Cell(value, "artifact", artifact_id)
                    _add(said, _METRICS, start + _short(name), cell)

    def _node(self, kind: NodeKind, node_id: int) -> tuple[Any, dict[str, Any]]:
        known = self._nodes.get((kind.name, node_id))
        if known is None:
            payload = self._snapshot.node_payload(kind, node_id)
            message = read_message(kind.message, payload or b"")
            fields = {} if isinstance(payload, Tombstone) else fields_of(kind.name, message)
            kept = {name: value for name, value in fields.items() if name not in _LEFT_OUT}
            known = self._nodes[kind.name, node_id] = message, kept
        return known

    def _events(self, kind: NodeKind, node_id: int) -> list[mlmd.Event]:
        entries = self._snapshot.entries(EVENTS_OF[kind], node_id)
        newest = islice(entries, max(0, len(entries) - _NEIGHBOURS_MAX), None)
        return [mlmd.Event.FromString(payload) for _, payload in newest]

    def _ends(self, kind: NodeKind, node_id: int, *, is_input: bool) -> list[int]:
        """The other ends of events of a node that are inputs, or are not, as they were put."""
        end = "execution_id" if kind is ARTIFACT else "artifact_id"
        return [
            getattr(event, end)
            for event in self._events(kind, node_id)
            if (event.type in INPUTS) is is_input
        ]


def _add(said: _Said, section: str, name: str, cell: Cell) -> None:
    """The newest node says it; how many others do is counted."""
    known = said.get((section, name))
    if known is not None and (known.kind, known.id) != (cell.kind, cell.id):
        cell = msgspec.structs.replace(cell, more=known.more + 1)
    said[section, name] = cell


def _short(name: str) -> str:
    """A property's name alone; a custom one keeps what it is."""
    return name.removeprefix("properties.")


def _is_of_metrics(artifact: Any) -> bool:
    return "metric" in artifact.type.lower()
