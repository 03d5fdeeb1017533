"""thyme-mini: a published set of 1200 problems of the embedded world, for any model.

Six kinds with 200 problems each, every one about a picture: what a look shows (``easy``), what may need a crop
(``medium``) or needs one (``zoom``), needs two (``two_round``), a turned scene (``rotation``), a nearly grey one
(``contrast``). The paper names the gap in its limitations: no benchmark tests rotation and contrast. Arithmetic, the
world's seventh kind, is left out because it has no picture.

The set is drawn, not downloaded: it is a function of `SEED`. Its checksum is one of contents (words, facts and decoded
pixels), so that it does not depend on how a library packs a PNG or a Parquet file.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from thyme.eval.benchmarks.base import Benchmark, Figures, Row
from thyme.eval.items import ItemResult
from thyme.nano.world import CHARACTERS, Kind
from thyme.nano.world import problems as draw
from thyme.types import ImageRecord, Problem, Score

NAME = "thyme-mini"
KINDS: tuple[Kind, ...] = ("easy", "medium", "zoom", "rotation", "contrast", "two_round")
PER_KIND = 200
"""Of the published set."""
ROWS = PER_KIND * len(KINDS)
SEED = 2508
"""Of the world's test split: ``thyme nano eval --seed 2508`` asks the same problems."""
VERSION = 1
"""Raised when a problem changes; scores of two versions cannot be compared."""

FACTS = ("boxes", "angle", "contrast", "large", "colors")
"""What `Problem.meta` holds: boxes of the plates asked for (left, top, right, bottom; pixels of the picture), by how
many degrees the scene was turned counter-clockwise (rotation), the share of the contrast that is left (contrast),
whether each plate is legible at 128 px, and the plates' colours, in the order of the question."""

_LABEL = re.compile(r"(?<![^\W_])[A-Z0-9]{2}(?![^\W_])")
_LABEL_IN_LOWER_CASE = re.compile(rf"(?<![^\W_])[{CHARACTERS}]{{2}}(?![^\W_])")


def problems(per_kind: int = PER_KIND) -> Iterator[Problem]:
    """The set, drawn when asked for; kinds alternate, so that any beginning of it holds all kinds.

    Args:
        per_kind: Problems of each kind; fewer than `PER_KIND` are the first of them.

    Returns:
        Problems with one picture of 1024 x 1024 px each, ``zoom-017`` among their ids.
    """
    for place, problem in enumerate(draw("test", SEED, per_kind, KINDS)):
        yield problem.model_copy(
            update={
                "id": problem_id(place),
                "meta": {name: problem.meta[name] for name in FACTS if name in problem.meta},
            }
        )


def problem_id(place: int) -> str:
    """Id of the problem at a place of the set, from 0."""
    return f"{KINDS[place % len(KINDS)]}-{place // len(KINDS):03}"


def first(count: int | None = None) -> Iterator[Problem]:
    """The first `count` problems of the set; None is all of them."""
    return islice(problems(), count)


def checksum(drawn: Iterable[Problem]) -> str:
    """Hash of words, facts and decoded pixels, in order; 32 hexadecimal digits. Needs no picture's file."""
    digest = hashlib.blake2b(digest_size=16)
    for problem in drawn:
        digest.update(_words(problem).encode())
        digest.update("".join(image.id for image in problem.images).encode())
    return digest.hexdigest()


def words_checksum(drawn: Iterable[Problem]) -> str:
    """The same without the pictures, to tell whether only the drawing differs."""
    return hashlib.blake2b("".join(map(_words, drawn)).encode(), digest_size=16).hexdigest()


def _words(problem: Problem) -> str:
    fields = [problem.id, problem.question, problem.answer, problem.kind, problem.meta]
    return json.dumps(fields, sort_keys=True, ensure_ascii=True) + "\n"


def to_problem(row: Row, images: tuple[ImageRecord, ...]) -> Problem:
    """A problem out of a row that `thyme.nano.mini_files` has written, whatever the layout."""
    facts = {name: _value(row[name]) for name in FACTS if not _missing(row.get(name))}
    return Problem(
        id=str(row["id"]),
        question=str(row["question"]),
        images=images,
        answer=str(row["answer"]),
        kind=str(row["category"]),
        meta=facts,
    )


def _missing(value: Any) -> bool:
    return value is None or value == "" or value != value  # the last: pandas' empty cell


def _value(value: Any) -> Any:
    """A cell of a TSV holds JSON."""
    return json.loads(value) if isinstance(value, str) else value


def labels(text: str) -> list[str]:
    """All labels that a text names, in order: two capitals or digits that stand alone, else the same in lower case."""
    return _LABEL.findall(text) or _LABEL_IN_LOWER_CASE.findall(text.upper())


def score(problem: Problem, answer: str | None) -> Score:
    """1 where the labels that the answer names are those asked for, in the order of the question, and no others.

    ``A3 F7``, ``a3, f7`` and ``The red plate says A3 and the blue one F7.`` are the same answer.
    """
    if answer is None:
        return Score(value=0.0, note="no answer")
    wanted, said = (problem.answer or "").split(), labels(answer)
    value = float(bool(said) and said == wanted * (len(said) // len(wanted)))
    return Score(value=value, parts={"labels": value}, note="labels")


def figures(items: Sequence[ItemResult]) -> Figures:
    """Accuracy over all, and by kind. What was not scored is left out; without cases None."""
    found: dict[str, float | None] = {"overall": _mean([item.score for item in items])}
    for kind in KINDS:
        found[kind] = _mean([item.score for item in items if item.kind == kind])
    return found


def _mean(scores: Sequence[float | None]) -> float | None:
    known = [score for score in scores if score is not None]
    return sum(known) / len(known) if known else None


BENCHMARK = Benchmark(
    name=NAME,
    title="thyme-mini: plates in drawn scenes",
    to_problem=to_problem,
    score=score,
    figures=figures,
    headline="overall",
    rows=ROWS,
    source=f"drawn by this package (`thyme nano mini`); version {VERSION}",
    notes="Made for small models: a large one reads a 1024 px picture whole, so that only rotation and contrast "
    "ask for code. The embedded model was trained on problems of the same world, never on these.",
)
