"""Problems as JSON lines, with images beside the file: what an evaluation asks, and what reinforcement trains on."""

from __future__ import annotations

import json
import os
from pathlib import Path

from pydantic import ValidationError

from thyme.config.training import DataSource
from thyme.errors import StoreError
from thyme.images import MAX_PIXELS, load_image
from thyme.types import Problem


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
