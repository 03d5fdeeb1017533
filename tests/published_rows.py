"""Made-up rows in the published schema, and files of them."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

PROMPT = """<image>
{question}

### User Image Path:** "/data/temp_processed_images/{name}.jpg"
### User Image Size:** "{width}x{height}"

### **Output Format (strict adherence required):**

<think>Your reasoning, with code where it helps.</think>
<answer>Your answer.</answer>"""


def file_of(width: int, height: int, *, seed: int = 0, format: str = "JPEG") -> bytes:
    """A picture of noise as a file."""
    noise = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, format)
    return buffer.getvalue()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def code_round(i: int, shown: str = "<image>") -> str:
    code = f"from PIL import Image\ncrop = Image.open(image_path).crop(({i}, 0, 9, 9))\nprint(processed_path)"
    return f"Look closer. <code>\n```python\n{code}\n```\n</code>\n<sandbox_output>{shown}</sandbox_output> "


def response_of(rounds: int, answer: str = "B") -> str:
    return f"<think>{''.join(map(code_round, range(rounds)))}It is {answer}.</think>\n<answer>{answer}</answer>"


def row_of(seed: int = 0, *, rounds: int = 1, width: int = 60, height: int = 40) -> dict[str, Any]:
    """A row with an original and one image a round."""
    sizes = [(width, height), *((20 + 4 * i, 20) for i in range(rounds))]
    return {
        "image": [b64(file_of(w, h, seed=100 * seed + i)) for i, (w, h) in enumerate(sizes)],
        "question": PROMPT.format(
            question=f"What is at place {seed}?", name=f"file_{seed}", width=width, height=height
        ),
        "response": response_of(rounds, f"thing {seed}"),
    }


def text_row(seed: int = 0) -> dict[str, Any]:
    """A row of computation without any image: code prints, nothing is shown."""
    shown = f"{seed * 7}\n"
    return {
        "image": [],
        "question": f"What is {seed} times 7?",
        "response": f"<think>{code_round(0, shown)}So it is {seed * 7}.</think>\n<answer>{seed * 7}</answer>",
    }


def write_parquet(folder: Path, rows: Sequence[dict[str, Any]], *, shards: int, stem: str = "train") -> list[Path]:
    """Write rows as the published files are written: lists of strings, several shards."""
    from datasets import Dataset, Features, List, Value

    features = Features({"image": List(Value("string")), "question": Value("string"), "response": Value("string")})
    folder.mkdir(parents=True, exist_ok=True)
    whole = Dataset.from_list(list(rows), features=features)
    paths = []
    for i in range(shards):
        path = folder / f"{stem}-{i:05d}-of-{shards:05d}.parquet"
        whole.shard(shards, i, contiguous=True).to_parquet(path)
        paths.append(path)
    return paths
