"""Evaluation during training: the model in training is asked, with code and sandbox, by the package's own runner.

The model is asked where it lies: no weights are copied, adapters stay active, and whatever asking it could change
(modes, random states) is put back, so that training goes on to the bit as if nobody had asked. With several processes
each asks its share of the problems.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from pydantic import ValidationError
from transformers import TrainerCallback

from thyme.background import Background
from thyme.config import EngineConfig
from thyme.config.training import DataSource, EvaluationSettings
from thyme.engines.transformers import TransformersEngine
from thyme.errors import ConfigError, EngineError, SandboxError, StoreError
from thyme.eval.runner import evaluate, score_trajectory
from thyme.eval.summary import Sample, summarise, without_pictures
from thyme.families import Family
from thyme.families.qwen_vl import QwenVLFamily
from thyme.images import MAX_PIXELS, load_image
from thyme.prompts import PromptSet
from thyme.sandbox import open_sandbox
from thyme.sandbox.base import Sandbox
from thyme.store import append_trajectory, read_trajectories
from thyme.train.distributed import gather, is_main, rank, world_size
from thyme.train.run.records import EvaluationPoint
from thyme.types import Problem

ProblemReader = Callable[[DataSource], Sequence[Problem]]

FOLDER: Final = "evaluation"
"""Folder in the run's own: trajectories and figures of each evaluation."""
_CHUNK = 64
"""Problems whose pictures are in memory at once."""


def read_problems(source: DataSource) -> list[Problem]:
    """Problems of a JSON-lines file as ``thyme nano problems`` writes it.

    Each line has ``question`` and ``answer``, and may have ``id``, ``kind``, ``choices``, ``meta``, and in ``images``
    names of files, relative to its own folder.

    Raises:
        StoreError: The file is missing, or a line of it is no problem.
    """
    path = Path(source.path).expanduser()
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # not at line separators inside a text, as splitlines
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"problems '{source.path}' cannot be read ({error}); name a file of JSON lines") from error
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    found = numbered[: source.limit]
    return [problem_of_line(path, number, line, max_pixels=source.max_pixels) for number, line in found]


def problem_of_line(path: Path, number: int, line: str, *, max_pixels: int = MAX_PIXELS) -> Problem:
    """A problem as it stands in a line; see `read_problems`.

    Args:
        path: The file.
        number: Of the line, from 1.
        line: What stands there.
        max_pixels: Largest image, width times height.

    Raises:
        StoreError: It is none, an image is too large, or lies outside of the file's folder.
    """
    try:
        row = json.loads(line)
        names = row.pop("images", ())
        images = tuple(load_image(_beside(path, name), name=Path(name).name, max_pixels=max_pixels) for name in names)
        return Problem(**{"id": f"{path.stem}-{number}", **row}, images=images)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        why = str(error)
        if isinstance(error, ValidationError):
            why = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        why = why.replace("--max-pixels (max_pixels= in Python)", "max_pixels of the source in the recipe")
        raise StoreError(f"{path.name}, line {number}: not a problem ({why}); see `thyme nano problems`") from error


def _beside(path: Path, name: str) -> Path:
    """An image of a line. Lines may come from a stranger, and could name any picture of this machine."""
    folder = os.path.abspath(path.parent)
    found = Path(os.path.abspath(path.parent / name))
    if not found.is_relative_to(folder):
        raise ValueError(f"its image {name!r:.200} leads out of the folder of the file")
    return found


PROBLEM_READERS: dict[str, ProblemReader] = {"problems": read_problems}


def open_problems(source: DataSource, more: Mapping[str, ProblemReader] | None = None) -> Sequence[Problem]:
    """Problems to evaluate on.

    Args:
        source: Where they come from.
        more: Readers of further formats.

    Raises:
        ConfigError: The format is unknown, or there is no problem.
        StoreError: They cannot be read.
    """
    readers = {**PROBLEM_READERS, **(more or {})}
    if source.format not in readers:
        raise ConfigError(f"evaluation.data.format '{source.format}' is none of {', '.join(readers)}")
    problems = readers[source.format](source)
    if not len(problems):
        raise ConfigError("evaluation.data holds no problem")
    return problems


