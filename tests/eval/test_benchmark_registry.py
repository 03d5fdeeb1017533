"""Every benchmark keeps what the registry promises, and has the figures that others report for it."""

from __future__ import annotations

import re

import pytest
from benchmark_rows import item

from thyme.eval.benchmarks import BENCHMARKS
from thyme.eval.benchmarks.base import Benchmark
from thyme.eval.published_scores import REPORTED
from thyme.types import Problem

ALL = pytest.mark.parametrize("benchmark", BENCHMARKS.values(), ids=BENCHMARKS.keys())
MULTIPLE_CHOICE = (
    "VStarBench", "HRBench4K", "HRBench8K", "MME-RealWorld", "MME-RealWorld-Lite", "MME-RealWorld-CN", "RealWorldQA",
    "MMStar", "BLINK", "HallusionBench", "VisuLogic", "LogicVista", "WeMath",
)  # fmt: skip


def test_the_multiple_choice_sets_are_there() -> None:
    assert set(MULTIPLE_CHOICE) <= set(BENCHMARKS)


@ALL
def test_names_rows_and_sources(benchmark: Benchmark) -> None:
    assert BENCHMARKS[benchmark.name] is benchmark
    assert benchmark.source
    assert benchmark.rows is None or benchmark.rows > 0
    assert benchmark.md5 is None or re.fullmatch("[0-9a-f]{32}", benchmark.md5)


@ALL
def test_without_items_there_is_no_figure_and_no_zero(benchmark: Benchmark) -> None:
    figures = benchmark.figures([])
    assert benchmark.headline in figures
    assert set(figures.values()) == {None}


@ALL
def test_unscored_items_give_no_figure(benchmark: Benchmark) -> None:
    assert set(benchmark.figures([item("0", None), item("1", None)]).values()) == {None}


@ALL
def test_no_answer_is_wrong_and_no_reference_is_not_scored(benchmark: Benchmark) -> None:
    problem = Problem(id="0", question="?", answer="A")
    assert benchmark.score(problem, None).value == 0.0
    assert benchmark.score(problem.model_copy(update={"answer": None}), "A").value is None


DOMAINS = ("Monitoring", "Autonomous_Driving", "OCR with Complex Context", "Diagram and Table", "Remote Sensing")
"""Second parts of MME-RealWorld's categories, as VLMEvalKit names them."""


def test_what_others_report_are_figures_of_the_benchmarks() -> None:
    """A name that no benchmark computes would stand in the report beside nothing for ever."""
    items = [
        item(f"{task}{domain}", 1.0, task, domain=domain) for task in ("Perception", "Reasoning") for domain in DOMAINS
    ]
    items += [item(half, 1.0, half) for half in ("human", "augmented")]
    known = {name: set(benchmark.figures(items)) for name, benchmark in BENCHMARKS.items()}
    named = {(name, row.figure) for name, rows in REPORTED.items() for row in rows}
    assert {(name, figure) for name, figure in named if figure not in known.get(name, ())} == set()
