"""What a stage is, and what it may use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol

from thyme.config.data import DataRecipe
from thyme.data.drafts import Draft, Rejection, Verdict
from thyme.errors import EngineError
from thyme.prompts import PromptSet
from thyme.sandbox.base import Sandbox, Session

CHECKER = "check"
"""Name under which `Teachers.ask` asks the judge of the recipe's check; no teacher may have it."""


class UnansweredError(EngineError):
    """The endpoint fails at this request time and again, and answers others meanwhile."""


@dataclass(frozen=True)
class Reply:
    """One turn of a model behind an endpoint."""

    text: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    usd: float
    recorded: bool
    """Whether it came from the record of an earlier run; tokens and price are then what it took when it was asked."""
    finish: str = "stop"
    """Why it ended, as the server says: ``stop``, ``length`` (the bound on a turn's tokens), ``content_filter``."""


class Teachers(Protocol):
    """Those who are asked, with their limits, budget and record."""

    def choose(self, draft: Draft) -> str:
        """Name (key in the recipe) of the teacher for a draft, by weight and the draft's seed."""

    async def ask(self, teacher: str, messages: list[dict[str, Any]], *, seed: int) -> Reply:
        """One turn. ``messages`` are those of the OpenAI chat protocol.

        The turn ends with ``</code>``, with ``</answer>``, or where the model ended it.

        Raises:
            ContextFullError, ImageRefusedError, NoVisionError, RefusedFieldError, UnansweredError: There is no answer
                to this request; the record is rejected.
            EngineError: The endpoint failed for good, or refuses everything. The build stops, and the record is not
                rejected.
            BudgetError: Nothing is left to spend.
        """


@dataclass
class Workbench:
    """What belongs to one draft while it is under way; the runner makes and closes it."""

    session: Session | None = None
    """The sandbox session of the draft, opened by ``execute`` at the first block."""
    resources: AsyncExitStack = field(default_factory=AsyncExitStack)
    """What ends with the draft: the session."""
    shown: dict[str, str] = field(default_factory=dict)
    """Images as they were shown: data URL by image id and bound on pixels, which teacher and judge may have apart."""

    async def aclose(self) -> None:
        """End the session."""
        self.session = None
        await self.resources.aclose()


@dataclass(frozen=True)
class Context:
    """What a stage may use; one for each process."""

    recipe: DataRecipe
    sandbox: Sandbox
    prompts: PromptSet
    """Of the trained model."""
    teachers: Teachers
    check: Callable[[Draft], Awaitable[Verdict]] | None = None
    """Who checks in place of the recipe's ``check.judge``, which is asked through `teachers`."""
    benches: dict[str, Workbench] = field(default_factory=dict)
    """By draft id."""


Stage = Callable[[Draft, Context], Awaitable[Draft | Rejection]]
"""Takes a draft one step further, or rejects it."""
