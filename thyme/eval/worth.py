"""What tool use is worth: how often code is used and runs, what it costs, where it helps, where the model looked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from thyme.eval.flips import Flips, Key, compare, flips, is_right, pair
from thyme.eval.items import ItemResult
from thyme.eval.statistics import Estimate, Paired, estimate
from thyme.types import Record

CATEGORY, SIZE, SHOWN = "category", "image size", "how much of the image the model is shown"
"""What problems are grouped by."""
_SIZES = ((1e6, "under 1 megapixel"), (4e6, "1 to 4 megapixels"), (16e6, "4 to 16 megapixels"))
_LARGEST = "16 megapixels and more"
_SHOWN = ((0.1, "under 10 % of its pixels"), (0.5, "10 to 50 % of its pixels"), (0.9, "50 to 90 % of its pixels"))
_WHOLE = "90 % of its pixels and more"
_BINS = 4
_FEWEST = 2
"""Problems from which a group is shown."""


class Worth(Record):
    """An arm in figures. Items whose machinery failed count in no rate."""

    arm: str
    n: int
    """Problems, whatever became of them."""
    failed: int
    """Of these, engine or sandbox failed."""
    unscored: int
    """Of those that did not fail, no score came: the judge failed, or there is no reference."""
    unanswered: int
    """Of those that did not fail, the model gave no answer."""
    judged: int
    """Of the scored, a judge had the last word."""
    accuracy: Estimate
    """Mean score of the scored."""
    tool_rate: Estimate
    """Problems in which code ran."""
    executable: Estimate
    """Of the code blocks that ran, those that ended without an error."""
    repaired: Estimate
    """Of the code blocks that ran, those in which something was repaired."""
    rounds: Estimate
    """Code blocks a problem in which any ran."""
    generated_tokens: Estimate
    """A problem; so are the next ones."""
    observation_tokens: Estimate
    prompt_tokens: Estimate
    seconds: Estimate


class Group(Record):
    """Part of a benchmark's problems, with code and without."""

    by: str
    """`CATEGORY`, `SIZE` or `SHOWN`."""
    name: str
    n: int
    tool_rate: Estimate
    executable: Estimate
    accuracy: Estimate
    """With code, of all scored problems."""
    versus: Paired | None = None
    """With code less without, on the problems that both have; None where one of the arms is missing."""
    flips: Flips | None = None


class Spent(Record):
    """Problems of like length: the accuracy of those that took about as many tokens."""

    tokens: float
    """Mean of tokens that the model wrote."""
    seconds: float
    """Mean wall clock."""
    accuracy: Estimate


class Looking(Record):
    """Where the model looked, on problems whose target is known."""

    arm: str
    known: int
    """Problems with a known target that did not fail."""
    cropped: Estimate
    """Of these, a crop came back."""
    covered: Estimate
    """Of those with a crop, one crop shows the target."""
    coverage: Estimate
    """Mean of the largest share of the target that a crop shows; of those with a crop."""
    iou: Estimate
    """Mean of the largest intersection over union with the target; of those with a crop."""
    right_covered: Estimate
    """Accuracy where a crop shows the target."""
    right_missed: Estimate
    """Accuracy where there are crops and none shows it."""
    right_uncropped: Estimate
    """Accuracy without a crop."""


def worth(arm: str, items: Sequence[ItemResult], cluster: Key, *, seed: int = 0) -> Worth:
    """The figures of an arm.

    Args:
        arm: Its name.
        items: Of it.
        cluster: Name of an item's cluster.
        seed: Of the resamples.
    """
    told = [item for item in items if not item.failed]
    code = [item for item in told if item.used_code]
    known = [item for item in told if item.score is not None]

    def mean(cases: Sequence[ItemResult], value: Callable[[ItemResult], float], *, share: bool = False) -> Estimate:
        return _mean(cases, value, cluster, seed, share=share)

    blocks = [float(item.blocks) for item in code]
    names = [cluster(item) for item in code]
    return Worth(
        arm=arm,
        n=len(items),
        failed=len(items) - len(told),
        unscored=len(told) - len(known),
        unanswered=sum(item.prediction is None for item in told),
        judged=sum(item.judged for item in known),
        accuracy=mean(known, _score, share=True),
        tool_rate=mean(told, lambda item: item.used_code, share=True),
        executable=estimate([item.ran for item in code], names, blocks, seed=seed),
        repaired=estimate([item.repaired for item in code], names, blocks, seed=seed),
        rounds=mean(code, lambda item: item.blocks),
        generated_tokens=mean(told, lambda item: item.generated_tokens),
        observation_tokens=mean(told, lambda item: item.observation_tokens),
        prompt_tokens=mean(told, lambda item: item.prompt_tokens),
        seconds=mean(told, lambda item: item.seconds),
    )


def _score(item: ItemResult) -> float:
    return item.score or 0.0


def _mean(
    cases: Sequence[ItemResult], value: Callable[[ItemResult], float], cluster: Key, seed: int, *, share: bool = False
) -> Estimate:
    values, names = [float(value(item)) for item in cases], [cluster(item) for item in cases]
    return estimate(values, names, span="share" if share else "free", seed=seed)


# --- by category and by size ------------------------------------------------------------------------------------------


