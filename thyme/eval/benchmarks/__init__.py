"""The benchmarks, by the names that VLMEvalKit gives them."""

from __future__ import annotations

from collections.abc import Mapping

from thyme.eval.benchmarks import (
    charts,
    choice_sets,
    documents,
    free,
    logic,
    maths_verse,
    maths_vision,
    maths_vista,
    perception,
    tools_mv,
    tools_tir,
    wemath,
    yes_no,
)
from thyme.eval.benchmarks.base import Benchmark

BENCHMARKS: Mapping[str, Benchmark] = {
    **choice_sets.BENCHMARKS,
    **perception.BENCHMARKS,
    **yes_no.BENCHMARKS,
    **logic.BENCHMARKS,
    **wemath.BENCHMARKS,
    **maths_vista.BENCHMARKS,
    **maths_verse.BENCHMARKS,
    **maths_vision.BENCHMARKS,
    **free.BENCHMARKS,
    **documents.BENCHMARKS,
    **charts.BENCHMARKS,
    **tools_tir.BENCHMARKS,
    **tools_mv.BENCHMARKS,
}
"""Every benchmark with a published scoring. Files of your own: `thyme.eval.benchmarks.custom`."""
