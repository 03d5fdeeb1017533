"""Rule about faint pictures: was the contrast really raised, and is it still the same picture?"""

from __future__ import annotations

from typing import Final

import numpy as np
from PIL import Image

from thyme.data.drafts import Draft
from thyme.data.scenarios.base import Refusal
from thyme.data.scenarios.boxes import Box
from thyme.data.scenarios.places import likeness, places
from thyme.data.scenarios.written import executions

RAISED: Final = 2.0
"""Times the contrast that there was before."""
SAME: Final = 0.5
"""Least correlation with the picture before, where every place was made clearer in its own way."""
_LEAST: Final = 0.25
"""Contrast that rounding alone makes of an even surface, levels of 255."""


def raised(draft: Draft) -> Refusal | None:
    """An image that came back shows the picture, or a part of it, with clearly more contrast than it had there."""
    images = [record.image for execution in executions(draft) for record in execution.images]
    if not images:
        return Refusal("no_image", "the code gave no image back")
    faint = draft.problem.images[0].image
    placed = {id(place.image): place.box for place in places(draft)}
    whole: Box = (0, 0, *faint.size)
    shown = [(image, placed.get(id(image), whole)) for image in images]
    same = [(image, box) for image, box in shown if id(image) in placed or likeness(image, faint, whole) >= SAME]
    if not same:
        return Refusal("other_picture", "no image that came back shows the picture")
    ratios = [contrast(image) / max(contrast(faint.crop(box)), _LEAST) for image, box in same]
    if max(ratios) < RAISED:
        return Refusal("not_raised", f"the contrast became {max(ratios):.2f} times what it was")
    return None


def contrast(image: Image.Image) -> float:
    """Standard deviation of the grey levels of a copy of at most 512 pixels, levels of 255."""
    grey = image.convert("L")
    if max(grey.size) > 512:
        grey = grey.reduce(-(-max(grey.size) // 512))
    return float(np.asarray(grey, np.float32).std())
