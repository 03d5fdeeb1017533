"""Curves beside the report: TensorBoard, Weights & Biases, Trackio. Nothing is sent anywhere unless asked for.

The integrations that come with transformers are not used: they send the trainer's arguments along, and with them paths
of the machine. Here a tracker gets the recipe with paths reduced to names, and figures.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from transformers import TrainerCallback

from thyme.config.training import Tracker as TrackerName
from thyme.config.training import TrackingSettings
from thyme.errors import MissingExtraError, UsageError
from thyme.train.distributed import is_main
from thyme.train.run.records import EvaluationPoint

FOLDER = "tracking"
"""Folder in the run's own for what trackers write."""
RATES = ("accuracy", "tool_rate", "executable_rate")
"""What is sent of an evaluation, for each kind."""
_TRAINING = {"loss", "learning_rate", "grad_norm", "mean_token_accuracy", "entropy", "epoch"}
_PACKAGES: dict[TrackerName, str] = {"tensorboard": "tensorboard", "wandb": "wandb", "trackio": "trackio"}
_BY_ITSELF: frozenset[TrackerName] = frozenset({"trackio"})
"""In no extra: it allows no Pillow as new as the others."""


class Tracker(Protocol):
    """Takes figures."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Take some figures of one step, counted over all stages."""
        ...

    def close(self) -> None:
        """Hand over what is left."""
        ...


def check_trackers(names: Sequence[TrackerName]) -> None:
    """Find out before the work whether the trackers are there.

    Raises:
        MissingExtraError: A package is missing that an extra brings.
        UsageError: A package is missing that is installed by itself.
    """
    for name in names:
        try:
            import_module(_PACKAGES[name])
        except ImportError as error:
            if name in _BY_ITSELF:
                raise UsageError(f"the tracker {name} is not installed: pip install {_PACKAGES[name]}") from error
            raise MissingExtraError(f"the tracker {name}", "track") from error


def open_trackers(
    settings: TrackingSettings, out: Path, config: Mapping[str, Any], *, first_step: int = 0
) -> list[Tracker]:
    """Start the trackers of a run, in its main process; the others have none.

    Args:
        settings: Which, and under which names.
        out: Folder of the run.
        config: What a tracker shows beside the figures; holds no path.
        first_step: Where a resumed run goes on; later figures of the first part are dropped where that can be done.
    """
    check_trackers(settings.trackers)
    if not is_main() or not settings.trackers:
        return []
    (out / FOLDER).mkdir(parents=True, exist_ok=True)
    run = settings.run or out.resolve().name
    return [_OPEN[name](settings.project, run, out / FOLDER, config, first_step) for name in settings.trackers]


class _TensorBoard:
    """Event files in the run's folder, for ``tensorboard --logdir``."""

    def __init__(self, project: str, run: str, folder: Path, config: Mapping[str, Any], first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step or None)

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    """Weights & Biases; ``WANDB_MODE=offline`` keeps the run on this machine."""

    def __init__(self, project: str, run: str, folder: Path, config: Mapping[str, Any], first_step: int) -> None:
        import wandb

        # Its record of the machine holds paths, the command and the environment.
        quiet = wandb.Settings(
            x_disable_meta=True,
            x_disable_stats=True,
            x_disable_machine_info=True,
            disable_git=True,
            save_code=False,
            disable_code=True,
            console="off",
            silent=True,
        )
        known = folder / "wandb_run.txt"
        again = {"id": known.read_text(encoding="utf-8"), "resume": "allow"} if first_step and known.is_file() else {}
        self._run: Any = wandb.init(
            project=project, name=run, dir=str(folder), config=dict(config), settings=quiet, **again
        )
        self._folder, self._end = folder, wandb.teardown
        known.write_text(self._run.id, encoding="utf-8")

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()
        self._end()  # its own process writes the last records
        for log in (self._folder / "wandb").rglob("debug*.log"):  # about itself, with paths of the machine
            log.unlink()


class _Trackio:
    """Trackio: a database on this machine (``TRACKIO_DIR``), shown by ``trackio show``."""

    def __init__(self, project: str, run: str, folder: Path, config: Mapping[str, Any], first_step: int) -> None:
        import trackio

        self._trackio: Any = trackio
        os.environ.setdefault("TRACKIO_SHOW_DASHBOARD", "0")
        trackio.init(project=project, name=run, config=dict(config), resume="allow" if first_step else "never")

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._trackio.log(dict(values), step=step)

    def close(self) -> None:
        self._trackio.finish()


_OPEN: dict[TrackerName, Callable[[str, str, Path, Mapping[str, Any], int], Tracker]] = {
    "tensorboard": _TensorBoard,
    "wandb": _Wandb,
    "trackio": _Trackio,
}


def evaluated(point: EvaluationPoint) -> dict[str, float]:
    """The rates of an evaluation under the names that trackers show; a rate without cases is left out."""
    return {
        f"evaluation/{kind}/{rate}": figures[rate]
        for kind, figures in point.kinds.items()
        for rate in RATES
        if figures.get(rate) is not None
    }


class TrackingCallback(TrainerCallback):
    """Sends the trainer's figures on, under steps that go on over the stages."""

    def __init__(self, trackers: Sequence[Tracker], offset: int) -> None:
        """Send to `trackers`.

        Args:
            trackers: Started ones.
            offset: Steps of the stages before.
        """
        self._trackers, self._offset = trackers, offset

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Take what the trainer logs; of validation it logs ``eval_loss``."""
        logs = logs or {}
        values = {f"train/{name}": float(value) for name, value in logs.items() if name in _TRAINING}
        if "eval_loss" in logs:
            values["validation/loss"] = float(logs["eval_loss"])
        if "train_runtime" not in logs:  # the last entry sums the run up
            self.send(values, state.global_step)

    def send(self, values: Mapping[str, float], step: int) -> None:
        """Send figures of a step of this stage."""
        for tracker in self._trackers if values else ():
            tracker.log(values, self._offset + step)
