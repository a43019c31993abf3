"""What holds for erasing in every log: what it hides, what it destroys, and what stays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventstore.log import Commit, Draft, Log, Record
from eventstore.log import record as kind_names
from eventstore.log.columns import RECORD_SCHEMA, derive
from eventstore.log.erased import Erased, Spans
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.testing.drafts import append, append_erasure, as_erased, draft, erased_of
from eventstore.testing.log_contract import MadeLog

NOTHING = Erased()


def records_of(log: Log) -> list[Record]:
    """All records, in order."""
    return [record for commit in log.commits() for record in commit.records]


def rows_of(records: Sequence[Record], heads: dict[int, bytes]) -> list[dict[str, Any]]:
    """What `scan` gives of records."""
    derived = derive([r.kind for r in records], [r.payload for r in records])
    columns = {name: array.to_pylist() for name, array in derived.items()}
    return [
        {name: values[place] for name, values in columns.items()}
        | {name: getattr(r, name) for name in Record.__struct_fields__ if name != "recorded_at"}
        | {"tree_head": heads.get(r.position)}
        for place, r in enumerate(records)
    ]


NAMES = [name for name in RECORD_SCHEMA.names if name != "recorded_at"]


class ErasingContract(MadeLog):
    """Erasing in one log. Inherit it, and say how a log is made, as for `LogContract`."""

    def filled(self, log: Log) -> list[Commit]:
        """Sealed, closed and active records, in commits of three."""
        for number in range(1, 13, 3):
            append(log, *(draft(n, name=f"n{n}") for n in range(number, number + 3)))
            if number == 1:
                log.seal()
        return [*log.commits()]

    def test_what_is_concealed_is_read_as_erased(self, log: Log) -> None:
        commits = self.filled(log)
        records = [record for commit in commits for record in commit.records]
        heads = {commit.last_position: commit.tree_head for commit in commits}
        # The second takes the place of the first.
        for erased in (erased_of([2, 5, 6], [6, 7]), erased_of([1, 12], range(2, 12)), NOTHING):
            log.conceal(erased)
            expected = as_erased(records, erased)
            assert records_of(log) == expected
            assert [commit.tree_head for commit in log.commits()] == [*heads.values()]
            rows = rows_of(expected, heads)
            assert [r for b in log.scan(columns=NAMES) for r in b.to_pylist()] == rows
            for name in NAMES:
                found = [v for b in log.scan(3, 11, [name]) for v in b[name].to_pylist()]
                assert found == [row[name] for row in rows[3:11]], name
            some = ["position", "payload", "commitment", "actor", "custom_properties"]
            table = log.dataset(12, some).to_table().select(some).to_pylist()
            assert table == [{name: row[name] for name in some} for row in rows]
        assert log.verify().ok

    def test_concealing_goes_on_as_records_are_sealed_and_appended(self, log: Log) -> None:
        self.filled(log)
        log.conceal(erased_of([11], [11]))
        expected = records_of(log)
        log.seal()
        append(log, draft(13))
        assert records_of(log)[:12] == expected
        assert records_of(log)[12].payload is not None
        assert [r.position for r in records_of(log) if r.payload is None] == [11]

    def test_what_is_destroyed_is_gone_and_all_else_as_before(self, log: Log) -> None:
        commits = self.filled(log)
        erased = erased_of([1, 5, 10], [5, 11])
        told: list[tuple[int, int]] = []
        log.destroy(erased, lambda done, of: told.append((done, of)))
        assert told
        assert all(done <= of for done, of in told)
        assert told[-1][0] == told[-1][1]
        append_erasure(log, erased)
        expected = as_erased([r for commit in commits for r in commit.records], erased)
        for one in (log, self.again(log)):
            found = [*one.commits()]
            assert [r for commit in found[:4] for r in commit.records] == expected
            assert [(c.number, c.recorded_at, c.tree_head) for c in found[:4]] == [
                (c.number, c.recorded_at, c.tree_head) for c in commits
            ]
            assert [one.commit_end(p) for p in range(13)] == [n - n % 3 for n in range(13)]
            assert [one.recorded_at(r.position) for r in expected] == [
                r.recorded_at for r in expected
            ]
        report = log.verify()
        assert report.ok, report.findings
        assert report.tree_head == found[-1].tree_head.hex()

    def test_destroying_again_destroys_no_more(self, log: Log) -> None:
        self.filled(log)
        first, second = erased_of([2, 3], [8]), erased_of([3, 4], [8, 9])
        files = log.destroy(first)
        assert log.destroy(first) == files
        log.destroy(second)
        expected = records_of(log)
        log.destroy(first.union(second))
        log.destroy(NOTHING)
        assert records_of(log) == expected
        assert [r.position for r in expected if r.payload is None] == [2, 3, 4]
        assert [r.position for r in expected if r.who_salt is None] == [8, 9]

    def test_what_is_never_erased_stays(self, log: Log) -> None:
        event = mlmd.Event(artifact_id=1, execution_id=1, type=mlmd.Event.INPUT)
        rule = Draft(kind_names.RETENTION_RULE, 1, None, None, b"\x08\x01")
        append(log, draft(1), Draft("event", 1, None, None, event.SerializeToString()), rule)
        append(log, draft(2))
        append_erasure(log, erased_of([4]))
        before = records_of(log)
        for refused in (
            *(erased_of([0]), erased_of([6]), erased_of([], [6]), erased_of([1, 99])),
            *(erased_of([1, 3]), erased_of([1], [3]), erased_of([], [5]), erased_of([1, 2])),
            Erased(Spans.of([(1, 5)])),
        ):
            with pytest.raises(ValueError, match=r"never erased|there are no positions"):
                log.destroy(refused)
        assert records_of(log) == before
        log.destroy(erased_of([1], [1, 2]))
        assert [r.position for r in records_of(log) if r.payload is None] == [1]
        assert [r.position for r in records_of(log) if r.who_salt is None] == [1, 2]

    @settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.lists(
            st.one_of(
                st.integers(1, 5),
                st.just("seal"),
                st.tuples(
                    st.booleans(),
                    st.lists(st.integers(1, 24), max_size=4),
                    st.lists(st.integers(1, 24), max_size=4),
                ),
            ),
            max_size=10,
        )
    )
    def test_any_order_of_steps(
        self, tmp_path_factory: pytest.TempPathFactory, steps: list[Any]
    ) -> None:
        log = self.made(tmp_path_factory.mktemp("log"))
        put: list[Record] = []
        destroyed = concealed = NOTHING
        for step in steps:
            if step == "seal":
                log.seal()
            elif isinstance(step, int):
                first = log.position + 1
                put += append(log, *(draft(first + n) for n in range(step))).records
            else:
                is_final, *positions = step
                erased = erased_of(*([n for n in some if n <= len(put)] for some in positions))
                if is_final:
                    log.destroy(erased)
                    destroyed = destroyed.union(erased)
                else:
                    log.conceal(erased)
                    concealed = erased
            expected = as_erased(put, destroyed.union(concealed))
            assert records_of(log) == expected
            found = [v for b in log.scan(1, 9, ["commitment"]) for v in b["commitment"].to_pylist()]
            assert found == [record.commitment for record in expected[1:9]]
        log.conceal(NOTHING)
        for one in (log, self.again(log)):
            assert records_of(one) == as_erased(put, destroyed)
        append_erasure(log, destroyed)
        assert log.verify().ok
        log.close()
