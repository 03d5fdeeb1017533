"""What the search for duplicates knows of the items of a chunk: a JSON file, made before the chunk is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from thyme.data.factory.folder import DRAW, chunk_file
from thyme.store import write_text


@dataclass(frozen=True)
class Surveyed:
    """What is known of an item."""

    index: int
    scenario: str
    question: str
    hashes: tuple[int, ...]
    """Perceptual hashes of its pictures, in order."""


def read_survey(out: Path, chunk: int) -> list[Surveyed] | None:
    """What was found before; None where nothing was, or where it is damaged, and so is to be found again.

    Args:
        out: Folder of the build.
        chunk: Its number.
    """
    try:
        rows = json.loads(chunk_file(out, DRAW, chunk).read_bytes())
        return [Surveyed(r["index"], r["scenario"], r["question"], tuple(r["hashes"])) for r in rows]
    except (OSError, ValueError, LookupError, TypeError):
        return None


def write_survey(out: Path, chunk: int, found: Sequence[Surveyed]) -> None:
    """Put what was found in place, whole.

    Raises:
        StoreError: It cannot be written.
    """
    write_text(chunk_file(out, DRAW, chunk), json.dumps([asdict(one) for one in found]))
