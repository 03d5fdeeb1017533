"""What others report, in percent: the paper's tables, and those of later work. Nothing of it was measured here.

"The paper" is arXiv 2508.11630v1; its models, in the order of its columns, are those of `PAPER_MODELS`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from thyme.types import Record

PAPER_MODELS = ("Thyme-7B", "Qwen2.5-VL-7B", "InternVL3-8B", "Qwen2.5-VL-32B", "GPT-4o")
PAPER = "arXiv 2508.11630, table 3"
DOMAINS = "arXiv 2508.11630, table 4"


class Reported(Record):
    """A row of somebody's table."""

    figure: str
    """Name in the benchmark's figures."""
    label: str
    """Of the row, as the table has it."""
    scores: dict[str, float]
    """By model, percent."""
    source: str
    note: str = ""
    """What one must know to compare with it."""


class Claim(Record):
    """A finding of others about tool use, that this report measures too."""

    what: str
    value: str
    source: str


def _row(values: str) -> dict[str, float]:
    return {model: float(value) for model, value in zip(PAPER_MODELS, values.split(), strict=True)}


_TABLE_3 = (
    ("HRBench4K", "single", "HRBench-4K FSP", "91.0 85.2 78.8 87.5 66.8"),
    ("HRBench4K", "cross", "HRBench-4K FCP", "63.0 52.2 61.3 59.3 63.3"),
    ("HRBench4K", "overall", "HRBench-4K overall", "77.0 68.8 70.0 73.4 65.0"),
    ("HRBench8K", "single", "HRBench-8K FSP", "86.5 78.8 78.8 82.3 60.8"),
    ("HRBench8K", "cross", "HRBench-8K FCP", "57.5 51.8 59.8 58.5 58.5"),
    ("HRBench8K", "overall", "HRBench-8K overall", "72.0 65.3 69.3 70.4 59.6"),
    ("MME-RealWorld", "perception", "MME-RealWorld perception", "67.1 60.6 63.5 63.8 64.9"),
    ("MME-RealWorld", "reasoning", "MME-RealWorld reasoning", "48.4 38.6 44.9 40.4 47.3"),
    ("MME-RealWorld", "overall", "MME-RealWorld overall", "64.8 58.3 61.3 61.0 62.8"),
    ("MME-RealWorld-CN", "perception", "MME-RealWorld-CN perception", "70.5 68.0 65.5 68.0 63.6"),
    ("MME-RealWorld-CN", "reasoning", "MME-RealWorld-CN reasoning", "52.1 45.6 50.0 44.4 51.3"),
    ("MME-RealWorld-CN", "overall", "MME-RealWorld-CN overall", "64.6 60.8 60.5 60.5 59.7"),
    ("MME-RealWorld-Lite", "perception", "MME-RealWorld-Lite perception", "59.1 48.8 51.0 50.6 54.4"),
    ("MME-RealWorld-Lite", "reasoning", "MME-RealWorld-Lite reasoning", "49.1 37.7 44.8 39.3 48.3"),
    ("MME-RealWorld-Lite", "overall", "MME-RealWorld-Lite overall", "55.2 44.1 48.6 46.2 52.0"),
    ("VStarBench", "attribute", "V* attribute", "83.5 78.2 67.8 77.4 72.2"),
    ("VStarBench", "spatial", "V* spatial", "80.3 73.6 73.7 86.8 60.5"),
    ("VStarBench", "overall", "V* overall", "82.2 76.4 70.2 81.2 67.5"),
    ("RealWorldQA", "overall", "RealWorldQA", "70.2 68.2 70.0 70.2 75.5"),
    ("MathVision_MINI", "overall", "MathVision mini", "27.6 27.0 26.3 35.2 36.5"),
    ("MathVista_MINI", "overall", "MathVista mini", "70.0 68.2 70.4 72.2 63.4"),
    ("MathVerse_MINI_Vision_Only", "overall", "MathVerse vision only", "39.1 35.2 29.2 40.0 35.3"),
    ("LogicVista", "overall", "LogicVista", "49.0 39.8 45.6 54.4 53.2"),
    ("WeMath", "strict", "WeMath", "39.3 34.3 31.7 47.1 44.2"),
    ("VisuLogic", "overall", "VisuLogic", "23.4 20.0 24.9 25.8 26.7"),
    ("HallusionBench", "aAcc", "HallusionBench aAcc", "71.0 65.6 65.9 71.2 65.2"),
    ("HallusionBench", "fAcc", "HallusionBench fAcc", "48.3 38.8 41.3 50.6 44.8"),
    ("HallusionBench", "qAcc", "HallusionBench qAcc", "47.7 40.4 40.7 49.2 40.7"),
    ("HallusionBench", "overall", "HallusionBench overall", "55.6 48.3 49.3 57.0 50.2"),
    ("MMStar", "overall", "MMStar", "65.9 64.7 68.5 69.1 65.7"),
    ("MMVet_Hard", "overall", "MMVet hard", "58.3 52.9 55.1 48.4 58.3"),
    ("OCRBench", "overall", "OCRBench", "86.3 88.4 88.1 85.5 80.9"),
    ("ChartQA_TEST", "human", "ChartQA human", "80.0 72.5 77.0 76.9 79.5"),
    ("ChartQA_TEST", "augmented", "ChartQA augmented", "92.2 94.9 94.9 82.6 91.9"),
    ("ChartQA_TEST", "overall", "ChartQA overall", "86.1 83.7 85.9 81.1 85.7"),
    ("BLINK", "overall", "BLINK", "56.1 56.4 55.5 63.6 63.3"),
)
"""Benchmark, figure, row, and the scores of `PAPER_MODELS`."""

