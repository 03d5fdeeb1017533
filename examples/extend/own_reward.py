"""A reward of your own in GRPO: short code earns a little more.

    python examples/extend/own_reward.py runs/own_reward --steps 2

A reward is a function of a trajectory. A recipe names it, and nothing else is needed:

    [rewards.own.short_code]
    function = "examples/extend/own_reward.py:short_code"
    weight = 0.25

For what a function of one trajectory cannot say, `Paying` stands between the trainer and what rolls out, and adds to
the score that each rollout has; this program trains with that. docs/extend/reward.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from thyme.config.grpo_recipe import GRPORecipe
from thyme.config.load import load
from thyme.families import load_family
from thyme.models import checkpoint_folder
from thyme.nano.rl_problems import training_problems
from thyme.prompts import PromptSet
from thyme.train.grpo.assembly import make_roller
from thyme.train.grpo.groups import Asked, Group, Member, Roller
from thyme.train.grpo.problems import open_problems
from thyme.train.grpo.records import Trained
from thyme.train.grpo.train import train_grpo
from thyme.types import Score, Trajectory

Pay = Callable[[Trajectory], float]
"""What a trajectory is paid; 0 to 1, so that a weight says what it is worth."""

MOST_LINES = 8


def short_code(trajectory: Trajectory) -> float:
    """Share of the code blocks that are short; 1 where there is none, for no code is the shortest.

    A reward sees the whole record: `problem`, `segments` (text, code, observations with what was repaired), `stop`.
    """
    blocks = [len(one.execution.code.strip().splitlines()) for one in trajectory.observations]
    return sum(lines <= MOST_LINES for lines in blocks) / len(blocks) if blocks else 1.0


class Paying:
    """Fulfils `thyme.train.grpo.groups.Roller` with another one, and pays its rollouts by one more function."""

    def __init__(self, roller: Roller, name: str, pay: Pay, weight: float) -> None:
        """Keep them; nothing is rolled out yet."""
        self._roller, self._name, self._pay, self._weight = roller, name, pay, weight

    @property
    def fingerprint(self) -> str:
        """What decides about rewards; a checkpoint of another reward is not gone on with."""
        return f"{self._name}/{self._weight}/{getattr(self._roller, 'fingerprint', '')}"

    def roll(self, model: Any, asked: Sequence[Asked], *, step: int, group: int) -> list[Group]:
        """Roll out as the other one does, and pay."""
        groups = self._roller.roll(model, asked, step=step, group=group)
        return [replace(one, members=tuple(self._paid(member) for member in one.members)) for one in groups]

    def _paid(self, member: Member) -> Member:
        """A rollout that has no score (a judge was out of reach, the sandbox failed) gets none from us either."""
        if member.score.value is None:
            return member
        earned = self._pay(member.trajectory)
        value = member.score.value + self._weight * earned
        return replace(member, score=Score(value=value, parts={**member.score.parts, self._name: earned}))

    def close(self) -> None:
        """Close the other one."""
        self._roller.close()


def train(out: Path, steps: int, pay: Pay = short_code) -> list[tuple[int, Trained]]:
    """Train the embedded model for some steps, small enough for a laptop's CPU."""
    small = [f"train.max_steps={steps}", "train.problems=2", "train.group=4", "train.batch_size=8"]
    recipe = load("@nano_grpo", small, GRPORecipe)
    folder = checkpoint_folder(recipe.model)
    family, prompts = load_family(folder), PromptSet.load(folder / "prompts")
    problems = open_problems(recipe.data, {"nano": training_problems})
    roller = Paying(make_roller(recipe, folder, family, prompts, name="own_reward"), "short_code", pay, weight=0.25)
    try:
        return train_grpo(problems, roller, folder, recipe.train, out, family=family)
    finally:
        roller.close()


def main() -> None:
    """Train, and say what each step was."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, help="folder of the run")
    parser.add_argument("--steps", type=int, default=2)
    given = parser.parse_args()
    for step, trained in train(given.out, given.steps):
        print(f"step {step}: {trained.members} rollouts, {trained.tokens} tokens, loss {trained.loss:.4f}")


if __name__ == "__main__":
    main()
