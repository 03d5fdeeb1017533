"""The last stages: demonstrations from the teacher, and fine-tuning on them through the package's own trainer.

The base learns to think with code from demonstrations whose code really ran; between them stand perception questions
under the base's own prompt, so that what it can read at a glance stays. The direct baseline starts from the same base
and sees the same problems, with nothing but the answer to learn.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from thyme.config import SFTSettings
from thyme.families import Family, load_family
from thyme.markup import ANSWER_CLOSE, ANSWER_OPEN
from thyme.nano.model import attend
from thyme.nano.perception.questions import turns
from thyme.nano.perception.views import Pool, ViewKind
from thyme.nano.teacher import compact, demonstrations
from thyme.nano.world import Kind, problem, problem_id
from thyme.prompts import PromptSet
from thyme.sandbox import open_sandbox
from thyme.store import append_trajectory, read_trajectories
from thyme.train.encode import Encoded, MaskPolicy, encode, encode_turns
from thyme.train.run.records import StageReport
from thyme.train.sft import train_sft
from thyme.types import ImageRecord, Problem, Trajectory

Report = Callable[[str], None]

SHARES: dict[Kind, int] = {
    "zoom": 11,
    "two_round": 14,
    "rotation": 6,
    "contrast": 4,
    "arithmetic": 6,
    "easy": 4,
    "medium": 4,
}
"""Parts of the demonstrations that each kind makes up."""
REPLAYED: dict[ViewKind, float] = {
    "large": 4,
    "mixed": 3,
    "small": 2,
    "crop": 3,
    "enhanced": 1.5,
    "turned": 0.5,
    "faint": 0.3,
}
"""How often each kind of view comes up in replayed perception."""


def demonstrate_all(path: Path, prompts: PromptSet, *, count: int, seed: int, report: Report) -> int:
    """Write demonstrations, images at the size at which they are seen, going on where an earlier run stopped.

    Args:
        path: JSON-lines file; images lie beside it.
        prompts: Those of the final checkpoint.
        count: How many.
        seed: Of the problems.
        report: Called with a line now and then.

    Returns:
        How many are there now.
    """
    done = {t.id for t in read_trajectories(path, images=False, skip_damaged=True)} if path.exists() else set()
    todo = [p for p in drawn_ids(count, seed) if p[0] not in done]
    path.parent.mkdir(parents=True, exist_ok=True)
    return len(done) + asyncio.run(_demonstrate(path, prompts, (make() for _, make in todo), report))


def drawn_ids(count: int, seed: int) -> Iterator[tuple[str, Callable[[], Problem]]]:
    """Ids of the problems of the demonstrations, and how to draw each: drawing is what takes time."""
    whole = sum(SHARES.values())
    todo = [(kind, index) for kind, share in SHARES.items() for index in range(round(count * share / whole))]
    random.Random(f"thyme.nano/demonstrations/{seed}").shuffle(todo)
    for kind, index in todo:
        yield problem_id("train", seed, index, kind), partial(problem, "train", seed, index, kind)


async def _demonstrate(path: Path, prompts: PromptSet, todo: Iterable[Problem], report: Report) -> int:
    written = 0
    async with open_sandbox() as sandbox:
        async for trajectory in demonstrations(todo, sandbox, prompts):
            append_trajectory(path, compact(trajectory))
            written += 1
            if written % 200 == 0:
                report(f"{written} demonstrations written")
    return written


def replay(pool: Pool, family: Family, system: str, count: int, seed: int) -> Iterator[Encoded]:
    """Perception questions under the base's prompt, as in its own training.

    Args:
        pool: Views to ask about.
        family: Of the base.
        system: The base's system turn.
        count: Rows.
        seed: Of the questions.
    """
    rng = random.Random(f"thyme.nano/replay/{seed}")
    members = {kind: pool.of_kind(kind) for kind in REPLAYED}
    kinds = [kind for kind, found in members.items() if found]
    for _ in range(count):
        kind = rng.choices(kinds, [REPLAYED[kind] for kind in kinds])[0]
        index = rng.choice(members[kind])
        view = pool.views[index]
        asked = turns(rng, view, "mixture", 1 if kind == "crop" else 3)
        first = (f"<image>\n{asked[0][0]}", asked[0][1])
        image = ImageRecord.of(Image.fromarray(pool.pixels[index]))
        yield encode_turns([first, *asked[1:]], (image,), family, system=system)


def direct_row(trajectory: Trajectory, family: Family, system: str) -> Encoded:
    """The same problem with nothing but its answer to learn, under the base's prompt."""
    problem_ = trajectory.problem
    lead = "<image>\n" * len(problem_.images)
    answer = f"{ANSWER_OPEN}{problem_.answer}{ANSWER_CLOSE}"
    return encode_turns([(lead + problem_.question, answer)], problem_.images, family, system=system)


