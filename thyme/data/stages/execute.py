"""The block that the teacher has just written runs in the draft's own sandbox session."""

from __future__ import annotations

from thyme.data.drafts import Draft, Rejection, Said
from thyme.data.scenarios import SCENARIOS
from thyme.data.scenarios.base import Refusal
from thyme.data.stages import reasons
from thyme.data.stages.asking import bench_of
from thyme.data.stages.base import Context
from thyme.markup import CODE_OPEN, extract_code, format_code, observation_text
from thyme.sandbox.base import Session
from thyme.types import Execution, Generated, Observation

STAGE = "execute"
_LIMITS = {"Timeout", "MemoryLimit", "Killed"}
"""Errors that depend on the machine as well as on the code."""


async def execute(draft: Draft, context: Context) -> Draft | Rejection:
    """Run the last segment if it is code that has not run.

    The code that ran, after repairs, takes the place of the code that was written, which stays in the conversation and
    in `Execution.code`. What came of it is the next segment, and the next turn of the user for the teacher.

    Raises:
        SandboxError: The sandbox failed, not the code.
    """
    if not draft.segments or not isinstance(written := draft.segments[-1], Generated) or written.kind != "code":
        return draft
    session = await _session(draft, context)
    execution = await session.run(extract_code(written.text))
    ran = execution.ran or execution.code
    block = format_code(ran)
    observation = Observation(
        execution=execution,
        text=observation_text(execution),
        seen_sizes=tuple(image.size for image in execution.images),
    )
    said = Said(role="user", text=observation.text, images=tuple(image.id for image in execution.images))
    draft = draft.model_copy(
        update={
            "segments": (
                *draft.segments[:-1],
                written.model_copy(update={"text": block.removeprefix(CODE_OPEN)}),
                observation,
            ),
            "conversation": (*draft.conversation, said),
        }
    )
    refusal = _fault(execution, corrects_errors=SCENARIOS[draft.scenario].corrects_errors)
    if refusal is None and extract_code(block).strip() != ran.strip():
        refusal = Refusal(reasons.MALFORMED, "the code holds what looks like the end of its own block")
    return draft if refusal is None else Rejection.of(draft, STAGE, refusal.reason, refusal.note)


async def _session(draft: Draft, context: Context) -> Session:
    bench = bench_of(draft, context)
    if bench.session is None:
        session = context.sandbox.session(draft.problem.images, draft.seed)
        bench.session = await bench.resources.enter_async_context(session)
    return bench.session


def _fault(execution: Execution, *, corrects_errors: bool) -> Refusal | None:
    """What is wrong with a run, if anything is."""
    error = execution.error
    if error is not None:
        note = f"{error.type}: {error.message}"
        if error.type in _LIMITS or execution.session_lost:
            return Refusal(reasons.SANDBOX_LIMIT, note)
        return None if corrects_errors else Refusal(reasons.ERROR_IN_CODE, note)
    if execution.truncated:
        return Refusal(reasons.OUTPUT_CUT)
    if not execution.stdout.strip() and not execution.images:
        return Refusal(reasons.NO_OUTPUT)
    return None
