"""One step of GRPO by part, and its forward and backward passes beside the same rollouts padded as TRL pads them.

    python benchmarks/grpo.py                                             # the embedded model, on the CPU
    python benchmarks/grpo.py --layout qwen2.5-vl-3b --lora 16 --device cuda --group 4 --batch 4 --dtype bfloat16

With --layout a random model of a published architecture writes tokens up to the bound, about a picture of --side pixels
a side; no code runs, and rewards are drawn. Without it nano is asked its own questions, code runs, and rules pay.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import resource
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from thyme.config import EngineConfig, RolloutConfig, SandboxConfig
from thyme.config.grpo import GRPOSettings
from thyme.config.rewards import RewardSettings
from thyme.families import Family, load_family
from thyme.nano import checkpoint_path
from thyme.nano.world import KINDS, problem
from thyme.prompts import PromptSet
from thyme.rewards import open_scorer
from thyme.train.grpo.batch import Row, micro_batches
from thyme.train.grpo.groups import Asked, Group
from thyme.train.grpo.policies import Policy, TransformersPolicy, VllmPolicy
from thyme.train.grpo.roller import GroupRoller
from thyme.train.grpo.step import share_of
from thyme.train.grpo.trainer import GRPO, World
from thyme.train.grpo.trl_trainer import GRPOTrainer
from thyme.train.run.around import starting_model
from thyme.train.run.checkpoint import load_model
from thyme.types import ImageRecord, Problem, Score, Trajectory

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / name) for name in ("", "train")]

PARTS = ("rollout", "sync", "scoring", "reference", "train", "rest", "total")


@dataclass(frozen=True)
class Asking:
    """Problems: nano's, or one picture of noise with a question."""

    side: int | None
    fingerprint: str = "benchmark"

    def __len__(self) -> int:
        return 10_000

    def __getitem__(self, index: int, /) -> Problem:
        if self.side is None:
            return problem("train", 0, index, KINDS[index % len(KINDS)])
        from PIL import Image

        noise = Image.effect_noise((self.side, self.side), 80).convert("RGB")
        return Problem(id=f"noise-{index}", question="What is it?", answer="7", images=(ImageRecord.of(noise),))


class TimedPolicy:
    """A policy, and the seconds that it took to bring what generates up to date."""

    def __init__(self, inner: Policy) -> None:
        self.inner, self.seconds = inner, 0.0

    @property
    def fingerprint(self) -> str:
        """See `thyme.train.grpo.policies.Policy`."""
        return self.inner.fingerprint

    @asynccontextmanager
    async def asking(self, model: Any, step: int) -> AsyncIterator[None]:
        started = time.perf_counter()
        async with self.inner.asking(model, step):
            self.seconds = time.perf_counter() - started
            yield

    async def engine(self) -> Any:
        return await self.inner.engine()

    async def aclose(self) -> None:
        await self.inner.aclose()


@dataclass
class DrawnRewards:
    """A roller whose rewards are drawn, where no answer is ever right."""

    inner: GroupRoller

    def roll(self, model: Any, asked: Sequence[Asked], *, step: int, group: int) -> list[Group]:
        made = self.inner.roll(model, asked, step=step, group=group)
        return [
            replace(one, members=tuple(self._paid(member, place) for place, member in enumerate(one.members)))
            for one in made
        ]

    def _paid(self, member: Any, place: int) -> Any:
        """No two members of a group alike, so that every row has something to teach."""
        drawn = hashlib.blake2b(member.trajectory.id.encode(), digest_size=1).digest()[0] % 5 / 2
        return replace(member, score=Score(value=drawn + place / 100))

    def close(self) -> None:
        self.inner.close()


