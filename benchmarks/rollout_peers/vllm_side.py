"""vLLM in process, with its prefix cache; runs in vLLM's own environment and imports nothing of ours.

All trajectories of a turn go in together, and every turn of the model is one request. Text and code are not asked for
apart here, and no log-probs are asked for: less work than ours does.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import groupby
from typing import Any, ClassVar

import torch
from vllm import LLM, SamplingParams
from vllm.v1.sample.logits_processor import LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

from rollout_peers.protocol import Result, Run, Work, answer_commands


class Forced(LogitsProcessor):
    """Makes the script's token of each row the best one, for all rows at once."""

    score = False
    logprobs: ClassVar[dict[int, list[float]]] = {}

    def __init__(self, vllm_config: Any, device: Any, is_pin_memory: bool) -> None:
        self._rows: dict[int, tuple[dict[str, Any], list[int]]] = {}

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: Any) -> None:
        process_dict_updates(self._rows, batch_update, lambda params, _, written: (params.extra_args, written))

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        rows = list(self._rows)
        tokens = [asked["forced"][len(written)] for asked, written in self._rows.values()]
        if self.score:
            values = logits[rows].float().log_softmax(-1)[range(len(rows)), tokens].tolist()
            for (asked, _), value in zip(self._rows.values(), values, strict=True):
                self.logprobs.setdefault(asked["index"], []).append(value)
        logits[rows, tokens] = 1e9
        return logits


class InProcess:
    """The LLM object and the pictures."""

    def __init__(self, work: Work) -> None:
        self._work = work
        longest = max(len(script.ids) for script in work.scripts)
        self._llm = LLM(
            work.model,
            dtype="float32",
            max_model_len=longest + 16,
            enable_prefix_caching=True,
            logits_processors=[Forced],
            limit_mm_per_prompt={"image": max(len(script.turns) for script in work.scripts)},
            disable_log_stats=True,
            seed=0,
        )
        names = {name for script in work.scripts for _, images, _ in script.turns for name in images}
        self._pictures = {name: work.picture(name) for name in names}

    def run(self, count: int, score: bool) -> Result:
        """All trajectories at once, on caches that know nothing of the last time."""
        self._llm.reset_prefix_cache()
        self._llm.llm_engine.reset_mm_cache()
        self._llm.llm_engine.reset_encoder_cache()
        Forced.score, Forced.logprobs = score, {}
        scripts = self._work.scripts[:count]
        done = Result(0.0, [[] for _ in scripts], 0)
        started = time.perf_counter()
        for turns in zip(*(script.turns for script in scripts), strict=True):
            outputs = self._llm.generate(
                [self._prompt(ids, names) for ids, names, _ in turns],
                [self._parameters(index, ids) for index, (_, _, ids) in enumerate(turns)],
                use_tqdm=False,
            )
            for index, output in enumerate(outputs):
                written = list(output.outputs[0].token_ids)
                done.written[index] += written
                done.fed += len(output.prompt_token_ids or ()) - (output.num_cached_tokens or 0) + len(written) - 1
        done.seconds = time.perf_counter() - started
        done.logprobs = [Forced.logprobs[index] for index in range(len(scripts))] if score else []
        return done

    def _prompt(self, ids: list[int], names: Sequence[str]) -> dict[str, Any]:
        """One placeholder an image: vLLM expands it itself."""
        image = self._work.image_token
        short = [t for token, run in groupby(ids) for t in ([token] if token == image else run)]
        return {"prompt_token_ids": short, "multi_modal_data": {"image": [self._pictures[name] for name in names]}}

    def _parameters(self, index: int, forced: list[int]) -> SamplingParams:
        return SamplingParams(
            temperature=0.0,
            max_tokens=len(forced),
            ignore_eos=True,
            detokenize=True,
            extra_args={"forced": forced, "index": index},
        )


def load(work: Work) -> Run:
    """Load the weights."""
    return InProcess(work).run


if __name__ == "__main__":
    answer_commands(load)
