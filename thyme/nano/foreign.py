"""Whether a picture is from outside the embedded model's world, about which it can say nothing true."""

from __future__ import annotations

import numpy as np
from PIL import Image

from thyme.nano.world import COLORS, LOW_CONTRAST, SIDE

_NEAR = 16
"""Largest difference of a channel at which a colour counts as a plate's; leaves room for a JPEG copy."""
_MIN_PLATES = 5e-4
"""Least share of the pixels that the plates of a scene cover; two of the smallest cover three times as much."""
_MIN_EXPLAINED = 0.95
"""Least share of the pixels that are background, plate or ink."""


def foreign(image: Image.Image) -> str | None:
    """Say why a picture is not a scene of nano's world; None if it looks like one.

    A scene is a square of known size, holds plates of a few known colours, and is nearly grey everywhere else; or the
    whole of it is nearly grey, in its scenes of low contrast.

    Args:
        image: The picture, RGB.
    """
    if image.size != (SIDE, SIDE):
        return f"it is {image.width} × {image.height} px, and every scene of nano's world is {SIDE} × {SIDE} px"
    pixels = np.asarray(image.convert("RGB")).astype(np.int16)[::2, ::2]
    if np.abs(pixels - 128).max() <= 128 * LOW_CONTRAST[1] + _NEAR:
        return None
    plates = np.zeros(pixels.shape[:2], dtype=bool)
    for color in COLORS.values():
        plates |= np.abs(pixels - np.array(color)).max(axis=-1) <= _NEAR
    grey = np.ptp(pixels, axis=-1) <= 48
    if plates.mean() < _MIN_PLATES:
        return "it shows no plate in one of nano's colours"
    if (plates | grey).mean() < _MIN_EXPLAINED:
        return "it is more colourful than any scene of nano's world"
    return None
