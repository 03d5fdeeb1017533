"""From samples to rates: how often right, how often code was used, how often it ran. A rate without cases is null."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from thyme.eval.scoring import wilson
from thyme.types import Observation, Score, Segment, StopReason, Trajectory

ALL = "all"
"""Name of the summary over every kind."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One rollout and its score; a value of None is not scored (no reference, or the machinery failed)."""

    trajectory: Trajectory
    score: Score

    @property
    def failed(self) -> bool:
        """Whether engine or sandbox failed, so that nothing can be said about the model."""
        return self.trajectory.stop is StopReason.ERROR


@dataclass(frozen=True, slots=True)
class Rate:
    """How often something happened."""

    hits: float
    """A sum of scores; a whole number where each is 0 or 1."""
    n: int

    @property
    def value(self) -> float | None:
        """The rate, or None without cases."""
        return self.hits / self.n if self.n else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's 95 % interval, or None without cases."""
        return wilson(round(self.hits), self.n) if self.n else None


@dataclass(frozen=True, slots=True)
class Summary:
    """The samples of one kind, in figures."""

    kind: str
    n: int
    """Samples, whatever became of them."""
    failed: int
    """Samples whose machinery failed; they count in no rate."""
    accuracy: Rate
    """Of the scored samples, those that were right."""
    tool_rate: Rate
    """Of the samples that did not fail, those that ran code."""
    executable_rate: Rate
    """Of the code blocks that ran, those that ended without an error."""
    seconds: float
    """Sum over the rollouts, as if one ran after the other."""

    def as_json(self) -> dict[str, Any]:
        """Plain values for a report; a rate without cases is None."""
        rates = {"accuracy": self.accuracy, "tool_rate": self.tool_rate, "executable_rate": self.executable_rate}
        plain: dict[str, Any] = {name: rate.value for name, rate in rates.items()}
        plain |= {f"{name}_interval": rate.interval for name, rate in rates.items()}
        return plain | {"n": self.n, "scored": self.accuracy.n, "failed": self.failed, "seconds": self.seconds}


def summarise(samples: Iterable[Sample]) -> dict[str, Summary]:
    """Summaries by kind, in the order in which kinds first appear, and one over `ALL` at the end."""
    kinds: dict[str, list[Sample]] = {}
    everything = list(samples)
    for sample in everything:
        kinds.setdefault(sample.trajectory.problem.kind, []).append(sample)
    kinds.pop(ALL, None)
    return {kind: _summary(kind, group) for kind, group in kinds.items()} | {ALL: _summary(ALL, everything)}


def _summary(kind: str, samples: Sequence[Sample]) -> Summary:
    told = [sample for sample in samples if not sample.failed]
    values = [sample.score.value for sample in told if sample.score.value is not None]
    blocks = [observation.execution for sample in told for observation in sample.trajectory.observations]
    return Summary(
        kind=kind,
        n=len(samples),
        failed=len(samples) - len(told),
        accuracy=Rate(sum(values), len(values)),
        tool_rate=Rate(sum(1 for sample in told if sample.trajectory.observations), len(told)),
        executable_rate=Rate(sum(1 for block in blocks if block.error is None), len(blocks)),
        seconds=sum(sample.trajectory.timings.total_s for sample in samples),
    )


def without_pictures(sample: Sample) -> Sample:
    """What a summary needs of a sample; the pictures of a thousand would not fit into a laptop's memory."""
    trajectory = sample.trajectory
    bare = trajectory.model_copy(
        update={
            "problem": trajectory.problem.model_copy(update={"images": ()}),
            "prompt": trajectory.prompt.model_copy(update={"images": ()}),
            "segments": tuple(_without_images(segment) for segment in trajectory.segments),
        }
    )
    return Sample(bare, sample.score)


def _without_images(segment: Segment) -> Segment:
    if not isinstance(segment, Observation):
        return segment
    return segment.model_copy(update={"execution": segment.execution.model_copy(update={"images": ()})})
