"""Intervals of the ablation against independent computations."""

import math
import random
from statistics import fmean, quantiles

import numpy as np
import pytest

from thyme.nano.ablation.stats import T_975, Estimate, differences, estimate, hierarchical, student, values
from thyme.nano.asked import Outcome

DRAW = np.random.default_rng(3)
GROUPS = [DRAW.choice([-1.0, 0.0, 1.0], 40, p=p) for p in ((0.1, 0.6, 0.3), (0.2, 0.7, 0.1), (0.05, 0.65, 0.3))]


def plain_bootstrap(groups, draws):
    """The same interval, one draw at a time and with another generator."""
    rng = random.Random(11)
    means = []
    for _ in range(draws):
        chosen = rng.choices(groups, k=len(groups))
        means.append(fmean(fmean(rng.choices(group, k=len(group))) for group in chosen))
    cuts = quantiles(means, n=40, method="inclusive")
    return cuts[0], cuts[-1]


def test_the_hierarchical_bootstrap_agrees_with_a_plain_one():
    ours = hierarchical(GROUPS, draws=20_000, seed=1)
    theirs = plain_bootstrap([group.tolist() for group in GROUPS], 6000)
    assert ours == pytest.approx(theirs, abs=0.012)


def test_its_spread_is_that_of_both_levels():
    """Variance of the bootstrapped mean: that of the groups' means over S, and of the members within, over S n."""
    rng = np.random.default_rng(5)
    groups = [rng.choice([-1.0, 1.0], 60, p=(share, 1 - share)) for share in rng.uniform(0.3, 0.7, 30)]
    between = np.var([group.mean() for group in groups]) / 30
    within = np.mean([group.var() / 60 for group in groups]) / 30
    low, high = hierarchical(groups, draws=20_000)
    assert (high - low) / (2 * 1.95996) == pytest.approx(np.sqrt(between + within), rel=0.04)


def test_groups_without_spread_leave_only_the_choice_of_groups():
    assert hierarchical([np.zeros(5), np.ones(5)], draws=4000) == (0.0, 1.0)
    assert hierarchical([np.full(7, 0.25)] * 3, draws=100) == pytest.approx((0.25, 0.25))


@pytest.mark.parametrize(("freedom", "quantile"), list(enumerate(T_975, start=1)))
def test_the_quantiles_are_students(freedom, quantile):
    """The density, integrated from 0 to the quantile, gives 0.475."""
    x = np.linspace(0, quantile, 20_001)
    factor = math.gamma((freedom + 1) / 2) / (math.sqrt(freedom * math.pi) * math.gamma(freedom / 2))
    density = factor * (1 + x**2 / freedom) ** (-(freedom + 1) / 2)
    assert np.trapezoid(density, x) == pytest.approx(0.475, abs=1e-5)


def test_students_interval_is_the_mean_and_so_many_standard_errors():
    assert student(np.array([0.1, 0.2, 0.6])) == pytest.approx((0.3 - 4.3027 * 0.1527525, 0.3 + 4.3027 * 0.1527525))


def test_one_seed_has_no_interval_over_seeds():
    assert student(np.array([0.3])) is None
    assert estimate([np.array([1.0, 1.0])]).verdict == "leans higher"


@pytest.mark.parametrize(
    ("bootstrap", "over_seeds", "verdict"),
    [
        ((0.1, 0.3), (0.05, 0.4), "higher"),
        ((0.1, 0.3), (-0.05, 0.4), "leans higher"),
        ((-0.3, -0.1), (-0.4, -0.05), "lower"),
        ((-0.3, -0.1), (-0.4, 0.05), "leans lower"),
        ((-0.1, 0.1), (0.01, 0.02), "not told apart"),
    ],
)
def test_a_difference_is_told_only_where_both_intervals_leave_out_nothing(bootstrap, over_seeds, verdict):
    assert Estimate(0.0, (), bootstrap, over_seeds).verdict == verdict


def test_differences_are_taken_problem_by_problem():
    def asked(kind, right, ran=0):
        return Outcome(id="", kind=kind, right=right, labels=right, blocks=2, ran=ran)

    one = {2: [asked("zoom", 1)], 1: [asked("zoom", 1), asked("arithmetic", 0, ran=2), asked("easy", 0)]}
    other = {1: [asked("zoom", 0), asked("arithmetic", 1), asked("easy", 0)], 2: [asked("zoom", 1)]}
    perception = differences(values(one, "perception"), values(other, "perception"))
    assert [group.tolist() for group in perception] == [[1, 0], [0]]
    assert [g.tolist() for g in values(one, "arithmetic code ran")] == [[1], []]
    assert estimate(perception).mean == 0.25
    assert estimate(perception).seeds == (0.5, 0.0)
    with pytest.raises(ValueError, match="same problems"):
        differences(values(one, "perception"), values(other, "zoom"))
