"""What generates during training: an engine that always has the weights of the model in training.

`TransformersPolicy` asks that very model where it lies. `VllmPolicy` keeps a copy in vLLM, in the same process, and
pushes the weights into it whenever a step has changed them. See docs/grpo_rollouts.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import torch

from thyme.config.engine import EngineConfig
from thyme.config.grpo_recipe import NOT_OF_ENGINE
from thyme.engines.base import Engine
from thyme.engines.transformers import TransformersEngine
from thyme.engines.vllm import VllmEngine
from thyme.errors import ConfigError, EngineError
from thyme.families import Family
from thyme.train.distributed import gather, world_size
from thyme.train.evaluate import undisturbed
from thyme.train.grpo.weights import inner_model, is_spread, whole_weights


class Policy(Protocol):
    """Gives engines with the weights of the model in training; lives in one event loop."""

    @property
    def fingerprint(self) -> str:
        """What decides about what is generated, weights apart."""
        ...

    def asking(self, model: Any, step: int) -> AbstractAsyncContextManager[None]:
        """Ask this model, as it is now, while the context lives; afterwards it is what it was.

        Args:
            model: As the trainer holds it, with adapters and wrappers.
            step: Optimiser steps done before. Between two calls with one step, no weight may change.

        Raises:
            ConfigError: A model that cannot be asked.
            EngineError: The engine cannot be brought up to date.
        """
        ...

    async def engine(self) -> Engine:
        """The engine; a new one where the last one broke down. Only inside of `asking`.

        Raises:
            EngineError: There can be none.
        """
        ...

    async def aclose(self) -> None:
        """Free what generates."""
        ...


def _decides(config: EngineConfig) -> str:
    """Settings of an engine that what it generates depends on; its type is the trainer's in the trainer's own model."""
    left_out = NOT_OF_ENGINE | ({"dtype": True, "vllm": True} if config.backend == "transformers" else {})
    return config.model_dump_json(exclude=left_out)


class TransformersPolicy:
    """Asks the model in training itself; nothing is copied, and training goes on as if nobody had asked.

    The engine is kept from step to step. It runs the model's own modules in eval mode, below DDP and with adapters
    active; checkpointing of activations and the model's own key-value cache have no part in that.
    """

    def __init__(
        self,
        family: Family,
        config: EngineConfig,
        *,
        name: str = "",
        prompts: str | None = None,
        autocast: torch.dtype | None = None,
    ) -> None:
        """Prepare; nothing is made before a model is asked.

        Args:
            family: Of the model.
            config: Batch and limits; model, device and type are those of the model in training.
            name: What trajectories call it.
            prompts: Folder of the checkpoint's prompt files.
            autocast: Type that the trainer computes products in; None where it does so in that of the weights.
        """
        self._family, self._config, self._name = family, config, name
        self._prompts, self._autocast = prompts, autocast
        self._model: Any = None
        self._engine: TransformersEngine | None = None
        self.reopened = 0
        """Engines that took the place of one that broke down."""

    @property
    def fingerprint(self) -> str:
        """See `Policy.fingerprint`."""
        return f"{self._family.name} {self._autocast} {_decides(self._config)}"

    @asynccontextmanager
    async def asking(self, model: Any, step: int) -> AsyncIterator[None]:
        """See `Policy.asking`."""
        if is_spread(model):
            raise ConfigError(
                "the weights are spread over processes (FSDP2, ZeRO-3), and the local engine needs them whole: set "
                "engine.backend = 'vllm', or launch with ddp or zero2"
            )
        inner = inner_model(model)
        if inner is not self._model:
            await self.aclose()
            self._model = inner
        with undisturbed(inner):
            await self._forget()
            try:
                yield
            finally:
                await self._forget()  # the memory is the trainer's now

    async def engine(self) -> Engine:
        """See `Policy.engine`."""
        if self._engine is not None and self._engine.ended:
            self.reopened += 1
            self._engine = None
        if self._engine is None:
            self._engine = TransformersEngine(
                self._model,
                self._family,
                self._config,
                name=self._name,
                prompts=self._prompts,
                autocast=self._autocast,
            )
        return self._engine

    async def _forget(self) -> None:
        """What is cached belongs to weights that change."""
        if self._engine is not None:
            with suppress(EngineError):  # one that broke down holds nothing any more
                await self._engine.weights_changed()

    async def aclose(self) -> None:
        """End the engine; the model stays."""
        engine, self._engine, self._model = self._engine, None, None
        if engine is not None:
            await engine.aclose()


class VllmPolicy:
    """Keeps a copy of the model in vLLM, in this process, and brings it up to date when a step has changed it.

    Adapters are merged into the copy alone. Where a run has several processes, each has a vLLM of its own, and they
    start it, and hand weights over, together: weights that are spread are put together one tensor at a time.
    """

    def __init__(self, folder: Path, config: EngineConfig, *, name: str = "") -> None:
        """Prepare; vLLM is started when it is first asked.

        Args:
            folder: Checkpoint of the same architecture, where training starts from.
            config: How vLLM runs; `EngineConfig.vllm` says how much memory it takes.
            name: What trajectories call it.

        Raises:
            ConfigError: Several processes of vLLM, which weights in memory cannot be handed to.
        """
        if config.vllm.tensor_parallel > 1:
            raise ConfigError(
                "engine.vllm.tensor_parallel splits the model over processes of vLLM's own, and the weights of a model "
                "in training are handed over in memory: set it to 1, and let each training process have its own vLLM"
            )
        self._folder, self._config, self._name = folder, config, name
        self._model: Any = None
        self._step: int | None = None
        self._pushed: int | None = None
        """Step whose weights the engine has."""
        self._engine: VllmEngine | None = None
        self._opening = asyncio.Lock()
        self.reopened = 0
        """Engines that took the place of one that broke down."""

    @property
    def fingerprint(self) -> str:
        """See `Policy.fingerprint`."""
        return _decides(self._config)

    @asynccontextmanager
    async def asking(self, model: Any, step: int) -> AsyncIterator[None]:
        """See `Policy.asking`. All processes of a run call this together."""
        if model is not self._model:
            self._pushed = None
        self._model, self._step = model, step
        if not all(await asyncio.to_thread(gather, self._runs)):
            await self._start()
        if not all(await asyncio.to_thread(gather, self._pushed == step)):
            await self._push()
        yield

    async def engine(self) -> Engine:
        """See `Policy.engine`."""
        async with self._opening:
            if not self._runs:
                if world_size() > 1:
                    raise EngineError(
                        "vLLM broke down, and the processes of a run can only start it together: they do so before the "
                        "next step"
                    )
                await self._start()
                await self._push()
            assert self._engine is not None
            return self._engine

    @property
    def _runs(self) -> bool:
        return self._engine is not None and not self._engine.ended

    async def _start(self) -> None:
        if self._engine is not None:
            self.reopened += 1
            await self._end()
        load = VllmEngine.load
        self._engine = await asyncio.to_thread(load, self._folder, self._config, name=self._name or None)

    async def _push(self) -> None:
        assert self._engine is not None
        self._pushed = None
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # the step's own work, before another thread reads what it changed
        await self._engine.update_weights(whole_weights(self._model))
        self._pushed = self._step

    async def _end(self) -> None:
        engine, self._engine, self._pushed = self._engine, None, None
        if engine is not None:
            await engine.aclose()

    async def aclose(self) -> None:
        """Stop vLLM and free its memory."""
        self._model = None
        await self._end()
