"""Repairs at run time, in place from the start: each does exactly what the original does where nothing goes wrong."""

from __future__ import annotations

import builtins
import io
from types import CodeType
from typing import Any

from . import boxes, explain, names, pixels, removed, slices, whole, windows
from .callers import is_caught
from .paths import Paths, hook_os


class Hooks:
    """The repairs of one session."""

    def __init__(self, paths: Paths) -> None:
        """Put all that are on in place. Call once, in the forked process."""
        self._paths = paths
        hook_os(paths)
        _hook_open(paths)
        _hook_fonts(paths)
        boxes.install(paths)
        slices.install(paths)
        whole.install(paths)
        pixels.install(paths)
        removed.install(paths)
        names.install(paths)
        self._screen = windows.install(paths)

    def prepare(self, code: str, filename: str, namespace: dict[str, Any]) -> CodeType:
        """Compile a block, and make what it expects available; it runs in `namespace` right away.

        Raises:
            SyntaxError: And whatever else `compile` raises.
        """
        compiled = slices.compile_block(code, filename, self._paths)
        names.arm(compiled, namespace, self._paths, self._screen)
        return compiled

    def finish(self) -> list[str]:
        """End a block; virtual paths of the pictures it showed and did not save."""
        return self._screen.finish()

    def explain(self, error: BaseException, message: str, source: str, namespace: dict[str, Any]) -> str:
        """The message of an error as the model is to read it; see `explain.explain`."""
        return explain.explain(error, message, source, namespace, self._paths)


def _hook_open(paths: Paths) -> None:
    original = builtins.open

    def open(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        writes = isinstance(mode, str) and any(letter in mode for letter in "wxa+")
        return original((paths.write if writes else paths.read)(file), mode, *args, **kwargs)

    open.__doc__ = original.__doc__
    builtins.open = open
    io.open = open


def _hook_fonts(paths: Paths) -> None:
    """Take Pillow's own font for one that is not there, where nothing would catch the error."""
    if "input_path" not in paths.enabled:
        return
    from PIL import ImageFont

    original = ImageFont.truetype

    def truetype(font: Any = None, size: float = 10, *args: Any, **options: Any) -> Any:
        try:
            return original(font, size, *args, **options)
        except OSError:
            if is_caught() or not isinstance(font, str):
                raise
        paths.note("input_path", f"there is no font {font[:100]}; used Pillow's own")
        return ImageFont.load_default(size)

    truetype.__doc__ = original.__doc__
    ImageFont.truetype = truetype
