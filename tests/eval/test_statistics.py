"""Intervals cover what they say, and tests give the p of independent references: scipy, enumeration, definitions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import evaluation_items as made
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from thyme.eval import statistics
from thyme.eval.benchmarks import BENCHMARKS
from thyme.eval.items import ItemResult
from thyme.eval.results import benchmark_of
from thyme.eval.scoring import wilson
from thyme.eval.statistics import (
    Estimate,
    binomial_two_sided,
    compare_pairs,
    correct,
    estimate,
    estimate_figures,
    holm,
    sign_flip,
    t_quantile,
)

# --- intervals --------------------------------------------------------------------------------------------------------


def test_the_t_quantile_is_that_of_scipy() -> None:
    for freedom in (3, 4, 5, 7, 10, 20, 40, 190, 5000):
        assert t_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), abs=0.03 if freedom < 5 else 0.005)


@pytest.mark.parametrize("graded", [False, True])
def test_the_interval_is_scipys_percentile_bootstrap_but_for_the_widening(graded: bool) -> None:
    rng = np.random.default_rng(1)
    values = rng.random(150) if graded else (rng.random(150) < 0.7).astype(float)
    ours = estimate(values.tolist(), draws=20_000)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", random_state=rng
    ).confidence_interval
    assert ours.value == pytest.approx(values.mean())
    widening = math.sqrt(150 / 149) * stats.t.ppf(0.975, 149) / stats.norm.ppf(0.975)
    grain = 1 / 150 if not graded else 0.0  # a mean of 0 and 1 moves in steps
    for end, other in ((ours.low, theirs.low), (ours.high, theirs.high)):
        assert end is not None
        assert end - values.mean() == pytest.approx(widening * (other - values.mean()), abs=0.004 + grain)


def test_a_ratio_has_the_interval_of_a_bootstrap_by_hand() -> None:
    rng = np.random.default_rng(2)
    blocks = rng.integers(1, 5, 80)
    ran = rng.binomial(blocks, 0.85)
    ours = estimate(ran.tolist(), None, blocks.tolist(), draws=20_000)
    theirs = stats.bootstrap(
        (ran, blocks),
        lambda top, bottom, axis: top.sum(axis=axis) / bottom.sum(axis=axis),
        paired=True,
        n_resamples=20_000,
        method="percentile",
        random_state=rng,
    ).confidence_interval
    assert ours.value == pytest.approx(ran.sum() / blocks.sum())
    assert ours.low == pytest.approx(theirs.low, abs=0.01)
    assert ours.high == pytest.approx(theirs.high, abs=0.01)


def test_both_ways_to_draw_resamples_agree() -> None:
    """Few sorts of clusters are drawn by how often each comes, many one by one."""
    alike = [1.0, 1.0, 1.0, 0.0] * 25
    unlike = [value + place * 1e-9 for place, value in enumerate(alike)]
    first, second = estimate(alike, draws=20_000), estimate(unlike, span="free", draws=20_000)
    assert first.low == pytest.approx(second.low, abs=0.011)
    assert first.high == pytest.approx(second.high, abs=0.011)


def test_the_same_items_give_the_same_interval_and_another_seed_nearly_so() -> None:
    values = [1.0, 0.0, 0.5] * 20
    assert estimate(values, seed=4) == estimate(values, seed=4)
    assert estimate(values, seed=5).low == pytest.approx(estimate(values, seed=4).low or 0, abs=0.02)


def _coverage(rng: np.random.Generator, clusters: int, size: int, runs: int, *, told: bool) -> float:
    """How often the interval holds the true rate of 0.7, where members of a cluster mostly agree."""
    names = [str(place // size) for place in range(clusters * size)]
    hits = 0
    for run in range(runs):
        rate = rng.beta(1.4, 0.6, clusters)  # mean 0.7
        scores = (rng.random((clusters, size)) < rate[:, None]).astype(float).ravel()
        found = estimate(scores.tolist(), names if told else None, seed=run, draws=600)
        hits += found.low is not None and found.high is not None and found.low <= 0.7 <= found.high
    return hits / runs


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    assert 0.93 <= _coverage(np.random.default_rng(3), 60, 1, 1200, told=True) <= 0.975


def test_the_interval_over_clusters_covers_and_one_that_ignores_them_does_not() -> None:
    assert 0.93 <= _coverage(np.random.default_rng(4), 50, 4, 1000, told=True) <= 0.975
    assert _coverage(np.random.default_rng(4), 50, 4, 300, told=False) < 0.9


def test_alike_cases_have_the_interval_of_wilson_and_not_one_of_no_width() -> None:
    assert (estimate([1.0] * 20).low, estimate([1.0] * 20).high) == wilson(20, 20)
    assert (estimate([0.0] * 20).low, estimate([0.0] * 20).high) == wilson(0, 20)
    # Ten clusters of two are ten cases.
    found = estimate([1.0] * 20, [str(place // 2) for place in range(20)])
    assert (found.low, found.high, found.n, found.clusters) == (*wilson(10, 10), 20, 10)
    none = estimate([0.0] * 20, span="difference")
    assert (none.low, none.high) == (-wilson(0, 20)[1], wilson(0, 20)[1])


def test_cases_that_are_alike_and_neither_right_nor_wrong_are_not_known_for_certain() -> None:
    for found in (estimate([0.5] * 4), estimate([1.0, 0.0] * 4, [str(place // 2) for place in range(8)])):
        assert (found.value, found.clusters) == (0.5, 4)
        assert (found.low, found.high) == wilson(2, 4)
    assert estimate([0.1] * 3).high == pytest.approx(wilson(0.3, 3)[1])  # their mean is not 0.1 to the last bit
    half = estimate([0.5] * 4, span="difference")
    reach = wilson(0, 4)[1]
    assert (half.low, half.high) == (0.5 - 1.5 * reach, 0.5 + 0.5 * reach)
    # Two gains of two: a third problem may well be a loss, and the exact test says p = 0.5.
    gains = compare_pairs([1.0, 1.0], [0.0, 0.0])
    assert (gains.difference.low, gains.difference.high, gains.p) == (1 - 2 * wilson(0, 2)[1], 1.0, 0.5)
    assert gains.difference.low < 0
    tokens = estimate([64.0] * 4, span="free")
    assert (tokens.value, tokens.low, tokens.high) == (64.0, None, None)


def test_no_cases_are_none_and_one_case_says_nothing() -> None:
    assert estimate([]) == Estimate(value=None)
    assert estimate([0.0, 0.0], None, [0.0, 0.0]) == Estimate(value=None)
    one = estimate([1.0])
    assert (one.value, one.low, one.high) == (1.0, 0.0, 1.0)


# --- published figures ------------------------------------------------------------------------------------------------


def _hallusion(rng: np.random.Generator, sets: int) -> list[ItemResult]:
    """Sets of two figures with two questions each; questions of a set are alike hard."""
    items = []
    for place in range(sets):
        rate = rng.beta(3, 1.5)
        for figure, question in itertools.product(range(2), range(2)):
            meta = {"l2_category": "chart", "set": str(place), "figure": str(figure), "question": str(question)}
            right = float(rng.random() < rate)
            items.append(made.item(f"{place}_{figure}_{question}", score=right, benchmark="HallusionBench", meta=meta))
    return items


def test_figures_that_group_items_have_the_error_of_an_ordinary_bootstrap() -> None:
    """By hand: whole sets drawn with replacement, every copy with a name of its own, so that groups stay apart."""
    benchmark, rng = BENCHMARKS["HallusionBench"], np.random.default_rng(5)
    items = _hallusion(rng, 60)
    by_set: dict[str, list[ItemResult]] = {}
    for item in items:
        by_set.setdefault(item.meta["set"], []).append(item)
    names, found = list(by_set), []
    for _ in range(250):
        resample = []
        for copy, place in enumerate(rng.integers(0, len(names), len(names))):
            for item in by_set[names[place]]:
                meta = {**item.meta, "set": f"{copy}"}
                resample.append(item.model_copy(update={"meta": meta, "problem": f"{copy}/{item.problem}"}))
        found.append(benchmark.figures(resample))
    ours = estimate_figures(benchmark, items)
    for name in ("aAcc", "fAcc", "qAcc", "overall"):
        one, value = ours[name], ours[name].value
        assert one.low is not None
        assert one.high is not None
        assert value is not None
        error = float(np.std([figures[name] or 0.0 for figures in found]))
        logit = math.log(one.high / (1 - one.high)) - math.log(one.low / (1 - one.low))
        assert logit * value * (1 - value) / 2 / t_quantile(59) == pytest.approx(error, rel=0.25)
        assert one.clusters == 60


def test_the_interval_of_a_figure_covers_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs of questions that count as right only together; each pair is a cluster, its questions alike hard."""
    monkeypatch.setattr(statistics, "_MOST", 100)
    rng, runs, hits = np.random.default_rng(6), 250, 0
    truth = stats.beta(3, 1.5).moment(2)  # both right, given the pair's rate
    for run in range(runs):
        rates = rng.beta(3, 1.5, 40)
        right = rng.random((40, 2)) < rates[:, None]
        items = [made.item(f"{k}/{i}", score=float(right[k, i])) for k in range(40) for i in range(2)]
        found = estimate_figures(_PAIRS, items, seed=run)["both"]
        hits += found.low is not None and found.high is not None and found.low <= truth <= found.high
    assert 0.91 <= hits / runs <= 0.985


