"""Figures as the report shows them: percent with one decimal, intervals, p."""

from __future__ import annotations

from dataclasses import dataclass

from thyme.eval.statistics import Estimate, Paired

NONE = "–"
SPACE = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True, slots=True)
class Cell:
    """A figure in a table."""

    value: str
    note: str = ""
    """Its interval, or how much of what it is."""
    verdict: str = ""
    """``better``, ``worse``, or empty."""


EMPTY = Cell(NONE)


@dataclass(frozen=True, slots=True)
class Bar:
    """A difference as a line on a common scale, -50 to 50."""

    low: float
    middle: float
    high: float
    verdict: str


def percent(value: float | None, *, digits: int = 1) -> str:
    """A share in percent, without the sign."""
    return NONE if value is None else f"{100 * value:.{digits}f}"


def signed(value: float | None) -> str:
    """A difference of shares in points, with its sign."""
    return NONE if value is None else f"{100 * value:+.1f}".replace("-", "−")


def interval(one: Estimate) -> str:
    """The 95 % interval of a share in percent; empty where there is none."""
    if one.low is None or one.high is None:
        return ""
    return f"{percent(one.low)} to {percent(one.high)}"


def reach(one: Estimate) -> str:
    """The 95 % interval of a difference in points; empty where there is none."""
    if one.low is None or one.high is None:
        return ""
    return f"{signed(one.low)} to {signed(one.high)}"


def share(one: Estimate, *, of: bool = False) -> Cell:
    """A share with its interval.

    Args:
        one: The share.
        of: Whether to say how many cases it is of.
    """
    if one.value is None:
        return EMPTY
    return Cell(percent(one.value), ", ".join(part for part in (interval(one), f"n {one.n}" if of else "") if part))


def amount(one: Estimate) -> Cell:
    """A mean that is no share, with its interval."""
    if one.value is None:
        return EMPTY
    digits = 0 if one.value >= 100 else 1 if one.value >= 10 else 2
    ends = "" if one.low is None or one.high is None else f"{one.low:.{digits}f} to {one.high:.{digits}f}"
    return Cell(f"{one.value:.{digits}f}", ends)


def p_value(p: float | None) -> str:
    """A p as it is printed."""
    if p is None:
        return NONE
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def difference(one: Paired | None) -> Cell:
    """A difference in points, coloured where it is significant after correction."""
    if one is None or one.difference.value is None:
        return EMPTY
    return Cell(signed(one.difference.value), reach(one.difference), one.verdict)


def bar(one: Paired | None, scale: float) -> Bar | None:
    """A difference as a line; None where there is nothing to draw.

    Args:
        one: The comparison.
        scale: The largest difference that is drawn, a share.
    """
    if one is None or one.difference.value is None or one.difference.low is None or one.difference.high is None:
        return None
    places = (one.difference.low, one.difference.value, one.difference.high)
    low, middle, high = (50 * max(-1.0, min(1.0, place / scale)) for place in places)
    return Bar(low, middle, high, one.verdict)


def scale_of(pairs: list[Paired]) -> float:
    """A common scale: the furthest end of all intervals, rounded up to five points."""
    ends = [abs(end) for one in pairs for end in (one.difference.low, one.difference.high) if end is not None]
    return max(1, -(-round(100 * max(ends, default=0.05), 6) // 5)) * 5 / 100


def against_published(ours: Estimate, published: float | None) -> Cell:
    """A published figure beside ours, which is coloured where the published one lies outside of its interval.

    Args:
        ours: With its interval.
        published: Percent.
    """
    if published is None:
        return EMPTY
    if ours.value is None or ours.low is None or ours.high is None:
        return Cell(f"{published:.1f}")
    gap = ours.value - published / 100
    verdict = "better" if ours.low > published / 100 else "worse" if ours.high < published / 100 else ""
    return Cell(f"{published:.1f}", f"{signed(gap)} ours", verdict)
