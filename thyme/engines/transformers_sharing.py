"""Prompts that begin alike are read once: the first trajectory reads, the others copy what it has cached.

Eight answers to one question share its image and all of its prompt; any two trajectories share the system turn.

What is copied was made by the weights of its time: nothing made by old ones may be among the donors, so a change of
weights forgets all that is cached (`thyme.engines.transformers.TransformersEngine.weights_changed`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from thyme.engines.token_sequence import TokenSequence
from thyme.engines.transformers_cache import RowCache
from thyme.engines.transformers_rows import Row
from thyme.families import Family

_WORTH_SHARING = 64
"""Tokens from which on copying, and waiting for what is to be copied, beats reading."""


def start_from_others(cache: RowCache, wanted: TokenSequence, others: Iterable[RowCache], family: Family) -> None:
    """Give an empty cache the longest beginning that another one holds, where that is worth it.

    Args:
        cache: Empty.
        wanted: What its trajectory begins with.
        others: All that is cached.
        family: For positions.
    """
    donor, count = _best(wanted, others)
    if donor is not None:
        cache.take_over(donor, count, wanted, family)


def reads_the_same(wanted: TokenSequence, rows: Sequence[Row], cached: Iterable[RowCache]) -> bool:
    """Whether a row is reading what this sequence begins with, so that it can be copied in a moment.

    Args:
        wanted: Of a trajectory that nothing is cached for.
        rows: Those that hold a place.
        cached: Caches that lie idle.
    """
    room = len(wanted.ids) - 1
    coming = [(min(wanted.shared(row.job.sequence), room), len(row.cache)) for row in rows if not row.reading.done]
    most = max((count for count, held in coming if held < count), default=0)
    if most < _WORTH_SHARING:
        return False
    return most >= _best(wanted, [*(row.cache for row in rows), *cached])[1] + _WORTH_SHARING


def _best(wanted: TokenSequence, caches: Iterable[RowCache]) -> tuple[RowCache | None, int]:
    """The cache that holds the longest beginning worth sharing, and its length."""
    found: RowCache | None = None
    longest = _WORTH_SHARING - 1
    head = wanted.ids[:_WORTH_SHARING].tolist()
    for cache in caches:
        if len(cache) > longest and cache.ids[:_WORTH_SHARING] == head:
            count = cache.common(wanted)
            if count > longest:
                found, longest = cache, count
    return (found, longest) if found is not None else (None, 0)