def _both(items: Sequence[ItemResult]) -> dict[str, float | None]:
    right: dict[str, bool] = {}
    for item in items:
        name = item.problem.partition("/")[0]
        right[name] = right.get(name, True) and item.score == 1
    return {"both": sum(right.values()) / len(right)}


_PAIRS = replace(benchmark_of("pairs", {}), figures=_both, cluster=lambda item: item.problem.partition("/")[0])


def test_a_plain_mean_has_nearly_the_same_interval_both_ways() -> None:
    items = [made.item(str(place), score=float(place % 4 > 0)) for place in range(160)]
    mean = estimate([item.score or 0.0 for item in items])
    figure = estimate_figures(benchmark_of("x", {}), items)["overall"]
    assert figure.value == mean.value == 0.75
    assert figure.low == pytest.approx(mean.low, abs=0.02)
    assert figure.high == pytest.approx(mean.high, abs=0.02)


def test_a_figure_of_few_problems_has_the_interval_of_few() -> None:
    """Two right ones of one category do not become surer by forty of another, or by problems without a score."""
    many = [made.item(str(place), score=float(place % 3 > 0), kind="direct_attributes") for place in range(38)]
    few = [made.item(f"few-{place}", kind="relative_position") for place in range(2)]
    unscored = [made.item(f"none-{place}", score=None, kind="relative_position") for place in range(50)]
    found = estimate_figures(BENCHMARKS["VStarBench"], [*many, *few, *unscored])
    spatial = found["spatial"]
    assert (spatial.value, spatial.low, spatial.high) == (1.0, *wilson(2, 2))
    assert (spatial.n, spatial.clusters) == (2, 2)
    assert (found["overall"].n, found["overall"].clusters) == (40, 40)


