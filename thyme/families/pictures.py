"""An image as models are shown it, before any family resizes or cuts it."""

from __future__ import annotations

from PIL import Image


def opaque(image: Image.Image) -> Image.Image:
    """RGB of an image of any mode: transparent parts on white, 16 bits reduced to 8."""
    if image.mode in {"I;16", "I;16B", "I;16L", "I;16N"}:
        image = image.point(lambda value: value * (1 / 256), "I").convert("L")
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == "RGB" else image.convert("RGB")
