"""Means over items, by category and over groups that count only as a whole.

An item without a score is left out of a mean. A problem that stands in the items several times (a bootstrap's resample)
counts as often, in groups too.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from thyme.eval.items import ItemResult

Key = Callable[[ItemResult], str]


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of what is not None; None without cases."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def accuracy(items: Iterable[ItemResult]) -> float | None:
    """Mean score; None without scored items."""
    return mean(item.score for item in items)


def fact(name: str) -> Key:
    """A fact of `ItemResult.meta` as text; empty where the item has none."""
    return lambda item: str(item.meta.get(name, ""))


def kind(item: ItemResult) -> str:
    """Main category."""
    return item.kind


def split_by(items: Iterable[ItemResult], key: Key) -> dict[str, list[ItemResult]]:
    """Items by key, keys in alphabetical order; those without one are left out."""
    found: dict[str, list[ItemResult]] = defaultdict(list)
    for item in items:
        if name := key(item):
            found[name].append(item)
    return dict(sorted(found.items()))


def by_category(items: Iterable[ItemResult], key: Key = kind) -> dict[str, float | None]:
    """Accuracy of each category."""
    return {name: accuracy(part) for name, part in split_by(items, key).items()}


def overall(*keys: Key) -> Callable[[Sequence[ItemResult]], dict[str, float | None]]:
    """Figures: ``overall``, the mean over all items, and that of each category by these keys."""

    def figures(items: Sequence[ItemResult]) -> dict[str, float | None]:
        parts: dict[str, float | None] = {}
        for key in keys:
            parts |= by_category(items, key)
        return {"overall": accuracy(items), **parts}

    return figures


def groups(items: Iterable[ItemResult], key: Key) -> list[tuple[int, dict[str, ItemResult]]]:
    """Groups of items: how often each stands in the items, and its members by problem.

    Cases are resampled by whole clusters, so all members of a group stand there equally often.
    """
    times: Counter[tuple[str, str]] = Counter()
    found: dict[str, dict[str, ItemResult]] = defaultdict(dict)
    for item in items:
        name = key(item)
        found[name][item.problem] = item
        times[name, item.problem] += 1
    return [(max(times[name, problem] for problem in members), members) for name, members in found.items()]


def all_right(items: Iterable[ItemResult], key: Key) -> float | None:
    """Share of the groups in which every member is right.

    One wrong member decides; a group that lacks a score and has no wrong member is left out.
    """
    right = total = 0
    for times, members in groups(items, key):
        scores: list[Any] = [item.score for item in members.values()]
        wrong = any(score is not None and score < 1 for score in scores)
        if wrong or None not in scores:
            right, total = right + times * (not wrong), total + times
    return right / total if total else None
