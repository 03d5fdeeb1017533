"""Keep as many problems of each category as are wanted; who stays is decided by a hash, not by the order of rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import floor
from typing import Final

from thyme.config.rl_filter import BalanceStep
from thyme.data.factory.shuffle import number
from thyme.data.filter.records import Seen

STEP: Final = "balance"
NONE: Final = "(none)"
"""Category of rows that have none."""


def category(seen: Seen, by: str) -> str:
    """What a row counts as."""
    return str(getattr(seen, by)) or NONE


def quotas(found: Mapping[str, int], settings: BalanceStep) -> dict[str, int]:
    """How many of each category are kept.

    Args:
        found: How many there are of each.
        settings: What is wanted. ``shares`` first, then ``each``, ``ratio`` and ``count``, which takes from the largest
            categories first, or from all by their shares.

    Returns:
        By category; those that are not wanted have 0.
    """
    kept = dict(found)
    if settings.shares:
        kept = _in_shares(found, settings)
    if settings.each is not None:
        kept = {name: min(one, settings.each) for name, one in kept.items()}
    if settings.ratio is not None and (some := [one for one in kept.values() if one]):
        most = floor(settings.ratio * min(some))
        kept = {name: min(one, most) for name, one in kept.items()}
    if settings.count is not None and not settings.shares:
        kept = _levelled(kept, settings.count)
    return kept


def _in_shares(found: Mapping[str, int], settings: BalanceStep) -> dict[str, int]:
    """The most that can be had in these shares."""
    total = sum(settings.shares.values())
    shares = {name: share / total for name, share in settings.shares.items()}
    # The tiny amount makes up for what 3 / 0.3 loses below 10.
    whole = min(found.get(name, 0) / share for name, share in shares.items()) + 1e-9
    whole = whole if settings.count is None else min(whole, settings.count + 1e-9)
    return {name: floor(whole * shares[name]) if name in shares else 0 for name in {**found, **shares}}


def _levelled(kept: Mapping[str, int], count: int) -> dict[str, int]:
    """At most so many together, the smallest categories whole, the others alike."""
    left, result = count, {}
    names = sorted(kept, key=lambda name: (kept[name], name))
    for place, name in enumerate(names):
        result[name] = min(kept[name], left // (len(names) - place))
        left -= result[name]
    return {name: result[name] for name in kept}


def balanced(rows: Iterable[Seen], settings: BalanceStep, seed: int) -> set[str] | None:
    """Ids of the rows that are kept of those that are still in; None where nothing is asked for.

    Args:
        rows: All, in any order; of each one that is still in, its id is in memory.
        settings: What is wanted.
        seed: Of the recipe.
    """
    if settings == BalanceStep(by=settings.by):
        return None
    found: dict[str, list[tuple[int, str]]] = {}
    for seen in rows:
        if seen.kept:
            found.setdefault(category(seen, settings.by), []).append((number(seed, "balance", seen.id), seen.id))
    kept = quotas({name: len(ids) for name, ids in found.items()}, settings)
    return {id for name, ids in found.items() for _, id in sorted(ids)[: kept[name]]}


def without_surplus(rows: Iterable[Seen], kept: set[str] | None, settings: BalanceStep) -> Iterator[Seen]:
    """All rows, those dropped that are too many of their category."""
    for seen in rows:
        if kept is None or not seen.kept or seen.id in kept:
            yield seen
            continue
        name = category(seen, settings.by)
        unwanted = settings.shares and name not in settings.shares
        yield seen.drop(STEP, "category" if unwanted else "surplus", name)
