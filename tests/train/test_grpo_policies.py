"""What generates has the weights of the model in training, adapters included, and asking it leaves no trace."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import grpo_rollers as made
import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForImageTextToText

from thyme.config import EngineConfig, RolloutConfig
from thyme.config.grpo import GRPOSettings
from thyme.config.grpo_recipe import GRPORecipe
from thyme.config.rewards import RewardSettings
from thyme.config.sandbox import SandboxConfig
from thyme.config.training import DataSource, LoraSettings, TrainingSettings
from thyme.config.vllm import VllmConfig
from thyme.engines.transformers_scheduler import Scheduler
from thyme.errors import ConfigError
from thyme.families import Family, load_family
from thyme.families.tensors import pixels
from thyme.nano import checkpoint_path
from thyme.nano.world import KINDS, problems
from thyme.train.arguments import lora_config
from thyme.train.grpo.assembly import make_policy, make_roller
from thyme.train.grpo.groups import Asked, Group
from thyme.train.grpo.policies import TransformersPolicy, VllmPolicy
from thyme.train.grpo.roller import GroupRoller
from thyme.train.grpo.weights import inner_model, is_spread, whole_weights
from thyme.types import Generated, Observation, Trajectory

# peft still asks transformers by the old name of activation checkpointing.
FINAL = checkpoint_path("final")
ATS = RolloutConfig(text_temperature=1.0, max_round_tokens=160, max_tokens=320)


@pytest.fixture(scope="module")
def family() -> Family:
    return load_family(FINAL)


def nano(*, lora: bool = False) -> Any:
    model = AutoModelForImageTextToText.from_pretrained(FINAL, dtype=torch.float32)
    if not lora:
        return model.train()
    from peft import get_peft_model

    settings = TrainingSettings(lora=LoraSettings(rank=4, dropout=0.5))
    torch.manual_seed(0)
    model = get_peft_model(model, lora_config(model, settings)).train()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.02)
    return model


def rolling(family: Family, *, batch: int = 8, **policy: Any) -> GroupRoller:
    return GroupRoller(
        TransformersPolicy(family, EngineConfig(max_batch=batch), name="nano", **policy),
        made.nano_prompts(FINAL),
        config=ATS,
        sandbox=SandboxConfig(pool=1),
        rewards=RewardSettings(),
        concurrency=16,
    )


@pytest.fixture(scope="module")
def roller(family: Family) -> Iterator[GroupRoller]:
    with rolling(family) as opened:
        yield opened


def asked(kinds: Sequence[Any] = KINDS, first: int = 0) -> list[Asked]:
    drawn = islice(problems("train", 3, 1, kinds), len(kinds))
    return [Asked(place, problem) for place, problem in enumerate(drawn, start=first)]


@torch.no_grad()
def gaps(model: Any, trajectory: Trajectory, family: Family, *, bf16: bool = False) -> list[float]:
    """|difference| of each generated token's log-probability from one plain forward of the model in eval mode."""
    ids = [*trajectory.prompt.token_ids, *(token for segment in trajectory.segments for token in segment.token_ids)]
    images = [seen.image for seen in trajectory.prompt.images]
    images += [image for o in trajectory.observations for image in o.execution.images]
    tokens = torch.tensor([ids])
    inputs: dict[str, Any] = {"mm_token_type_ids": (tokens == family.image_token_id).long()}
    if images:
        inputs["pixel_values"], inputs["image_grid_thw"] = pixels(family, images)
    modes = model.training
    model.eval()
    inner_model(model).model.rope_deltas = None
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        logits = model(input_ids=tokens, attention_mask=torch.ones_like(tokens), **inputs).logits[0].float()
    model.train(modes)
    found, at = [], len(trajectory.prompt.token_ids)
    for segment in trajectory.segments:
        if isinstance(segment, Generated):
            scores = (logits[at - 1 : at - 1 + len(segment.token_ids)] / (segment.temperature or 1.0)).log_softmax(-1)
            expected = scores.gather(1, torch.tensor(segment.token_ids)[:, None])[:, 0]
            found += (expected - torch.tensor(segment.logprobs)).abs().tolist()
        at += len(segment.token_ids)
    return found


def largest_gap(model: Any, groups: Sequence[Group], family: Family, **options: Any) -> float:
    return max(max(gaps(model, trajectory, family, **options)) for trajectory in made.trajectories(groups))


