"""A datasheet of what was exported: what it holds, how it came about, who may use it for what, in Markdown.

Its headings are those of "Datasheets for Datasets" (Gebru et al. 2021); what stands under them is counted here, or was
said by the publisher. What neither knows is named as not stated, so that nobody takes silence for an answer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median
from typing import Final

from thyme import __version__
from thyme.data.annotation.agreement import kappa
from thyme.data.annotation.left_out import LeftOut
from thyme.data.annotation.records import Annotation
from thyme.data.annotation.rules import share
from thyme.data.collect.folder import Collection, read_rejected

_NOT_STATED: Final = "*Not stated.*"
_SHARES: Final = (0.0001, 0.001, 0.005, 0.01, 0.02, 0.05, 1.0)
"""Upper ends of the classes of boxes' shares of the area."""
_SIDES: Final = (2048, 3072, 4096, 6144, 8192, 12288, 1 << 30)
"""Upper ends of the classes of longer sides, pixels."""
_MOST: Final = 20
"""Rows of a table of what has no fixed set of values."""

Source = tuple[Collection, Sequence[Annotation]]


@dataclass(frozen=True)
class Sheet:
    """What only the publisher knows."""

    title: str = ""
    purpose: str = ""
    """Why the set was made, and by whom."""
    licence: str = ""
    """Of questions, answers and boxes; pictures have their own."""
    contact: str = ""
    """Whom to ask, and who keeps it up."""


