"""Hand-made reports of runs for the tests of what is shown of them. Not a test."""

from __future__ import annotations

import math
from collections.abc import Sequence

import sample_records

from thyme.config.sft import SFTSettings
from thyme.config.training import LoraSettings
from thyme.eval.scoring import wilson
from thyme.eval.summary import Sample
from thyme.train.run.records import EvaluationPoint, Point, SFTRunReport, SourceReport, StageReport, ValidationPoint
from thyme.types import Score


def rates(hits: int, n: int, tools: int) -> dict[str, object]:
    """What `Summary.as_json` says."""
    return {
        "accuracy": hits / n if n else None,
        "accuracy_interval": wilson(hits, n) if n else None,
        "tool_rate": tools / n if n else None,
        "tool_rate_interval": wilson(tools, n) if n else None,
        "executable_rate": None,
        "executable_rate_interval": None,
        "n": n,
        "scored": n,
        "failed": 0,
        "seconds": 1.5,
    }


def evaluation(stage: str, step: int, hits: int) -> EvaluationPoint:
    """Accuracy `hits` of 40 at zoom, none asked of arithmetic."""
    kinds = {"zoom": rates(hits, 40, min(2 * hits, 40)), "arithmetic": rates(0, 0, 0), "all": rates(hits, 40, hits)}
    return EvaluationPoint(stage=stage, step=step, seconds=12.0, kinds=kinds)


def stage(name: str, *, steps: int = 200, validated: bool = True, rate: float = 1e-5) -> StageReport:
    """A stage whose loss falls."""
    points = tuple(
        Point(
            step=step,
            loss=0.3 + 1.7 * math.exp(-step / 60),
            learning_rate=rate * (1 - step / steps),
            token_accuracy=1 - 0.5 * math.exp(-step / 60),
            grad_norm=1 + math.sin(step / 9) ** 2,
        )
        for step in range(1, steps + 1, 5)
    )
    checks = tuple(ValidationPoint(step=point.step, loss=point.loss + 0.1) for point in points[::8])
    source = SourceReport(
        name=f"{name}-rows",
        format="trajectories",
        rows=1203,
        samples=1180,
        repeat=2,
        drops={"TooLongError": 20, "EncodeError": 3},
        tokens=2_400_000,
        trained_tokens=340_000,
        images=2300,
        rounds={"0": 100, "1": 900, "2": 180},
        mask="released",
    )
    return StageReport(
        name=name,
        sources=(source,),
        samples=1180,
        tokens=2_400_000,
        trained_tokens=340_000,
        steps=steps,
        seconds=843.2,
        samples_per_second=2.8,
        tokens_per_second=5692.0,
        peak_memory_bytes=3 * 2**30,
        curve=points,
        validation=checks if validated else (),
        settings=SFTSettings(learning_rate=rate, lora=LoraSettings() if rate < 1e-5 else None),
    )


def report(names: Sequence[str] = ("images", "maths"), *, evaluated: bool = True, **changes: object) -> SFTRunReport:
    """A run of some stages."""
    points = [evaluation(names[0], 0, 6)] if names else []
    for index, name in enumerate(names):
        points += [evaluation(name, 100, min(12 + 8 * index, 40)), evaluation(name, 200, min(18 + 8 * index, 40))]
    made = SFTRunReport(
        name="nano_sft",
        model="nano:base",
        stages=tuple(stage(name, rate=1e-5 if index == 0 else 1e-6) for index, name in enumerate(names)),
        evaluations=tuple(points) if evaluated else (),
        device="cpu",
        versions={"python": "3.11", "torch": "2.13.0"},
        recipe={"model": "nano:base", "stages": {name: {"mask": "released"} for name in names}},
    )
    return made.model_copy(update=changes)


def samples(count: int = 2, *, right: bool = True, thought: str = "I crop it.") -> list[Sample]:
    """Rollouts on `count` problems; wrong ones did not use code."""
    return [
        Sample(
            sample_records.trajectory(
                id=f"p{i}",
                answer="KX 47" if right else "no idea",
                thought=thought,
                executions=None if right else (),
            ),
            Score(value=float(right)),
        )
        for i in range(count)
    ]
