"""How sure a figure is, and whether two of them differ: bootstrap over clusters, paired tests, correction for many.

Items of one cluster (four orders of one question's options) are drawn together, flipped together, and never taken for
independent. Everything is seeded: the same items give the same intervals. None means that there were no cases.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from thyme.eval.benchmarks.base import Benchmark
from thyme.eval.items import ItemResult
from thyme.eval.scoring import wilson
from thyme.types import Record

LEVEL = 0.95
"""Of every interval."""
DRAWS = 4000
"""Resamples of a mean, and of a ratio of two."""
FLIPS = 100_000
"""Random changes of sign where there are too many to try them all."""
_VISITS = 100_000
"""Items that are looked at, all resamples together, for figures that only their benchmark can make."""
_LEAST, _MOST = 100, 500
"""Resamples of such figures; the more problems, the fewer."""
_CELLS = 4_000_000
"""Numbers in memory at once."""
_EXACT = 16
"""Clusters up to which every change of signs is tried."""
_ALIKE = 8
"""Clusters a sort from which resamples are drawn by how often each sort comes."""

Floats = NDArray[np.float64]
Span = Literal["share", "difference", "free"]
"""What values a figure can have: 0 to 1, -1 to 1, or any."""


class Estimate(Record):
    """A figure with its 95 % interval."""

    value: float | None
    low: float | None = None
    """None with the value, and where cases cannot tell: one cluster, or all alike, of a mean without bounds."""
    high: float | None = None
    n: int = 0
    """Cases it is made of."""
    clusters: int = 0
    """Independent ones among them."""


class Paired(Record):
    """Two arms, or two runs, on the same problems."""

    difference: Estimate
    """Mean of the first less the second."""
    first: float | None = None
    second: float | None = None
    """Mean of each, over the pairs."""
    gained: int = 0
    """Pairs in which the first is better."""
    lost: int = 0
    """Pairs in which it is worse."""
    p: float | None = None
    """Two-sided."""
    adjusted: float | None = None
    """`p` after Holm's correction over its family; None before."""
    test: str = ""
    """How `p` was found."""

    @property
    def verdict(self) -> str:
        """``better`` or ``worse`` at 5 % after correction, else empty."""
        if self.adjusted is None or self.adjusted >= 1 - LEVEL or not self.difference.value:
            return ""
        return "better" if self.difference.value > 0 else "worse"


# --- intervals --------------------------------------------------------------------------------------------------------


def estimate(
    values: Sequence[float],
    clusters: Sequence[str] | None = None,
    weights: Sequence[float] | None = None,
    *,
    span: Span = "share",
    seed: int = 0,
    draws: int = DRAWS,
) -> Estimate:
    """A mean, or a ratio of two sums, with its interval by the bootstrap over clusters.

    Whole clusters are drawn with replacement; the interval is that of percentiles, widened for few clusters as by a t
    quantile (Hesterberg 2015, "What teachers should know about the bootstrap", section 4.2). Where all cases are
    alike, so that every resample is too, it is that of Wilson over the clusters.

    Args:
        values: Numerators, one a case: scores, or code blocks that ended well.
        clusters: Name of each case's cluster; None takes every case for independent.
        weights: Denominators, one a case: code blocks; None is 1 each. Those of 0 count for nothing.
        span: What values the result can have.
        seed: Of the resamples.
        draws: How many resamples.
    """
    tops, bottoms = _by_cluster(values, clusters, weights)
    kept = bottoms > 0
    tops, bottoms = tops[kept], bottoms[kept]
    n = len(values) if weights is None else sum(1 for weight in weights if weight > 0)
    if not len(tops):
        return Estimate(value=None)
    value, count = float(tops.sum() / bottoms.sum()), len(tops)
    low, high = _interval(tops, bottoms, value, span, seed, draws)
    return Estimate(value=value, low=low, high=high, n=n, clusters=count)


def _interval(
    tops: Floats, bottoms: Floats, value: float, span: Span, seed: int, draws: int
) -> tuple[float | None, float | None]:
    count = len(tops)
    if count == 1:
        return (0.0, 1.0) if span == "share" else (-1.0, 1.0) if span == "difference" else (None, None)
    if np.allclose(tops, value * bottoms, rtol=1e-9, atol=1e-12):
        return _alike(value, count, span)
    ratios = _resampled(tops, bottoms, np.random.default_rng(seed), draws)
    tail = NormalDist().cdf(-math.sqrt(count / (count - 1)) * t_quantile(count - 1))
    low, high = np.quantile(ratios, [tail, 1 - tail])
    return float(low), float(high)


