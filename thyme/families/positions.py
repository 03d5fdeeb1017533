"""Rotary positions of text and images, chunk by chunk: on three axes (M-RoPE of Qwen-VL), or on one. Numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from thyme.families.spans import Grid

IntArray = npt.NDArray[np.int64]
Ids = Sequence[int] | npt.NDArray[np.integer[Any]]


def mrope_positions(
    ids: Ids, grids: Sequence[Grid], start: int, *, image_token_id: int, merge: int
) -> tuple[IntArray, int]:
    """Positions along time, height and width of one chunk of a sequence.

    Text counts up on all three axes. An image of h by w merged patches takes h * w tokens; they share the time of its
    first one, and what follows goes on at max(h, w) (Qwen2-VL, section 2.1). Chunks may be cut anywhere but inside an
    image: positions of a sequence are the positions of its chunks, each begun where the one before left off.

    Args:
        ids: Token ids of the chunk, L of them.
        grids: Patch grids of the chunk's own images.
        start: Position of the chunk's first token.
        image_token_id: The placeholder.
        merge: Side of the square of patches that becomes one token.

    Returns:
        Positions of shape (3, L), and the position at which the next chunk starts.

    Raises:
        ValueError: Placeholders and grids do not match.
    """
    is_image = np.asarray(ids, dtype=np.int64) == image_token_id
    length = is_image.size
    positions = np.empty((3, length), dtype=np.int64)
    at, position = 0, start
    for time, height, width in grids:
        rows, columns = height // merge, width // merge
        count = time * rows * columns
        rest = np.flatnonzero(is_image[at:])
        begin = at + int(rest[0]) if rest.size else length
        if begin + count > length or not is_image[begin : begin + count].all():
            raise ValueError(f"an image of grid {(time, height, width)} needs {count} placeholders in one run")
        positions[:, at:begin] = position + np.arange(begin - at)
        position += begin - at
        positions[:, begin : begin + count] = position + np.indices((time, rows, columns)).reshape(3, -1)
        position += max(rows, columns)
        at = begin + count
    if is_image[at:].any():
        raise ValueError(f"{int(is_image[at:].sum())} image placeholders have no image")
    positions[:, at:] = position + np.arange(length - at)
    return positions, position + length - at


def plain_positions(ids: Ids, tokens: Sequence[int], start: int, *, image_token_id: int) -> tuple[IntArray, int]:
    """Positions along the sequence, images and text alike.

    Args:
        ids: Token ids of the chunk, L of them.
        tokens: Placeholders of each of the chunk's own images; no two images follow each other without a token between.
        start: Position of the chunk's first token.
        image_token_id: The placeholder.

    Returns:
        Positions of shape (1, L), and the position at which the next chunk starts.

    Raises:
        ValueError: The runs of placeholders are not those of the images.
    """
    is_image = np.asarray(ids, dtype=np.int64) == image_token_id
    edges = np.flatnonzero(np.diff(np.pad(is_image.astype(np.int8), 1)))
    runs = (edges[1::2] - edges[::2]).tolist()
    if runs != list(tokens):
        raise ValueError(f"the chunk has runs of {runs} image placeholders, its images need {list(tokens)}")
    return start + np.arange(is_image.size)[None], start + is_image.size
