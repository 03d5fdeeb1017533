"""Views that perception is trained on: their targets tell what was drawn, and a pool comes back the same."""

import random

import numpy as np
import pytest
from PIL import Image

from thyme.nano.perception import views
from thyme.nano.perception.views import (
    CLASSES,
    FAINT,
    HEADS,
    IGNORE,
    ILLEGIBLE,
    TOKENS,
    VIEW,
    draw_views,
    look,
    make_pool,
)
from thyme.nano.world import CHARACTERS, COLORS


@pytest.fixture(scope="module")
def samples():
    rng = random.Random(0)
    return [sample for _ in range(9) for sample in draw_views(rng)]


def test_targets_are_classes_or_ignored(samples):
    for pixels, targets, _ in samples:
        assert pixels.shape == (VIEW, VIEW, 3)
        assert targets.shape == (len(HEADS), TOKENS**2)
        for row, classes in zip(targets, CLASSES, strict=True):
            assert all(value == IGNORE or 0 <= value < classes for value in row)


def test_targets_tell_what_the_facts_tell(samples):
    kinds = set()
    for _, targets, view in samples:
        kinds.add(view.kind)
        assert set(targets[6]) == {view.state}
        if view.kind in {"turned", "faint"}:
            assert (view.state == FAINT) == (view.kind == "faint")
            assert not any(plate.legible for plate in view.plates)
            continue
        for plate in view.plates:
            cells = np.flatnonzero(targets[0] == list(COLORS).index(plate.color))
            assert len(cells)
            first = CHARACTERS.index(plate.label[0]) if plate.legible else ILLEGIBLE
            assert set(targets[1, cells]) == {first}
            if view.kind != "crop":
                assert set(targets[3, cells]) == {plate.stated[0] // 32}
                # the token of the centre is the one the stated place lies in, up to the grid's rounding
                row, column = cells.mean() // TOKENS, (cells % TOKENS).mean()
                assert abs(row * 128 + 64 - plate.stated[1]) < 200
                assert abs(column * 128 + 64 - plate.stated[0]) < 200
    assert kinds == set(views.VIEW_KINDS)


def test_looking_at_a_view_changes_nothing():
    noise = np.random.default_rng(0).integers(0, 256, (VIEW, VIEW, 3), np.uint8)
    assert np.array_equal(look(Image.fromarray(noise)), noise)


def test_a_pool_is_drawn_once_and_comes_back_the_same(tmp_path):
    drawn = make_pool(tmp_path, "validation", 0, 20, 1)
    stamp = next(tmp_path.glob("*.pkl")).stat().st_mtime_ns
    again = make_pool(tmp_path, "validation", 0, 20, 1)
    assert next(tmp_path.glob("*.pkl")).stat().st_mtime_ns == stamp
    assert drawn.views == again.views
    assert np.array_equal(drawn.pixels, again.pixels)
    assert drawn.of_kind("large", "small") == [
        i for i, view in enumerate(drawn.views) if view.kind in {"large", "small"}
    ]
