"""The end of a store that many processes shared, compared with what they have told."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

import eventstore
from eventstore import errors
from eventstore.log import record as kind_names
from eventstore.log.kinds import KINDS
from tests.faults.part import Outcome
from tests.faults.shared_store import TypeIds, opened, put_whole, seen_whole, told_in

_PARTS: Final = ((kind_names.EXECUTION, "e"), (kind_names.ARTIFACT, "a"), (kind_names.CONTEXT, "c"))

_COUNTED: Final = {
    "count": None,
    "put": "acknowledged puts",
    "seen": "puts seen by others before or after",
    "claim": "acknowledged claims of a name",
}


class Check:
    """The store after all have ended, compared with what they have told."""

    def __init__(
        self, root: Path, opens: Callable[[], eventstore.MetadataStore] | None = None
    ) -> None:
        """Of the store in a folder, or of what `opens` opens."""
        self.root = root
        self._opens = opens or (lambda: opened(root / "store"))
        self.outcome = Outcome()
        self.complain = self.outcome.complaints.append
        self.read_told()

    def read_told(self) -> None:
        """Read what was told by now."""
        self.lines = [line for path in (self.root / "told").iterdir() for line in told_in(path)]

    def all(self) -> None:
        self.store()
        self._look_for_leftovers()

    def store(self) -> None:
        """What it holds and answers, now and once it is sealed."""
        for line in self.lines:
            if "complaint" in line:
                self.complain(line["complaint"])
            for told, what in _COUNTED.items():
                if told in line:
                    self.outcome.count(what or line[told])
        with contextlib.closing(self._opens()) as store:
            self._hold_log(store)
            self._hold_reads(store)
            self._verify(store)
            put_whole(store, TypeIds(store), "afterwards")
            if seen_whole(store, "afterwards") is None:
                self.complain("a put afterwards is not seen")
            store.seal()
            self._verify(store)
        with contextlib.closing(self._opens()) as store:
            self._hold_reads(store)
            self._verify(store)

    def _hold_log(self, store: eventstore.MetadataStore) -> None:
        """Every record once, every put in one commit, every name once."""
        position = 0
        names: dict[tuple[str, int | None, str], int] = {}
        self.uris: Counter[str] = Counter()
        """How many nodes without a name have a uri."""
        commits: dict[str, set[int]] = {}
        for commit in store.log.commits():
            self.outcome.count("commits in the end")
            for one in commit.records:
                position += 1
                if one.position != position:
                    self.complain(f"position {one.position} stands at {position}")
                message = KINDS[one.kind].message.FromString(one.payload)
                name = getattr(message, "name", "")
                if not name:
                    self.uris[getattr(message, "uri", "")] += 1
                    continue
                if one.previous is None and (one.kind, one.type_id, name) in names:
                    self.complain(f"{one.kind} {name} is there twice")
                names[one.kind, one.type_id, name] = one.entity_id
                if name[:2] in ("e-", "a-", "c-"):
                    commits.setdefault(name[2:], set()).add(commit.number)
        for key, of in commits.items():
            if len(of) != 1:
                self.complain(f"put {key} is spread over the commits {sorted(of)}")
        self.names = {(kind, name): entity_id for (kind, _, name), entity_id in names.items()}

    def _hold_reads(self, store: eventstore.MetadataStore) -> None:
        """All that was acknowledged, or seen, is there, with the ids that were told."""
        for line in self.lines:
            key = line.get("put") or line.get("seen")
            if key is not None:
                found = seen_whole(store, key)
                of_kinds = zip(
                    (kind_names.EXECUTION, kind_names.ARTIFACT, kind_names.CONTEXT),
                    "eac",
                    strict=True,
                )
                logged = tuple(
                    self.names.get((kind, f"{letter}-{key}")) for kind, letter in of_kinds
                )
                if not list(logged) == line["ids"] == list(found or ()):
                    self.complain(f"{line}: the log has {logged}, a read gives {found}")
            elif "claim" in line:
                claim = store.get_artifact_by_type_and_name("Claim", line["claim"])
                if claim is None or claim.id != line["id"]:
                    self.complain(f"{line}: a read gives {claim}")
            elif "type" in line and store.get_artifact_type(line["type"]).id != line["id"]:
                self.complain(f"{line}: a read gives {store.get_artifact_type(line['type'])}")
        for kind, table in (
            (kind_names.ARTIFACT, "artifacts"),
            (kind_names.EXECUTION, "executions"),
        ):
            expected = sum(of == kind for of, _ in self.names)
            counted = store.sql(
                f"SELECT count(*) FROM {table} WHERE name <> '{kind[0]}-afterwards'"
            )
            if counted.rows()[0][0] != expected:
                self.complain(f"SQL counts {counted.rows()} {table}, the log has {expected}")

    def _verify(self, store: eventstore.MetadataStore) -> None:
        try:
            store.verify()
        except errors.StatusError as error:
            self.complain(f"verify: {error}")

    def _look_for_leftovers(self) -> None:
        expected = {"manifest.json", "lock", "sealing.lock", "log", "projections"}
        store = self.root / "store"
        left = [path for path in store.rglob("*") if ".tmp" in path.name or ".partial" in path.name]
        left += [path for path in store.iterdir() if path.name not in expected]
        for path in left:
            self.complain(f"left behind: {path.relative_to(self.root)}")
        # Removed at the next use of a temporary folder.
        folders = [path for name in ("tmp", "backups") for path in (self.root / name).iterdir()]
        self.outcome.count("temporary folders of killed processes", len(folders))
