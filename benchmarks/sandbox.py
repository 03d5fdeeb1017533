"""How fast model-written code runs in the sandbox, and how fast elsewhere: the same blocks at everybody, in one run.

    python benchmarks/sandbox.py [--n 12] [--quick] [--json FILE] [--plot FILE.png] [--isolation LEVEL]

Peers that are not installed are left out, and it says what to install. Every picture and every text that comes back is
compared with what must come back. Takes about three minutes; docs/benchmarks.md says how it is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import itertools
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from rich.console import Console
from sandbox_peers import PEERS
from sandbox_peers.base import Peer
from sandbox_peers.latency import take_turns
from sandbox_peers.ours import ISOLATION
from sandbox_peers.quiet import Quiet
from sandbox_peers.report import REFERENCE, Measured, plot, show
from sandbox_peers.throughput import RATES, Drivers
from sandbox_peers.work import CROPS, Picture, decoding_ms

from thyme.config.sandbox import SandboxConfig
from thyme.sandbox.bench import measure
from thyme.sandbox.memory import Memory, mean_memory

_BUSY_LOAD = 0.5
"""Load average a core above which a warning is due."""


async def run(arguments: argparse.Namespace, progress: Callable[[str], None]) -> Measured:
    """Measure everything."""
    chosen = {name: kind for name, kind in PEERS.items() if name in arguments.peers}
    missing = {name: advice for name, kind in chosen.items() if (advice := kind.missing())}
    names = [name for name in chosen if name not in missing]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        progress("ours alone")
        quiet = Quiet(arguments.patience)
        own = await quiet.measure(lambda: measure(SandboxConfig(isolation=arguments.isolation), arguments.own))
        known = Picture.make(Path(folder), 0)
        async with AsyncExitStack() as stack:
            peers = {name: await stack.enter_async_context(PEERS[name]()) for name in names}
            samples = await take_turns(peers, Path(folder), arguments.n, quiet, progress)
            progress("memory")
            memories = {name: found for name in names if (found := await memory(peers[name], known, arguments.open))}
        rates = await measure_rates(names, known, arguments, quiet, progress)
        decoding = decoding_ms(known)
    # The pool is no session's memory; those of a broker without one are the same sessions.
    memories[REFERENCE] = memories.pop("cold", {})
    memories = {name: memories[name] for name in names if memories.get(name)}
    return Measured(own, samples, rates, memories, decoding, arguments.n, quiet, missing)


async def memory(peer: Peer, picture: Picture, count: int) -> dict[str, Memory]:
    """Mean memory of the processes of sessions before and after a crop; empty where sessions have no processes."""
    before = peer.processes()
    sessions = [await peer.start(picture) for _ in range(count)]
    try:
        own = peer.processes() - before
        idle = mean_memory(own)
        for session in sessions:
            await session.run(CROPS[0])
        used = mean_memory(own)
    finally:
        for session in sessions:
            await session.close()
    return {state: found for state, found in (("idle", idle), ("used", used)) if found is not None}


async def measure_rates(
    names: list[str], picture: Picture, arguments: argparse.Namespace, quiet: Quiet, progress: Callable[[str], None]
) -> dict[str, dict[str, float]]:
    """Executions a minute with two processes: median over several stretches of time, in turns."""
    found: dict[str, dict[str, list[float]]] = {name: {column: [] for column in RATES} for name in names}
    with Drivers(names, picture.file) as drivers:
        for stretch, column, name in itertools.product(range(arguments.stretches), RATES, names):
            progress(f"executions a minute, {stretch + 1} of {arguments.stretches}: {name}")
            rate = functools.partial(asyncio.to_thread, drivers.rate, name, column, arguments.stretch)
            found[name][column].append(await quiet.measure(rate))
    return {
        name: {column: statistics.median(rates) for column, rates in columns.items()} for name, columns in found.items()
    }


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--n", type=int, default=12, help="rounds in which everybody has a turn")
    parser.add_argument("--own", type=int, default=150, help="measurements of ours alone")
    parser.add_argument("--stretches", type=int, default=3, help="times that executions a minute are counted")
    parser.add_argument("--stretch", type=float, default=1.0, help="seconds of each")
    parser.add_argument("--open", type=int, default=4, help="sessions at once whose memory is looked at")
    parser.add_argument("--patience", type=float, default=60, help="seconds to wait for a quiet machine, and to repeat")
    parser.add_argument("--quick", action="store_true", help="a run of seconds, to see that it works")
    parser.add_argument("--isolation", default="best", choices=["best", "namespaces", "landlock"])
    parser.add_argument("--peers", default=",".join(PEERS), metavar="NAME,...", help=f"of {', '.join(PEERS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw them there, as PNG or SVG")
    parsed = parser.parse_args(arguments)
    parsed.peers = [REFERENCE, "cold", *parsed.peers.split(",")]
    if unknown := [name for name in parsed.peers if name not in PEERS]:
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(PEERS)}")
    if parsed.quick:
        parsed.n, parsed.own, parsed.stretches, parsed.stretch, parsed.open, parsed.patience = 1, 6, 1, 0.2, 1, 0
    return parsed


def main() -> None:
    """Measure, print, write."""
    arguments = parse()
    os.environ[ISOLATION] = arguments.isolation
    console = Console(stderr=True, highlight=False)
    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    if load > _BUSY_LOAD * cores:
        console.print(f"[bold]this machine is busy (load {load:.1f} on {cores} cores): figures will be worse[/bold]")
    with console.status("") as status:
        measured = asyncio.run(run(arguments, status.update))
    show(measured, Console() if sys.stdout.isatty() else Console(width=250))
    if arguments.json:
        arguments.json.write_text(json.dumps(measured.to_json(), indent=1) + "\n")
    if arguments.plot:
        plot(measured, arguments.plot)


if __name__ == "__main__":
    main()
