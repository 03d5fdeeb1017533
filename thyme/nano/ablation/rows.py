"""What the arms of the ablation are trained and measured on, and the mask that only the naive arm has."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np

from thyme.errors import UsageError
from thyme.families import Family
from thyme.nano import CHECKPOINTS
from thyme.nano.perception.views import Pool, make_pool
from thyme.nano.teacher import compact, demonstrations
from thyme.nano.tuning import demonstrate_all, replay
from thyme.nano.world import KINDS, problems
from thyme.prompts import PromptSet
from thyme.sandbox import open_sandbox
from thyme.store import read_trajectories, write_trajectories
from thyme.train.encode import Encoded, MaskPolicy, encode
from thyme.types import Trajectory

Mask = MaskPolicy | Literal["naive"]
"""Which tokens are targets: one of the package's policies, or ``naive``: what the sandbox gave back is one, too."""
Theme = Literal["images", "arithmetic"]
"""Which demonstrations: those with a picture, or those without."""
HELD_OUT_SEED = 501
"""Of the validation problems whose demonstrations the loss is measured on."""


def naive(sample: Encoded, image_ids: Collection[int]) -> Encoded:
    """The sample as naive fine-tuning sees it: the text that the sandbox gave back is trained on, too.

    It lives here and not beside `thyme.train.encode.encode`, which promises never to train on what a sandbox said.

    Args:
        sample: Encoded under any policy; what is trained on already stays so.
        image_ids: Tokens that stand for images; no such token is ever a target.
    """
    mask = sample.loss_mask.copy()
    for span in sample.spans:
        if span.kind == "observation":
            mask[span.start : span.end] = ~np.isin(sample.ids[span.start : span.end], sorted(image_ids))
    return replace(sample, loss_mask=mask)


def masked(trajectory: Trajectory, family: Family, mask: Mask) -> Encoded:
    """A demonstration as one arm is trained on it."""
    if mask == "naive":
        return naive(encode(trajectory, family, MaskPolicy.ALL), family.never_sampled)
    return encode(trajectory, family, mask)


@dataclass(frozen=True)
class Shown:
    """The demonstrations of one seed: a part of a file."""

    path: Path
    start: int
    count: int

    def rows(self, theme: Theme) -> Iterator[Trajectory]:
        """Those of one theme, images loaded, in the order of the file."""
        part = islice(read_trajectories(self.path), self.start, self.start + self.count)
        return (t for t in part if (t.problem.kind == "arithmetic") == (theme == "arithmetic"))


def shown_from(file: Path, seed: int, count: int) -> Shown:
    """The part of a file of demonstrations that belongs to a seed: the first `count` to seed 1, the next to seed 2.

    Raises:
        UsageError: The file is too short for that.
    """
    start = (seed - 1) * count
    with file.open("rb") as lines:
        there = sum(1 for line in lines if line.strip())
    if seed < 1 or there < start + count:
        raise UsageError(
            f"{file.name} holds {there} demonstrations; seed {seed} would take those from {start + 1} to "
            f"{start + count}: name lower seeds, or leave the file out to have new ones made"
        )
    return Shown(file, start, count)


def shown_anew(work: Path, seed: int, count: int, prompts: PromptSet, report: Callable[[str], None]) -> Shown:
    """Demonstrations made for a seed alone, in the work folder; goes on where an earlier run stopped."""
    path = work / f"demonstrations-{seed}.jsonl"
    made = demonstrate_all(path, prompts, count=count, seed=seed, report=report)
    return Shown(path, 0, made)


def held_out(work: Path, per_kind: int, prompts: PromptSet) -> list[Trajectory]:
    """Demonstrations of validation problems of every kind, made once: the loss of every arm is measured on them."""
    path = work / f"held-out-{per_kind}.jsonl"
    if not path.exists():
        part = work / "held-out.part.jsonl"

        async def make() -> list[Trajectory]:
            async with open_sandbox() as sandbox:
                drawn = problems("validation", HELD_OUT_SEED, per_kind, KINDS)
                return [compact(shown) async for shown in demonstrations(drawn, sandbox, prompts)]

        write_trajectories(part, asyncio.run(make()))
        os.replace(part, path)
    return list(read_trajectories(path))


def samples(
    shown: Shown, family: Family, mask: Mask, theme: Theme, *, work: Path, views: int, replayed: int, seed: int
) -> Iterator[Encoded]:
    """What one stage of one arm is trained on.

    Args:
        shown: The seed's demonstrations.
        family: Of the base.
        mask: The arm's.
        theme: Demonstrations with pictures, between them perception replayed under the base's own prompt as in the
            training of the shipped weights; or arithmetic, and nothing else.
        work: Where the pool of views for the replay lies.
        views: Its size.
        replayed: Rows of it.
        seed: Of the replay.
    """
    for trajectory in shown.rows(theme):
        yield masked(trajectory, family, mask)
    if theme == "images":
        system = PromptSet.load(CHECKPOINTS / "base" / "prompts").system
        yield from replay(replay_pool(work, views), family, system, replayed, seed)


def replay_pool(work: Path, views: int) -> Pool:
    """Views that perception is replayed on, drawn once; the same for every arm and seed."""
    return make_pool(work, "train", HELD_OUT_SEED, views, 1)


def digest(file: Path) -> str:
    """SHA-256 of a file, to say which one was used."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
