"""GRPO with adaptive temperature sampling, all of it, to be read beside the paper (arXiv 2508.11630).

    python examples/grpo_from_scratch.py --steps 3

One step: ask a few problems several times each, let the model's code run, pay each answer, and make what was paid more
than its group's mean more likely. Rollouts (an engine over the very weights that are trained, a sandbox) are the
package's; everything that learns stands here, for one process and a small model, and nothing is saved. `thyme grpo` is
the one to use; its loss is the same, and tests/test_grpo_from_scratch.py holds the two against each other.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import re
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.nn.functional import log_softmax

from thyme.agent import rollout
from thyme.config import EngineConfig, RolloutConfig, SandboxConfig
from thyme.engines.transformers import TransformersEngine
from thyme.families import Family, load_family
from thyme.families.tensors import pixels
from thyme.markup import extract_answer, is_well_formed
from thyme.models import checkpoint_folder
from thyme.nano.world import KINDS, problem
from thyme.sandbox import open_sandbox
from thyme.sandbox.base import Sandbox
from thyme.train.run.checkpoint import load_model
from thyme.types import Generated, ImageRecord, Problem, StopReason, Trajectory

CodePolicy = Literal["keep", "mask", "tempered"]
TEMPERED = 0.2  # tau in code under that policy


# --- 1. what a trajectory is paid (the paper's section on rewards) ----------------------------------------------------


def reward(trajectory: Trajectory) -> float | None:
    """Result x (1 + 0.5 Consistency) + 0.5 Format, each 0 or 1; None where the machinery failed: that is no 0.

    Consistency pays only where the answer is right, so that nothing is to be had by being consistently wrong. The paper
    asks a larger model whether answer and reasoning agree; here the reasoning must end in the answer.
    """
    if trajectory.stop is StopReason.ERROR:
        return None
    answer = (extract_answer(trajectory.response) or "").strip()
    right = answer == trajectory.problem.answer
    reasoning = trajectory.response.partition("</think>")[0]
    consistent = bool(answer) and re.search(rf"(?<!\w){re.escape(answer)}\.?$", reasoning) is not None
    return right * (1 + 0.5 * consistent) + 0.5 * is_well_formed(trajectory.response)


# --- 2. how good it was for its group ---------------------------------------------------------------------------------


def advantages(rewards: Sequence[float | None]) -> list[float | None]:
    """A_i = (r_i - mean) / std over the rollouts of one problem; nobody has to learn a value function.

    None for those without a reward, and for all where fewer than two have one. Equal rewards say nothing: all are 0.
    """
    scored = torch.tensor([r for r in rewards if r is not None])
    if len(scored) < 2:
        return [None] * len(rewards)
    mean, std = scored.mean(), scored.std()
    return [None if r is None else float((r - mean) / (std + 1e-4)) for r in rewards]


# --- 3. rollouts: tau = 1 in text, 0 in code (adaptive temperature sampling) ------------------------------------------


def sampling(policy: CodePolicy) -> RolloutConfig:
    """Text explores; code does not, for one wrong character breaks it, and who is not paid for code stops writing it.

    What is greedy has no probability to train on; ``tempered`` draws code at a small tau instead, which has.
    """
    code = TEMPERED if policy == "tempered" else 0.0
    return RolloutConfig(text_temperature=1.0, code_temperature=code, max_tokens=400, max_round_tokens=250)


async def roll_out(
    problem: Problem, engine: TransformersEngine, sandbox: Sandbox, config: RolloutConfig, seeds: Sequence[int]
) -> list[Trajectory]:
    """A group: trajectories of one problem, side by side, one a seed."""
    return await asyncio.gather(*(rollout(problem, engine, sandbox, config, seed=seed) for seed in seeds))


# --- 4. from a trajectory to tokens -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tokens:
    """L tokens of one trajectory, as the engine saw and drew them; nothing is tokenised again."""

    ids: torch.Tensor  # (L,) prompt, text, code and observations
    trained: torch.Tensor  # (L,) whether it is in |tau|: the model wrote it, and the code policy does not leave it out
    temperature: torch.Tensor  # (L,) tau it was drawn at; greedy tokens, and those of others, count as tau = 1
    images: tuple[ImageRecord, ...]  # in the order of their places in the ids


def tokens_of(trajectory: Trajectory, policy: CodePolicy) -> Tokens:
    """Everything is a function of a segment's kind.

    Observations were written by the sandbox, not by the policy: they are read, and never trained on. ``mask`` leaves
    code out of loss and normaliser; ``keep`` trains greedy code by its probability at tau = 1, which is not the one it
    was chosen with (as the released code does); ``tempered`` is exact.
    """
    ids = list(trajectory.prompt.token_ids)
    trained, temperature = [False] * len(ids), [1.0] * len(ids)
    images = [seen.image for seen in trajectory.prompt.images]
    for segment in trajectory.segments:
        ids += segment.token_ids
        own = isinstance(segment, Generated) and not (policy == "mask" and segment.kind == "code")
        tau = segment.temperature if isinstance(segment, Generated) else 1.0
        trained += [own] * len(segment.token_ids)
        temperature += [tau or 1.0] * len(segment.token_ids)
        images += [] if isinstance(segment, Generated) else segment.execution.images
    return Tokens(torch.tensor(ids), torch.tensor(trained), torch.tensor(temperature), tuple(images))


def log_probabilities(model: Any, tokens: Tokens, family: Family) -> torch.Tensor:
    """(T,) log pi(token | all before it) of the trained tokens, by logits / tau: what the engine drew with."""
    inputs: dict[str, torch.Tensor] = {"input_ids": tokens.ids[None]}
    inputs["mm_token_type_ids"] = (inputs["input_ids"] == family.image_token_id).long()  # where M-RoPE sees images
    if tokens.images:
        inputs["pixel_values"], inputs["image_grid_thw"] = pixels(family, tokens.images)
    logits = model(**inputs, use_cache=False).logits[0]
    at = tokens.trained.nonzero()[:, 0]  # the logits before a token are those it was drawn from
    scaled = logits[at - 1].float() / tokens.temperature[at, None]
    return log_softmax(scaled, dim=-1).gather(1, tokens.ids[at, None])[:, 0]


# --- 5. the loss (the paper's J_GRPO, its sign turned round) ----------------------------------------------------------


def trajectory_loss(
    logps: torch.Tensor, reference: torch.Tensor | None, advantage: float, beta: float
) -> tuple[torch.Tensor, float]:
    """Sum over the T tokens of one trajectory of -(A - beta KL), and the sum of KL alone.

    On-policy the ratio of new to old policy is 1; written as exp(x - x') with x' held fixed, its gradient is that of
    log pi, times A. KL is k3: exp(d) - d - 1 with d = log pi_ref - log pi, never negative, unbiased in its mean.
    """
    total = -(torch.exp(logps - logps.detach()) * advantage).sum()
    if reference is None:
        return total, 0.0
    apart = reference - logps
    divergence = (torch.exp(apart) - apart - 1).sum()
    return total + beta * divergence, float(divergence.detach())


def backward(
    model: Any,
    reference: Any,
    rollouts: Sequence[tuple[Trajectory, float]],
    family: Family,
    policy: CodePolicy = "mask",
    beta: float = 0.001,
) -> tuple[float, float, int]:
    """Add the gradient of the step's loss to the weights, one trajectory after the other.

    The sum over all tokens is divided once, by the number of tokens of the whole step, sum |tau|: each token counts
    alike, in long trajectories and in short ones. `reference` is the policy as it was at the start.

    Returns:
        Loss, KL a token, and sum |tau|.
    """
    packed = [(tokens_of(trajectory, policy), advantage) for trajectory, advantage in rollouts]
    count = sum(int(tokens.trained.sum()) for tokens, _ in packed)
    loss, divergence = 0.0, 0.0
    for tokens, advantage in packed:
        if not tokens.trained.any() or (advantage == 0 and beta == 0):
            continue  # counted above; it pushes nowhere
        with torch.no_grad():
            then = log_probabilities(reference, tokens, family) if beta else None
        part, apart = trajectory_loss(log_probabilities(model, tokens, family), then, advantage, beta)
        (part / count).backward()  # type: ignore[no-untyped-call]  # as torch has it
        loss, divergence = loss + float(part.detach()) / count, divergence + apart / count
    return loss, divergence, count


# --- 6. the run -------------------------------------------------------------------------------------------------------


async def train(options: argparse.Namespace) -> None:
    """Steps of GRPO-ATS; a line for each."""
    folder = checkpoint_folder(options.model)
    family, policy = load_family(folder), options.code_policy
    model = load_model(folder, dtype=torch.float32, attention="sdpa").eval()  # it has no dropout
    model.model.visual.requires_grad_(False)  # what it sees with stays as it is
    reference = copy.deepcopy(model) if options.beta else None
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=options.rate, betas=(0.9, 0.95), weight_decay=0.0)
    engine = TransformersEngine(model, family, EngineConfig(max_batch=32), prompts=str(folder / "prompts"))
    async with open_sandbox(SandboxConfig()) as sandbox, aclosing(engine):
        for step in range(options.steps):
            started = time.perf_counter()
            await engine.weights_changed()  # what it has cached is of the old ones
            groups = await asyncio.gather(
                *(
                    roll_out(
                        problem("train", options.seed, number, KINDS[number % len(KINDS)]),
                        engine,
                        sandbox,
                        sampling(policy),
                        range(number * options.group, (number + 1) * options.group),
                    )
                    for number in range(step * options.problems, (step + 1) * options.problems)
                )
            )
            rewards = [[reward(member) for member in members] for members in groups]
            paired = [pair for g, r in zip(groups, rewards, strict=True) for pair in zip(g, advantages(r), strict=True)]
            rollouts = [(trajectory, advantage) for trajectory, advantage in paired if advantage is not None]
            loss, divergence, count = backward(model, reference, rollouts, family, policy, options.beta)
            norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            scored = [value for values in rewards for value in values if value is not None]
            tools = [bool(trajectory.observations) for members in groups for trajectory in members]
            print(
                f"step {step + 1}: reward {float(torch.tensor(scored).mean()):.3f}, "
                f"tool rate {sum(tools) / len(tools):.2f}, loss {loss:+.4f}, KL {divergence:.5f}, "
                f"gradient {float(norm):.3f}, {count} tokens, {time.perf_counter() - started:.1f} s"
            )


def main() -> None:
    """Read the options and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--problems", type=int, default=7, help="a step")
    parser.add_argument("--group", type=int, default=4, help="rollouts of each problem")
    parser.add_argument("--rate", type=float, default=5e-5)
    parser.add_argument("--beta", type=float, default=0.001, help="weight of the KL to the start")
    parser.add_argument("--code-policy", choices=["keep", "mask", "tempered"], default="mask")
    parser.add_argument("--seed", type=int, default=0)
    torch.set_num_threads(1)  # a small model is slower on several
    asyncio.run(train(parser.parse_args()))


if __name__ == "__main__":
    main()
