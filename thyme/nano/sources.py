"""The embedded world as a source of samples, and of problems to evaluate on; ``format = "nano"`` in a recipe.

What is drawn is written down once, a line each, and a run that was interrupted goes on drawing where it stopped. Row i
is a function of seed and i alone, so that a source with a higher limit begins with the rows of one with a lower limit.
"""

from __future__ import annotations

import asyncio
import base64
import fcntl
import io
import json
import os
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, cast, get_args

from PIL import Image

from thyme.config.training import DataSource
from thyme.data.sources.lines import digest
from thyme.errors import ConfigError
from thyme.nano.perception.questions import turns
from thyme.nano.perception.views import ViewKind, draw_views
from thyme.nano.teacher import Taught, compact, demonstrations, plan
from thyme.nano.tuning import SHARES
from thyme.nano.undecided import UNDECIDED
from thyme.nano.world import KINDS, Kind, Split, problem, stream
from thyme.prompts import PromptSet
from thyme.sandbox import open_sandbox
from thyme.store import append_trajectory, load_images, read_line
from thyme.train.encode import Dialogue
from thyme.types import ImageRecord, Problem, Trajectory

NANO = "nano"
PERCEPTION = "perception"
"""Subset of plain questions under the base's own prompt, which keep what it can read at a glance."""
TAUGHT = {taught.name: taught for taught in (Taught("", plan, SHARES), UNDECIDED)}
"""Sets of demonstrations by the word that asks for them, before the kinds in a subset; none: the teacher's own."""
DEFAULT_LIMIT = 1000
"""Rows that are drawn where a source names no limit."""
DEFAULT_PROBLEMS = 70
"""Problems to evaluate on where a source names no limit: ten of each kind."""

Report = Callable[[str], None]

_KEPT: dict[ViewKind, float] = {
    "large": 0.73,
    "mixed": 1.0,
    "small": 0.39,
    "crop": 0.18,
    "enhanced": 0.79,
    "turned": 0.23,
    "faint": 0.16,
}
"""Chance that a drawn view is asked about: what brings the kinds to the shares of `thyme.nano.tuning.REPLAYED`."""
_REPORTED = 200
"""Rows between two lines that say how far drawing is."""


