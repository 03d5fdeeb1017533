"""A filter of large files in a process that may not take much memory: ``filter_memory.py FOLDER OUT ALLOWED GROUP``."""

from __future__ import annotations

import base64
import io
import json
import resource
import sys
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 800
MIB = 1 << 20


def make(folder: Path, files: int, rows: int) -> int:
    """Files of the published layout, each a single row group, as the published ones are; bytes of all."""
    import pyarrow
    from pyarrow import parquet

    text = pyarrow.string()
    turn = pyarrow.struct([("role", text), ("content", text)])
    schema = pyarrow.schema(
        [("messages", pyarrow.list_(turn)), ("images", pyarrow.list_(text)), ("solution", text), ("question", text)]
    )
    shade = np.random.default_rng(0).integers(0, 200, (8, 8, 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(shade).resize((SIDE, SIDE), Image.Resampling.BICUBIC)).copy()
    for number in range(files):
        path = folder / f"train-{number:05d}-of-{files:05d}.parquet"
        with parquet.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
            for place in range(rows):
                picture[0, :2] = [[number, place % 256, 0], [place // 256, 0, 0]]
                buffer = io.BytesIO()
                Image.fromarray(picture).save(buffer, "PNG", compress_level=0)
                question = f"What is at place {number}, {place}?"
                row = {
                    "messages": [{"role": "user", "content": f"<image>\n{question}"}],
                    "images": [base64.b64encode(buffer.getvalue()).decode()],
                    "solution": "a car",
                    "question": question,
                }
                writer.write_batch(pyarrow.RecordBatch.from_pylist([row], schema=schema), row_group_size=rows)
    return sum(path.stat().st_size for path in folder.glob("*.parquet"))


def in_memory(name: str) -> int:
    """Bytes of this process, by name in ``/proc/self/status``."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])


def run(folder: Path, out: Path, allowed: int, group: int) -> dict[str, int]:
    """Filter the files, with so many bytes at most beside what importing took; figures of it.

    Row groups of what is written have about `group` bytes; what the writer does to one takes some times that.
    """
    import filter_parts as parts
    import imagehash  # noqa: F401 - counts as imported
    import py3langid
    import pyarrow.parquet  # noqa: F401 - likewise
    from datasets import Features  # noqa: F401 - likewise

    from thyme.config.load import overridden
    from thyme.data.export import shards

    shards.GROUP_BYTES = group

    py3langid.rank("warm")
    recipe = overridden(parts.recipe(folder), ["format=thyme-rl", "chunk=256", "duplicates.bits=-1"])
    before, rss = in_memory("VmData"), in_memory("VmRSS")
    resource.setrlimit(resource.RLIMIT_DATA, (before + allowed, before + allowed))
    made = parts.run(recipe, out)
    return {"rows": made.figures.rows, "kept": made.figures.kept, "more": in_memory("VmHWM") - rss}


if __name__ == "__main__":
    folder, made, *figures = sys.argv[1:]
    sys.stdout.write(json.dumps(run(Path(folder), Path(made), *map(int, figures))))
