"""The contract of a sandbox: what the agent, the data stages and the server program against.

The code's failure is a result (`Execution.error`); only a failure of the sandbox itself raises.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, runtime_checkable

from thyme.types import Execution, ImageRecord


@runtime_checkable
class Session(Protocol):
    """One trajectory's interpreter: variables live on from one `run` to the next."""

    async def run(self, code: str) -> Execution:
        """Run one code block.

        Args:
            code: Python source as the model wrote it, with or without a Markdown fence.

        Returns:
            What it printed, the images it saved and named, its error if it failed, and what was repaired.

        Raises:
            SandboxError: The sandbox failed, not the code.
        """
        ...


@runtime_checkable
class Sandbox(Protocol):
    """Hands out sessions."""

    @property
    def isolation(self) -> str:
        """Level in force: ``namespaces``, ``landlock``, or ``scripted`` for the fake."""
        ...

    def session(self, images: Sequence[ImageRecord], seed: int = 0) -> AbstractAsyncContextManager[Session]:
        """Open a session whose inputs are `images`; it dies with the context.

        Args:
            images: The problem's images, shown to the code as ``/mnt/data/input/image_1.EXT`` and so on.
            seed: Seeds ``random`` and ``numpy.random`` of the session.
        """
        ...

    async def aclose(self) -> None:
        """End every session and the processes behind them."""
        ...
