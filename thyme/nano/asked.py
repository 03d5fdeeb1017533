"""Ask a trained checkpoint fresh problems of the embedded world, and keep of each what experiments count."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from itertools import islice
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from thyme.config import EngineConfig, RolloutConfig, SandboxConfig
from thyme.engines import open_engine
from thyme.errors import EngineError
from thyme.eval.runner import evaluate
from thyme.eval.summary import Sample
from thyme.markup import extract_answer
from thyme.nano import CHECKPOINTS
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
Way = tuple[RolloutConfig, SandboxConfig]
"""Temperatures and bounds, and where code runs."""


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
    tokens: int = 0
    """Generated; 0 in files from before it was counted."""
    stop: str = ""
    """Why the rollout ended, a `StopReason`; empty in files from before it was kept."""


def prompts() -> PromptSet:
    """The words that experiments teach and ask with: those of the shipped weights that use tools."""
    return PromptSet.load(CHECKPOINTS / "final" / "prompts")


def drawn(seed: int, per_kind: int) -> Iterator[Problem]:
    """Test problems, kind by kind."""
    for kind in KINDS:
        yield from problems("test", seed, per_kind, (kind,))


async def ask(
    folder: Path, asked: Iterable[Problem], words: PromptSet, ways: Sequence[Way] = ((GREEDY, REPAIRING),)
) -> list[tuple[Outcome, ...]]:
    """Ask problems, with code in the sandbox.

    Args:
        folder: The checkpoint.
        asked: Problems; a few at a time are in memory.
        words: What they are asked with, `prompts` for one.
        ways: How each problem is asked.

    Returns:
        For each way what became of the problems.

    Raises:
        EngineError: The machinery failed on some of them, so that the figures would not compare.
    """
    outcomes: list[list[Outcome]] = [[] for _ in ways]
    rest = iter(asked)
    async with AsyncExitStack() as opened:
        engine = open_engine(str(folder), EngineConfig(max_batch=32))
        opened.push_async_callback(engine.aclose)
        configs = dict.fromkeys(config for _, config in ways)
        sandboxes = {config: await opened.enter_async_context(open_sandbox(config)) for config in configs}
        while chunk := list(islice(rest, CHUNK)):
            for found, (rollout, config) in zip(outcomes, ways, strict=True):
                samples = await evaluate(chunk, engine, sandboxes[config], rollout, prompts=words, concurrency=32)
                found.extend(map(_outcome, samples))
    return [tuple(found) for found in outcomes]


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
        tokens=trajectory.usage.generated_tokens,
        stop=trajectory.stop,
    )


def labels_right(reference: str, answer: str | None) -> float:
    """Share of the words of a reference that stand at their place in an answer."""
    expected, said = reference.split(), (answer or "").split()
    return sum(a == b for a, b in zip(expected, said, strict=False)) / max(len(expected), 1)
