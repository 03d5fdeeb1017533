"""Pictures that the tests of collecting draw: pages of text, scenes, and photographs that scikit-image brings."""

from __future__ import annotations

import io
import random
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

TEXT = """the of and large small river mountain engine sandbox answer picture where light under seven between window
statement quarterly returned x=41; def main(): import value_9 1,204.50 (see below) Table-3 however therefore it is a"""
WORDS = TEXT.split()
PHOTOS = ("astronaut", "brick", "camera", "cell", "chelsea", "coffee", "coins", "grass", "gravel", "ihc", "moon")
MORE_PHOTOS = ("hubble_deep_field", "motorcycle_left", "retina", "rocket")


def scene(seed: int, size: tuple[int, int] = (2200, 1400)) -> Image.Image:
    """Smooth light with edges and fine grain on it: what photographs are like, as far as the measures see."""
    draw = np.random.default_rng(seed)
    width, height = size
    pixels = np.full((height, width, 3), 128.0)
    for cells, strength in ((4, 80), (24, 40), (160, 18), (min(900, width), 9)):
        noise = draw.normal(size=(min(1000, max(2, cells * height // width)), cells, 3)) * strength
        layers = [
            Image.fromarray(noise[..., c].astype(np.float32)).resize(size, Image.Resampling.BICUBIC) for c in range(3)
        ]
        pixels += np.stack([np.asarray(layer) for layer in layers], axis=-1)
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    for _ in range(30):
        x, y, r = draw.integers(0, width), draw.integers(0, height), draw.integers(10, 160)
        color = tuple(int(value) for value in draw.integers(0, 255, 3))
        (pen.ellipse if draw.random() < 0.5 else pen.rectangle)((x - r, y - r, x + r, y + r), fill=color)
    return image


def photo(name: str, size: tuple[int, int] = (2400, 1800), scale: int = 1) -> Image.Image:
    """A photograph of scikit-image's, mirrored to and fro until it fills a size, so that its grain stays real."""
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    found = next(path for ending in ("png", "jpg") if (path := folder / f"{name}.{ending}").exists())
    with Image.open(found) as opened:
        image = opened.convert("RGB")
    image = image.resize((image.width * scale, image.height * scale), Image.Resampling.LANCZOS)
    pixels = np.asarray(image)
    pad = [(0, max(0, side - have)) for side, have in zip(size[::-1], pixels.shape, strict=False)]
    return Image.fromarray(np.pad(pixels, (*pad, (0, 0)), "symmetric")[: size[1], : size[0]])


def page(seed: int, size: tuple[int, int] = (2480, 3508)) -> Image.Image:
    """A page of text: letters of one size, one or two columns, dark on light or light on dark, perhaps scanned."""
    draw = random.Random(seed)
    paper, ink = draw.choice(
        [((255, 255, 255), (20, 20, 20)), ((246, 240, 225), (60, 40, 20)), ((30, 32, 38), (215, 218, 225))]
    )
    image = Image.new("RGB", size, paper)
    columns, letters = draw.choice((1, 2)), draw.choice((22, 30, 40, 52))
    margin = size[0] // 12
    width = (size[0] - margin * (columns + 1)) // columns
    for column in range(columns):
        left = margin + column * (width + margin)
        write(image, (left, margin, left + width, size[1] - margin), letters, ink, draw)
    if draw.random() < 0.5:
        image = image.rotate(draw.uniform(-1, 1), Image.Resampling.BICUBIC, fillcolor=paper)
        pixels = np.asarray(image) + np.random.default_rng(seed).normal(0, 4, (*image.size[::-1], 1))
        image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.7))
    return recompressed(image, draw.choice((70, 85, 95)))


def screenshot(seed: int, size: tuple[int, int] = (3840, 2160)) -> Image.Image:
    """A screen with a bar at the side, a head, and an editor or a page beside them."""
    draw = random.Random(seed)
    dark = draw.random() < 0.5
    paper, ink = ((28, 30, 34), (210, 212, 216)) if dark else ((252, 252, 252), (40, 40, 44))
    image = Image.new("RGB", size, paper)
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 0, size[0], 80), fill=(60, 90, 160))
    pen.rectangle((0, 80, 500, size[1]), fill=(44, 46, 52) if dark else (236, 238, 242))
    write(image, (30, 110, 470, size[1] - 40), 26, ink, draw, words=2)
    write(
        image, (560, 130, size[0] - 60, size[1] - 40), draw.choice((24, 28, 34)), ink, draw, words=draw.choice((9, 40))
    )
    return image


def signs(seed: int, size: tuple[int, int] = (2400, 1800)) -> Image.Image:
    """A scene with some words on signs in it: what annotators are to be given."""
    draw, image = random.Random(seed), scene(seed, size)
    pen = ImageDraw.Draw(image)
    for _ in range(draw.randint(2, 5)):
        x, y, letters = draw.randint(50, size[0] - 700), draw.randint(50, size[1] - 200), draw.choice((24, 40, 60))
        pen.rectangle((x, y, x + 600, y + 3 * letters), fill=(240, 240, 235))
        write(image, (x + 10, y + 10, x + 590, y + 3 * letters), letters, (20, 20, 20), draw, words=3)
    return image


def facade(seed: int, size: tuple[int, int] = (2400, 1800)) -> Image.Image:
    """Rows of windows: as regular as text, and none."""
    draw, image = random.Random(seed), scene(seed, size).filter(ImageFilter.GaussianBlur(6))
    pen = ImageDraw.Draw(image)
    width, height, gap = draw.choice(((30, 50, 14), (60, 40, 30), (18, 18, 10)))
    for y in range(100, size[1] - 100, height + 2 * gap):
        for x in range(100, size[0] - 100, width + gap):
            tone = draw.randint(20, 110)
            pen.rectangle((x, y, x + width, y + height), fill=(tone, tone, tone + 20))
    return image


def chart(seed: int, size: tuple[int, int] = (2400, 1600)) -> Image.Image:
    """Bars with a few labels: little text on much even ground."""
    draw, image = random.Random(seed), Image.new("RGB", size, (255, 255, 255))
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(30)
    for bar in range(draw.randint(5, 14)):
        x = 150 + bar * 150
        pen.rectangle((x, draw.randint(200, 1300), x + 90, 1400), fill=(draw.randint(0, 200), 90, 180))
        pen.text((x, 1420), draw.choice(WORDS), fill=(0, 0, 0), font=font)
    pen.text((700, 60), "Share of all answers by month", fill=(0, 0, 0), font=ImageFont.load_default(50))
    return image


def write(
    image: Image.Image,
    box: tuple[int, int, int, int],
    letters: int,
    ink: tuple[int, int, int],
    draw: random.Random,
    words: int = 40,
) -> None:
    """Lines of words into a box."""
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(letters)
    left, top, right, bottom = box
    while top + letters < bottom:
        x, indent = left, draw.choice((0, 0, 0, letters))
        for _ in range(draw.randint(max(1, words // 3), words)):
            word = draw.choice(WORDS)
            length = pen.textlength(word + " ", font=font)
            if x + indent + length > right:
                break
            pen.text((x + indent, top), word, fill=ink, font=font)
            x += int(length)
        top += int(letters * 1.4) if draw.random() < 0.9 else int(letters * 2.8)


def recompressed(image: Image.Image, quality: int) -> Image.Image:
    """As a JPEG file gives it back."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as again:
        return again.convert("RGB")