def datasheet(sources: Sequence[Source], chosen: Sequence[Annotation], left: Sequence[LeftOut], sheet: Sheet) -> str:
    """The sheet.

    Args:
        sources: Collections with all that was asked about them.
        chosen: What was written, people as they are named there.
        left: What was not written, and why.
        sheet: The publisher's words.
    """
    parts = [
        f"# {plain(sheet.title) or 'Questions about places in large images'}",
        f"Counted by thyme {__version__} when the set was written. A share is of the questions written, unless it says "
        "otherwise.",
        "## Motivation",
        plain(sheet.purpose) or _NOT_STATED,
        "## Composition",
        *_composition(chosen),
        "## Collection process",
        *_collected(sources, chosen),
        "## Preprocessing, cleaning and labelling",
        *_labelled(sources, chosen, left),
        "## Uses",
        "Made for training and measuring models that look closer at parts of an image: the box says where the answer "
        "is to be seen, and is for rewards and measures only, never for the prompt. Whoever measures on it must not "
        "train on it, nor on its pictures.",
        "## Distribution",
        f"Questions, answers and boxes: {plain(sheet.licence) or _NOT_STATED} Pictures are under their own licences:",
        table(("licence of the picture", "questions"), _most(annotation.licence for annotation in chosen)),
        "## Maintenance",
        plain(sheet.contact) or _NOT_STATED,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _composition(chosen: Sequence[Annotation]) -> Iterator[str]:
    images = {annotation.image.id: annotation.image for annotation in chosen}
    per_image = Counter(annotation.image.id for annotation in chosen)
    yield (
        f"{len(chosen)} questions about {len(images)} pictures"
        + (f", at most {max(per_image.values())} about one." if per_image else ".")
        + " Each has a picture, a question, an answer, the kind of the answer, a category, and the box in which the "
        "answer is to be seen."
    )
    yield table(("category", "questions"), Counter(one.category for one in chosen).most_common())
    yield table(("answer", "questions"), Counter(one.answer_type for one in chosen).most_common())
    options = Counter(len(one.choices) for one in chosen if one.choices)
    yield table(("options of a multiple-choice question", "questions"), sorted(options.items()))
    shares = [share(one.box, one.image.size) for one in chosen if one.box is not None]
    yield table(("share of the area that the box takes", "questions"), classed(shares, _SHARES, _percent))
    if shares:
        yield f"The box takes {_percent(min(shares))} to {_percent(max(shares))} of the area, in the median " + (
            f"{_percent(median(shares))}."
        )
    sides = [max(image.size) for image in images.values()]
    yield table(("longer side of the picture, pixels", "pictures"), classed(sides, _SIDES, lambda side: f"{side:.0f}"))
    if sides:
        pixels = [image.width * image.height / 1e6 for image in images.values()]
        yield f"Pictures have {min(pixels):.1f} to {max(pixels):.1f} megapixels, in the median {median(pixels):.1f}."
    yield table(("source of the picture", "questions"), _most(one.source for one in chosen))
    same = Counter(one.question.strip().lower() for one in chosen)
    alike = sum(count for count in same.values() if count > 1)
    yield f"{alike} questions share their words with another."


def _collected(sources: Sequence[Source], chosen: Sequence[Annotation]) -> Iterator[str]:
    rows = []
    refused: Counter[str] = Counter()
    for collection, asked in sources:
        turned_down = Counter(one.reason for one in read_rejected(collection.folder))
        refused.update(turned_down)
        rows.append((collection.name, len(collection.items), sum(turned_down.values()), len(asked)))
    yield "Pictures were taken from folders by rule, and people then asked about what they saw in them."
    yield table(("collection", "pictures taken", "files refused", "questions asked"), rows)
    yield table(("why a file was refused", "files"), refused.most_common())
    hidden = sum(bool(one.hidden_when_small) for one in chosen)
    yield (
        f"Of {len(chosen)} questions written, for {hidden} the author looked at the picture as a model first sees it, "
        "and could not answer from that."
    )


def _labelled(sources: Sequence[Source], chosen: Sequence[Annotation], left: Sequence[LeftOut]) -> Iterator[str]:
    everything = [annotation for _, asked in sources for annotation in asked]
    yield "Pictures were put upright and into RGB, and their metadata (place, device, thumbnails) were removed."
    yield table(("state of all that was asked", "questions"), Counter(one.state for one in everything).most_common())
    yield table(("why a question was not written", "questions"), Counter(one.reason for one in left).most_common())
    against = (check for one in everything for check in one.checks if check.verdict in {"reject", "return"})
    told = (check.reason.partition(":")[0] for check in against)  # what follows are people's own words
    yield table(("reason for turning a question down", "times"), _most(told))
    yield table(("person", "asked", "answered", "judged"), _people(chosen))
    yield from _agreed(everything)


def _people(chosen: Sequence[Annotation]) -> list[tuple[str, int, int, int]]:
    asked = Counter(one.author for one in chosen)
    answered = Counter(check.person for one in chosen for check in one.checks if check.role == "second")
    judged = Counter(check.person for one in chosen for check in one.checks if check.role != "second")
    names = sorted({*asked, *answered, *judged}, key=lambda name: (-asked[name], name))
    return [(name or "(unknown)", asked[name], answered[name], judged[name]) for name in names]


def _agreed(everything: Sequence[Annotation]) -> Iterator[str]:
    """How far people agree, on all that was asked: those who did not are in what was left out."""
    firsts = [check for one in everything for check in one.checks[:1] if check.role == "second"]
    said = [check.agrees for check in firsts if check.agrees is not None]
    if said:
        yield f"A second person, who did not see the answer, gave the same one in {sum(said)} of {len(said)} questions."
    else:
        yield "No question was answered by a second person."
    pairs = Counter(
        (one.category, check.category) for one in everything for check in one.checks if check.role == "second"
        and one.category and check.category
    )  # fmt: skip
    yield f"Category, author and second person: Cohen's kappa {_kappa(pairs)}."
    yield f"Verdicts of experts: mean Cohen's kappa of pairs {_experts(everything)}."


def _experts(everything: Sequence[Annotation]) -> str:
    tables: dict[tuple[str, str], Counter[tuple[str, str]]] = {}
    for one in everything:
        verdicts = {check.person: check.verdict for check in one.checks if check.role == "expert"}
        for first, second in combinations(sorted(verdicts), 2):
            pair = tables.setdefault((first, second), Counter())
            pair[verdicts[first], verdicts[second]] += 1
    found = [value for pair in tables.values() if (value := kappa(pair)) is not None]
    return f"{sum(found) / len(found):.2f} of {len(found)}" if found else "not defined"


def _kappa(pairs: Counter[tuple[str, str]]) -> str:
    value = kappa(pairs)
    return "not defined" if value is None else f"{value:.2f} over {sum(pairs.values())} questions"


def _most(values: Iterable[str]) -> list[tuple[str, int]]:
    counted = Counter(value or "(not known)" for value in values)
    rows = counted.most_common(_MOST)
    rest = sum(counted.values()) - sum(count for _, count in rows)
    return [*rows, (f"{len(counted) - _MOST} others", rest)] if rest else rows


def classed(values: Iterable[float], ends: Sequence[float], say: Callable[[float], str]) -> list[tuple[str, int]]:
    """How many values lie in each class; those above all ends but the last are the last class.

    Args:
        values: Any.
        ends: Upper ends, included, ascending.
        say: Words for an end.
    """
    counts = [0] * len(ends)
    for value in values:
        counts[next((place for place, end in enumerate(ends) if value <= end), len(ends) - 1)] += 1
    names = [f"up to {say(end)}" for end in ends[:-1]] + [f"above {say(ends[-2])}"]
    return [(name, count) for name, count in zip(names, counts, strict=True) if count]


def _percent(value: float) -> str:
    return f"{value * 100:.2g} %"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; nothing where there are no rows. Cells may be strangers' words."""
    if not rows:
        return ""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *[[plain(str(cell)) for cell in row] for row in rows]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plain(text: str) -> str:
    """Words in one line in which nothing is markup: no table, link, picture or HTML comes of them."""
    shown = "".join(sign if sign.isprintable() else " " for sign in text)
    return re.sub(r"([\\`*_{}\[\]()<>#|!~&])", r"\\\1", " ".join(shown.split()))
