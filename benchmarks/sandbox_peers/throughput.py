"""Executions a minute: two processes, each with one session at a time that lives for three executions.

Run as a script it is one of the two processes: a line of JSON on standard input asks for a peer, a kind of work and a
number of seconds, a line on standard output says how many executions there were.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from sandbox_peers import PEERS
from sandbox_peers.base import Peer
from sandbox_peers.work import CALC, CROPS, Picture, Snippet, check

RATES = {"crop_per_minute": "crops a minute", "calc_per_minute": "calculations a minute"}
"""Columns, and how tables call them."""
_KINDS: dict[str, tuple[Snippet, ...]] = {"crop_per_minute": CROPS, "calc_per_minute": (CALC,) * 3}
PROCESSES = 2


class Drivers:
    """The processes; a context."""

    def __init__(self, peers: list[str], picture: Path) -> None:
        self._command = [sys.executable, __file__, str(picture), *peers]
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Drivers:
        pipe = subprocess.PIPE
        self._processes = [
            subprocess.Popen(self._command, stdin=pipe, stdout=pipe, text=True) for _ in range(PROCESSES)
        ]
        try:
            for process in self._processes:
                _read(process)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        with ExitStack() as stack:
            for process in self._processes:
                stack.enter_context(process)  # closes its input, upon which it ends, and waits

    def rate(self, peer: str, column: str, seconds: float) -> float:
        """Executions a minute of all processes together."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(json.dumps({"peer": peer, "column": column, "seconds": seconds}) + "\n")
            process.stdin.flush()
        return sum(60 * answer["executions"] / answer["seconds"] for answer in map(_read, self._processes))


def _read(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError("a process of the throughput measurement ended; its own message is above")
    return json.loads(line)


async def _serve(picture: Picture, names: list[str]) -> None:
    async with AsyncExitStack() as stack:
        peers = {name: await stack.enter_async_context(PEERS[name]()) for name in names}
        for name, peer in peers.items():
            if name != "jupyter":  # whose start shows warm or not
                await _sessions(peer, picture, CROPS, 0)
        print("{}", flush=True)
        # The event loop is not blocked while waiting: pools refill.
        while line := await asyncio.to_thread(sys.stdin.readline):
            request = json.loads(line)
            found = await _sessions(peers[request["peer"]], picture, _KINDS[request["column"]], request["seconds"])
            print(json.dumps(found), flush=True)


async def _sessions(peer: Peer, picture: Picture, snippets: tuple[Snippet, ...], seconds: float) -> dict[str, float]:
    """Sessions one after the other, until the time is over; the last one is finished."""
    started, executions, results = time.perf_counter(), 0, []
    while not executions or time.perf_counter() - started < seconds:
        session = await peer.start(picture)
        for snippet in snippets:
            results.append((await session.run(snippet), snippet))
            executions += 1
        await session.close()
        results = results[-len(snippets) :]
    elapsed = time.perf_counter() - started
    for result, snippet in results:  # of the last session; looking at all of them would be most of the work
        check(result, snippet, picture)
    return {"executions": executions, "seconds": elapsed}


if __name__ == "__main__":
    asyncio.run(_serve(Picture.read(Path(sys.argv[1])), sys.argv[2:]))
