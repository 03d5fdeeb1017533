"""The check of a finished record by a model that sees its pictures: does it fit together, was code needed?"""

from __future__ import annotations

import asyncio
import functools
from typing import Annotated, Any

from pydantic import Field

from thyme.data.drafts import Draft, Rejection, Verdict
from thyme.data.stages import reasons
from thyme.data.stages.asking import ask, bench_of, shown
from thyme.data.stages.base import CHECKER, Context, Workbench
from thyme.markup import IMAGE, OBSERVATION_CLOSE, OBSERVATION_OPEN, extract_answer, extract_code
from thyme.prompts import PACKAGED
from thyme.rewards import verdicts
from thyme.types import Generated, ImageRecord, Trajectory

STAGE = "check"
MAX_QUOTED = 1000
"""Most characters of a refused reply that the judge is shown again."""

_YesNo = Annotated[int, Field(strict=True, ge=0, le=1)]
_Reason = Annotated[str, Field(strict=True, max_length=4000)]


class Fits(verdicts.Verdict):
    """What is asked of every record."""

    reason: _Reason
    fits: _YesNo

    @property
    def value(self) -> float:
        """1 if it fits."""
        return float(self.fits)


class FitsAndNeeded(Fits):
    """With the question whether code is needed."""

    needed: _YesNo


async def check(draft: Draft, context: Context) -> Draft | Rejection:
    """Ask the recipe's judge about a finished draft, or pass it on unchecked where there is none.

    Where it is asked whether code is needed, a record with code must need it, and one without must not.

    Raises:
        EngineError: The endpoint failed for good.
        BudgetError: Nothing is left to spend.
    """
    if context.check is not None:
        return _judged(draft, await context.check(draft))
    judge = context.recipe.check.judge
    if judge is None or draft.trajectory is None:
        return draft
    asked = await _asked(draft, draft.trajectory, context, judge.retries)
    if isinstance(asked, Rejection):
        return asked
    draft, said = asked
    needed = bool(said.needed) if isinstance(said, FitsAndNeeded) else None
    return _judged(draft, Verdict(judge=judge.name, fits=bool(said.fits), needed=needed, reason=said.reason))


@functools.cache
def form(*, needed: bool) -> verdicts.Form:
    """What the judge is asked, and what it may say; the words lie in ``thyme/prompts/check``."""
    files = ("fits", "needed", "reply") if needed else ("fits", "reply")
    example = '{"reason": "...", "fits": 1, "needed": 1}' if needed else '{"reason": "...", "fits": 1}'
    texts = [(PACKAGED / "check" / f"{name}.txt").read_text(encoding="utf-8").strip() for name in files]
    return verdicts.Form("\n\n".join(texts) + f" {example}", FitsAndNeeded if needed else Fits, example)


async def _asked(
    draft: Draft, trajectory: Trajectory, context: Context, retries: int
) -> tuple[Draft, Fits] | Rejection:
    """Ask until there is a verdict, or patience ends."""
    asked, note = form(needed=context.recipe.check.needed), ""
    bench, max_pixels = bench_of(draft, context), context.recipe.check.max_pixels
    first = await asyncio.to_thread(_messages, asked.prompt, trajectory, bench, max_pixels)
    messages = first
    for attempt in range(retries + 1):
        answer = await ask(draft, context, STAGE, CHECKER, messages, attempt)
        if isinstance(answer, Rejection):
            return answer
        draft, reply = answer
        try:
            said = verdicts.read_form(asked, reply.text)
        except verdicts.NotAVerdictError as error:
            note = str(error)
            messages = [*first, *_reminder(reply.text, asked.example)]
        else:
            assert isinstance(said, Fits)
            return draft, said
    return Rejection.of(draft, STAGE, reasons.NO_VERDICT, note)


def _judged(draft: Draft, verdict: Verdict) -> Draft | Rejection:
    draft = draft.model_copy(update={"verdicts": (*draft.verdicts, verdict)})
    has_code = any(isinstance(s, Generated) and s.kind == "code" for s in draft.segments)
    reason = None
    if verdict.fits is False:
        reason = reasons.DOES_NOT_FIT
    elif verdict.needed is not None and verdict.needed is not has_code:
        reason = reasons.CODE_NOT_NEEDED if has_code else reasons.CODE_MISSING
    return draft if reason is None else Rejection.of(draft, STAGE, reason, verdict.reason)


def _messages(prompt: str, trajectory: Trajectory, bench: Workbench, max_pixels: int | None) -> list[dict[str, Any]]:
    """The material as one object, then its pictures under their names."""
    material, images = _material(trajectory)
    parts: list[str | ImageRecord] = [verdicts.quote(material)]
    for number, image in enumerate(images, 1):
        parts += [f"\n\nImage {number}:\n", image]
    return [{"role": "system", "content": prompt}, shown("user", parts, bench, max_pixels)]


def _material(trajectory: Trajectory) -> tuple[dict[str, verdicts.Material], list[ImageRecord]]:
    problem = trajectory.problem
    images = list(problem.images)
    steps: list[dict[str, str]] = []
    for segment in trajectory.segments:
        if isinstance(segment, Generated):
            code = segment.kind == "code"
            steps.append({"code": extract_code(segment.text)} if code else {"text": segment.text})
            continue
        output = segment.text.strip().removeprefix(OBSERVATION_OPEN).removesuffix(OBSERVATION_CLOSE)
        for image in segment.execution.images:
            images.append(image)
            output = output.replace(IMAGE, f"(image {len(images)})", 1)
        steps.append({"output": output.strip()})
    shown_before = "".join(f" (image {number})" for number in range(1, len(problem.images) + 1))
    material: dict[str, verdicts.Material] = {"question": problem.question + shown_before}
    if problem.choices:
        material["options"] = list(problem.choices)
    material |= {"steps": steps, "answer": extract_answer(trajectory.response) or ""}
    return material, images


def _reminder(reply: str, example: str) -> list[dict[str, Any]]:
    """A judge that always writes the most likely would write the same again."""
    return [
        {"role": "assistant", "content": reply[:MAX_QUOTED] or "(nothing)"},
        {"role": "user", "content": f"Reply with the JSON object alone, in the form {example}, no words."},
    ]
