"""All that one run of a model on problems can set: the root of a recipe."""

from __future__ import annotations

from thyme.config.base import Config
from thyme.config.engine import EngineConfig
from thyme.config.rollout import RolloutConfig
from thyme.config.sandbox import SandboxConfig


class RunConfig(Config):
    """Model, sandbox and loop; the tables of a recipe have the names of these fields."""

    engine: EngineConfig = EngineConfig()
    sandbox: SandboxConfig = SandboxConfig()
    rollout: RolloutConfig = RolloutConfig()
    seed: int = 0
    """Seeds every draw of the run."""
