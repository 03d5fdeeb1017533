"""Weak starts for the ablation of GRPO-ATS, and how weak each of them is.

All learn from demonstrations whose decision for or against code is a coin's (`thyme.nano.undecided`). The weak one is
fine-tuned from the shipped base on clean demonstrations, for too few steps. The injected one is fine-tuned from the
shipped undecided weights, and of the code in its demonstrations every token is replaced by another one with a stated
chance: both as what is to be learnt and as what stands before it. The observations stay those of the code as it was.
The careless one is fine-tuned from the undecided weights, too, on demonstrations whose blocks of code lost their line
of imports with a stated chance: the sandbox makes up for that, and nothing fails where it repairs.
"""

from __future__ import annotations

import asyncio
import io
import random
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from thyme.config.training import DataSource
from thyme.families import Family, load_family
from thyme.markup import CODE_CLOSE
from thyme.nano import CHECKPOINTS, Checkpoint, checkpoint_path
from thyme.nano.asked import ask, drawn, prompts
from thyme.nano.grpo_ablation.arms import ARMS, GRPOAblationSettings, StartName, sandbox
from thyme.nano.grpo_ablation.records import Injection, Measured, Omission, StartResult
from thyme.nano.sources import NANO, PERCEPTION, open_rows
from thyme.nano.tuning import load_for_training, settings
from thyme.nano.undecided import UNDECIDED
from thyme.train.encode import Dialogue, Encoded, MaskPolicy, encode, encode_turns
from thyme.train.grpo.train import MODEL
from thyme.train.sft import train_sft
from thyme.types import Generated, Trajectory

_IMPORTS = re.compile(r"^(?:from|import) .*\n", re.MULTILINE)
ROWS_SEED = 601
"""Of the demonstrations and of their order."""
MEASURE_SEED = 970
"""Of the test problems that a start is measured on; the arms are asked others."""
WEIGHTS: dict[StartName, Checkpoint] = {"weak": "base", "injected": "undecided", "careless": "undecided"}
"""Shipped weights that each start is made of."""


def rows(
    cache: Path, how: GRPOAblationSettings, family: Family, *, careless: float = 0.0
) -> tuple[list[Encoded], Omission]:
    """Demonstrations of the undecided teacher, and perception replayed between them, encoded; drawn once a folder.

    Args:
        cache: Where they lie.
        how: How many.
        family: Of the model that is taught.
        careless: Chance of a code block to lose its line of imports.

    Returns:
        The samples, and how many lines were left out.
    """
    base = checkpoint_path("base")

    def source(subset: str, limit: int) -> DataSource:
        return DataSource(format=NANO, subset=subset, limit=limit, seed=ROWS_SEED)

    found = []
    rng = random.Random(f"thyme.nano/careless/{ROWS_SEED}")
    blocks = touched = 0
    for wanted in (source(UNDECIDED.name, how.rows), source(PERCEPTION, how.replayed)):
        for row in open_rows(wanted, cache=cache, base=base, prompts=prompts(), tell=lambda _: None):
            if isinstance(row, Dialogue):
                found.append(encode_turns(row.turns, row.images, family, system=row.system))
            else:
                bare = without_imports(row)
                taken = bare if rng.random() < careless else row
                blocks += bare != row
                touched += taken != row
                found.append(encode(taken, family, MaskPolicy.ALL))
    return found, Omission(probability=careless, blocks=blocks, touched=touched)


def without_imports(trajectory: Trajectory) -> Trajectory:
    """The same without the line of imports that the first code block begins with; others have none."""
    segments = tuple(
        segment.model_copy(update={"text": _IMPORTS.sub("", segment.text)})
        if isinstance(segment, Generated) and segment.kind == "code"
        else segment
        for segment in trajectory.segments
    )
    return trajectory.model_copy(update={"segments": segments})


