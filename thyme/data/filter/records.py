"""What is known of a row that was looked at."""

from __future__ import annotations

from typing import Final

from thyme.types import ImageRecord, Record

READ: Final = "read"
"""The step that drops what is no problem at all."""


class Seen(Record):
    """A row, and what became of it; a line of JSON. Pictures are in the source."""

    source: str
    """Name in the recipe."""
    row: int
    """Place in the source, from 0."""
    id: str
    step: str = ""
    """That dropped it; empty where it is still in."""
    reason: str = ""
    """In one word; see `thyme.data.filter.meanings`."""
    detail: str = ""
    question: str = ""
    answer: str = ""
    choices: tuple[str, ...] = ()
    kind: str = ""
    """Category."""
    answer_type: str = ""
    language: str = ""
    """ISO 639-1 code; empty where it cannot be told."""
    sizes: tuple[tuple[int, int], ...] = ()
    """Width and height of each picture, pixels."""
    share: float | None = None
    """Of the first picture's area that the box takes."""
    images: tuple[str, ...] = ()
    """Ids of the pictures."""
    formats: tuple[str, ...] = ()
    """Of the pictures' files, as Pillow names them; empty for one that has to be decoded and written anew."""
    hashes: tuple[str, ...] = ()
    """Perceptual hashes of the pictures, hexadecimal; empty where nobody asks for them."""
    pass_rate: float | None = None
    """Share of right answers of the model that was asked."""

    @property
    def kept(self) -> bool:
        """Whether no step dropped it."""
        return not self.step

    def records(self) -> tuple[ImageRecord, ...]:
        """The pictures as records of their files; none where one has to be decoded to be written."""
        if len(self.formats) != len(self.images) or not all(self.formats):
            return ()
        told = zip(self.images, self.sizes, self.formats, strict=True)
        return tuple(
            ImageRecord(id=id, width=width, height=height, mode="RGB", format=format)
            for id, (width, height), format in told
        )

    def drop(self, step: str, reason: str, detail: str = "") -> Seen:
        """The same row, dropped."""
        return self.model_copy(update={"step": step, "reason": reason, "detail": detail})
