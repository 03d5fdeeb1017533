"""Starting vLLM in this process, and new weights for it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from thyme.config.engine import EngineConfig
from thyme.engines.local import LocalCheckpoint
from thyme.errors import EngineError, ModelNotFoundError, UsageError
from thyme.families.checkpoint import read_json

Weights = str | Path | Iterable[tuple[str, torch.Tensor]]
"""A checkpoint folder, or tensors with the names that a checkpoint or a model of transformers gives them."""

_NEEDED = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_USE_V2_MODEL_RUNNER": "0",  # the other one has no place for a sampler of ours
}
_DEFAULTS = {
    "VLLM_LOGGING_LEVEL": "ERROR",  # its warnings are about its own plans
    "VLLM_NO_USAGE_STATS": "1",  # it would report to its makers
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # the process is not vLLM's alone
}
_SAMPLE = 4096
"""Numbers of a tensor that its fingerprint is made of, at most."""


def start_vllm(found: LocalCheckpoint, config: EngineConfig) -> Any:
    """Start vLLM's engine without a process of its own; call it on the thread that will run it.

    Raises:
        EngineError: vLLM is not installed, or not as it should be.
        UsageError: A device that this vLLM is not made for.
        ModelNotFoundError: vLLM cannot load the checkpoint so.
    """
    with _environment():
        return _start(found, config)


def _start(found: LocalCheckpoint, config: EngineConfig) -> Any:
    try:
        from vllm.engine.arg_utils import EngineArgs
        from vllm.platforms import current_platform
        from vllm.v1.engine.llm_engine import LLMEngine
        from vllm.v1.executor import Executor
    except (ImportError, OSError) as error:
        raise EngineError(
            f"the backend 'vllm' needs vLLM 0.32, and it cannot be imported ({error}); install it here, "
            "or use the backend 'transformers'"
        ) from error

    cpu = bool(current_platform.is_cpu())
    if config.device == ("cuda" if cpu else "cpu"):
        raise UsageError(
            f"device '{config.device}' was asked for, and this vLLM is made for {'CPUs' if cpu else 'GPUs'}"
        )
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    set_num_threads = torch.set_num_threads  # vLLM takes it away from the whole process
    try:
        settings = EngineArgs(**_arguments(found, config, cpu=cpu)).create_engine_config()
        engine = LLMEngine(settings, Executor.get_class(settings), log_stats=False, multiprocess_mode=False)
        engine.collective_rpc("use_tau_sampler")
    except Exception as error:  # of many kinds: a missing tensor, no memory, a GPU too few
        forget_vllm()
        raise ModelNotFoundError(f"vLLM cannot load '{found.folder.name}': {error}") from error
    finally:
        vars(torch)["set_num_threads"] = set_num_threads
    return engine


@contextmanager
def _environment() -> Iterator[None]:
    """What vLLM reads of the environment while it starts; it remembers, and the environment is as before."""
    before = {name: os.environ.get(name) for name in _NEEDED}
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    os.environ.update(_NEEDED)
    try:
        yield
    finally:
        for name, earlier in before.items():
            if earlier is None:
                del os.environ[name]
            else:
                os.environ[name] = earlier


def _arguments(found: LocalCheckpoint, config: EngineConfig, *, cpu: bool) -> dict[str, Any]:
    family, own = found.family, config.vllm
    dtype = ("float32" if cpu else "bfloat16") if config.dtype == "auto" else config.dtype
    length = max_context(found.folder, config)
    # On a CPU, vLLM 0.32 fails over a prompt that is read in parts while its row draws with a seed.
    whole = {"enable_chunked_prefill": False, "max_num_batched_tokens": max(length, 2048)} if cpu else {}
    return {
        **whole,
        "model": str(found.folder),
        "served_model_name": found.name,
        "dtype": dtype,
        "max_model_len": length,
        "max_num_seqs": config.max_batch,
        "tensor_parallel_size": own.tensor_parallel,
        "distributed_executor_backend": _executor(own.tensor_parallel),
        "gpu_memory_utilization": own.gpu_memory_utilization,
        "kv_cache_memory_bytes": None if own.kv_cache_gib is None else int(own.kv_cache_gib * 2**30),
        "block_size": own.block_size,
        "enforce_eager": own.enforce_eager or cpu,  # compiling for a CPU takes minutes
        "enable_prefix_caching": True,
        "limit_mm_per_prompt": {"image": own.max_images, "video": 0},
        "mm_processor_kwargs": {"size": {"shortest_edge": family.min_pixels, "longest_edge": family.max_pixels}},
        "mm_device_do_normalize": False,  # it would take other values where the checkpoint leaves them to the processor
        "logprobs_mode": "raw_logprobs",
        "logits_processors": ["thyme.engines.vllm_worker:SpanMask"],
        "worker_extension_cls": "thyme.engines.vllm_worker.WorkerExtension",
        "async_scheduling": False,  # the mask reads each token before the next is chosen
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
    }


def _executor(tensor_parallel: int) -> str:
    """Where vLLM runs: in this process, on the device that a launcher gave it, or in processes of its own."""
    if tensor_parallel > 1:
        return "mp"
    return "external_launcher" if others_connected() else "uni"


def others_connected() -> bool:
    """Whether this process is one of several of a run, all of which have a vLLM of their own and start it together."""
    from torch import distributed

    return distributed.is_initialized() and distributed.get_world_size() > 1


def max_context(folder: Path, config: EngineConfig) -> int:
    """Tokens that a trajectory may have: the checkpoint's limit, or less if asked for."""
    settings = read_json(folder / "config.json")
    limit = (settings.get("text_config") or settings).get("max_position_embeddings")
    if not isinstance(limit, int):
        raise ModelNotFoundError(f"config.json of '{folder.name}' has no max_position_embeddings")
    return min(config.max_context or limit, limit)


