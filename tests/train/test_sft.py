"""Fine-tuning end to end on tiny checkpoints: loss, gradients, resuming, and what is written."""

from __future__ import annotations

import io
import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import samples
import torch
from rich.console import Console
from transformers import AutoModelForImageTextToText, AutoTokenizer

from thyme.config.sft import SFTSettings
from thyme.config.training import LoraSettings
from thyme.errors import UsageError
from thyme.families import Family, load_family
from thyme.families.qwen_vl_tensors import pixels
from thyme.store import write_trajectories
from thyme.train.batches.vision import FreshPixels
from thyme.train.data.loader import Collator
from thyme.train.data.samples import ListSamples
from thyme.train.encode import Encoded, encode, encode_turns
from thyme.train.run.records import StageReport
from thyme.train.sft import train_sft
from thyme.train.sft.trainer import Data, Trainer

# peft still asks transformers by the old name of activation checkpointing.


@pytest.fixture(scope="module")
def family(tiny_qwen2_5_vl: Path) -> Family:
    return load_family(tiny_qwen2_5_vl)


def mixture(family: Family, count: int = 6) -> list[Encoded]:
    """Trajectories of zero to two rounds, with and without images, and replayed questions."""
    made = [
        encode(
            samples.trajectory(
                [samples.crop(i + j) for j in range(i % 3)],
                family=family,
                images=[samples.picture(i)] if i % 2 else [],
            ),
            family,
        )
        for i in range(count - 1)
    ]
    return [*made, encode_turns([("read it", "42"), ("colour?", "red")], [samples.picture(1)], family)]


def settings(**changes: Any) -> SFTSettings:
    quick = {"epochs": 2, "batch_size": 2, "learning_rate": 2e-3, "log_steps": 1, "device": "cpu"}
    return SFTSettings(**(quick | changes))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(AutoModelForImageTextToText.from_pretrained(folder).state_dict())


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)


def manual_nll(folder: Path, family: Family, chosen: list[Encoded]) -> float:
    """Nats a trained token, from plain forwards of one unpadded sample each; no code of the trainer is used."""
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    total = 0.0
    for sample in chosen:
        ids = torch.from_numpy(sample.ids).long()[None]
        extra: dict[str, torch.Tensor] = {}
        if sample.images:
            patches, grids = pixels(family, sample.images)
            extra = {"pixel_values": patches, "image_grid_thw": grids}
        with torch.no_grad():
            logits = model(input_ids=ids, mm_token_type_ids=(ids == family.image_token_id).long(), **extra).logits
        logprobs = torch.log_softmax(logits[0, :-1].double(), -1).gather(1, ids[0, 1:, None])[:, 0]
        total -= logprobs[torch.from_numpy(sample.loss_mask[1:])].sum().item()
    return total / sum(sample.trained for sample in chosen)


@pytest.mark.parametrize(
    ("batch_size", "accumulation", "cache"), [(6, 1, "none"), (2, 3, "none"), (3, 2, "pixels"), (2, 3, "features")]
)
def test_the_loss_is_the_nll_over_all_trained_tokens_of_a_step(
    tiny_checkpoint: Path, tmp_path: Path, batch_size: int, accumulation: int, cache: str
) -> None:
    """However the step is cut into forwards: a mean of means would weigh tokens of short batches more."""
    family = load_family(tiny_checkpoint)
    chosen = mixture(family)
    plan = settings(max_steps=1, batch_size=batch_size, accumulation=accumulation, cache=cache)
    report = train_sft(chosen, tiny_checkpoint, plan, tmp_path, family=family)
    assert report.curve[0].loss == pytest.approx(manual_nll(tiny_checkpoint, family, chosen), rel=2e-5)


