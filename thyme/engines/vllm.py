"""vLLM in this process, for training: many trajectories at once on GPUs, and new weights without a restart.

It is fed token ids, never text, so that what is trained on is what was sampled. Its prefix cache knows a trajectory
that goes on, images included, up to whole blocks. Text, stop strings and blocked strings are watched here, byte by
byte, as for the other local engine. See docs/engines.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

from PIL import Image

from thyme.config.engine import EngineConfig
from thyme.engines.base import Capabilities, Chunk, EngineInfo, Request, written_last
from thyme.engines.local import LocalCheckpoint, LocalEngine
from thyme.engines.outbox import Outbox
from thyme.engines.token_sequence import TokenSequence
from thyme.engines.transformers_load import model_fingerprint
from thyme.engines.vllm_load import Weights, check_weights, max_context, start_vllm, tensor_shapes
from thyme.engines.vllm_loop import Span, VllmCounters, VllmLoop
from thyme.errors import EngineError, UsageError
from thyme.families.checkpoint import find_checkpoint
from thyme.families.qwen_vl_tensors import rgb
from thyme.types import Fingerprints, ImageRecord

LEAST, MOST = 0.01, 2.0
"""Temperatures that vLLM takes beside 0; it raises smaller ones to the least without a word."""


class VllmEngine(LocalEngine):
    """Goes on writing where a trajectory stands, with vLLM."""

    def __init__(self, found: LocalCheckpoint, config: EngineConfig) -> None:
        """Start vLLM; `load` is the usual way.

        Args:
            found: The checkpoint.
            config: How to run it.

        Raises:
            ModelNotFoundError: The weights are missing, or vLLM cannot load them.
            UsageError: A device that this vLLM is not made for.
        """
        super().__init__(found.family, max_context(found.folder, config))
        self._config = config
        self._shapes = tensor_shapes(found.folder)
        self._pictures: dict[str, dict[str, Image.Image]] = {}
        """By trajectory and content, at the size at which the model sees them."""
        capabilities = Capabilities(token_ids=True, logprobs=True, max_context=self._max_context)
        fingerprints = Fingerprints(model=model_fingerprint(found.folder), tokenizer=found.family.fingerprint)
        self._info = EngineInfo(found.name, capabilities, fingerprints, found.prompts)
        self._loop = VllmLoop(
            partial(start_vllm, found, config),
            frozenset(found.family.end_ids),
            self._max_context,
            sum(map(prod, self._shapes.values())),
        )

    @classmethod
    def load(cls, model: str | Path, config: EngineConfig | None = None, *, name: str | None = None) -> VllmEngine:
        """Load a checkpoint.

        Args:
            model: Folder or hub id.
            config: How to load and run it; None is the default.
            name: What records call it; None is the folder's own name, or the hub id.

        Raises:
            ModelNotFoundError: No such checkpoint, or one that cannot be used.
            UsageError: A device that this vLLM is not made for, or pixel limits that contradict each other.
        """
        config = config or EngineConfig()
        return cls(LocalCheckpoint.find(model, config, name=name), config)

    @property
    def info(self) -> EngineInfo:
        """Name, capabilities, fingerprints."""
        return self._info

    @property
    def counters(self) -> VllmCounters:
        """Steps and tokens run so far, and how many were cached."""
        return self._loop.counters

    @property
    def ended(self) -> bool:
        """Whether it was closed or broke down, and writes no more."""
        return self._loop.ended

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Generate one span. Closing the iterator cancels it; the tokens yielded so far stand.

        Tokens that stand for images are never chosen. Log-probabilities are over the whole vocabulary.

        Raises:
            ContextFullError: There is no room for one more token.
            EngineError: The trajectory does not fit this model, holds too many images, or vLLM failed.
            UsageError: A temperature that vLLM does not take, or no tokens asked for.
        """
        span = await self._span(request)
        self._loop.submit(span)
        try:
            while True:
                chunk = await span.outbox.get()
                yield chunk
                if chunk.stop is not None:
                    return
        finally:
            self._loop.cancel(span)

    async def release(self, trajectory_id: str) -> None:
        """Forget a trajectory's pictures; vLLM forgets its keys and values when it needs their place."""
        self._pictures.pop(trajectory_id, None)

    async def update_weights(self, weights: Weights, *, fingerprint: str | None = None) -> None:
        """Go on with other weights, without a restart.

        Spans that are being written are written to their end first, and spans that are asked for meanwhile wait: the
        tokens of one span all come from the same weights. Everything cached under the old ones is forgotten. Who is
        cancelled while waiting for it does not stop it.

        Args:
            weights: A checkpoint folder of the same architecture, or all of its tensors, named as in a checkpoint or as
                transformers names a model's parameters.
            fingerprint: What tells these weights from others, for the records; None makes one from them.

        Raises:
            ModelNotFoundError: No such folder, or weights of another shape; the old ones stay.
            UsageError: Tensors where several processes hold the model; the old ones stay.
            EngineError: vLLM failed over them, or tensors are missing; the engine is of no use any more.
        """
        if isinstance(weights, str | Path):
            weights = find_checkpoint(weights)
            fingerprint = fingerprint or model_fingerprint(weights)
        check_weights(weights, self._config, self._shapes)
        changed = self._loop.update(weights)
        changed.add_done_callback(partial(self._changed, fingerprint))
        await asyncio.shield(asyncio.wrap_future(changed))

    def _changed(self, fingerprint: str | None, made: Future[str | None]) -> None:
        """Say in the records from now on what the weights are; on vLLM's thread."""
        if made.exception() is None:
            fingerprints = self._info.fingerprints.model_copy(update={"model": fingerprint or made.result()})
            self._info = replace(self._info, fingerprints=fingerprints)

    async def aclose(self) -> None:
        """Stop vLLM and free its memory; spans that still run end with an EngineError."""
        self._pictures.clear()
        await asyncio.to_thread(self._loop.close)

    async def _span(self, request: Request) -> Span:
        sequence = self._sequence(request)
        if request.temperature and not LEAST <= request.temperature <= MOST:
            raise UsageError(f"vLLM takes no temperature {request.temperature}: give 0 (greedy), or {LEAST} to {MOST}")
        limit = self._config.vllm.max_images
        if len(sequence.images) > limit:
            raise EngineError(
                f"trajectory {request.trajectory_id} holds {len(sequence.images)} images, and this engine takes "
                f"{limit}: raise vllm.max_images"
            )
        return Span(
            ids=tuple(sequence.ids.tolist()),
            prompt=await self._prompt(request.trajectory_id, sequence),
            sampling=self._sampling(request, len(sequence.ids)),
            text=self._span_text(request),
            max_tokens=request.max_tokens,
            outbox=Outbox(),
        )

    def _sampling(self, request: Request, length: int) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        from thyme.engines.vllm_worker import SPAN

        span = {"blocked": list(request.blocked), "before": written_last(request.segments)}
        return SamplingParams(
            temperature=request.temperature,
            seed=request.seed,
            max_tokens=min(request.max_tokens, self._max_context - length),
            ignore_eos=True,  # every end is decided in one place, on the loop's thread
            logprobs=0,  # of the token itself
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
            extra_args={SPAN: span} if request.blocked else None,
        )

    async def _prompt(self, trajectory_id: str, sequence: TokenSequence) -> dict[str, Any]:
        """The sequence as vLLM takes it: it puts in the image placeholders by itself."""
        ids, at = list[int](), 0
        for start, count in zip(sequence.starts, sequence.counts, strict=True):
            ids += sequence.ids[at : start + 1].tolist()
            at = start + count
        ids += sequence.ids[at:].tolist()
        if not sequence.images:
            return {"prompt_token_ids": ids}
        pictures = self._pictures.setdefault(trajectory_id, {})
        for image in sequence.images:
            if image.id not in pictures:
                pictures[image.id] = await asyncio.to_thread(self._picture, image)
        return {
            "prompt_token_ids": ids,
            "multi_modal_data": {"image": [pictures[image.id] for image in sequence.images]},
            "multi_modal_uuids": {"image": [image.id for image in sequence.images]},
        }

    def _picture(self, image: ImageRecord) -> Image.Image:
        """An image at the size at which the model sees it.

        vLLM would resize it by torchvision, whose pixels are not those that the model is trained on.
        """
        filter = Image.Resampling(self.family.image_config.get("resample", Image.Resampling.BICUBIC))
        shown = rgb(image.image)
        size = self.seen_size(*image.size)
        return shown if shown.size == size else shown.resize(size, filter)
