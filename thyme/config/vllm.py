"""How vLLM runs in process."""

from __future__ import annotations

from pydantic import Field

from thyme.config.base import Config


class VllmConfig(Config):
    """Settings of the engine over vLLM in process; see docs/engines.md.

    Device, dtype, context, pixel limits and batch are those of `EngineConfig`.
    """

    gpu_memory_utilization: float = Field(default=0.9, gt=0.0, le=1.0)
    """Share of the GPU's memory (on a CPU: of the machine's) for weights and cache together. Lower it where a trainer
    lives on the same device."""
    kv_cache_gib: float | None = Field(default=None, gt=0.0)
    """GiB for the key-value cache alone; None takes what `gpu_memory_utilization` leaves."""
    tensor_parallel: int = Field(default=1, ge=1)
    """GPUs that share the model, each with a process of its own from 2 on."""
    max_images: int = Field(default=16, ge=1)
    """Images that one trajectory may hold, those of its observations included."""
    enforce_eager: bool = False
    """Run without compiled graphs: starts sooner, decodes slower."""
    block_size: int | None = Field(default=None, ge=1)
    """Tokens that the prefix cache keeps or forgets together; None is vLLM's own (16 on GPUs, 128 on CPUs)."""
