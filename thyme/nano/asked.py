"""Ask a trained checkpoint fresh problems of the embedded world, and keep of each what experiments count."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from thyme.config import EngineConfig, RolloutConfig, SandboxConfig
from thyme.engines import open_engine
from thyme.errors import EngineError
from thyme.eval.runner import evaluate
from thyme.eval.summary import Sample
from thyme.markup import extract_answer
from thyme.nano.world import KINDS, problems
from thyme.prompts import PromptSet
from thyme.rewards.consistency import reasoning, states_answer
from thyme.sandbox import open_sandbox
from thyme.types import Problem

CHUNK = 50
"""Problems whose pictures are in memory at a time, about 3 MB each."""
GREEDY = RolloutConfig(max_round_tokens=256, max_tokens=768)
"""How experiments ask unless they say otherwise."""
REPAIRING = SandboxConfig()
"""The sandbox with every repair on."""


class Outcome(BaseModel):
    """What became of one test problem."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    kind: str
    right: float
    labels: float
    """Share of the reference's words that stand at their place in the answer."""
    blocks: int
    """Code blocks that were run."""
    ran: int
    """Those of them that ended without an error."""
    repaired: int = 0
    """Those of them that the sandbox put something right in."""
    consistent: float | None = None
    """Whether what the reasoning states last is what is answered; None where it states nothing."""


def drawn(seed: int, per_kind: int) -> Iterator[Problem]:
    """Test problems, kind by kind."""
    for kind in KINDS:
        yield from problems("test", seed, per_kind, (kind,))


async def ask(
    folder: Path,
    asked: Iterable[Problem],
    prompts: PromptSet,
    *,
    rollout: RolloutConfig = GREEDY,
    sandbox: SandboxConfig = REPAIRING,
) -> list[Outcome]:
    """Ask problems, with code in the sandbox.

    Args:
        folder: The checkpoint.
        asked: Problems; a few at a time are in memory.
        prompts: The words to ask with.
        rollout: Temperatures and bounds.
        sandbox: Where code runs.

    Raises:
        EngineError: The machinery failed on some of them, so that the figures would not compare.
    """
    outcomes: list[Outcome] = []
    rest = iter(asked)
    engine = open_engine(str(folder), EngineConfig(max_batch=32))
    try:
        async with open_sandbox(sandbox) as opened:
            while chunk := list(islice(rest, CHUNK)):
                samples = await evaluate(chunk, engine, opened, rollout, prompts=prompts, concurrency=32)
                outcomes += [_outcome(sample) for sample in samples]
    finally:
        await engine.aclose()
    return outcomes


def _outcome(sample: Sample) -> Outcome:
    trajectory = sample.trajectory
    if sample.score.value is None:
        raise EngineError(f"{trajectory.problem.id} could not be asked ({sample.score.note}); run the command again")
    runs = [observation.execution for observation in trajectory.observations]
    answer = extract_answer(trajectory.response)
    return Outcome(
        id=trajectory.problem.id,
        kind=trajectory.problem.kind,
        right=sample.score.value,
        labels=labels_right(trajectory.problem.answer or "", answer),
        blocks=len(runs),
        ran=sum(1 for execution in runs if execution.error is None),
        repaired=sum(1 for execution in runs if execution.repairs),
        consistent=states_answer(trajectory.problem, reasoning(trajectory), answer) if answer else None,
    )


def labels_right(reference: str, answer: str | None) -> float:
    """Share of the words of a reference that stand at their place in an answer."""
    expected, said = reference.split(), (answer or "").split()
    return sum(a == b for a, b in zip(expected, said, strict=False)) / max(len(expected), 1)
