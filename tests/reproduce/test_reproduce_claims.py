"""The rules of the verdicts, over made figures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thyme.reproduce.claims import CLAIMS, Claim, Part, Rule, Verdict, combine, judge, judged
from thyme.reproduce.graph import How, Result
from thyme.reproduce.measures import Difference, Found, Interval, of_scores, of_seeds


@pytest.mark.parametrize(
    ("rule", "intervals", "margin", "verdict"),
    [
        ("more", [(0.01, 0.2)], 0.0, "reproduced"),
        ("more", [(0.01, 0.2), (-0.1, 0.3)], 0.0, "not seen"),
        ("more", [(0.0, 0.2)], 0.0, "not seen"),
        ("more", [(-0.2, -0.01), (-0.3, -0.02)], 0.0, "contradicted"),
        ("more", [(-0.2, -0.01), (-0.3, 0.02)], 0.0, "not seen"),
        ("less", [(-0.2, -0.01)], 0.0, "reproduced"),
        ("less", [(0.01, 0.2)], 0.0, "contradicted"),
        ("less", [(-0.2, 0.2)], 0.0, "not seen"),
        ("no worse", [(-0.01, 0.2)], 0.02, "reproduced"),
        ("no worse", [(-0.03, 0.2)], 0.02, "not seen"),
        ("no worse", [(-0.3, -0.03)], 0.02, "contradicted"),
        ("no worse", [(-0.3, -0.01)], 0.02, "not seen"),
        ("more", [], 0.0, "not measured"),
    ],
)
def test_a_difference_is_judged_by_its_intervals(
    rule: Rule, intervals: list[Interval], margin: float, verdict: Verdict
) -> None:
    assert judge(rule, intervals, margin) == verdict


ENDS = st.lists(st.tuples(st.floats(-1, 1), st.floats(0.001, 1)).map(lambda e: (e[0], e[0] + e[1])), min_size=1)


@given(ENDS)
def test_more_of_one_is_less_of_the_other(intervals: list[Interval]) -> None:
    turned = [(-high, -low) for low, high in intervals]
    assert judge("more", intervals) == judge("less", turned)


@given(ENDS, st.floats(0.001, 1))
def test_another_interval_never_makes_a_verdict_firmer(intervals: list[Interval], wide: float) -> None:
    assert judge("more", [*intervals, (-wide, wide)]) == "not seen"


@pytest.mark.parametrize(
    ("verdicts", "verdict"),
    [
        (["reproduced"], "reproduced"),
        (["reproduced", "not seen"], "reproduced"),
        (["reproduced", "not seen", "not seen"], "not seen"),
        (["reproduced", "contradicted"], "not seen"),
        (["contradicted", "not seen", "not seen"], "contradicted"),
        (["not seen", "not measured"], "not seen"),
        (["reproduced", "not measured", "not measured"], "reproduced"),
        (["not measured"], "not measured"),
        ([], "not measured"),
    ],
)
def test_parts_are_put_together(verdicts: Sequence[Verdict], verdict: Verdict) -> None:
    assert combine(verdicts) == verdict


def test_a_claim_counts_every_start_that_it_was_measured_from() -> None:
    told = [Difference(0.1, (0.1,), ((0.05, 0.2),)), Difference(0.0, (0.0,), ((-0.1, 0.1),))]
    claim = Claim("x", "It helps.", "", (Part("right", "more", lambda _: told),))
    (one,) = judged(Found({}), [claim])
    assert one.verdict == "reproduced"
    assert [verdict for *_, verdict in one.parts] == ["reproduced", "not seen"]


def test_without_results_nothing_is_measured() -> None:
    found = judged(Found({}))
    assert len(found) == len(CLAIMS) > 10
    assert {one.verdict for one in found} == {"not measured"}


def test_claims_have_names_of_their_own() -> None:
    assert len({claim.name for claim in CLAIMS}) == len(CLAIMS)


def result(arm: str, seed: int, right: list[int], *, blocks: int = 1, ran: int = 1, kind: str = "zoom") -> Result:
    n = len(right)
    counted = {"right": right, "blocks": [blocks] * n, "ran": [ran] * n, "repaired": [0] * n, "tokens": [9] * n}
    row = {name: list(map(float, values)) for name, values in counted.items()}
    return Result(
        step=f"asked-{arm}-{seed}",
        kind="asked",
        settings={"arm": arm, "seed": seed},
        key="",
        figures={"kinds": {kind: {**row, "looped": [0.0] * n, "cut": [0.0] * n}}},
        how=How(command="test"),
    )


def asked(*results: Result) -> Found:
    return Found({one.step: one for one in results})


def claim(name: str) -> Claim:
    return next(claim for claim in CLAIMS if claim.name == name)


def test_code_that_always_helps_is_seen_in_every_seed() -> None:
    told = [result(arm, seed, [int(arm == "sft")] * 20) for arm in ("sft", "blocked") for seed in (1, 2, 3)]
    (one,) = judged(asked(*told), [claim("code")])
    assert one.verdict == "reproduced"
    assert one.parts[0][1].mean == 1.0
    assert one.basis == "3 seeds"


def test_code_that_hurts_contradicts() -> None:
    told = [result(arm, seed, [int(arm == "blocked")] * 20) for arm in ("sft", "blocked") for seed in (1, 2, 3)]
    assert judged(asked(*told), [claim("code")])[0].verdict == "contradicted"


def test_seeds_that_disagree_tell_nothing() -> None:
    told = [
        result(arm, seed, [int((arm == "sft") == (seed != 2))] * 20) for arm in ("sft", "blocked") for seed in (1, 2, 3)
    ]
    assert judged(asked(*told), [claim("code")])[0].verdict == "not seen"


def test_one_seed_is_told_by_its_problems_and_says_so() -> None:
    (one,) = judged(asked(result("sft", 1, [1] * 20), result("blocked", 1, [0] * 20)), [claim("code")])
    assert (one.verdict, one.basis) == ("reproduced", "problems of one seed")


def test_code_that_ran_is_counted_block_by_block_and_seed_by_seed() -> None:
    told = [result("sft", s, [1] * 4, blocks=2, ran=2) for s in (1, 2)]
    told += [result("bare", s, [1] * 4, blocks=2, ran=1) for s in (1, 2)]
    gain = asked(*told).asked.gain("sft", "bare", "executable")
    assert gain is not None
    assert (gain.mean, gain.seeds) == (0.5, (0.5, 0.5))
    none = asked(*told, result("sft", 3, [1], blocks=0, ran=0), result("bare", 3, [1])).asked.gain(
        "sft", "bare", "executable"
    )
    assert none is not None
    assert none.seeds == (0.5, 0.5), "a seed without code has no rate, and is no 0"


def test_right_answers_are_told_apart_by_whether_code_was_used() -> None:
    told = [result("sft", s, [1, 1, 0, 0], blocks=s - 1) for s in (1, 2, 3)]
    found = asked(*told, *(result("rl", s, [1, 1, 1, 0], blocks=1) for s in (1, 2, 3))).asked
    with_code, without = found.rate("sft", "right with code"), found.rate("sft", "right without")
    assert with_code is not None
    assert without is not None
    assert (with_code.mean, with_code.seeds) == (0.5, (0.5, 0.5)), "the seed without code has none"
    assert (without.mean, without.seeds) == (0.5, (0.5,))
    gain = found.gain("rl", "sft", "right with code")
    assert gain is not None
    assert gain.seeds == (0.25, 0.25)


def test_only_seeds_that_both_have_are_compared() -> None:
    found = asked(result("sft", 1, [1, 1]), result("sft", 2, [0, 0]), result("blocked", 1, [0, 0]))
    gain = found.asked.gain("sft", "blocked", "right")
    assert gain is not None
    assert gain.seeds == (1.0,)


def test_no_value_has_no_mean() -> None:
    assert of_scores([np.array([])]) is None
    assert of_seeds([], "tokens") is None
    alone = of_seeds([3.0], "tokens")
    assert alone is not None
    assert alone.intervals == ()
    assert judge("more", alone.intervals) == "not measured"