def step_of_training(model: Any, size: float) -> None:
    """Change every weight that is trained, as an optimiser would, by a known amount."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(noise * size * parameter.abs().mean())


# --- the weights of now -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["transformers", "vllm"])
def test_its_fingerprint_is_that_of_what_decides_about_what_is_generated(backend: str, family: Family) -> None:
    """A resumed run must not see other pictures, nor be cut elsewhere; how much memory it takes is its own affair."""

    def fingerprint(**engine: Any) -> str:
        config = EngineConfig(backend=backend, **engine)
        policy = VllmPolicy(FINAL, config) if backend == "vllm" else TransformersPolicy(family, config)
        options: dict[str, Any] = {"config": ATS, "sandbox": SandboxConfig(), "rewards": RewardSettings()}
        return GroupRoller(policy, made.WORDS, **options).fingerprint

    same = fingerprint()
    assert fingerprint(max_batch=3, threads=2, vllm=VllmConfig(gpu_memory_utilization=0.3)) == same
    assert len({same, *(fingerprint(**{name: 999}) for name in ("max_context", "min_pixels", "max_pixels"))}) == 4
    assert (fingerprint(dtype="bfloat16") == same) is (backend == "transformers")  # there it is the trainer's


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_what_is_rolled_out_has_the_weights_of_now(lora: bool, roller: GroupRoller, family: Family) -> None:
    """Log-probabilities are those of a plain forward, before and after the weights were changed, with one engine."""
    model = nano(lora=lora)
    questions = asked(("zoom", "arithmetic", "easy"))
    before = roller.roll(model, questions, step=0, group=2)
    engine = roller._policy._engine  # type: ignore[attr-defined]
    assert largest_gap(model, before, family) < 2e-4
    step_of_training(model, 1.0 if lora else 0.02)
    after = roller.roll(model, questions, step=1, group=2)
    assert largest_gap(model, after, family) < 2e-4
    assert largest_gap(model, before, family) > 1e-2  # the change was one
    assert roller._policy._engine is engine  # type: ignore[attr-defined]
    shown = [image for t in made.trajectories(after) for o in t.observations for image in o.execution.images]
    assert shown
    kinds = {(segment.kind, segment.temperature) for t in made.trajectories(after) for segment in t.generated}
    assert kinds == {("text", 1.0), ("code", 0.0)}


def test_under_mixed_precision_as_the_trainer_computes(family: Family) -> None:
    """Products in bfloat16: nearer to the trainer's own forward than to one in 32 bits."""
    model = nano()
    with rolling(family, autocast=torch.bfloat16) as roller:
        groups = roller.roll(model, asked(("zoom", "easy")), step=0, group=2)
    like_trainer = [gap for t in made.trajectories(groups) for gap in gaps(model, t, family, bf16=True)]
    in_full = [gap for t in made.trajectories(groups) for gap in gaps(model, t, family)]
    assert np.mean(in_full) > 1e-6
    assert np.mean(like_trainer) < np.mean(in_full)
    assert np.mean(like_trainer) < 0.02


# --- the same again ---------------------------------------------------------------------------------------------------


def test_one_seed_gives_one_step_whoever_rolls_it(roller: GroupRoller, family: Family) -> None:
    """Another roller with other batches, places in two shares and in another order, as other processes have them."""
    model = nano()
    questions = asked(("two_round", "arithmetic"))
    whole = roller.roll(model, questions, step=4, group=3)
    with rolling(family, batch=3) as other:
        parts = [*other.roll(model, questions[1:], step=4, group=3), *other.roll(model, questions[:1], step=4, group=3)]
    parts.sort(key=lambda group: group.asked.place)
    assert made.written(whole) == made.written(parts)
    assert made.rewards(whole) == made.rewards(parts)
    members = [{t.response for t in made.trajectories([group])} for group in whole]
    assert max(map(len, members)) > 1  # the members of a group do not all write the same
    assert made.written(roller.roll(model, questions[:1], step=5, group=3)) != made.written(whole[:1])


def test_a_group_reads_its_prompt_and_picture_once(roller: GroupRoller) -> None:
    model, question = nano(), asked(("easy",))
    roller.roll(model, question, step=0, group=2)
    counters = roller._policy._engine.counters  # type: ignore[attr-defined]
    seen, fed = counters.images_seen, counters.fed_tokens
    groups = roller.roll(model, question, step=0, group=8)
    shown = sum(len(o.execution.images) for t in made.trajectories(groups) for o in t.observations)
    own = sum(t.usage.generated_tokens + t.usage.observation_tokens for t in made.trajectories(groups))
    prompt = groups[0].members[0].trajectory.usage.prompt_tokens
    assert counters.images_seen - seen == 1 + shown
    # Beside what each of them writes and reads, one prompt, and the token or two at which the others part from it.
    assert counters.fed_tokens - fed < own + prompt + 8 * 4


