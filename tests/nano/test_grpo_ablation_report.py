"""The report of the ablation of GRPO-ATS: its sentences follow from the numbers, and nothing gets lost on the way."""

import re

import pytest
from ablation_results import arm_result, start_result
from PIL import Image

from thyme.nano.grpo_ablation.arms import ARMS, COMPARISONS, GRPOAblationSettings, arms_of
from thyme.nano.grpo_ablation.findings import Compared, Findings, Found, Number, Share
from thyme.nano.grpo_ablation.report import (
    asked_beforehand,
    by_chance,
    markdown,
    page,
    sentence,
    sentences,
    weakness,
    write,
)

HOW = GRPOAblationSettings(steps=6, window=2)


def made(starts, arms=()):
    results = [
        arm_result(start, arm, seed, tool=0.0 if arm == "tau1_mask" else 0.6)
        for start in starts
        for arm in arms_of(start, arms)
        for seed in (1, 2, 3)
    ]
    return Findings.of([start_result(start) for start in starts], results, HOW)


@pytest.fixture(scope="module")
def findings():
    """All that is run unless arms are named; in one of them no code is ever written."""
    return made(("weak", "injected", "careless"))


@pytest.fixture(scope="module")
def few():
    """Some arms: a page of all of them takes seconds to draw."""
    return made(("injected",), ("tau0_mask", "tau1_mask"))


def compared(mean, interval, expected, *, missing=0):
    verdict = (
        "no case" if mean is None else "higher" if interval[0] > 0 else "lower" if interval[1] < 0 else "not told apart"
    )
    seeds = {seed: Number(value=None if seed <= missing else mean, n=9) for seed in (1, 2, 3)}
    return Compared(
        start="weak",
        group="temperature",
        one="tau0_mask",
        other="tau1_mask",
        measure="tool rate",
        expected=expected,
        claim="code is kept" if expected else "",
        found=Found(mean=mean, interval=interval, verdict=verdict, exact=0.25, seeds=seeds),
    )


@pytest.mark.parametrize(
    ("mean", "interval", "expected", "words"),
    [
        (0.5, (0.3, 0.7), 1, ("+50.0 points", "95 % interval +30.0 to +70.0", "higher", "bears the paper out")),
        (-0.5, (-0.7, -0.3), 1, ("-50.0 points", "lower", "contradicts the paper")),
        (-0.5, (-0.7, -0.3), -1, ("lower", "bears the paper out")),
        (0.5, (-0.1, 1.1), 1, ("not told apart", "neither borne out nor contradicted")),
        (0.5, (0.3, 0.7), 0, ("higher", "The paper says nothing of it")),
        (None, None, 1, ("cannot be compared", "neither borne out nor contradicted")),
    ],
)
def test_a_sentence_follows_from_the_numbers_by_rule(mean, interval, expected, words):
    told = sentence(compared(mean, interval, expected))
    assert told.startswith("weak start, tool rate: τ 0, code masked against τ 1, code masked")
    for word in words:
        assert word in told


def test_a_sentence_says_how_many_seeds_could_be_compared():
    assert "2 of 3 seeds" in sentence(compared(0.5, (0.3, 0.7), 1, missing=1))
    assert "; 3 seeds)" in sentence(compared(0.5, (0.3, 0.7), 1))


@pytest.mark.parametrize(
    ("greedy", "drawn", "words"),
    [
        ((38, 40), (10, 40), "95 (83 to 99), n 40 at τ 0, 25 (14 to 40), n 40 at τ 1; the intervals do not meet"),
        ((38, 40), (36, 40), "can hardly show"),
        ((38, 40), (0, 0), "it shows nothing"),
    ],
)
def test_a_start_says_whether_it_can_show_anything(findings, greedy, drawn, words):
    start = findings.starts["weak"]
    ran = {0.0: Share.of(*greedy), 0.3: Share.of(*greedy), 1.0: Share.of(*drawn)}
    measured = tuple(m.model_copy(update={"executable": ran[m.tau]}) for m in start.measured)
    assert words in weakness(start.model_copy(update={"measured": measured}))


def test_what_was_asked_beforehand_is_answered_from_each_start_that_has_the_arms(findings):
    asked = {(c.start, c.one, c.other, c.measure) for c in findings.compared}
    expected = {
        (start, c.one, c.other, c.measure)
        for start in ("weak", "injected", "careless")
        for c in COMPARISONS
        if {c.one, c.other} <= set(arms_of(start))
    }
    assert asked == expected
    assert len(sentences(findings)) == len(expected) == len(asked_beforehand(findings).rows) - 1
    assert by_chance(findings).startswith(f"{len(expected)} comparisons")


def test_code_that_was_given_up_has_no_executable_rate_and_is_not_counted_as_0(findings):
    given_up = findings.starts["weak"].arms["tau1_mask"].measures
    assert given_up["tool rate"].mean == 0
    assert given_up["executable rate"].mean is None
    (apart,) = [
        c
        for c in findings.compared
        if (c.start, c.other, c.measure) == ("weak", "tau1_mask", "executable rate") and c.one == "tau0_mask"
    ]
    assert "cannot be compared" in sentence(apart)


def test_curves_cover_every_step_once(findings):
    for arm in findings.starts["injected"].arms.values():
        for points in arm.curves.values():
            assert [step for p in points for step in range(p.first, p.last + 1)] == list(range(1, HOW.steps + 1))


def test_the_json_holds_all_that_the_page_is_made_of(few, tmp_path):
    write(few, tmp_path)
    again = Findings.model_validate_json((tmp_path / "ablation_grpo.json").read_text())
    assert again == few
    assert markdown(again) == (tmp_path / "ablation_grpo.md").read_text()
    for start in few.starts:
        with Image.open(tmp_path / f"ablation_grpo_{start}.png") as plot:
            assert plot.width > 400


def test_the_page_stands_alone_and_says_everything(few):
    text = page(few)
    assert "<script" not in text
    assert not re.search(r'(?:src|href)="(?!#|data:)', text)
    for name in few.starts["injected"].arms:
        assert ARMS[name].title in text
    assert text.count("<li>") == len(few.compared)
    assert "41 of 400 tokens" in text  # what was injected is said
    # a figure a trained arm, start and measure that was drawn
    drawn = sum(
        any(p.found.mean is not None for p in points)
        for start in few.starts.values()
        for arm in start.arms.values()
        for points in arm.curves.values()
    )
    assert text.count("<svg") == drawn
