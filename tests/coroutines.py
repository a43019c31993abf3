"""Coroutines in tests. Playwright keeps a loop of its own in the thread of tests that use it."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

_Result = TypeVar("_Result")


def run_apart(coroutine: Coroutine[Any, Any, _Result]) -> _Result:
    """Run it in a loop and a thread of its own, in this context, and give back its result."""
    context = contextvars.copy_context()
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(context.run, asyncio.run, coroutine).result()
