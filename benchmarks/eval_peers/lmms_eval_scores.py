"""Scores of lmms-eval, by its own functions. Run by benchmarks/eval_parity.py in an environment that has lmms-eval.

Reads ``{"scores": {BENCHMARK: [{"row", "answer"}]}, "figures": {BENCHMARK: [{"row", "score"}]}}`` from stdin and writes
the scores in the same order, and the figures, to the file named. The package's ``__init__`` files are passed over,
which import every model and every benchmark; what scores is imported as it is.
"""

from __future__ import annotations

import ast
import importlib
import json
import sys
import sysconfig
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

SITE = Path(sysconfig.get_paths()["purelib"])


def part(name: str) -> Any:
    """A module of lmms_eval.tasks."""
    for package in ("lmms_eval", "lmms_eval.tasks", "lmms_eval.tasks._task_utils"):
        if package not in sys.modules:
            shell = types.ModuleType(package)
            shell.__path__ = [str(SITE / package.replace(".", "/"))]
            sys.modules[package] = shell
    return importlib.import_module(f"lmms_eval.tasks.{name}")


def chartqa(row: dict[str, Any], answer: str) -> float:
    return float(part("chartqa.utils").relaxed_correctness(answer, row["answer"]))


def ocrbench(row: dict[str, Any], answer: str) -> float:
    formulas = row["category"].startswith("Handwritten Math")
    doc = {"answer": ast.literal_eval(row["answer"]), "dataset": "HME100k" if formulas else "other",
           "question_type": row["category"]}  # fmt: skip
    return float(part("ocrbench.utils").ocrbench_process_results(doc, [answer])["ocrbench_accuracy"]["score"])


def mathvista(row: dict[str, Any], answer: str) -> float:
    """Of an answer as if it had been extracted, by the rules of the benchmark's authors."""
    evaluator = part("mathvista.mathvista_evals").MathVistaEvaluator()
    choices, digits = ast.literal_eval(row["choices"]), int(float(row["precision"] or 0))
    made = evaluator.normalize_extracted_answer(answer, choices, row["question_type"], row["answer_type"], digits)
    return float(evaluator.safe_equal(made, row["answer"]))


def mathvision(row: dict[str, Any], answer: str) -> float:
    doc = {"answer": row["answer"], "options": ast.literal_eval(row["choices"])}
    made = part("mathvision.utils").mathvision_process_results(doc, [answer])
    return float(made["mathvision_standard_eval"]["scores"][0])


def mme_realworld(row: dict[str, Any], answer: str) -> float:
    return float(part("mme_realworld.utils").extract_characters_regex(answer) == row["answer"])


def mmvet_overall(rows: list[dict[str, Any]]) -> dict[str, float]:
    results = [{"score": one["score"], "capabilities": one["row"]["category"]} for one in rows]
    return {"overall": part("mmvet.utils").mmvet_aggregate_results(results) / 100}


SCORES: dict[str, Callable[[dict[str, Any], str], float]] = {
    "ChartQA_TEST": chartqa,
    "OCRBench": ocrbench,
    "MathVista_MINI (official)": mathvista,
    "MathVision_MINI": mathvision,
    "MME-RealWorld": mme_realworld,
}
FIGURES: dict[str, Callable[[list[dict[str, Any]]], dict[str, float]]] = {"MMVet": mmvet_overall}


def main() -> None:
    asked = json.load(sys.stdin)
    scores = {name: [SCORES[name](one["row"], one["answer"]) for one in cases]
              for name, cases in asked["scores"].items() if name in SCORES}  # fmt: skip
    figures = {name: FIGURES[name](rows) for name, rows in asked["figures"].items() if name in FIGURES}
    Path(sys.argv[1]).write_text(json.dumps({"scores": scores, "figures": figures}), encoding="utf-8")


if __name__ == "__main__":
    main()
