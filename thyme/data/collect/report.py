"""The page of a collection: one HTML file that needs nothing beside it, with what was taken, what was not, and why."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from PIL import Image, ImageOps

from thyme.data.collect import reasons
from thyme.data.collect.folder import (
    REPORT,
    Collection,
    open_collection,
    read_collection_file,
    read_rejected,
    tile_file,
    top_level,
)
from thyme.data.collect.listing import listing
from thyme.data.collect.reasons import REASONS
from thyme.data.collect.records import Collected, Refused
from thyme.errors import ThymeError
from thyme.images import open_header, to_rgb
from thyme.store import write_text
from thyme.view.pages import template
from thyme.view.words import count

SHOWN: Final = 24
"""Pictures that are shown of those that were taken."""
EACH: Final = 8
"""Files that are shown of each reason."""
_LEVEL: Final = 8
"""Level of the tile that is shown: 256 pixels at most."""
_SEEN: Final = (reasons.SMALL, reasons.SAME, reasons.NEAR, reasons.BLURRED, reasons.TEXT)
"""Reasons of files that can be shown."""
_BARS: Final = 10

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture on the page."""

    name: str
    notes: Sequence[str]
    source: str = ""
    """Data URL; empty where it cannot be shown."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A line of a table, with how long its bar is."""

    label: str
    count: int
    share: float
    """Of the longest bar of its table, from 0 to 1."""
    note: str = ""


def write_report(out: Path, folder: Path | None = None) -> Path:
    """Write ``report.html`` of a collection.

    Args:
        out: Of the collection.
        folder: That was collected, to show what was not taken; None: its names alone.

    Returns:
        The page.

    Raises:
        UsageError: There is no collection.
        StoreError: A file is damaged, or nothing can be written.
    """
    made = open_collection(out)
    about = read_collection_file(out)
    assert about is not None  # it was opened
    rejected = list(read_rejected(out))
    items = list(made.items.values())
    refused = Counter(one.reason for one in rejected)
    page = template("collection.html.j2", "thyme.data.collect", "thyme.data.report").render(
        title=f"Collection: {made.name}",
        cards=_cards(items, rejected),
        reasons=_bars({name: refused[name] for name, _ in refused.most_common()}, REASONS),
        tables=list(_tables(items)),
        shown=[_taken(made, item) for item in _spread(items, SHOWN)],
        dropped=list(_dropped(rejected, refused, folder, made.settings.max_pixels)),
        settings={"folder": about.folder, **{name: str(value) for name, value in made.settings}},
        total=len(items),
    )
    write_text(out / REPORT, page)
    return out / REPORT


def _cards(items: Sequence[Collected], rejected: Sequence[Refused]) -> list[tuple[str, str, str]]:
    pixels = sum(item.width * item.height for item in items) / 1e6
    largest = max((item.width * item.height for item in items), default=0) / 1e6
    kinds = len({one.reason for one in rejected})
    unsaid = sum(not item.licence for item in items)
    return [
        ("taken", count(len(items)), f"of {count(len(items) + len(rejected))} files"),
        ("not taken", count(len(rejected)), f"{kinds} reason{'' if kinds == 1 else 's'}"),
        ("megapixels", count(round(pixels)), f"the largest {largest:.1f}"),
        ("without a licence", count(unsaid), "say it in a sidecar, or with --licence"),
    ]


def _tables(items: Sequence[Collected]) -> Iterator[tuple[str, list[Bar]]]:
    """Distributions of what was taken."""
    if not items:
        return
    yield "Longer side, pixels", _bars(_steps([max(item.width, item.height) for item in items], "{:.0f}"))
    for name, title in (("sharpness", "Sharpness"), ("text", "Share covered by text")):
        yield title, _bars(_steps([item.facts.get(name, 0.0) for item in items], "{:.2f}"))
    for title, names in (
        ("Licence", (item.licence or "(not said)" for item in items)),
        ("Source", (item.source or "(not said)" for item in items)),
        ("Stored as", (item.format for item in items)),
    ):
        yield title, _bars(dict(Counter(names).most_common(12)))


def _steps(values: Sequence[float], form: str) -> dict[str, int]:
    """How many values lie in each of some equal steps."""
    low, high = min(values), max(values)
    width = (high - low) / _BARS
    if not width:
        return {form.format(low): len(values)}
    found = Counter(min(_BARS - 1, int((value - low) / width)) for value in values)
    edges = [form.format(low + place * width) for place in range(_BARS + 1)]
    return {f"{edges[place]} to {edges[place + 1]}": found[place] for place in range(_BARS)}


def _bars(counts: dict[str, int], notes: dict[str, str] | None = None) -> list[Bar]:
    most = max(counts.values(), default=1)
    return [Bar(label, number, number / most, (notes or {}).get(label, "")) for label, number in counts.items()]


def _spread(all: Sequence[T], most: int) -> Iterable[T]:
    """Some of many, evenly spread."""
    if len(all) <= most:
        return all
    return [all[place * len(all) // most] for place in range(most)]


def _taken(made: Collection, item: Collected) -> Shown:
    tile = tile_file(made.folder, item, min(_LEVEL, top_level((item.width, item.height))), 0, 0)
    facts = f"sharpness {item.facts.get('sharpness', 0):.2f} · text {100 * item.facts.get('text', 0):.1f} %"
    notes = [f"{item.width} × {item.height}", facts, item.licence, item.source]
    source = "" if tile is None else _url(tile.read_bytes())
    return Shown(item.original, [note for note in notes if note], source)


def _dropped(
    rejected: Sequence[Refused], counts: Counter[str], folder: Path | None, max_pixels: int
) -> Iterator[tuple[str, str, int, list[Shown]]]:
    """Reason, what it means, how many files, and some of them."""
    paths = {} if folder is None else {found.name: found.path for found in listing(folder)}
    for name, number in counts.most_common():
        some = _spread([one for one in rejected if one.reason == name], EACH)
        shown = [
            Shown(one.file, [one.detail], _thumbnail(paths.get(one.file), max_pixels) if name in _SEEN else "")
            for one in some
        ]
        yield name, REASONS.get(name, ""), number, shown


def _thumbnail(path: Path | None, max_pixels: int) -> str:
    """Data URL of a file that was read before; empty where it is gone since."""
    if path is None:
        return ""
    side = 2**_LEVEL
    try:
        with path.open("rb") as file, open_header(file, label=path.name) as picture:
            if picture.width * picture.height > max_pixels:
                return ""
            picture.draft("RGB", (2 * side, 2 * side))
            image = to_rgb(ImageOps.exif_transpose(picture))
    except (ThymeError, OSError, ValueError, SyntaxError):
        return ""
    image.thumbnail((side, side), Image.Resampling.BOX)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return _url(buffer.getvalue())


def _url(data: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
