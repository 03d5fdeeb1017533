"""The teacher of the embedded world: what a perfect solver would think, and the code it would run.

The text names the region before the code copies it: with greedy code, whatever is explored must be explored in text.
It names the colour right before what it says of that plate, as the base learned it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from thyme.markup import (
    ANSWER_CLOSE,
    ANSWER_OPEN,
    THINK_CLOSE,
    THINK_OPEN,
    format_code,
    observation_text,
)
from thyme.nano.perception.views import VIEW, look
from thyme.nano.world import CROP, Kind
from thyme.prompts import PromptSet
from thyme.sandbox.base import Sandbox
from thyme.types import (
    OUTPUT_DIR,
    Generated,
    ImageRecord,
    Observation,
    Problem,
    Prompt,
    Sampling,
    SeenImage,
    Segment,
    StopReason,
    Trajectory,
    Usage,
)

_OPEN = """from PIL import Image
image = Image.open(image_path)
"""
_CROP = """x, y = {x}, {y}
crop = image.crop((x - {half}, y - {half}, x + {half}, y + {half}))
path = "{folder}/crop_{number}.png"
crop.save(path)
print(path)"""
_TURN = (
    _OPEN
    + """image = image.rotate({angle}, expand=True)
path = "{folder}/upright.png"
image.save(path)
print(path)"""
)
_CLEAR = """from PIL import Image, ImageOps
image = Image.open(image_path)
image = ImageOps.autocontrast(image)
path = "{folder}/clear.png"
image.save(path)
print(path)"""


class TeacherError(RuntimeError):
    """The teacher's own code failed in the sandbox."""


@dataclass(frozen=True)
class Plan:
    """How a problem is solved."""

    rounds: tuple[tuple[str, str], ...]
    """Text before a code block, and the code."""
    conclusion: str
    """Text after the last observation."""
    answer: str


@dataclass(frozen=True)
class Taught:
    """What a set of demonstrations shows."""

    name: str
    planned: Callable[[Problem], Plan]
    """How a problem is solved; a function of the problem alone."""
    shares: Mapping[Kind, int]
    """Parts of the demonstrations that each kind makes up."""


def plan(problem: Problem) -> Plan:
    """Solve a problem of the embedded world, from its meta.

    Raises:
        ValueError: It has no answer or is of another world.
    """
    if problem.answer is None or problem.kind not in _PLANS:
        raise ValueError(f"problem {problem.id} is not one of the embedded world")
    return _PLANS[problem.kind](problem, problem.answer)


