"""What fine-tuning takes besides a list of samples, what it tells, and where it stops."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import samples
import torch
from transformers import AutoModelForImageTextToText, TrainerCallback

from thyme.config.sft import SFTSettings
from thyme.config.training import LoraSettings
from thyme.errors import ConfigError, StoreError, TrainingError
from thyme.families import Family, load_family
from thyme.train.arguments import language_model, vision_modules
from thyme.train.data.rows import RandomParts
from thyme.train.data.samples import ListSamples
from thyme.train.data.stream import StreamedSamples, StreamSource
from thyme.train.encode import Encoded, MaskPolicy, encode
from thyme.train.sft import train_sft

# peft still asks transformers by the old name of activation checkpointing.


@pytest.fixture(scope="module")
def family(tiny_qwen2_5_vl: Path) -> Family:
    return load_family(tiny_qwen2_5_vl)


def trajectories(family: Family, count: int = 6) -> list[Any]:
    return [
        samples.trajectory([samples.crop(i)] * (i % 2), family=family, images=[samples.picture(i)], name=str(i))
        for i in range(count)
    ]


def encoded(family: Family) -> list[Encoded]:
    return [encode(trajectory, family) for trajectory in trajectories(family)]


def settings(**changes: Any) -> SFTSettings:
    quick = {"max_steps": 3, "batch_size": 2, "learning_rate": 2e-3, "log_steps": 1, "device": "cpu"}
    return SFTSettings(**(quick | changes))


class OnDisk:
    """Samples of which nothing is in memory but the sizes."""

    fingerprint = "on disk"

    def __init__(self, chosen: list[Encoded]) -> None:
        self._chosen = chosen
        self.lengths = [len(sample) for sample in chosen]
        self.trained = [sample.trained for sample in chosen]
        self.read = 0

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: int) -> Encoded:
        self.read += 1
        return self._chosen[index]


@pytest.mark.parametrize("changes", [{}, {"packing": True, "packed_tokens": 300}], ids=["padded", "packed"])
def test_samples_by_place_are_read_when_they_are_needed_whoever_reads_them(
    tiny_qwen2_5_vl: Path, family: Family, tmp_path: Path, changes: dict[str, Any]
) -> None:
    listed = train_sft(encoded(family), tiny_qwen2_5_vl, settings(**changes), tmp_path / "list")
    lazy = OnDisk(encoded(family))
    placed = train_sft(lazy, tiny_qwen2_5_vl, settings(**changes), tmp_path / "here")
    assert lazy.read >= placed.steps
    by_workers = train_sft(
        OnDisk(encoded(family)), tiny_qwen2_5_vl, settings(workers=2, **changes), tmp_path / "workers"
    )
    assert listed.curve == placed.curve == by_workers.curve
    assert placed.samples == 6


def test_kept_images_are_read_from_their_place_once(tiny_qwen2_5_vl: Path, family: Family, tmp_path: Path) -> None:
    lazy = OnDisk(encoded(family))
    kept = train_sft(lazy, tiny_qwen2_5_vl, settings(max_steps=9, cache="features"), tmp_path / "kept")
    assert lazy.read == len(lazy)
    listed = train_sft(encoded(family), tiny_qwen2_5_vl, settings(max_steps=9, cache="features"), tmp_path / "list")
    assert kept.curve == listed.curve


def stream(family: Family, rows: list[Any]) -> StreamedSamples:
    parts: Any = RandomParts(rows)  # type: ignore[arg-type]  # a list of rows is rows by place
    return StreamedSamples([StreamSource("s", "drawn", parts, MaskPolicy.ALL)], family, max_tokens=4000, buffer=4)


def test_the_steps_of_a_stream_follow_from_its_rows_and_what_it_read_is_told(
    tiny_qwen2_5_vl: Path, family: Family, tmp_path: Path
) -> None:
    found = stream(family, trajectories(family, 8))
    plan = settings(max_steps=None, epochs=1.5, batch_size=2, accumulation=2)
    report = train_sft(found, tiny_qwen2_5_vl, plan, tmp_path)
    assert report.steps == 3  # 12 rows, 4 a step
    assert report.samples == 12
    (source,) = report.sources
    assert (source.name, source.samples, source.tokens) == ("s", 12, report.tokens)
    assert source.trained_tokens == report.trained_tokens


def test_a_stream_is_repeatable_and_weighs_tokens_as_ever(
    tiny_qwen2_5_vl: Path, family: Family, tmp_path: Path
) -> None:
    rows = trajectories(family, 6)
    plan = settings(max_steps=1, batch_size=3, accumulation=2)
    one, other = (train_sft(stream(family, rows), tiny_qwen2_5_vl, plan, tmp_path / name) for name in ("one", "other"))
    assert one.curve == other.curve
    listed = train_sft([encode(row, family, MaskPolicy.ALL) for row in rows], tiny_qwen2_5_vl, plan, tmp_path / "list")
    assert one.curve[0].loss == pytest.approx(listed.curve[0].loss, rel=1e-5)


def test_a_stream_without_what_it_needs_is_refused(tiny_qwen2_5_vl: Path, family: Family, tmp_path: Path) -> None:
    found = stream(family, trajectories(family, 2))
    with pytest.raises(ConfigError, match="cache = 'none'"):
        train_sft(found, tiny_qwen2_5_vl, settings(cache="pixels"), tmp_path)
    with pytest.raises(ConfigError, match=r"packed rows.*give max_steps"):
        train_sft(found, tiny_qwen2_5_vl, settings(max_steps=None, packing=True), tmp_path)
    found.sources[0].parts.rows = None  # type: ignore[misc]  # as of a source that does not know
    with pytest.raises(ConfigError, match="its length is not known: give max_steps"):
        train_sft(found, tiny_qwen2_5_vl, settings(max_steps=None), tmp_path)


class Watching(TrainerCallback):
    """Sees the model in training, and what is logged."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.logged: list[str] = []

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        assert isinstance(model, torch.nn.Module)
        self.steps.append(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        self.logged += list(logs)


def test_the_report_tells_speed_memory_and_both_curves_and_callbacks_are_called(
    tiny_qwen2_5_vl: Path, family: Family, tmp_path: Path
) -> None:
    chosen, watching = encoded(family), Watching()
    report = train_sft(
        chosen,
        tiny_qwen2_5_vl,
        settings(max_steps=6, eval_steps=2),
        tmp_path,
        validation=ListSamples(chosen[:2]),
        callbacks=[watching],
    )
    assert watching.steps == [1, 2, 3, 4, 5, 6]
    assert {"loss", "grad_norm", "learning_rate", "mean_token_accuracy", "eval_loss"} <= set(watching.logged)
    assert [point.step for point in report.validation] == [2, 4, 6]
    assert report.validation[-1].loss < report.validation[0].loss
    assert all(point.grad_norm is not None and point.grad_norm > 0 for point in report.curve)
    assert report.tokens_per_second == pytest.approx(2 * report.tokens / report.seconds, rel=0.01)  # two epochs
    assert report.samples_per_second == pytest.approx(12 / report.seconds, rel=0.01)
    assert report.peak_memory_bytes is not None
    assert report.peak_memory_bytes > 50 * 2**20


def test_time_spent_outside_of_the_steps_is_not_counted(tiny_qwen2_5_vl: Path, family: Family, tmp_path: Path) -> None:
    class Slow(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            time.sleep(0.3)

    started = time.perf_counter()
    report = train_sft(encoded(family), tiny_qwen2_5_vl, settings(), tmp_path, callbacks=[Slow()])
    assert report.seconds <= time.perf_counter() - started - 0.9


class Named(ListSamples):
    """Samples that know where they come from."""

    def name(self, index: int) -> str:
        """File and row."""
        return f"a.jsonl, line {index + 1}"


@pytest.mark.parametrize("named", [False, True], ids=["numbers", "names"])
@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_what_is_not_a_number_stops_the_run_and_names_step_and_samples(
    tiny_qwen2_5_vl: Path, family: Family, tmp_path: Path, what: str, named: bool
) -> None:
    model: Any = AutoModelForImageTextToText.from_pretrained(tiny_qwen2_5_vl)

    class Break(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            weight = model.lm_head.weight
            if state.global_step == 1 and what == "loss":
                weight.data[3, 3] = float("nan")
            elif state.global_step == 1:
                weight.register_hook(lambda gradient: gradient * float("inf"))

    chosen = (Named if named else ListSamples)(encoded(family)[:2])
    which = "samples a.jsonl, line [12], a.jsonl, line [12];" if named else "samples (0, 1|1, 0) "
    with pytest.raises(TrainingError, match=rf"the {what} of step 2 is (nan|inf), in a batch of {which}"):
        train_sft(chosen, model, settings(), tmp_path, base=tiny_qwen2_5_vl, callbacks=[Break()])


def test_what_is_outside_of_language_model_and_head_is_the_vision_part(any_checkpoint: Path) -> None:
    model = AutoModelForImageTextToText.from_pretrained(any_checkpoint)
    vision, (name, text) = vision_modules(model), language_model(model)
    assert name == "model.language_model"
    counted = [p for part in (*vision.values(), text, model.lm_head) for p in part.parameters()]
    assert sorted(map(id, counted)) == sorted(map(id, model.parameters()))
    expected = (
        {"model.vision_tower", "model.multi_modal_projector"} if "internvl" in str(any_checkpoint) else {"model.visual"}
    )
    assert set(vision) == expected


@pytest.mark.parametrize(
    ("frozen", "lora"),
    [(True, None), (False, None), (False, LoraSettings(rank=2))],
    ids=["frozen", "trained", "trained-beside-adapters"],
)
def test_the_vision_part_moves_where_it_is_not_frozen_with_and_without_adapters(
    any_checkpoint: Path, tmp_path: Path, frozen: bool, lora: LoraSettings | None
) -> None:
    family = load_family(any_checkpoint)
    plan = settings(max_steps=2, freeze_vision=frozen, lora=lora, save_steps=1)
    train_sft(encoded(family), any_checkpoint, plan, tmp_path, family=family)
    before, after = (
        AutoModelForImageTextToText.from_pretrained(folder).state_dict() for folder in (any_checkpoint, tmp_path)
    )
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    seeing = {name for name in moved if "language_model" not in name and "lm_head" not in name}
    assert bool(seeing) is not frozen
    reading = moved - seeing
    assert reading
    if lora:
        assert all(".layers." in name and name.endswith("proj.weight") for name in reading)


@pytest.mark.parametrize("measured", [False, True], ids=["train", "validation"])
def test_an_error_in_a_worker_comes_in_its_own_words(
    family: Family, tiny_qwen2_5_vl: Path, tmp_path: Path, measured: bool
) -> None:
    """Not wrapped into the traceback that torch makes of it."""

    class Damaged(ListSamples):
        def __getitem__(self, index: int) -> Encoded:
            raise StoreError("a.jsonl, line 7: damaged; delete the line")

    good, bad = ListSamples(encoded(family)), Damaged(encoded(family))
    with pytest.raises(StoreError, match=r"^a.jsonl, line 7: damaged; delete the line$"):
        train_sft(
            good if measured else bad,
            tiny_qwen2_5_vl,
            settings(workers=1, max_steps=1),
            tmp_path,
            validation=bad if measured else good,
        )
