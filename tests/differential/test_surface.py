"""Whatever a program can name in ml_metadata has its like here, with the same parameters.

And whatever it hands to a method ends the same way, in an answer or in an error.
"""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import eventstore
from eventstore import errors, proto
from eventstore.metadata_store import mlmd_types
from tests.differential.oracle import ORACLE_PYTHON

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def upstream() -> dict[str, Any]:
    if not ORACLE_PYTHON.exists():
        pytest.skip("ml-metadata is not installed: run `make oracle`")
    script = Path(__file__).with_name("signature_dump.py")
    printed = subprocess.run([ORACLE_PYTHON, script], capture_output=True, check=True).stdout
    surface: dict[str, Any] = json.loads(printed)
    return surface


def test_methods_take_what_upstreams_take(upstream: dict[str, Any]) -> None:
    for name, parameters in upstream["methods"].items():
        ours = inspect.signature(getattr(eventstore.MetadataStore, name)).parameters
        # A store behind a server takes more, by name, that no program of MLMD's gives.
        beyond = ("token", "store", "replica") if name == "__init__" else ()
        assert all(ours[added].kind is inspect.Parameter.KEYWORD_ONLY for added in beyond)
        assert [
            [p.name, p.kind.name, None if p.default is p.empty else repr(p.default)]
            for p in ours.values()
            if p.name not in beyond
        ] == parameters, name


def test_names_are_all_there(upstream: dict[str, Any]) -> None:
    for module, names in (
        (eventstore, upstream["package"]),
        (errors, upstream["errors"]),
        (proto, upstream["proto"]),
        (mlmd_types, upstream["mlmd_types"]),
    ):
        assert [name for name in names if not hasattr(module, name)] == []


@pytest.fixture(scope="module")
def ours() -> dict[str, str]:
    return _ends(sys.executable, "-m", "tests.differential.call_dump", "ours")


def test_arguments_of_all_sorts_end_as_upstream(ours: dict[str, str]) -> None:
    if not ORACLE_PYTHON.exists():
        pytest.skip("ml-metadata is not installed: run `make oracle`")
    expected = _ends(ORACLE_PYTHON, "tests/differential/call_dump.py")
    assert len(expected) > 3_000
    assert ours.keys() == expected.keys()
    different = {call for call, end in expected.items() if ours[call] != end}
    assert {call: (expected[call], ours[call]) for call in different} == {}


def test_arguments_of_all_sorts_end_the_same_over_requests(ours: dict[str, str]) -> None:
    sent = _ends(sys.executable, "-m", "tests.differential.call_dump", "requests")
    assert sent.keys() == ours.keys()
    assert {call: (ours[call], end) for call, end in sent.items() if ours[call] != end} == {}


def _ends(*command: str | Path) -> dict[str, str]:
    """How each call ended: in an answer or in an error."""
    printed = subprocess.run(command, capture_output=True, check=True, cwd=ROOT).stdout
    ends: dict[str, str] = json.loads(printed)
    return ends
