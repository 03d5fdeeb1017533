"""Encoded samples as a person can read them: every token as text, what is trained on in colour, images as one mark.

Tokens of a byte-level vocabulary are bytes, and a character may take several of them. Text is therefore decoded over
stretches that are trained on, or not, as a whole; no character is torn at the border of two tokens.
"""

from __future__ import annotations

import math
from codecs import getincrementaldecoder
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal

from rich.console import Group, RenderableType
from rich.text import Text

from thyme.families import Family, Grid
from thyme.train.encode import Encoded, Kind
from thyme.train.report.pages import template
from thyme.train.run.disk import write_atomically
from thyme.view.terminal import clean

Look = Literal["trained", "tempered", "greedy", "masked", "observation", "prompt", "image"]
"""``masked``: what the model wrote and is not trained on. ``tempered`` and ``greedy`` are of rollouts: code that is
trained on and was drawn, or was not."""

STYLES: dict[Look, str] = {
    "trained": "bold green",
    "masked": "dim yellow",
    "observation": "dim cyan",
    "prompt": "dim",
    "image": "magenta",
}
"""On a terminal."""
TOKENS_FILE = "tokens.html"
"""In the folder of a run."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of tokens that looks alike."""

    look: Look
    text: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Page:
    """One sample on a page."""

    title: str
    pieces: Sequence[Piece]


def pieces(sample: Encoded, family: Family, looks: Sequence[Look] | None = None) -> list[Piece]:
    """A sample as stretches of text and images, in order; their tokens add up to the sample's.

    Args:
        sample: The sample; its images need no pixels.
        family: Whose tokens they are.
        looks: How each token looks; None: whether it is trained on, or else where it came from.
    """
    looks = token_looks(sample) if looks is None else looks
    grids = iter(sample.grids)
    made: list[Piece] = []
    is_image = sample.ids == family.image_token_id
    for start, end in _stretches(sample, looks, is_image):
        if is_image[start]:
            made += _images(end - start, grids, family)
        else:
            made += _texts(sample.ids[start:end].tolist(), looks[start:end], family)
    return made


def preview(samples: Sequence[Encoded], family: Family, *, limit: int | None = None) -> RenderableType:
    """Samples for a terminal.

    Args:
        samples: The samples.
        family: Whose tokens they are.
        limit: Characters of a sample that are shown, counted from its end; None shows all. Trained tokens stand at the
            end, and it is them that a look is for.
    """
    legend = Text(" ").join(Text(f" {look} ", style=style) for look, style in STYLES.items())
    shown: list[RenderableType] = [legend]
    for index, sample in enumerate(samples):
        shown += [Text(), Text(_title(index, sample), style="bold"), coloured(pieces(sample, family), limit)]
    return Group(*shown)


def tokens_page(
    samples: Sequence[Encoded], family: Family, *, stages: Sequence[str] = (), title: str = "What is trained on"
) -> str:
    """Samples as one HTML page that needs nothing beside it.

    Args:
        samples: The samples.
        family: Whose tokens they are.
        stages: The stage of each, where they are of several.
        title: Heading.
    """
    before = [f"{stage}, " for stage in stages] or [""] * len(samples)
    pages = [
        Page(stage + _title(index, sample), pieces(sample, family))
        for index, (stage, sample) in enumerate(zip(before, samples, strict=True))
    ]
    return template("tokens.html.j2").render(title=title, samples=pages, looks=tuple(STYLES))


def write_tokens_page(samples: Sequence[Encoded], family: Family, out: Path, *, stages: Sequence[str] = ()) -> Path:
    """Write the page into the folder of a run, and return where it is."""
    path = out / TOKENS_FILE
    write_atomically(path, tokens_page(samples, family, stages=stages))
    return path


def _title(index: int, sample: Encoded) -> str:
    share = sample.trained / len(sample)
    images = f", {len(sample.images)} image{'' if len(sample.images) == 1 else 's'}" if sample.images else ""
    return f"sample {index + 1}: {len(sample)} tokens, {sample.trained} trained on ({share:.0%}){images}"


def coloured(made: Sequence[Piece], limit: int | None, styles: Mapping[Look, str] = STYLES) -> Text:
    """Stretches for a terminal, the last `limit` characters of them."""
    body = Text()
    for piece in made:
        body.append(clean(piece.text), style=styles[piece.look])
    if limit is not None and len(body) > limit:
        return Text("… ").append_text(body[len(body) - limit :])
    return body


def token_looks(sample: Encoded) -> list[Look]:
    """How each token looks: whether it is trained on, or else where it came from."""
    looks: list[Look] = ["prompt"] * len(sample)
    for span in sample.spans:
        look = _LOOKS[span.kind]
        looks[span.start : span.end] = [look] * (span.end - span.start)
    return ["trained" if on else look for on, look in zip(sample.loss_mask.tolist(), looks, strict=True)]


_LOOKS: dict[Kind, Look] = {
    "prompt": "prompt",
    "text": "masked",
    "code": "masked",
    "observation": "observation",
    "end": "masked",
}


def _stretches(sample: Encoded, looks: Sequence[Look], is_image: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """Where a run of images, or of tokens that are all trained on or all not, begins and ends."""
    start = 0
    for _, group in groupby(range(len(sample)), key=lambda i: (bool(is_image[i]), looks[i] == "trained")):
        end = start + sum(1 for _ in group)
        yield start, end
        start = end


def _texts(ids: Sequence[int], looks: Sequence[Look], family: Family) -> Iterator[Piece]:
    """Text of tokens that are all trained on or all not, cut where the look changes.

    A character belongs to the token that completes it; bytes that never make one become the replacement character.
    """
    decoder = getincrementaldecoder("utf-8")("replace")
    table = family.token_bytes
    for look, group in groupby(zip(ids, looks, strict=True), key=lambda pair: pair[1]):
        text, count = "", 0
        for token, _ in group:
            count += 1
            known = table[token] if token < len(table) else b""
            # A token without bytes is not text: it ends what came before it, and is shown by its name.
            text += decoder.decode(known) if known else decoder.decode(b"", final=True) + _name(token, family)
        yield Piece(look, text, count)
    if rest := decoder.decode(b"", final=True):
        yield Piece(looks[-1], rest, 0)


def _name(token: int, family: Family) -> str:
    """Name of a token without bytes: the end of a turn, or an id that the vocabulary was filled up with."""
    name = family.tokenizer.convert_ids_to_tokens(token)
    return name if isinstance(name, str) else f"[id {token}]"


def _images(count: int, grids: Iterator[Grid], family: Family) -> Iterator[Piece]:
    """The images of a run of placeholders; usually one."""
    while count > 0:
        grid = next(grids, None)
        tokens = count if grid is None else family.image_tokens(grid)
        yield Piece("image", f"[image {_size(grid, tokens)}{tokens} tokens]", tokens)
        count -= tokens


def _size(grid: Grid | None, tokens: int) -> str:
    """Rows and columns of an image's tokens; with a factor in front where there are several tiles."""
    if grid is None:
        return ""
    tiles, rows, columns = grid
    side = math.isqrt(tiles * rows * columns // tokens) or 1
    front = f"{tiles}x" if tiles > 1 else ""
    return f"{front}{rows // side}x{columns // side} = "