def groups(tools: Sequence[ItemResult], without: Sequence[ItemResult], cluster: Key, *, seed: int = 0) -> list[Group]:
    """Every group of problems by category, by image size, and by how much of the image the model is shown.

    Args:
        tools: The arm with code.
        without: The arm without, if there is one.
        cluster: Name of an item's cluster.
        seed: Of resamples and random signs.
    """
    made = []
    for by, name_of, order in _KEYS:
        parts: dict[str, list[ItemResult]] = {}
        for item in tools:
            parts.setdefault(name_of(item), []).append(item)
        parts = {name: part for name, part in parts.items() if name and len(part) >= _FEWEST}
        if len(parts) > 1:  # one alone says what the whole says
            names = [name for name in order if name in parts] or sorted(parts)
            made += [_group(by, name, parts[name], without, cluster, seed) for name in names]
    return made


def _group(
    by: str, name: str, tools: Sequence[ItemResult], without: Sequence[ItemResult], cluster: Key, seed: int
) -> Group:
    figures = worth("", tools, cluster, seed=seed)
    pairs = pair(tools, without)
    return Group(
        by=by,
        name=name,
        n=len(tools),
        tool_rate=figures.tool_rate,
        executable=figures.executable,
        accuracy=figures.accuracy,
        versus=compare(pairs, cluster, seed=seed) if pairs else None,
        flips=flips(pairs) if pairs else None,
    )


def size_of(item: ItemResult) -> str:
    """Size of the largest image, in words; empty without images."""
    pixels = max((width * height for width, height in item.image_sizes), default=0)
    if not pixels:
        return ""
    return next((name for bound, name in _SIZES if pixels < bound), _LARGEST)


def shown_of(item: ItemResult) -> str:
    """How much of its most reduced image the model is shown, in words; empty where unknown."""
    if not item.image_sizes or len(item.image_sizes) != len(item.seen_sizes):
        return ""
    both = zip(item.image_sizes, item.seen_sizes, strict=True)
    share = min(seen[0] * seen[1] / max(1, full[0] * full[1]) for full, seen in both)
    return next((name for bound, name in _SHOWN if share < bound), _WHOLE)


_KEYS: tuple[tuple[str, Callable[[ItemResult], str], tuple[str, ...]], ...] = (
    (CATEGORY, lambda item: item.kind, ()),
    (SIZE, size_of, (*(name for _, name in _SIZES), _LARGEST)),
    (SHOWN, shown_of, (*(name for _, name in _SHOWN), _WHOLE)),
)


# --- cost -------------------------------------------------------------------------------------------------------------


def by_length(items: Iterable[ItemResult], cluster: Key, *, bins: int = _BINS, seed: int = 0) -> list[Spent]:
    """Accuracy of problems by how much the model wrote, in parts of about equal size, the shortest first."""
    known = sorted((item for item in items if item.score is not None), key=lambda item: item.generated_tokens)
    if len(known) < 2 * bins:
        return []
    parts = [[known[place] for place in places] for places in np.array_split(np.arange(len(known)), bins)]
    return [
        Spent(
            tokens=float(np.mean([item.generated_tokens for item in part])),
            seconds=float(np.mean([item.seconds for item in part])),
            accuracy=_mean(part, _score, cluster, seed, share=True),
        )
        for part in parts
    ]


# --- where it looked --------------------------------------------------------------------------------------------------


def looking(arm: str, items: Iterable[ItemResult], cluster: Key, *, seed: int = 0) -> Looking | None:
    """Whether crops show the target; None where no target is known.

    Args:
        arm: Its name.
        items: Of it.
        cluster: Name of an item's cluster.
        seed: Of the resamples.
    """
    known = [item for item in items if not item.failed and item.meta.get("boxes")]
    if not known:
        return None
    crops = [item for item in known if _cropped(item)]

    def right(cases: Iterable[ItemResult]) -> Estimate:
        scored = [item for item in cases if item.score is not None]
        return _mean(scored, _score, cluster, seed, share=True)

    return Looking(
        arm=arm,
        known=len(known),
        cropped=_mean(known, _cropped, cluster, seed, share=True),
        covered=_mean(crops, covered, cluster, seed, share=True),
        coverage=_mean(crops, lambda item: _fact(item, "coverage"), cluster, seed, share=True),
        iou=_mean(crops, lambda item: _fact(item, "iou"), cluster, seed, share=True),
        right_covered=right(item for item in crops if covered(item)),
        right_missed=right(item for item in crops if not covered(item)),
        right_uncropped=right(item for item in known if not _cropped(item)),
    )


def covered(item: ItemResult) -> bool:
    """Whether a crop shows the target."""
    return item.faithfulness is not None and item.faithfulness.covered is True


def missed(item: ItemResult) -> bool:
    """Whether there are crops, and it is known that none shows the target."""
    return _cropped(item) and not covered(item)


def lucky(item: ItemResult) -> bool:
    """Whether the answer is right although every crop missed the target."""
    return missed(item) and is_right(item)


def _cropped(item: ItemResult) -> bool:
    """Whether a crop of a certain place came back; code that gave no image at all is no crop that missed."""
    return item.faithfulness is not None and item.faithfulness.coverage is not None


def _fact(item: ItemResult, name: str) -> float:
    value = getattr(item.faithfulness, name, None)
    return 0.0 if value is None else float(value)
