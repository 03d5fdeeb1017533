"""Sandboxes that the tests of a module share, one a level, on one event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from thyme.errors import IsolationError
from thyme.sandbox import Broker, SandboxConfig, open_sandbox

LEVELS = ("namespaces", "landlock")
SMALL = SandboxConfig(timeout_s=0.5, memory_mb=1024, disk_mb=16, file_mb=8, inodes=128, cpu_s=20, start_timeout_s=30)
"""Limits that keep hostile code short."""


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=LEVELS)
async def broker(request: pytest.FixtureRequest) -> AsyncIterator[Broker]:
    """A sandbox with generous time, at each level that this machine offers."""
    async for found in _open(SandboxConfig(isolation=request.param, timeout_s=20, memory_mb=2048)):
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=LEVELS)
async def small_broker(request: pytest.FixtureRequest) -> AsyncIterator[Broker]:
    """A sandbox with limits of half a second and few megabytes, at each level."""
    async for found in _open(SMALL.model_copy(update={"isolation": request.param})):
        yield found


async def _open(config: SandboxConfig) -> AsyncIterator[Broker]:
    try:
        context = open_sandbox(config)
        opened = await context.__aenter__()
    except IsolationError as error:
        pytest.skip(str(error))
    try:
        yield opened
    finally:
        await context.__aexit__(None, None, None)
