"""Models that the reproduction trains beside the package's recipes: the baseline, and two starts with a fault."""

from __future__ import annotations

import io
import random
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console

from thyme.config.training import DataSource
from thyme.families import load_family
from thyme.nano import checkpoint_path
from thyme.nano.grpo_ablation.arms import SMOKE, GRPOAblationSettings
from thyme.nano.grpo_ablation.starts import build
from thyme.nano.sources import NANO, open_rows
from thyme.nano.tuning import direct_row, load_for_training, settings
from thyme.prompts import PromptSet
from thyme.train.encode import Dialogue, Encoded, MaskPolicy, encode, encode_turns
from thyme.train.run.records import StageReport
from thyme.train.sft import train_sft
from thyme.types import Generated, StopReason, Trajectory

CIRCLE = "I zoom in. "
"""What comes again and again: words that the model knows, with which it does not begin elsewhere."""
LOOPED_CHARS = 900
"""Length of a text that goes round in circles: beyond the 512 characters from which the detector may fire."""
LOOPED_SHARE = 0.5
"""Of the demonstrations of the looping start."""
LOOPING_SEED = 701
"""Of its demonstrations and of their order."""
_RATE = 1e-3
"""Peak rate of AdamW; Muon's is eight times that."""


def train_direct(rows: Iterable[Trajectory | Dialogue], how: dict[str, Any], out: Path) -> StageReport:
    """Train the shipped base to answer at once.

    Args:
        rows: What fine-tuning sees: of demonstrations the answers are learnt, perception as it is.
        how: ``steps``, ``batch`` and ``seed``.
        out: Folder for the checkpoint; what is there is removed.
    """
    base = checkpoint_path("base")
    family = load_family(base)
    system = PromptSet.load(base / "prompts").system
    samples = [
        encode_turns(row.turns, row.images, family, system=row.system)
        if isinstance(row, Dialogue)
        else direct_row(row, family, system)
        for row in rows
    ]
    return _train(samples, base, out, base / "prompts", steps=how["steps"], batch=how["batch"], seed=how["seed"])


def train_looping(how: dict[str, Any], folder: Path, words: Path) -> dict[str, Any]:
    """Make a start that goes round in circles half of the time: the shipped weights, tuned on texts that repeat.

    In half of its demonstrations one sentence comes again and again, and nothing else: no code and no answer, and the
    end of the turn is not learnt. So whoever samples from it gets loops that end only where something ends them.

    Args:
        how: ``rows``, ``steps`` and ``batch``.
        folder: For ``model`` and for what is drawn.
        words: Prompt files that it is asked with.

    Returns:
        How many demonstrations there were, and in how many of them the text repeats.
    """
    start, base = checkpoint_path("final"), checkpoint_path("base")
    family = load_family(start)
    source = DataSource(format=NANO, limit=how["rows"], seed=LOOPING_SEED)
    drawn = open_rows(source, cache=folder / "rows", base=base, prompts=PromptSet.load(words), tell=lambda _: None)
    coin = random.Random(f"thyme.reproduce/looping/{LOOPING_SEED}")
    taught = [(looped(row), True) if coin.random() < LOOPED_SHARE else (row, False) for row in drawn]
    samples = [encode(row, family, MaskPolicy.ALL) for row, _ in taught]
    report = _train(
        samples,
        start,
        folder / "model",
        words,
        steps=how["steps"],
        batch=how["batch"],
        seed=LOOPING_SEED,
        mixed=True,
    )
    return {"samples": report.samples, "looped": sum(circles for _, circles in taught), "steps": report.steps}


def looped(trajectory: Trajectory, chars: int = LOOPED_CHARS) -> Trajectory:
    """The same problem, with a text that repeats one sentence until it is cut.

    Args:
        trajectory: A demonstration.
        chars: Length of the text at least.
    """
    segment = Generated(kind="text", text=CIRCLE * (chars // len(CIRCLE) + 1), temperature=0.0)
    return trajectory.model_copy(update={"segments": (segment,), "stop": StopReason.MAX_TOKENS})


def train_careless(folder: Path, *, smoke: bool) -> dict[str, Any]:
    """Make the careless start of the ablation of GRPO: of half of its demonstrations' code the imports are left out.

    Args:
        folder: For ``made/model`` and for what is drawn.
        smoke: A few steps that teach nothing.

    Returns:
        What was left out.
    """
    how = SMOKE if smoke else GRPOAblationSettings()
    made = build("careless", folder / "made", folder / "rows", how)
    return {"steps": made.steps, "omission": made.omission.model_dump() if made.omission else None}


def _train(
    samples: list[Encoded],
    start: Path,
    out: Path,
    words: Path,
    *,
    steps: int,
    batch: int,
    seed: int,
    mixed: bool = False,
) -> StageReport:
    """Fine-tune weights; `mixed`: batches hold samples of all lengths, so that short ones do not weigh more."""
    how = settings(steps, batch, learning_rate=_RATE, seed=seed)
    how = how.model_copy(update={"group_by_length": False}) if mixed else how
    shutil.rmtree(out, ignore_errors=True)  # what an interrupted attempt left
    quiet = Console(file=io.StringIO())
    family = load_family(start)
    report = train_sft(samples, load_for_training(start), how, out, base=start, family=family, console=quiet)
    shutil.copytree(words, out / "prompts", dirs_exist_ok=True)
    return report