def stop_vllm(engine: Any) -> None:
    """End the workers and give the memory back."""
    with _staying_connected():
        engine.engine_core.shutdown()
        engine.renderer.shutdown()
    forget_vllm()


def forget_vllm() -> None:
    """Take down what vLLM set up in this process, so that it can be started again."""
    from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

    with _staying_connected():
        cleanup_dist_env_and_memory()


@contextmanager
def _staying_connected() -> Iterator[None]:
    """Where vLLM found the processes of a run connected they stay so; its own groups of them go."""
    if not others_connected():
        yield
        return
    from torch import distributed

    take_down = distributed.destroy_process_group

    def only_its_own(group: Any = None) -> None:
        if group is not None:  # None stands for everybody's
            take_down(group)

    vars(distributed)["destroy_process_group"] = only_its_own
    try:
        yield
    finally:
        vars(distributed)["destroy_process_group"] = take_down


def load_weights(engine: Any, weights: Weights, numbers: int) -> str | None:
    """Put other weights into a running engine that has nothing to do; all its caches are emptied.

    Args:
        engine: What `start_vllm` gave.
        weights: A folder that `check_weights` let pass, or tensors.
        numbers: How many numbers a whole checkpoint holds.

    Returns:
        Fingerprint of the tensors; None for a folder.

    Raises:
        EngineError: Tensors are missing.
    """
    if isinstance(weights, str | Path):
        fingerprint = None
        engine.collective_rpc("reload_weights", kwargs={"weights_path": str(weights)})
    else:
        counted = _Counted(weights)
        engine.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(counted)})
        if counted.numbers < numbers:  # vLLM would go on with whatever was in the memory of the rest
            raise EngineError(
                f"the tensors hold {counted.numbers} numbers and the model has {numbers}; give all of them"
            )
        fingerprint = counted.digest.hexdigest()
    engine.collective_rpc("renew_tied_head")
    if not engine.reset_prefix_cache():
        raise EngineError("vLLM did not empty its prefix cache")
    engine.reset_mm_cache()
    engine.reset_encoder_cache()
    return fingerprint


def check_weights(weights: Weights, config: EngineConfig, shapes: dict[str, tuple[int, ...]]) -> None:
    """Refuse what cannot take the place of the weights.

    Args:
        weights: The new ones.
        config: How the engine runs.
        shapes: Of the tensors that the engine was started with.

    Raises:
        ModelNotFoundError: A folder whose tensors differ in name or shape.
        UsageError: Tensors where several processes hold the model.
    """
    if not isinstance(weights, str | Path):
        if config.vllm.tensor_parallel > 1:
            raise UsageError("tensors cannot be handed to the processes of tensor_parallel; save them, give the folder")
        return
    new = tensor_shapes(Path(weights))
    if wrong := [name for name, shape in shapes.items() if new.get(name) != shape]:
        raise ModelNotFoundError(
            f"'{Path(weights).name}' holds other weights than the engine runs: {len(wrong)} tensors are missing or of "
            f"another shape, {wrong[0]} among them"
        )


def tensor_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Shape of each tensor of a checkpoint, by name.

    Raises:
        ModelNotFoundError: There are none, or they cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    shapes: dict[str, tuple[int, ...]] = {}
    try:
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(path, framework="pt") as file:
                shapes |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  # no dict
    except (OSError, SafetensorError) as error:
        raise ModelNotFoundError(f"the weights of '{folder.name}' cannot be read: {error}") from error
    if not shapes:
        raise ModelNotFoundError(f"'{folder.name}' has no weights; its *.safetensors belong beside config.json")
    return shapes


class _Counted:
    """Tensors on their way into vLLM: counted, and taken into a digest by name, shape and evenly spaced numbers."""

    def __init__(self, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
        self._weights = weights
        self.numbers = 0
        self.digest = hashlib.blake2b(digest_size=16)

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in self._weights:
            self.numbers += tensor.numel()
            self.digest.update(f"{name} {tuple(tensor.shape)} ".encode())
            flat = tensor.detach().flatten()
            self.digest.update(flat[:: max(1, len(flat) // _SAMPLE)].double().cpu().numpy().tobytes())
            yield name, tensor
