"""What others report is kept as they print it, and under names that the benchmarks' figures really have."""

from __future__ import annotations

import pytest

from thyme.eval.benchmarks import BENCHMARKS
from thyme.eval.published_scores import DOMAINS, MARS, PAPER, PAPER_MODELS, REPORTED, Reported


def reported(benchmark: str, source: str) -> list[Reported]:
    return [row for row in REPORTED[benchmark] if row.source == source]


PAPERS = {name: reported(name, PAPER) for name in REPORTED}


def test_every_row_is_about_a_benchmark_that_can_be_asked() -> None:
    assert set(REPORTED) <= set(BENCHMARKS)
    assert all(row.source and row.scores for rows in REPORTED.values() for row in rows)
    for name, rows in PAPERS.items():
        assert BENCHMARKS[name].headline in {row.figure for row in rows}


def test_the_papers_table_is_whole() -> None:
    assert sum(map(len, PAPERS.values())) == 36
    assert all(tuple(row.scores) == PAPER_MODELS for rows in PAPERS.values() for row in rows)
    scores = [score for rows in REPORTED.values() for row in rows for score in row.scores.values()]
    assert all(20 <= score <= 95 for score in scores)


@pytest.mark.parametrize(
    ("benchmark", "figure", "model", "score"),
    [
        ("VStarBench", "overall", "Thyme-7B", 82.2),
        ("HRBench4K", "cross", "InternVL3-8B", 61.3),
        ("HallusionBench", "fAcc", "Qwen2.5-VL-32B", 50.6),
        ("ChartQA_TEST", "augmented", "Qwen2.5-VL-7B", 94.9),
        ("MME-RealWorld-CN", "reasoning", "GPT-4o", 51.3),
        ("BLINK", "overall", "Thyme-7B", 56.1),
        ("BLINK", "nonsense", "Thyme-7B", None),
    ],
)
def test_scores_of_the_paper(benchmark: str, figure: str, model: str, score: float | None) -> None:
    found = {row.figure: row.scores for row in PAPERS[benchmark]}
    assert found.get(figure, {}).get(model) == score


def test_what_changed_since_the_paper_stands_beside_its_figures() -> None:
    notes = {name: rows[0].note for name, rows in PAPERS.items()}
    assert "correction of 134" in notes["BLINK"]
    assert "5 % of the answer" in notes["ChartQA_TEST"]
    assert BENCHMARKS["BLINK"].files == ("BLINK.fixed.tsv",)  # its name since
    assert "3b6649b6" in BENCHMARKS["BLINK"].notes


def test_parts_that_the_paper_adds_up_do() -> None:
    """Gains that table 4 prints beside its scores: 38.75 to 49.27 is +27.14 %."""
    rows = {row.label: row.scores for row in reported("MME-RealWorld", DOMAINS)}
    gains = {"Perception, monitoring": 27.14, "Perception, autonomous driving": 64.99, "Reasoning, monitoring": 81.57}
    for label, gain in gains.items():
        scores = rows[label]
        assert 100 * (scores["Thyme-7B"] / scores["Qwen2.5-VL-7B"] - 1) == pytest.approx(gain, abs=0.06)


def test_averages_of_later_work_add_up() -> None:
    """SenseNova-MARS prints the mean of its four columns."""
    rows = [reported(name, MARS)[0].scores for name in ("VStarBench", "HRBench4K", "HRBench8K", "MME-RealWorld")]
    means = {"Pixel-Reasoner": 71.9, "DeepEyes": 72.5, "Thyme": 74.0, "DeepEyesV2": 74.6, "Mini-o3": 76.1}
    means |= {"Skywork-R1V4-30B": 80.5, "SenseNova-MARS-8B": 80.4, "SenseNova-MARS-32B": 85.9}
    for model, mean in means.items():
        assert sum(row[model] for row in rows) / 4 == pytest.approx(mean, abs=0.06)
