"""What everybody is asked to do, and what must come out of it."""

from __future__ import annotations

import io
import statistics
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from thyme.images import load_image
from thyme.sandbox.bench import CALCULATION, CROP_SIZE, sample_image
from thyme.types import ImageRecord

_CROP = """\
from PIL import Image
image = Image.open({input})
image.crop({box}).resize({size}).save({output})
print({output})
"""
BOXES = ((200, 150, 1800, 1350), (0, 300, 1600, 1500), (400, 100, 2000, 1300))
"""Boxes of 1600 x 1200 pixels, (left, top, right, bottom)."""
_MOST_JPEG_ERROR = 4.0
"""Mean difference a channel, of 255, that a JPEG file of the test image may have from what was drawn."""


class WrongResultError(Exception):
    """Somebody did not do the work."""


@dataclass(frozen=True)
class Result:
    """What the caller has in hands after an execution."""

    stdout: str
    image: Image.Image | None
    """Decoded: a picture still in a file is of no use to a model."""


@dataclass(frozen=True)
class Snippet:
    """A block of code, its paths still open."""

    name: str
    template: str
    output: str = ""
    """Name of the file it saves; empty for none."""
    box: tuple[int, int, int, int] | None = None

    def code(self, image: str, folder: str) -> str:
        """The code for somebody to whom the input has this path, and who may write into `folder`."""
        return self.template.replace("{input}", repr(image)).replace("{output}", repr(self.path(folder)))

    def path(self, folder: str) -> str:
        """Where it saves its picture."""
        return f"{folder}/{self.output}"


def _crop(index: int, ending: str) -> Snippet:
    template = _CROP.replace("{box}", str(BOXES[index])).replace("{size}", str(CROP_SIZE))
    return Snippet(f"crop {index + 1} to {ending}", template, f"crop_{index + 1}.{ending}", BOXES[index])


CROPS = tuple(_crop(index, "jpg") for index in range(len(BOXES)))
"""Three different crops, each saved as JPEG."""
PNG = _crop(0, "png")
CALC = Snippet("calculation", CALCULATION)
_CALCULATED = "677.69 135.537 101.596 1.625133\n"


@dataclass(frozen=True)
class Picture:
    """An input image: a file, and the record that the caller of a vision-language model has anyway."""

    file: Path
    record: ImageRecord
    drawn: dict[tuple[int, int, int, int], Image.Image] = field(default_factory=dict, compare=False)

    @classmethod
    def make(cls, folder: Path, shift: int) -> Picture:
        """Write the test image with this shift into a folder."""
        file = folder / f"image_{shift}.jpg"
        if not file.exists():
            file.write_bytes(sample_image(shift))
        return cls.read(file)

    @classmethod
    def read(cls, file: Path) -> Picture:
        """Read what `make` wrote."""
        return cls(file, load_image(file))

    @cached_property
    def decoded(self) -> Image.Image:
        """The pixels."""
        return self.record.image

    def expected(self, box: tuple[int, int, int, int]) -> Image.Image:
        """What a crop shows."""
        if box not in self.drawn:
            self.drawn[box] = self.decoded.crop(box).resize(CROP_SIZE)
        return self.drawn[box]


def check(result: Result, snippet: Snippet, picture: Picture) -> None:
    """See that the work was done: the text, and the pixels of the picture.

    Raises:
        WrongResultError: Saying what came instead.
    """
    if snippet.box is None:
        if result.stdout != _CALCULATED:
            raise WrongResultError(f"{snippet.name}: printed {result.stdout!r} instead of {_CALCULATED!r}")
        return
    if not result.stdout.endswith(f"{snippet.output}\n"):
        raise WrongResultError(f"{snippet.name}: printed {result.stdout!r}")
    expected = picture.expected(snippet.box)
    if result.image is None or (result.image.mode, result.image.size) != ("RGB", expected.size):
        raise WrongResultError(f"{snippet.name}: gave back {result.image}")
    difference = np.abs(np.asarray(result.image, np.int16) - np.asarray(expected, np.int16)).mean()
    if difference > (_MOST_JPEG_ERROR if snippet.output.endswith("jpg") else 0):
        raise WrongResultError(f"{snippet.name}: its pixels are off by {difference:.2f} on average")


def decoding_ms(picture: Picture) -> dict[str, float]:
    """Milliseconds to decode the input, and a crop from a JPEG and a PNG file as peers leave them behind."""
    files = {"input": picture.file.read_bytes()}
    for format in ("JPEG", "PNG"):
        buffer = io.BytesIO()
        picture.expected(BOXES[0]).save(buffer, format)
        files[f"crop_{format.lower()}"] = buffer.getvalue()
    return {name: _decoding_ms(data) for name, data in files.items()}


def _decoding_ms(data: bytes) -> float:
    seconds = []
    for _ in range(9):
        started = time.perf_counter()
        Image.open(io.BytesIO(data)).load()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds) * 1e3
