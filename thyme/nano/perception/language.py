"""The language stages of perception training: lists, digits, mixture, polish; on cached features of the frozen tower.

Each stage has a gate: a share of held-out answers that must be right before the next stage makes sense.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor

from thyme.nano.model import NanoVL
from thyme.nano.perception.optim import Optimizer
from thyme.nano.perception.questions import LIST_PLATES, Phase, copying, naming, reading, turns
from thyme.nano.perception.rows import Batch, Encoder, Row, collate, greedy, loss_of
from thyme.nano.perception.views import Pool, ViewKind
from thyme.nano.world import GRID

Report = Callable[[str], None]

SHARES: dict[Phase, dict[ViewKind, float]] = {
    "lists": {"large": 2, "mixed": 3, "small": 4, "crop": 1, "enhanced": 0.5, "turned": 0.2, "faint": 0.1},
    "digits": {"large": 2, "mixed": 3, "small": 4, "crop": 2, "enhanced": 0.5, "turned": 0.3, "faint": 0.1},
    "mixture": {"large": 3, "mixed": 3, "small": 3, "crop": 3, "enhanced": 1, "turned": 0.4, "faint": 0.2},
    "polish": {"large": 4, "mixed": 3, "small": 3, "crop": 2, "enhanced": 1.5, "turned": 0.4, "faint": 0.2},
}
COPY_SHARE, NAME_SHARE = 0.10, 0.15
"""Shares of rows without a picture, after the lists: repeating something, and naming the colour asked for."""
TOLERANCE = 40
"""How far off a stated point may be, pixels, for the plate to lie well inside the crop."""


@dataclass(frozen=True)
class Scores:
    """Held-out accuracy by question, generated greedily."""

    by_question: dict[str, float]

    def __str__(self) -> str:
        return " ".join(f"{name} {value:.3f}" for name, value in self.by_question.items())


def rows(rng: random.Random, encoder: Encoder, pool: Pool, phase: Phase) -> Iterator[Row]:
    """Training rows of a phase, without end."""
    members = {kind: pool.of_kind(kind) for kind in SHARES[phase]}
    kinds = [kind for kind, found in members.items() if found]
    weights = [SHARES[phase][kind] for kind in kinds]
    while True:
        chance = 1.0 if phase == "lists" else rng.random()
        if chance < COPY_SHARE + NAME_SHARE:
            ask = copying if chance < COPY_SHARE else naming
            yield encoder.conversation([ask(rng) for _ in range(5)], None)
            continue
        kind = rng.choices(kinds, weights)[0]
        index = rng.choice(members[kind])
        view = pool.views[index]
        yield encoder.conversation(turns(rng, view, phase, 1 if kind == "crop" else 4), index)


def batches(source: Iterator[Row], features: Tensor, image_id: int, size: int) -> Iterator[Batch]:
    """Batches of rows of like length."""
    while True:
        drawn = sorted((next(source) for _ in range(4 * size)), key=lambda row: len(row.ids))
        parts = [drawn[i * size : (i + 1) * size] for i in range(4)]
        random.Random(len(drawn[0].ids)).shuffle(parts)
        for part in parts:
            yield collate(part, features, image_id)


def _near(text: str, point: tuple[int, int]) -> bool:
    found = re.search(r"\((\d+), (\d+)\)$", text.strip())
    return found is not None and all(abs(int(v) - p) <= TOLERANCE for v, p in zip(found.groups(), point, strict=True))


def _listed_near(text: str, color: str, point: tuple[int, int]) -> bool:
    """Whether a list in spare tokens places the plate of this colour."""
    found = re.search(rf"{color}<\|x(\d+)\|><\|y(\d+)\|>", text)
    return found is not None and all(
        abs(int(v) * GRID - p) <= TOLERANCE for v, p in zip(found.groups(), point, strict=True)
    )


def evaluate(model: NanoVL, encoder: Encoder, pool: Pool, features: Tensor, phase: Phase, per_kind: int = 64) -> Scores:
    """Ask held-out questions.

    Returns:
        For ``lists``: plates listed in the right place, by number of plates. Otherwise: reading by kind of view
        (for small plates the right answer is that they are small) and locating.
    """
    rng = random.Random("thyme.nano/gate")
    if phase == "lists":
        return _evaluate_lists(model, encoder, pool, features, per_kind)
    asked: list[tuple[str, Row, Callable[[str], bool]]] = []
    for kind in ("large", "mixed", "crop", "enhanced", "turned", "small"):
        for index in pool.of_kind(kind)[:per_kind]:
            view = pool.views[index]
            if not view.plates:
                continue
            plate = rng.choice(view.plates)
            expected = reading(view, plate)
            question = f"What does the {plate.color} plate say?"
            asked.append((kind, encoder.conversation([(question, "")], index), _equals(expected)))
            if kind == "small":
                row = encoder.conversation([(f"Where is the {plate.color} plate?", "")], index)
                asked.append((f"where{min(4, len(view.plates))}", row, _is_near(plate.stated)))
    return _ask(model, encoder, features, asked, 14)


def _equals(expected: str) -> Callable[[str], bool]:
    return lambda text: text.strip() == expected.strip()


def _is_near(point: tuple[int, int]) -> Callable[[str], bool]:
    return lambda text: _near(text, point)


def _evaluate_lists(model: NanoVL, encoder: Encoder, pool: Pool, features: Tensor, per_kind: int) -> Scores:
    """Name a colour in the list's own form and see where the model puts it."""
    asked: list[tuple[str, Row, Callable[[str], bool]]] = []
    rng = random.Random("thyme.nano/gate")
    for index in pool.of_kind("small")[: 3 * per_kind]:
        view = pool.views[index]
        plate = rng.choice(view.plates)
        row = encoder.conversation([(LIST_PLATES, "")], index)
        _open(row, encoder.encode(f" {plate.color}"))
        check = _listed_check(plate.color, plate.stated)
        asked.append((f"plates{len(view.plates)}", row, check))
    return _ask(model, encoder, features, asked, 2)


