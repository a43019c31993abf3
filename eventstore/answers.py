"""What the store and its commands tell as JSON: a struct for each, with its members in order.

Messages are of MLMD, and shown by `plain_json` as all other values are.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:
    from eventstore.log import Finding


class SegmentAnswer(msgspec.Struct, frozen=True):
    """A segment of the log: `state` is `active`, `closed` (not yet Parquet) or `sealed`.

    `bytes` is the size of its file, which a store in memory does not have.
    """

    number: int
    state: str
    first_position: int
    last_position: int
    bytes: int
    file: str | None


class StoreInfo(msgspec.Struct, frozen=True):
    """What a store holds: entities by kind in `counts`, sizes of files in bytes.

    `recorded_at` is of the newest record, in UTC; None when the store is empty.
    """

    store_id: str
    position: int
    commits: int
    recorded_at: datetime | None
    log_bytes: int
    projections_bytes: int
    counts: dict[str, int]
    segments: list[SegmentAnswer]


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """How a listing is answered: some candidates are judged, or the tables are scanned.

    `candidates` says how many at most. `sql` is the query on the tables. Where there are very many
    ids, a page by id is looked for among the first `first_ids` of them before all, unless that was
    in vain for the same filter before. The tables are folded up to `folded_position`; what was put
    since is folded before, up to `fold_to`, or the nodes that it has touched, `laid_over` many, are
    judged and laid over the rows.
    """

    way: Literal["candidates", "scan"]
    reason: str
    candidates: int | None = None
    sql: str | None = None
    parameters: dict[str, Any] = {}
    first_ids: int | None = None
    folded_position: int | None = None
    fold_to: int | None = None
    laid_over: int | None = None


class ErasedByAnswer(msgspec.Struct, frozen=True):
    """What an erasure took of a record, who asked for it, when, and on which basis.

    Where it took two persons, `actor` is who approved it.
    """

    number: int
    position: int
    requested_at: datetime
    actor: str | None
    basis: str
    ticket: str
    content: bool
    who: bool
    redacted: list[str]
    replaced_by: int | None
    proposed_by: str | None
    approved_by: str | None


class RecordAnswer(msgspec.Struct, frozen=True):
    """A record of the log; without `content` where that was erased, `erasures` where any was."""

    position: int
    commit: int
    recorded_at: datetime
    kind: str
    entity_id: int
    type_id: int | None
    previous: int | None
    actor: str | None
    reason: str | None
    request_id: str | None
    content: Any | msgspec.UnsetType = msgspec.UNSET
    erasures: list[ErasedByAnswer] | msgspec.UnsetType = msgspec.UNSET


class FieldAnswer(msgspec.Struct, frozen=True):
    """A field that changed, with its values before and after."""

    field: str
    before: Any
    after: Any


class VersionAnswer(msgspec.Struct, frozen=True):
    """A version of an entity, and what changed with it.

    `replaces` is the position of the redacted version that it took the place of.
    """

    kind: str
    id: int
    position: int
    commit: int
    recorded_at: datetime
    actor: str | None
    reason: str | None
    request_id: str | None
    changes: list[FieldAnswer]
    message: Any
    erasures: list[ErasedByAnswer] | msgspec.UnsetType = msgspec.UNSET
    replaces: int | msgspec.UnsetType = msgspec.UNSET


class ChangeAnswer(msgspec.Struct, frozen=True):
    """What a commit did to an entity, which has become `message`; `replaces` as of a version."""

    kind: str
    id: int
    position: int
    is_new: bool
    fields: list[FieldAnswer]
    message: Any
    erasures: list[ErasedByAnswer] | msgspec.UnsetType = msgspec.UNSET
    replaces: int | msgspec.UnsetType = msgspec.UNSET


class CommitAnswer(msgspec.Struct, frozen=True):
    """A commit and its changes."""

    commit: int
    first_position: int
    last_position: int
    recorded_at: datetime
    actor: str | None
    reason: str | None
    request_id: str | None
    changes: list[ChangeAnswer]


class DifferenceAnswer(msgspec.Struct, frozen=True):
    """An entity that is another at a second moment than at a first."""

    kind: str
    id: int
    is_new: bool
    fields: list[FieldAnswer]
    before: Any
    after: Any
    erasures: list[ErasedByAnswer] | msgspec.UnsetType = msgspec.UNSET


class NodeAnswer(msgspec.Struct, frozen=True):
    """A node of a lineage."""

    kind: str
    id: int
    node: Any


class EdgeAnswer(msgspec.Struct, frozen=True):
    """An event of a lineage, from one node to another, each told by its kind and id."""

    source: tuple[str, int]
    target: tuple[str, int]
    label: str
    event: Any


class LineageAnswer(msgspec.Struct, frozen=True):
    """A lineage; `left_out` counts the nodes that were left out of the first incomplete hop."""

    nodes: list[NodeAnswer]
    edges: list[EdgeAnswer]
    left_out: int


class SignedHeadAnswer(msgspec.Struct, frozen=True):
    """A tree head that was to hold, and who signed it; `root` is the head in base64."""

    size: int
    head: str
    commit: int
    recorded_at: datetime
    signed: str
    root: str
    signer: str
    signed_at: datetime
    witnesses: list[str]


class VerifyAnswer(msgspec.Struct, frozen=True):
    """The report of a verification; `root` is the tree head in base64, as checkpoints have it."""

    ok: bool
    position: int
    commits: int
    records: int
    tree_head: str
    findings: list[Finding]
    not_checked: list[str]
    signed_heads: list[SignedHeadAnswer]
    cache_findings: list[Finding]
    root: str


class CopyAnswer(msgspec.Struct, frozen=True):
    """A copy of a store that was made and verified, be it a backup or restored from one."""

    path: str
    records: int
    commits: int
    tree_head: str


class RestoreAnswer(CopyAnswer, frozen=True):
    """A store that was restored, and what of the register was recorded again in it.

    Of the records that the register names, `elsewhere` counts those that belong to another history
    of this store, `kept` those that are held or locked, both of which were passed over, and
    `not_redacted` those that were erased whole instead.
    """

    erasures_repeated: int
    releases_repeated: int
    elsewhere: int
    kept: int
    not_redacted: int


class DestroyedKeysAnswer(msgspec.Struct, frozen=True):
    """How many keys were there yet of what is erased; none of them is any more."""

    keys: str
    destroyed: int


class RebuildAnswer(msgspec.Struct, frozen=True):
    """Projections that were folded anew, from so many records."""

    store: str
    records: int


class KeyAnswer(msgspec.Struct, frozen=True):
    """A signing key that was made, in `file`, and what others verify with."""

    name: str
    verifier_key: str
    file: str


class TokenAnswer(msgspec.Struct, frozen=True):
    """A token that was made, and its line for a token file."""

    actor: str
    token: str
    line: str


class RotationAnswer(msgspec.Struct, frozen=True):
    """That a key signs in place of another after `size` records; `text` is all of the rotation."""

    old_key: str
    new_key: str
    rotated_at: datetime
    store_id: str
    size: int
    text: str


class CheckpointAnswer(msgspec.Struct, frozen=True):
    """A checkpoint that was signed; `text` is all of it."""

    signer: str
    size: int
    signed_at: datetime
    text: str


class ProofAnswer(msgspec.Struct, frozen=True):
    """A proof of a record or of the history between two checkpoints; `text` is all of it."""

    text: str


class CosignedAnswer(msgspec.Struct, frozen=True):
    """A checkpoint with cosignatures, and the names of the witnesses that the command knows.

    `is_met` says whether these are what the policy demands, where there is one.
    """

    witnesses: list[str]
    is_met: bool | None
    text: str


class PublishAnswer(msgspec.Struct, frozen=True):
    """Tiles that were published in a folder, of so many records; some were there before."""

    folder: str
    records: int
    records_before: int
    files_written: int


class AuditAnswer(msgspec.Struct, frozen=True):
    """What is published; where it holds, entries were looked at from `first_position` on.

    `witnesses` are those of the policy that have cosigned. What does not hold is in `findings`.
    """

    ok: bool
    source: str
    findings: list[Finding] = []
    size: int | None = None
    signer: str | None = None
    signed_at: datetime | None = None
    witnesses: list[str] = []
    first_position: int | None = None
    older_size: int | None = None
    checkpoint: str | None = None


class TimestampAnswer(msgspec.Struct, frozen=True):
    """A checkpoint that was there by a time; `serial` is the number of the timestamp."""

    signer: str
    signed_at: datetime
    timestamped_at: datetime
    serial: str


class ConsistencyAnswer(msgspec.Struct, frozen=True):
    """A proof that holds: what was signed later begins with what was signed before."""

    signer: str
    older_size: int
    older_signed_at: datetime
    newer_size: int
    newer_signed_at: datetime
    witnesses: list[str]


class InclusionAnswer(msgspec.Struct, frozen=True):
    """A proof that holds: a record is part of what was signed; its content may be erased."""

    signer: str
    signed_at: datetime
    position: int
    kind: str
    entity_id: int
    actor: str | None
    content: Any
    store_id: str
    commit: int
    recorded_at: datetime
    type_id: int | None
    previous: int | None
    reason: str | None
    request_id: str | None
    witnesses: list[str]


class ExportAnswer(msgspec.Struct, frozen=True):
    """Records that were written into a file."""

    file: str | None
    records: int


class ReportAnswer(msgspec.Struct, frozen=True):
    """An audit report that was written into a file, of so many bytes."""

    file: str | None
    bytes: int


class ToldAnswer(msgspec.Struct, frozen=True):
    """What the demo tells: lines, and rows of a question's answers, under a heading."""

    heading: str
    lines: list[str] = []
    rows: list[tuple[str, object]] = []


