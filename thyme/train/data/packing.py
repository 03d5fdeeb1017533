"""Packing: samples put whole into rows that are nearly full, and the check that a model keeps them apart.

A packed row tells transformers of its samples by positions alone: each sample begins at 0 again and no attention mask
is given, from which the library makes a block-diagonal one. Where an attention does not, samples would silently see
each other; `check_packable` refuses those.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

import numpy as np

from thyme.config.sft import SFTSettings
from thyme.errors import ConfigError, UsageError
from thyme.train.data.sampling import Row

T = TypeVar("T")

ISOLATING: Final = frozenset({"sdpa", "eager", "flash_attention_2"})
"""Attentions that keep packed samples apart; `tests/train/test_packing.py` shows it for those that run on a CPU."""


def pack(lengths: Sequence[int], capacity: int, *, seed: int = 0) -> list[Row]:
    """Put samples into rows, best fit first: the longest sample goes where the least room is left.

    Args:
        lengths: Tokens of each sample.
        capacity: Tokens of a row at most.
        seed: Of the order among samples of equal length, and of the rows.

    Returns:
        Rows of sample numbers; every number is in exactly one.

    Raises:
        UsageError: A sample is longer than a row.
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    if len(sizes) and sizes.max() > capacity:
        raise UsageError(_too_long(int(sizes.argmax()), int(sizes.max()), capacity))
    draw = np.random.default_rng(seed)
    shuffled = draw.permutation(len(sizes))
    rows: list[list[int]] = []
    rooms: list[int] = []  # distinct rooms, ascending
    having: dict[int, list[int]] = {}  # rows by room
    for number in shuffled[np.argsort(-sizes[shuffled], kind="stable")].tolist():
        length = int(sizes[number])
        at = bisect_left(rooms, length)
        if at == len(rooms):
            row, room = len(rows), capacity
            rows.append([])
        else:
            room = rooms[at]
            row = having[room].pop()
            if not having[room]:
                del having[room], rooms[at]
        rows[row].append(number)
        if room - length not in having:
            insort(rooms, room - length)
        having.setdefault(room - length, []).append(row)
    return [tuple(rows[i]) for i in draw.permutation(len(rows))]


def pack_stream(samples: Iterable[T], length: Callable[[T], int], capacity: int) -> Iterator[list[T]]:
    """Put samples into rows in the order in which they come: a row ends where the next sample has no room.

    Args:
        samples: What comes.
        length: Gives the tokens of one.
        capacity: Tokens of a row at most.

    Raises:
        UsageError: A sample is longer than a row.
    """
    row: list[T] = []
    taken = 0
    for number, sample in enumerate(samples):
        size = length(sample)
        if size > capacity:
            raise UsageError(_too_long(number, size, capacity))
        if row and taken + size > capacity:
            yield row
            row, taken = [], 0
        row.append(sample)
        taken += size
    if row:
        yield row


def _too_long(number: int, length: int, capacity: int) -> str:
    return (
        f"sample {number} has {length} tokens and a packed row {capacity}: samples are never cut; "
        "raise packed_tokens, or lower the longest sample (max_tokens)"
    )


def check_packable(model: Any, settings: SFTSettings) -> None:
    """Make sure that packed samples will not see each other.

    Args:
        model: A transformers model with a language model inside.
        settings: Of the run.

    Raises:
        ConfigError: Its attention is not known to keep them apart, or it looks at more than attention does.
    """
    config = model.config.get_text_config()
    attention = config._attn_implementation
    if attention not in ISOLATING:
        raise ConfigError(
            f"packing needs an attention that keeps samples apart ({', '.join(sorted(ISOLATING))}), and the model runs "
            f"with '{attention}'; load it with one of those, or set packing = false"
        )
    if attention == "flash_attention_2" and settings.batch_size > 1:
        raise ConfigError("packing with flash_attention_2 needs batch_size = 1; give packed_tokens the size instead")
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if kinds:
        raise ConfigError(
            f"packing is not possible with layers of kind {', '.join(sorted(kinds))}: their state would run from one "
            "sample into the next; set packing = false"
        )
