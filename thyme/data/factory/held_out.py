"""Pictures of benchmarks, which no record may hold: by their pixels, and by what they show."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from thyme.data.hashes import Neighbours, perceptual_hash
from thyme.types import ImageRecord


@dataclass(frozen=True)
class HeldOut:
    """Hashes of the pictures of benchmarks."""

    ids: frozenset[str] = frozenset()
    """Of their pixels; see `thyme.types.image_id`."""
    hashes: tuple[int, ...] = ()
    """Perceptual ones, in order; the same picture in another size or encoding is near to it. Empty: not looked at."""

    @classmethod
    def of(cls, images: Iterable[ImageRecord], *, perceptual: bool) -> HeldOut:
        """Hash pictures, one at a time.

        Args:
            images: With their pixels.
            perceptual: Whether nearly equal pictures are held out, too.

        Raises:
            MissingExtraError: The library for perceptual hashes is not installed.
        """
        ids: set[str] = set()
        hashes: set[int] = set()
        for image in images:
            if image.id not in ids and perceptual:
                hashes.add(perceptual_hash(image.image))
            ids.add(image.id)
        return cls(frozenset(ids), tuple(sorted(hashes)))


class Gate:
    """Knows the pictures that are held out."""

    def __init__(self, held_out: HeldOut, bits: int | None) -> None:
        """Prepare.

        Args:
            held_out: The pictures.
            bits: In which perceptual hashes of nearly equal pictures differ at most; None looks at pixels alone.
        """
        self._ids = held_out.ids
        self._near = None if bits is None or not held_out.hashes else Neighbours(bits, held_out.hashes)

    def refuses(self, images: Iterable[ImageRecord]) -> str | None:
        """Why pictures may not be used, in a sentence; None where they may."""
        for image in images:
            if image.id in self._ids:
                return "its picture is one of a benchmark's"
            if self._near is not None and self._near.find(perceptual_hash(image.image)) is not None:
                return "its picture is nearly one of a benchmark's"
        return None
