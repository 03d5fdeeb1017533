"""An image as models are shown it, before any family resizes or cuts it."""

from __future__ import annotations

from PIL import Image

from thyme.images import to_rgb


def opaque(image: Image.Image) -> Image.Image:
    """RGB of an image of any mode: transparent parts on white, grey of more than 8 bits scaled as `to_rgb` says."""
    if image.mode.startswith("I") or image.mode == "F":
        return to_rgb(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == "RGB" else image.convert("RGB")
