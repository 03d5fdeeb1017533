"""How a model is loaded and run."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from thyme.config.base import Config
from thyme.config.openai import OpenAIConfig
from thyme.config.vllm import VllmConfig


class EngineConfig(Config):
    """Settings of an engine."""

    model: str = "nano"
    """Which model: ``nano``, a folder, a hub id, or ``URL#NAME``; see `thyme.models`."""
    backend: Literal["transformers", "vllm"] = "transformers"
    """What runs local weights: ``vllm`` is vLLM in this process, for training on GPUs; installed by the user."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """``auto`` takes a GPU where there is one."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """``auto`` is float32 on a CPU and bfloat16 on a GPU, whatever type the checkpoint has."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads of the model's process; None leaves torch's own setting alone."""
    max_context: int | None = Field(default=None, ge=1)
    """Tokens of prompt and response together; None is the checkpoint's own limit. Never above that limit."""
    min_pixels: int | None = Field(default=None, ge=1)
    """Pixels to which smaller images are enlarged before the model sees them; None is the checkpoint's own."""
    max_pixels: int | None = Field(default=None, ge=1)
    """Pixels to which larger images are reduced before the model sees them; None is the checkpoint's own."""
    max_batch: int = Field(default=16, ge=1)
    """Trajectories that are decoded together; more wait for a place."""
    prefill_tokens: int = Field(default=1024, ge=1)
    """Tokens of prompts and observations fed in one step, so that rows that decode never wait longer than that."""
    max_cached_tokens: int | None = Field(default=None, ge=1)
    """Tokens kept for trajectories that are not being decoded; the longest unused are forgotten. None keeps all."""
    vllm: VllmConfig = VllmConfig()
    """How vLLM runs, where it is the backend."""
    openai: OpenAIConfig = OpenAIConfig()
    """How a server is asked, where the model is named by a URL."""
