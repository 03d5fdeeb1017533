"""The pictures that records were made of, before they were turned or paled: are they a benchmark's?

Their pixels are not kept, but what they are known by is: the hash of their pixels in the record, the perceptual hash in
what is noted of the draw.
"""

from __future__ import annotations

from pathlib import Path

from thyme.data.drafts import Draft
from thyme.data.factory.folder import chunk_size
from thyme.data.factory.held_out import HeldOut
from thyme.data.factory.survey import read_survey
from thyme.data.hashes import Neighbours


class Origins:
    """Knows the pictures that are held out, and those of the draw."""

    def __init__(self, out: Path, held_out: HeldOut, bits: int | None) -> None:
        """Prepare.

        Args:
            out: Folder of the build.
            held_out: Pictures of benchmarks.
            bits: In which perceptual hashes of nearly equal pictures differ at most; None looks at pixels alone.
        """
        self._out, self._ids = out, held_out.ids
        self._near = None if bits is None or not held_out.hashes else Neighbours(bits, held_out.hashes)
        self._size = chunk_size(out)
        self._chunk, self._hashes = -1, dict[int, tuple[int, ...]]()

    def refuses(self, index: int, draft: Draft) -> str | None:
        """Why a record may not be used, in a sentence; None where it may.

        Args:
            index: Of the item in the draw; give them in order.
            draft: Of that item.
        """
        if any(image.id in self._ids for image in draft.origin.images):
            return "it was made of a picture of a benchmark"
        near = self._near
        if near is not None and any(near.find(value) is not None for value in self._noted(index)):
            return "it was made of nearly a picture of a benchmark"
        return None

    def _noted(self, index: int) -> tuple[int, ...]:
        """Perceptual hashes of an item's pictures; none where the build looked for no duplicates."""
        chunk = index // self._size
        if chunk != self._chunk:
            surveyed = read_survey(self._out, chunk) or ()  # without it, the pixels are compared in any case
            self._chunk, self._hashes = chunk, {one.index: one.hashes for one in surveyed}
        return self._hashes.get(index, ())