# --- no trace ---------------------------------------------------------------------------------------------------------


def state(model: Any) -> list[Any]:
    draws = (random.random(), float(np.random.rand()), float(torch.rand(())))
    return [*((name, part.training) for name, part in model.named_modules()), draws]


def trained(roller: GroupRoller | None, *, lora: bool, bf16: bool) -> list[torch.Tensor]:
    """Weights after two steps of training with dropout and checkpointing, rolled out between them, or not."""
    model = nano(lora=lora)
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.3
    inner_model(model).model.visual.eval()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    ids = torch.randint(100, 500, (2, 40), generator=torch.Generator().manual_seed(2))
    for step in range(2):
        if roller is not None:
            roller.roll(model, asked(("zoom",)), step=step, group=2)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    kept = [parameter.detach().clone() for parameter in model.parameters()]
    return [*kept, torch.tensor(state(model)[-1]), torch.tensor([mode for _, mode in state(model)[:-1]])]


@pytest.mark.parametrize(("lora", "bf16"), [(True, False), (False, True)], ids=["lora", "mixed precision"])
def test_training_goes_on_to_the_bit_as_if_nobody_had_asked(lora: bool, bf16: bool, family: Family) -> None:
    with rolling(family, autocast=torch.bfloat16 if bf16 else None) as roller:
        asked_between = trained(roller, lora=lora, bf16=bf16)
    alone = trained(None, lora=lora, bf16=bf16)
    assert all(torch.equal(one, other) for one, other in zip(asked_between, alone, strict=True))