def model_of(given: argparse.Namespace, scratch: Path) -> tuple[Any, Path]:
    """What is trained, and the folder of its tokenizer."""
    if given.layout is None:
        folder = checkpoint_path()
        return load_model(folder, dtype=torch.float32, attention="sdpa"), folder
    import real_models

    from thyme.train.memory.layouts import layout

    content = layout(given.layout)
    depth = given.layers or content.get("text_config", content)["num_hidden_layers"]
    made = real_models.build(
        scratch, given.layout, layers=depth, vision_layers=given.layers or content["vision_config"]["depth"]
    )
    return (made.float() if given.dtype == "float32" else made), scratch


def settings_of(given: argparse.Namespace) -> GRPOSettings:
    return GRPOSettings(
        max_steps=given.steps + 1,
        problems=given.problems,
        group=given.group,
        batch_size=given.batch,
        learning_rate=1e-6,
        beta=given.beta,
        device=given.device,
        weights_dtype=given.dtype,
        overlong="keep",  # random models write up to the bound
        gradient_checkpointing=given.checkpointing,
        lora={"rank": given.lora} if given.lora else None,
    )


def roller_of(given: argparse.Namespace, family: Family, folder: Path) -> tuple[GroupRoller, TimedPolicy]:
    engine = EngineConfig(max_batch=given.problems * given.group, device=given.device)
    if given.backend == "vllm":
        engine = engine.model_copy(update={"vllm": engine.vllm.model_copy(update={"gpu_memory_utilization": 0.4})})
        policy = TimedPolicy(VllmPolicy(folder, engine))
    else:
        mixed = torch.bfloat16 if given.device == "cuda" else None
        policy = TimedPolicy(TransformersPolicy(family, engine, autocast=mixed))
    prompts = folder / "prompts"
    config = RolloutConfig(text_temperature=1.0, max_round_tokens=given.tokens, max_tokens=given.tokens)
    words = PromptSet.load(prompts if prompts.is_dir() else None)
    roller = GroupRoller(policy, words, config=config, sandbox=SandboxConfig(), rewards=RewardSettings())
    return roller, policy


async def scoring_seconds(trajectories: Sequence[Trajectory]) -> float:
    """Of the same trajectories once more; while rolling out it overlaps with generation."""
    async with open_scorer(RewardSettings()) as scorer:
        started = time.perf_counter()
        await asyncio.gather(*map(scorer.score, trajectories))
        return time.perf_counter() - started


def peak_gib(device: str) -> float:
    """Most memory so far: of the GPU, or of this process."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def timed(given: argparse.Namespace, work: Callable[[], tuple[float, int]]) -> tuple[float, float, int]:
    """Seconds, loss and tokens in forward passes of one pass over a step."""
    started = time.perf_counter()
    loss, tokens = work()
    if given.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started, loss, tokens


# --- the passes -------------------------------------------------------------------------------------------------------


class Stock(GRPO):
    """The trainer with TRL's own log-probabilities: logits of every token behind the prompt."""

    _get_per_token_logps_and_entropies = GRPOTrainer._get_per_token_logps_and_entropies


