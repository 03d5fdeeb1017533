"""What the ablation of GRPO-ATS measures, and its intervals, against independent computations."""

from statistics import fmean

import numpy as np
import pytest
from ablation_results import arm_result
from scipy import stats

from thyme.eval.summary import Rate
from thyme.nano.grpo_ablation.arms import COMPARISONS, NEED_CODE
from thyme.nano.grpo_ablation.stats import ABOUT, MEASURES, TRAINED, Estimate, difference, estimate, first, last

DRAW = np.random.default_rng(7)


def of(*values):
    """Rates with these values, a seed each."""
    return {seed: (Rate(1000 * value, 1000),) for seed, value in enumerate(values, start=1)}


@pytest.mark.parametrize("seeds", [2, 3, 5, 8])
def test_the_interval_is_students_as_scipy_has_it(seeds):
    one, other = DRAW.uniform(0, 1, (2, seeds))
    found = difference(of(*one), of(*other))
    apart = one - other
    expected = stats.t.interval(0.95, seeds - 1, loc=apart.mean(), scale=stats.sem(apart))
    assert found.interval == pytest.approx(expected, abs=1e-4)
    assert found.mean == pytest.approx(apart.mean())


@pytest.mark.parametrize("values", [(0.1, 0.2, 0.3), (0.1, -0.2, 0.3), (0.0, 0.0, 0.0), (0.4, -0.1, 0.3, 0.2, 0.5)])
def test_the_exact_test_is_scipys(values):
    found = estimate(of(*values), shares=False)
    theirs = stats.permutation_test(
        (np.array(values),), lambda x, axis: np.mean(x, axis=axis), permutation_type="samples", vectorized=True
    )
    assert found.exact == pytest.approx(theirs.pvalue)


def test_with_three_seeds_the_exact_test_cannot_tell_anything():
    assert estimate(of(0.9, 0.8, 0.9)).exact == 0.25


def test_intervals_of_three_seeds_hold_what_they_promise():
    """Of intervals of normal differences around a known mean, 95 % hold it."""
    draws = DRAW.normal(0.2, 0.1, (4000, 3))
    ends = np.array([estimate(of(*row), shares=False).interval for row in draws])
    covered = ((ends[:, 0] <= 0.2) & (ends[:, 1] >= 0.2)).mean()
    assert covered == pytest.approx(0.95, abs=0.012)


@pytest.mark.parametrize(
    ("mean", "interval", "verdict"),
    [
        (0.2, (0.1, 0.3), "higher"),
        (-0.2, (-0.3, -0.1), "lower"),
        (0.2, (-0.1, 0.5), "not told apart"),
        (0.0, (0.0, 0.0), "not told apart"),
        (0.2, None, "one seed"),
        (None, None, "no case"),
    ],
)
def test_the_verdict_is_whether_the_interval_leaves_out_0(mean, interval, verdict):
    assert Estimate({}, {}, {}, mean, interval).verdict == verdict


def test_seeds_without_a_case_are_left_out_and_seen():
    one = {1: (Rate(3, 4),), 2: (Rate(0, 0),), 3: (Rate(1, 2),)}
    other = {1: (Rate(1, 4),), 2: (Rate(1, 2),), 3: (Rate(1, 4),), 4: (Rate(1, 1),)}
    found = difference(one, other)
    assert found.seeds == {1: 0.5, 2: None, 3: 0.25}
    assert found.mean == pytest.approx(0.375)
    with pytest.raises(ValueError, match="no seed"):
        difference({1: (Rate(1, 1),)}, {2: (Rate(1, 1),)})


def test_a_rate_has_wilsons_interval_within_its_seed_and_a_difference_none():
    found = estimate({1: (Rate(30, 40),), 2: (Rate(20, 40), Rate(10, 40))})
    theirs = stats.binomtest(30, 40).proportion_ci(method="wilson")
    assert found.within[1] == pytest.approx((theirs.low, theirs.high), abs=1e-6)
    assert found.within[2] is None
    assert found.seeds[2] == pytest.approx(0.25)


def test_measures_of_training_count_the_last_window_and_the_kinds_that_need_code():
    result = arm_result("weak", "tau0_mask", 1, steps=6)
    there = [count for count in result.counts if count.step in (5, 6)]
    need = [count for count in there if count.kind in NEED_CODE]
    assert last(result, 2) == there
    assert {count.step for count in first(result, 2)} == {1, 2}
    (tools,) = MEASURES["tool rate"](result, 2)
    assert tools.value == pytest.approx(sum(c.coded for c in need) / sum(c.rollouts for c in need))
    (ran,) = MEASURES["executable rate"](result, 2)
    assert (ran.hits, ran.n) == (sum(c.ran for c in there), sum(c.blocks for c in there))
    (reward,) = MEASURES["reward"](result, 2)
    assert reward.value == pytest.approx(sum(c.reward for c in there) / sum(c.scored for c in there))
    late, early = MEASURES["tool rate, change"](result, 2)
    assert late == tools
    assert early == TRAINED["tool rate"](first(result, 2))


def test_measures_of_the_end_count_test_problems():
    result = arm_result("weak", "tau0_mask", 1)
    (accuracy,) = MEASURES["accuracy"](result, 1)
    kinds = {o.kind for o in result.asked}
    by_kind = [fmean(o.right for o in result.asked if o.kind == kind) for kind in kinds]
    assert accuracy.value == pytest.approx(fmean(by_kind))  # every kind with as many: the macro average
    on, off = MEASURES["lost without repairs"](result, 1)
    assert on == accuracy
    assert off.value == pytest.approx(fmean(o.right for o in result.asked_bare))
    (wrong,) = MEASURES["consistent and wrong"](result, 1)
    assert wrong.hits == sum(o.consistent == 1 and not o.right for o in result.asked)


def test_the_start_itself_has_no_rate_of_training():
    result = arm_result("weak", "start", 1)
    assert MEASURES["tool rate"](result, 2)[0].value is None


def test_every_measure_says_what_it_is():
    assert set(ABOUT) == set(MEASURES)
    assert {comparison.measure for comparison in COMPARISONS} <= set(MEASURES)
