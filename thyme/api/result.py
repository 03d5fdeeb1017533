"""What came of a question."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from thyme import errors
from thyme.errors import EngineError, SandboxError, ThymeError, UsageError
from thyme.markup import extract_answer
from thyme.store import write_trajectories
from thyme.types import RolloutFailure, StopReason, Trajectory
from thyme.view.html import render_page
from thyme.view.terminal import TrajectoryPrinter

TRAJECTORY_FILE = "trajectory.jsonl"
PAGE_FILE = "page.html"


@dataclass(frozen=True, slots=True, repr=False)
class Result:
    """An answer, and how the model came to it. A notebook shows it as a page."""

    trajectory: Trajectory
    """The whole record."""

    @property
    def answer(self) -> str | None:
        """Text of the answer; None where the model gave none (`stop` says why)."""
        return extract_answer(self.trajectory.response)

    @property
    def stop(self) -> StopReason:
        """Why it ended; ``answer`` if all went well."""
        return self.trajectory.stop

    @property
    def text(self) -> str:
        """All that the model wrote, and what it read of its code's output; ``<image>`` stands for each image."""
        return self.trajectory.response

    @property
    def code(self) -> tuple[str, ...]:
        """The blocks that ran, as the model wrote them."""
        return tuple(observation.execution.code for observation in self.trajectory.observations)

    @property
    def images(self) -> tuple[Image.Image, ...]:
        """The pictures that its code made, in order."""
        executions = [observation.execution for observation in self.trajectory.observations]
        return tuple(image.image for execution in executions for image in execution.images)

    def page(self) -> str:
        """One HTML page that needs nothing beside it."""
        return render_page([self.trajectory], self.trajectory.problem.question)

    def save(self, folder: str | Path) -> Path:
        """Write the record, its images and its page, in place of older ones.

        Args:
            folder: Made if need be; ``trajectory.jsonl``, ``images/`` and ``page.html`` go there.

        Returns:
            The folder.

        Raises:
            UsageError: It cannot be written.
        """
        where = Path(folder)
        try:
            where.mkdir(parents=True, exist_ok=True)
            write_trajectories(where / TRAJECTORY_FILE, [self.trajectory])
            (where / PAGE_FILE).write_text(self.page(), encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{where} cannot be written ({error.strerror}); name another folder") from error
        return where

    def show(self) -> None:
        """Print the transcript, as ``thyme ask`` does."""
        TrajectoryPrinter().trajectory(self.trajectory)

    def _repr_html_(self) -> str:
        """The page in a frame without rights: what a model or its code wrote cannot act in the notebook."""
        return (
            f'<iframe srcdoc="{html.escape(self.page())}" sandbox="" title="trajectory" '
            'style="width:100%;height:40em;border:1px solid #8884;resize:vertical"></iframe>'
        )

    def __str__(self) -> str:
        """The answer; empty where there is none."""
        return self.answer or ""

    def __repr__(self) -> str:
        """Answer, end and number of code blocks."""
        blocks = len(self.code)
        return f"<Result {self.answer!r}, stop={self.stop.value}, {blocks} code block{'' if blocks == 1 else 's'}>"


def failure_error(failure: RolloutFailure) -> ThymeError:
    """The exception that a recorded failure stands for: of the class it had, if that takes a message alone."""
    kind = getattr(errors, failure.type, None)
    message = f"the {failure.where} failed: {failure.message}"
    if isinstance(kind, type) and issubclass(kind, ThymeError) and kind is not errors.MissingExtraError:
        return kind(message)
    return SandboxError(message) if failure.where == "sandbox" else EngineError(message)
