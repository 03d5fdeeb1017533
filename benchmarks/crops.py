"""How long it takes to find the place of a crop in a large picture, and how often it is found.

    python benchmarks/crops.py --width 7680 --height 4320 --crops 12

Prints seconds of CPU time on one thread, and how many places were right, by what is known and how the crop was made.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable, Iterator

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

from thyme.eval.crops import Box, locate

SIDES = (160, 400, 1000, 2400)
"""Widths of the crops, pixels; they are three quarters as high."""
Make = Callable[[Image.Image], Image.Image]


def scene(width: int, height: int, seed: int) -> Image.Image:
    """Soft colours with plates and numbers on them."""
    noise, rng = np.random.default_rng(seed), random.Random(seed)
    pixels = np.full((height, width, 3), 128, np.float32)
    for period in (8, 32, 128):
        coarse = noise.normal(0, 3 * period**0.5, (height // period + 2, width // period + 2, 3)).astype(np.float32)
        pixels += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    for _ in range(width * height // 20000):
        x, y, side = rng.randrange(width), rng.randrange(height), rng.randrange(10, 60)
        fill, ink = (tuple(rng.randrange(256) for _ in range(3)) for _ in range(2))
        pen.rectangle((x, y, x + 2 * side, y + side), fill=fill)
        pen.text((x, y), str(rng.randrange(10**6)), fill=ink, font=ImageFont.load_default(side))
    return image


def scaled(factor: float, filter: Image.Resampling) -> Make:
    """Resize by a factor."""
    return lambda crop: crop.resize((round(crop.width * factor), round(crop.height * factor)), filter)


CASES: dict[str, tuple[Make, bool, bool]] = {
    "box in the code, as it is": (lambda crop: crop, True, True),
    "box in the code, enlarged 1.5 times": (scaled(1.5, Image.Resampling.LANCZOS), True, True),
    "nothing known, as it is": (lambda crop: crop, False, True),
    "nothing known, enlarged 1.5 times": (scaled(1.5, Image.Resampling.LANCZOS), False, True),
    "nothing known, reduced to 0.4": (scaled(0.4, Image.Resampling.BICUBIC), False, True),
    "nothing known, reduced to 0.4 by nearest": (scaled(0.4, Image.Resampling.NEAREST), False, True),
    "no crop: turned by 5 degrees": (lambda crop: crop.rotate(5), False, False),
    "no crop: contrast raised by 30 %": (lambda crop: ImageEnhance.Contrast(crop).enhance(1.3), False, False),
}
"""How the crop is made, whether its box is told, whether it is one at all."""


def boxes(count: int, width: int, height: int) -> Iterator[Box]:
    """Boxes of the sides in turn, at random places."""
    rng = random.Random(0)
    sides = [side for side in SIDES if side <= min(width, height * 4 // 3)]
    for index in range(count):
        wide = sides[index % len(sides)]
        left, top = rng.randrange(max(1, width - wide)), rng.randrange(max(1, height - wide * 3 // 4))
        yield left, top, left + wide, top + wide * 3 // 4


def is_right(found: Box | None, box: Box, there: bool) -> bool:
    """Whether the place is that of the crop, within 2 pixels or 1 %; no place where there is none."""
    if found is None or not there:
        return (found is None) != there
    return max(abs(a - b) for a, b in zip(found, box, strict=True)) <= 2 + 0.01 * (box[2] - box[0])


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=7680)
    parser.add_argument("--height", type=int, default=4320)
    parser.add_argument("--crops", type=int, default=12, help="of each kind")
    chosen = parser.parse_args()
    if min(chosen.width, chosen.height * 4 // 3) < SIDES[0]:
        parser.error(f"the picture has to hold the smallest crop, {SIDES[0]} x {SIDES[0] * 3 // 4} pixels")
    cv2.setNumThreads(1)
    original = scene(chosen.width, chosen.height, 1)
    print(f"{chosen.width} x {chosen.height}, {chosen.crops} crops each, {', '.join(map(str, SIDES))} pixels wide\n")
    print("| | right | median, s | longest, s |\n|---|---|---|---|")
    for name, (make, told, there) in CASES.items():
        seconds, right = [], 0
        for box in boxes(chosen.crops, chosen.width, chosen.height):
            shown = make(original.crop(box))
            started = time.process_time()
            place = locate(shown, original, [box] if told else [])
            seconds.append(time.process_time() - started)
            right += is_right(place.box if place else None, box, there)
        print(f"| {name} | {right} of {chosen.crops} | {statistics.median(seconds):.3f} | {max(seconds):.3f} |")


if __name__ == "__main__":
    main()
