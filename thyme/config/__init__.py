"""What can be set: frozen pydantic models without torch, and `load` to read them from a recipe."""

from __future__ import annotations

from thyme.config.base import Config
from thyme.config.engine import EngineConfig
from thyme.config.load import load
from thyme.config.openai import OpenAIConfig
from thyme.config.rollout import RepetitionConfig, RolloutConfig, SpanConfig
from thyme.config.run import RunConfig
from thyme.config.sandbox import SandboxConfig
from thyme.config.sft import SFTSettings
from thyme.config.training import LoraSettings
from thyme.config.vllm import VllmConfig

__all__ = [
    "Config",
    "EngineConfig",
    "LoraSettings",
    "OpenAIConfig",
    "RepetitionConfig",
    "RolloutConfig",
    "RunConfig",
    "SFTSettings",
    "SandboxConfig",
    "SpanConfig",
    "VllmConfig",
    "load",
]
