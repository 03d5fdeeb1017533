"""Tiles of a drawn picture of 12 000 x 9 000 pixels: Pillow, as `thyme rl-data collect` makes them, beside libvips.

    python benchmarks/tiles.py                     # all that is installed (libvips: pip install pyvips pyvips-binary)

Each way runs in a process of its own; printed are seconds of wall clock and of processor, the most memory, and bytes.
"""

from __future__ import annotations

import importlib.util
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from thyme.data.collect.tiles import QUALITY, write_tiles

SIZE = (12_000, 9_000)


def draw(path: Path) -> None:
    """Light in four sizes of grain."""
    seeded = np.random.default_rng(0)
    pixels = np.empty((SIZE[1], SIZE[0], 3), np.uint8)
    for channel in range(3):
        layer = np.full(SIZE[::-1], 128, np.float32)
        for cells, strength in ((8, 90), (64, 40), (512, 25), (3000, 14)):
            noise = (seeded.normal(size=(cells * 3 // 4 + 2, cells + 2)) * strength).astype(np.float32)
            layer += np.asarray(Image.fromarray(noise).resize(SIZE, Image.Resampling.BICUBIC))
        pixels[..., channel] = np.clip(layer, 0, 255)
    Image.fromarray(pixels).save(path, quality=92)


def pillow(source: Path, out: Path) -> None:
    Image.MAX_IMAGE_PIXELS = None
    with Image.open(source) as image:
        image.load()
        write_tiles(image, out)


def vips(source: Path, out: Path) -> None:
    import pyvips

    image = pyvips.Image.new_from_file(str(source), access="sequential")
    image.dzsave(str(out), tile_size=512, overlap=0, suffix=f".jpg[Q={QUALITY}]")


def peak() -> float:
    """Most memory of this process, MiB; `ru_maxrss` would be that of the one that started it."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def measure(way: str, source: Path, out: Path) -> None:
    start = time.perf_counter()
    {"pillow": pillow, "vips": vips}[way](source, out)
    wall, used = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    tiles = [path.stat().st_size for path in out.parent.rglob("*_*.jpg")]
    processor, memory = used.ru_utime + used.ru_stime, peak()
    print(
        f"{way:8} {wall:6.1f} s  {processor:6.1f} s  {memory:6.0f} MiB  {len(tiles)} tiles, {sum(tiles) / 1e6:.1f} MB"
    )


def main() -> None:
    if len(sys.argv) == 4:
        measure(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
        return
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "picture.jpg"
        draw(source)
        for way, library in (("pillow", "PIL"), ("vips", "pyvips")):
            if importlib.util.find_spec(library) is None:
                print(f"{way:8} not installed")
                continue
            out = Path(folder) / way / "tiles"
            out.parent.mkdir()
            subprocess.run([sys.executable, __file__, way, str(source), str(out)], check=True)


if __name__ == "__main__":
    main()
