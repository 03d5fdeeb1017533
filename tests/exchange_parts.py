"""A made-up collection, and questions about its pictures."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from PIL import Image

from thyme.config.annotation import CollectSettings
from thyme.data.annotation.records import ANSWER_TYPES, CATEGORIES, STATES, Annotation, Check
from thyme.data.collect.folder import Collection, CollectionFile, image_file, open_collection
from thyme.data.collect.records import COLLECTION, Collected
from thyme.images import load_image
from thyme.types import ImageRecord

SIZE = (2400, 240)


def make_collection(folder: Path, sizes: tuple[tuple[int, int], ...] = (SIZE, SIZE)) -> Collection:
    folder.mkdir(parents=True)
    (folder / COLLECTION).write_text(CollectionFile(folder="photos", settings=CollectSettings()).model_dump_json())
    lines = []
    for number, size in enumerate(sizes):
        buffer = io.BytesIO()
        picture = Image.new("RGB", size, (number * 40 % 255, 90, 120))
        picture.paste((255, 255, 255), (100, 20, 160, 60))
        picture.save(buffer, "PNG")
        record = load_image(buffer.getvalue(), max_pixels=400_000_000)
        item = Collected(
            id=record.id, width=size[0], height=size[1], format="PNG", original=f"trip/{number}.png",
            source=f"photos {number}", licence="CC-BY-4.0",
        )  # fmt: skip
        image_file(folder, item).parent.mkdir(parents=True, exist_ok=True)
        image_file(folder, item).write_bytes(buffer.getvalue())
        lines.append(item.model_dump_json() + "\n")
    (folder / "items.jsonl").write_text("".join(lines))
    (folder / "rejected.jsonl").write_text('{"file": "small.png", "reason": "small", "detail": "800 x 600"}\n')
    return open_collection(folder)


def item_of(number: int = 0, size: tuple[int, int] = SIZE) -> Collected:
    """An item without a file."""
    return Collected(
        id=f"{number:032x}", width=size[0], height=size[1], format="JPEG", original=f"trip/{number}.jpg",
        source="a camera", licence="CC0-1.0",
    )  # fmt: skip


def asked(item: Collected, id: str = "q1", **changed: Any) -> Annotation:
    """An accepted question."""
    second = Check(person="Ben", role="second", verdict="answered", answer="12", agrees=True, category="ocr", at=5.0)
    fields: dict[str, Any] = {
        "id": id,
        "image": ImageRecord(id=item.id, width=item.width, height=item.height, mode="RGB", format=item.format),
        "question": "What number is on the white sign?",
        "answer": "12",
        "answer_type": "number",
        "category": "ocr",
        "box": (100, 20, 160, 60),
        "hidden_when_small": True,
        "state": "accepted",
        "author": "Ana",
        "checks": (second, Check(person="Eva", role="expert", verdict="accept", at=6.0)),
        "source": item.source,
        "licence": item.licence,
        "at": 4.5,
        "seconds": 61.5,
    }
    return Annotation(**{**fields, **changed})


words = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Z")), min_size=1, max_size=30)
"""Texts as people write them: no control characters, which forms do not send."""


@st.composite
def annotations(draw: st.DrawFn, item: Collected, boxed: bool = False) -> Annotation:
    """Any question about a picture, drafts too."""
    left, top = draw(st.integers(0, item.width - 1)), draw(st.integers(0, item.height - 1))
    box = (left, top, draw(st.integers(left + 1, item.width)), draw(st.integers(top + 1, item.height)))
    kind = draw(st.sampled_from(ANSWER_TYPES))
    choices = tuple(draw(st.lists(words, min_size=2, max_size=5, unique=True))) if kind == "choice" else ()
    return asked(
        item,
        id=draw(st.uuids()).hex,
        question=draw(words),
        answer=draw(st.sampled_from(choices)) if choices else draw(words),
        answer_type=kind,
        choices=choices,
        category=draw(st.sampled_from(CATEGORIES)),
        box=box if boxed or draw(st.booleans()) else None,
        hidden_when_small=draw(st.sampled_from((None, True, False))),
        state=draw(st.sampled_from(STATES)),
        gold=draw(st.booleans()),
        seconds=draw(st.none() | st.floats(0, 1e6)),
        at=draw(st.floats(0, 2e9)),
    )


nothing_sure = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
"""Whatever JSON can hold."""
