"""Scores of VLMEvalKit (packaged as ms-vlmeval), of TIR-Bench's own functions (packaged in evalscope), of math-verify.

Run by benchmarks/eval_parity.py in an environment that has them; see lmms_eval_scores.py for what goes in and out. A
score of None: VLMEvalKit would ask its judge.
"""

from __future__ import annotations

import ast
import importlib
import json
import re
import sys
import sysconfig
import tempfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

SITE = Path(sysconfig.get_paths()["purelib"])
SHELLS = (
    "vlmeval", "vlmeval.dataset", "vlmeval.dataset.utils", "evalscope", "evalscope.benchmarks",
    "evalscope.benchmarks.tir_bench",
)  # fmt: skip


def part(name: str) -> Any:
    """A module of one of the packages, without their ``__init__`` files."""
    for package in SHELLS:
        if package not in sys.modules:
            shell = types.ModuleType(package)
            shell.__path__ = [str(SITE / package.replace(".", "/"))]
            sys.modules[package] = shell
    return importlib.import_module(name)


def chartqa(row: dict[str, Any], answer: str) -> float:
    made = part("vlmeval.dataset.utils.vqa_eval").process_line({**row, "prediction": answer}, "relaxed_accuracy")
    return float(max(made["match"]))


def ocrbench(row: dict[str, Any], answer: str) -> float:
    import pandas

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "cases.tsv")
        pandas.DataFrame([{**row, "index": 0, "prediction": answer}]).to_csv(path, sep="\t", index=False)
        part("vlmeval.dataset.utils.ocrbench").OCRBench_eval(path)
        (made,) = Path(folder).glob("*_score.json")
        return float(json.loads(made.read_text())["Final Score"])


def inferred(answer: str, options: dict[str, str]) -> str | None:
    return part("vlmeval.utils.matching_util").can_infer(answer, options) or None


def lettered(row: dict[str, Any]) -> dict[str, str]:
    return dict(zip("ABCDEFGH", map(str, ast.literal_eval(row["choices"])), strict=False))


def mathvista(row: dict[str, Any], answer: str) -> float | None:
    """A number counts as it stands, right or wrong; what is neither number nor option is extracted first."""
    if row["question_type"] == "multi_choice":
        if inferred(answer, lettered(row)) is None:
            return None
    elif not re.fullmatch(r"-?\d+", answer) and (
        row["answer_type"] != "float" or not re.fullmatch(r"-?\d+(\.\d+)?", answer)
    ):
        return None
    return float(part("vlmeval.dataset.utils.mathvista").post_check({**row, "prediction": answer, "res": answer}))


def mathvision(row: dict[str, Any], answer: str) -> float | None:
    """What is not equal is extracted first, except for an option."""
    right = float(part("vlmeval.dataset.utils.mathv").post_check({**row, "prediction": answer, "res": answer}))
    options = lettered(row)
    return right if right or (options and inferred(answer, options)) else None


def mathverse(row: dict[str, Any], answer: str) -> float | None:
    """What is not the reference to the letter is compared by the judge."""
    return float(part("vlmeval.dataset.utils.mathverse").post_check_score({**row, "extract": answer})) or None


def choice(row: dict[str, Any], answer: str) -> float | None:
    letter = inferred(answer, {letter: row[letter] for letter in "ABCD" if letter in row})
    return None if letter is None else float(letter == row["answer"])


def mme_realworld(row: dict[str, Any], answer: str) -> float:
    return float(part("vlmeval.dataset.utils.multiple_choice").extract_characters_regex(answer) == row["answer"])


def hallusion(row: dict[str, Any], answer: str) -> float | None:
    said = part("vlmeval.dataset.utils.yorn").YOrN_Extraction(answer)
    return None if said == "Unknown" else float(said == row["answer"])


