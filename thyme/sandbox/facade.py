"""The sandbox for scripts and notebooks: no event loop to keep, file names or pictures as inputs.

::

    from thyme.sandbox import Sandbox

    with Sandbox() as sandbox, sandbox.session("street.jpg") as session:
        result = session.run("print(image_path)")

The asynchronous sandbox behind it lives in an event loop in a thread of its own, so that this works where a loop runs
already (Jupyter), and from many threads at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import weakref
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Any, Self, TypeAlias

import numpy as np
from PIL import Image
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from thyme.background import Background
from thyme.config.sandbox import ALL_REPAIRS, RepairName, SandboxConfig
from thyme.errors import ConfigError, SandboxError, UsageError
from thyme.images import ImageSource, to_record
from thyme.sandbox import base
from thyme.sandbox.broker import MOST_INPUTS, open_sandbox
from thyme.types import Execution, ImageRecord

logger = logging.getLogger(__name__)

Images: TypeAlias = ImageSource | Iterable[ImageSource]
"""One picture or several; see `thyme.images.to_record`."""

MAX_INPUT_PIXELS = 256_000_000
"""Largest input image, pixels: the 200 megapixels of a telephone's camera, and not much more."""

_ONE_PICTURE = (str, os.PathLike, bytes, bytearray, memoryview, Image.Image, np.ndarray, ImageRecord)
_PATIENCE_S = 10.0
"""Seconds a session is waited for before a line is logged."""


