"""Pictures from outside nano's world are told from its scenes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from thyme.cli.ask import warn_of_foreign
from thyme.nano.foreign import foreign
from thyme.nano.world import KINDS, SIDE, problem
from thyme.types import ImageRecord


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "arithmetic"])
def test_scenes_are_at_home(kind: str) -> None:
    for index in range(3):
        image = problem("test", 99, index, kind).images[0].image
        assert foreign(image) is None, (kind, index)
        copy = io.BytesIO()
        image.save(copy, "JPEG", quality=85)
        with Image.open(copy) as jpeg:
            assert foreign(jpeg) is None, (kind, index, "as JPEG")


def test_other_sizes_are_foreign() -> None:
    scene = problem("test", 99, 0, "easy").images[0].image
    reason = foreign(scene.resize((800, 600)))
    assert reason == "it is 800 × 600 px, and every scene of nano's world is 1024 × 1024 px"


def pictures() -> dict[str, Image.Image]:
    """Pictures of the right size that are no scenes."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    landscape = np.stack([90 + 80 * y, 140 + 60 * x, 230 - 150 * y], axis=-1)
    noise = Image.fromarray(rng.integers(0, 256, (64, 64, 3)).astype(np.uint8))
    return {
        "grey": Image.fromarray((255 * x).astype(np.uint8)).convert("RGB"),
        "white": Image.new("RGB", (SIDE, SIDE), "white"),
        "landscape": Image.fromarray(landscape.astype(np.uint8)),
        "noise": noise.resize((SIDE, SIDE)),
        "soft noise": noise.resize((SIDE, SIDE), Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(9)),
        "red": Image.new("RGB", (SIDE, SIDE), (255, 0, 0)),
    }


@pytest.mark.parametrize("name", list(pictures()))
def test_other_pictures_of_the_same_size_are_foreign(name: str) -> None:
    assert foreign(pictures()[name]) is not None


def test_the_warning_names_picture_reason_and_way_out(capsys: pytest.CaptureFixture[str]) -> None:
    warn_of_foreign([ImageRecord.of(pictures()["grey"], name="clouds.png")])
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("thyme: clouds.png is no picture of nano's world: it shows no plate")
    assert "--model FOLDER or HUB_ID" in shown.err


def test_no_warning_for_a_scene(capsys: pytest.CaptureFixture[str]) -> None:
    warn_of_foreign(problem("test", 99, 0, "zoom").images)
    assert capsys.readouterr().err == ""