def crop_code(point: Sequence[int], number: int, side: int = CROP) -> str:
    """A block that cuts a square out around a point; the first one opens the picture."""
    body = _CROP.format(x=point[0], y=point[1], half=side // 2, folder=OUTPUT_DIR, number=number)
    return (_OPEN if number == 1 else "") + body


def near(color: str, point: Sequence[int], size: str = "small") -> str:
    """Where a plate is and how large, in a word, before it is cut out."""
    return f"I see {color} {size}. It is near {color} ({point[0]}, {point[1]}). I zoom in.\n"


def says(color: str, label: str) -> str:
    """What a plate says, read from what code gave."""
    return f"Now I see {color} {label}."


def turned_upright(color: str, degrees: int, answer: str) -> Plan:
    """The picture is turned, counter-clockwise, and a plate is read."""
    before = f"The image is not upright. I turn it by {degrees} degrees.\n"
    code = _TURN.format(angle=degrees, folder=OUTPUT_DIR)
    return Plan(((before, code),), says(color, answer), answer)


def cleared(color: str, answer: str) -> Plan:
    """The contrast is raised, and a plate is read."""
    code = _CLEAR.format(folder=OUTPUT_DIR)
    return Plan((("The contrast is low. I raise it.\n", code),), says(color, answer), answer)


def computed(expression: str, answer: str) -> Plan:
    """An expression is given to Python."""
    return Plan(((f"I compute {expression}.\n", f"print({expression})"),), f"The result is {answer}.", answer)


def _read(problem: Problem, answer: str) -> Plan:
    color = problem.meta["colors"][0]
    if problem.meta["large"][0]:
        return Plan((), f"I see {color} {answer}.", answer)
    return zoomed(problem, answer)


def zoomed(problem: Problem, answer: str, size: str = "small") -> Plan:
    """A crop around the first plate asked for.

    Args:
        problem: With a picture.
        answer: Its answer.
        size: How large the plate is, in a word.
    """
    color, point = problem.meta["colors"][0], problem.meta["stated"][0]
    return Plan(((near(color, point, size), crop_code(point, 1)),), says(color, answer), answer)


def _two_round(problem: Problem, answer: str) -> Plan:
    (one, other), (first, second) = problem.meta["colors"], answer.split()
    points = problem.meta["stated"]
    rounds = (
        (near(one, points[0]), crop_code(points[0], 1)),
        (f"{says(one, first)} {near(other, points[1])}", crop_code(points[1], 2)),
    )
    return Plan(rounds, says(other, second), answer)


def _rotation(problem: Problem, answer: str) -> Plan:
    return turned_upright(problem.meta["colors"][0], 360 - problem.meta["angle"], answer)


def _contrast(problem: Problem, answer: str) -> Plan:
    return cleared(problem.meta["colors"][0], answer)


def _arithmetic(problem: Problem, answer: str) -> Plan:
    return computed(problem.meta["expression"], answer)


_PLANS = {
    "easy": _read,
    "medium": _read,
    "zoom": _read,
    "rotation": _rotation,
    "contrast": _contrast,
    "arithmetic": _arithmetic,
    "two_round": _two_round,
}


def closing(conclusion: str, answer: str) -> str:
    """The last text of a trajectory."""
    return f"{conclusion}{THINK_CLOSE}\n{ANSWER_OPEN}{answer}{ANSWER_CLOSE}"


async def demonstrate(
    problem: Problem, sandbox: Sandbox, prompts: PromptSet, planned: Callable[[Problem], Plan] = plan
) -> Trajectory:
    """Solve a problem with code that really runs.

    Args:
        problem: One of the embedded world.
        sandbox: Where the code runs; what comes back is what the trajectory records.
        prompts: The prompts that the trained model will be asked with.
        planned: How it is solved.

    Raises:
        TeacherError: The code failed, or did not give what the plan expects.
    """
    steps = planned(problem)
    segments: list[Segment] = []
    text = THINK_OPEN
    async with sandbox.session(problem.images, 0) as session:
        for before, code in steps.rounds:
            block = format_code(code)
            border = block.index(">") + 1
            segments.append(_wrote("text", text + before + block[:border]))
            segments.append(_wrote("code", block[border:]))
            execution = await session.run(code)
            if execution.error is not None or execution.repairs:
                raise TeacherError(f"{problem.id}: {execution.error or execution.repairs}")
            seen = tuple((VIEW, VIEW) for _ in execution.images)
            segments.append(Observation(execution=execution, text=observation_text(execution), seen_sizes=seen))
            text = ""
    segments.append(_wrote("text", text + closing(steps.conclusion, steps.answer)))
    return _record(problem, prompts, tuple(segments), rounds=len(steps.rounds))


def _wrote(kind: str, text: str) -> Generated:
    return Generated(kind="code" if kind == "code" else "text", text=text, temperature=0.0)


def _record(problem: Problem, prompts: PromptSet, segments: tuple[Segment, ...], *, rounds: int) -> Trajectory:
    system, user = prompts.render(problem, [(VIEW, VIEW) for _ in problem.images])
    images = tuple(SeenImage(image=i, seen_width=VIEW, seen_height=VIEW) for i in problem.images)
    return Trajectory(
        id=problem.id,
        problem=problem,
        prompt=Prompt(system=system, user=user, images=images),
        segments=segments,
        stop=StopReason.ANSWER,
        model="nano-teacher",
        sampling=Sampling(text_temperature=0, code_temperature=0, max_rounds=8, max_round_tokens=512, max_tokens=2048),
        usage=Usage(rounds=rounds),
    )


async def demonstrations(
    problems: Iterable[Problem],
    sandbox: Sandbox,
    prompts: PromptSet,
    *,
    planned: Callable[[Problem], Plan] = plan,
    concurrency: int = 4,
) -> AsyncIterator[Trajectory]:
    """`demonstrate` for many problems, in order, `concurrency` at a time."""
    batch: list[Problem] = []
    for problem in problems:
        batch.append(problem)
        if len(batch) == concurrency:
            for trajectory in await asyncio.gather(*(demonstrate(p, sandbox, prompts, planned) for p in batch)):
                yield trajectory
            batch = []
    for rest in batch:
        yield await demonstrate(rest, sandbox, prompts, planned)


def compact(trajectory: Trajectory) -> Trajectory:
    """The trajectory with every image at the size at which it is seen, to be kept by the thousand.

    A model is fed exactly the same, for the processor leaves images of that size alone; the texts still name the
    original sizes.
    """
    small = tuple(_seen(image) for image in trajectory.problem.images)
    prompt = trajectory.prompt.model_copy(
        update={"images": tuple(SeenImage(image=i, seen_width=VIEW, seen_height=VIEW) for i in small)}
    )
    segments = tuple(_compact_segment(segment) for segment in trajectory.segments)
    problem = trajectory.problem.model_copy(update={"images": small})
    return trajectory.model_copy(update={"problem": problem, "prompt": prompt, "segments": segments})


def _compact_segment(segment: Segment) -> Segment:
    if isinstance(segment, Generated):
        return segment
    images = tuple(_seen(image) for image in segment.execution.images)
    return segment.model_copy(update={"execution": segment.execution.model_copy(update={"images": images})})


def _seen(record: ImageRecord) -> ImageRecord:
    return ImageRecord.of(Image.fromarray(look(record.image)), name=record.name)
