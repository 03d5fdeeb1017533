"""The local engine: any Qwen2.5-VL or Qwen3-VL checkpoint, through transformers, without torchvision.

The cache of a trajectory lives on over its rounds, so nothing is fed twice; trajectories in different states run
together (see `thyme.engines.transformers_scheduler`). The model runs on a thread of its own and never blocks the event
loop.

Cached keys and values belong to the weights that made them: who changes the weights of a wrapped model calls
`TransformersEngine.weights_changed` before the next span.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from thyme.config.engine import EngineConfig
from thyme.engines.base import Capabilities, Chunk, EngineInfo, Request
from thyme.engines.local import LocalCheckpoint, LocalEngine
from thyme.engines.outbox import Outbox
from thyme.engines.transformers_load import load_model, model_fingerprint
from thyme.engines.transformers_model import PackedModel
from thyme.engines.transformers_rows import Job
from thyme.engines.transformers_scheduler import Counters, Scheduler
from thyme.families import Family
from thyme.types import Fingerprints


class TransformersEngine(LocalEngine):
    """Goes on writing where a trajectory stands, with local weights."""

    def __init__(
        self,
        model: Any,
        family: Family,
        config: EngineConfig | None = None,
        *,
        name: str = "",
        fingerprint: str = "",
        prompts: str | None = None,
        autocast: torch.dtype | None = None,
    ) -> None:
        """Wrap a loaded model, one that is being trained for instance (see `weights_changed`); `load` is the usual way.

        Args:
            model: A Qwen2.5-VL or Qwen3-VL model of transformers, in eval mode whenever it is asked.
            family: Its tokenizer and image settings.
            config: Batch and context limits; None is the default.
            name: Its name, without any absolute path.
            fingerprint: Hash of its weights.
            prompts: Folder of prompt files that belong to it.
            autocast: Type that products are computed in, as a trainer does under mixed precision; None is that of the
                weights.
        """
        config = config or EngineConfig()
        packed = PackedModel(model, family.image_token_id, autocast)
        super().__init__(family, min(config.max_context or packed.max_context, packed.max_context))
        self._scheduler = Scheduler(packed, family, config, self._max_context)
        capabilities = Capabilities(token_ids=True, logprobs=True, max_context=self._max_context)
        fingerprints = Fingerprints(model=fingerprint, tokenizer=family.fingerprint)
        self._info = EngineInfo(name or family.name, capabilities, fingerprints, prompts)

    @classmethod
    def load(
        cls, model: str | Path, config: EngineConfig | None = None, *, name: str | None = None
    ) -> TransformersEngine:
        """Load a checkpoint.

        Args:
            model: Folder or hub id.
            config: How to load and run it; None is the default.
            name: What records call it; None is the folder's own name, or the hub id.

        Raises:
            ModelNotFoundError: No such checkpoint, or one that cannot be used.
            MissingExtraError: transformers or torch is not installed.
            UsageError: A device that is not there, or pixel limits that contradict each other.
        """
        config = config or EngineConfig()
        found = LocalCheckpoint.find(model, config, name=name)
        return cls(
            load_model(found.folder, config),
            found.family,
            config,
            name=found.name,
            fingerprint=model_fingerprint(found.folder),
            prompts=found.prompts,
        )

    @property
    def info(self) -> EngineInfo:
        """Name, capabilities, fingerprints."""
        return self._info

    @property
    def counters(self) -> Counters:
        """Steps, tokens and images run so far."""
        return self._scheduler.counters

    @property
    def ended(self) -> bool:
        """Whether it was closed or broke down, and writes no more."""
        return self._scheduler.ended

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Generate one span. Closing the iterator cancels it; the tokens yielded so far stand.

        Tokens that stand for images are never chosen. Log-probabilities are over the whole vocabulary.

        Raises:
            ContextFullError: There is no room for one more token.
            EngineError: The trajectory is being generated already, does not fit this model, or the model failed.
            UsageError: A negative temperature, or no tokens asked for.
        """
        job = self._job(request)
        self._scheduler.submit(job)
        try:
            while True:
                chunk = await job.outbox.get()
                yield chunk
                if chunk.stop is not None:
                    return
        finally:
            self._scheduler.cancel(job)

    async def release(self, trajectory_id: str) -> None:
        """Forget what was cached for a trajectory. Unknown ids are ignored."""
        self._scheduler.release(trajectory_id)

    async def weights_changed(self, fingerprint: str = "") -> None:
        """Forget everything cached, as the model's weights are others now; to be called between spans.

        Releasing the trajectories is not enough: others that begin alike start from what is cached for any of them.

        Args:
            fingerprint: Hash of the new weights, for `info`; empty where unknown.

        Raises:
            EngineError: A span waits or runs (nothing was forgotten: let it end or cancel it, and call again), or the
                engine was closed.
        """
        await asyncio.shield(asyncio.wrap_future(self._scheduler.forget()))
        fingerprints = self._info.fingerprints.model_copy(update={"model": fingerprint})
        self._info = replace(self._info, fingerprints=fingerprints)

    async def aclose(self) -> None:
        """Stop the model's thread and free the caches; spans that still run end with an EngineError."""
        await asyncio.to_thread(self._scheduler.close)

    def _job(self, request: Request) -> Job:
        return Job(
            request.trajectory_id,
            self._sequence(request),
            request.temperature,
            self._span_text(request),
            request.max_tokens,
            random.Random(request.seed),
            Outbox(),
        )
