"""The contract of an adapter."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AsyncExitStack
from pathlib import Path
from typing import ClassVar

from PIL import Image

from sandbox_peers.work import Picture, Result, Snippet


class Session(ABC):
    """One trajectory at a peer."""

    @abstractmethod
    async def run(self, snippet: Snippet) -> Result:
        """Run a block; its text and its decoded picture are in hands when this returns."""

    @abstractmethod
    async def close(self) -> None:
        """End it."""


class Peer(ABC):
    """A way to run code. An asynchronous context: what is started once for all sessions lives in it."""

    name: ClassVar[str]
    """In the keys of the figures."""
    label: ClassVar[str]
    """In tables."""
    isolates: ClassVar[str]
    """From what, in a few words."""
    keeps_state: ClassVar[bool] = True
    """Whether variables live on; where not, each execution is a process of its own."""

    @classmethod
    def missing(cls) -> str:
        """What has to be installed first; empty if nothing."""
        return ""

    async def __aenter__(self) -> Peer:
        """Start what all sessions share; it goes into `_open`."""
        self._open = AsyncExitStack()
        return self

    async def __aexit__(self, *_: object) -> None:
        """End it."""
        await self._open.aclose()

    @abstractmethod
    async def start(self, picture: Picture) -> Session:
        """Begin a session with one input image."""

    def processes(self) -> set[int]:
        """Ids of the processes that its sessions are, as far as they have some between executions."""
        return set()


def read_picture(snippet: Snippet, folder: str) -> Image.Image | None:
    """The picture that a snippet left in a file, decoded."""
    if not snippet.output:
        return None
    with Image.open(Path(snippet.path(folder))) as picture:
        picture.load()
        return picture
