"""Does the reasoning come to what is answered: a rule that needs no judge."""

from __future__ import annotations

import re
from collections.abc import Iterable

from thyme.markup import ANSWER_OPEN, CODE_OPEN, IMAGE, THINK_CLOSE, THINK_OPEN
from thyme.rewards.answer import NUMBER, number, option, words
from thyme.types import Generated, Problem, Trajectory

_TAGS = re.compile("|".join(map(re.escape, (THINK_OPEN, THINK_CLOSE, IMAGE, CODE_OPEN))))
_SENTENCE = re.compile(r"(?<=[.!?。！？])\s+|\n+")
_SAID = re.compile(
    r"\b(?:answer|result|option|choice|conclusion|total|sum|value|number|count|label)\s*(?:is|are|:|=|to be)\s*"
    r"|\b(?:see|sees|says|say|reads|read|shows|show|equals|therefore|thus|hence)\b[,:]?\s*|=\s*",
    re.IGNORECASE,
)
"""What introduces the thing that a sentence states."""
_LETTER = re.compile(r"\(([A-Z])\)|\b(?:option|choice)\s+([A-Z])\b")

MAX_PARTS = 12
"""Most words of an answer that may be stated in parts."""


def reasoning(trajectory: Trajectory) -> tuple[str, ...]:
    """What the model wrote before its answer, outside code, in pieces that code or observations part."""
    pieces = []
    for segment in trajectory.segments:
        if isinstance(segment, Generated) and segment.kind == "text":
            thought = segment.text.partition(ANSWER_OPEN)[0]
            pieces.append(_TAGS.sub("", thought).strip())
    return tuple(pieces)


def states_answer(problem: Problem, thoughts: tuple[str, ...], answer: str) -> float | None:
    """Whether what the reasoning states last is what is answered.

    Read are the sentences behind the last observation, from the end; the first one that states something decides. A
    sentence states the option that it names where the problem has options; its last number where a number is answered;
    else the answer's words. An answer of several words may be stated in parts: its last words in the sentence, the
    others in the right order before it.

    Args:
        problem: Its options tell what an answer may be. The reference is not looked at.
        thoughts: Of `reasoning`.
        answer: What is answered.

    Returns:
        1 or 0; None where nothing is stated.
    """
    sentences = [s for s in _SENTENCE.split(thoughts[-1]) if s.strip()] if thoughts else []
    if not sentences:
        return None
    said = problem.model_copy(update={"answer": answer})
    if problem.choices and option(problem, answer) is not None:
        return _first(_states_option(said, sentence) for sentence in reversed(sentences))
    if number(said, answer) is not None:
        return _first(_states_number(said, sentence) for sentence in reversed(sentences))
    return _states_words(" ".join(thoughts[:-1]), sentences, answer)


def _first(told: Iterable[float | None]) -> float | None:
    return next((value for value in told if value is not None), None)


def _states_option(problem: Problem, sentence: str) -> float | None:
    """Of a problem whose answer is what was answered."""
    expected, named = option(problem, problem.answer or ""), option(problem, sentence)
    if named is None:
        letters = {ord(one or other) - ord("A") for one, other in _LETTER.findall(sentence)}
        spoken = words(sentence)
        named_by_text = [i for i, text in enumerate(problem.choices) if _run(spoken, words(text))]
        kept = [i for i in named_by_text if not _inside_another(problem, i, named_by_text)]
        found = letters or set(kept)
        if len(found) != 1:
            return None
        (named,) = found
    return float(named == expected)


def _inside_another(problem: Problem, index: int, others: list[int]) -> bool:
    """Whether an option's text is only a part of a longer one that is named too: ``green`` in ``dark green``."""
    own = words(problem.choices[index])
    longer = (words(problem.choices[i]) for i in others if i != index)
    return any(len(text) > len(own) and _run(text, own) for text in longer)


def _states_number(problem: Problem, sentence: str) -> float | None:
    introduced = [match.end() for match in _SAID.finditer(sentence)]
    after = NUMBER.search(sentence, introduced[-1]) if introduced else None
    found = after or next(reversed(list(NUMBER.finditer(sentence))), None)
    return None if found is None else number(problem, found.group())


def _states_words(before: str, sentences: list[str], answer: str) -> float | None:
    asked = words(answer)
    splits = range(len(asked) if len(asked) <= MAX_PARTS else min(len(asked), 1))
    for place in reversed(range(len(sentences))):
        spoken = words(sentences[place])
        for split in splits:
            if _run(spoken, asked[split:]) and _in_order(before, sentences[:place], asked[:split]):
                return 1.0
        if _SAID.search(sentences[place]):
            return 0.0
    return None


def _run(spoken: list[str], asked: list[str]) -> bool:
    """Whether words stand in a row, however they are divided: ``KX 47`` and ``KX-47``."""
    target = "".join(asked)
    for start in range(len(spoken)):
        joined = ""
        for word in spoken[start:]:
            joined += word
            if joined == target:
                return True
            if not target.startswith(joined):
                break
    return False


def _in_order(before: str, sentences: list[str], asked: list[str]) -> bool:
    """Whether words stand in this order in what was written earlier."""
    remaining = iter(words(" ".join((before, *sentences))) if asked else ())
    return all(word in remaining for word in asked)
