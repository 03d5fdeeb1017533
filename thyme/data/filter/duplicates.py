"""Drop problems that ask the same of the same, or nearly the same, pictures as an earlier one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Final

from thyme.config.rl_filter import DuplicatesStep
from thyme.data.factory.duplicates import Duplicates
from thyme.data.factory.shuffle import number
from thyme.data.filter.records import Seen

STEP: Final = "duplicates"


def without_duplicates(rows: Iterable[Seen], settings: DuplicatesStep) -> Iterator[Seen]:
    """All rows, those dropped that an earlier one makes needless.

    Only rows that are still in count as earlier ones. What was seen lies in temporary files, not in memory.

    Args:
        rows: In order; those that were dropped go by.
        settings: What counts as the same.
    """
    with closing(Duplicates(0)) as same, closing(Duplicates(max(0, settings.bits))) as near:
        ids: dict[int, str] = {}
        for place, seen in enumerate(rows):
            if not seen.kept:
                yield seen
                continue
            reason, earlier = "duplicate", None
            if settings.exact:
                asked = _options(seen) if not seen.images else ""
                earlier = same.add(place, asked, seen.question, [number(*seen.images)] if seen.images else [])
            if earlier is None and settings.bits >= 0 and seen.images:
                reason = "near_duplicate"
                earlier = near.add(place, "", seen.question, [int(value, 16) for value in seen.hashes])
            if earlier is not None:
                yield seen.drop(STEP, reason, f"as {ids[earlier]}")
                continue
            ids[place] = seen.id
            yield seen


def _options(seen: Seen) -> str:
    """Options of a question, whatever their order, spaces and capitals: without a picture they say what is asked."""
    return "\x1f".join(sorted(" ".join(option.split()).casefold() for option in seen.choices))