class DemoAnswer(msgspec.Struct, frozen=True, rename={"examples": "try"}):
    """What the demo told, of the store that it made, and commands to try on it."""

    store: str
    told: list[ToldAnswer]
    examples: list[str]


class Refusal(msgspec.Struct, frozen=True):
    """Why a record may not be erased.

    `number` is that of the hold or rule, `recorded_at_position` where the log says so, `until` when
    a lock ends, and `release_proposed_at` the position where a hold's release is proposed.
    """

    by: Literal["hold", "lock"]
    number: int
    recorded_at_position: int
    kind: str
    id: int
    position: int
    basis: str
    ticket: str
    until: datetime | None = None
    release_proposed_at: int | None = None

    def __str__(self) -> str:
        what = f"{self.kind.replace('_', ' ')} {self.id} at position {self.position}"
        by = f"{'hold' if self.by == 'hold' else 'retention rule'} {self.number}"
        said = ", ".join(filter(None, (self.basis, self.ticket)))
        until = "" if self.until is None else f" until {self.until:%Y-%m-%d %H:%M:%S} UTC"
        release = f"; its release is proposed at position {self.release_proposed_at}"
        return (
            f"{what} is {'held' if self.by == 'hold' else 'locked'} by {by}{until} "
            f"({said + ', ' if said else ''}recorded at position {self.recorded_at_position}"
            f"{release if self.release_proposed_at else ''})"
        )