def test_no_gradient_reaches_a_masked_target(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """Under `released`: the prompt, both observations, the first round and the padding."""
    family = load_family(tiny_checkpoint)
    chosen = [
        encode(
            samples.trajectory([samples.crop(1), samples.crop(2)], family=family, images=[samples.picture(0)]), family
        ),
        encode(samples.trajectory([samples.crop(3)], family=family), family),
    ]
    model = AutoModelForImageTextToText.from_pretrained(tiny_checkpoint)
    trainer = Trainer(model, Data(ListSamples(chosen), None, FreshPixels(family), family), settings(), tmp_path)
    hidden: list[torch.Tensor] = []

    def keep(_module: Any, _inputs: Any, output: torch.Tensor) -> None:
        output.retain_grad()
        hidden.append(output)

    model.model.language_model.norm.register_forward_hook(keep)
    batch = Collator(FreshPixels(family), family)([[(i, sample)] for i, sample in enumerate(chosen)])
    targets = batch["labels"][:, 1:] != -100
    trainer.compute_loss(model, batch).backward()
    gradient = hidden[0].grad
    assert gradient is not None
    strength = gradient.abs().sum(-1)
    assert (strength[:, :-1][~targets] == 0).all()
    assert (strength[:, -1] == 0).all()
    assert (strength[:, :-1][targets] > 0).all()


def test_training_learns_and_leaves_a_frozen_tower_alone(tiny_qwen2_5_vl: Path, family: Family, tmp_path: Path) -> None:
    chosen = mixture(family)
    report = train_sft(
        chosen, tiny_qwen2_5_vl, settings(epochs=6, cache="pixels", eval_steps=7), tmp_path, validation=chosen[:5]
    )
    assert report.curve[-1].loss < report.curve[0].loss - 1
    assert report.steps == 18
    assert (report.samples, report.tokens) == (6, sum(map(len, chosen)))
    assert report.validation[-1].loss == pytest.approx(manual_nll(tmp_path, family, chosen[:5]), rel=1e-4)
    before, after = weights(tiny_qwen2_5_vl), weights(tmp_path)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert not any("visual" in name for name in moved)
    assert StageReport.model_validate_json((tmp_path / "sft_report.json").read_text()) == report


def test_a_trained_tower_moves(tiny_qwen2_5_vl: Path, family: Family, tmp_path: Path) -> None:
    train_sft(mixture(family), tiny_qwen2_5_vl, settings(max_steps=3, freeze_vision=False), tmp_path)
    before, after = weights(tiny_qwen2_5_vl), weights(tmp_path)
    assert any("visual" in name and not torch.equal(before[name], after[name]) for name in before)


def test_kept_features_train_like_pixels(tiny_checkpoint: Path, tmp_path: Path) -> None:
    family = load_family(tiny_checkpoint)
    for cache in ("none", "features"):
        train_sft(mixture(family), tiny_checkpoint, settings(max_steps=3, cache=cache), tmp_path / cache)
    assert distance(weights(tmp_path / "none"), weights(tmp_path / "features")) < 1e-4


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=4)], ids=["whole", "lora"])
def test_activation_checkpointing_computes_twice_and_changes_nothing(
    any_checkpoint: Path, tmp_path: Path, lora: LoraSettings | None
) -> None:
    family = load_family(any_checkpoint)
    points, passes, trained = [], [], []
    for on in (False, True):
        model: Any = AutoModelForImageTextToText.from_pretrained(any_checkpoint)
        calls: list[int] = []
        model.model.language_model.layers[0].mlp.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        plan = settings(max_steps=1, batch_size=4, gradient_checkpointing=on, lora=lora, max_grad_norm=0)
        report = train_sft(mixture(family), model, plan, tmp_path / str(on), base=any_checkpoint, family=family)
        points.append(report.curve[0])
        passes.append(len(calls))
        trained.append(weights(tmp_path / str(on)))
    assert passes == [1, 2]
    assert points[0].loss == pytest.approx(points[1].loss, rel=1e-6)
    assert points[0].grad_norm == pytest.approx(points[1].grad_norm, rel=1e-5)
    assert distance(*trained) < 1e-5


