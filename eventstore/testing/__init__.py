"""What every log has to pass: tests for pytest, to be inherited. See docs/logs.md.

It needs pytest and hypothesis, which the extra `testing` installs.
"""

import pytest

# Before they are imported: their failures then show the values that were compared.
pytest.register_assert_rewrite(
    *(f"{__name__}.{kind}_contract" for kind in ("erasing", "log", "shared", "store"))
)

from eventstore.testing.erasing_contract import ErasingContract  # noqa: E402
from eventstore.testing.log_contract import LogContract  # noqa: E402
from eventstore.testing.shared_contract import SharedLogContract  # noqa: E402
from eventstore.testing.store_contract import StoreContract  # noqa: E402

__all__ = ["ErasingContract", "LogContract", "SharedLogContract", "StoreContract"]
