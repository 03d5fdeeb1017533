"""After acceptance: does the record give away what only its teacher knew? See `thyme.data.leaks`."""

from __future__ import annotations

from thyme.data.drafts import Draft, Rejection
from thyme.data.leaks import leaks as found_in
from thyme.data.stages.base import Context

STAGE = "leaks"


async def leaks(draft: Draft, context: Context) -> Draft | Rejection:
    """Reject a finished draft that holds the angle, the box or the answer where nobody could have known it.

    Args:
        draft: Finished.
        context: Not looked at.

    Returns:
        The draft as it came; or a rejection with the place of the first leak as reason: ``leak_name``,
        ``leak_comment``, ``leak_prompt`` or ``leak_told``.
    """
    found = found_in(draft)
    if not found:
        return draft
    return Rejection.of(draft, STAGE, found[0].where, f"{found[0].what} in {found[0].text!r}")