def _listed_check(color: str, point: tuple[int, int]) -> Callable[[str], bool]:
    return lambda text: _listed_near(color + text, color, point)


def _open(row: Row, ids: list[int]) -> None:
    """Replace the empty answer's end by the beginning of an answer."""
    row.ids.pop()
    row.trained.pop()
    row.add(ids, trained=False)


def _ask(
    model: NanoVL,
    encoder: Encoder,
    features: Tensor,
    asked: list[tuple[str, Row, Callable[[str], bool]]],
    max_new: int,
) -> Scores:
    for _, row, _ in asked:
        if row.ids[-1] == encoder.end_id:
            _open(row, [])
    texts = greedy(model, encoder, [row for _, row, _ in asked], features, max_new)
    found: dict[str, list[bool]] = {}
    for (name, _, check), text in zip(asked, texts, strict=True):
        found.setdefault(name, []).append(check(text))
    return Scores({name: sum(values) / len(values) for name, values in sorted(found.items())})


def train_language(
    model: NanoVL,
    encoder: Encoder,
    pool: Pool,
    features: Tensor,
    held_out: tuple[Pool, Tensor],
    phase: Phase,
    *,
    steps: int,
    batch: int,
    report: Report,
    scale: float = 1.0,
    decay: float = 0.5,
    every: int = 200,
    seed: int = 0,
) -> Scores:
    """Train the language model on one phase, the tower frozen.

    Args:
        model: Its language half is trained in place.
        encoder: Of its tokenizer.
        pool: Views to ask about.
        features: Their features.
        held_out: Views and features to measure on.
        phase: What is asked.
        steps: Optimiser steps.
        batch: Rows a step.
        report: Called with a line now and then.
        scale: Factor on the learning rates.
        decay: Share of the steps over which the rate falls.
        every: Steps between reports.
        seed: Of the questions.

    Returns:
        Held-out scores at the end.
    """
    source = rows(random.Random(f"thyme.nano/{phase}/{seed}"), encoder, pool, phase)
    feed = batches(source, features, encoder.image_id, batch)
    optimizer = Optimizer([model.text], steps, scale=scale, decay=decay)
    started, total, tokens = time.monotonic(), 0.0, 0
    for step in range(1, steps + 1):
        made = next(feed)
        loss = loss_of(model, made)
        loss.backward()  # type: ignore[no-untyped-call]  # as torch has it
        optimizer.step()
        total, tokens = total + loss.item(), tokens + made.ids.numel()
        if step % every == 0:
            spent = time.monotonic() - started
            scores = evaluate(model, encoder, *held_out, phase, 32)
            rate = tokens / max(1e-9, spent)
            report(f"{phase} {step}/{steps} {spent / 60:.1f} min loss {total / every:.3f} {rate:.0f} tok/s {scores}")
            total = 0.0
    return evaluate(model, encoder, *held_out, phase)
