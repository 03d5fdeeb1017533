"""What an evaluation asks, of whom, and under which arms."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt, field_validator

from thyme.config.base import Config
from thyme.config.engine import EngineConfig
from thyme.config.rewards import JudgeSettings
from thyme.config.rollout import RolloutConfig, Temperature
from thyme.config.sandbox import SandboxConfig


class RetryConfig(Config):
    """When and how a problem is asked again (arm ``retry``); see docs/eval.md for what it is modelled on."""

    attempts: PositiveInt = 5
    """Rollouts with code, the first one among them."""
    temperature: Temperature = 1.0
    """tau of text and code from the second attempt on."""
    plain: bool = True
    """Whether a problem that no attempt answered is asked once more, in plain words and without code."""


class EvaluationConfig(Config):
    """One evaluation: the root of its settings on the command line."""

    recipe_folder: ClassVar[str] = "eval"

    engine: EngineConfig = EngineConfig()
    sandbox: SandboxConfig = SandboxConfig()
    rollout: RolloutConfig = RolloutConfig()
    retry: RetryConfig = RetryConfig()
    judge: JudgeSettings | None = None
    """Who decides what rules leave open; None: nobody, and nothing leaves this machine."""
    arms: tuple[str, ...] = ("tools",)
    """Names in `thyme.eval.arms`."""
    mode: Literal["single", "retry"] = "single"
    """``retry`` adds the arm of that name."""
    untrained: str | None = None
    """Model of the arm ``untrained``, loaded with the settings of `engine`."""
    limit: PositiveInt | None = None
    """Problems of each benchmark, drawn with `seed`; None asks all."""
    seed: int = 0
    """Seeds every draw: the rollouts', the arms', the part that `limit` takes."""
    concurrency: PositiveInt = 8
    """Problems that are under way at once; so many are in memory with their pictures."""
    coverage: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    """Share of the target that a crop must show to count as covering it."""
    stop_after_failures: Annotated[int, Field(ge=0)] = 20
    """Rollouts that may fail one after the other (engine or sandbox, not the model) before the run is given up, so
    that a server that is gone does not leave a folder of failures. 0: never."""

    @field_validator("arms")
    @classmethod
    def _some_and_each_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names:
            raise ValueError("name at least one arm")
        return tuple(dict.fromkeys(names))

    @property
    def all_arms(self) -> tuple[str, ...]:
        """`arms`, and what `mode` adds."""
        return tuple(dict.fromkeys((*self.arms, *(("retry",) if self.mode == "retry" else ()))))
