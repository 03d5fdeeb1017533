"""A record as a person changed it: its blocks run again, from the first, and the same rules look at what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field

from thyme.config.data import DataRecipe
from thyme.data.drafts import Draft, Rejection
from thyme.data.factory.folder import load, stored
from thyme.data.stages.accept import accept
from thyme.data.stages.base import Context, Reply, Workbench
from thyme.data.stages.execute import execute
from thyme.data.stages.finish import finish
from thyme.data.stages.leaks import leaks
from thyme.data.stages.turns import fault
from thyme.markup import (
    ANSWER_CLOSE,
    ANSWER_OPEN,
    CODE_CLOSE,
    CODE_OPEN,
    THINK_CLOSE,
    THINK_OPEN,
    TagScanner,
    format_code,
)
from thyme.prompts import PromptSet
from thyme.sandbox.base import Sandbox
from thyme.studio.refusal import Refusal
from thyme.types import Generated

MOST_BLOCKS = 64
_MOST_CHARACTERS = 200_000


class Block(BaseModel):
    """A part of what the trained model is to write, without tags and fences."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["text", "code", "answer"]
    text: str = Field(max_length=_MOST_CHARACTERS)


def require_blocks(blocks: Sequence[Block]) -> None:
    """Refuse what could not be a record, before anything runs.

    Raises:
        Refusal: There is not one answer, at the end; or a text holds a tag (400).
    """
    answers = [place for place, block in enumerate(blocks) if block.kind == "answer"]
    if answers != [len(blocks) - 1]:
        raise Refusal(400, "blocks", "a record ends with one answer, and has no other")
    if len(blocks) > MOST_BLOCKS:
        raise Refusal(400, "blocks", f"a record has at most {MOST_BLOCKS} parts")
    for block in blocks:
        tags = [piece.tag for piece in TagScanner().all(block.text) if piece.tag is not None]
        if tags and block.kind != "code":
            raise Refusal(400, "blocks", f"{tags[0]} may not stand in a text; add or delete a part instead")
        if CODE_CLOSE in tags:
            raise Refusal(400, "blocks", f"{CODE_CLOSE} may not stand in code, which would end there; put it together")


async def rerun(
    draft: Draft, blocks: Sequence[Block], out: Path, recipe: DataRecipe, sandbox: Sandbox, prompts: PromptSet
) -> tuple[Draft, str]:
    """Make a draft anew from what a person wrote.

    It goes through the stages that a teacher's record goes through: the code runs in one session, what ran takes the
    place of what was written, and the rules and the search for leaks look at the whole. Its pictures are stored.

    Args:
        draft: The record, without pixels.
        blocks: As `require_blocks` takes them.
        out: Folder of the build.
        recipe: Of the build.
        sandbox: Where the code runs.
        prompts: Of the trained model.

    Returns:
        The record, without pixels; and why it cannot be accepted, or an empty text.

    Raises:
        StoreError: A picture cannot be read or stored.
        SandboxError: The sandbox failed, not the code.
    """
    loaded = await asyncio.to_thread(load, out, draft)
    assert isinstance(loaded, Draft)
    bare = {"segments": (), "conversation": (), "verdicts": (), "finished": False, "trajectory": None}
    blank = loaded.model_copy(update=bare)
    context = Context(recipe, sandbox, prompts, _Nobody(), benches={draft.id: Workbench()})
    async with AsyncExitStack() as resources:
        resources.push_async_callback(context.benches[draft.id].aclose)
        made = await _run(blank, blocks, context, _temperature(draft))
    record, wrong = await _judged(made, context)
    kept = await asyncio.to_thread(stored, out, record.model_copy(update={"conversation": draft.conversation}))
    assert isinstance(kept, Draft)
    return kept, wrong


async def _run(draft: Draft, blocks: Sequence[Block], context: Context, temperature: float) -> Draft | Rejection:
    """Write the segments one after the other, as a teacher would; what goes wrong is told once all have run."""
    text, wrong = THINK_OPEN, None
    for block in blocks:
        if block.kind == "text":
            text += block.text
        elif block.kind == "answer":
            text = f"{text}{THINK_CLOSE}\n{ANSWER_OPEN}{block.text.strip()}{ANSWER_CLOSE}"
        else:
            code = format_code(block.text).removeprefix(CODE_OPEN)
            written = (_wrote("text", text + _break(text) + CODE_OPEN, temperature), _wrote("code", code, temperature))
            draft = draft.model_copy(update={"segments": (*draft.segments, *written)})
            done = await execute(draft, context)
            if isinstance(done, Rejection):
                wrong, done = wrong or done, done.draft
            draft, text = done, ""
    final = draft.model_copy(
        update={"segments": (*draft.segments, _wrote("text", text, temperature)), "finished": True, "conversation": ()}
    )
    final = final.model_copy(update={"trajectory": finish(final, context)})
    return final if wrong is None else wrong.model_copy(update={"draft": final})


async def _judged(made: Draft | Rejection, context: Context) -> tuple[Draft, str]:
    if isinstance(made, Draft):
        refusal = fault("".join(segment.text for segment in made.segments))
        if refusal is not None:
            return made, _told(refusal.reason, refusal.note)
        for stage in (accept, leaks):
            made = await stage(made, context)
            if isinstance(made, Rejection):
                break
    return (made, "") if isinstance(made, Draft) else (made.draft, _told(made.reason, made.note))


def _told(reason: str, note: str) -> str:
    return f"{reason}: {note}" if note else reason


def _break(text: str) -> str:
    return "" if not text or text.endswith("\n") else "\n"


def _wrote(kind: Literal["text", "code"], text: str, temperature: float) -> Generated:
    return Generated(kind=kind, text=text, temperature=temperature)


def _temperature(draft: Draft) -> float:
    """As the teacher wrote at; what a person writes has none of its own."""
    return next((one.temperature for one in draft.segments if isinstance(one, Generated)), 0.0)


class _Nobody:
    """Stands where teachers would be: a person has written."""

    def choose(self, draft: Draft) -> NoReturn:
        raise AssertionError("nobody is asked about a record that a person wrote")

    async def ask(self, teacher: str, messages: list[dict[str, Any]], *, seed: int) -> Reply:
        raise AssertionError("nobody is asked about a record that a person wrote")
