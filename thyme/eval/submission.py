"""Predictions in the layouts that others read: VLMEvalKit's table, MM-Vet's JSON, HallusionBench's JSON.

They are made of items, which hold answers and no questions: VLMEvalKit's own file has the benchmark's other columns
too, to be joined by ``index``. A problem without an answer has an empty prediction.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from thyme.eval.items import RETRY, TOOLS, ItemResult
from thyme.eval.manifest import RunManifest
from thyme.store import write_text

_FOLDERS = {TOOLS: "single", RETRY: "retry"}
"""Of the arms that one would submit."""
_ODD = re.compile(r"[^\w.-]+")


def write_submissions(folder: Path, manifest: RunManifest, items: Sequence[ItemResult]) -> list[Path]:
    """Write what there is a layout for.

    Args:
        folder: ``single/`` and ``retry/`` are made in it, as far as these arms were run.
        manifest: Names the model.
        items: Of a whole run.

    Returns:
        The files.
    """
    written = []
    for arm, name in _FOLDERS.items():
        parts: dict[str, list[ItemResult]] = {}
        for item in items:
            if item.arm == arm:
                parts.setdefault(item.benchmark, []).append(item)
        for benchmark, part in parts.items():
            for ending, text in _files(benchmark, part):
                path = folder / name / f"{_plain(manifest.model)}_{_plain(benchmark)}{ending}"
                write_text(path, text)
                written.append(path)
    return written


def _plain(name: str) -> str:
    return _ODD.sub("_", name).strip("._") or "model"


def _files(benchmark: str, items: Sequence[ItemResult]) -> Iterator[tuple[str, str]]:
    yield ".tsv", vlmevalkit_table(items)
    if benchmark in _LEADERBOARDS:
        yield ".json", json.dumps(_LEADERBOARDS[benchmark](items), indent=2, ensure_ascii=False) + "\n"


def vlmevalkit_table(items: Sequence[ItemResult]) -> str:
    """VLMEvalKit's prediction file as far as items know it: ``index``, ``category``, ``answer``, ``prediction``."""
    buffer = io.StringIO()
    # All is quoted: csv leaves a carriage return unquoted where lines end without one, and pandas ends the row there.
    writer = csv.writer(buffer, dialect="excel-tab", lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(["index", "category", "answer", "prediction"])
    writer.writerows([item.problem, item.kind, item.reference or "", item.prediction or ""] for item in items)
    return buffer.getvalue()


def mm_vet(items: Sequence[ItemResult]) -> dict[str, str]:
    """What MM-Vet's evaluator takes: answers by the question's id, ``v1_0`` and so on."""
    return {_mm_vet_id(item.problem): item.prediction or "" for item in items}


def _mm_vet_id(problem: str) -> str:
    return problem if problem.startswith("v1_") else f"v1_{problem}"


def hallusion_bench(items: Sequence[ItemResult]) -> list[dict[str, Any]]:
    """What HallusionBench's evaluation takes, as far as items know it: its rows, each with ``model_prediction``.

    Its script also reads ``question``, ``gt_answer_details`` and ``visual_input``: join them from its file.
    """
    return [
        {
            "category": item.kind,
            "subcategory": item.meta.get("l2_category", ""),
            "set_id": str(item.meta.get("set", "")),
            "figure_id": str(item.meta.get("figure", "")),
            "question_id": str(item.meta.get("question", "")),
            "gt_answer": {"yes": "1", "no": "0"}.get((item.reference or "").lower(), ""),
            "model_prediction": item.prediction or "",
        }
        for item in items
    ]


_LEADERBOARDS: dict[str, Callable[[Sequence[ItemResult]], Any]] = {
    "MMVet": mm_vet,
    "HallusionBench": hallusion_bench,
}
