"""The trainer gives the tokens of real rollouts the log-probabilities that they were drawn with."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from typing import Any

import pytest
import samples
from grpo_world import BOUNDS, ByHand, EngineRoller, NanoProblems, WrittenRoller
from rich.console import Console
from transformers import AutoModelForImageTextToText

from thyme.config import EngineConfig
from thyme.config.grpo import GRPOSettings
from thyme.config.training import LoraSettings
from thyme.engines.base import Request
from thyme.engines.transformers import TransformersEngine
from thyme.families import Family, load_family
from thyme.nano import checkpoint_path
from thyme.prompts import PromptSet
from thyme.train.grpo.groups import Member
from thyme.train.grpo.records import Trained
from thyme.train.grpo.train import train_grpo
from thyme.types import Execution, Fingerprints, Generated, Observation, Problem, Score, Segment, StopReason, Trajectory

# peft still asks transformers by the old name of activation checkpointing.
CLOSE = 1e-4
"""Nats."""


def settings(**changes: Any) -> GRPOSettings:
    usual = {"problems": 3, "group": 2, "batch_size": 3, "max_steps": 2, "learning_rate": 1e-4, "device": "cpu"}
    return GRPOSettings(**(usual | {"beta": 0.1, "warmup": 0.0, "schedule": "constant"} | changes))


NANO: dict[str, tuple[float, dict[str, Any]]] = {
    # tau in code, settings
    "greedy": (0.0, {"cache": "features"}),
    "cool": (0.3, {"code_policy": "tempered", "batch_size": 2, "gradient_checkpointing": True}),
    "warm": (1.0, {"code_policy": "keep", "lora": LoraSettings(rank=4), "learning_rate": 1e-3}),
    "lora-checkpointing": (0.0, {"lora": LoraSettings(rank=4), "learning_rate": 1e-3, "gradient_checkpointing": True}),
}


@pytest.mark.parametrize(
    "case", [case if case == "lora-checkpointing" else pytest.param(case, marks=pytest.mark.slow) for case in NANO]
)
def test_on_the_embedded_model_with_code_and_pictures(tmp_path: Path, case: str) -> None:
    """Two steps, so that the second is rolled out and measured with other weights and live adapters; the kinds of
    questions mix rows with several images and rows without any."""
    code, changes = NANO[case]
    start = checkpoint_path("final")
    config = BOUNDS.model_copy(update={"code_temperature": code})
    roller = EngineRoller(load_family(start), PromptSet.load(start / "prompts"), config=config)
    problems = NanoProblems(6, ("zoom", "arithmetic", "easy"))
    steps = train_grpo(problems, roller, start, settings(**changes), tmp_path, console=Console(file=io.StringIO()))
    shown = {len(m.trajectory.observations) for group in roller.rolled for m in group.members}
    assert shown == {0, 1}
    assert {len(group.asked.problem.images) for group in roller.rolled} == {0, 1}
    for _, trained in steps:
        assert_close(trained, {"text", "code"} if code else {"text", "greedy"})


def assert_close(trained: Trained, sorts: set[str]) -> None:
    assert set(trained.gaps) == sorts
    for name, gap in trained.gaps.items():
        assert gap.tokens > 20
        assert gap.largest < CLOSE
        assert gap.mean < CLOSE / 10
        assert (gap.kl is None) == (name == "greedy")
        assert gap.kl is None or gap.kl < 1e-8


OBSERVED = Execution(code="", images=(samples.picture(7, 56, 90), samples.picture(8)))


async def drawn_by(model: Any, family: Family, plan: tuple[float, ...], images: int, seed: int) -> Trajectory:
    """Spans at these temperatures with pictures after the first, whatever a random model makes of it."""
    engine = TransformersEngine(model, family, EngineConfig(threads=1))
    try:
        shown = [samples.picture(seed + i) for i in range(images)]
        prompt = engine.prompt("Look.", "<image>" * images + "How many?", shown)
        segments: list[Segment] = []
        for number, tau in enumerate(plan):
            request = Request(f"t{seed}", prompt, tuple(segments), tau, max_tokens=8 + seed % 5, seed=seed + number)
            chunks = [chunk async for chunk in engine.stream(request)]
            segments.append(
                Generated(
                    kind="code" if number % 2 else "text",
                    text="".join(chunk.text for chunk in chunks),
                    token_ids=tuple(token for chunk in chunks for token in chunk.token_ids),
                    logprobs=tuple(value for chunk in chunks for value in chunk.logprobs),
                    temperature=tau,
                )
            )
            if segments[-1].token_ids[-1] in family.end_ids:
                break
            if number == 0 and len(plan) > 1:
                segments.append(engine.observation(OBSERVED))
        return Trajectory(
            id=f"t{seed}",
            problem=Problem(id=f"t{seed}", question="How many?"),
            prompt=prompt,
            segments=tuple(segments),
            stop=StopReason.MAX_ROUND_TOKENS,
            fingerprints=Fingerprints(tokenizer=family.fingerprint),
            sampling=samples.SAMPLING,
        )
    finally:
        await engine.aclose()


@pytest.mark.parametrize(
    ("temperatures", "lora"),
    [((1.0, 0.0, 1.0), None), ((1.0, 0.3, 0.7), LoraSettings(rank=4)), ((1.0, 1.0), None)],
    ids=["greedy", "lora-cool", "warm"],
)
def test_on_tiny_random_models(
    tiny_qwen3_vl: Path, tmp_path: Path, temperatures: tuple[float, ...], lora: LoraSettings | None
) -> None:
    """Qwen3-VL with deepstack; its distributions are flat, so every tau shows."""
    family = load_family(tiny_qwen3_vl)
    model = AutoModelForImageTextToText.from_pretrained(tiny_qwen3_vl).eval()

    def make(step: int, place: int, member: int) -> Member:
        plan = temperatures[: 1 + 2 * (member % 2)]
        made = asyncio.run(drawn_by(model, family, plan, place % 2, 10 * place + member))
        return Member(made, Score(value=float(member)))

    plan = settings(max_steps=1, overlong="keep", code_policy="keep", lora=lora)
    quiet = Console(file=io.StringIO())
    ((_, trained),) = train_grpo(ByHand(), WrittenRoller(make), tiny_qwen3_vl, plan, tmp_path, console=quiet)
    assert {name: gap.largest < CLOSE for name, gap in trained.gaps.items()} == dict.fromkeys(trained.gaps, True)
    assert set(trained.gaps) == {"text", "greedy" if 0.0 in temperatures else "code"}
    assert isinstance(trained.entropy["text"], float)
    assert trained.entropy["text"] > 1


def test_a_wrong_temperature_would_be_seen(tiny_qwen3_vl: Path, tmp_path: Path) -> None:
    """What the figure is for: the same rollouts, said to be drawn at another tau than they were."""
    family = load_family(tiny_qwen3_vl)
    model = AutoModelForImageTextToText.from_pretrained(tiny_qwen3_vl).eval()

    def make(step: int, place: int, member: int) -> Member:
        made = asyncio.run(drawn_by(model, family, (0.7,), place % 2, 10 * place + member))
        wrong = tuple(
            segment if isinstance(segment, Observation) else segment.model_copy(update={"temperature": 1.0})
            for segment in made.segments
        )
        return Member(made.model_copy(update={"segments": wrong}), Score(value=float(member)))

    plan = settings(max_steps=1, overlong="keep")
    quiet = Console(file=io.StringIO())
    ((_, trained),) = train_grpo(ByHand(), WrittenRoller(make), tiny_qwen3_vl, plan, tmp_path, console=quiet)
    assert trained.gaps["text"].mean > 0.02
    assert (trained.gaps["text"].kl or 0) > 1e-4