def _alike(value: float, count: int, span: Span) -> tuple[float | None, float | None]:
    """All cases give the same: nothing varies between resamples, and yet it is not known for certain."""
    if span == "share":
        return wilson(min(value, 1.0) * count, count)
    if span == "difference":
        reach = wilson(0, count)[1]
        return value - (1 + value) * reach, value + (1 - value) * reach  # as many may lie at either end
    return None, None


def _by_cluster(
    values: Sequence[float], clusters: Sequence[str] | None, weights: Sequence[float] | None
) -> tuple[Floats, Floats]:
    """Sums of values and of weights, one a cluster."""
    tops = np.asarray(values, dtype=float)
    bottoms = np.ones_like(tops) if weights is None else np.asarray(weights, dtype=float)
    if clusters is None or not len(tops):
        return tops, bottoms
    _, places = np.unique(np.asarray(clusters), return_inverse=True)
    sums = [np.asarray(np.bincount(places, weights=each), dtype=float) for each in (tops, bottoms)]
    return sums[0], sums[1]


def _resampled(tops: Floats, bottoms: Floats, rng: np.random.Generator, draws: int) -> Floats:
    """Ratio of each resample. Clusters with equal sums are one sort, and only how often a sort comes is drawn."""
    count = len(tops)
    sorts, often = np.unique(np.column_stack([tops, bottoms]), axis=0, return_counts=True)
    if len(sorts) * _ALIKE <= count:
        sums = rng.multinomial(count, often / count, size=draws) @ sorts
        return np.asarray(sums[:, 0] / sums[:, 1])
    ratios = []
    step = max(1, _CELLS // count)
    for start in range(0, draws, step):
        drawn = rng.integers(0, count, size=(min(step, draws - start), count))
        ratios.append(tops[drawn].sum(axis=1) / bottoms[drawn].sum(axis=1))
    return np.concatenate(ratios)


def t_quantile(freedom: int) -> float:
    """97.5 % quantile of Student's t, by the expansion around the normal one (Abramowitz and Stegun 26.7.5).

    Args:
        freedom: Degrees of freedom; the error is under 0.03 from 3 on.
    """
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    terms: tuple[float, ...] = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return math.fsum(term / float(freedom) ** power for power, term in enumerate(terms))


def estimate_figures(benchmark: Benchmark, items: Sequence[ItemResult], *, seed: int = 0) -> dict[str, Estimate]:
    """The published figures of a benchmark with their intervals, by the double-or-nothing bootstrap over clusters.

    In every resample a random half of the clusters counts twice and the other not at all, which has the variance of
    drawing with replacement (Præstgaard and Wellner 1993). No cluster is in a resample twice, so that figures which
    group items (all questions about one picture right) need not tell copies apart. The interval is symmetric on the
    logit scale, with a t quantile.

    Args:
        benchmark: Makes the figures.
        items: Of one arm.
        seed: Of the resamples.
    """
    figures = benchmark.figures(items)
    groups: dict[str, list[ItemResult]] = {}
    for item in items:
        groups.setdefault(benchmark.cluster(item), []).append(item)
    parts = [part for part in groups.values() if _scored(part)]
    halves = _halves(benchmark, parts, len(items), np.random.default_rng(seed))
    cases = _cases(benchmark, parts)
    made = {}
    for name, value in figures.items():
        n, clusters = cases.get(name) or (sum(map(_scored, parts)), len(parts))
        found = [figure for half in halves if (figure := half.get(name)) is not None]
        low, high = _logit_interval(value, found, clusters)
        made[name] = Estimate(value=value, low=low, high=high, n=n, clusters=clusters)
    return made


def _scored(part: Sequence[ItemResult]) -> int:
    return sum(item.score is not None for item in part)


def _cases(benchmark: Benchmark, parts: Sequence[Sequence[ItemResult]]) -> dict[str, tuple[int, int]]:
    """Scored items and clusters that each figure is made of: the clusters that alone would give it."""
    found: dict[str, tuple[int, int]] = {}
    for part in parts:
        for name, value in benchmark.figures(part).items():
            if value is not None:
                n, clusters = found.get(name, (0, 0))
                found[name] = n + _scored(part), clusters + 1
    return found


def _halves(
    benchmark: Benchmark, groups: Sequence[Sequence[ItemResult]], items: int, rng: np.random.Generator
) -> list[Mapping[str, float | None]]:
    """Figures of random halves of the clusters; the odd one is in every second of them."""
    count = len(groups)
    if count < 2:
        return []
    draws = min(_MOST, max(_LEAST, _VISITS // items))
    made = []
    for draw in range(draws):
        chosen = rng.permutation(count)[: (count + draw % 2) // 2]
        made.append(benchmark.figures([item for place in chosen for item in groups[place]]))
    return made


def _logit_interval(value: float | None, found: Sequence[float], clusters: int) -> tuple[float | None, float | None]:
    if value is None:
        return None, None
    if clusters < 2 or len(found) < 2:
        return 0.0, 1.0
    error = float(np.std(found, ddof=1)) * t_quantile(clusters - 1)
    if value in {0.0, 1.0} or (error == 0 and 0 < value < 1):
        return wilson(value * clusters, clusters)
    if not 0 < value < 1:
        return value - error, value + error
    centre, reach = math.log(value / (1 - value)), error / (value * (1 - value))
    return _logistic(centre - reach), _logistic(centre + reach)


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x))


# --- tests ------------------------------------------------------------------------------------------------------------


def compare_pairs(
    first: Sequence[float], second: Sequence[float], clusters: Sequence[str] | None = None, *, seed: int = 0
) -> Paired:
    """Compare scores on the same problems.

    Args:
        first: Scores, 0 to 1.
        second: Of the same problems in the same order.
        clusters: Name of each problem's cluster; None takes every problem for independent.
        seed: Of resamples and random signs.

    Raises:
        ValueError: There are not as many of one as of the other.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} scores cannot be paired with {len(second)}")
    differences = [a - b for a, b in zip(first, second, strict=True)]
    sums, _ = _by_cluster(differences, clusters, None)
    p, test = sign_flip(sums.tolist(), seed=seed)
    if test == _BINOMIAL and len(sums) == len(first) and set(first) | set(second) <= {0.0, 1.0}:
        test = "McNemar, exact"
    return Paired(
        difference=estimate(differences, clusters, span="difference", seed=seed),
        first=math.fsum(first) / len(first) if first else None,
        second=math.fsum(second) / len(second) if second else None,
        gained=sum(difference > 0 for difference in differences),
        lost=sum(difference < 0 for difference in differences),
        p=p if differences else None,
        test=test if differences else "",
    )


_BINOMIAL = "sign flip, exact"


def sign_flip(differences: Sequence[float], *, seed: int = 0, flips: int = FLIPS) -> tuple[float, str]:
    """Two-sided test that differences are as often positive as negative, each size for itself.

    With differences of one size it is the exact binomial test, which for 0 and 1 is McNemar's. With few, all changes of
    sign are tried; with many, random ones, and the observed signs count as one of them, so that p is never 0.

    Args:
        differences: One a cluster.
        seed: Of the random signs.
        flips: How many random signs.

    Returns:
        p, and how it was found.
    """
    values = np.asarray([value for value in differences if abs(value) > 1e-12], dtype=float)
    if not len(values):
        return 1.0, _BINOMIAL
    sizes, places = np.unique(np.round(np.abs(values), 12), return_inverse=True)
    if len(sizes) == 1:
        return binomial_two_sided(int((values > 0).sum()), len(values)), _BINOMIAL
    observed = abs(float(values.sum())) - 1e-9
    if len(values) <= _EXACT:
        signs = 1 - 2 * ((np.arange(1 << len(values))[:, None] >> np.arange(len(values))) & 1)
        return float(np.mean(np.abs(signs @ values) >= observed)), _BINOMIAL
    often = np.bincount(places)
    rng, hits, done = np.random.default_rng(seed), 0, 0
    while done < flips:
        step = min(flips - done, max(1, _CELLS // len(sizes)))
        sums = (2 * rng.binomial(often, 0.5, size=(step, len(sizes))) - often) @ sizes
        hits, done = hits + int((np.abs(sums) >= observed).sum()), done + step
    return (hits + 1) / (flips + 1), f"sign flip, {flips} random"


def binomial_two_sided(hits: int, n: int) -> float:
    """Exact two-sided p of so many hits in n fair tosses; 1 without tosses."""
    fewer, term, tail = min(hits, n - hits), 1, 0
    for k in range(fewer + 1):
        tail += term
        term = term * (n - k) // (k + 1)
    return min(1.0, 2 * tail / (1 << n))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusted p of a family of tests (Holm 1979), in the order given; None stays None and counts as no test."""
    order = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, place) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p))
        adjusted[place] = highest
    return adjusted


def correct(family: Sequence[Paired]) -> list[Paired]:
    """The comparisons of one family, each with its p corrected for all of them."""
    adjusted = holm([one.p for one in family])
    return [one.model_copy(update={"adjusted": p}) for one, p in zip(family, adjusted, strict=True)]
