"""The checker of the data factory in the embedded world: judges by what the pictures show, and errs at known rates."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from thyme.nano.factory.plans import NotOurProblemError
from thyme.nano.factory.reader import Sight, asked_colors, true_answer
from thyme.nano.world import CHARACTERS, COLORS
from thyme.rewards.answer import score_answer
from thyme.types import Problem

Slip = Literal["", "miss", "alarm", "garbled"]
"""What the checker does wrong: ``miss`` lets pass what does not fit, ``alarm`` refuses what fits, ``garbled`` does not
reply in the form asked for the first time."""

_SEEN = re.compile(rf"\bsee ({'|'.join(COLORS)}) ([{CHARACTERS}]{{2}})\b")
_NUMBERED = re.compile(r" \(image \d+\)")


@dataclass(frozen=True)
class Slips:
    """How often the checker errs; shares of what it is asked."""

    miss: float = 0.1
    """Of what does not fit."""
    alarm: float = 0.01
    """Of what fits."""
    garbled: float = 0.02


@dataclass(frozen=True)
class Judged:
    """What the checker replies, and what it knows."""

    reply: str
    true: bool
    """Whether the record really fits."""
    needed: bool
    slip: Slip


def judge(text: str, sight: Sight | None, slips: Slips, rng: random.Random, *, again: bool) -> Judged:
    """Judge a record.

    Args:
        text: Of the request: the record as one JSON object, with the names of images behind it.
        sight: What the picture of the question shows; None where there is none.
        slips: How often it errs.
        rng: Decides whether it does; a function of the record.
        again: Whether it is asked once more, after a reply of no use.

    Raises:
        NotOurProblemError: The request is not of the form of the data factory's check.
    """
    try:
        record: Mapping[str, Any] = json.JSONDecoder().raw_decode(text.lstrip())[0]
        question = _NUMBERED.sub("", record["question"])
        said = "\n".join(step["text"] for step in record["steps"] if "text" in step)
        answer = record["answer"]
    except (ValueError, LookupError, TypeError) as error:
        raise NotOurProblemError("this checker knows the data factory's requests only") from error
    fault = what_is_wrong(question, said, answer, sight)
    needed = code_is_needed(question, sight)
    garbled, draw = rng.random() < slips.garbled, rng.random()
    if garbled and not again:
        return Judged("I would say that this is fine.", fault is None, needed, "garbled")
    slip: Slip = ""
    if draw < (slips.alarm if fault is None else slips.miss):
        slip = "alarm" if fault is None else "miss"
    fits = (fault is None) != bool(slip)
    reason = fault or ("it is as it is said" if fits else "the picture seems to show something else")
    return Judged(json.dumps({"reason": reason, "fits": int(fits), "needed": int(needed)}), fault is None, needed, slip)


def what_is_wrong(question: str, said: str, answer: str, sight: Sight | None) -> str | None:
    """What does not fit, in a sentence; None where all is true."""
    if sight is not None:
        for color, label in _SEEN.findall(said):
            plate = sight.plates.get(color)
            if plate is None or plate.label != label:
                return f"no {color} plate says {label}"
    truth = true_answer(question, sight)
    if truth is None:
        return "the picture does not show what is asked for"
    right = score_answer(Problem(id="", question=question, answer=truth), answer).value == 1.0
    return None if right else f"the answer is not {answer}"


def code_is_needed(question: str, sight: Sight | None) -> bool:
    """Whether the answer cannot be had at sight: something is calculated, measured, small, turned or nearly grey."""
    if sight is None or question.startswith("How wide") or sight.angle or sight.contrast < 0.5:
        return True
    plates = [sight.plates[color] for color in asked_colors(question) if color in sight.plates]
    return any(not plate.large for plate in plates)
