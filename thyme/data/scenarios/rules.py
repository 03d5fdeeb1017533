"""What holds for records of every scenario, and what several scenarios share. A rule looks at a finished draft."""

from __future__ import annotations

import re

from thyme.data.drafts import Draft
from thyme.data.scenarios.base import Refusal, Rule
from thyme.data.scenarios.written import answer_of, executions, in_a_row, meant, numbers, printed, response, texts
from thyme.markup import IMAGE, violations
from thyme.rewards.answer import NUMBER, score_answer, words
from thyme.rewards.consistency import states_answer
from thyme.types import Observation

# --- of every scenario ------------------------------------------------------------------------------------------------


def well_formed(draft: Draft) -> Refusal | None:
    """Tags are balanced and in their places, and each image of an observation has its mark."""
    found = violations(response(draft))
    if found:
        return Refusal("malformed", str(found[0]))
    for segment in draft.segments:
        if isinstance(segment, Observation) and segment.text.count(IMAGE) != len(segment.execution.images):
            return Refusal("malformed", f"{segment.text.count(IMAGE)} marks, {len(segment.execution.images)} images")
    return None


def right(draft: Draft) -> Refusal | None:
    """The answer is the reference, where there is one (`thyme.rewards.answer`)."""
    score = score_answer(draft.problem, answer_of(draft))
    if score.value == 0.0:
        return Refusal("wrong_answer", f"answered {answer_of(draft)!r}, not {draft.problem.answer!r} ({score.note})")
    return None


def concluded(draft: Draft) -> Refusal | None:
    """What the reasoning comes to is what is answered."""
    answer = answer_of(draft) or ""
    if states_answer(draft.problem, texts(draft), answer) == 0.0:
        return Refusal("contradiction", f"the reasoning ends otherwise than with {answer!r}")
    return None


_GIVES = r"prints?|printed|gives?|gave|returns?|returned|outputs?|yields?|yielded|computes?|computed|calculates?"
_CLAIM = re.compile(
    rf"\b(?:(?:code|output|program|sandbox|script|block|calculation|computation|result)\s+(?:(?:has|then|also|now)\s+)?"
    rf"(?:(?:{_GIVES}|is|was)\b|=)|it\s+(?:{_GIVES})\b)"
    r"(?:\s+(?:that|out|us|me|the|a|value|result|of|as|about))*\s*[:=]?\s*",
    re.IGNORECASE,
)
"""What says that a number came out of code."""


def claims_hold(draft: Draft) -> Refusal | None:
    """A number that the text says to be what the code gave was printed, up to rounding.

    Looked at are sentences such as ``the result is 42`` after a block that printed numbers; what is read off an image
    cannot be checked here.
    """
    said, known = texts(draft), list[float]()
    for execution, text in zip(executions(draft), said[1:], strict=True):
        latest = numbers(printed(execution))
        known += latest
        for claim in _claimed(text) if latest else ():
            if not any(_rounds_to(value, claim) for value in known):
                return Refusal("claim", f"the text says that {claim} came out, and nothing of the kind was printed")
    return None


def _claimed(text: str) -> list[str]:
    """Numbers that follow a claim at once."""
    found = (NUMBER.match(text, match.end()) for match in _CLAIM.finditer(text))
    return [match.group().strip() for match in found if match is not None]


def _rounds_to(value: float, claim: str) -> bool:
    """Whether a printed number is the claimed one, as far as that is written out; percentages count as shares too."""
    match = NUMBER.match(claim)
    if match is None or match.group(3):
        return True  # a fraction is how it was put, not how it was printed
    stated, decimals = numbers(claim)[0], len(match.group(2).partition(".")[2])
    values = (value, 100 * value, value / 100) if match.group(4) else (value,)
    return any(abs(v - stated) <= 0.5000001 * 10.0**-decimals * (decimals > 0 or v != int(v)) for v in values)


COMMON: tuple[Rule, ...] = (well_formed, right, concluded, claims_hold)
"""In this order, before those of the scenario."""


# --- of several scenarios ---------------------------------------------------------------------------------------------


def without_code(draft: Draft) -> Refusal | None:
    """Nothing ran."""
    return Refusal("code_used", "what can be seen at once was answered with code") if executions(draft) else None


def with_code(draft: Draft) -> Refusal | None:
    """A block ran to its end."""
    ran = [execution for execution in executions(draft) if execution.error is None]
    return None if ran else Refusal("no_code", "no block ran to its end")


_INTRODUCED = (
    r"\b(?:answer|result|option|choice|total|sum|value|number|label|text)\b[^.!?\n]{0,24}?(?:\bis|:|=|\breads)\s*"
)
_SHORT = 3
"""Answers of fewer characters are common in any text, and count as stated only where they are introduced."""
_POINTS = re.compile(r"\([^()]*\d[^()]*\)")


def not_before(draft: Draft) -> Refusal | None:
    """The answer is not stated before anything ran: code that comes after it would be for show."""
    answer, before = answer_of(draft), texts(draft)[0]
    if answer is None or not executions(draft):
        return None
    plain = meant(draft.problem, answer).strip()
    introduced = _introduced(plain, before)
    if not introduced and draft.problem.choices:
        named = r"\b(?:answer|option|choice)\b(?:\s+is|:)?\s*\(?" + re.escape(answer.strip()) + r"\b"
        introduced = bool(re.search(named, before))
    if introduced or (not draft.problem.choices and _stated(plain, before, draft.problem.question)):
        return Refusal("answer_before", f"{plain!r} stands in the text before any code ran")
    return None


def _introduced(answer: str, text: str) -> bool:
    literal = re.escape(answer)
    if not re.search(literal, text, re.IGNORECASE):  # the expression below takes ten times as long to compile
        return False
    return bool(re.search(_INTRODUCED + r"\W*" + literal + r"(?!\w)", text, re.IGNORECASE))


def _stated(answer: str, text: str, question: str) -> bool:
    """Whether an answer that no common text holds by chance stands in a text, outside of coordinates."""
    common = len(answer) < _SHORT if NUMBER.fullmatch(answer) else len(answer) <= _SHORT and not _is_label(answer)
    if common or _has(question, answer):
        return False
    return _has(_POINTS.sub(" ", text), answer)


def _is_label(answer: str) -> bool:
    """Whether a short answer is a code or a name and no little word."""
    return len(answer) > 1 and (answer.isupper() or any(c.isdigit() for c in answer))


def _has(text: str, answer: str) -> bool:
    """Whether the words of an answer stand in a row in a text."""
    return in_a_row(words(answer), words(text))
