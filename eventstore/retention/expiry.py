"""What has expired by the rules: superseded versions, and current ones where a rule says so."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from eventstore.answers import DueAnswer, DueVersion, PinnedNode
from eventstore.cancellation import check_wanted
from eventstore.log import Log
from eventstore.log.erased import Erased
from eventstore.log.kinds import ARTIFACT, EXECUTION, NODE_KINDS, NODE_KINDS_BY_NAME, RETENTION_RULE
from eventstore.projections.index_tables import EVENTS_OF, TABLES_OF
from eventstore.projections.lineage import INPUTS
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.retention.guards import Recorded, all_versions
from eventstore.retention.precedence import ChosenVersion, refusals
from eventstore.retention.scopes import nodes_in_scope, scope_of
from eventstore.store.erasures import erased_as_of
from eventstore.store.snapshot import Snapshot
from eventstore.times import Microseconds, moment_of

_MICROSECONDS = 1_000_000
_COLUMNS = ["position", "kind", "entity_id", "previous", "recorded_at"]

Node = tuple[str, int]


class _Expired(NamedTuple):
    version: ChosenVersion
    rule: Recorded
    due_at: Microseconds
    is_current: bool


def due(log: Log, snapshot: Snapshot, now: Microseconds | None = None) -> DueAnswer:
    """What has expired by now of what is not erased yet, what keeps some of it, and why.

    Now is `Log.now`, or another time that is given. A version expires by the rule by which it is
    due first. A current one is pinned by what was made of it, unless that goes, too.
    """
    found: dict[int, _Expired] = {}
    now = log.now() if now is None else now
    erased = erased_as_of(snapshot.index, snapshot.position)
    for rule in _rules(snapshot):
        for expired in _expired(log, snapshot, rule, now, erased):
            known = found.get(expired.version.position)
            if known is None or expired.due_at < known.due_at:
                found[expired.version.position] = expired
    versions = [found[position].version for position in sorted(found)]
    refused = refusals(log, snapshot, versions, now=now)
    for refusal in refused:
        del found[refusal.position]
    pinned = _pinned(snapshot, erased, [e.version for e in found.values() if e.is_current])
    pins = {(pin.kind, pin.id) for pin in pinned}
    going = [
        found[position]
        for position in sorted(found)
        if not (found[position].is_current and _node(found[position].version) in pins)
    ]
    return DueAnswer([_due(e) for e in going], refused, pinned)


def _node(version: ChosenVersion) -> Node:
    return version.kind, version.id


def _due(expired: _Expired) -> DueVersion:
    version, rule, due_at, is_current = expired
    number = rule.message.id
    due_at_moment = moment_of(due_at)
    return DueVersion(*_node(version), version.position, number, due_at_moment, is_current)


def _rules(snapshot: Snapshot) -> Iterator[Recorded]:
    """The rules by which anything expires."""
    for versions in all_versions(snapshot, RETENTION_RULE):
        current = versions[-1]
        if current.message.keep_at_most_seconds and not current.message.is_withdrawn:
            yield current


def _expired(
    log: Log, snapshot: Snapshot, rule: Recorded, now: Microseconds, erased: Erased
) -> Iterator[_Expired]:
    keep = rule.message.keep_at_most_seconds * _MICROSECONDS
    until = Microseconds(now - keep)
    last = log.position_at(until)
    overdue = list(_overdue(log, last, erased, current=rule.message.includes_current))
    scope = scope_of(rule.message.scope)
    ids: dict[str, set[int]] = defaultdict(set)
    for version, _, _ in overdue:
        ids[version.kind].add(version.id)
    in_scope = {
        kind.name: nodes_in_scope(snapshot, scope, kind, ids[kind.name], snapshot.position)
        for kind in NODE_KINDS
    }
    newest = {
        kind.name: snapshot.newest_of_each(TABLES_OF[kind].stored, sorted(in_scope[kind.name]))
        for kind in NODE_KINDS
    }
    for version, since, is_superseded in overdue:
        if version.id not in in_scope[version.kind]:
            continue
        is_current = newest[version.kind][version.id][0] == version.position
        if is_superseded or is_current:
            yield _Expired(version, rule, Microseconds(since + keep), is_current)


def _overdue(
    log: Log, last: int, erased: Erased, *, current: bool
) -> Iterator[tuple[ChosenVersion, int, bool]]:
    """Versions of nodes superseded up to a position, and with `current` all that were put up to it.

    With each: when its time began, and whether it was superseded by then.
    """
    for batch in log.scan(0, last, _COLUMNS):
        check_wanted()
        moments = batch["recorded_at"].view("int64").to_pylist()
        rows = zip(*(batch[name].to_pylist() for name in _COLUMNS[:-1]), moments, strict=True)
        for position, kind, entity_id, previous, recorded_at in rows:
            if kind not in NODE_KINDS_BY_NAME:
                continue
            if previous is not None and previous not in erased.content:
                yield ChosenVersion(kind, entity_id, previous), recorded_at, True
            if current and position not in erased.content:
                yield ChosenVersion(kind, entity_id, position), recorded_at, False


def _pinned(snapshot: Snapshot, erased: Erased, going: Iterable[ChosenVersion]) -> list[PinnedNode]:
    """Those of the nodes of which something was made that is not erased, nor goes with them."""
    left: set[Node] = set(map(_node, going))
    pinned: list[PinnedNode] = []
    made = {node: _made_of(snapshot, node, erased) for node in left}
    is_settled = False
    while not is_settled:
        is_settled = True
        for node in sorted(left):
            pin = next((other for other in made[node] if other not in left), None)
            if pin is not None:
                left.discard(node)
                pinned.append(PinnedNode(*node, *pin))
                is_settled = False
    return sorted(pinned, key=lambda pin: (pin.kind, pin.id))


def _made_of(snapshot: Snapshot, node: Node, erased: Erased) -> Sequence[Node]:
    """What is directly downstream of a node and still there."""
    kind = NODE_KINDS_BY_NAME[node[0]]
    if kind not in EVENTS_OF:
        return ()
    found = set()
    for _, payload in snapshot.entries(EVENTS_OF[kind], node[1]):
        event = mlmd.Event.FromString(payload)
        if kind is ARTIFACT and event.type in INPUTS:
            found.add((EXECUTION.name, event.execution_id))
        elif kind is EXECUTION and event.type not in INPUTS:
            found.add((ARTIFACT.name, event.artifact_id))
    return sorted(other for other in found if not _is_erased(snapshot, other, erased))


def _is_erased(snapshot: Snapshot, node: Node, erased: Erased) -> bool:
    newest = snapshot.newest(TABLES_OF[NODE_KINDS_BY_NAME[node[0]]].stored, node[1])
    return newest is None or newest[0] in erased.content
