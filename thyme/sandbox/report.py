"""What this machine offers, found out by trying."""

from __future__ import annotations

import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor

from thyme.config.sandbox import Isolation, SandboxConfig
from thyme.errors import SandboxError
from thyme.sandbox.broker import open_sandbox
from thyme.sandbox.jail import landlock
from thyme.sandbox.levels import LEVELS, LevelReport, SandboxReport, advice
from thyme.sandbox.runtime import runtime_for, versions_of

_DEFAULT = SandboxConfig()


def check(config: SandboxConfig = _DEFAULT) -> SandboxReport:
    """Start the sandbox at each level, run a line of code in it, and say how it went. Takes about a second."""
    system = os.uname()
    with ThreadPoolExecutor(1) as thread:  # so that it can be called where an event loop runs already
        levels = thread.submit(asyncio.run, _try_levels(config)).result()
    packages = {name.removesuffix(".py") for name, _ in runtime_for(config.importable).packages}
    return SandboxReport(
        kernel=system.release,
        machine=system.machine,
        landlock=landlock.version(),
        levels=levels,
        importable=tuple(sorted(name for name in packages if name.isidentifier())),
        libraries=versions_of(config.importable),
    )


async def _try_levels(config: SandboxConfig) -> tuple[LevelReport, ...]:
    return tuple([await _try_level(config, level) for level in LEVELS])


async def _try_level(config: SandboxConfig, level: Isolation) -> LevelReport:
    started = time.perf_counter()
    try:
        async with open_sandbox(config.model_copy(update={"isolation": level})) as broker, broker.session() as session:
            execution = await session.run("print(6 * 7)")
    except SandboxError as error:
        return LevelReport(level, available=False, reason=str(error), advice=advice(level))
    if execution.stdout != "42\n":
        return LevelReport(level, available=False, reason=f"code does not run: {execution.error}", advice=advice(level))
    return LevelReport(level, available=True, start_s=time.perf_counter() - started)
