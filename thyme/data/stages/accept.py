"""After the last block: is the record what its scenario wants? By rules that look at answer, text, code and pixels."""

from __future__ import annotations

import asyncio

from thyme.data.drafts import Draft, Rejection
from thyme.data.scenarios import SCENARIOS
from thyme.data.scenarios.rules import COMMON
from thyme.data.stages.base import Context

STAGE = "accept"


async def accept(draft: Draft, context: Context) -> Draft | Rejection:
    """Hold a finished draft against the rules of all scenarios, then against those of its own.

    Args:
        draft: Finished, images loaded.
        context: Not looked at.

    Returns:
        The draft as it came; or a rejection with the reason of the first rule that finds fault.
    """
    return await asyncio.to_thread(accepted, draft)  # pixels are compared here


def accepted(draft: Draft) -> Draft | Rejection:
    """`accept`, outside of any event loop."""
    for rule in (*COMMON, *SCENARIOS[draft.scenario].rules):
        refusal = rule(draft)
        if refusal is not None:
            return Rejection.of(draft, STAGE, refusal.reason, refusal.note)
    return draft
