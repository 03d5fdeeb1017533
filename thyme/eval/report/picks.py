"""The trajectories that a report shows: where code helped, where it hurt, where the model looked elsewhere.

Which ones of a sort are shown is decided by a hash of the run's seed and the problem, not by anybody's taste, and the
report says how many there are of each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from thyme.eval.flips import is_right
from thyme.eval.items import NO_TOOLS, TOOLS, ItemResult
from thyme.eval.worth import covered, lucky

Other = ItemResult | None
MOST = 12
"""Problems shown on a page."""
EACH = 3
"""Of one sort, over all benchmarks."""


@dataclass(frozen=True, slots=True)
class Sort:
    """A sort of outcome worth reading."""

    name: str
    title: str
    about: str
    good: bool
    fits: Callable[[ItemResult, Other], bool]
    """Of the item with code, and the same problem's item without."""


@dataclass(frozen=True, slots=True)
class Pick:
    """A problem to show."""

    item: ItemResult
    other: Other


@dataclass(frozen=True, slots=True)
class Picked:
    """What is shown of a sort."""

    sort: Sort
    count: int
    """How many there are in the run, those that are shown under another sort as well."""
    picks: Sequence[Pick]


def _scored(item: Other) -> bool:
    return item is not None and item.score is not None


def _helped(item: ItemResult, other: Other) -> bool:
    return item.used_code and is_right(item) and other is not None and _scored(other) and not is_right(other)


def _hurt(item: ItemResult, other: Other) -> bool:
    return item.used_code and _scored(item) and not is_right(item) and other is not None and is_right(other)


def _blind(item: ItemResult, other: Other) -> bool:
    return _scored(item) and not is_right(item) and covered(item)


def _broke(item: ItemResult, other: Other) -> bool:
    return _scored(item) and not is_right(item) and item.blocks > item.ran


SORTS = (
    Sort("helped", "Code helped", "Right with code, wrong without.", True, _helped),
    Sort("hurt", "Code hurt", "Wrong with code, right without.", False, _hurt),
    Sort(
        "lucky",
        "Right, and looked elsewhere",
        "The answer is right, and no crop shows the target.",
        False,
        lambda item, other: lucky(item),
    ),
    Sort("blind", "Looked at it, and still wrong", "A crop shows the target, the answer is wrong.", False, _blind),
    Sort("broke", "Code failed", "A block ended with an error, the answer is wrong.", False, _broke),
    Sort(
        "right",
        "Right with code",
        "There is no answer without code to compare with.",
        True,
        lambda item, other: other is None and item.used_code and is_right(item),
    ),
    Sort(
        "wrong",
        "Wrong with code",
        "There is no answer without code to compare with.",
        False,
        lambda item, other: other is None and item.used_code and _scored(item) and not is_right(item),
    ),
)
"""In the order of the page; a problem is shown under the first that it fits."""


def pick(items: Sequence[ItemResult], *, seed: int = 0, each: int = EACH, most: int = MOST) -> list[Picked]:
    """Choose what to show.

    Args:
        items: Of a whole run.
        seed: Of the choice.
        each: Most of one sort.
        most: Most of all sorts.

    Returns:
        The sorts of which there are any.
    """
    others = {(item.benchmark, item.problem): item for item in items if item.arm == NO_TOOLS}
    found: dict[str, list[Pick]] = {sort.name: [] for sort in SORTS}
    counts = dict.fromkeys(found, 0)
    for item in items:
        if item.arm != TOOLS or item.failed:
            continue
        other = others.get((item.benchmark, item.problem))
        sorts = [sort.name for sort in SORTS if sort.fits(item, other)]
        for name in sorts:
            counts[name] += 1
        for name in sorts[:1]:
            found[name].append(Pick(item, other))
    chosen, left = [], most
    for sort in SORTS:
        shown = _spread(sorted(found[sort.name], key=lambda one: _order(seed, one.item)))[: min(each, left)]
        left -= len(shown)
        if counts[sort.name]:
            chosen.append(Picked(sort, counts[sort.name], shown))
    return chosen


def _spread(picks: Sequence[Pick]) -> list[Pick]:
    """The first of each benchmark before the second of any."""
    seen: dict[str, int] = {}
    turns = []
    for one in picks:
        turns.append(seen.get(one.item.benchmark, 0))
        seen[one.item.benchmark] = turns[-1] + 1
    return [one for _, one in sorted(zip(turns, picks, strict=True), key=lambda pair: pair[0])]


def _order(seed: int, item: ItemResult) -> bytes:
    return hashlib.blake2b(f"{seed}/{item.benchmark}/{item.problem}".encode(), digest_size=8).digest()
