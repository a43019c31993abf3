"""What all tests share: hypothesis profiles, stores, and the oracle."""

from __future__ import annotations

import os
import signal
import sys
import tempfile

# Pytest imports it when it is told of garbage, and comes to grief if that import collects some.
import tracemalloc  # noqa: F401
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import eventstore
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.differential.oracle import ORACLE_PYTHON, Oracle
from tests.object_servers import Azurite, Moto, ObjectServer, running_objects
from tests.shares import kept_items
from tests.sql_servers import Server, running

_CHECKS_OFF = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]

settings.register_profile(
    "default", max_examples=40, deadline=None, suppress_health_check=_CHECKS_OFF
)
settings.register_profile(
    "long", max_examples=1_000, deadline=None, suppress_health_check=_CHECKS_OFF
)
# What tests fold of logs without a directory does not outlive them.
_CACHES = tempfile.TemporaryDirectory(prefix="caches-")
os.environ["EVENTSTORE_CACHE"] = _CACHES.name

settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# Children of tests import this project hundreds of times: it is compiled once.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Programs started in the background ignore SIGINT, and so do their children. Tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "share(n): a run of the whole suite tries one of n neighbouring cases"
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if [config.rootpath / named for named in config.args] == [config.rootpath / "tests"]:
        kept = kept_items(items)
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = [item for item in items if item in kept]


DATA = Path(__file__).parent / "data"
PENGUIN_DATABASE = DATA / "tfx-penguin-mlmd-v10.db"


@pytest.fixture(params=["memory", "directory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[eventstore.MetadataStore]:
    """A fresh store, once in memory and once in a directory."""
    config = mlmd.ConnectionConfig()
    if request.param == "memory":
        config.fake_database.SetInParent()
    else:
        config.sqlite.filename_uri = str(tmp_path / "store")
    with eventstore.MetadataStore(config) as opened:
        yield opened


@pytest.fixture(scope="session")
def oracle() -> Iterator[Oracle]:
    """The real ml-metadata; the test is skipped where it is not installed."""
    if not ORACLE_PYTHON.exists():
        pytest.skip("ml-metadata is not installed: run `make oracle`")
    process = Oracle()
    yield process
    process.close()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A server of PostgreSQL, with a database for each test that asks for one."""
    with running("postgresql") as server:
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Server]:
    """The same of MariaDB."""
    with running("mariadb") as server:
        yield server


@pytest.fixture(params=["postgresql", "mariadb"])
def sql_server(request: pytest.FixtureRequest) -> Server:
    """A server of each kind."""
    server: Server = request.getfixturevalue(request.param)
    return server


@pytest.fixture(scope="session")
def s3() -> Iterator[ObjectServer]:
    """A server of S3, with a prefix for each test that asks for one."""
    with running_objects(Moto) as server:
        yield server


@pytest.fixture(scope="session")
def azure() -> Iterator[ObjectServer]:
    """The same of Azure."""
    with running_objects(Azurite) as server:
        yield server
