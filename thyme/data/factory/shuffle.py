"""A random order of any number of things, of which each place is found by itself, in no memory.

A Feistel network of four rounds permutes the numbers below the next power of four; one that falls beyond the end is
permuted again until it does not (cycle walking: Black and Rogaway, "Ciphers with arbitrary finite domains", 2002).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

_ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Shuffle:
    """The numbers from 0 to ``count - 1`` in the order of a seed."""

    count: int
    seed: str

    def __getitem__(self, place: int) -> int:
        """The number at a place.

        Raises:
            IndexError: There is no such place.
        """
        if not 0 <= place < self.count:
            raise IndexError(f"{place} is no place of {self.count}")
        half = max(1, ((self.count - 1).bit_length() + 1) // 2)
        value = place
        while True:
            value = self._permuted(value, half)
            if value < self.count:
                return value

    def _permuted(self, value: int, half: int) -> int:
        mask = (1 << half) - 1
        left, right = value >> half, value & mask
        for turn in range(_ROUNDS):
            left, right = right, left ^ (number(self.seed, turn, right) & mask)
        return left << half | right


def number(*parts: str | int) -> int:
    """64 random bits that are a function of these parts."""
    text = "\0".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
