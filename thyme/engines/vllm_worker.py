"""What runs inside vLLM's workers: which tokens may not come next, and log-probabilities under each row's own tau.

vLLM loads these classes by name, in every process that holds a part of the model. Shapes: R rows of a step, V size of
the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from vllm.model_executor.layers.vocab_parallel_embedding import (
    ParallelLMHead,
)
from vllm.v1.sample.logits_processor import LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates
from vllm.v1.sample.sampler import Sampler

from thyme.families import load_family

SPAN = "thyme_span"
"""Key of a span's own words among the extra arguments of its sampling parameters."""


class TauSampler(Sampler):  # type: ignore[misc]  # vLLM's class is unknown to the type checker
    """vLLM's sampler; only its log-probabilities are ours.

    Its own choices are "before temperature" or "after masks". A trainer computes logits / tau over the whole
    vocabulary, with tau = 0 counted as 1.
    """

    _taus: torch.Tensor | None = None

    def forward(self, logits: torch.Tensor, sampling_metadata: Any, *args: Any, **kwargs: Any) -> Any:
        """Choose one token a row.

        Args:
            logits: Of shape (R, V).
            sampling_metadata: vLLM's settings of the R rows.
            args: As vLLM passes them.
            kwargs: As vLLM passes them.
        """
        self._taus = sampling_metadata.temperature
        try:
            return super().forward(logits, sampling_metadata, *args, **kwargs)
        finally:
            self._taus = None

    def compute_logprobs(self, logits: torch.Tensor) -> torch.Tensor:
        """Of shape (R, V), under logits / tau; called before anything is masked."""
        scores = logits.float()
        if self._taus is not None:
            scores = scores / torch.where(self._taus > 0, self._taus, 1.0)[:, None]
        return scores.log_softmax(-1)


class WorkerExtension:
    """Methods that vLLM's worker gains."""

    model_runner: Any

    def use_tau_sampler(self) -> None:
        """Take `TauSampler` from now on."""
        self.model_runner.sampler = TauSampler(logprobs_mode="raw_logprobs")

    def renew_tied_head(self) -> None:
        """Pack an output layer anew that shares the embedding's weights: reloading them passes it by, on a CPU."""
        for layer in self.model_runner.get_model().modules():
            if isinstance(layer, ParallelLMHead) and hasattr(layer, "cpu_linear"):
                layer.quant_method.process_weights_after_loading(layer)


class SpanMask(LogitsProcessor):  # type: ignore[misc]  # vLLM's class is unknown to the type checker
    """Takes away the tokens that are never chosen, and those that would complete a blocked string."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        """Load the tokenizer.

        Args:
            vllm_config: Names the checkpoint.
            device: Of the logits.
            is_pin_memory: Not used.
        """
        family = load_family(vllm_config.model_config.tokenizer)
        self._device = device
        self._token_bytes = family.token_bytes
        vocabulary = vllm_config.model_config.get_vocab_size()
        never = {*family.never_sampled, *range(len(self._token_bytes), vocabulary)}
        self._never = torch.tensor(sorted(never), device=device)
        self._rows: dict[int, _Watch] = {}
        self._tables: dict[str, list[torch.Tensor]] = {}

    def is_argmax_invariant(self) -> bool:
        """Greedy rows are masked too."""
        return False

    def update_state(self, batch_update: Any) -> None:
        """Follow the rows."""
        process_dict_updates(self._rows, batch_update, self._watch)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Mask logits of shape (R, V), in place."""
        logits.index_fill_(1, self._never, -torch.inf)
        for row, watch in self._rows.items():
            for text in watch.blocked:
                tail = watch.tail(len(text) - 1, self._token_bytes)
                for begun, completing in enumerate(self._completing(text)):
                    if len(completing) and tail.endswith(text.encode()[:begun]):
                        logits[row, completing] = -torch.inf
        return logits

    def _watch(self, params: Any, prompt: object, written: list[int]) -> _Watch | None:
        span = (params.extra_args or {}).get(SPAN)
        return None if span is None else _Watch(tuple(span["blocked"]), span["before"].encode(), written)

    def _completing(self, text: str) -> list[torch.Tensor]:
        """Tokens that complete a text of which so many bytes are there; entry 0: those that hold all of it."""
        if text not in self._tables:
            wanted = text.encode()
            held = [[token for token, piece in enumerate(self._token_bytes) if wanted in piece]]
            held += [
                [token for token, piece in enumerate(self._token_bytes) if piece.startswith(wanted[begun:])]
                for begun in range(1, len(wanted))
            ]
            self._tables[text] = [torch.tensor(ids, dtype=torch.long, device=self._device) for ids in held]
        return self._tables[text]


class _Watch:
    """What a row has written, and must not write."""

    def __init__(self, blocked: tuple[str, ...], before: bytes, written: Sequence[int]) -> None:
        """Follow a row.

        Args:
            blocked: Strings that must not be completed.
            before: What the model wrote just before the span.
            written: Tokens of the span; vLLM appends to it.
        """
        self.blocked = blocked
        self._before, self._written = before, written

    def tail(self, reach: int, token_bytes: Sequence[bytes]) -> bytes:
        """The last bytes, at least `reach` of them where there are so many."""
        last = b"".join(token_bytes[token] for token in self._written[-reach:]) if reach else b""
        return last if len(last) >= reach else self._before + last
