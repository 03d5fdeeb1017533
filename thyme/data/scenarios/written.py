"""What a teacher wrote and what came back, as rules read it off a draft."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from thyme.data.drafts import Draft
from thyme.markup import ANSWER_OPEN, CODE_OPEN, IMAGE, THINK_CLOSE, THINK_OPEN, extract_answer
from thyme.rewards.answer import NUMBER, option
from thyme.types import Execution, Generated, Observation, Problem

_TAGS = re.compile("|".join(map(re.escape, (THINK_OPEN, THINK_CLOSE, IMAGE, CODE_OPEN))))
_PATH = re.compile(r"\S*(?:/\S+|\.(?:png|jpe?g|webp|bmp|gif|tiff?))\b", re.IGNORECASE)


def response(draft: Draft) -> str:
    """The whole assistant turn."""
    return "".join(segment.text for segment in draft.segments)


def answer_of(draft: Draft) -> str | None:
    """What was answered; None where nothing was."""
    return _answer(response(draft))


_answer = lru_cache(64)(extract_answer)  # rules ask for the same answer one after the other


def executions(draft: Draft) -> tuple[Execution, ...]:
    """What the blocks did, in order."""
    return tuple(segment.execution for segment in draft.segments if isinstance(segment, Observation))


def texts(draft: Draft) -> tuple[str, ...]:
    """What was thought before the first block, between blocks, and after the last one; one more than blocks."""
    pieces = [""]
    for segment in draft.segments:
        if isinstance(segment, Observation):
            pieces.append("")
        elif isinstance(segment, Generated) and segment.kind == "text":
            pieces[-1] += _TAGS.sub("", segment.text.partition(ANSWER_OPEN)[0])
    return tuple(piece.strip() for piece in pieces)


def code_of(execution: Execution) -> str:
    """The code that ran."""
    return execution.ran or execution.code


def printed(execution: Execution) -> str:
    """What a block printed, without paths of images."""
    return _PATH.sub(" ", execution.stdout).strip()


def numbers(text: str) -> list[float]:
    """Every number in a text."""
    return [float((sign + digits).replace(",", "").replace("−", "-")) for sign, digits in _parts(text)]


def _parts(text: str) -> Iterable[tuple[str, str]]:
    return ((match.group(1), match.group(2)) for match in NUMBER.finditer(text))


def in_a_row(asked: Sequence[str], spoken: Sequence[str]) -> bool:
    """Whether some words stand in a row among others."""
    return any(spoken[start : start + len(asked)] == asked for start in range(len(spoken) - len(asked) + 1))


def meant(problem: Problem, answer: str) -> str:
    """What an answer says: the text of the option where it names one."""
    index = option(problem, answer) if problem.choices else None
    return answer if index is None else problem.choices[index]
