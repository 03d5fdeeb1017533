"""A benchmark of your own: what a row means, how an answer is scored, what figures the scores become.

    python examples/extend/own_benchmark.py runs/own_benchmark

It asks how many squares a picture shows. An answer that is off by one is worth half, which no built-in benchmark says;
so the scoring is a function here. The model is a script that always answers 3; give ``--model`` of your own in its
place. docs/extend/benchmark.md.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import csv
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from thyme.config.engine import EngineConfig
from thyme.config.evaluation import EvaluationConfig
from thyme.engines.base import Engine
from thyme.engines.scripted import ScriptedEngine
from thyme.eval.benchmarks.base import Benchmark, Figures, Row
from thyme.eval.benchmarks.figures import accuracy, mean
from thyme.eval.items import ItemResult
from thyme.eval.run.folder import Run
from thyme.eval.run.run import run_evaluation
from thyme.eval.run.sources import file_source
from thyme.models import open_model
from thyme.sandbox import open_sandbox
from thyme.types import ImageRecord, Problem, Score

ALWAYS_THREE = "<think>I count three.</think>\n<answer>3</answer>"


def to_problem(row: Row, images: tuple[ImageRecord, ...]) -> Problem:
    """A row of the file; whatever scoring and figures need goes into ``kind`` and ``meta``."""
    return Problem(id=row["index"], question=row["question"], images=images, answer=row["answer"], kind=row["category"])


def score(problem: Problem, answer: str | None) -> Score:
    """1 for the number, 0.5 for one beside it. No answer is a wrong answer; None would mean: not scored."""
    said = "" if answer is None else answer.strip()
    if problem.answer is None or not said.isdecimal():
        return Score(value=0.0, note="no number")
    off = abs(int(said) - int(problem.answer))
    return Score(value={0: 1.0, 1: 0.5}.get(off, 0.0), note=f"off by {off}")


def figures(items: Sequence[ItemResult]) -> Figures:
    """Made of any part of the items, so that intervals can be drawn; None where there are none."""
    exact = mean(None if item.score is None else float(item.score == 1) for item in items)
    return {"overall": accuracy(items), "exact": exact}


SQUARES = Benchmark(
    name="Squares",
    title="Count the squares",
    to_problem=to_problem,
    score=score,
    figures=figures,
    headline="overall",
    source="drawn by this example",
)


def write_rows(path: Path, count: int = 6) -> Path:
    """A file in VLMEvalKit's layout: pictures of 1 to 6 squares, as base64."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, delimiter="\t")
        rows.writerow(["index", "image", "question", "answer", "category"])
        for index in range(count):
            number = index % 6 + 1
            rows.writerow(
                [index, _drawn(number), "How many squares are there?", number, "few" if number < 4 else "many"]
            )
    return path


def _drawn(number: int) -> str:
    picture = Image.new("RGB", (200, 60), "white")
    for place in range(number):
        ImageDraw.Draw(picture).rectangle((10 + 30 * place, 20, 30 + 30 * place, 40), fill="navy")
    file = io.BytesIO()
    picture.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def open_asked(model: str, config: EngineConfig) -> Engine:
    """The script, or the model of that name."""
    return ScriptedEngine([ALWAYS_THREE]) if model == "three" else open_model(model, config)


async def evaluate(out: Path, model: str) -> Run:
    """Ask every row, and go on where an earlier run was interrupted."""
    out.mkdir(parents=True, exist_ok=True)
    source = file_source(SQUARES, write_rows(out / "squares.tsv"))
    config = EvaluationConfig(engine=EngineConfig(model=model))
    return await run_evaluation(config, [source], out, open_model=open_asked, open_sandbox=open_sandbox)


def main() -> None:
    """Ask, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, help="folder of the run")
    parser.add_argument("--model", default="three", help="nano, a folder, a hub id, URL#NAME")
    given = parser.parse_args()
    run = asyncio.run(evaluate(given.out, given.model))
    print(SQUARES.figures(run.items))


if __name__ == "__main__":
    main()
