"""What a store with erasures answers, as of every position, in plain dictionaries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from eventstore.log import Commit
from eventstore.log.kinds import KINDS, NODE_KINDS
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.property.model import Model

KIND_OF = {kind.name: kind for kind in NODE_KINDS}
MAPS = ("properties", "custom_properties")


@dataclass
class Version:
    """A version of a node as it was put.

    `erased_by` is the erasure that took its content, `replaced_by` the position of what is left,
    `lost` what was named to be redacted.
    """

    kind: str
    position: int
    recorded_ms: int
    message: Any
    erased_by: int = 0
    replaced_by: int = 0
    lost: tuple[str, ...] = ()

    @property
    def has_content(self) -> bool:
        return not self.erased_by


@dataclass
class ErasureModel:
    """Versions by entity, links by position, who by position."""

    versions: dict[tuple[str, int], list[Version]] = field(default_factory=dict)
    links: list[tuple[int, str, Any]] = field(default_factory=list)
    who: dict[int, tuple[str | None, ...]] = field(default_factory=dict)
    who_erased: dict[int, int] = field(default_factory=dict)
    ends: list[int] = field(default_factory=list)
    """The last positions of commits that put types, nodes or links."""

    def learn(self, commit: Commit) -> None:
        """Note a commit just after it was put."""
        for record in commit.records:
            self.who[record.position] = (record.actor, record.reason, record.request_id)
            if record.kind == "erasure":
                continue
            message = KINDS[record.kind].message.FromString(record.payload)
            if record.kind in KIND_OF:
                version = Version(
                    record.kind, record.position, commit.recorded_at // 1_000, message
                )
                self.versions.setdefault((record.kind, record.entity_id), []).append(version)
            elif not record.kind.endswith("_type"):
                self.links.append((record.position, record.kind, message))
        self.ends.append(commit.last_position)

    def chosen(self, entity: tuple[str, int], position: int | None) -> list[Version]:
        versions = self.versions[entity]
        return [v for v in versions if position in (None, v.position)]

    def erase(
        self, number: int, entities: Sequence[tuple[str, int]], position: int | None, who: bool
    ) -> None:
        for entity in entities:
            for version in self.chosen(entity, position):
                if version.has_content:
                    version.erased_by = number
                if who:
                    self.who_erased.setdefault(version.position, number)

    def missing(self, entities: Sequence[tuple[str, int]], names: Sequence[str]) -> list[str]:
        """Those of the names that no version has or has lost."""
        versions = [version for entity in entities for version in self.versions[entity]]
        return [
            name
            for name in names
            if not any(
                name in v.lost or (v.has_content and redacted(v, [name]) is not None)
                for v in versions
            )
        ]

    def redact(
        self, number: int, entities: Sequence[tuple[str, int]], names: Sequence[str], commit: Commit
    ) -> None:
        """What a redaction has put, in `commit`, which was not learnt yet."""
        put = iter(commit.records[1:])
        now = {entity: self.answer(versions[-1]) for entity, versions in self.versions.items()}
        for entity in entities:
            newest = self.versions[entity][-1]
            left = [(v, redacted(v, names)) for v in self.chosen(entity, None) if v.has_content]
            touched = [(version, message) for version, message in left if message is not None]
            for version, message in touched:
                record = next(put)
                for name in ("name", "external_id"):
                    borne = {
                        getattr(now[e], name) for e in now if e[0] == entity[0] and e != entity
                    }
                    if getattr(message, name) in borne:
                        message.ClearField(name)
                assert KINDS[record.kind].message.FromString(record.payload) == message
                version.erased_by, version.replaced_by = number, record.position
                version.lost = tuple(names)
            if touched and newest.has_content:
                # What is put last is what the entity is from then on.
                record = next(put)
                assert KINDS[record.kind].message.FromString(record.payload) == newest.message
        assert next(put, None) is None
        self.learn(commit)

    def last(self, version: Version) -> Version:
        """What is left of a version after all redactions."""
        while version.replaced_by:
            left = self.at(version.replaced_by)
            if left.has_content:
                break
            version = left
        return version

    def answer(self, version: Version) -> Any:
        """What is answered where a version was the newest."""
        if version.has_content:
            return version.message
        last = self.last(version)
        return (
            self.at(last.replaced_by).message
            if last.replaced_by
            else tombstone(version, last.erased_by)
        )

    def erasures_as_of(self, position: int) -> dict[tuple[str, int], int | None]:
        """By node the erasure that its version as of a position is answered by."""
        newest = {
            entity: [version for version in versions if version.position <= position][-1:]
            for entity, versions in self.versions.items()
        }
        return {
            entity: None if version.has_content else self.last(version).erased_by
            for entity, found in newest.items()
            for version in found
        }

    def at(self, position: int) -> Version:
        return next(v for vs in self.versions.values() for v in vs if v.position == position)

    def as_of(self, position: int) -> Model:
        found = Model()
        for (kind, node_id), versions in self.versions.items():
            known = [version for version in versions if version.position <= position]
            if known:
                getattr(found, f"{kind}s")[node_id] = self.answer(known[-1])
        for at, kind, link in self.links:
            if at > position:
                continue
            if kind == "event":
                found.events.append(link)
            elif kind == "attribution":
                found.attributions.add((link.context_id, link.artifact_id))
            elif kind == "association":
                found.associations.add((link.context_id, link.execution_id))
            else:
                found.parents.add((link.child_id, link.parent_id))
        return found


def tombstone(version: Version, number: int) -> Any:
    node = KIND_OF[version.kind].message(
        id=version.message.id,
        type_id=version.message.type_id,
        type=version.message.type,
        create_time_since_epoch=version.recorded_ms,
        last_update_time_since_epoch=version.recorded_ms,
    )
    node.custom_properties["erased_by"].int_value = number
    return node


def redacted(version: Version, names: Sequence[str]) -> Any:
    """What is left of a version; None where it has nothing of it."""
    node, is_changed = type(version.message)(), False
    node.CopyFrom(version.message)
    for name in names:
        for of in MAPS:
            if name in getattr(node, of):
                del getattr(node, of)[name]
                is_changed = True
        if name in ("name", "uri", "external_id") and getattr(node, name, ""):
            node.ClearField(name)
            is_changed = True
    if isinstance(node, mlmd.Artifact):
        node.uri = node.uri
    return node if is_changed else None
