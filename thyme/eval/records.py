"""Files of trajectories, to look things up in: an index in memory, records and images from the disk when wanted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from thyme.errors import StoreError
from thyme.eval.runner import score_trajectory
from thyme.markup import extract_answer
from thyme.store import load_image_of, read_line
from thyme.types import ImageRecord, Trajectory
from thyme.view import words

UNSCORED = "unscored"


@dataclass(frozen=True, slots=True)
class Entry:
    """A record in the index."""

    path: Path
    line: int
    """From 1."""
    offset: int
    """Where its line begins, bytes."""
    length: int
    question: str
    answer: str
    kind: str
    stop: str
    verdict: str
    """``right``, ``wrong``, ``failed`` or ``unscored``."""
    rounds: int
    """Code blocks that ran."""
    tools: bool
    """False: code was blocked."""
    text: str
    """All that a search looks at, in lower case."""

    @classmethod
    def of(cls, path: Path, line: int, offset: int, length: int, trajectory: Trajectory) -> Entry:
        """The entry of a record."""
        problem = trajectory.problem
        written = "".join(segment.text for segment in trajectory.generated)
        return cls(
            path,
            line,
            offset,
            length,
            problem.question,
            extract_answer(trajectory.response) or "",
            problem.kind,
            trajectory.stop.value,
            words.verdict(trajectory.stop, score_trajectory(trajectory)) or UNSCORED,
            len(trajectory.observations),
            trajectory.sampling.tools,
            "\n".join((trajectory.id, problem.question, problem.kind, written)).lower(),
        )


@dataclass(frozen=True, slots=True)
class Filter:
    """Which records are wanted; what is empty does not matter."""

    search: str = ""
    """Text that stands in id, question, kind or response, upper and lower case alike."""
    kind: str = ""
    stop: str = ""
    verdict: str = ""
    rounds: int | None = None

    def matches(self, entry: Entry) -> bool:
        """Whether a record is wanted."""
        return (
            self.kind in {"", entry.kind}
            and self.stop in {"", entry.stop}
            and self.verdict in {"", entry.verdict}
            and self.rounds in {None, entry.rounds}
            and self.search.lower() in entry.text
        )


@dataclass(slots=True)
class Records:
    """An index of files."""

    paths: Sequence[Path]
    entries: list[Entry] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    """What is wrong with lines that are no records, file and line named."""

    @classmethod
    def scan(cls, paths: Sequence[Path]) -> Records:
        """Read files once, from one end to the other.

        Raises:
            StoreError: A file cannot be read.
        """
        records = cls(paths)
        for path in paths:
            for line, offset, text in _lines(path):
                try:
                    trajectory = read_line(path, line, text)
                except StoreError as error:
                    records.damaged.append(str(error))
                    continue
                records.entries.append(Entry.of(path, line, offset, len(text), trajectory))
        return records

    def find(self, wanted: Filter) -> list[int]:
        """Places of the records that match, in order."""
        return [place for place, entry in enumerate(self.entries) if wanted.matches(entry)]

    def trajectory(self, place: int) -> Trajectory:
        """A record, without the pixels of its images.

        Raises:
            StoreError: The file has changed since it was scanned.
        """
        entry = self.entries[place]
        try:
            with entry.path.open("rb") as file:
                file.seek(entry.offset)
                text = file.read(entry.length)
        except OSError as error:
            raise StoreError(f"{entry.path} cannot be read any more ({error.strerror}); start again") from error
        return read_line(entry.path, entry.line, text)

    def image(self, place: int, id: str) -> ImageRecord | None:
        """An image of a record, with its pixels; None where the record has no such image.

        Raises:
            StoreError: Its file is missing, or not what was stored.
        """
        trajectory = self.trajectory(place)
        made = (image for observation in trajectory.observations for image in observation.execution.images)
        for record in (*trajectory.problem.images, *made):
            if record.id == id:
                return load_image_of(self.entries[place].path, record)
        return None


def _lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Number, offset and bytes of the lines that are not empty."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror}); name a trajectory file (.jsonl)") from error
    with file:
        offset = 0
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, offset, line
            offset += len(line)
