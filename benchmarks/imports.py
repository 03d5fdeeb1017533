"""What imports of optional libraries take in the sandbox: paid by each session, or once, by `preload`.

    python benchmarks/imports.py [--n 9]

Each import runs in sessions of its own; wall clock, as the caller sees it. A library that is not installed is left out.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time

from thyme.config.sandbox import SandboxConfig
from thyme.sandbox.broker import Broker, open_sandbox

LIBRARIES = (
    "scipy.ndimage",
    "scipy.optimize",
    "scipy.stats",
    "sympy",
    "skimage.io",
    "matplotlib.pyplot",
    "pandas",
)


async def milliseconds(sandbox: Broker, library: str, n: int) -> float | None:
    """Median of the import in fresh sessions; None where there is no such library."""
    taken = []
    for _ in range(n):
        async with sandbox.session([]) as session:
            await session.run("1")
            started = time.perf_counter()
            execution = await session.run(f"import {library}")
            taken.append(1e3 * (time.perf_counter() - started))
            if execution.error is not None:
                return None
    return statistics.median(taken)


async def opened(preload: tuple[str, ...], n: int) -> tuple[float, float]:
    """Seconds until a sandbox is open, and milliseconds until a session's first code has run; medians."""
    seconds, starts = [], []
    for _ in range(n):
        started = time.perf_counter()
        async with open_sandbox(SandboxConfig(preload=preload)) as sandbox:
            seconds.append(time.perf_counter() - started)
            started = time.perf_counter()
            async with sandbox.session([]) as session:
                await session.run("1")
            starts.append(1e3 * (time.perf_counter() - started))
    return statistics.median(seconds), statistics.median(starts)


async def run(n: int) -> None:
    """Measure, and print."""
    print("| `import …` | in a fresh session, ms |\n|---|---:|")
    there = []
    async with open_sandbox(SandboxConfig()) as sandbox:
        for library in LIBRARIES:
            if (median := await milliseconds(sandbox, library, n)) is not None:
                there.append(library)
                print(f"| `{library}` | {median:.0f} |", flush=True)
    print("| preloaded | sandbox open, s | first code of a session, ms |\n|---|---:|---:|")
    for said, preload in (("nothing", ()), ("all of the above", tuple(there))):
        open_s, start_ms = await opened(preload, n)
        print(f"| {said} | {open_s:.2f} | {start_ms:.1f} |", flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=9, help="sessions of each import")
    asyncio.run(run(parser.parse_args().n))


if __name__ == "__main__":
    main()
