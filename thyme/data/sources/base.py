"""What a source of problems is: rows by place, with pixels, or as cheap facts.

Rows become problems whose `Problem.meta` may hold ``box`` (left, top, right, bottom in pixels of the first image, as it
stands upright) and ``boxes`` (all of them), as everywhere in this package.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from thyme.types import Problem


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a row without decoding a pixel; enough to say which scenarios it can serve."""

    images: int = 0
    """How many it names."""
    answer: bool = False
    """Whether there is a reference."""
    box: bool = False
    """Whether it says where in the picture the answer is to be seen."""
    kind: str = ""
    """Category, e.g. ``ocr``; empty when there is none."""

    def meets(self, needs: frozenset[str]) -> bool:
        """Whether a row has what `thyme.data.scenarios.base.Scenario.needs` names.

        Raises:
            ValueError: A need that nobody knows.
        """
        if unknown := needs - NEEDS:
            raise ValueError(f"no such need: {', '.join(sorted(unknown))}; known are {', '.join(sorted(NEEDS))}")
        has = {"image": self.images > 0, "answer": self.answer, "box": self.box, "text_only": self.images == 0}
        return all(has[need] for need in needs)


NEEDS = frozenset({"image", "answer", "box", "text_only"})
"""What a scenario may ask of a row; ``text_only`` excludes images."""


@runtime_checkable
class Source(Protocol):
    """Rows by place; the same rows at the same places whenever it is opened. May be sent to other processes.

    Reading is safe in several threads.
    """

    @property
    def name(self) -> str:
        """Its name in the recipe."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of what is read (names, sizes and times of files), not of where it lies."""
        ...

    def __len__(self) -> int:
        """Number of rows."""
        ...

    def facts(self, index: int) -> Facts:
        """What is known of a row without its pixels.

        Raises:
            IndexError: There is no such row.
            EncodeError: The row cannot be used; `reason` says why, in one word.
            StoreError: The file is damaged or has changed.
        """
        ...

    def problem(self, index: int) -> Problem:
        """A row, its images with their pixels. Its id says the source and the row, and nothing of the answer.

        Raises:
            IndexError: There is no such row.
            EncodeError: The row cannot be used; `reason` says why, in one word.
            StoreError: The file is damaged or has changed.
        """
        ...