def ours(trainer: GRPO, rows: Sequence[Row]) -> tuple[float, int]:
    """Rows by length, tightly padded; logits of generated tokens only."""
    loss, tokens = 0.0, 0
    trainer.__class__ = GRPO
    for part in micro_batches(rows, -(-len(rows) // trainer.settings.batch_size)):
        inputs = trainer._prepare_inputs(part)
        made = trainer.compute_loss(trainer.model, inputs)
        made.backward()
        loss, tokens = loss + float(made.detach()), tokens + inputs["forward"]["input_ids"].numel()
    trainer.model.zero_grad()
    return loss, tokens


def stock(trainer: GRPO, rows: Sequence[Row]) -> tuple[float, int]:
    """Rows as they come, prompts padded on the left and the rest on the right to the longest of the whole step."""
    loss, tokens = 0.0, 0
    trainer.__class__ = Stock
    size = trainer.settings.batch_size
    starts = [row.rollout.encoded.spans[0].end for row in rows]
    widths = max(starts), max(len(row) - start for row, start in zip(rows, starts, strict=True))
    for at in range(0, len(rows), size):
        inputs = padded(trainer, rows[at : at + size], widths)
        made = trainer._compute_loss(trainer.model, inputs)
        made.backward()
        loss += float(made.detach())
        tokens += inputs["prompt_ids"].numel() + inputs["completion_ids"].numel()
    trainer.__class__ = GRPO
    trainer.model.zero_grad()
    return loss, tokens


def padded(trainer: GRPO, rows: Sequence[Row], widths: tuple[int, int]) -> dict[str, Any]:
    """A micro-batch as TRL hands it to its loss."""
    family, device = trainer.world.family, trainer.accelerator.device
    prompt, rest = widths
    pad = family.tokenizer.pad_token_id or 0
    ids = torch.full((len(rows), prompt + rest), pad)
    mask, tool = torch.zeros_like(ids), torch.zeros_like(ids)
    for number, row in enumerate(rows):
        start = prompt - row.rollout.encoded.spans[0].end
        place = slice(start, start + len(row))
        ids[number, place] = torch.from_numpy(row.rollout.ids).long()
        mask[number, place] = 1
        tool[number, place] = torch.from_numpy(row.rollout.loss_mask).long()
    inputs = {
        "prompt_ids": ids[:, :prompt],
        "prompt_mask": mask[:, :prompt],
        "completion_ids": ids[:, prompt:],
        "completion_mask": mask[:, prompt:],
        "tool_mask": tool[:, prompt:],
        "advantages": torch.tensor([row.advantage for row in rows]),
        "num_items_in_batch": torch.tensor(trainer._tokens),
    }
    images = [image for row in rows for image in row.rollout.images]
    if images:
        grids = torch.tensor([grid for row in rows for grid in row.rollout.grids])
        inputs |= {"pixel_values": trainer._images(images), "image_grid_thw": grids}
        inputs["mm_token_type_ids"] = (ids == family.image_token_id).long() * mask
    made: dict[str, Any] = {name: tensor.to(device) for name, tensor in inputs.items()}
    return made | ({"num_images": [len(row.rollout.images) for row in rows]} if images else {})


def compare(given: argparse.Namespace, trainer: GRPO) -> dict[str, Any]:
    """Both ways over the last step's rollouts, in turns; the loss must be the same."""
    trainer.beta = 0.0
    trainer.model.train()
    family, settings = trainer.world.family, trainer.settings.model_copy(update={"beta": 0.0})
    needed = share_of(trainer.groups, family, settings).rows
    every = share_of(trainer.groups, family, settings.model_copy(update={"beta": 1.0})).rows
    if not needed:
        return {}
    trainer._keep_images(every)
    trainer.model.train()
    ways = {"ours": (ours, needed), "ours, every row": (ours, every), "padded as TRL": (stock, every)}
    found: dict[str, list[tuple[float, float, int]]] = {name: [] for name in ways}
    for _ in range(given.repeat + 1):
        for name, (way, rows) in ways.items():
            found[name].append(timed(given, lambda way=way, rows=rows: way(trainer, rows)))
    made = {
        name: {
            "rows": len(ways[name][1]),
            "tokens": runs[0][2],
            "seconds": statistics.median(run[0] for run in runs[1:]),
            "loss": runs[0][1],
        }
        for name, runs in found.items()
    }
    assert abs(made["ours"]["loss"] - made["padded as TRL"]["loss"]) < given.tolerance, made
    return made


# --- the run ----------------------------------------------------------------------------------------------------------


def measure(given: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Some steps by part, then the passes."""
    model, folder = model_of(given, scratch / "model")
    family = load_family(folder)
    settings = settings_of(given)
    roller, policy = roller_of(given, family, folder)
    answers = roller if given.layout is None else DrawnRewards(roller)
    steps: list[dict[str, float]] = []

    def tell(step: int, trained: Any, groups: list[Group], seconds: dict[str, float]) -> None:
        members = [member.trajectory for group in groups for member in group.members]
        parts = seconds | {"sync": policy.seconds, "rollout": seconds["rollout"] - policy.seconds}
        parts["scoring"] = asyncio.run(scoring_seconds(members))  # within rollout's; not in the sum
        parts["rest"] = parts["total"] - sum(parts[name] for name in ("rollout", "sync", "reference", "train"))
        generated = sum(len(segment.token_ids) for one in members for segment in one.generated)
        steps.append(parts | {"rollouts": len(members), "generated": generated, "tokens": float(trained.tokens)})

    world = World(Asking(given.side if given.layout else None), answers, family)
    trainer = GRPO(starting_model(model, folder, settings), world, settings, scratch / "out", tell)
    try:
        trainer.train()
    finally:
        roller.close()
    of_steps = peak_gib(given.device)
    counted = steps[1:]  # the first one warms up
    parts = {name: statistics.median(step[name] for step in counted) for name in PARTS}
    total = sum(step["total"] for step in counted)
    return {
        "model": given.layout or "nano",
        "parameters": sum(parameter.numel() for parameter in trainer.model.parameters()),
        "settings": settings.model_dump(mode="json", exclude_defaults=True) | {"backend": given.backend},
        "steps": len(counted),
        "seconds": parts,
        "rollouts_per_second": sum(step["rollouts"] for step in counted) / total,
        "tokens_per_second": sum(step["generated"] for step in counted) / total,
        "rollouts_per_second_of_rollout": sum(step["rollouts"] for step in counted)
        / sum(step["rollout"] for step in counted),
        "peak_gib": of_steps,
        "passes": compare(given, trainer),
    }


def show(found: dict[str, Any]) -> str:
    """As docs/benchmarks.md has it."""
    seconds, passes = found["seconds"], found["passes"]
    lines = [
        f"{found['model']}, {found['parameters'] / 1e6:.1f} M parameters, median of {found['steps']} steps:",
        "",
        f"| s a step | {' | '.join(name for name in PARTS)} |",
        f"|{'---|' * (len(PARTS) + 1)}",
        f"| | {' | '.join(f'{seconds[name]:.2f}' for name in PARTS)} |",
        "",
        f"{found['rollouts_per_second']:.2f} rollouts/s and {found['tokens_per_second']:.0f} generated tokens/s of the "
        f"whole step, {found['rollouts_per_second_of_rollout']:.2f} rollouts/s while rolling out, peak "
        f"{found['peak_gib']:.2f} GiB",
    ]
    if passes:
        base = passes["padded as TRL"]["seconds"]
        lines += [
            "",
            "| forward and backward | rows | tokens, padding included | s | times TRL's |",
            "|---|---|---|---|---|",
        ]
        for name, one in passes.items():
            ratio = one["seconds"] / base
            lines.append(f"| {name} | {one['rows']} | {one['tokens']} | {one['seconds']:.2f} | {ratio:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layout", help="a published architecture with random weights, such as qwen2.5-vl-7b")
    parser.add_argument("--layers", type=int, help="cut the layout to so many layers")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--backend", choices=["transformers", "vllm"], default="transformers")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--problems", type=int, default=8)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--batch", type=int, default=16, help="rollouts in one forward pass")
    parser.add_argument("--tokens", type=int, default=512, help="most generated tokens of a rollout")
    parser.add_argument("--side", type=int, default=1024, help="of the picture, with --layout")
    parser.add_argument("--beta", type=float, default=0.001)
    parser.add_argument("--lora", type=int, default=0, help="rank; 0 trains all weights of the language model")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--repeat", type=int, default=3, help="passes of each way")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="of the loss between both ways")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.backend == "vllm" and given.layout:
        parser.error("vLLM loads checkpoints, and a layout has none: leave --backend, or leave --layout")
    warnings.simplefilter("ignore", FutureWarning)
    if given.device == "cpu":
        torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as scratch:
        found = measure(given, Path(scratch))
    print(show(found))
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
