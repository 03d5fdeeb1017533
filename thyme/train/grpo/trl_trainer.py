"""TRL's GRPOTrainer, imported without vLLM.

TRL imports whatever is called ``vllm``, in any version, for its own generation. Ours drives vLLM by itself, so that
import would only cost seconds, warn of versions that TRL does not know, and fail over a mere folder of that name.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from thyme.errors import MissingExtraError


@contextmanager
def _no_vllm() -> Iterator[None]:
    from trl import import_utils

    found = import_utils.is_vllm_available
    import_utils.is_vllm_available = lambda *_, **__: False
    try:
        yield
    finally:
        import_utils.is_vllm_available = found


try:
    with _no_vllm():
        from trl.trainer.grpo_trainer import GRPOTrainer
except ImportError as error:
    raise MissingExtraError("training by GRPO", "train") from error

__all__ = ["GRPOTrainer"]
