"""How the evaluation scores an answer: by the benchmark's rules, then by mathematics, then by a judge.

Each comes only where the one before leaves the answer open. Without a judge, rules decide alone as well as they can,
and the note says so. A judge that cannot be reached, or math-verify without time to work and no judge behind it, leaves
the item unscored, which is never a 0; the report counts those, and the next sitting of the run scores them again.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from thyme.config.rewards import JudgeSettings
from thyme.errors import ThymeError
from thyme.eval.benchmarks.base import WITHOUT_JUDGE, Benchmark, without_judge
from thyme.eval.benchmarks.free_text import offered, unboxed
from thyme.eval.items import NO_VERDICT
from thyme.rewards import material
from thyme.rewards.mathematics import MathVerifier, StoppedError, expressions
from thyme.rewards.referees import open_referees
from thyme.rewards.verdicts import Extracted, Kind, Material, Verdict, shorten
from thyme.types import Problem, Score

if TYPE_CHECKING:
    from thyme.rewards.judge import Judge

logger = logging.getLogger(__name__)

MATH_TIMEOUT_S = 5.0
"""Of one comparison by math-verify."""


@dataclass(frozen=True, slots=True)
class Scored:
    """What an answer is worth, and who had the last word."""

    score: Score
    judged: bool = False
    """Whether a judge was heard, also where it only said what was answered."""


class AnswerScorer:
    """Scores answers; as many at once as one likes, in one event loop. See `open_answer_scorer`."""

    def __init__(self, judge: Judge | None = None, mathematics: MathVerifier | None = None) -> None:
        """Use `open_answer_scorer`."""
        self._judge, self._mathematics = judge, mathematics
        self._warned = False

    async def check(self) -> None:
        """Ask the judge, if there is one, for one verdict, so that no run begins with one that cannot judge.

        Raises:
            NoVerdictError: It gives none; the message says why.
        """
        if self._judge is not None:
            await self._judge.check()

    async def score(self, benchmark: Benchmark, problem: Problem, answer: str | None) -> Scored:
        """Score one answer.

        Args:
            benchmark: The problem's.
            problem: Holds the reference.
            answer: Text of the answer; None where none was given.

        Returns:
            A score whose value is None where there is no reference, or where math-verify or a judge was needed and not
            to be had; the note says which, and `ItemResult.waits_for_verdict` that it is to be scored again.
        """
        answer = None if answer is None else unboxed(answer)
        by_rules = benchmark.score(problem, answer)
        if answer is None or by_rules.value is not None or WITHOUT_JUDGE not in by_rules.parts:
            return Scored(by_rules)
        outage: ThymeError | None = None
        try:
            if await self._equal(benchmark, problem, answer):
                return Scored(_decided(by_rules, 1.0, "math-verify"))
        except ThymeError as error:
            outage = error
        if benchmark.judge is not None and self._judge is not None:
            return await self._judged(self._judge, benchmark.judge, benchmark, problem, answer, by_rules)
        if outage is not None:
            return self._left_open(benchmark, problem, by_rules, outage)
        return Scored(without_judge(by_rules))

    async def _judged(
        self, judge: Judge, kind: Kind, benchmark: Benchmark, problem: Problem, answer: str, by_rules: Score
    ) -> Scored:
        try:
            verdict = await judge.verdict(kind, (benchmark.asked or MATERIAL[kind])(problem, answer))
            if isinstance(verdict, Extracted):
                return Scored(await self._compared(benchmark, problem, verdict, by_rules), judged=True)
        except ThymeError as error:
            return self._left_open(benchmark, problem, by_rules, error)
        return Scored(_decided(by_rules, _value(verdict), f"{kind} by judge"), judged=True)

    async def _compared(self, benchmark: Benchmark, problem: Problem, said: Extracted, by_rules: Score) -> Score:
        """The score of what a judge says was answered.

        Raises:
            ThymeError: As of `_equal`.
        """
        text = said.answer.strip()
        if not text:
            return _decided(by_rules, 0.0, "extract by judge: no answer")
        again = benchmark.score(problem, text)
        if again.value is None and await self._equal(benchmark, problem, text):
            return _decided(again, 1.0, f"extract by judge: {shorten(text, 80)}; math-verify")
        value = again.parts.get(WITHOUT_JUDGE) or 0.0 if again.value is None else again.value
        return _decided(again, value, f"extract by judge: {shorten(text, 80)}")

    async def _equal(self, benchmark: Benchmark, problem: Problem, answer: str) -> bool:
        """Whether mathematics finds the answer right; what takes it too long is not.

        Raises:
            ThymeError: It could not work, which is no fault of the answer.
        """
        if not benchmark.mathematics or self._mathematics is None or (asked := expressions(problem, answer)) is None:
            return False
        try:
            return (await self._mathematics.compare(*asked)).equal
        except StoppedError as error:
            logger.debug("math-verify on %s of %s: %s", problem.id, benchmark.name, error)
            return False

    def _left_open(self, benchmark: Benchmark, problem: Problem, by_rules: Score, error: ThymeError) -> Scored:
        """No score, since whoever had to decide was not to be had."""
        if not self._warned:
            logger.warning("no verdict on %s of %s: %s", problem.id, benchmark.name, error)
        self._warned = True
        return Scored(_decided(by_rules, None, f"{NO_VERDICT}{error}"))


def _decided(score: Score, value: float | None, note: str) -> Score:
    return score.model_copy(update={"value": value, "note": f"{score.note}; {note}" if score.note else note})


def _value(verdict: Verdict) -> float:
    """Grades in tenths: a judge that says 0.33 is not more exact than one that was asked for tenths."""
    return round(verdict.value, 1)


# --- what a judge is shown --------------------------------------------------------------------------------------------


def of_extraction(problem: Problem, answer: str) -> dict[str, Material]:
    """Question, options and reply; never the reference. ``meta["wanted"]`` names the form of the answer."""
    options = {letter: shorten(option, material.MAX_ANSWER) for letter, option in offered(problem).items()}
    return {
        "question": shorten(problem.question, material.MAX_ANSWER),
        **({"options": options} if options else {}),
        "wanted": str(problem.meta.get("wanted") or ("the letter of the option" if options else "the answer alone")),
        "reply": shorten(answer, material.MAX_ANSWER),
    }


MATERIAL: Mapping[Kind, Callable[[Problem, str], Mapping[str, Material]]] = {
    "extract": of_extraction,
    "result": material.of_result,
    "grade": lambda problem, answer: material.of_comparison(problem.question, problem.answer or "", answer),
}
"""By what is asked."""


@asynccontextmanager
async def open_answer_scorer(
    judge: JudgeSettings | None = None, *, cache: Path | None = None
) -> AsyncIterator[AnswerScorer]:
    """A scorer, and what it needs, until the context is left.

    Args:
        judge: Whom to ask; None asks nobody, and nothing leaves this machine.
        cache: Folder of verdicts where the settings name none; None keeps them in memory.

    Raises:
        UsageError: The judge's model is not ``URL#NAME``.
    """
    async with open_referees(judge, Counter(), cache=cache, math_timeout_s=MATH_TIMEOUT_S, extra="eval") as referees:
        yield AnswerScorer(referees.judge, referees.mathematics)