def settings(steps: int, batch: int, *, learning_rate: float, seed: int) -> SFTSettings:
    """How both fine-tunings run; nothing differs between them but the samples."""
    return SFTSettings(
        max_steps=steps,
        batch_size=batch,
        optimizer="muon",
        learning_rate=learning_rate,
        muon_learning_rate=learning_rate * 8,
        betas=(0.9, 0.98),
        schedule="linear",
        cache="features",
        cache_dtype="bfloat16",
        bf16=True,
        save_dtype="bfloat16",
        pad_to_multiple=32,
        seed=seed,
        log_steps=20,
    )


MATMUL_ATTENTION = "thyme_matmul"


def matmul_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **_: object
) -> tuple[Tensor, None]:
    """Causal attention for transformers as the lean model computes it: in bf16 on a CPU, twice as fast as theirs.

    Padding is on the right and not trained on, so a causal mask is all that is needed.

    Args:
        module: The layer that asks.
        query: (B, heads, T, d).
        key: (B, kv heads, T, d).
        value: (B, kv heads, T, d).
        mask: Not used.

    Returns:
        (B, T, heads, d) and no weights.
    """
    with torch.autocast("cpu", enabled=False):
        half = torch.bfloat16
        mixed = attend(query.to(half), key.to(half), value.to(half), causal=True)
    return mixed.view(*mixed.shape[:2], query.shape[1], -1).to(query.dtype), None


def load_for_training(folder: Path) -> nn.Module:
    """The base in transformers' own class, its language model with the attention that is fastest here."""
    from transformers import AttentionInterface, AttentionMaskInterface, AutoModelForImageTextToText

    text = "sdpa"
    if not torch.cuda.is_available():
        AttentionInterface.register(MATMUL_ATTENTION, matmul_attention)
        AttentionMaskInterface.register(MATMUL_ATTENTION, lambda *_, **__: None)
        text = MATMUL_ATTENTION
    chosen = {"": text, "text_config": text, "vision_config": "sdpa"}
    model: nn.Module = AutoModelForImageTextToText.from_pretrained(
        folder, dtype=torch.float32, attn_implementation=chosen
    )
    return model


def tune(
    base: Path,
    out: Path,
    demonstrations_path: Path,
    pool: Pool,
    how: SFTSettings,
    *,
    replayed: int,
    direct: bool = False,
) -> StageReport:
    """Fine-tune the base on demonstrations, or on the bare answers of the same problems.

    Args:
        base: Checkpoint folder of the base.
        out: Folder of the result.
        demonstrations_path: From `demonstrate_all`.
        pool: Views for replayed perception.
        how: Settings of the trainer.
        replayed: Rows of perception beside the demonstrations.
        direct: Train the baseline instead.
    """
    family = load_family(base)
    system = PromptSet.load(base / "prompts").system
    shown = read_trajectories(demonstrations_path)

    def samples() -> Iterator[Encoded]:
        for trajectory in shown:
            yield direct_row(trajectory, family, system) if direct else encode(trajectory, family, MaskPolicy.ALL)
        yield from replay(pool, family, system, replayed, how.seed)

    return train_sft(samples(), load_for_training(base), how, out, base=base, family=family)