def test_bfloat16_stays_near_float32(any_checkpoint: Path, tmp_path: Path) -> None:
    """As autocast over all weights, and under adapters on weights that are bfloat16 themselves."""
    family = load_family(any_checkpoint)
    lora = {"lora": LoraSettings(rank=4), "weights_dtype": "bfloat16"}
    full, autocast, adapted = (
        train_sft(mixture(family), any_checkpoint, settings(max_steps=1, **changes), tmp_path / str(i), family=family)
        for i, changes in enumerate([{}, {"bf16": True}, {"bf16": True, **lora}])
    )
    for half in (autocast, adapted):
        assert half.curve[0].loss != full.curve[0].loss
        assert half.curve[0].loss == pytest.approx(full.curve[0].loss, rel=0.05)


def test_autocast_leaves_float32_weights(tiny_qwen2_5_vl: Path, family: Family, tmp_path: Path) -> None:
    model = AutoModelForImageTextToText.from_pretrained(tiny_qwen2_5_vl)
    train_sft(mixture(family), model, settings(max_steps=1, bf16=True), tmp_path, base=tiny_qwen2_5_vl)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert "forward" not in vars(model)


def test_a_generator_is_read_once_and_its_pixels_are_let_go(
    tiny_qwen2_5_vl: Path, family: Family, tmp_path: Path
) -> None:
    plan = settings(max_steps=2, cache="pixels")
    listed = train_sft(mixture(family), tiny_qwen2_5_vl, plan, tmp_path / "list")
    streamed = train_sft(iter(mixture(family)), tiny_qwen2_5_vl, plan, tmp_path / "stream")
    assert listed.curve == streamed.curve


def test_resuming_without_a_checkpoint_starts_anew(tiny_qwen2_5_vl: Path, family: Family, tmp_path: Path) -> None:
    assert train_sft(mixture(family), tiny_qwen2_5_vl, settings(max_steps=1), tmp_path, resume=True).steps == 1


def absolute_paths(folder: Path, machine: list[Path]) -> list[str]:
    """Files that hold a path of this machine, as text or inside a pickle (torch does not compress its archives)."""
    needles = [str(path).encode() for path in machine]
    return sorted(
        str(file.relative_to(folder))
        for file in folder.rglob("*")
        if file.is_file() and any(needle in file.read_bytes() for needle in needles)
    )


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=2)], ids=["full", "lora"])
def test_what_is_saved_loads_in_plain_transformers_and_holds_no_path(
    tiny_qwen2_5_vl: Path, family: Family, tmp_path: Path, lora: LoraSettings | None
) -> None:
    base, out = tmp_path / "base", tmp_path / "out"
    base.mkdir()
    for file in tiny_qwen2_5_vl.iterdir():
        (base / file.name).write_bytes(file.read_bytes())
    (base / "prompts").mkdir()
    (base / "prompts" / "system.txt").write_text("Think.")
    (base / "weights.json").write_text("{}")
    train_sft(mixture(family), base, settings(max_steps=2, save_steps=1, lora=lora), out)

    machine = [tmp_path, tiny_qwen2_5_vl, Path.home(), Path.cwd(), Path(sys.prefix)]
    assert absolute_paths(out, machine) == []
    torch.save({"output_dir": str(out)}, tmp_path / "pickle.pt")
    assert absolute_paths(tmp_path, machine) == ["pickle.pt"]  # the search would have found one

    copied = {str(f.relative_to(base)) for f in base.rglob("*") if f.is_file()} - {"config.json", "model.safetensors"}
    for name in copied:
        assert (out / name).read_bytes() == (base / name).read_bytes()
    assert load_family(out).fingerprint == family.fingerprint
    assert AutoTokenizer.from_pretrained(out).eos_token == "<|im_end|>"
    config, original = (json.loads((folder / "config.json").read_text()) for folder in (out, base))
    for part in ("text_config", "vision_config"):
        assert config[part].pop("dtype") == "float32"  # written where a model was loaded, not where it was made
    assert config == original
    assert (out / "adapter" / "adapter_config.json").is_file() == (lora is not None)
    assert distance(weights(out), weights(base)) > 0


