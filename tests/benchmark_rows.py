"""Made-up rows of benchmarks in their published layouts, files of them, and items of results."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from thyme.eval.benchmarks import BENCHMARKS
from thyme.eval.benchmarks.files import read_benchmark
from thyme.eval.items import ItemResult
from thyme.types import Problem, StopReason


def picture(seed: int = 0, width: int = 12, height: int = 8, format: str = "PNG") -> bytes:
    """A small picture of noise as a file; another one for every seed."""
    noise = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, format)
    return buffer.getvalue()


def encoded(seed: int = 0) -> str:
    """The same in base64."""
    return base64.b64encode(picture(seed)).decode()


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    """A TSV file as pandas writes it: quotes where they are needed, doubled inside, line feeds at the ends."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    return path


def problems_of(name: str, path: Path, **options: Any) -> list[Problem]:
    """What a benchmark reads from a file."""
    return list(read_benchmark(BENCHMARKS[name], path, **options))


def score_of(name: str, problem: Problem, answer: str | None) -> float | None:
    """A benchmark's score by rules."""
    return BENCHMARKS[name].score(problem, answer).value


def item(problem: str, score: float | None, kind: str = "", **meta: Any) -> ItemResult:
    """A result of a problem."""
    stop = StopReason.ANSWER
    return ItemResult(benchmark="b", arm="tools", problem=problem, kind=kind, meta=meta, score=score, stop=stop)
