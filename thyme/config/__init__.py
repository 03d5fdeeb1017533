"""What can be set: frozen pydantic models without torch, and `load` to read them from a recipe."""

from __future__ import annotations

from thyme.config.base import Config
from thyme.config.rollout import RepetitionConfig, RolloutConfig, SpanConfig

__all__ = ["Config", "RepetitionConfig", "RolloutConfig", "SpanConfig"]