def test_merged_adapters_compute_what_was_trained(tiny_qwen2_5_vl: Path, family: Family, tmp_path: Path) -> None:
    chosen = mixture(family)
    plan = settings(epochs=4, lora=LoraSettings(rank=4))
    report = train_sft(chosen, tiny_qwen2_5_vl, plan, tmp_path, validation=chosen)
    assert report.validation[-1].loss == pytest.approx(manual_nll(tmp_path, family, chosen), rel=1e-4)
    changed = {n for n, w in weights(tmp_path).items() if not torch.equal(w, weights(tiny_qwen2_5_vl)[n])}
    assert changed
    assert all("language_model.layers" in name and name.endswith("proj.weight") for name in changed)


def test_a_model_in_memory_is_trained_in_place(tiny_qwen2_5_vl: Path, family: Family, tmp_path: Path) -> None:
    model = AutoModelForImageTextToText.from_pretrained(tiny_qwen2_5_vl)
    plan = settings(max_steps=2)
    with pytest.raises(UsageError, match="give base"):
        train_sft(mixture(family), model, plan, tmp_path)
    for stage in ("one", "two"):
        train_sft(mixture(family), model, plan, tmp_path / stage, base=tiny_qwen2_5_vl)
    assert distance(weights(tmp_path / "two"), dict(model.state_dict())) == 0
    assert "forward" not in vars(model)


def test_the_final_model_is_saved_in_the_type_asked_for(tiny_qwen2_5_vl: Path, family: Family, tmp_path: Path) -> None:
    train_sft(mixture(family), tiny_qwen2_5_vl, settings(max_steps=1, save_dtype="bfloat16"), tmp_path)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype="auto")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    config = model.config
    assert {part.dtype for part in (config, config.text_config, config.vision_config)} == {torch.bfloat16}


def test_nothing_to_train_on_and_missing_devices_are_said(tiny_qwen2_5_vl: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no sample"):
        train_sft([], tiny_qwen2_5_vl, settings(), tmp_path)
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="no CUDA device"):
            train_sft([], tiny_qwen2_5_vl, settings(device="cuda"), tmp_path)


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="freeze_vision"):
        SFTSettings(cache="features", freeze_vision=False)
    with pytest.raises(ValueError, match="batch_size = 1"):
        SFTSettings(packing=True, attention="flash_attention_2", batch_size=2)


def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere(
    tiny_qwen2_5_vl: Path, family: Family, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shown, lines = io.StringIO(), io.StringIO()
    terminal = Console(file=shown, force_terminal=True, width=100)
    for console, out in ((terminal, "a"), (Console(file=lines), "b")):
        train_sft(mixture(family), tiny_qwen2_5_vl, settings(max_steps=2), tmp_path / out, console=console)
    assert "2/2" in shown.getvalue()
    assert "loss" in shown.getvalue()
    assert [line.partition(", loss")[0] for line in lines.getvalue().splitlines()] == [
        "b: step 1 of 2",
        "b: step 2 of 2",
    ]
    assert capfd.readouterr().out == ""


def test_the_example_trains_on_a_file_of_trajectories(
    tiny_qwen2_5_vl: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = [samples.trajectory([samples.crop(i)], images=[samples.picture(i)], name=str(i)) for i in range(3)]
    write_trajectories(tmp_path / "t.jsonl", recorded)
    example = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "sft_minimal.py"))
    example["main"](str(tiny_qwen2_5_vl), tmp_path / "t.jsonl", tmp_path / "out")
    assert "3 samples, dropped: none" in capsys.readouterr().out
    assert AutoModelForImageTextToText.from_pretrained(tmp_path / "out") is not None
