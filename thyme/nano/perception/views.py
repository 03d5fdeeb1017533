"""What the model sees in perception training: views with facts about every plate and dense targets for every token.

A view is a scene or a crop at `VIEW` px. Targets are laid out on the grid of the tower's output tokens, so that the
vision tower can be trained without a language model. Pools of views are drawn once and kept as memory-mapped arrays.
"""

from __future__ import annotations

import multiprocessing
import pickle
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from thyme.nano.world import (
    CHARACTERS,
    COLORS,
    CROP,
    GRID,
    LOW_CONTRAST,
    SIDE,
    Plate,
    Split,
    draw_scene,
    flattened,
    stream,
    turned,
)

VIEW = 128
"""Side at which the model sees a scene or a crop, pixels."""
TOKEN = 16
"""Side of the view square that one output token covers, pixels."""
TOKENS = VIEW // TOKEN
IGNORE = -100
ILLEGIBLE = len(CHARACTERS)
"""Class of the two label heads for plates that are too small to read."""

HEADS = ("color", "first", "second", "x", "y", "character", "state")
CLASSES = (len(COLORS) + 1, len(CHARACTERS) + 1, len(CHARACTERS) + 1, SIDE // GRID, SIDE // GRID, len(CHARACTERS), 5)
"""Classes of each head; the last colour is background, the state is quarter turns, or 4 for faint."""
FAINT = 4

ViewKind = Literal["large", "mixed", "small", "crop", "turned", "faint", "enhanced"]
VIEW_KINDS: tuple[ViewKind, ...] = get_args(ViewKind)
_COLOR_NAMES = list(COLORS)

Bytes = npt.NDArray[np.uint8]
Targets = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Seen:
    """A plate as a view shows it."""

    color: str
    label: str
    legible: bool
    stated: tuple[int, int]
    """Grid coordinates of its centre in the scene, pixels."""


@dataclass(frozen=True)
class View:
    """One picture as the model sees it, and what is on it."""

    kind: ViewKind
    state: int
    """Quarter turns counter-clockwise, or `FAINT`."""
    plates: tuple[Seen, ...]


@dataclass(frozen=True)
class _Frame:
    """How scene coordinates map into a view."""

    left: float
    top: float
    scale: float

    def box(self, box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        """A box in units of tokens."""
        unit = self.scale / TOKEN
        return (
            (box[0] - self.left) * unit,
            (box[1] - self.top) * unit,
            (box[2] - self.left) * unit,
            (box[3] - self.top) * unit,
        )


def look(image: Image.Image) -> Bytes:
    """An image as the processor shows it to the model: (VIEW, VIEW, 3), uint8."""
    return np.asarray(image.resize((VIEW, VIEW), Image.Resampling.BICUBIC))


def _covered(box: tuple[float, float, float, float]) -> list[int]:
    """Tokens a box covers by more than half, and the one that its centre lies in; empty if that is outside."""
    left, top, right, bottom = box
    row, column = int((top + bottom) // 2), int((left + right) // 2)
    if not (0 <= row < TOKENS and 0 <= column < TOKENS):
        return []
    cells = {row * TOKENS + column}
    for r in range(max(0, int(top)), min(TOKENS, int(bottom) + 1)):
        for c in range(max(0, int(left)), min(TOKENS, int(right) + 1)):
            width, height = min(right, c + 1) - max(left, c), min(bottom, r + 1) - max(top, r)
            if width > 0 and height > 0 and width * height > 0.5:
                cells.add(r * TOKENS + c)
    return sorted(cells)


def _mark(targets: Targets, plate: Plate, frame: _Frame, *, legible: bool, place: bool) -> bool:
    """Write one plate's targets; False if its centre is outside the view."""
    cells = _covered(frame.box(plate.box))
    if not cells:
        return False
    targets[0, cells] = _COLOR_NAMES.index(plate.color)
    first, second = (CHARACTERS.index(c) for c in plate.label)
    targets[1, cells], targets[2, cells] = (first, second) if legible else (ILLEGIBLE, ILLEGIBLE)
    if place:
        targets[3, cells], targets[4, cells] = (v // GRID for v in plate.stated)
    if legible:
        for index, character in enumerate((first, second)):
            x, reach = plate.character_x(index), 0.36 * plate.text_size
            box = (x - reach, plate.y - reach, x + reach, plate.y + reach)
            targets[5, _covered(frame.box(box))] = character
    return True


def _blank(state: int) -> Targets:
    targets = np.full((len(HEADS), TOKENS**2), IGNORE, np.int8)
    targets[0], targets[6] = len(COLORS), state
    return targets


def _seen(plate: Plate, *, legible: bool) -> Seen:
    return Seen(plate.color, plate.label, legible, plate.stated)


Sample = tuple[Bytes, Targets, View]


def _scene_view(image: Image.Image, plates: Sequence[Plate], kind: ViewKind, state: int) -> Sample:
    targets, frame = _blank(state), _Frame(0, 0, VIEW / SIDE)
    if kind in {"turned", "faint"}:
        targets[0] = IGNORE
    else:
        for plate in plates:
            _mark(targets, plate, frame, legible=plate.large, place=True)
    legible = kind not in {"turned", "faint"}
    return look(image), targets, View(kind, state, tuple(_seen(p, legible=legible and p.large) for p in plates))


def _crop_view(rng: random.Random, image: Image.Image, plates: Sequence[Plate], center: Plate) -> Sample:
    """A crop around a point near a small plate, as far off as stated coordinates may be."""
    left = round(center.stated[0] + rng.uniform(-40, 40)) - CROP // 2
    top = round(center.stated[1] + rng.uniform(-40, 40)) - CROP // 2
    left, top = min(max(left, 0), SIDE - CROP), min(max(top, 0), SIDE - CROP)
    targets, frame = _blank(0), _Frame(left, top, VIEW / CROP)
    shown = [p for p in plates if not p.large and _mark(targets, p, frame, legible=True, place=False)]
    crop = image.crop((left, top, left + CROP, top + CROP))
    return look(crop), targets, View("crop", 0, tuple(_seen(p, legible=True) for p in shown))


def draw_views(rng: random.Random) -> list[Sample]:
    """Draw one scene and the views it gives: the scene, and crops of its small plates or its spoilt versions."""
    style = rng.choices(("large", "mixed", "small"), (0.40, 0.22, 0.38))[0]
    scene = draw_scene(rng, style)  # type: ignore[arg-type]  # choices() loses the literal type
    samples = [_scene_view(scene.image, scene.plates, style, 0)]  # type: ignore[arg-type]  # as above
    small = [p for p in scene.plates if not p.large]
    samples += [_crop_view(rng, scene.image, scene.plates, p) for p in rng.sample(small, min(2, len(small)))]
    if style == "large" and rng.random() < 0.4:
        quarter = rng.choice((1, 2, 3))
        samples.append(_scene_view(turned(scene.image, 90 * quarter), scene.plates, "turned", quarter))
    if style == "large" and rng.random() < 0.35:
        faint = flattened(scene.image, rng.uniform(*LOW_CONTRAST))
        samples.append(_scene_view(faint, scene.plates, "faint", FAINT))
        samples.append(_scene_view(ImageOps.autocontrast(faint), scene.plates, "enhanced", 0))
    return samples


@dataclass(frozen=True)
class Pool:
    """Views in memory-mapped arrays."""

    pixels: Bytes
    """(n, VIEW, VIEW, 3)."""
    targets: Targets
    """(n, heads, tokens)."""
    views: list[View]

    def of_kind(self, *kinds: ViewKind) -> list[int]:
        """Indices of the views of these kinds."""
        return [i for i, view in enumerate(self.views) if view.kind in kinds]


def _draw_part(job: tuple[Split, int, int, int]) -> list[Sample]:
    split, seed, part, count = job
    samples: list[Sample] = []
    index = 0
    while len(samples) < count:
        samples += draw_views(stream(split, seed, part * 1_000_000 + index, "perception"))
        index += 1
    return samples[:count]


PART = 500


def make_pool(folder: Path, split: Split, seed: int, count: int, workers: int) -> Pool:
    """Draw a pool of views, or open the one already there.

    Args:
        folder: Where its three files lie.
        split: Salts the streams.
        seed: Of the streams.
        count: Number of views.
        workers: Processes that draw.
    """
    name = f"views-{split}-{seed}-{count}"
    facts = folder / f"{name}.pkl"
    if not facts.exists():
        folder.mkdir(parents=True, exist_ok=True)
        jobs = [(split, seed, part, min(PART, count - part * PART)) for part in range(-(-count // PART))]
        pixels = np.lib.format.open_memmap(folder / f"{name}.pixels.npy", "w+", np.uint8, (count, VIEW, VIEW, 3))
        targets = np.lib.format.open_memmap(
            folder / f"{name}.targets.npy", "w+", np.int8, (count, len(HEADS), TOKENS**2)
        )
        views: list[View] = []
        with multiprocessing.get_context("spawn").Pool(workers) as processes:
            for samples in processes.imap(_draw_part, jobs):
                for view_pixels, view_targets, view in samples:
                    pixels[len(views)], targets[len(views)] = view_pixels, view_targets
                    views.append(view)
        pixels.flush()
        targets.flush()
        part = facts.with_suffix(".part")
        part.write_bytes(pickle.dumps(views))
        part.replace(facts)  # last, and whole: where it lies, all three are
    return Pool(
        np.load(folder / f"{name}.pixels.npy", mmap_mode="r"),
        np.load(folder / f"{name}.targets.npy", mmap_mode="r"),
        pickle.loads(facts.read_bytes()),
    )
