"""Which pictures show the same: by perceptual hash, 64 bits, and how many of them differ.

The hash is that of the library `imagehash` (``phash``: signs of the lowest frequencies of a 32 x 32 thumbnail); it
lives through another size, another encoding and small changes of light, not through turning and cropping.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise

from PIL import Image

from thyme.errors import MissingExtraError

BITS = 64
"""Of a hash."""


def perceptual_hash(image: Image.Image) -> int:
    """Hash of what a picture shows.

    Args:
        image: A loaded picture of any mode.

    Returns:
        64 bits as a number.

    Raises:
        MissingExtraError: `imagehash` is not installed.
    """
    try:
        import imagehash
    except ImportError as error:
        raise MissingExtraError("comparing pictures by what they show", "data") from error
    return int(str(imagehash.phash(image)), 16)


def distance(one: int, other: int) -> int:
    """Bits in which two hashes differ."""
    return (one ^ other).bit_count()


def pieces(bits: int) -> list[tuple[int, int]]:
    """How to cut a hash so that two that differ in at most so many bits are equal in a piece: into one piece more.

    Args:
        bits: 0 to 64. Of 65 pieces one is empty, and all hashes are equal in it.

    Returns:
        Of each piece, its lowest bit and a mask for what is left when the hash was shifted down by that.
    """
    if not 0 <= bits <= BITS:
        raise ValueError(f"hashes have {BITS} bits, so that at most so many can differ, not {bits}")
    edges = [BITS * place // (bits + 1) for place in range(bits + 2)]
    return [(low, (1 << (high - low)) - 1) for low, high in pairwise(edges)]


class Neighbours:
    """Hashes that were seen, of which the near ones are found without looking at all of them.

    Only those that share one of the `pieces` are compared: with 4 bits and a million pictures some hundred, not a
    million.
    """

    def __init__(self, bits: int, hashes: Iterable[int] = ()) -> None:
        """Begin with some hashes.

        Args:
            bits: Places in which near ones differ at most, 0 to 64.
            hashes: Seen before.
        """
        self.bits = bits
        self._pieces = pieces(bits)
        self._buckets: list[defaultdict[int, array[int]]] = [defaultdict(_places) for _ in self._pieces]
        self._hashes = array("Q")
        for value in hashes:
            self.add(value)

    def __len__(self) -> int:
        """Number of hashes."""
        return len(self._hashes)

    def find(self, value: int) -> int | None:
        """Place, in order of adding, of the first hash that is near; None where none is."""
        near = (
            place
            for (shift, mask), bucket in zip(self._pieces, self._buckets, strict=True)
            for place in bucket.get(value >> shift & mask, ())
            if distance(self._hashes[place], value) <= self.bits
        )
        return min(near, default=None)

    def add(self, value: int) -> int:
        """Take a hash in; gives its place."""
        place = len(self._hashes)
        self._hashes.append(value)
        for (shift, mask), bucket in zip(self._pieces, self._buckets, strict=True):
            bucket[value >> shift & mask].append(place)
        return place


def _places() -> array[int]:
    return array("I")
