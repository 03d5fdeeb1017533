"""A made-up collection of large images, and a studio in which people ask questions about them, for tests."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from studio_parts import Client, Served, serving_studio

from thyme.config.annotation import AnnotationSettings, CollectSettings
from thyme.config.studio import StudioConfig
from thyme.data.collect.folder import CollectionFile, image_file, tile_box, tiles_folder, top_level
from thyme.data.collect.records import COLLECTION, TILE, Collected
from thyme.images import load_image
from thyme.studio.annotation.collections import Collections, import_images
from thyme.studio.builds import Builds
from thyme.studio.database import Database, beside
from thyme.studio.service import Studio

SIZE = (2400, 1800)
BOX = (400, 300, 460, 330)
"""Where every picture has a small sign, pixels."""
FIELDS: dict[str, Any] = {
    "question": "What does the small sign say?",
    "answer": "KX7",
    "answer_type": "text",
    "choices": [],
    "category": "ocr",
    "box": list(BOX),
    "hidden_when_small": True,
}
"""A question that meets all rules."""


def drawn(index: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """A picture with a small sign; `index` tells it from the others."""
    picture = Image.new("RGB", size, ((index * 67) % 200, (index * 31 + 90) % 200, 120))
    draw = ImageDraw.Draw(picture)
    for step in range(0, max(size), 300):
        draw.line((step, 0, size[0] - step, size[1]), fill=(240, 240, 200), width=5)
    draw.rectangle(BOX, fill="white")
    draw.text((BOX[0] + 4, BOX[1] + 4), f"KX{index}", fill="black", font=ImageFont.load_default(20))
    draw.text((60, 60), f"picture {index}", fill="white", font=ImageFont.load_default(90))
    return picture


def write_collection(
    folder: Path, count: int = 3, *, sizes: Sequence[tuple[int, int]] = (), tiles: bool = False
) -> Path:
    """A collection of drawn pictures.

    Args:
        folder: Where to; its name is the collection's.
        count: Pictures.
        sizes: Of the first pictures, where they are not to have `SIZE`.
        tiles: Whether tiles are made; the studio cuts them itself where they are missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    about = CollectionFile(folder="photos", settings=CollectSettings())
    (folder / COLLECTION).write_text(about.model_dump_json())
    lines = []
    for index in range(count):
        buffer = io.BytesIO()
        drawn(index, sizes[index] if index < len(sizes) else SIZE).save(buffer, "JPEG", quality=85)
        record = load_image(buffer.getvalue(), max_pixels=400_000_000)
        item = Collected(
            id=record.id, width=record.width, height=record.height, format="JPEG", original=f"{index}.jpg",
            source=f"photos/{index}", licence="CC-BY-4.0",
        )  # fmt: skip
        path = image_file(folder, item)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(buffer.getvalue())
        if tiles:
            write_tiles(folder, item, record.image)
        lines.append(item.model_dump_json() + "\n")
    (folder / "items.jsonl").write_text("".join(lines))
    return folder


def write_tiles(folder: Path, item: Collected, picture: Image.Image) -> None:
    """All tiles of a picture, cut by Pillow."""
    for level in range(top_level(picture.size) + 1):
        scale = 2 ** (top_level(picture.size) - level)
        width, height = (-(-side // scale) for side in picture.size)
        reduced = picture.resize((width, height), Image.Resampling.BOX)
        beside_ = tiles_folder(folder, item.id) / str(level)
        beside_.mkdir(parents=True, exist_ok=True)
        for y in range(-(-height // TILE)):
            for x in range(-(-width // TILE)):
                box = tile_box(picture.size, level, x, y)
                assert box is not None
                reduced.crop(box).save(beside_ / f"{x}_{y}.jpg", "JPEG", quality=90)


@contextmanager
def serving(
    folder: Path, settings: AnnotationSettings | None = None, *, url: str | None = None, port: int = 0
) -> Iterator[Served]:
    """Serve a collection until the context ends, on a database that is beside it or at `url`.

    What was said is there again if the same folder is served anew; `port` lets it be at the same address.
    """

    @asynccontextmanager
    async def made() -> AsyncIterator[Studio]:
        config = StudioConfig(annotation=settings or AnnotationSettings(second=1, experts=2, gold=0))
        yield opened(folder, config, url=url)

    with serving_studio(made, port) as served:
        yield served


def opened(folder: Path, config: StudioConfig, *, url: str | None = None) -> Studio:
    """A studio with a collection's images taken in."""
    database, collections = Database(url or beside(folder)), Collections([folder])
    import_images(database, collections, folder.name)
    return Studio(config, database, Builds([]), None, collections=collections)


def expert(served: Served, name: str) -> Client:
    """Somebody who judges what is agreed, and does nothing else."""
    client = Client(served.url)
    served.clients.append(client)
    token = served.studio.accounts.invite(name, roles=("expert",))
    client.person = client.post("/api/join", token=token)["person"]
    return client


def written(author: Client, **changed: Any) -> dict[str, Any]:
    """A question that a person has written about the next image and submitted, as it is then."""
    shot = author.post("/api/annotation/next", queue="annotate")["work"]
    made = author.post(f"/api/annotation/images/{shot['id']}/questions", **FIELDS | changed)
    handed: dict[str, Any] = author.post(
        f"/api/annotation/questions/{made['id']}/submit", version=made["version"], seconds=30
    )
    return handed


def answered(person: Client, id: int, answer: str = "KX7", category: str = "ocr") -> dict[str, Any]:
    """What a second person's answer to a question gives."""
    found: dict[str, Any] = person.post(
        f"/api/annotation/questions/{id}/answer", answer=answer, category=category, seconds=10
    )
    return found


def judged(person: Client, id: int, verdict: str = "accept", **said: Any) -> str:
    """The state that an expert's or adjudicator's verdict gives."""
    state: str = person.post(f"/api/annotation/questions/{id}/verdict", verdict=verdict, **said)["state"]
    return state
