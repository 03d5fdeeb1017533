"""The tables of docs/sft_memory.md: ``python -m thyme.train.memory.table``."""

from __future__ import annotations

from collections.abc import Iterator

from thyme.config.load import load
from thyme.config.sft import SFTSettings
from thyme.config.sft_recipe import SFTRecipe
from thyme.config.training import LoraSettings
from thyme.train.memory.cost import PEAK_TFLOPS, UTILISATION, Load, cost
from thyme.train.memory.estimate import GIB, Sharding, estimate
from thyme.train.memory.layouts import layout

RECIPES = ("thyme_7b_stage1", "thyme_7b_stage2", "one_gpu_3b_lora")
"""Recipes of published models, in order; the embedded model needs no table."""
MODELS = ("qwen2.5-vl-3b", "qwen2.5-vl-7b")
CARDS = (24, 80)
"""GiB of the GPUs."""
_WAYS: tuple[tuple[str, int, Sharding], ...] = (
    ("1 GPU", 1, "none"),
    ("8, DDP", 8, "none"),
    ("8, ZeRO-2", 8, "zero2"),
    ("8, ZeRO-3", 8, "zero3"),
    ("8, FSDP2", 8, "fsdp2"),
)
_PIXELS_A_TOKEN = 28 * 28
"""Of Qwen2.5-VL: four patches of 14 by 14."""
_LOADS = (2000, 4000, 6000)
"""Tokens of a typical sample, about which nothing is published."""
STAGE_ROWS = {"stage 1": 181_277 + 152_354, "stage 2": 12_342}
"""Rows of the published Thyme-SFT; the paper counts more."""
PAPER_GPU_HOURS = 224
"""Of supervised fine-tuning, on H800 (arXiv 2508.11630, section 4.1)."""


def tables() -> str:
    """All tables as Markdown."""
    parts: list[str] = []
    known: dict[tuple[str, ...], list[str]] = {}
    for name in RECIPES:
        recipe = load(f"@{name}", (), SFTRecipe)
        known.setdefault(tuple(_memory_rows(recipe)), []).append(name)
    for rows, names in known.items():
        parts += [f"### {' and '.join(f'`{name}`' for name in names)}", "", *rows, ""]
    parts += ["### Cost of the paper's fine-tuning", "", *_cost_rows()]
    return "\n".join(parts) + "\n"


def variants(settings: SFTSettings) -> dict[str, SFTSettings]:
    """A recipe's own settings, and the same with adapters, or with all weights, in place of what it has."""
    if settings.lora is None:
        adapters = settings.model_copy(update={"lora": LoraSettings(), "weights_dtype": "bfloat16"})
        return {"all weights": settings, "adapters": adapters}
    full = settings.model_copy(update={"lora": None, "weights_dtype": "float32"})
    return {"adapters": settings, "all weights": full}


def _memory_rows(recipe: SFTRecipe) -> Iterator[str]:
    """Peak of a step on the longest sample allowed, most of it images of the largest size allowed."""
    (settings, *_) = [stage.train for stage in recipe.stages.values()]
    tokens = recipe.max_tokens * settings.batch_size
    patches = 4 * min(tokens - 1024, 2 * (recipe.max_pixels or 0) // _PIXELS_A_TOKEN)
    yield "| model | trained | " + " | ".join(name for name, _, _ in _WAYS) + " |"
    yield "|---|---|" + "---|" * len(_WAYS)
    for model in MODELS:
        for name, changed in variants(settings).items():
            cells = [_cell(model, changed, tokens, patches, world, sharding) for _, world, sharding in _WAYS]
            yield f"| {model} | {name} | " + " | ".join(cells) + " |"


def _cell(model: str, settings: SFTSettings, tokens: int, patches: int, world: int, sharding: Sharding) -> str:
    """Peak in GiB, and the smallest GPU that holds it."""
    one = estimate(layout(model), settings, tokens=tokens, patches=patches, world_size=world, sharding=sharding)
    fitting = [card for card in CARDS if one.fits(card * GIB)]
    return f"{one.peak / GIB:.1f} " + (f"({fitting[0]} GB)" if fitting else "(none)")


def _cost_rows() -> Iterator[str]:
    """GPU hours of both stages by length of the typical sample, three quarters of it images."""
    yield "| tokens a sample | operations | " + " | ".join(f"{device}, GPU hours" for device in ("h800", "a100")) + " |"
    yield "|---|---|---|---|"
    settings = load("@thyme_7b_stage1", (), SFTRecipe).stages["images"].train
    samples = sum(STAGE_ROWS.values()) * settings.epochs
    for tokens in _LOADS:
        typical = Load(tokens=tokens, targets=400, patches=3 * tokens, images=2)
        made = cost(layout("qwen2.5-vl-7b"), settings, typical, samples=samples)
        hours = [f"{made.gpu_hours(device):.0f}" for device in ("h800", "a100")]
        yield f"| {tokens} | {made.operations:.2e} | " + " | ".join(hours) + " |"
    yield ""
    yield (
        f"Assumed: {100 * UTILISATION:.0f} % of {PEAK_TFLOPS['h800']} TFLOPS (H800) and {PEAK_TFLOPS['a100']} (A100), "
        f"{settings.epochs:g} epochs over {sum(STAGE_ROWS.values())} rows, 400 tokens of a sample trained on, "
        f"two images. The paper reports about {PAPER_GPU_HOURS} GPU hours on H800."
    )


if __name__ == "__main__":
    import sys

    sys.stdout.write(tables())