_NOTES = {
    "BLINK": "The paper's figures are older than the correction of 134 of BLINK's 1901 answers, most of them wrong.",
    "ChartQA_TEST": "When the paper's figures were made, VLMEvalKit took 5 % of the answer, not of the reference.",
    "OCRBench": "The paper prints 809.0 for GPT-4o in a column of percent; it is read as 809 of 1000.",
    "WeMath": "The paper does not say which of WeMath's scores it gives; taken for the strict one.",
    "MMVet_Hard": "The paper's judge of MM-Vet is not stated; VLMEvalKit's is gpt-4-turbo.",
}

_DOMAIN_NAMES = {
    "Monitoring": "Monitoring",
    "Autonomous driving": "Autonomous_Driving",
    "OCR": "OCR with Complex Context",
    "Diagram and table": "Diagram and Table",
    "Remote sensing": "Remote Sensing",
}
"""What the data set calls the domains of table 4."""
_TABLE_4 = (
    ("Perception", "Monitoring", 38.75, 49.27),
    ("Perception", "Autonomous driving", 22.70, 37.46),
    ("Perception", "OCR", 87.00, 88.36),
    ("Perception", "Diagram and table", 78.83, 80.86),
    ("Perception", "Remote sensing", 45.40, 53.93),
    ("Perception", "", 60.94, 67.10),
    ("Reasoning", "Monitoring", 26.10, 47.39),
    ("Reasoning", "Autonomous driving", 24.25, 32.29),
    ("Reasoning", "OCR", 64.80, 70.60),
    ("Reasoning", "Diagram and table", 63.40, 70.40),
    ("Reasoning", "", 38.59, 48.38),
)
"""MME-RealWorld by task and domain: Qwen2.5-VL-7B, Thyme-7B."""