def tir_bench(row: dict[str, Any], answer: str) -> float:
    """The order of the published calculate_score.py, by its functions."""
    tools, answer = part("evalscope.benchmarks.tir_bench.utils"), answer.replace("*", "").strip()
    reference, task = str(row["answer"]), row["task"]
    if task == "ocr":
        return float(reference in answer)
    kind = tools.classify_string(reference)
    try:
        if task == "jigsaw":
            side = row["meta_data"]["difficulty"]
            found = [tools.extract_consecutive_n_squared(text, side) for text in (reference, answer)]
            return float(tools.compare(*found))
        if task == "word_search" and kind != 2:
            return float(tools.extract_two_numbers(reference) == tools.extract_two_numbers(answer))
        if task == "spot_difference" and kind != 2:
            lists = [tools.extract_consecutive_integers(text) for text in (answer, reference)]
            return float(tools.list_iou(*lists))
    except ValueError:
        return 0.0
    if kind == 1:
        return float(tools.judge_choice(answer, reference, row["prompt"]))
    return float((tools.judge_int if kind == 2 else tools.judge_float)(answer, reference))


def expression(row: dict[str, Any], answer: str) -> float:
    from math_verify import LatexExtractionConfig, parse, verify

    read = [parse(f"${text}$", [LatexExtractionConfig()]) for text in (row["answer"], answer)]
    return float(verify(*read))


def hr_bench(rows: list[dict[str, Any]]) -> dict[str, float]:
    import pandas

    frame = pandas.DataFrame([{**one["row"], "hit": one["score"]} for one in rows])
    made = part("vlmeval.dataset.utils.hrbench").report_acc_hrbench(frame)
    average = made[made["cycle"] == "Average"]
    return {{"all": "overall"}.get(kind, kind): value
            for kind, value in zip(average["type"], average["accuracy"], strict=True)}  # fmt: skip


def hallusion_figures(rows: list[dict[str, Any]]) -> dict[str, float]:
    import pandas

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "cases.tsv")
        frame = pandas.DataFrame([{**one["row"], "score": bool(one["score"])} for one in rows])
        frame.to_csv(path, sep="\t", index=False)
        made = part("vlmeval.dataset.utils.yorn").Hallusion_rating(path)
    lines = {line["split"]: line for line in made.to_dict("records")}
    prefix = {name: "" if name == "Overall" else f"{name}/" for name in lines}
    return {f"{prefix[name]}{key}": line[key] / 100 for name, line in lines.items() for key in ("aAcc", "fAcc", "qAcc")}


def mmvet(rows: list[dict[str, Any]]) -> dict[str, float]:
    import pandas

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "cases.tsv")
        pandas.DataFrame([{**one["row"], "score": one["score"]} for one in rows]).to_csv(path, sep="\t", index=False)
        made, _ = part("vlmeval.dataset.utils.mmvet").MMVet_acc(path)
    return {re.sub("^Overall$", "overall", line["Category"]): line["acc"] / 100 for line in made.to_dict("records")}


SCORES: dict[str, Callable[[dict[str, Any], str], float | None]] = {
    "ChartQA_TEST": chartqa,
    "OCRBench": ocrbench,
    "MathVista_MINI": mathvista,
    "MathVision_MINI": mathvision,
    "MathVerse_MINI_Vision_Only": mathverse,
    "VStarBench": choice,
    "MME-RealWorld": mme_realworld,
    "HallusionBench": hallusion,
    "TIR-Bench": tir_bench,
    "math-verify": expression,
}
FIGURES: dict[str, Callable[[list[dict[str, Any]]], dict[str, float]]] = {
    "HRBench4K": hr_bench,
    "HallusionBench": hallusion_figures,
    "MMVet": mmvet,
}


def main() -> None:
    asked = json.load(sys.stdin)
    scores = {name: [SCORES[name](one["row"], one["answer"]) for one in cases]
              for name, cases in asked["scores"].items() if name in SCORES}  # fmt: skip
    figures = {name: FIGURES[name](rows) for name, rows in asked["figures"].items() if name in FIGURES}
    Path(sys.argv[1]).write_text(json.dumps({"scores": scores, "figures": figures}), encoding="utf-8")


if __name__ == "__main__":
    main()