class Scope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What fits all members that are given; without any, every type, node and link.

    `kinds` are of records, such as `artifact` or `event`; `type_ids` those of nodes' types;
    `context_ids` contexts, and with them the nodes and links in them; `entities` single ones, by
    kind and id; `filter_query` a filter of MLMD. A filter's text is kept for ever, so it should
    name nobody.
    """

    kinds: tuple[str, ...] = ()
    type_ids: tuple[int, ...] = ()
    context_ids: tuple[int, ...] = ()
    entities: tuple[tuple[str, int], ...] = ()
    filter_query: str = ""


class ScopeAnswer(msgspec.Struct, frozen=True):
    """What a hold or a rule would be about: how many nodes of each kind there are now."""

    scope: Scope
    counts: dict[str, int]


class RuleAnswer(msgspec.Struct, frozen=True):
    """A retention rule as it is now: `position` and `recorded_at` (UTC) are of its last record."""

    number: int
    scope: Scope
    keep_at_least_seconds: int | None
    keep_at_most_seconds: int | None
    includes_current: bool
    needs_approval: bool
    basis: str
    ticket: str
    is_withdrawn: bool
    recorded_at: datetime
    position: int


class DueVersion(msgspec.Struct, frozen=True):
    """A version that has expired, since `due_at` (UTC), by the rule of a number."""

    kind: str
    id: int
    position: int
    rule: int
    due_at: datetime
    is_current: bool


class PinnedNode(msgspec.Struct, frozen=True):
    """A node whose current version has expired, and what was made of it that stays."""

    kind: str
    id: int
    by_kind: str
    by_id: int


class DueAnswer(msgspec.Struct, frozen=True):
    """What has expired: `due` would go; `refused` is held or locked; `pinned` is in use."""

    due: list[DueVersion]
    refused: list[Refusal]
    pinned: list[PinnedNode]


class ErasedVersion(msgspec.Struct, frozen=True):
    """A record, and what of it is erased: its content, or of that what is `redacted`, and who.

    `replaced_by` is the position of the record that has what is left after a redaction.
    """

    kind: str
    id: int
    position: int
    content: bool
    who: bool
    redacted: list[str] = []
    replaced_by: int | None = None


class ErasedBefore(msgspec.Struct, frozen=True):
    """A version of which an earlier erasure, of a number, took what is asked for again.

    `stage` is `completed`, or `requested`: files may still have it. `replaced_by` is the position
    of the version that has what is left of it.
    """

    kind: str
    id: int
    position: int
    number: int
    stage: str
    content: bool
    who: bool
    redacted: list[str]
    replaced_by: int | None


class ErasedFile(msgspec.Struct, frozen=True):
    """A file of the log that is rewritten: how many bytes it has now, or its hashes after that."""

    segment: int
    file: str | None = None
    bytes: int | None = None
    old_sha256: str | None = None
    new_sha256: str | None = None


class SecondPerson(msgspec.Struct, frozen=True):
    """The rule by which an erasure takes a second person, and where the log has it."""

    rule: int
    recorded_at_position: int
    basis: str
    ticket: str


class ErasureReport(msgspec.Struct, frozen=True, kw_only=True):
    """What an erasure erases, or would.

    `stage` is `planned` (a dry run), `proposed` (it waits for a second person), `requested` (it is
    in effect, and files may still have what it erases), `completed`, or `nothing to erase`.
    `number` is the erasure's, once there is one. `outside` says what the store cannot reach,
    `refused` what outranks the erasure and `second_person` by which rule it would only be proposed,
    both in a dry run, and `erased_before` what is passed over.
    """

    number: int | None
    stage: str
    basis: str
    ticket: str
    versions: list[ErasedVersion]
    contents_erased: int
    whos_erased: int
    files: list[ErasedFile]
    outside: list[str]
    refused: list[Refusal] = []
    second_person: SecondPerson | None = None
    erased_before: list[ErasedBefore] = []


class ErasuresAnswer(msgspec.Struct, frozen=True):
    """The numbers of erasures that were completed, or withdrawn."""

    erasures: list[int]
