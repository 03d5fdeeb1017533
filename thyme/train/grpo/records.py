"""What a run of GRPO leaves behind: plain records, written as JSON and drawn by `thyme.train.grpo.report`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from thyme.config.grpo import GRPOSettings
from thyme.train.run.records import EvaluationPoint


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Gap(_Record):
    """How far the log-probabilities of sampler and trainer are apart, on generated tokens of one sort."""

    tokens: int
    mean: float
    """Mean of |difference|, nats."""
    largest: float
    """Largest |difference|, nats."""
    kl: float | None = None
    """k3 estimate of KL(sampler || trainer), nats a token; None for greedy tokens, which were not drawn."""


class Trained(_Record):
    """What one optimiser step was, over all processes."""

    loss: float
    learning_rate: float
    grad_norm: float | None = None
    """Before clipping."""
    kl: float | None = None
    """k3 to the reference, nats a token of the loss; None without reference."""
    entropy: dict[str, float] = {}
    """Mean entropy at the tokens of each kind (``text``, ``code``), nats, under logits / tau."""
    tokens: int
    """The normaliser: generated tokens of all members that are in the loss, without observations."""
    members: int
    """Rollouts in the loss."""
    gaps: dict[str, Gap] = {}
    """By sort: ``text``, ``code`` (both drawn at tau > 0), ``greedy`` (tau = 0)."""


class Alarm(_Record):
    """A monitor that spoke up."""

    name: str
    """As in `thyme.train.grpo.alarms.ALARMS`."""
    step: int
    message: str
    """What was measured, against which bound."""
    advice: str
    """What to do."""


class StepRecord(_Record):
    """One optimiser step; a line of ``steps.jsonl`` in the folder of the run."""

    step: int
    """From 1."""
    metrics: dict[str, float | None]
    """By name, as `thyme.train.grpo.monitors.METRICS` lists them; None where there was no case."""
    kinds: dict[str, dict[str, float | None]] = {}
    """By kind of problem: ``rollouts`` (how many), ``reward``, ``right``, ``tool_rate``, ``executable``, ``with_code``
    and ``without_code`` (right among those), ``code_benefit``."""
    seconds: dict[str, float] = {}
    """Wall clock by part: ``rollout``, ``reference``, ``train``, ``sync``, ``total``."""
    counts: dict[str, int] = {}
    """Members, unscored ones, zero-variance groups, dropped groups, resampled groups, retries, judge requests, ..."""
    alarms: tuple[Alarm, ...] = ()
    """Those that began at this step."""


class GRPORunReport(_Record):
    """A whole run; ``grpo_report.json`` in its folder. Holds no path of the machine."""

    name: str
    model: str
    """Name of what training started from."""
    steps: tuple[StepRecord, ...]
    planned: int | None = None
    """Steps that the run is to have; None where that is not known."""
    finished: bool = True
    """False while it runs, and after it was interrupted."""
    evaluations: tuple[EvaluationPoint, ...] = ()
    seconds: float
    """Of training, evaluation included; of all parts of a resumed run."""
    processes: int = 1
    device: str = "cpu"
    versions: dict[str, str] = {}
    settings: GRPOSettings
    code_temperature: float
    recipe: dict[str, Any] = {}
    """The recipe as it ran, paths reduced to names."""