class DrawnRows(ABC):
    """Rows that are drawn when they are first asked for, and lie in a file from then on."""

    def __init__(self, path: Path, count: int, what: Iterable[object]) -> None:
        self.path, self._count = path, count
        self._offsets: list[int] = []
        self.fingerprint = digest([type(self).__name__, count, *what])
        """Hash of what decides about the rows."""

    def __len__(self) -> int:
        """Rows, drawn or not."""
        return self._count

    def __iter__(self) -> Iterator[Any]:
        """All rows in order."""
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Any:
        """A row."""
        return self._read(index, self._line(index))

    def _line(self, index: int) -> bytes:
        """Line of a row, after drawing what is missing."""
        if not 0 <= index < len(self):
            raise IndexError(f"there are {len(self)} rows, none with the index {index}")
        if len(self._offsets) < len(self):
            self._prepare()
        with self.path.open("rb") as file:
            file.seek(self._offsets[index])
            return file.readline()

    def _prepare(self) -> None:
        """Draw what is missing; of several processes one does it, and the others wait."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(self.path.with_suffix(".lock")):
            missing = range(len(_whole_lines(self.path)), len(self))
            if missing:
                self._draw(missing)
        self._offsets = _whole_lines(self.path)

    @abstractmethod
    def _draw(self, indices: range) -> None:
        """Append these rows to the file."""

    @abstractmethod
    def _read(self, index: int, line: bytes) -> Any:
        """Make a row of its line."""


class Demonstrations(DrawnRows):
    """Problems that the teacher solves with code that runs in the sandbox; images as large as they are seen."""

    def __init__(
        self,
        path: Path,
        count: int,
        kinds: Sequence[Kind],
        seed: int,
        prompts: PromptSet,
        tell: Report,
        taught: Taught = TAUGHT[""],
    ) -> None:
        super().__init__(path, count, [seed, kinds, prompts.fingerprint, *filter(None, [taught.name])])
        self._kinds, self._seed, self._prompts, self._tell = tuple(kinds), seed, prompts, tell
        self._taught = taught

    def _draw(self, indices: range) -> None:
        asyncio.run(self._demonstrate(indices))

    async def _demonstrate(self, indices: range) -> None:
        shares, planned = self._taught.shares, self._taught.planned
        problems = (drawn_problem(self._seed, index, self._kinds, shares) for index in indices)
        async with open_sandbox() as sandbox:
            done = indices.start
            async for trajectory in demonstrations(problems, sandbox, self._prompts, planned=planned):
                append_trajectory(self.path, compact(trajectory))
                done += 1
                if done % _REPORTED == 0:
                    self._tell(f"{done} of {indices.stop} demonstrations")

    def _read(self, index: int, line: bytes) -> Trajectory:
        return load_images(self.path, self._record(index, line))

    def _record(self, index: int, line: bytes) -> Trajectory:
        return read_line(self.path, index + 1, line)

    def peek(self, index: int) -> Trajectory:
        """A row without its pixels."""
        return self._record(index, self._line(index))


class Perception(DrawnRows):
    """Plain questions about views, as in the base's own training."""

    def __init__(self, path: Path, count: int, seed: int, system: str, tell: Report) -> None:
        super().__init__(path, count, [seed, system])
        self._seed, self._system, self._tell = seed, system, tell

    def _draw(self, indices: range) -> None:
        with self.path.open("ab") as file:
            for done, line in enumerate(islice(self._lines(), indices.start, indices.stop), start=indices.start + 1):
                file.write(line)
                if done % _REPORTED == 0:
                    self._tell(f"{done} of {indices.stop} questions")

    def _lines(self) -> Iterator[bytes]:
        rng = random.Random(f"thyme.nano/perception/{self._seed}")
        scene = 0
        while True:
            for pixels, _, view in draw_views(stream("train", self._seed, scene, PERCEPTION)):
                # Drawn before it is known whether they are kept, so that every row stays what it is.
                kept, asked = rng.random() < _KEPT[view.kind], random.Random(rng.getrandbits(64))
                if kept:
                    said = turns(asked, view, "mixture", 1 if view.kind == "crop" else 3)
                    yield json.dumps({"turns": said, "png": _as_png(pixels)}).encode() + b"\n"
            scene += 1

    def _read(self, index: int, line: bytes) -> Dialogue:
        row = json.loads(line)
        image = Image.open(io.BytesIO(base64.b64decode(row["png"])))
        (question, answer), *rest = row["turns"]
        said = ((f"<image>\n{question}", answer), *((asked, told) for asked, told in rest))
        return Dialogue(said, (ImageRecord.of(image.convert("RGB")),), self._system)


