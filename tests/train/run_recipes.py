"""Small recipes for the tests of runs: a tiny model, recorded trajectories, questions without pictures. Not a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import samples
import torch
from transformers import AutoModelForImageTextToText

from thyme.config.load import load
from thyme.config.sft_recipe import SFTRecipe
from thyme.store import write_trajectories

RECIPE = """
model = "{model}"
prompts = "{prompts}"
max_tokens = 4000

[train]
max_steps = 2
batch_size = 2
learning_rate = 2e-3
device = "cpu"
log_steps = 1

[stages.images.data.shown]
path = "{data}/images.jsonl"
[stages.maths]
mask = "all"
[stages.maths.data.shown]
path = "{data}/maths.jsonl"
[stages.maths.train]
learning_rate = 2e-4
"""
EVALUATION = """
[evaluation]
examples = 2
[evaluation.data]
format = "problems"
path = "{data}/problems.jsonl"
[evaluation.rollout]
max_round_tokens = 4
max_tokens = 6
[evaluation.sandbox]
pool = 0
"""


def lay_out(folder: Path, model: Path, *, evaluated: bool = False) -> Path:
    """Data, prompts and a recipe; the recipe's file."""
    folder.mkdir(parents=True, exist_ok=True)
    shown = [
        samples.trajectory([samples.crop(i + j) for j in range(i % 3)], images=[samples.picture(i)], name=f"i{i}")
        for i in range(5)
    ]
    write_trajectories(folder / "images.jsonl", shown)
    maths = [samples.trajectory([samples.crop(9, images=0, stdout=f"{i}")], name=f"m{i}") for i in range(3)]
    write_trajectories(folder / "maths.jsonl", maths)
    rows = [{"question": f"What is {i} + {i}?", "answer": str(2 * i), "kind": f"k{i % 2}"} for i in range(3)]
    (folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prompts = folder / "prompts"
    prompts.mkdir(exist_ok=True)
    for name, text in (
        ("system", "Think."),
        ("user", "{% for i in images %}<image>{% endfor %}"),
        ("user_text_only", ""),
    ):
        (prompts / f"{name}.txt").write_text(text + ("{{ question }}" if name != "system" else ""))
    text = (RECIPE + (EVALUATION if evaluated else "")).format(model=model, prompts=prompts, data=folder)
    path = folder / "tiny.toml"
    path.write_text(text)
    return path


def read(path: Path, *overrides: str) -> SFTRecipe:
    """The recipe of `lay_out`."""
    return load(path, overrides, SFTRecipe)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Of a checkpoint."""
    state: Any = AutoModelForImageTextToText.from_pretrained(folder).state_dict()
    return dict(state)


def same(one: Path, other: Path) -> bool:
    """Whether two checkpoints hold the same weights, to the bit."""
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
