"""Who is asked where rules leave an answer open: math-verify, and a judge."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from thyme.config.rewards import JudgeSettings
from thyme.rewards.mathematics import MathVerifier, installed

if TYPE_CHECKING:
    from thyme.rewards.judge import Judge

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Referees:
    """Each of them is None where it is not asked."""

    judge: Judge | None = None
    mathematics: MathVerifier | None = None


@asynccontextmanager
async def open_referees(
    judge: JudgeSettings | None, counts: Counter[str], *, cache: Path | None, math_timeout_s: float | None, extra: str
) -> AsyncIterator[Referees]:
    """Both, until the context is left; connections and processes are then closed.

    Args:
        judge: Whom to ask; None asks nobody, and nothing leaves this machine.
        counts: The judge counts here; see `thyme.rewards.judge.Judge`.
        cache: Folder of verdicts where the settings name none; None keeps them in memory.
        math_timeout_s: Of one comparison, seconds of wall clock; None compares nothing.
        extra: What to install where math-verify is missing; a warning says so, and nothing is compared.

    Raises:
        UsageError: The judge's model is not ``URL#NAME``.
    """
    async with AsyncExitStack() as held:
        mathematics = asked = None
        if math_timeout_s is not None and installed():
            mathematics = MathVerifier(math_timeout_s)
            held.push_async_callback(asyncio.to_thread, mathematics.close)
        elif math_timeout_s is not None:
            logger.warning(
                "math-verify is not installed: LaTeX and formulas are compared as text; pip install 'thyme-vl[%s]'",
                extra,
            )
        if judge is not None:
            from thyme.rewards.judge import Judge  # and with it httpx

            asked = Judge(judge, counts, cache=cache)
            held.push_async_callback(asked.aclose)
        yield Referees(asked, mathematics)
