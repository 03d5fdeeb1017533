"""Duplicates are found in the order of the draw, and are those that comparing with everything finds."""

from __future__ import annotations

import random
from contextlib import closing

import factory_parts as parts
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from thyme.data.factory.duplicates import Duplicates
from thyme.data.factory.held_out import Gate, HeldOut
from thyme.data.hashes import distance
from thyme.types import ImageRecord

NEAR = st.builds(
    lambda base, bits: base ^ sum(1 << bit for bit in bits),
    st.sampled_from((0, 2**64 - 1, 0xF0F0F0F0F0F0)),
    st.sets(st.integers(0, 63), max_size=7),
)


@settings(max_examples=40)
@given(st.lists(st.tuples(NEAR, st.sampled_from(("What?", "Where?"))), max_size=12), st.sampled_from((0, 1, 4, 63, 64)))
def test_it_finds_what_comparing_with_everything_finds(items: list[tuple[int, str]], bits: int) -> None:
    kept: list[tuple[int, int, str]] = []
    with closing(Duplicates(bits)) as duplicates:
        for item, (value, question) in enumerate(items):
            near = (one for one, other, asked in kept if asked == question and distance(other, value) <= bits)
            expected = next(near, None)
            assert duplicates.add(item, "crop", question, [value]) == expected
            if expected is None:
                kept.append((item, value, question))


def test_another_scenario_or_question_is_no_duplicate_and_spelling_does_not_matter() -> None:
    with closing(Duplicates(4)) as duplicates:
        assert duplicates.add(0, "crop", "What colour is it?", [5]) is None
        assert duplicates.add(1, "rotation", "What colour is it?", [5]) is None
        assert duplicates.add(2, "crop", "How many are there?", [5]) is None
        assert duplicates.add(3, "crop", "  what COLOUR is it?", [4]) == 0
        assert duplicates.add(4, "crop", "What colour is it?", [5, 9]) is None, "it has another picture beside"


def test_without_pictures_the_same_question_is_a_duplicate() -> None:
    with closing(Duplicates(4)) as duplicates:
        assert duplicates.add(0, "computation", "1 + 1?", []) is None
        assert duplicates.add(1, "computation", "1 + 2?", []) is None
        assert duplicates.add(2, "computation", "1 + 1?", []) == 0


def noisy(image: Image.Image) -> Image.Image:
    """The same picture, smaller, and a little lighter."""
    return image.resize((48, 48), Image.Resampling.BICUBIC).point(lambda value: min(255, value + 4))


def test_pictures_of_benchmarks_are_refused_by_pixels_and_by_what_they_show() -> None:
    tests = [ImageRecord.of(parts.square(number)) for number in range(5)]
    same, near, other = ImageRecord.of(parts.square(3)), ImageRecord.of(noisy(parts.square(3))), parts.square(77)
    gate = Gate(HeldOut.of(tests, perceptual=True), 4)
    assert gate.refuses([ImageRecord.of(other)]) is None
    assert gate.refuses([ImageRecord.of(other), same]) == "its picture is one of a benchmark's"
    assert gate.refuses([near]) == "its picture is nearly one of a benchmark's"
    pixels = Gate(HeldOut.of(tests, perceptual=False), 4)
    assert pixels.refuses([near]) is None
    assert pixels.refuses([same]) is not None


@pytest.mark.parametrize("bits", [0, 4, 64])
def test_many_items_are_looked_through_in_the_order_of_their_number(bits: int) -> None:
    drawn = random.Random(1)
    values = [drawn.getrandbits(64) for _ in range(300)]
    with closing(Duplicates(bits)) as duplicates:
        found = [duplicates.add(item, "crop", "?", [value]) for item, value in enumerate([*values, *values])]
    assert found[300:] == (list(range(300)) if bits < 64 else [0] * 300)
