"""What the jobs of the ablation of GRPO-ATS leave behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from pydantic import BaseModel, ConfigDict

from thyme.nano.asked import Outcome
from thyme.train.grpo.groups import Group, Member


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Count(_Record):
    """Rollouts of one kind in one step, counted."""

    step: int
    """From 1."""
    kind: str
    rollouts: int = 0
    """That were not lost to a failure of the machinery."""
    coded: int = 0
    """Those of them that ran code."""
    worked: int = 0
    """Those of them that ran code without an error at least once."""
    blocks: int = 0
    """Code blocks that ran."""
    ran: int = 0
    """Those of them that ended without an error."""
    repaired: int = 0
    """Those of them that the sandbox put something right in."""
    scored: int = 0
    """Rollouts with a reward."""
    reward: float = 0.0
    """Their sum."""
    right: float = 0.0
    """Sum of the results, 0 or 1 each."""
    tokens: int = 0
    """Generated."""


class GRPOArmResult(_Record):
    """One arm from one start with one seed."""

    start: str
    arm: str
    seed: int
    counts: tuple[Count, ...] = ()
    """Of every step, the kinds that came up in it; none of the start itself."""
    entropy: tuple[dict[str, float], ...] = ()
    """Of every step, mean entropy at text and at code tokens, nats."""
    train_seconds: float = 0.0
    cpu_seconds: float = 0.0
    """Of this process and what it waited for, while training; of the sandbox's own processes as far as they ended."""
    ask_seconds: float = 0.0
    asked: tuple[Outcome, ...]
    """Greedy, with repairs."""
    asked_bare: tuple[Outcome, ...]
    """The same problems, greedy, without repairs."""


class Injection(_Record):
    """What was done to the code of the demonstrations."""

    probability: float
    """Chance of each token of code; its closing tag is spared."""
    alternatives: int
    """Different tokens that a replacement was drawn from: all that occur in the code of the demonstrations."""
    blocks: int
    """Code blocks in the demonstrations."""
    touched: int
    """Those of them with a replaced token."""
    tokens: int
    """Tokens of code that could be replaced."""
    replaced: int
    """Those of them that were."""


class Omission(_Record):
    """What was left out of the code of the demonstrations."""

    probability: float
    """Chance of each code block with a line of imports to lose it."""
    blocks: int
    """Code blocks with such a line."""
    touched: int
    """Those of them that lost it."""


class Measured(_Record):
    """A start, asked at one temperature of code, with or without repairs; temperature of text 1."""

    tau: float
    repairs: bool
    outcomes: tuple[Outcome, ...]


class StartResult(_Record):
    """How a start was made, and how weak it is."""

    start: str
    weights: str
    """Shipped weights that it was made of."""
    steps: int
    samples: int
    trained_tokens: int
    last_loss: float
    """Of fine-tuning, nats a target."""
    seconds: float
    injection: Injection | None = None
    omission: Omission | None = None
    measured: tuple[Measured, ...]


def count(step: int, groups: Iterable[Group]) -> list[Count]:
    """Count the rollouts of a step, kind by kind."""
    kinds: dict[str, list[Member]] = {}
    for group in groups:
        kinds.setdefault(group.asked.problem.kind, []).extend(group.members)
    return [_count(step, kind, members) for kind, members in sorted(kinds.items())]


def _count(step: int, kind: str, members: Sequence[Member]) -> Count:
    sums = Counter[str]()
    for trajectory, score in ((member.trajectory, member.score) for member in members):
        if trajectory.error is not None:
            continue
        runs = [observation.execution for observation in trajectory.observations]
        ran = sum(1 for run in runs if run.error is None)
        sums.update(rollouts=1, coded=int(bool(runs)), worked=int(ran > 0), blocks=len(runs), ran=ran)
        sums["repaired"] += sum(1 for run in runs if run.repairs)
        sums["tokens"] += sum(len(segment.token_ids) for segment in trajectory.generated)
        sums["scored"] += int(score.value is not None)
    scores = [member.score for member in members if member.score.value is not None]
    return Count(
        step=step,
        kind=kind,
        reward=sum(score.value or 0.0 for score in scores),
        right=sum(max(score.parts.get("result") or 0.0, 0.0) for score in scores),
        **sums,
    )
