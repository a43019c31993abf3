"""Random messages to put: types, nodes and events, valid and invalid."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from eventstore.proto import metadata_store_pb2 as mlmd

KINDS = ("artifact", "execution", "context")
TYPE_NAMES = ("T0", "T1", "T2", "mlmd.Dataset")
NAMES = ("n1", "n2", "n3", "ä")
URIS = ("", "s3://a", "s3://b")
EXTERNAL_IDS = ("x1", "x2", "x3", "x4")

_TYPED = {
    "int": mlmd.INT,
    "double": mlmd.DOUBLE,
    "string": mlmd.STRING,
    "struct": mlmd.STRUCT,
    "bool": mlmd.BOOLEAN,
    "proto": mlmd.PROTO,
}
# Not those of typed properties: upstream mixes the two up on an update (contract Q1).
_CUSTOM = ("c_int", "c.dot", "", "C_Upper")
_STRINGS = ("", "a", "Ab", "it's", "ö")
# The doubles have no more than upstream's six decimals (contract Q5).
_DOUBLES = (0.0, 0.25, -1.5, 1e10)
_INTS = (0, 1, -5, 2**62)

# What PORTING.md names is left out: NUL, at which upstream cuts texts, infinities and NaN, which it
# refuses, and -0.0, which it makes 0.
_ODD_TEXTS = (
    " ", "%", "_", "a\\b", '"', "''", "`", "a\nb\r\tc", "\x01\x1b[31m\x7f", "\u202eabc\u2066",
    "e\u0301",  "\U0001f600", "\U0010ffff\ufeff\ufffd", "\u05d0\u0020\u3000", "NULL", "null",
    "NaN", "1", "-0", "0x1F",  "; DROP TABLE Artifact; --", "$1 ? :a @p {0}", "x" * 300,
)  # fmt: skip
_LONG_TEXTS = ("x" * 65_536, "ä\n" * 30_000)
_ODD_DOUBLES = (1e15, -123456.75, 2.0**40, -1e-6, 1e300, -1e308)
_ODD_INTS = (2**63 - 1, -(2**63), 2**53 + 1, 2**31, -1)
_ODD_TIMES = (2**63 - 1, -(2**63), 2**53 + 1, -1)
_ODD_STRUCTS: tuple[dict[str, Any], ...] = (
    {},
    {"": ""},
    {"k": {"l": {"m": [1, [2, [None, {"n": False}]]]}}},
    {"ä b.c": "\U0001f600", "'": [], "n": -0.5, "e": {}},
    {"list": ["a", 1e300, {}, [], None, True]},
    {"text": "x" * 5_000},
)
_ODD_CUSTOM = (" ", "a b", "'", "ä", "\U0001f600", "x" * 200, "a.b.c", "%")
ODD = 0.08
"""How often a value is one at an edge."""


@dataclass
class Messages:
    """Makes messages that refer to what is known to be stored, and sometimes to what is not."""

    random: random.Random
    type_ids: dict[str, list[int]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    node_ids: dict[str, list[int]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    read_back: dict[str, list[Any]] = field(default_factory=lambda: {kind: [] for kind in KINDS})

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def one_of(self, usual: Sequence[Any], odd: Sequence[Any]) -> Any:
        return self.random.choice(odd if self.chance(ODD) else usual)

    def known_id(self, kind: str) -> int:
        """The id of a stored node; rarely, or without any, one that no node has."""
        known = self.node_ids[kind]
        if not known or self.chance(0.03):
            return self.random.choice((0, 1, 500))
        return self.random.choice(known)

    def node_type(self, kind: str) -> Any:
        node_type = getattr(mlmd, f"{kind.capitalize()}Type")()
        node_type.name = self.random.choice(TYPE_NAMES)
        if self.chance(0.03):
            node_type.name = ""
        if self.chance(0.3):
            node_type.version = self.random.choice(("v1", ""))
        if self.chance(0.2):
            node_type.description = self.one_of(("about", ""), _ODD_TEXTS)
        if self.chance(0.25):
            # Over kinds, upstream's refusal is an internal error (contract Q9).
            node_type.external_id = f"{kind}-{self.random.choice(EXTERNAL_IDS)}"
        elif self.chance(0.05):
            node_type.external_id = ""
        if kind != "context" and self.chance(0.2):
            node_type.base_type = self.random.randrange(3)
        if kind == "execution" and self.chance(0.2):
            node_type.input_type.dict.properties["in"].simple.name = "T0"
        for name in self.random.sample(sorted(_TYPED), self.random.randrange(len(_TYPED) + 1)):
            right = self.chance(0.97)
            node_type.properties[name] = _TYPED[name] if right else self.random.randrange(5)
        return node_type

    def node(self, kind: str, *, update: float = 0.4) -> Any:
        """A node to insert; with the chance `update` a known one, changed or as it was read."""
        node = getattr(mlmd, kind.capitalize())()
        if self.chance(update):
            if self.read_back[kind] and self.chance(0.6):
                node.CopyFrom(self.random.choice(self.read_back[kind]))
                if self.chance(0.3):
                    return node
                if self.chance(0.3):
                    node.ClearField("type")
            elif self.node_ids[kind]:
                node.id = self.random.choice(self.node_ids[kind])
        if not node.HasField("id") or self.chance(0.1):
            node.type_id = self.random.choice(self.type_ids[kind])
            if self.chance(0.03):
                node.type_id = self.random.choice((0, 1, 5, 999))
        self._set_fields(node, kind)
        self._set_properties(node)
        self._set_what_is_ignored(node)
        return node

    def _set_fields(self, node: Any, kind: str) -> None:
        if self.chance(0.5) or (kind == "context" and self.chance(0.97)):
            node.name = self.one_of(NAMES, _ODD_TEXTS)
            if self.chance(0.8):
                node.name += str(self.random.randrange(40))
            elif kind != "context" and self.chance(0.1):
                node.name = ""
        if self.chance(0.15):
            external_id = self.one_of(EXTERNAL_IDS, _ODD_TEXTS)
            node.external_id = f"{external_id}{self.random.randrange(9)}"
            if self.chance(0.05):
                node.external_id = ""
        if kind == "artifact" and self.chance(0.7):
            node.uri = self.one_of(URIS, _ODD_TEXTS)
        if kind == "artifact" and self.chance(0.4):
            node.state = self.random.randrange(7)
        if kind == "execution" and self.chance(0.4):
            node.last_known_state = self.random.randrange(7)

    def _set_properties(self, node: Any) -> None:
        if self.chance(0.25):
            name = self.random.choice([*_TYPED, *_TYPED, "unknown"])
            self._set_value(node.properties[name], _TYPED.get(name, mlmd.INT))
        names = [*_CUSTOM, self.random.choice(_ODD_CUSTOM)]
        for name in self.random.sample(names, self.random.randrange(3)):
            self._set_value(node.custom_properties[name], self.random.choice([*_TYPED.values()]))

    def _set_what_is_ignored(self, node: Any) -> None:
        if self.chance(0.05):
            node.type = self.random.choice((*TYPE_NAMES, "none"))
        if self.chance(0.05):
            node.create_time_since_epoch = 7
            node.last_update_time_since_epoch = 8
        if self.chance(0.03):
            node.system_metadata.Pack(mlmd.Event(artifact_id=1))

    def _set_value(self, value: mlmd.Value, kind: int) -> None:
        if self.chance(0.04):
            kind = self.random.choice([*_TYPED.values()])
        if kind == mlmd.INT:
            value.int_value = self.one_of(_INTS, _ODD_INTS)
        elif kind == mlmd.DOUBLE:
            value.double_value = self.one_of(_DOUBLES, _ODD_DOUBLES)
        elif kind == mlmd.STRUCT:
            plain = {"k": self.random.choice((1, None, "s", [True]))}
            # An empty one is no value unless it is set.
            value.struct_value.SetInParent()
            value.struct_value.update(self.one_of((plain,), _ODD_STRUCTS))
        elif kind == mlmd.BOOLEAN:
            value.bool_value = self.chance(0.5)
        elif kind == mlmd.PROTO:
            value.proto_value.Pack(mlmd.Event(execution_id=self.random.randrange(3)))
            if self.chance(ODD):
                value.proto_value.value = bytes(range(256))
                value.proto_value.type_url = self.random.choice(("x", "a/b/ä"))
        else:
            value.string_value = self.one_of(_STRINGS, (*_ODD_TEXTS, *_LONG_TEXTS))

    def event(self) -> mlmd.Event:
        """An event without its ends."""
        event = mlmd.Event()
        if self.chance(0.98):
            event.type = self.random.randrange(1, 8)
        if self.chance(0.6):
            event.milliseconds_since_epoch = self.one_of((0, 5, -7, 10**12, 2**61), _ODD_TIMES)
        for _ in range(self.random.randrange(3)):
            step = event.path.steps.add()
            if self.chance(0.5):
                step.key = self.one_of(("data", ""), _ODD_TEXTS)
            elif self.chance(0.9):
                step.index = self.one_of((0, -1, 7), _ODD_INTS)
        return event
