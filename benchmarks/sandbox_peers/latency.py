"""How long one execution after the other takes, at every peer in turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Rounds:
    """What the rounds gave that count."""

    samples: Samples
    count: int
    repeated: int
    """Rounds that were thrown away and measured again, because something else disturbed them."""
    disturbed: int
    """Rounds that count although they were disturbed: there were no better ones."""


async def take_turns(peers: dict[str, Peer], folder: Path, rounds: int, progress: Callable[[str], None]) -> Rounds:
    """Let every peer do the same, one after the other, round after round.

    Args:
        peers: All of them started.
        folder: For images.
        rounds: How many count. A round that something else disturbed is measured again, up to half as many times.
        progress: Told what goes on.
    """
    quiet = Quiet()
    kept: list[Samples] = []
    disturbed: list[Samples] = []
    known = Picture.make(folder, 0)
    if rounds > 1:
        progress("warm-up")
        await _round(peers, known, Picture.make(folder, 1), 0)
    most = rounds + rounds // 2
    for index in range(most):
        if len(kept) == rounds:
            break
        progress(f"round {index + 1}: {len(kept)} of {rounds} measured, {len(disturbed)} disturbed")
        new = Picture.make(folder, index + 2)
        before = quiet.disturbed()
        samples = await _round(peers, known, new, index)
        (disturbed if before or quiet.disturbed() else kept).append(samples)
    missing = rounds - len(kept)
    counted = kept + disturbed[len(disturbed) - missing :]
    return Rounds(_merge(counted), rounds, len(disturbed) - missing, missing)


async def _round(peers: dict[str, Peer], known: Picture, new: Picture, index: int) -> Samples:
    names = list(peers)
    turn = index % len(names)
    samples: Samples = {}
    for name in names[turn:] + names[:turn]:  # nobody always comes after the same neighbour
        samples[name] = await _trajectory(peers[name], known)
        samples[name]["start_first_new"] = [await _first(peers[name], new)]
        await asyncio.sleep(0.02)
    return samples


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


def _merge(rounds: list[Samples]) -> Samples:
    merged: Samples = {}
    for samples in rounds:
        for peer, columns in samples.items():
            for column, seconds in columns.items():
                merged.setdefault(peer, {}).setdefault(column, []).extend(seconds)
    return merged
