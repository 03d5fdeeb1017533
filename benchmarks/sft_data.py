"""What reading training data costs in time and memory: made-up published rows, counted, read by place and in order.

    python benchmarks/sft_data.py [--rows 1000 4000] [--side 512] [--read 1000] [--folder DIR]

Each row holds an original of about SIDE x SIDE pixels and one crop, as base64 in parquet shards of 1,000 rows. Memory
is what a process holds of its own (RssAnon of Linux: pages of mapped files do not count), the highest seen less that at
the start; each part runs in a process of its own.
"""

from __future__ import annotations

import argparse
import base64
import io
import multiprocessing
import os
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

NANO = Path(__file__).parents[1] / "thyme" / "nano" / "checkpoint" / "final"
SHARD = 1000


def picture(draw: np.random.Generator, width: int, height: int) -> str:
    """A smooth random picture as base64 of a JPEG file; about as large as a photograph is."""
    small = draw.integers(0, 255, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return base64.b64encode(buffer.getvalue()).decode()


PARTS = {
    "counted": "counted, the Arrow copy made",
    "counted again": "counted again: the counts are there",
    "by place": "read by place, at random",
    "in order": "streamed, `shuffle_buffer = 200`",
}


def rows(first: int, count: int, side: int) -> Iterator[dict[str, Any]]:
    for i in range(first, first + count):
        draw = np.random.default_rng(i)
        width, height = (int(n) for n in draw.integers(side // 2, side * 3 // 2, 2))
        code = "from PIL import Image\nimage = Image.open(image_path).crop((1, 2, 90, 80))\nprint(processed_path)"
        yield {
            "image": [picture(draw, width, height), picture(draw, side // 2, side // 2)],
            "question": f"<image>\nWhat stands at place {i}?\n\nImage size: {width} x {height}",
            "response": f"<think>I look closer. <code>\n```python\n{code}\n```\n</code>\n<sandbox_output><image>"
            f"</sandbox_output> It is {i}.</think>\n<answer>{i}</answer>",
        }


def make(folder: Path, count: int, side: int) -> None:
    from datasets import Dataset, Features, List, Value

    features = Features({"image": List(Value("string")), "question": Value("string"), "response": Value("string")})
    for shard, first in enumerate(range(0, count, SHARD)):
        path = folder / f"train-{shard:05d}.parquet"
        if not path.exists():
            part = list(rows(first, min(SHARD, count - first), side))
            Dataset.from_list(part, features=features).to_parquet(path)


def anonymous() -> float:
    """MB that this process holds of its own."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))


def watched(work: Callable[[], int]) -> dict[str, float]:
    """What some work took: time, that of processors (its own processes' too), and memory beyond that at its start."""
    before, highest, stop = anonymous(), 0.0, threading.Event()

    def watch() -> None:
        nonlocal highest
        while not stop.wait(0.05):
            highest = max(highest, anonymous())

    thread = threading.Thread(target=watch)
    thread.start()
    started, busy = time.perf_counter(), sum(os.times()[:4])
    done = work()
    seconds, busy = time.perf_counter() - started, sum(os.times()[:4]) - busy
    stop.set()
    thread.join()
    return {
        "rows": done,
        "rows_per_second": round(done / seconds, 1),
        "processor_ms_per_row": round(busy / done * 1000, 2),
        "more_MB": round(highest - before, 1),
    }


def measured(part: str, folder: Path, read: int) -> dict[str, float]:
    """One part, in this process: opens the data, then counts or reads them."""
    from thyme.config.sft_recipe import SFTRecipe, StageRecipe
    from thyme.config.training import DataSource
    from thyme.families import load_family
    from thyme.train.data.sources import open_samples

    data = {"sft": DataSource(format="thyme-sft", path=str(folder / "*.parquet"))}
    recipe = SFTRecipe(model="m", max_tokens=10**6, shuffle_buffer=200, stages={"s": StageRecipe(data=data)})
    family, cache = load_family(NANO), folder / "run"
    opened: list[Any] = []

    def count() -> int:
        opened.append(open_samples(data, "all", recipe, family, cache=cache)[0])
        return len(opened[0])

    def by_place() -> int:
        order = random.Random(0).sample(range(len(opened[0])), min(read, len(opened[0])))
        return sum(bool(len(opened[0][i])) for i in order)

    def in_order() -> int:
        samples, _ = open_samples(data, "all", recipe, family, streaming=True)
        return sum(bool(len(sample)) for sample in islice(samples.one_pass(0, 1), read))

    if part == "in order":
        return watched(in_order)
    result = watched(count)
    return result if part.startswith("count") else watched(by_place)


def apart(part: str, folder: Path, read: int) -> dict[str, float]:
    """The same in a process of its own, whose failure is ours."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
        return fresh.submit(measured, part, folder, read).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 4000])
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--read", type=int, default=1_000)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    print("| part | of | rows | rows a second | processor time, ms a row | more memory, MB |")
    print("|---|---|---:|---:|---:|---:|")
    for count in given.rows:
        with tempfile.TemporaryDirectory() as made_up:
            folder = (given.folder or Path(made_up)) / str(count)
            folder.mkdir(parents=True, exist_ok=True)
            make(folder, count, given.side)
            size = sum(path.stat().st_size for path in folder.glob("*.parquet")) / 2**20
            for part, said in PARTS.items():
                one = apart(part, folder, given.read)
                cells = (one["rows"], one["rows_per_second"], one["processor_ms_per_row"], one["more_MB"])
                print(f"| {said} | {count} rows, {size:.0f} MB | {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
