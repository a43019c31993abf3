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
        assert [
            [p.name, p.kind.name, None if p.default is p.empty else repr(p.default)]
            for p in ours.values()
        ] == parameters, name


def test_names_are_all_there(upstream: dict[str, Any]) -> None:
    for module, names in (
        (eventstore, upstream["package"]),
        (errors, upstream["errors"]),
        (proto, upstream["proto"]),
        (mlmd_types, upstream["mlmd_types"]),
    ):
        assert [name for name in names if not hasattr(module, name)] == []


def test_arguments_of_all_sorts_end_as_upstream() -> None:
    if not ORACLE_PYTHON.exists():
        pytest.skip("ml-metadata is not installed: run `make oracle`")
    script = Path(__file__).with_name("call_dump.py")
    expected, found = (
        json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        for command in ([ORACLE_PYTHON, script], [sys.executable, script, "ours"])
    )
    assert len(expected) > 3_000
    assert found.keys() == expected.keys()
    different = {call for call, end in expected.items() if found[call] != end}
    assert {call: (expected[call], found[call]) for call in different} == {}