def test_graded_scores_that_are_alike_have_an_interval() -> None:
    found = estimate_figures(benchmark_of("x", {}), [made.item(str(place), score=0.5) for place in range(4)])["overall"]
    assert (found.value, found.low, found.high) == (0.5, *wilson(2, 4))


def test_figures_without_cases_are_none() -> None:
    found = estimate_figures(benchmark_of("x", {}), [made.item(score=None)])["overall"]
    assert (found.value, found.low, found.high, found.n) == (None, None, None, 0)


# --- tests ------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 300), st.integers(0, 300))
def test_the_binomial_test_is_scipys(hits: int, misses: int) -> None:
    expected = stats.binomtest(hits, hits + misses, 0.5).pvalue if hits + misses else 1.0
    assert binomial_two_sided(hits, hits + misses) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_by_hand() -> None:
    """12 turned to right, 3 to wrong: 2 (1 + 15 + 105 + 455) / 2^15."""
    first, second = [1.0] * 12 + [0.0] * 3 + [1.0] * 40, [0.0] * 12 + [1.0] * 3 + [1.0] * 40
    found = compare_pairs(first, second)
    assert found.p == pytest.approx(2 * (1 + 15 + 105 + 455) / 2**15)
    assert (found.gained, found.lost, found.test) == (12, 3, "McNemar, exact")
    assert found.difference.value == pytest.approx(9 / 55)