@dataclass(frozen=True)
class DrawnProblems(Sequence[Problem]):
    """Problems that are drawn each time they are asked for: a thousand scenes would not fit into a laptop's memory."""

    split: Split
    seed: int
    kinds: tuple[Kind, ...]
    size: int

    def __len__(self) -> int:
        """Problems, of all kinds together."""
        return self.size

    def __getitem__(self, index: Any) -> Any:
        """A problem, or several; kinds alternate."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self.size))]
        if not -self.size <= index < self.size:
            raise IndexError(index)
        place, kind = divmod(index % self.size, len(self.kinds))
        return problem(self.split, self.seed, place, self.kinds[kind])


def nano_readers(cache: Path, base: Path, prompts: PromptSet, tell: Report) -> dict[str, Callable[[DataSource], Any]]:
    """The reader of samples for `thyme.train.data.sources`.

    Args:
        cache: Folder for what is drawn.
        base: Checkpoint whose own prompt stands in replayed perception.
        prompts: Those that demonstrations are asked with.
        tell: Called with a line now and then while rows are drawn.
    """
    return {NANO: partial(open_rows, cache=cache, base=base, prompts=prompts, tell=tell)}


def open_rows(source: DataSource, *, cache: Path, base: Path, prompts: PromptSet, tell: Report) -> DrawnRows:
    """Rows of a source; nothing is drawn before one is asked for.

    Args:
        source: ``subset`` names kinds, or ``perception``; empty: all kinds, as often as the shipped weights saw them.
            ``undecided``, alone or before kinds: demonstrations of `thyme.nano.undecided`.
        cache: Folder for what is drawn.
        base: See `nano_readers`.
        prompts: See `nano_readers`.
        tell: See `nano_readers`.

    Raises:
        ConfigError: There is no such kind, or the split is not that of training.
    """
    if source.split != "train":
        raise ConfigError(f"samples of nano are of the split 'train', not '{source.split}'; the others are to evaluate")
    count = source.limit or DEFAULT_LIMIT
    if source.subset == PERCEPTION:
        folder = base / "prompts"
        system = PromptSet.load(folder if folder.is_dir() else None).system
        return Perception(cache / f"{PERCEPTION}-{source.seed}.jsonl", count, source.seed, system, tell)
    first, _, others = source.subset.partition(",")
    taught = TAUGHT.get(first.strip(), TAUGHT[""])
    kinds = _kinds(others if taught.name else source.subset)
    name = "-".join(filter(None, [taught.name, "all" if kinds == KINDS else "-".join(kinds)]))
    path = cache / f"demonstrations-{source.seed}-{name}-{prompts.fingerprint[:8]}" / "rows.jsonl"
    return Demonstrations(path, count, kinds, source.seed, prompts, tell, taught)


def nano_problems(source: DataSource) -> DrawnProblems:
    """Problems to evaluate on.

    Args:
        source: ``subset`` names kinds, empty: all; ``split`` is ``validation`` or ``test``; ``limit`` counts all kinds.

    Raises:
        ConfigError: There is no such kind or split, or the split is that of training.
    """
    if source.split not in {"validation", "test"}:
        raise ConfigError(
            f'problems of nano\'s split \'{source.split}\' are no measure; write split = "validation" or "test"'
        )
    return DrawnProblems(
        cast(Split, source.split), source.seed, _kinds(source.subset), source.limit or DEFAULT_PROBLEMS
    )


def drawn_problem(seed: int, index: int, kinds: Sequence[Kind], shares: Mapping[Kind, int] = SHARES) -> Problem:
    """Problem `index` of the demonstrations of these kinds; kinds come in these shares."""
    rng = random.Random(f"thyme.nano/source/{seed}/{index}")
    kind = rng.choices(kinds, [shares[kind] for kind in kinds])[0]
    return problem("train", seed, index, kind)


def _kinds(subset: str) -> tuple[Kind, ...]:
    named = [name.strip() for name in subset.split(",") if name.strip()]
    unknown = sorted(set(named) - set(get_args(Kind)))
    if unknown:
        known = ", ".join((*KINDS, PERCEPTION))
        raise ConfigError(
            f"nano has no kind '{unknown[0]}'; its kinds are {known} (the last one alone); "
            f"'{UNDECIDED.name}' may stand before them"
        )
    return tuple(kind for kind in KINDS if not named or kind in named)


def _whole_lines(path: Path) -> list[int]:
    """Where the lines of a file begin; one that an interrupted run left unfinished is taken off."""
    offsets, end = [], 0
    try:
        with path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    offsets.append(end)
                    end += len(line)
    except FileNotFoundError:
        return []
    if end < path.stat().st_size:
        os.truncate(path, end)
    return offsets


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock among the processes of this machine."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _as_png(pixels: Iterable[Any]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)  # type: ignore[arg-type]  # an array of bytes
    return base64.b64encode(buffer.getvalue()).decode()
