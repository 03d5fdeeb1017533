"""Rules about crops: where they were cut out, against where the target is."""

from __future__ import annotations

import re
from collections.abc import Sequence

from thyme.data.drafts import Draft
from thyme.data.scenarios.base import Refusal
from thyme.data.scenarios.boxes import Box, area, cover
from thyme.data.scenarios.places import Place, places
from thyme.data.scenarios.written import texts

WHOLE = 0.9
"""Share of a target that a crop has to hold; boxes are drawn by hand."""
MISSED = 0.3
"""Share of a target up to which a crop does not show it."""
ROOM = 4.0
"""Times its area that a crop of a target may be."""
SMALL = 0.1
"""Share of the picture up to which a crop is never too large."""
TIGHTER = 1.5
"""Times the area of the second look that the first one is at least."""

_NO_CROP = Refusal("no_crop", "no image that the code made shows a part of the picture, as it is")


def covers(draft: Draft) -> Refusal | None:
    """Each target lies whole in a crop that is not much larger than it."""
    found, targets = _parts(draft), _targets(draft)
    if not found:
        return _NO_CROP
    for target in targets:
        holding = [place.box for place in found if cover(place.box, target) >= WHOLE]
        if not holding:
            return Refusal("misses_target", f"no crop holds {target}; cut out was {_named(found)}")
        if not any(_tight(box, target, draft) for box in holding):
            return Refusal("loose_crop", f"{target} lies in {_named(found)} only, much larger than it")
    return None


def loosely_then_tightly(draft: Draft) -> Refusal | None:
    """The first crop holds the target with its surroundings, a later one holds it tightly."""
    found, target = _parts(draft), _targets(draft)[0]
    if not found:
        return _NO_CROP
    first, later = found[0], [place for place in found if place.block > found[0].block]
    if not later:
        return Refusal("one_look", "a second block that cuts something out is missing")
    if cover(first.box, target) < WHOLE:
        return Refusal("first_misses", f"the first look {first.box} does not hold {target}")
    holding = [place.box for place in later if cover(place.box, target) >= WHOLE]
    if not holding:
        return Refusal("misses_target", f"no later look holds {target}; cut out was {_named(later)}")
    if not any(area(first.box) >= TIGHTER * area(box) and _tight(box, target, draft) for box in holding):
        return Refusal("not_tighter", f"no later look is clearly narrower than {first.box}: {_named(later)}")
    return None


_NOTICED = re.compile(
    r"\b(?:not|no|nothing|none|neither|nowhere|without|wrong|incorrect|mistake\w*|miss\w*|empty|absent|elsewhere|instead"
    r"|outside|different|fails?|failed|only|cannot|\w+n['’]t)\b",
    re.IGNORECASE,
)


def wrong_then_right(draft: Draft) -> Refusal | None:
    """The first crop shows nothing of the target, the text says so, and a later one holds the target."""
    found, target = _parts(draft), _targets(draft)[0]
    if not found:
        return _NO_CROP
    first, later = found[0], [place for place in found if place.block > found[0].block]
    if cover(first.box, target) > MISSED:
        return Refusal("first_right", f"the first look {first.box} shows {target} already")
    holding = [place for place in later if cover(place.box, target) >= WHOLE]
    if not holding:
        return Refusal("not_corrected", f"no later look holds {target}; cut out was {_named(found)}")
    if not any(_tight(place.box, target, draft) for place in holding):
        return Refusal("loose_crop", f"{target} lies in {_named(holding)} only, much larger than it")
    between = " ".join(texts(draft)[first.block + 1 : holding[0].block + 1])
    if not _NOTICED.search(between):
        return Refusal("unnoticed", "the text does not say that the first look shows something else")
    return None


def _parts(draft: Draft) -> list[Place]:
    """Images that show less than the whole picture."""
    whole = area((0, 0, *draft.problem.images[0].size))
    return [place for place in places(draft) if area(place.box) < whole]


def _targets(draft: Draft) -> list[Box]:
    return [(box[0], box[1], box[2], box[3]) for box in draft.hints["boxes"]]


def _tight(box: Box, target: Box, draft: Draft) -> bool:
    width, height = draft.problem.images[0].size
    return area(box) <= max(ROOM * area(target), SMALL * width * height)


def _named(found: Sequence[Place]) -> str:
    return ", ".join(str(place.box) for place in found)
