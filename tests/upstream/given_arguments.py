"""A plugin of pytest that gives upstream's tests the arguments that four of them leave out.

These call `_get_metadata_store` without `cli_args`, or with `self.self.cli_args`, which nobody has
noticed there since they do nothing without a server.
"""

from __future__ import annotations

import pytest

_MAKER = "_get_metadata_store"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    options = ("use_grpc_backend", "grpc_host", "grpc_port")
    given = {name: config.getoption(f"--{name}") for name in options}
    for item in items:
        if isinstance(item, pytest.Function) and hasattr(item.module, _MAKER):
            # All arguments of it but the first have a default.
            getattr(item.module, _MAKER).__defaults__ = (given, None, None, None)
            item.cls.self = property(lambda itself: itself)
