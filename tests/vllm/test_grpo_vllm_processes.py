"""A vLLM in each of two processes of a run: over gloo on the CPU, with whole weights and with weights that are spread.

That each vLLM has the weights of its step is seen by the log-probabilities of what it drew, which are the trainer's.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from thyme.nano import checkpoint_path

sys.path.insert(0, str(Path(__file__).parents[1] / "train"))

import grpo_launched

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("recipe", ["ddp", "fsdp2"])
@pytest.mark.parametrize("changes", [{}, {"lora": {"rank": 4}}], ids=["full", "adapters"])
def test_each_process_draws_with_the_weights_of_the_step(recipe: str, changes: dict[str, Any], tmp_path: Path) -> None:
    rate = 1e-2 if changes else 1e-3
    plan = grpo_launched.plan(
        checkpoint_path(), real="vllm", group=4, max_steps=3, beta=0.01, learning_rate=rate, **changes
    )
    first, second = grpo_launched.reports([plan], tmp_path, recipe, patience=400)[0]
    assert [told["step"] for told in first["told"]] == [1, 2, 3]
    for one, other in zip(first["told"], second["told"], strict=True):
        assert one["trained"] == other["trained"]
        assert not set(map(tuple, one["groups"])) & set(map(tuple, other["groups"]))
        assert one["trained"]["gaps"]["text"]["mean"] < 2e-3
        assert one["trained"]["gaps"]["text"]["kl"] < 1e-4
    assert first["told"][2]["trained"]["kl"] > 1e-4, "the weights of the third step are others than those of the first"
