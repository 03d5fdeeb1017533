"""M-RoPE positions are those of the models' own `get_rope_index`, whole or chunk by chunk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForImageTextToText

from thyme.families import Grid, load_family
from thyme.families.positions import mrope_positions

PAD = 7
Chunk = tuple[list[int], list[Grid]]
grids = st.tuples(st.just(1), st.integers(1, 6).map(lambda n: 2 * n), st.integers(1, 6).map(lambda n: 2 * n))
"""A run of text before each image: neighbouring images without a token between them do not occur in these families."""
pieces = st.lists(st.tuples(st.integers(1, 9), st.none() | grids), min_size=1, max_size=6)


def chunk_of(text_tokens: int, grid: Grid | None) -> Chunk:
    ids = [1] * text_tokens
    return (ids, []) if grid is None else (ids + [PAD] * (grid[1] * grid[2] // 4), [grid])


def positions(ids: list[int], grids: list[Grid], start: int) -> tuple[np.ndarray, int]:
    return mrope_positions(ids, grids, start, image_token_id=PAD, merge=2)


@pytest.mark.parametrize("seed", range(5))
def test_positions_are_the_models_own(tiny_checkpoint: Path, seed: int) -> None:
    family = load_family(tiny_checkpoint)
    model = AutoModelForImageTextToText.from_pretrained(tiny_checkpoint)
    draw = np.random.default_rng(seed)
    ids: list[int] = []
    grids: list[Grid] = []
    for _ in range(4):
        grids.append((1, 2 * int(draw.integers(1, 9)), 2 * int(draw.integers(1, 9))))
        pads = [family.image_token_id] * family.image_tokens(grids[-1])
        ids += [5] * int(draw.integers(1, 20)) + pads
    ids += [5] * seed
    tokens = torch.tensor([ids])
    reference, _ = model.model.get_rope_index(
        tokens, (tokens == family.image_token_id).long(), image_grid_thw=torch.tensor(grids)
    )
    ours, following = family.positions(ids, grids, 0)
    np.testing.assert_array_equal(ours, reference[:, 0].numpy())
    assert following == int(reference.max()) + 1


@given(pieces, st.integers(0, 50))
def test_positions_of_chunks_join_to_those_of_the_whole(drawn: list[tuple[int, Grid | None]], start: int) -> None:
    chunks = [chunk_of(*piece) for piece in drawn]
    whole, end = positions([i for ids, _ in chunks for i in ids], [g for _, gs in chunks for g in gs], start)
    parts, at = [], start
    for ids, own in chunks:
        part, at = positions(ids, own, at)
        parts.append(part)
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
    assert at == end


def test_image_takes_time_of_its_first_token_and_goes_on_behind_its_longer_side() -> None:
    found, following = positions([1, PAD, PAD, PAD, PAD, PAD, PAD, 1], [(1, 4, 6)], 10)
    assert found.tolist() == [
        [10, 11, 11, 11, 11, 11, 11, 14],
        [10, 11, 11, 11, 12, 12, 12, 14],
        [10, 11, 12, 13, 11, 12, 13, 14],
    ]
    assert following == 15


@pytest.mark.parametrize(
    ("ids", "grids"),
    [([1, PAD], []), ([1, PAD], [(1, 4, 4)]), ([1], [(1, 2, 2)]), ([PAD, 1, PAD], [(1, 2, 4)])],
    ids=["no image", "too few placeholders", "no placeholder", "cut in the middle"],
)
def test_placeholders_and_images_must_match(ids: list[int], grids: list[Grid]) -> None:
    with pytest.raises(ValueError, match="image"):
        positions(ids, grids, 0)
