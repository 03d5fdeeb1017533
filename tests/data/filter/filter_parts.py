"""Made-up rows, and filters of them with a scripted model."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from thyme.config import EngineConfig
from thyme.config.load import overridden
from thyme.config.rl_filter import FilterRecipe, FilterSource
from thyme.data.filter.manifest import FilterManifest
from thyme.data.filter.records import Seen
from thyme.data.filter.run import Filter, run_filter
from thyme.engines.base import Engine, Request
from thyme.engines.scripted import ScriptedEngine


def pixels(seed: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """Coarse noise: other seeds have far perceptual hashes."""
    coarse = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def file_of(seed: int, size: tuple[int, int] = (64, 48), format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    pixels(seed, size).save(buffer, format, **options)
    return buffer.getvalue()


def row(seed: int, **changed: Any) -> dict[str, Any]:
    """A row that every step lets through."""
    told = {
        "image": base64.b64encode(file_of(seed)).decode(),
        "question": f"Which colour has the car number {seed} in the picture?",
        "answer": "red",
        "category": "attribute",
    }
    return {**told, **changed}


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    return path


def recipe(path: Path, *settings: str, **source: Any) -> FilterRecipe:
    made = FilterRecipe(sources={"mine": FilterSource(path=str(path), **source)}, processes=1, chunk=4)
    return overridden(made, settings)


def nobody(model: str, config: EngineConfig) -> Engine:
    raise AssertionError("nobody is to be asked")


def run(recipe: FilterRecipe, out: Path, open_model: Callable[..., Engine] = nobody, **more: Any) -> FilterManifest:
    return run_filter(Filter(recipe, out, open_model, **more))


def rows_of(path: Path) -> list[Seen]:
    return [Seen.model_validate_json(line) for line in path.read_text(encoding="utf-8").splitlines()]


def reasons(out: Path) -> dict[int, str]:
    """Reason by row of what was dropped."""
    return {seen.row: f"{seen.step}: {seen.reason}" for seen in rows_of(out / "rejected.jsonl")}


def kept(out: Path) -> list[int]:
    return [seen.row for seen in rows_of(out / "kept.jsonl")]


def files_of(out: Path, *folders: str) -> dict[str, bytes]:
    """Everything that a run made but for its times, by path."""
    names = [out / "kept.jsonl", out / "rejected.jsonl", *(out / "problems").rglob("*")]
    return {str(path.relative_to(out)): path.read_bytes() for path in names if path.is_file()}


def sample_of(request: Request) -> int:
    """Which of a problem's samples this is."""
    return int(request.trajectory_id.split("-")[-2])


def sometimes(model: str, config: EngineConfig) -> ScriptedEngine:
    """Answers ``red`` in as many samples as the question says: ``... right 3 times``."""

    def say(request: Request) -> list[str]:
        times = int(request.prompt.user.partition("right ")[2].partition(" times")[0])
        word = "red" if sample_of(request) < times else "blue"
        return [f"<think>I look.</think>\n<answer>{word}</answer>"]

    return ScriptedEngine(say)
