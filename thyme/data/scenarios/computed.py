"""Rules about calculation: was something worked out by code, and is it what was answered?"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from thyme.data.drafts import Draft
from thyme.data.scenarios.base import Refusal
from thyme.data.scenarios.clearer import RAISED, contrast
from thyme.data.scenarios.places import places
from thyme.data.scenarios.written import answer_of, code_of, executions, meant, numbers, printed
from thyme.data.syntax import nodes, parsed
from thyme.rewards.answer import NUMBER, score_answer
from thyme.rewards.formula import is_formula
from thyme.types import Execution, Problem

_WORKS = (
    ast.BinOp,
    ast.AugAssign,
    ast.For,
    ast.While,
    ast.Compare,
    ast.ListComp,
    ast.SetComp,
    ast.DictComp,
    ast.GeneratorExp,
)
_SHOWS = frozenset({"print", "str", "int", "float", "round", "format", "repr", "abs", "len"})


def something_new(draft: Draft) -> Refusal | None:
    """Code gave a value, or an image that is more than a part of the picture."""
    ran = [execution for execution in executions(draft) if execution.error is None]
    if any(_tells(draft, execution) for execution in ran):
        return not_typed_in(draft)
    picture = draft.problem.images[0].image
    parts = {id(place.image): place.box for place in places(draft)}
    for record in (image for execution in ran for image in execution.images):
        box = parts.get(id(record.image))
        if box is None or contrast(record.image) >= RAISED * contrast(picture.crop(box)):
            return None
    return Refusal("nothing_new", "the code gave no value, and no image that is more than a part of the picture")


def _tells(draft: Draft, execution: Execution) -> bool:
    """Whether a block printed more than sizes of pictures, which code does in passing; an answer is always more."""
    text = printed(execution)
    found = numbers(text)
    shown = (*draft.problem.images, *execution.images)
    passing = {float(side) for image in shown for side in image.size} - set(numbers(answer_of(draft) or ""))
    return bool(set(found) - passing) if found else bool(text)


def not_typed_in(draft: Draft) -> Refusal | None:
    """Something was worked out: not every block only prints what was typed in."""
    if any(_works(code_of(execution)) for execution in executions(draft) if execution.error is None):
        return None
    return Refusal("typed_in", "the code prints what was written into it and works nothing out")


def _works(code: str) -> bool:
    if parsed(code) is None:  # ran after a repair that was not recorded
        return True
    return any(isinstance(one, _WORKS) or (isinstance(one, ast.Call) and not _only_shows(one)) for one in nodes(code))


def _only_shows(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id in _SHOWS


def equals_answer(draft: Draft) -> Refusal | None:
    """What was answered was printed: as a number up to rounding, as an option, or word for word.

    Formulas can be written in too many ways to compare; they are left to the check by a model.
    """
    answer = answer_of(draft) or ""
    said = draft.problem.model_copy(update={"answer": answer})
    if is_formula(meant(draft.problem, answer)) and not NUMBER.fullmatch(meant(draft.problem, answer).strip()):
        return None
    outputs = [execution.stdout for execution in executions(draft) if execution.error is None]
    if any(_is(said, piece) for output in outputs for piece in _pieces(output)):
        return None
    return Refusal("unlike_answer", f"{answer!r} is nothing that the code printed")


def _pieces(output: str) -> Iterator[str]:
    """What a printed text may say: its lines, what stands behind a colon or an equals sign, each word and number."""
    for line in output.splitlines():
        yield line
        yield from (line.rpartition(sign)[2] for sign in ":=" if sign in line)
        yield from (word.strip("()[]{},;'\"") for word in line.split())


def _is(said: Problem, piece: str) -> bool:
    """Whether a printed piece is what was said, or the text of the option that was chosen."""
    plain = piece.strip()
    if not plain:
        return False
    chosen = said.model_copy(update={"choices": (), "answer": meant(said, said.answer or "")})
    return score_answer(said, plain).value == 1.0 or score_answer(chosen, plain).value == 1.0
