"""Evaluation during training: the model in training is asked, with code and sandbox, by the package's own runner.

The model is asked where it lies: no weights are copied, adapters stay active, and whatever asking it could change
(modes, random states) is put back, so that training goes on to the bit as if nobody had asked. With several processes
each asks its share of the problems.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from transformers import TrainerCallback

from thyme.background import Background
from thyme.config import EngineConfig
from thyme.config.training import DataSource, EvaluationSettings
from thyme.engines.transformers import TransformersEngine
from thyme.errors import ConfigError, EngineError, SandboxError
from thyme.eval.runner import evaluate, score_trajectory
from thyme.eval.summary import Sample, summarise, without_pictures
from thyme.families import Family
from thyme.families.checkpoint import find_checkpoint
from thyme.families.qwen_vl import QwenVLFamily
from thyme.prompts import PromptSet
from thyme.sandbox import open_sandbox
from thyme.sandbox.base import Sandbox
from thyme.store import append_trajectory, read_trajectories
from thyme.train.data.problems import read_problems
from thyme.train.distributed import gather, is_main, rank, split_weights, world_size
from thyme.train.run.disk import write_atomically
from thyme.train.run.records import EvaluationPoint
from thyme.types import Problem

ProblemReader = Callable[[DataSource], Sequence[Problem]]
TellPoint = Callable[[EvaluationPoint], None]
"""Told of each evaluation."""

FOLDER: Final = "evaluation"
"""Folder in the run's own: trajectories and figures of each evaluation."""
_CHUNK = 64
"""Problems whose pictures are in memory at once."""


PROBLEM_READERS: dict[str, ProblemReader] = {"problems": read_problems}


def evaluation_problems(source: DataSource, more: Mapping[str, ProblemReader] | None = None) -> Sequence[Problem]:
    """What an evaluation asks.

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
        raise ConfigError("evaluation.data holds no problem; check its path, its subset and its split")
    return problems


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
    if settings.every_steps is not None and (spread := split_weights()):
        raise ConfigError(
            f"evaluation.every_steps needs whole weights in each process, and {spread} spreads them; leave it out: "
            "the checkpoint is evaluated before the first stage and after each"
        )


@dataclass(frozen=True)
class Moment:
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
        self.settings, self.problems, self._family = settings, problems, family
        self._prompts, self._name, self._seed = prompts, name, seed
        self.folder = out / FOLDER
        self._background: Background[Sandbox] | None = None

    def live(self, model: Any, where: Moment) -> EvaluationPoint:
        """Ask a model in memory, which may be in training; all processes call it together.

        Args:
            model: A transformers model, or a peft model around one, whole in this process.
            where: Stage and step.
        """
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        with undisturbed(inner):
            engine = TransformersEngine(inner, self._family, self._engine_config(), name=f"{self._name}/{where.stage}")
            return self._measure(engine, where)

    def saved(self, checkpoint: Path, where: Moment, *, device: str) -> EvaluationPoint:
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
        return EngineConfig(max_batch=self.settings.concurrency)

    def _measure(self, engine: TransformersEngine, where: Moment) -> EvaluationPoint:
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
        kinds = {kind: _without_seconds(summary.as_json()) for kind, summary in found.items()}
        seconds = round(time.perf_counter() - started, 3)
        point = EvaluationPoint(stage=where.stage, step=where.step, seconds=seconds, kinds=kinds)
        if is_main():
            write_atomically(where.file(self.folder, ".json"), point.model_dump_json(indent=2) + "\n")
        return point

    def _ask_all(self, engine: TransformersEngine, where: Moment) -> list[Sample]:
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
        settings = self.settings
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
            self._background = Background(open_sandbox(self.settings.sandbox), "sandbox", SandboxError)
        return self._background


class EvaluationCallback(TrainerCallback):
    """Asks the model while it is trained: before the first step where wanted, every so many, and after the last."""

    def __init__(self, evaluator: Evaluator, stage: str, tell: TellPoint, *, before: bool) -> None:
        """Ask in this stage.

        Args:
            evaluator: Asks; its settings say how often.
            stage: Name of the stage.
            tell: Called with each.
            before: Whether to ask before the first step.
        """
        self._evaluator, self._stage, self._tell, self._before = evaluator, stage, tell, before
        self._every = evaluator.settings.every_steps

    def _ask(self, model: Any, step: int) -> None:
        self._tell(self._evaluator.live(model, Moment(self._stage, step)))

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


def open_evaluator(
    settings: EvaluationSettings,
    family: Family,
    prompts: PromptSet,
    out: Path,
    *,
    name: str,
    readers: Mapping[str, ProblemReader] | None = None,
) -> Evaluator:
    """What a run evaluates with, looked at before the work.

    Args:
        settings: The recipe's.
        family: Of the model.
        prompts: The words to ask with.
        out: Folder of the run.
        name: What the trajectories call the model.
        readers: Readers of further formats of problems.

    Raises:
        ConfigError: The model cannot be asked, the format is unknown, or there is no problem.
        StoreError: The problems cannot be read.
    """
    check_evaluation(settings, family)
    problems = evaluation_problems(settings.data, readers)
    return Evaluator(settings, problems, family, prompts, out, name=name, seed=settings.data.seed)


def asking(
    evaluator: Evaluator | None, stage: str, start: str | Path, tell: TellPoint, *, before: bool, device: str
) -> tuple[EvaluationCallback, ...]:
    """What asks the model while a stage is trained.

    A model whose weights are spread over processes cannot be asked in training. Then the checkpoint that the stage
    starts from is asked at once, and `ask_saved` asks the one that it ends in.

    Args:
        evaluator: Asks; None: nobody does.
        stage: Name of the stage.
        start: What it starts from.
        tell: Called with each evaluation.
        before: Whether to ask before the first step.
        device: Of the training settings.
    """
    if evaluator is None:
        return ()
    if not split_weights():
        return (EvaluationCallback(evaluator, stage, tell, before=before),)
    if before:
        tell(evaluator.saved(find_checkpoint(start), Moment(stage, 0), device=device))
    return ()


def ask_saved(evaluator: Evaluator | None, folder: Path, where: Moment, tell: TellPoint, *, device: str) -> None:
    """Ask the model that a stage has saved, if it could not be asked in training; see `asking`.

    Args:
        evaluator: Asks; None: nobody does.
        folder: Of the saved model.
        where: Stage and its last step.
        tell: Called with the evaluation.
        device: Of the training settings.
    """
    if evaluator is not None and split_weights():
        tell(evaluator.saved(folder, where, device=device))


def stored_points(out: Path) -> list[EvaluationPoint]:
    """The evaluations in the folder of a run."""
    files = sorted((out / FOLDER).glob("*.json"))
    return [EvaluationPoint.model_validate_json(file.read_text(encoding="utf-8")) for file in files]


def stored_examples(out: Path, where: Moment, problems: Sequence[Problem]) -> list[Sample]:
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
