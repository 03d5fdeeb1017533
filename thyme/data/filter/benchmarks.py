"""What models are measured on, as a filter needs it: hashes of pictures, and of questions without pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from thyme.data.factory.held_out import HeldOut
from thyme.data.factory.shuffle import number
from thyme.data.sources.lines import digest
from thyme.types import ImageRecord, Problem


@dataclass(frozen=True)
class Benchmarks:
    """Hashes of benchmarks; small enough to be sent to every process."""

    pictures: HeldOut = field(default_factory=HeldOut)
    questions: frozenset[int] = frozenset()
    """Of questions that are asked without a picture."""

    @classmethod
    def of(cls, problems: Iterable[Problem], *, perceptual: bool) -> Benchmarks:
        """Hash benchmarks, one problem in memory at a time.

        Args:
            problems: With their pixels.
            perceptual: Whether nearly equal pictures are looked for, too.

        Raises:
            MissingExtraError: The library for perceptual hashes is not installed.
        """
        questions: set[int] = set()

        def pictures() -> Iterable[ImageRecord]:
            for problem in problems:
                if not problem.images:
                    questions.add(question_hash(problem.question))
                yield from problem.images

        held = HeldOut.of(pictures(), perceptual=perceptual)
        return cls(held, frozenset(questions))

    @property
    def fingerprint(self) -> str:
        """Hash of all of it."""
        parts = (sorted(self.pictures.ids), self.pictures.hashes, sorted(self.questions))
        return digest([hashlib.blake2b(repr(part).encode(), digest_size=16).hexdigest() for part in parts])


def question_hash(question: str) -> int:
    """Hash of a question, whatever its spaces and capitals."""
    return number("question", " ".join(question.split()).casefold())
