"""The records that a report shows. Which ones is decided by a hash of their ids, not by anybody's taste."""

from __future__ import annotations

import hashlib
import heapq
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from thyme.data.drafts import Draft, Rejection
from thyme.data.factory.chunk import DUPLICATE
from thyme.data.factory.folder import find_item, load
from thyme.data.factory.journal import Outcome
from thyme.errors import StoreError
from thyme.images import to_rgb
from thyme.types import ImageRecord, Problem
from thyme.view.pages import duration
from thyme.view.parts import Run, make_run
from thyme.view.pictures import Inlined, Picture
from thyme.view.steps import AnswerStep, CodeStep, Thought, segment_steps

EACH = 2
"""Records that are shown of one kind: of a scenario that were accepted, of a reason that were rejected."""
MOST = 60
"""Kinds that are shown at most."""
SIDE = 480
"""Longest side of a picture on the page, pixels."""

Kind = tuple[str, str]
"""``kept`` and the scenario, or stage and reason."""

_EARLIER = re.compile(r"item (\d+)")
_MARKS = {
    "boxes": ("#00e0c0", "target in turquoise"),
    "wrong": ("#ff4545", "wrong look in red"),
    "larger": ("#ffb020", "wider look in amber"),
}
"""Hints that are boxes in pixels of the prepared picture: their colour, and what is said of them."""


@dataclass(frozen=True, slots=True)
class Example:
    """A record on the page."""

    anchor: str
    draft: Draft
    reason: str
    """Empty where it was accepted."""
    note: str
    scene: Sequence[Picture]
    steps: Sequence[Thought | AnswerStep | Run]
    last: str
    """What the teacher wrote last and nothing was made of, as it came."""
    facts: Mapping[str, str]

    @property
    def problem(self) -> Problem:
        """What is asked."""
        return self.draft.problem


@dataclass
class Picks:
    """Remembers some records of each kind while all of them go by."""

    _found: dict[Kind, list[tuple[int, int, Outcome]]] = field(default_factory=dict)

    def add(self, outcome: Outcome, record: Mapping[str, Any]) -> None:
        """Look at one, with its record as it is stored; the same are kept in whichever order they come."""
        kind = ("kept", record["scenario"]) if outcome.kept else (record["stage"], record["reason"])
        heap = self._found.setdefault(kind, [])
        digest = hashlib.blake2b(record["id"].encode(), digest_size=8).digest()
        one = (-int.from_bytes(digest, "big"), outcome.index, outcome)
        if len(heap) < EACH:
            heapq.heappush(heap, one)
        else:
            heapq.heappushpop(heap, one)

    def of(self, kind: Kind) -> list[Draft | Rejection]:
        """Those of a kind, without their pixels.

        Raises:
            StoreError: One is none of this version.
        """
        return [outcome.record() for _, _, outcome in sorted(self._found.get(kind, []), reverse=True)]


def make_example(out: Path, record: Draft | Rejection, anchor: str) -> Example:
    """A record as the page shows it; without pictures where they are not to be had.

    Args:
        out: Folder of the build.
        record: Without its pixels.
        anchor: Of its place on the page.
    """
    loaded = _draft(_loaded(out, record))
    draft, pictures = _draft(record), Inlined(max_side=SIDE)
    scene = list(_scene(loaded, pictures))
    if isinstance(record, Rejection) and record.reason == DUPLICATE:
        scene += _earlier(out, record, pictures)
    return Example(
        anchor,
        draft,
        record.reason if isinstance(record, Rejection) else "",
        record.note if isinstance(record, Rejection) else "",
        scene,
        list(_steps(draft, loaded, pictures)),
        _last(draft),
        _facts(draft),
    )


def _draft(record: Draft | Rejection) -> Draft:
    return record.draft if isinstance(record, Rejection) else record


def _steps(draft: Draft, loaded: Draft, pictures: Inlined) -> Iterator[Thought | AnswerStep | Run]:
    """Steps with their pictures as the page has them, but not their pixels, which would add up."""
    for bare, full in zip(segment_steps(draft.segments), segment_steps(loaded.segments), strict=True):
        if isinstance(bare, CodeStep) and isinstance(full, CodeStep):
            yield replace(make_run(full, pictures), execution=bare.execution)
        elif not isinstance(bare, CodeStep):
            yield bare