MARS = "SenseNova-MARS, table 2"
MINI_O3 = "Mini-o3, README (mean of 32 runs)"
IVGR = "iVGR"
CODEV = "CodeV, arXiv 2511.19661"
_SETS = ("VStarBench", "HRBench4K", "HRBench8K", "MME-RealWorld")
_OTHERS: tuple[tuple[str, tuple[str, ...], Mapping[str, str]], ...] = (
    (
        MARS,
        _SETS,
        {
            "Pixel-Reasoner": "84.3 72.6 66.1 64.4",
            "DeepEyes": "83.3 73.2 69.5 64.1",
            "Thyme": "82.2 77.0 72.0 64.8",
            "DeepEyesV2": "81.8 77.9 73.8 64.9",
            "Mini-o3": "88.2 77.5 73.3 65.5",
            "Skywork-R1V4-30B": "88.0 82.8 79.8 71.4",
            "SenseNova-MARS-8B": "92.2 83.1 78.4 67.9",
            "SenseNova-MARS-32B": "94.2 90.2 86.6 72.7",
            "Qwen3-VL-8B, no tools": "86.4 78.9 74.6 61.9",
            "Qwen3-VL-32B, no tools": "91.1 84.6 81.6 -",
        },
    ),
    (
        MINI_O3,
        _SETS,
        {
            "DeepEyes": "83.3 73.2 69.5 64.0",
            "Pixel-Reasoner": "86.3 74.0 66.9 64.4",
            "Mini-o3": "88.2 77.5 73.3 65.5",
            "Qwen2.5-VL": "75.5 68.2 62.7 57.3",
            "GPT-4o": "65.2 62.0 58.3 45.2",
        },
    ),
    (
        IVGR,
        (*_SETS[:3], "MME-RealWorld-Lite", "RealWorldQA"),
        {
            "DeepEyes": "82.7 75.1 72.6 53.2 69.4",
            "Thyme": "82.2 77.0 72.0 55.2 70.2",
            "TreeVGR": "83.8 77.1 73.1 54.9 -",
            "iVGR, text only": "86.4 78.3 75.5 55.6 -",
        },
    ),
    (CODEV, _SETS[:2], {"CodeV": "84.8 76.1", "Thyme-7B-RL, measured again": "- 72.3"}),
)
"""Source, benchmarks, and their overall scores by model; a dash for none."""

CLAIMS = (
    Claim(what="uses tools at all", value="Thyme: in fewer than 10 % of rollouts", source=CODEV),
    Claim(
        what="uses tools faithfully",
        value="DeepEyes 57 %, Pixel-Reasoner 43 %, Thyme a single-digit percentage",
        source=CODEV,
    ),
    Claim(
        what="problems solved with tools that are solved without, too",
        value="Thyme 96 %, DeepEyesV2 93 %",
        source="arXiv 2606.02357",
    ),
)
"""What others found about tool use, to stand beside what was measured."""


def _rows() -> Iterator[tuple[str, Reported]]:
    """Benchmark and row."""
    for benchmark, figure, label, values in _TABLE_3:
        note = _NOTES.get(benchmark, "")
        yield benchmark, Reported(figure=figure, label=label, scores=_row(values), source=PAPER, note=note)
    for task, domain, before, after in _TABLE_4:
        figure = f"{task}/{_DOMAIN_NAMES[domain]}" if domain else task.lower()
        label = f"{task}, {domain.lower() if domain != 'OCR' else domain}" if domain else f"{task}, all"
        scores = {"Thyme-7B": after, "Qwen2.5-VL-7B": before}
        yield "MME-RealWorld", Reported(figure=figure, label=label, scores=scores, source=DOMAINS)
    for source, benchmarks, models in _OTHERS:
        for place, benchmark in enumerate(benchmarks):
            told = {model: values.split()[place] for model, values in models.items()}
            known = {model: float(value) for model, value in told.items() if value != "-"}
            label = f"{benchmark} overall"
            yield benchmark, Reported(figure="overall", label=label, scores=known, source=source)


def _by_benchmark() -> dict[str, tuple[Reported, ...]]:
    found: dict[str, list[Reported]] = {}
    for benchmark, row in _rows():
        found.setdefault(benchmark, []).append(row)
    return {benchmark: tuple(rows) for benchmark, rows in found.items()}


REPORTED: Mapping[str, tuple[Reported, ...]] = _by_benchmark()
"""Rows by benchmark, in the order of the tables."""
