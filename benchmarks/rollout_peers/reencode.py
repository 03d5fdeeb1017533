"""The loop that encodes the whole conversation again every round, with ``model.generate`` of transformers.

`one` takes one trajectory after the other, as the released inference does; `batched` takes all of them together, round
by round, padded on the left. Both get their ids ready-made: what tokenising costs is not counted here.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, GenerationConfig, LogitsProcessor, LogitsProcessorList
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from rollout_peers.protocol import Result, Run, Script, Work, answer_commands

Turn = tuple[list[int], list[str], list[int]]


class Forced(LogitsProcessor):  # type: ignore[misc]  # transformers has no types
    """Makes the script's token of each row the best one."""

    def __init__(self, targets: Sequence[Sequence[int]], start: int, score: bool) -> None:
        self._targets = torch.tensor(
            [[*ids, *[ids[-1]] * (max(map(len, targets)) - len(ids))] for ids in targets]
        )  # a row that has written everything writes its last token again until the longest is done
        self._rows = torch.arange(len(targets))
        self._start, self._score = start, score
        self.logprobs: list[list[float]] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        tokens = self._targets[:, input_ids.shape[1] - self._start]
        if self._score:
            self.logprobs.append(scores.float().log_softmax(-1)[self._rows, tokens].tolist())
        scores[self._rows, tokens] = torch.inf
        return scores


class Reencode:
    """Model and image processor."""

    def __init__(self, work: Work, *, batched: bool) -> None:
        torch.set_num_threads(work.threads)
        self._work, self._batched = work, batched
        self._model = AutoModelForImageTextToText.from_pretrained(work.model, dtype=torch.float32).eval()
        self._processor = Qwen2VLImageProcessorPil.from_pretrained(work.model)
        names = {name for script in work.scripts for _, images, _ in script.turns for name in images}
        self._pictures = {name: work.picture(name) for name in names}
        self._pad = work.end_token

    @torch.inference_mode()
    def run(self, count: int, score: bool) -> Result:
        """The first scripts, alone or together."""
        scripts = self._work.scripts[:count]
        started = time.perf_counter()
        groups = [scripts] if self._batched else [[script] for script in scripts]
        parts = [self._conversation(group, score) for group in groups]
        seconds = time.perf_counter() - started
        return Result(
            seconds,
            [ids for part in parts for ids in part.written],
            sum(part.fed for part in parts),
            sum(part.steps for part in parts),
            [values for part in parts for values in part.logprobs],
        )

    def _conversation(self, scripts: Sequence[Script], score: bool) -> Result:
        done = Result(0.0, [[] for _ in scripts], 0, 0, [[] for _ in scripts] if score else [])
        for turns in zip(*(script.turns for script in scripts), strict=True):
            self._turn(turns, score, done)
        return done

    def _turn(self, turns: Sequence[Turn], score: bool, done: Result) -> None:
        """Encode everything so far again, and write on."""
        inputs = self._inputs(turns)
        rows, length = inputs["input_ids"].shape
        new = max(len(ids) for _, _, ids in turns)
        forced = Forced([ids for _, _, ids in turns], length, score)
        settings = GenerationConfig(max_new_tokens=new, do_sample=False, pad_token_id=self._pad)
        out = self._model.generate(**inputs, generation_config=settings, logits_processor=LogitsProcessorList([forced]))
        done.fed += rows * (length + new - 1)
        done.steps += new
        for row, (_, _, ids) in enumerate(turns):
            done.written[row] += out[row, length : length + len(ids)].tolist()
            if score:
                done.logprobs[row] += [values[row] for values in forced.logprobs[: len(ids)]]

    def _inputs(self, turns: Sequence[Turn]) -> dict[str, Any]:
        longest = max(len(ids) for ids, _, _ in turns)
        ids = torch.tensor([[self._pad] * (longest - len(ids)) + ids for ids, _, _ in turns])
        shown = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids, _, _ in turns])
        made = self._processor(
            images=[self._pictures[name] for _, names, _ in turns for name in names], return_tensors="pt"
        )
        return {
            "input_ids": ids,
            "attention_mask": shown,
            "pixel_values": made["pixel_values"],
            "image_grid_thw": made["image_grid_thw"],
            "mm_token_type_ids": (ids == self._work.image_token).long(),
        }


def load(work: Work) -> Run:
    """Load the weights."""
    return Reencode(work, batched="batched" in sys.argv[2:]).run


if __name__ == "__main__":
    answer_commands(load)
