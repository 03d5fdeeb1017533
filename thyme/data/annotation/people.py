"""Names of people, and what stands for them where they are not told."""

from __future__ import annotations

from thyme.data.annotation.records import Annotation


class Pseudonyms:
    """Gives everybody a number in the order in which they come up."""

    def __init__(self, keep: bool = False) -> None:
        """Begin.

        Args:
            keep: Whether names stay as they are.
        """
        self._keep, self._numbers = keep, dict[str, str]()

    def name(self, person: str) -> str:
        """What stands for a person; nothing for nobody."""
        if self._keep or not person:
            return person
        return self._numbers.setdefault(person, f"person-{len(self._numbers) + 1}")

    def of(self, annotation: Annotation) -> Annotation:
        """An annotation with what stands for its people."""
        if self._keep:
            return annotation
        author = self.name(annotation.author)
        checks = tuple(check.model_copy(update={"person": self.name(check.person)}) for check in annotation.checks)
        return annotation.model_copy(update={"author": author, "checks": checks})