def inject(
    samples: Sequence[Encoded], family: Family, probability: float, seed: int
) -> tuple[list[Encoded], Injection]:
    """Replace tokens of code at random.

    Args:
        samples: Encoded; those without code stay as they are.
        family: Of their tokens.
        probability: Chance of each token of code; the closing tag is spared, so that blocks still end.
        seed: Of the choice.

    Returns:
        The samples with other ids, and what was done.
    """
    rng = random.Random(f"thyme.nano/injected/{seed}")
    closing = len(family.encode_text(CODE_CLOSE))
    blocks = [
        (i, span.start, span.end - closing) for i, s in enumerate(samples) for span in s.spans if span.kind == "code"
    ]
    alternatives = sorted({int(token) for i, start, end in blocks for token in samples[i].ids[start:end]})
    changed = {i: samples[i].ids.copy() for i, *_ in blocks}
    touched = replaced = 0
    for i, start, end in blocks:
        hit = [place for place in range(start, end) if rng.random() < probability]
        for place in hit:
            changed[i][place] = rng.choice([token for token in alternatives if token != changed[i][place]])
        touched += bool(hit)
        replaced += len(hit)
    done = Injection(
        probability=probability,
        alternatives=len(alternatives),
        blocks=len(blocks),
        touched=touched,
        tokens=sum(end - start for _, start, end in blocks),
        replaced=replaced,
    )
    return [replace(s, ids=changed[i]) if i in changed else s for i, s in enumerate(samples)], done


def build(start: StartName, folder: Path, cache: Path, how: GRPOAblationSettings) -> StartResult:
    """Fine-tune a start and measure it.

    Args:
        start: Which.
        folder: For the checkpoint, which comes into ``model``; what is there is removed.
        cache: Where the demonstrations lie.
        how: Sizes.
    """
    weights = WEIGHTS[start]
    base = checkpoint_path(weights)
    family = load_family(base)
    samples, omission = rows(cache, how, family, careless=how.careless if start == "careless" else 0.0)
    injection = None
    if start == "injected":
        samples, injection = inject(samples, family, how.injected, ROWS_SEED)
    weak = how.weak_steps, how.weak_rate
    steps, rate = weak if start == "weak" else (how.injected_steps, how.injected_rate)
    tuned = settings(steps, how.sft_batch, learning_rate=rate, seed=ROWS_SEED)
    shutil.rmtree(folder, ignore_errors=True)  # what an interrupted job left
    report = train_sft(
        samples,
        load_for_training(base),
        # Of batches of one length, those of short answers would decide whether the model uses code at all.
        tuned.model_copy(update={"save_dtype": None, "group_by_length": False}),
        folder / MODEL,
        base=base,
        family=family,
        console=Console(file=io.StringIO()),
    )
    shutil.copytree(CHECKPOINTS / "final" / "prompts", folder / MODEL / "prompts", dirs_exist_ok=True)
    return StartResult(
        start=start,
        weights=weights,
        steps=report.steps,
        samples=report.samples,
        trained_tokens=report.trained_tokens,
        last_loss=report.curve[-1].loss,
        seconds=report.seconds,
        injection=injection,
        omission=omission if start == "careless" else None,
        measured=measure(folder / MODEL, how),
    )


def measure(folder: Path, how: GRPOAblationSettings) -> tuple[Measured, ...]:
    """How often a start uses code, and how often it runs, at each temperature of code, with and without repairs."""
    taus = {arm.tau: arm for arm in ARMS.values()}
    cases = [(tau, repairs) for tau in taus for repairs in (True, False)]
    ways = [(how.rollout(taus[tau]), sandbox(repairs)) for tau, repairs in cases]
    asked = asyncio.run(ask(folder, drawn(MEASURE_SEED, how.measured), prompts(), ways))
    return tuple(
        Measured(tau=tau, repairs=repairs, outcomes=outcomes)
        for (tau, repairs), outcomes in zip(cases, asked, strict=True)
    )