def sharding() -> str:
    """How the launcher told accelerate to cut weights up: ``fsdp``, ``zero3``, or nothing."""
    if os.environ.get("ACCELERATE_USE_FSDP", "").lower() in {"1", "true"}:
        return "fsdp"
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() in {"1", "true"}:
        return "zero3" if _zero_stage() == 3 else ""
    return ""


def _zero_stage() -> int:
    """Stage of ZeRO, from accelerate's own settings or DeepSpeed's file."""
    file = os.environ.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "")
    if file and Path(file).is_file():
        stage = json.loads(Path(file).read_text(encoding="utf-8")).get("zero_optimization", {}).get("stage", 0)
        return int(stage)
    return int(os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2"))


def check_evaluation(settings: EvaluationSettings, family: Family) -> None:
    """Find out before the work whether the model can be asked.

    Raises:
        ConfigError: Not a model of this family, or not while its weights are spread over processes.
    """
    if not isinstance(family, QwenVLFamily):
        raise ConfigError(
            f"evaluation asks the model with the local engine, which does not run models of type '{family.name}'; "
            "leave [evaluation] out, and measure the saved checkpoint through a server (vLLM, for example)"
        )
    if settings.every_steps is not None and sharding():
        raise ConfigError(
            f"evaluation.every_steps needs whole weights in each process, and {sharding()} spreads them; leave it out: "
            "the checkpoint is evaluated before the first stage and after each"
        )


@dataclass(frozen=True)
class Named:
    """Where in a run an evaluation stands."""

    stage: str
    step: int

    def file(self, folder: Path, suffix: str) -> Path:
        """A file of this evaluation."""
        return folder / f"{self.stage}-{self.step:06d}{suffix}"


class Evaluator:
    """Asks the problems of a run, as often as wanted; its sandbox is opened once, when it is first needed."""

    def __init__(
        self,
        settings: EvaluationSettings,
        problems: Sequence[Problem],
        family: Family,
        prompts: PromptSet,
        out: Path,
        *,
        name: str,
        seed: int = 0,
    ) -> None:
        """Prepare.

        Args:
            settings: How to ask.
            problems: What to ask.
            family: Of the model.
            prompts: The words to ask with.
            out: Folder of the run.
            name: What the trajectories call the model.
            seed: Of the rollouts.
        """
        self._settings, self.problems, self._family = settings, problems, family
        self._prompts, self._name, self._seed = prompts, name, seed
        self.folder = out / FOLDER
        self._background: Background[Sandbox] | None = None
        self.seconds = 0.0
        """Spent so far."""

    def live(self, model: Any, where: Named) -> EvaluationPoint:
        """Ask a model in memory, which may be in training; all processes call it together.

        Args:
            model: A transformers model, or a peft model around one, whole in this process.
            where: Stage and step.
        """
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        with undisturbed(inner):
            engine = TransformersEngine(inner, self._family, self._engine_config(), name=f"{self._name}/{where.stage}")
            return self._measure(engine, where)

    def saved(self, checkpoint: Path, where: Named, *, device: str) -> EvaluationPoint:
        """Ask a checkpoint; all processes call it together, and each loads it.

        Args:
            checkpoint: Its folder.
            where: Stage and step.
            device: Of the training settings.
        """
        config = self._engine_config().model_copy(update={"device": device})
        return self._measure(TransformersEngine.load(checkpoint, config, name=f"{self._name}/{where.stage}"), where)

    def close(self) -> None:
        """End the sandbox."""
        if self._background is not None:
            self._background.end()
            self._background = None

    def _engine_config(self) -> EngineConfig:
        return EngineConfig(max_batch=self._settings.concurrency)

    def _measure(self, engine: TransformersEngine, where: Named) -> EvaluationPoint:
        started = time.perf_counter()
        samples, trouble = list[Sample](), ""
        cause: Exception | None = None
        try:
            samples = self._ask_all(engine, where)
        except Exception as error:  # the other processes wait: they hear of it, and all of them stop
            trouble, cause = f"{type(error).__name__}: {error}", error
        told = gather((samples, trouble))
        if trouble := next((said for _, said in told if said), ""):
            raise EngineError(f"the evaluation of {where.stage} at step {where.step} failed ({trouble})") from cause
        found = summarise(sample for part, _ in told for sample in part)
        seconds = time.perf_counter() - started
        self.seconds += seconds
        kinds = {kind: _without_seconds(summary.as_json()) for kind, summary in found.items()}
        point = EvaluationPoint(stage=where.stage, step=where.step, seconds=round(seconds, 3), kinds=kinds)
        if is_main():
            write_atomically(where.file(self.folder, ".json"), point.model_dump_json(indent=2) + "\n")
        return point

    def _ask_all(self, engine: TransformersEngine, where: Named) -> list[Sample]:
        """This process's share of the problems."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = where.file(self.folder, f"-{rank()}.jsonl" if world_size() > 1 else ".jsonl")
        file.unlink(missing_ok=True)
        background = self._sandbox()
        mine = range(rank(), len(self.problems), world_size())
        samples: list[Sample] = []
        try:
            for start in range(0, len(mine), _CHUNK):
                chunk = [self.problems[index] for index in mine[start : start + _CHUNK]]
                asked = background.call(lambda chunk=chunk: self._ask(chunk, engine, background.value))  # type: ignore[misc]  # mypy does not type lambda defaults
                for sample in asked:
                    if not sample.failed:
                        append_trajectory(file, sample.trajectory)
                samples += map(without_pictures, asked)
        finally:
            background.call(engine.aclose)
        return samples

    async def _ask(self, chunk: Sequence[Problem], engine: TransformersEngine, sandbox: Sandbox) -> list[Sample]:
        settings = self._settings
        return await evaluate(
            chunk,
            engine,
            sandbox,
            settings.rollout,
            prompts=self._prompts,
            seed=self._seed,
            concurrency=settings.concurrency,
        )

    def _sandbox(self) -> Background[Sandbox]:
        if self._background is None:
            self._background = Background(open_sandbox(self._settings.sandbox), "sandbox", SandboxError)
        return self._background


class EvaluationCallback(TrainerCallback):
    """Asks the model while it is trained: before the first step where wanted, every so many, and after the last."""

    def __init__(
        self,
        evaluator: Evaluator,
        stage: str,
        *,
        before: bool,
        every: int | None,
        tell: Callable[[EvaluationPoint], None],
    ) -> None:
        """Ask at these steps.

        Args:
            evaluator: Asks.
            stage: Name of the stage.
            before: Whether to ask before the first step.
            every: Steps between evaluations; None: none in between.
            tell: Called with each.
        """
        self._evaluator, self._stage = evaluator, stage
        self._before, self._every, self._tell = before, every, tell

    def _ask(self, model: Any, step: int) -> None:
        self._tell(self._evaluator.live(model, Named(self._stage, step)))

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Before the first step; a resumed stage was asked already."""
        if self._before and state.global_step == 0:
            self._ask(model, 0)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """In between."""
        if self._every and state.global_step % self._every == 0 and state.global_step < state.max_steps:
            self._ask(model, state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """After the last step."""
        if state.global_step >= state.max_steps:
            self._ask(model, state.global_step)


@contextmanager
def undisturbed(model: Any) -> Iterator[None]:
    """The model in eval mode; afterwards every module's mode and all random states are what they were."""
    modes = [(module, module.training) for module in model.modules()]
    python, numbers = random.getstate(), np.random.get_state()
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        model.eval()
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training
            random.setstate(python)
            np.random.set_state(numbers)


def stored_points(out: Path) -> list[EvaluationPoint]:
    """The evaluations in the folder of a run."""
    files = sorted((out / FOLDER).glob("*.json"))
    return [EvaluationPoint.model_validate_json(file.read_text(encoding="utf-8")) for file in files]


def stored_examples(out: Path, where: Named, problems: Sequence[Problem]) -> list[Sample]:
    """What was answered to these problems in one evaluation, with its pictures; those that failed are missing."""
    wanted = {problem.id: place for place, problem in enumerate(problems)}
    files = sorted((out / FOLDER).glob(where.file(Path(), "*.jsonl").name))
    found = {
        trajectory.problem.id: trajectory
        for file in files
        for trajectory in read_trajectories(file, skip_damaged=True)
        if trajectory.problem.id in wanted
    }
    return [Sample(found[name], score_trajectory(found[name])) for name in sorted(found, key=wanted.__getitem__)]


def _without_seconds(figures: dict[str, Any]) -> dict[str, Any]:
    """A kind's figures; how long its rollouts took side by side says nothing here."""
    return {name: value for name, value in figures.items() if name != "seconds"}


def write_atomically(path: Path, text: str) -> None:
    """Put a file in place, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
