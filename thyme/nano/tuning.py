"""The last stages: demonstrations from the teacher, and fine-tuning on them through the package's own trainer.

The base learns to think with code from demonstrations whose code really ran; between them stand perception questions
under the base's own prompt, so that what it can read at a glance stays. The direct baseline starts from the same base
and sees the same problems, with nothing but the answer to learn.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from PIL import Image

from thyme.config import SFTSettings
from thyme.families import Family, load_family
from thyme.markup import ANSWER_CLOSE, ANSWER_OPEN
from thyme.nano.questions import turns
from thyme.nano.teacher import compact, demonstrations
from thyme.nano.views import Pool
from thyme.nano.world import Kind, problem, problem_id
from thyme.prompts import PromptSet
from thyme.sandbox import open_sandbox
from thyme.store import append_trajectory, read_trajectories
from thyme.train.encode import Encoded, MaskPolicy, encode, encode_turns
from thyme.train.sft import SFTReport, train_sft
from thyme.types import ImageRecord, Problem, Trajectory

Report = Callable[[str], None]

SHARES: dict[Kind, float] = {
    "zoom": 0.26,
    "two_round": 0.17,
    "rotation": 0.14,
    "contrast": 0.09,
    "arithmetic": 0.14,
    "easy": 0.10,
    "medium": 0.10,
}
"""Share of each kind in the demonstrations."""


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
    todo = [p for p in _named(count, seed) if p[0] not in done]
    path.parent.mkdir(parents=True, exist_ok=True)
    return len(done) + asyncio.run(_demonstrate(path, prompts, (make() for _, make in todo), report))


def _named(count: int, seed: int) -> Iterator[tuple[str, Callable[[], Problem]]]:
    """Ids of the problems, and how to draw each: drawing is what takes time."""
    todo = [(kind, index) for kind, share in SHARES.items() for index in range(round(count * share))]
    random.Random(f"thyme.nano/demonstrations/{seed}").shuffle(todo)
    for kind, index in todo:
        yield problem_id("train", seed, index, kind), lambda k=kind, i=index: problem("train", seed, i, k)  # type: ignore[misc]  # mypy does not type lambda defaults


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
    weights = {"large": 4.0, "mixed": 3.0, "small": 2.0, "crop": 3.0, "enhanced": 1.5, "turned": 0.5, "faint": 0.3}
    members = {kind: pool.of_kind(kind) for kind in weights}  # type: ignore[arg-type]  # keys are view kinds
    for _ in range(count):
        kind = rng.choices(list(weights), list(weights.values()))[0]
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
        device="cpu",
        bf16=True,
        attention="eager",
        save_dtype="bfloat16",
        pad_to_multiple=32,
        seed=seed,
        log_steps=20,
    )


def tune(
    base: Path,
    out: Path,
    demonstrations_path: Path,
    pool: Pool,
    how: SFTSettings,
    *,
    replayed: int,
    direct: bool = False,
) -> SFTReport:
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

    return train_sft(samples(), base, how, out, family=family)
