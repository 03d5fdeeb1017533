"""How long one execution after the other takes, at every peer in turn."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from sandbox_peers.base import Peer, Session
from sandbox_peers.quiet import Quiet
from sandbox_peers.work import CALC, CROPS, PNG, Picture, Snippet, check

Samples = dict[str, dict[str, list[float]]]
"""Seconds, by peer and column."""
TIMES = {
    "start": "session start",
    "start_first": "start + first execution",
    "start_first_new": "start + first, new image",
    "start_three": "start + 3 executions",
    "later_jpg": "later JPG",
    "later_png": "later PNG",
    "later_calc": "later calculation",
}
"""Columns, and how tables call them."""

T = TypeVar("T")


async def take_turns(
    peers: dict[str, Peer], folder: Path, rounds: int, quiet: Quiet, progress: Callable[[str], None]
) -> Samples:
    """Let every peer do the same, one after the other, round after round.

    Args:
        peers: All of them started.
        folder: For images.
        rounds: How many count; if there are several, one more comes before them and warms up.
        quiet: Repeats turns that something else disturbed.
        progress: Told what goes on.
    """
    known = Picture.make(folder, 0)
    samples: Samples = {name: {column: [] for column in TIMES} for name in peers}
    shifts = itertools.count(1)
    names = list(peers)
    for index in range(rounds + 1 if rounds > 1 else 1):
        first = index % len(names)
        for name in names[first:] + names[:first]:  # nobody always comes after the same neighbour
            progress(f"round {index} of {rounds}: {name}")
            found = await quiet.measure(lambda name=name: _turn(peers[name], known, Picture.make(folder, next(shifts))))
            if index or rounds == 1:
                for column, seconds in found.items():
                    samples[name][column] += seconds
    return samples


async def _turn(peer: Peer, known: Picture, new: Picture) -> dict[str, list[float]]:
    found = await _trajectory(peer, known)
    found["start_first_new"] = [await _first(peer, new)]
    await asyncio.sleep(0.02)
    return found


async def _trajectory(peer: Peer, picture: Picture) -> dict[str, list[float]]:
    start_s, session = await _timed(peer.start(picture))
    try:
        # Nothing is checked in between: that would be time in which to get ready for the next one.
        crops = [(await _timed(session.run(snippet)), snippet) for snippet in CROPS]
        for (_, result), snippet in crops:
            check(result, snippet, picture)
        later_png = await _checked(session, PNG, picture)
        later_calc = [await _checked(session, CALC, picture) for _ in range(3)]
    finally:
        await session.close()
    seconds = [seconds for (seconds, _), _ in crops]
    return {
        "start": [start_s],
        "start_first": [start_s + seconds[0]],
        "start_three": [start_s + sum(seconds)],
        "later_jpg": seconds[1:],
        "later_png": [later_png],
        "later_calc": later_calc,
    }


async def _first(peer: Peer, picture: Picture) -> float:
    start_s, session = await _timed(peer.start(picture))
    try:
        return start_s + await _checked(session, CROPS[0], picture)
    finally:
        await session.close()


async def _checked(session: Session, snippet: Snippet, picture: Picture) -> float:
    seconds, result = await _timed(session.run(snippet))
    check(result, snippet, picture)
    return seconds


async def _timed(work: Awaitable[T]) -> tuple[float, T]:
    started = time.perf_counter()
    result = await work
    return time.perf_counter() - started, result
