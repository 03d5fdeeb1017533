"""The local engine: any Qwen2.5-VL or Qwen3-VL checkpoint, through transformers, without torchvision.

The cache of a trajectory lives on over its rounds, so nothing is fed twice; trajectories in different states run
together (see `thyme.engines.transformers_scheduler`). The model runs on a thread of its own and never blocks the event
loop.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

from thyme.config.engine import EngineConfig
from thyme.engines.base import Capabilities, Chunk, EngineInfo, Request, written_last
from thyme.engines.transformers_load import load_model, model_fingerprint
from thyme.engines.transformers_model import PackedModel
from thyme.engines.transformers_rows import Job, Outbox
from thyme.engines.transformers_scheduler import Counters, Scheduler
from thyme.engines.transformers_sequence import request_sequence
from thyme.engines.transformers_text import SpanText
from thyme.errors import ContextFullError, UsageError
from thyme.families import Family, load_family
from thyme.families.checkpoint import find_checkpoint
from thyme.markup import observation_parts, observation_text
from thyme.types import Execution, Fingerprints, ImageRecord, Observation, Prompt, SeenImage


class TransformersEngine:
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
    ) -> None:
        """Wrap a loaded model, one that is being trained for instance; `load` is the usual way.

        Args:
            model: A Qwen2.5-VL or Qwen3-VL model of transformers, in eval mode whenever it is asked.
            family: Its tokenizer and image settings.
            config: Batch and context limits; None is the default.
            name: Its name, without any absolute path.
            fingerprint: Hash of its weights.
            prompts: Folder of prompt files that belong to it.
        """
        config = config or EngineConfig()
        packed = PackedModel(model, family.image_token_id)
        self.family = family
        self._max_context = min(config.max_context or packed.max_context, packed.max_context)
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
        folder = find_checkpoint(model)
        family = load_family(folder, min_pixels=config.min_pixels, max_pixels=config.max_pixels)
        is_folder = Path(model).expanduser().is_dir()
        prompts = folder / "prompts"
        return cls(
            load_model(folder, config),
            family,
            config,
            name=name or (folder.resolve().name if is_folder else str(model)),
            fingerprint=model_fingerprint(folder),
            prompts=str(prompts.resolve()) if prompts.is_dir() else None,
        )

    @property
    def info(self) -> EngineInfo:
        """Name, capabilities, fingerprints."""
        return self._info

    @property
    def counters(self) -> Counters:
        """Steps, tokens and images run so far."""
        return self._scheduler.counters

    def seen_size(self, width: int, height: int) -> tuple[int, int]:
        """Size in pixels at which the model sees an image of this size (pixel limits applied)."""
        return self.family.seen_size(width, height)

    def prompt(self, system: str, user: str, images: Sequence[ImageRecord]) -> Prompt:
        """Make the prompt record, tokenised.

        Args:
            system: System turn.
            user: User turn with one ``<image>`` for each image, in order.
            images: The problem's images.

        Raises:
            ContextFullError: It does not fit.
            UsageError: The user turn does not name every image once.
        """
        span = self.family.encode_parts(self.family.prompt_parts(system, user, images))
        self._check_room(len(span.ids))
        seen = [(image, *self.seen_size(*image.size)) for image in images]
        return Prompt(
            system=system,
            user=user,
            images=tuple(SeenImage(image=image, seen_width=width, seen_height=height) for image, width, height in seen),
            token_ids=span.ids,
        )

    def observation(self, execution: Execution) -> Observation:
        """Render a sandbox result as the model will read it, tokenised."""
        return Observation(
            execution=execution,
            text=observation_text(execution),
            token_ids=self.family.encode_parts(observation_parts(execution)).ids,
            seen_sizes=tuple(self.seen_size(*image.size) for image in execution.images),
        )

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

    async def aclose(self) -> None:
        """Stop the model's thread and free the caches; spans that still run end with an EngineError."""
        await asyncio.to_thread(self._scheduler.close)

    def _job(self, request: Request) -> Job:
        if request.temperature < 0 or request.max_tokens < 1:
            raise UsageError(f"temperature {request.temperature} and max_tokens {request.max_tokens} make no request")
        sequence = request_sequence(request, self.family)
        self._check_room(len(sequence.ids))
        text = SpanText(
            self.family.token_bytes,
            stop=request.stop,
            blocked=request.blocked,
            before=written_last(request.segments),
        )
        draws = random.Random(request.seed)
        return Job(request.trajectory_id, sequence, request.temperature, text, request.max_tokens, draws, Outbox())

    def _check_room(self, tokens: int) -> None:
        if tokens >= self._max_context:
            raise ContextFullError(
                f"{tokens} tokens leave no room in a context of {self._max_context}; "
                "ask for less, show smaller images (max_pixels) or raise max_context"
            )