def test_an_engine_that_breaks_down_is_made_anew(
    family: Family, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In the middle of a roll; the model's modes are put back all the same."""
    model = nano()
    admit, broken = Scheduler._admit, iter([False] * 20 + [True])

    def breaks_once(self: Scheduler) -> None:
        if next(broken, False):
            raise RuntimeError("a mistake of ours")
        admit(self)

    with rolling(family) as roller:
        undisturbed = roller.roll(model, asked(("easy", "arithmetic")), step=0, group=3)
        monkeypatch.setattr(Scheduler, "_admit", breaks_once)
        groups = roller.roll(model, asked(("easy", "arithmetic")), step=0, group=3)
        counts = roller.counters
    assert made.written(groups) == made.written(undisturbed)
    assert counts["reopened_engines"] == 1
    assert counts["engine_failures"] == counts["retries"] >= 1
    assert counts["unscored"] == 0
    assert "a mistake of ours" in caplog.text
    assert all(part.training for part in model.modules())


# --- weights for a copy -----------------------------------------------------------------------------------------------


def test_adapters_are_merged_for_the_copy_and_the_model_stays_as_it_is() -> None:
    """Against peft's own merging; afterwards no weight of the model has changed by a bit."""
    model = nano(lora=True)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    handed = {name: tensor.clone() for name, tensor in whole_weights(model)}
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
    plain = nano()
    assert list(handed) == [name for name, _ in plain.named_parameters()]
    merged = dict(model.merge_and_unload().named_parameters())
    assert merged.keys() == handed.keys()
    for name, tensor in handed.items():
        assert torch.allclose(tensor, merged[name], rtol=0, atol=1e-7), name
    changed = [name for name, parameter in plain.named_parameters() if not torch.equal(parameter, handed[name])]
    assert len(changed) == 7 * plain.config.text_config.num_hidden_layers
    assert all("language_model" in name for name in changed)


def test_a_tower_that_is_trained_beside_adapters_is_handed_over_as_it_is_trained() -> None:
    from peft import get_peft_model

    model = AutoModelForImageTextToText.from_pretrained(FINAL, dtype=torch.float32)
    names = [name for name, _ in model.named_parameters()]
    settings = TrainingSettings(lora=LoraSettings(rank=2), freeze_vision=False)
    model = get_peft_model(model, lora_config(model, settings))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "modules_to_save" in name:
                parameter.add_(1.0)
    handed = dict(whole_weights(model))
    assert sorted(handed) == sorted(names)
    plain = dict(nano().named_parameters())
    tower = [name for name in names if ".visual." in name]
    assert tower
    assert all(torch.allclose(handed[name], plain[name] + 1) for name in tower)


def test_wrappers_are_taken_off() -> None:
    model = nano()
    wrapped = nn.Module()
    wrapped.module = nn.Module()
    wrapped.module._orig_mod = model
    assert inner_model(wrapped) is model
    assert inner_model(nano(lora=True)).__class__ is model.__class__
    assert [name for name, _ in whole_weights(wrapped)] == [name for name, _ in model.named_parameters()]


class Part(nn.Parameter):
    """A parameter of which a process has a part, as FSDP2's are: whole only when asked for."""

    def full_tensor(self) -> torch.Tensor:
        return torch.cat([self.data, self.data])


def test_weights_that_are_spread_are_put_together_one_by_one_or_refused(roller: GroupRoller) -> None:
    model = nano()
    norm = model.model.language_model.norm
    norm.weight = Part(norm.weight.detach()[: len(norm.weight) // 2].clone())
    assert is_spread(model)
    assert not is_spread(nano())
    handed = dict(whole_weights(model))
    assert torch.equal(handed["model.language_model.norm.weight"], norm.weight.data.repeat(2))
    with pytest.raises(ConfigError, match=r"spread over processes .* engine.backend = 'vllm'"):
        roller.roll(model, asked(("easy",)), step=0, group=2)


def test_adapters_that_cannot_be_merged_are_refused() -> None:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=2, target_modules=["q_proj"], use_dora=True)
    model = get_peft_model(AutoModelForImageTextToText.from_pretrained(FINAL), config)
    with pytest.raises(ConfigError, match=r"the adapter at .*q_proj.* cannot be merged"):
        list(whole_weights(model))


# --- as a recipe has it -----------------------------------------------------------------------------------------------


def recipe(**parts: Any) -> GRPORecipe:
    return GRPORecipe(model="nano", data={"a": DataSource(format="nano")}, **parts)


def test_a_recipe_says_what_generates(family: Family, monkeypatch: pytest.MonkeyPatch, tiny_internvl: Path) -> None:
    words = made.nano_prompts(FINAL)
    made_roller = make_roller(recipe(train=GRPOSettings(device="cpu")), FINAL, family, words, name="nano")
    assert isinstance(made_roller._policy, TransformersPolicy)
    assert made_roller._concurrency == 32
    vllm = EngineConfig(backend="vllm")
    copied = recipe(engine=vllm, train=GRPOSettings(device="cpu"), max_pixels=50_000)
    policy = make_policy(vllm, copied, FINAL, family, name="nano")
    assert isinstance(policy, VllmPolicy)
    assert (policy._config.device, policy._config.max_pixels) == ("cpu", 50_000)
    split = EngineConfig(backend="vllm", vllm=VllmConfig(tensor_parallel=2))
    with pytest.raises(ConfigError, match="tensor_parallel"):
        make_policy(split, recipe(engine=split), FINAL, family, name="nano")
    with pytest.raises(ConfigError, match="'internvl' are fine-tuned here but not rolled out"):
        make_roller(recipe(), tiny_internvl, load_family(tiny_internvl), words, name="x")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ConfigError, match="fsdp spreads them"):
        make_roller(recipe(), FINAL, family, words, name="nano")
    assert isinstance(make_policy(vllm, copied, FINAL, family, name="nano"), VllmPolicy)


def test_a_roller_from_a_recipe_rolls(family: Family) -> None:
    made_of = recipe(train=GRPOSettings(device="cpu", bf16=False, seed=9), rollout=ATS, sandbox=SandboxConfig(pool=1))
    model = nano()
    with make_roller(made_of, FINAL, family, made.nano_prompts(FINAL), name="nano") as opened:
        groups = opened.roll(model, asked(("arithmetic",)), step=0, group=2)
    for trajectory in made.trajectories(groups):
        assert trajectory.model == "nano"
        assert isinstance(trajectory.segments[0], Generated)
        assert all(isinstance(segment, Generated | Observation) for segment in trajectory.segments)
    assert all(reward is not None for group in groups for reward in group.rewards)
    assert largest_gap(model, groups, family) < 2e-4


def test_the_example_of_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "grpo_rollouts.md").read_text(encoding="utf-8")
    exec(page.partition("```python\n")[2].partition("```")[0], {})
    printed = capsys.readouterr().out
    assert "nano-train-0-zoom-0 (" in printed
    assert "'rollouts': 8" in printed
