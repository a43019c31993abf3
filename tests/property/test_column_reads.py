"""Nodes read column by column are those that are read one by one."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from eventstore.metadata_store.metadata_store import MetadataStore
from eventstore.store import node_reads
from tests.property.test_history import run_program


def reads(store: Any) -> list[Any]:
    found = []
    for kind in ("artifact", "execution", "context"):
        found.append(getattr(store, f"get_{kind}s")())
        for node_type in getattr(store, f"get_{kind}_types")():
            by_type = getattr(store, f"get_{kind}s_by_type")
            found.append(by_type(node_type.name, node_type.version or None))
    return found


@pytest.mark.parametrize("seed", range(6))
def test_reads_column_by_column(
    store: MetadataStore, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    positions = run_program(store, seed)
    moments = [positions[len(positions) // 3], positions[-1]]
    one_by_one = [reads(store.as_of(position)) for position in moments]
    assert any(one_by_one[1])
    monkeypatch.setattr(node_reads, "_MANY_NODES_MIN", 0)
    index = store._engine.projections.index
    monkeypatch.setattr(index, "_limits", replace(index._limits, read_values_max=3))
    assert [reads(store.as_of(position)) for position in moments] == one_by_one
    store.seal()
    store.rebuild()
    assert reads(store) == one_by_one[1]
