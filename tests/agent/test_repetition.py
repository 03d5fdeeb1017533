"""The loop detector against a naive oracle, on loops of all lengths, and on ordinary text."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thyme.agent.repetition import (
    ReleasedDetector,
    RepetitionDetector,
    make_detector,
    released_repetition,
)
from thyme.config import RepetitionConfig

PROSE = " ".join(
    f"The {a} stands {b} the {c}, so its {d} reads {n}."
    for n, (a, b, c, d) in enumerate(
        (a, b, c, d)
        for a in ("sign", "car", "tree", "tower")
        for b in ("near", "behind", "over")
        for c in ("road", "wall", "house")
        for d in ("plate", "label", "clock")
    )
)


def noise(length, seed=0):
    return "".join(random.Random(seed).choices("abcdefghijklmnop \n", k=length))


def naive(text, windows, threshold, min_chars, min_copies):
    """First length of the output at which copies of one window cover too much, by counting everything anew."""
    for size in range(min_chars, len(text) + 1):
        seen = text[:size]
        for length in windows:
            for start in range(size - length + 1):
                copies = seen.count(seen[start : start + length])
                if copies >= min_copies and copies * length > threshold * size:
                    return size
    return None


def fired_at(detector, text):
    found = detector.feed(text)
    return found and found.position


loopy = st.tuples(
    st.text(alphabet="abc", max_size=12), st.text(alphabet="abc", min_size=1, max_size=6), st.integers(0, 12)
).map(lambda parts: parts[0] + parts[1] * parts[2])


@settings(max_examples=150)
@given(
    st.lists(loopy, min_size=1, max_size=3).map("".join),
    st.sampled_from([(3,), (2, 5), (1, 4, 7)]),
    st.sampled_from([0.3, 0.5, 0.8]),
    st.integers(1, 15),
    st.integers(2, 4),
)
def test_it_fires_exactly_where_the_oracle_does(text, windows, threshold, min_chars, min_copies):
    detector = RepetitionDetector(windows, threshold=threshold, min_chars=min_chars, min_copies=min_copies)
    assert fired_at(detector, text) == naive(text, windows, threshold, min_chars, min_copies)


@given(st.lists(loopy, max_size=6), st.integers(2, 4))
def test_chunks_do_not_matter(chunks, copies):
    whole = RepetitionDetector((2, 5), min_chars=8, min_copies=copies)
    pieces = RepetitionDetector((2, 5), min_chars=8, min_copies=copies)
    one_by_one = [pieces.feed(chunk) for chunk in chunks]
    assert (one_by_one[-1] if chunks else None) == whole.feed("".join(chunks))


@settings(max_examples=150)
@given(st.lists(loopy, min_size=1, max_size=3).map("".join), st.sampled_from([1, 2, 3, 7]))
def test_a_collision_never_fires(text, modulus):
    found = RepetitionDetector((2, 5), min_chars=8, modulus=modulus).feed(text)
    if found is not None:
        seen = text[: found.position]
        assert seen.count(found.window) == found.copies >= 3
        assert found.copies * len(found.window) > 0.5 * len(seen)
    assert RepetitionDetector((4,), min_chars=8, modulus=modulus).feed("abcdefghijklmnopqrstuvwxyz") is None


@pytest.mark.parametrize(
    ("prefix", "period"),
    [(0, period) for period in (1, 2, 5, 50, 100, 200, 256, 300, 500, 1000)]
    + [(700, period) for period in (1, 2, 5, 50, 100, 200, 300)],
)
def test_loops_are_caught(prefix, period):
    start, body = noise(prefix), noise(period, seed=1)
    found = RepetitionDetector().feed(start + body * (8000 // period))
    assert found is not None
    assert found.coverage > 0.5
    assert found.position <= 5 * prefix + 3 * (period + 512)


@pytest.mark.parametrize(
    "text",
    [
        PROSE[:9000],
        noise(9000),
        "".join(f"x{n} = image[{n}:{n + 7}, {n * 3}]\nprint(x{n}.mean())\n" for n in range(90)),
        noise(600) + "crop = image.crop((1, 2, 3, 4)).resize((9, 9))\n" * 9 + noise(600, seed=3),
        "a" * 511,
        noise(700, seed=4) * 2,
    ],
    ids=["prose", "noise", "code", "a loop that is the smaller part", "short", "the same twice"],
)
def test_ordinary_output_goes_on(text):
    assert RepetitionDetector().feed(text) is None


def test_it_tells_what_it_found_and_stays_with_it():
    detector = RepetitionDetector((4,), min_chars=20)
    found = detector.feed("xy" + "abcd" * 9)
    assert (found.window, found.position) == ("xyab"[2:] + "cd", 20)
    assert found.copies == 4
    assert found.coverage == pytest.approx(16 / 20)
    assert detector.feed("something else entirely, and long enough to matter") is found


def test_config_chooses():
    assert make_detector(RepetitionConfig(variant="off")) is None
    short = make_detector(RepetitionConfig(windows=(4,), min_chars=10, threshold=0.9, min_copies=2))
    assert short.feed("abcd" * 3).position == 10 + 2
    assert isinstance(make_detector(RepetitionConfig(variant="released")), ReleasedDetector)
    assert make_detector(RepetitionConfig()).feed("abcd " * 200).position == 512


# --- the released check


def naive_released(text):
    """The released rule in its own order: lengths downwards, all substrings, overlaps counted."""
    tail = text[-1000:]
    if len(tail) < 50 or "answer" in text or "sandbox_output" in text or "<code>" in text:
        return False
    for length in range(len(tail) // 3, 0, -1):
        if 2 * length / len(tail) <= 0.3:
            return False
        samples = [tail[start : start + length] for start in range(len(tail) - length + 1)]
        if any(samples.count(sample) > 1 and samples.count(sample) * length / len(tail) > 0.3 for sample in samples):
            return True
    return False


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(alphabet="abcdefgh", max_size=30) | loopy, max_size=6).map("".join))
def test_released_rule(text):
    assert (released_repetition(text) is not None) == naive_released(text)


def test_released_rule_has_the_known_blind_spots():
    loop = "The sign says nothing. " * 40
    assert released_repetition(loop) is not None
    assert released_repetition(loop + "answer") is None
    assert released_repetition("<code>" + loop) is None
    assert released_repetition(loop + noise(1000)) is None
    assert released_repetition("ab" * 24) is None


def test_the_released_detector_looks_every_hundred_characters():
    loop = "The sign says nothing. " * 40
    whole, pieces = ReleasedDetector(), ReleasedDetector()
    found = whole.feed(noise(30) + loop)
    for start in range(0, 400, 7):
        pieces.feed((noise(30) + loop)[start : start + 7])
    assert found.position == 100
    assert pieces.feed("") == found
