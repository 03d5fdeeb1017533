"""Our scorers say what lmms-eval, VLMEvalKit, TIR-Bench's functions and math-verify said of the same answers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
RECORD = ROOT / "tests" / "data" / "eval_parity.json"
"""Made by ``python benchmarks/eval_parity.py --environments FOLDER --cases 60 --record FILE``."""
DIFFERENT = {
    # lmms-eval reads no option out of `**D**` or a sentence, and rounds to two digits without simplifying.
    ("lmms-eval", "MathVision_MINI"): {("A", "Answer: 2"), ("D", "**D**"), ("2\\sqrt{3}", "\\sqrt{12}")},
    # VLMEvalKit's list of announcements lacks two commas, so that the B of "Best" is what is answered.
    ("vlmevalkit", "MME-RealWorld"): {("A", "Best answer: A")},
}
"""Reference and answer, where we score otherwise; see docs/benchmarks_eval.md."""


@pytest.fixture
def parity(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import eval_parity

    return eval_parity


@pytest.fixture
def record() -> dict[str, Any]:
    kept: dict[str, Any] = json.loads(RECORD.read_text(encoding="utf-8"))
    return kept


def test_the_same_answers_get_the_same_scores(parity: ModuleType, record: dict[str, Any]) -> None:
    cases, _ = parity.made_up(record["cases"], record["seed"])
    known = asyncio.run(parity.all_ours(cases))
    for peer, said in record["peers"].items():
        for one in parity.compared(cases, known, said):
            differing = {(case["row"]["answer"], case["answer"]) for case in one.differing}
            assert differing == DIFFERENT.get((peer, one.name), set()), (peer, one.name)
            decided = sum(ours is not None and theirs is not None for ours, theirs in one.pairs)
            assert decided >= 15, f"{peer} and we decide too little of {one.name} to be compared"


def test_the_same_scores_make_the_same_figures(parity: ModuleType, record: dict[str, Any]) -> None:
    _, scored = parity.made_up(record["cases"], record["seed"])
    compared = set()
    for peer, said in record["peers"].items():
        for name, gaps in parity.figure_gaps(scored, said).items():
            compared.add((peer, name))
            if (peer, name) == ("vlmevalkit", "MMVet"):  # it counts a question of one capability twice for that one
                gaps = {"overall": gaps["overall"]}
            assert max(gaps.values()) < 1e-12, (peer, name)
    assert len(compared) == 4


def test_a_line_counts_who_decides(parity: ModuleType) -> None:
    pairs = [(1.0, 1.0), (1.0, 0.0), (None, 1.0), (0.0, None), (None, None), (0.5, 0.5)]
    cases = [{"row": {"answer": str(place)}, "answer": "x"} for place in range(6)]
    one = parity.Answered("made up", pairs, cases)
    assert one.line() == "| made up | 6 | 3 | 2 | 1 | 1 | 1 | 1 |"
    assert [case["row"]["answer"] for case in one.differing] == ["1"]