def _enumerated(differences: Sequence[float]) -> float:
    observed = abs(sum(differences))
    sums = [abs(sum(s * d for s, d in zip(signs, differences, strict=True))) for signs in _signs(len(differences))]
    return sum(one >= observed - 1e-9 for one in sums) / len(sums)


def _signs(n: int) -> list[tuple[int, ...]]:
    return list(itertools.product((-1, 1), repeat=n))


@given(st.lists(st.sampled_from([-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=9))
def test_few_differences_are_all_tried(differences: list[float]) -> None:
    assert sign_flip(differences)[0] == pytest.approx(_enumerated(differences))


def test_many_differences_have_the_p_of_scipys_permutation_test() -> None:
    rng = np.random.default_rng(7)
    differences = np.round(rng.normal(0.1, 0.5, 60), 2)
    theirs = stats.permutation_test(
        (differences,), np.sum, permutation_type="samples", n_resamples=20_000, random_state=rng
    ).pvalue
    p, how = sign_flip(differences.tolist())
    assert p == pytest.approx(theirs, abs=0.012)
    assert "random" in how


def test_a_random_p_is_never_zero() -> None:
    p, _ = sign_flip([0.5] * 40 + [0.25] * 40, flips=1000)
    assert p == pytest.approx(1 / 1001)


def test_clusters_are_flipped_as_wholes() -> None:
    """Four orders of one question are one case: ten such gains are ten, not forty."""
    clusters = [str(place // 4) for place in range(40)]
    found = compare_pairs([1.0] * 40, [0.0] * 40, clusters)
    assert found.p == pytest.approx(2 / 2**10)
    assert found.test == "sign flip, exact"
    assert found.difference.clusters == 10


def test_a_test_on_equal_arms_errs_as_often_as_it_may() -> None:
    rng, hits = np.random.default_rng(8), 0
    for _ in range(800):
        first, second = rng.random((2, 60)) < 0.6
        hits += sign_flip((first.astype(float) - second.astype(float)).tolist())[0] < 0.05
    assert hits / 800 <= 0.06


def _closed(p_values: Sequence[float]) -> list[float]:
    """Holm's p by the closure principle: the worst Bonferroni test of all sets that hold the hypothesis."""
    places = range(len(p_values))
    sets = [chosen for size in places for chosen in itertools.combinations(places, size + 1)]
    return [max(min(1.0, len(s) * min(p_values[i] for i in s)) for s in sets if place in s) for place in places]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=7))
def test_holm_is_the_closed_test_of_bonferroni(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(_closed(p_values))


def test_what_was_not_tested_takes_no_part_in_the_correction() -> None:
    assert holm([0.01, None, 0.04]) == [0.02, None, 0.04]
    assert holm([]) == []


def test_a_verdict_needs_the_corrected_p() -> None:
    gains = compare_pairs([1.0] * 12 + [0.0] * 3, [0.0] * 12 + [1.0] * 3)
    assert gains.p is not None
    assert gains.p < 0.05
    assert gains.verdict == ""  # not corrected yet
    assert correct([gains])[0].verdict == "better"
    assert correct([gains, gains])[0].verdict == ""  # of two it is not enough
    losses = compare_pairs([0.0] * 12, [1.0] * 12)
    assert correct([losses])[0].verdict == "worse"


def test_nothing_to_compare_has_no_p() -> None:
    found = compare_pairs([], [])
    assert (found.p, found.difference.value, found.first, found.test) == (None, None, None, "")
    with pytest.raises(ValueError, match="2 scores"):
        compare_pairs([1.0, 0.0], [1.0])
