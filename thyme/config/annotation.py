"""What can be set about collecting and annotating large images. See `docs/annotation.md`."""

from __future__ import annotations

from pydantic import Field, PositiveInt

from thyme.config.base import Config


class CollectSettings(Config):
    """Which images a collection takes."""

    min_side: PositiveInt = 2048
    """A side must be longer than this, pixels (paper, section 4.1)."""
    max_pixels: PositiveInt = 400_000_000
    """Largest width times height that is decoded."""
    near: int = Field(default=6, ge=-1, le=64)
    """Bits of 64 in which perceptual hashes of near-duplicates differ at most; -1 keeps them."""
    min_sharpness: float = Field(default=0.0, ge=0.0)
    """Below it an image counts as blurred; 0 keeps all. See `docs/rl_data_collect.md` for the measure."""
    max_text: float = Field(default=1.0, ge=0.0, le=1.0)
    """Share of the area covered by text above which it counts as a screenshot of text; 1 keeps all."""
    licence: str = ""
    """Of images that say nothing themselves."""
    source: str = ""
    """Of images that say nothing themselves."""


class AnnotationSettings(Config):
    """Rules of annotation, and who checks."""

    max_share: float = Field(default=0.05, gt=0.0, le=1.0)
    """Of the image's area that the target's box takes at most (paper, section 4.1)."""
    min_side: PositiveInt = 2048
    """A side of the image must be longer than this, pixels."""
    min_box: PositiveInt = 4
    """Least width and height of a box, pixels."""
    choices: tuple[int, int] = (2, 10)
    """Fewest and most options of a multiple-choice question."""
    first_view_pixels: PositiveInt = 1_003_520
    """Area at which the model first sees the image (1280 visual tokens of 28 x 28); the author must not be able to
    answer from that."""
    require_hidden: bool = True
    """Whether the author must have looked at that, and say so."""
    second: int = Field(default=1, ge=0, le=5)
    """People who answer without seeing the answer (paper: at least one)."""
    experts: int = Field(default=3, ge=0, le=9)
    """People whose acceptance it takes (paper: three, unanimous)."""
    gold: float = Field(default=0.05, ge=0.0, lt=1.0)
    """Share of the questions handed to a second person whose answer is known."""
    per_image: PositiveInt = 3
    """Questions about one image at most."""
    lease_s: float = Field(default=900.0, gt=0)
    """How long an image or question is kept for whoever opened it; an open page renews it. Wall clock."""
