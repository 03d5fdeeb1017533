"""What the rule-based teacher says: without fault, and wrong in each way that `thyme.nano.factory.faults` lists."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from thyme.markup import THINK_OPEN, format_code
from thyme.nano.factory.plans import WIDE, Asked, at_sight, crops
from thyme.nano.factory.reader import Sight
from thyme.nano.teacher import Plan, closing, crop_code, near, turned_upright
from thyme.nano.world import CHARACTERS, COLORS, CROP, SIDE

MORE: Final = 12
"""Turns of a teacher that never comes to an end."""


@dataclass(frozen=True)
class Said:
    """A turn of the teacher."""

    text: str
    finish: str = "stop"
    runs_on: bool = False
    """Whether the server does not stop where it was asked to."""


Script = tuple[Said, ...]
"""All turns of a conversation."""


@dataclass(frozen=True)
class Case:
    """A request, and how it is answered without fault."""

    asked: Asked
    sight: Sight | None
    plan: Plan
    rng: random.Random

    def but(self, **changes: object) -> Case:
        """The case with another plan."""
        return replace(self, plan=replace(self.plan, **changes))  # type: ignore[arg-type]  # fields of a plan

    @property
    def color(self) -> str:
        """Of the first plate asked for, or any."""
        return next(iter(self.asked.colors), "red")


def script(case: Case) -> Script:
    """The turns of a plan."""
    texts = [before + format_code(code) for before, code in case.plan.rounds]
    texts.append(closing(case.plan.conclusion, case.plan.answer))
    return tuple(Said(THINK_OPEN * (place == 0) + text) for place, text in enumerate(texts))


Make = Callable[[Case], Script]


# --- code -------------------------------------------------------------------------------------------------------------


def _with_code(case: Case, place: int, change: Callable[[str], str]) -> Case:
    """A plan in which one block is another."""
    rounds = list(case.plan.rounds)
    before, code = rounds[place]
    rounds[place] = (before, change(code))
    return case.but(rounds=tuple(rounds))


def _any_block(case: Case, change: Callable[[str], str]) -> Script:
    return script(_with_code(case, case.rng.randrange(len(case.plan.rounds)), change))


def _broken(code: str) -> str:
    return code.replace("image_path", "picture_file", 1) if "image_path" in code else f"{code}\nprint(unknown_value)"


def fails(case: Case) -> Script:
    """The first block raises an error."""
    return script(_with_code(case, 0, _broken))


def fails_last(case: Case) -> Script:
    """The last block raises an error, and it answers all the same."""
    return script(_with_code(case, -1, lambda code: f"{code}\nprint(unknown_value)"))


def mends(case: Case) -> Script:
    """The first block raises an error, and is written again."""
    before, code = case.plan.rounds[0]
    again = ("That is not right. I compute it.\n", code)
    return script(case.but(rounds=((before, _broken(code)), again, *case.plan.rounds[1:])))


def needs_repair(case: Case) -> Script:
    """All lines of a block are indented."""
    return _any_block(case, lambda code: "\n".join(f"    {line}" for line in code.splitlines()))


def silent(case: Case) -> Script:
    """A block prints nothing and saves nothing."""
    return _any_block(
        case, lambda code: "\n".join(line for line in code.splitlines() if "print" not in line) + "\nx = 1"
    )


def slow(case: Case) -> Script:
    """A block never ends."""
    return _any_block(case, lambda code: f"{code}\nwhile True:\n    pass")


def floods(case: Case) -> Script:
    """A block prints two hundred thousand lines."""
    return _any_block(case, lambda code: f"{code}\nfor i in range(200000):\n    print(i)")


def typed_in(case: Case) -> Script:
    """The last block prints the answer as it was typed in."""
    return script(_with_code(case, -1, lambda code: f"print({case.plan.answer})"))


def prints_other(case: Case) -> Script:
    """The last block gives seven more than it should."""
    return script(_with_code(case, -1, lambda code: code.replace("print(", "print(7 + ", 1)))


def only_crops(case: Case) -> Script:
    """A block cuts the middle of the picture out, and the answer is read off nothing."""
    code = crop_code((SIDE // 2, SIDE // 2), 1, SIDE - 256)
    return script(case.but(rounds=((f"I see {case.color}. I zoom in.\n", code),)))


def needless(case: Case) -> Script:
    """What can be read at sight is cut out."""
    sight = case.sight
    assert sight is not None  # only where there is a picture
    boxes = tuple(sight.plates[color].box for color in case.asked.colors)
    return script(replace(case, plan=crops(replace(case.asked, targets=boxes), case.plan.answer)))


def without_code(case: Case) -> Script:
    """Nothing runs."""
    return script(replace(case, plan=at_sight(case.asked, case.plan.answer)))


def endless(case: Case) -> Script:
    """The first turn comes again and again."""
    first = script(case)[0]
    return (first, *(Said(first.text.removeprefix(THINK_OPEN)) for _ in range(MORE)))


# --- where it looks ---------------------------------------------------------------------------------------------------


def _look(case: Case, place: int, point: tuple[int, int], side: int = CROP) -> Case:
    """A plan with another look."""
    rounds = list(case.plan.rounds)
    number = place % len(rounds) + 1
    rounds[place] = (
        f"{_before_the_place(rounds[place][0])}{near(_color_of(case, place), point)}",
        crop_code(point, number, side),
    )
    return case.but(rounds=tuple(rounds))


def _before_the_place(text: str) -> str:
    """What stands before the sentence that names the place."""
    return text[: text.rindex("I see ")]


def _color_of(case: Case, place: int) -> str:
    colors = case.asked.colors
    return colors[place] if len(colors) > 1 else colors[0]


def _away(point: tuple[int, int]) -> tuple[int, int]:
    """The middle of the opposite quarter."""
    x, y = (SIDE // 4 if v >= SIDE // 2 else 3 * SIDE // 4 for v in point)
    return x, y


def beside(case: Case) -> Script:
    """The last look is in the opposite quarter."""
    return script(_look(case, -1, _away(case.asked.points[-1])))


def loose(case: Case) -> Script:
    """The last look is far larger than its target."""
    side = 640 if case.asked.scenario != "enhancement" else WIDE
    half = side // 2
    x, y = (min(max(v, half), SIDE - half) for v in case.asked.points[-1])
    return script(_look(case, -1, (x, y), side))


def first_right(case: Case) -> Script:
    """The first look is where the second one is."""
    return script(_look(case, 0, case.asked.points[0]))


def one_look(case: Case) -> Script:
    """Only the second look is taken."""
    point = case.asked.points[0]
    return script(case.but(rounds=((near(case.color, point), crop_code(point, 1)),)))


def unnoticed(case: Case) -> Script:
    """The text does not say that the first look shows something else."""
    rounds = case.plan.rounds
    second = (f"Now {near(case.color, case.asked.points[0])}", rounds[1][1])
    return script(case.but(rounds=(rounds[0], second)))


def wrong_angle(case: Case) -> Script:
    """The picture is turned by another quarter."""
    other = case.rng.choice([angle for angle in (90, 180, 270) if angle != case.asked.back])
    return script(case.but(rounds=turned_upright(case.color, other, case.plan.answer).rounds))


def not_raised(case: Case) -> Script:
    """The picture is saved as it is."""
    return script(
        _with_code(case, 0, lambda code: code.replace("ImageOps.autocontrast(image)", "image.convert('RGB')"))
    )


# --- what it says -----------------------------------------------------------------------------------------------------


def _other(case: Case) -> str:
    """A wrong answer of the same form."""
    right = case.plan.answer
    if right.lstrip("-").isdigit():
        return str(int(right) + case.rng.choice((-20, -10, 10, 20)))
    labels = right.split()
    labels[-1] = "".join(case.rng.choice([c for c in CHARACTERS if c != own]) for own in labels[-1])
    return " ".join(labels)


def _concluding(case: Case, answer: str) -> str:
    """The last sentence with another answer."""
    return case.plan.conclusion.replace(case.plan.answer.split()[-1], answer.split()[-1])


def wrong_answer(case: Case) -> Script:
    """Reasoning and answer are both wrong."""
    other = _other(case)
    return script(case.but(conclusion=_concluding(case, other), answer=other))


def contradicts(case: Case) -> Script:
    """The answer is right, and the reasoning ends otherwise."""
    return script(case.but(conclusion=_concluding(case, _other(case))))


def claims(case: Case) -> Script:
    """The text says that another number was printed."""
    return script(case.but(conclusion=f"The code printed {_other(case)}. {case.plan.conclusion}"))


def invents_sight(case: Case) -> Script:
    """The text speaks of a plate that is not there."""
    seen = case.sight.plates if case.sight is not None else {}
    color = case.rng.choice([color for color in COLORS if color not in seen])
    label = "".join(case.rng.choices(CHARACTERS, k=2))
    return script(case.but(conclusion=f"I see {color} {label}. {case.plan.conclusion}"))


def answers_before(case: Case) -> Script:
    """The answer stands before the first block."""
    before, code = case.plan.rounds[0]
    return script(case.but(rounds=((f"The answer is {case.plan.answer}. {before}", code), *case.plan.rounds[1:])))


def tells(case: Case) -> Script:
    """The text speaks of the notes."""
    before, code = case.plan.rounds[0]
    return script(case.but(rounds=((f"The hint says where. {before}", code), *case.plan.rounds[1:])))


# --- what must not show -----------------------------------------------------------------------------------------------


def remarking(words: Callable[[Case], str]) -> Make:
    """The last block begins with a comment."""
    return lambda case: script(_with_code(case, -1, lambda code: f"# {words(case)}\n{code}"))


def box_words(case: Case) -> str:
    """The box of the last target, as a comment gives it away."""
    return "cut out " + ", ".join(f"{v:g}" for v in case.asked.targets[-1])


def named_file(case: Case) -> Script:
    """A picture is saved under a name that holds the angle or the answer."""
    name = f"{case.asked.back}" if case.asked.scenario == "rotation" else case.plan.answer.split()[-1]
    return script(_with_code(case, -1, lambda code: code.replace('.png"', f'_{name}.png"')))


# --- form -------------------------------------------------------------------------------------------------------------


def last_turn(change: Callable[[Said, Case], Said]) -> Make:
    """A way to err in the last turn."""

    def make(case: Case) -> Script:
        turns = script(case)
        return (*turns[:-1], change(turns[-1], case))

    return make


def first_turn(change: Callable[[Said, Case], Said]) -> Make:
    """A way to err in the first turn."""

    def make(case: Case) -> Script:
        turns = script(case)
        return (change(turns[0], case), *turns[1:])

    return make


def _text(said: Said, old: str, new: str) -> Said:
    return replace(said, text=said.text.replace(old, new))


def no_answer(said: Said, case: Case) -> Said:
    """It ends behind its thinking."""
    return replace(said, text=said.text.partition("<answer>")[0])


def empty_answer(said: Said, case: Case) -> Said:
    """Nothing stands between the tags of the answer."""
    return _text(said, f"<answer>{case.plan.answer}", "<answer>")


def unclosed(said: Said, case: Case) -> Said:
    """The thinking is not closed."""
    return _text(said, "</think>", "")


def invents_output(said: Said, case: Case) -> Said:
    """It writes what the sandbox would, without a block."""
    return replace(
        said, text=f"{THINK_OPEN}I look.\n<sandbox_output>\nKX\n</sandbox_output>\n{closing('I see it.', 'KX')}"
    )


def runs_on(said: Said, case: Case) -> Said:
    """It goes on behind its block, with an output of its own."""
    more = f"\n<sandbox_output>\n7\n</sandbox_output>\n{closing('The result is 7.', '7')}"
    return replace(said, text=said.text + more, runs_on=True)


def cut_off(said: Said, case: Case) -> Said:
    """It reaches its bound on tokens."""
    return replace(said, text=said.text[: len(said.text) // 3], finish="length")


def refuses(said: Said, case: Case) -> Said:
    """The provider holds it back."""
    return Said("", finish="content_filter")
