"""What a run of training leaves behind: plain records, written as JSON and drawn by `thyme.train.report.page`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from thyme.config.sft import SFTSettings


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Point(_Record):
    """One logged step."""

    step: int
    loss: float
    """Mean over the trained tokens of the steps since the last point, nats."""
    learning_rate: float
    token_accuracy: float | None = None
    """Share of the trained tokens that are the most probable one."""
    grad_norm: float | None = None
    """Before clipping."""


class ValidationPoint(_Record):
    """The loss on validation samples at a step."""

    step: int
    loss: float
    """Nats a trained token."""


class SourceReport(_Record):
    """What became of one source of samples."""

    name: str
    format: str
    rows: int
    """Rows read."""
    samples: int
    """Those of them that are trained on, once each."""
    repeat: int = 1
    drops: dict[str, int] = {}
    """Rows that are not, by reason."""
    tokens: int = 0
    trained_tokens: int = 0
    images: int = 0
    rounds: dict[str, int] = {}
    """Samples by number of code rounds."""
    mask: str = ""
    """Mask policy."""


def summed(reports: Sequence[SourceReport]) -> SourceReport:
    """What became of one source of which several readers have read a part each."""
    total: dict[str, Any] = {
        name: sum(getattr(report, name) for report in reports)
        for name in ("rows", "samples", "tokens", "trained_tokens", "images")
    }
    for name in ("drops", "rounds"):
        total[name] = dict(sum((Counter(getattr(report, name)) for report in reports), Counter[str]()))
    return reports[0].model_copy(update=total)


class EvaluationPoint(_Record):
    """What the evaluation found at a step."""

    stage: str
    step: int
    """Of the stage; 0 is before its first step."""
    seconds: float
    kinds: dict[str, dict[str, Any]]
    """`thyme.eval.summary.Summary.as_json` by kind, ``all`` among them."""


class StageReport(_Record):
    """One stage."""

    name: str
    sources: tuple[SourceReport, ...]
    samples: int
    tokens: int
    """Tokens of all samples, once each."""
    trained_tokens: int
    """Those of them that are trained on."""
    steps: int
    seconds: float
    """Of training, without loading and evaluation; of the last part only where the run was resumed."""
    samples_per_second: float
    tokens_per_second: float | None = None
    peak_memory_bytes: int | None = None
    """Of the device where it is a GPU, else of the process."""
    curve: tuple[Point, ...]
    validation: tuple[ValidationPoint, ...] = ()
    settings: SFTSettings


class SFTRunReport(_Record):
    """A whole run; ``sft_report.json`` in its folder. Holds no path of the machine."""

    name: str
    model: str
    """Name of what training started from."""
    stages: tuple[StageReport, ...]
    evaluations: tuple[EvaluationPoint, ...] = ()
    processes: int = 1
    device: str = "cpu"
    versions: dict[str, str] = {}
    """Of Python and the libraries that matter."""
    recipe: dict[str, Any] = {}
    """The recipe as it ran, paths reduced to names."""
