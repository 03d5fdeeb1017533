"""A sandbox of ten lines and helpers, for the tests of the loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from PIL import Image

from thyme.types import Execution, ImageRecord, Problem

Answer = Execution | Exception | Callable[[str], Execution]


def picture(width: int = 8, height: int = 6) -> ImageRecord:
    return ImageRecord.of(Image.new("RGB", (width, height), (9, 9, 9)), name="a.png")


def problem(images: int = 1, question: str = "How many?", width: int = 8, height: int = 6) -> Problem:
    return Problem(id="p", question=question, images=(picture(width, height),) * images)


class FakeSandbox:
    """Answers every code block in turn with the next answer (the last one for ever); notes what happened."""

    isolation = "scripted"

    def __init__(self, *answers: Answer, opening: Exception | None = None, closing: Exception | None = None) -> None:
        self.answers = list(answers) or [lambda code: Execution(code=code, ran=code, stdout="ok\n")]
        self.opening, self.closing = opening, closing
        self.codes: list[str] = []
        self.opened: list[tuple[int, int]] = []
        """Number of images and seed of each session."""
        self.open_now = 0

    @asynccontextmanager
    async def session(self, images: Sequence[ImageRecord], seed: int = 0) -> AsyncIterator[FakeSandbox]:
        if self.opening:
            raise self.opening
        self.opened.append((len(images), seed))
        self.open_now += 1
        try:
            yield self
        finally:
            self.open_now -= 1
            if self.closing:
                raise self.closing

    async def run(self, code: str) -> Execution:
        answer = self.answers[min(len(self.codes), len(self.answers) - 1)]
        self.codes.append(code)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Execution) else answer(code)

    async def aclose(self) -> None:
        """Nothing to end."""