class Sandbox:
    """Runs code of a model's, or anybody's, in sessions that the kernel isolates.

    It starts when it is made and ends with its ``with`` block, with `close`, when it is forgotten, or with the program.
    Any thread may use it. It does not survive a fork: a child process opens its own.
    """

    def __init__(
        self,
        config: SandboxConfig | None = None,
        *,
        url: str | None = None,
        token: str | None = None,
        max_pixels: int = MAX_INPUT_PIXELS,
        **settings: Any,
    ) -> None:
        """Start a sandbox on this machine, or connect to one that ``thyme sandbox serve`` offers.

        Args:
            config: Isolation, limits, repairs; the default of each where there is none.
            url: ``http://HOST:PORT``, ``https://…`` or ``unix:/PATH`` of a server. Settings that are given are asked of
                it; the others are its own.
            token: What that server asks for; else the environment's THYME_SANDBOX_TOKEN.
            max_pixels: Largest input image, pixels.
            settings: Fields of `SandboxConfig`, in place of `config`: ``timeout_s=30``, ``repairs="none"``, …

        Raises:
            IsolationError: The level asked for is not to be had here; the message says what is missing.
            ConfigError: There is no such setting, or not with that value.
            UsageError: Arguments contradict each other.
            SandboxError: The server cannot be reached.
        """
        self._max_pixels = max_pixels
        if config is not None and settings:
            raise UsageError(f"give a SandboxConfig or settings ({', '.join(settings)}), not both")
        self._background = Background(opened(config or made_config(**settings), url, token), "sandbox", SandboxError)
        self._finalizer = weakref.finalize(self, self._background.end)

    @property
    def isolation(self) -> str:
        """Level in force: ``namespaces`` or ``landlock``."""
        return self._background.value.isolation

    def session(self, images: Images = (), seed: int = 0) -> SandboxSession:
        """Open a session: variables and files live on from one `SandboxSession.run` to the next.

        Args:
            images: No picture, one or several: paths, bytes, Pillow images, uint8 arrays of (height, width, 3),
                or records. The code finds the first at ``image_path``, all of them in ``image_paths``.
            seed: Seeds ``random``, ``numpy.random`` and OpenCV.

        Raises:
            ImageError: A picture cannot be used.
            SandboxError: The sandbox is closed, or failed.
        """
        records = read_images(images, self._max_pixels)
        self._background.require_open()
        return SandboxSession(self, self._background, self._background.value.session(records, seed))

    def run(self, code: str | bytes, images: Images = (), seed: int = 0) -> Execution:
        """Run one block in a session of its own; see `session` and `SandboxSession.run`."""
        with self.session(images, seed) as session:
            return session.run(code)

    def lent(self) -> base.Sandbox:
        """This sandbox as the contract that rollouts program against, for any event loop. It stays yours to close."""
        return _Lent(self, self._background)

    def close(self) -> None:
        """End every session and the processes behind them. To close twice is no error."""
        self._finalizer()

    def __enter__(self) -> Self:
        """The sandbox itself; it runs already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def __repr__(self) -> str:
        """Level, or that it is closed."""
        return f"<Sandbox {self.isolation if self._finalizer.alive else 'closed'}>"


class SandboxSession:
    """One interpreter. Made by `Sandbox.session`; ends with its ``with`` block, with `close`, or when it is forgotten.

    Blocks that several threads run in one session run one after the other.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        background: Background[base.Sandbox],
        context: AbstractAsyncContextManager[base.Session],
    ) -> None:
        """Wait until the session is there; use `Sandbox.session`."""
        self._sandbox = sandbox  # which would close if it were forgotten before its sessions
        self._background, self._held = background, background.hold(context)
        self._finalizer = weakref.finalize(self, self._held.let_go)
        try:
            self._session = self._opened()
        except BaseException:
            self._finalizer()
            raise

    def _opened(self) -> base.Session:
        try:
            return self._held.opened.result(_PATIENCE_S)
        except TimeoutError:
            if self._held.opened.done():
                raise
        logger.warning("still waiting for a session; are others open that could be closed?")
        return self._held.opened.result()

    def run(self, code: str | bytes) -> Execution:
        """Run one block of code.

        Args:
            code: Python source, with or without a Markdown fence; bytes are read as UTF-8.

        Returns:
            What it printed, the images it saved and named, its error if it failed, and what was repaired. Code that
            fails is a result; it raises nothing.

        Raises:
            UsageError: `code` is neither text nor UTF-8.
            SandboxError: The session is closed, or the sandbox failed.
        """
        text = code_text(code)
        if not self._finalizer.alive:
            raise SandboxError("the session is closed")
        return self._background.call(lambda: self._session.run(text))

    def close(self) -> None:
        """End the session. To close twice is no error."""
        if self._finalizer.detach():
            self._background.wait_closed(self._held)

    def __enter__(self) -> Self:
        """The session itself; it is open already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


class _Lent:
    """A sandbox of a thread of its own, to be awaited in another loop."""

    def __init__(self, sandbox: Sandbox, background: Background[base.Sandbox]) -> None:
        self._sandbox = sandbox  # which would close if it were forgotten
        self._background = background

    @property
    def isolation(self) -> str:
        return self._background.value.isolation

    @asynccontextmanager
    async def session(self, images: Sequence[ImageRecord], seed: int = 0) -> AsyncIterator[base.Session]:
        held = self._background.hold(self._background.value.session(images, seed))
        try:
            opened = await asyncio.shield(asyncio.wrap_future(held.opened))
            yield _LentSession(self._background, opened)
        finally:
            held.let_go()
            await asyncio.shield(asyncio.wrap_future(held.closed))

    async def aclose(self) -> None:
        """It was only lent."""


class _LentSession:
    """A session of such a sandbox."""

    def __init__(self, background: Background[base.Sandbox], session: base.Session) -> None:
        self._background, self._session = background, session

    async def run(self, code: str) -> Execution:
        return await asyncio.wrap_future(self._background.submit(lambda: self._session.run(code)))


def read_images(images: Images, max_pixels: int = MAX_INPUT_PIXELS) -> list[ImageRecord]:
    """Input images as records; see `Sandbox.session`.

    Raises:
        UsageError: There are more than a session takes.
        ImageError: One cannot be used.
    """
    pictures = list(_several(images))
    if len(pictures) > MOST_INPUTS:  # before any is decoded
        raise UsageError(f"{len(pictures)} input images; a session takes at most {MOST_INPUTS}")
    return [to_record(picture, max_pixels=max_pixels) for picture in pictures]


def _several(images: Images) -> Iterable[ImageSource]:
    """Pictures one by one; what shows no picture at all is left to `to_record` to refuse."""
    if isinstance(images, _ONE_PICTURE) or not isinstance(images, Iterable):
        return [images]
    return images


def code_text(code: str | bytes, name: str = "the code") -> str:
    """Code as text; a byte order mark is left out.

    Args:
        code: Text, or UTF-8.
        name: What an error calls it.

    Raises:
        UsageError: It is neither.
    """
    if isinstance(code, str):
        return code
    if not isinstance(code, bytes):
        raise UsageError(f"{name} is a {type(code).__name__}; give text")
    try:
        return code.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = error.start + (3 if code.startswith(b"\xef\xbb\xbf") else 0)
        raise UsageError(f"{name} is not UTF-8: byte {place} is {code[place]:#04x}") from None


def chosen_repairs(text: str) -> tuple[RepairName, ...]:
    """Names of repairs out of ``all``, ``none`` or a list with commas.

    Raises:
        UsageError: There is no such repair.
    """
    if text in {"all", "none"}:
        return ALL_REPAIRS if text == "all" else ()
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in ALL_REPAIRS]
    if unknown or not names:
        missing = f"there is no repair {', '.join(unknown)}" if unknown else "no repair is named"
        raise UsageError(f"{missing}; there are {', '.join(ALL_REPAIRS)}, all and none")
    return tuple(name for name in ALL_REPAIRS if name in names)


def made_config(**settings: Any) -> SandboxConfig:
    """A config of single settings, ``repairs`` also in words.

    Raises:
        ConfigError: There is no such setting, or not with that value.
        UsageError: There is no such repair.
    """
    if isinstance(repairs := settings.get("repairs"), str):
        settings |= {"repairs": chosen_repairs(repairs)}
    try:
        return SandboxConfig(**settings)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc'])) or 'all together'}: {_words(fault)}" for fault in error.errors()]
        raise ConfigError(f"settings of the sandbox: {'; '.join(faults)}") from None


def _words(fault: ErrorDetails) -> str:
    if fault["type"] == "extra_forbidden":
        return "there is no such setting"
    return fault["msg"].removeprefix("Value error, ")


def opened(config: SandboxConfig, url: str | None, token: str | None) -> AbstractAsyncContextManager[base.Sandbox]:
    """The asynchronous sandbox, here or on a server.

    Raises:
        UsageError: There is a token and no server.
    """
    if url is None:
        if token is not None:
            raise UsageError("a token belongs to a server; say which one (url= in Python, --url)")
        return open_sandbox(config)
    from thyme.sandbox.remote import open_remote  # not before it is asked for: it needs an HTTP client

    return open_remote(url, token, config=config)
