"""One turn of the teacher: it is told what the scenario wants, sees the pictures, and writes text and perhaps code."""

from __future__ import annotations

import asyncio

from thyme.agent.rollout import span_seed
from thyme.data.drafts import Draft, Rejection, Said
from thyme.data.scenarios import SCENARIOS
from thyme.data.scenarios.base import Refusal
from thyme.data.scenarios.prompts import functional_prompt
from thyme.data.stages import reasons
from thyme.data.stages.asking import ask, bench_of, chat
from thyme.data.stages.base import Context
from thyme.data.stages.finish import finish
from thyme.data.stages.turns import Turn, fault, read_turn
from thyme.types import Generated, Observation

STAGE = "generate"


async def generate(draft: Draft, context: Context) -> Draft | Rejection:
    """Ask the teacher for its next turn, up to a block of code or the answer.

    The first time it is told the functional prompt of the scenario; that stays in `Draft.conversation` and reaches no
    trajectory. With the answer the draft is finished and has its trajectory.

    Args:
        draft: Prepared; its last block, if it has one, was run.
        context: Whom to ask, and how often.

    Raises:
        EngineError: The endpoint failed for good.
        BudgetError: Nothing is left to spend.
    """
    if draft.finished:
        return draft
    who = context.teachers.choose(draft)
    teacher = context.recipe.teachers[who]
    if not draft.conversation:
        draft = draft.model_copy(update={"teacher": teacher.name, "conversation": _opening(draft)})
    messages = await asyncio.to_thread(chat, draft, bench_of(draft, context), teacher.max_pixels)
    turn_number = sum(said.role == "assistant" for said in draft.conversation)
    asked = await ask(draft, context, STAGE, who, messages, span_seed(draft.seed, turn_number))
    if isinstance(asked, Rejection):
        return asked
    draft, reply = asked
    turn = read_turn(reply, first=turn_number == 0)
    if isinstance(turn, Refusal):
        said = Said(role="assistant", text=reply.text)
        return _reject(draft.model_copy(update={"conversation": (*draft.conversation, said)}), turn)
    return _taken(draft, context, turn, teacher.temperature)


def _opening(draft: Draft) -> tuple[Said, ...]:
    system, user = functional_prompt(draft, SCENARIOS[draft.scenario])
    images = tuple(image.id for image in draft.problem.images)
    return Said(role="system", text=system), Said(role="user", text=user, images=images)


def _taken(draft: Draft, context: Context, turn: Turn, temperature: float) -> Draft | Rejection:
    """The draft with a turn behind it."""
    draft = draft.model_copy(
        update={
            "conversation": (*draft.conversation, Said(role="assistant", text=turn.said)),
            "segments": (*draft.segments, *turn.segments(temperature)),
        }
    )
    if turn.code is None:
        return _answered(draft, context)
    blocks = sum(isinstance(s, Generated) and s.kind == "code" for s in draft.segments)
    if blocks > context.recipe.max_rounds:
        return _reject(draft, Refusal(reasons.TOO_MANY_ROUNDS, f"more than {context.recipe.max_rounds} blocks"))
    return draft


def _answered(draft: Draft, context: Context) -> Draft | Rejection:
    if (wrong := fault("".join(segment.text for segment in draft.segments))) is not None:
        return _reject(draft, wrong)
    ran = [segment for segment in draft.segments if isinstance(segment, Observation)]
    if ran and ran[-1].execution.error is not None:
        return _reject(draft, Refusal(reasons.ERROR_IN_CODE, "the last block failed, and was not put right"))
    return draft.model_copy(update={"finished": True, "trajectory": finish(draft, context)})


def _reject(draft: Draft, refusal: Refusal) -> Rejection:
    return Rejection.of(draft, STAGE, refusal.reason, refusal.note)