def _loaded(out: Path, record: Draft | Rejection) -> Draft | Rejection:
    try:
        return load(out, record)
    except StoreError:
        return record


def _scene(draft: Draft, pictures: Inlined) -> Iterator[Picture]:
    for index, image in enumerate(draft.problem.images):
        name = f"Input image {index + 1}"
        yield pictures.picture(image, f"{name}, {image.width} by {image.height} pixels")
        told = [(colour, what, box) for key, (colour, what) in _MARKS.items() for box in _boxes(draft.hints.get(key))]
        if index == 0 and told and image.loaded:
            note = f"drawn in on this page: {', '.join(dict.fromkeys(what for _, what, _ in told))}"
            yield pictures.picture(_marked(image, told), f"{name} with what the teacher was told", note)


def _boxes(value: Any) -> list[tuple[float, float, float, float]]:
    """A box, or a list of boxes; whatever else a hint holds gives none."""
    boxes = value if isinstance(value, list) and value and isinstance(value[0], list) else [value]
    return [
        (box[0], box[1], box[2], box[3])
        for box in boxes
        if isinstance(box, list) and len(box) == 4 and all(isinstance(side, int | float) for side in box)
    ]


def _marked(image: ImageRecord, told: Sequence[tuple[str, str, tuple[float, float, float, float]]]) -> ImageRecord:
    """The picture at the size of the page with boxes around, not over, what they show."""
    factor = SIDE / max(image.size)
    factor = max(1, int(factor)) if factor >= 1 else factor
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    resample = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.LANCZOS
    drawn = to_rgb(image.image).resize(size, resample)
    pen = ImageDraw.Draw(drawn)
    for colour, _, (left, top, right, bottom) in told:
        low = (round(left * factor) - 5, round(top * factor) - 5)
        high = (max(low[0], round(right * factor) + 4), max(low[1], round(bottom * factor) + 4))
        pen.rectangle((low[0] - 1, low[1] - 1, high[0] + 1, high[1] + 1), outline="#101010")
        pen.rectangle((*low, *high), outline=colour, width=4)
    return ImageRecord.of(drawn)


def _earlier(out: Path, record: Rejection, pictures: Inlined) -> Iterator[Picture]:
    """The pictures of the item that a duplicate is like."""
    match = _EARLIER.search(record.note)
    other = None if match is None else find_item(out, int(match[1]))
    if other is None:
        return
    draft = _draft(_loaded(out, other))
    for image in draft.problem.images:
        prepared = "" if draft.problem.images == draft.origin.images else ", as it was prepared there"
        yield pictures.picture(image, "Image of the earlier item", f"of {draft.id}{prepared}")


def _last(draft: Draft) -> str:
    """The teacher's last turn where nothing was made of it."""
    turns = [said.text for said in draft.conversation if said.role == "assistant"]
    written = "".join("".join(segment.text for segment in draft.segments).split())
    return turns[-1] if turns and "".join(turns[-1].split()) not in written else ""


def _facts(draft: Draft) -> dict[str, str]:
    costs = draft.costs
    told = json.dumps(draft.hints, ensure_ascii=False) if draft.hints else "nothing"
    seconds = ", ".join(f"{name} {duration(value)}" for name, value in costs.seconds.items())
    verdicts = "; ".join(f"{one.judge}: {one.reason}" for one in draft.verdicts)
    rows = {
        "source": draft.source,
        "teacher": draft.teacher,
        "told": told,
        "verdicts": verdicts,
        "tokens": f"{costs.prompt_tokens} prompt, {costs.completion_tokens} written",
        "answers": f"{costs.requests} asked for, {costs.recorded} recorded before",
        "cost": f"{costs.usd:.4f} US dollars" if costs.usd else "",
        "seconds": seconds,
        "record": draft.id,
    }
    return {name: value for name, value in rows.items() if value}
