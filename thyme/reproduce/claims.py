"""What the paper claims, in the terms of this world, and the rules by which it is judged.

All of this was written down before the steps whose results it judges ran. Of the ablations an earlier run, with other
demonstrations, was known by then: their comparisons were named before that one; which of them make up a claim, and
how they are put together, was written between the two. A rule is a pure function of intervals:

- *more*, *less*: reproduced where every 95 % interval that is known leaves out 0 on the side that the paper has;
  contradicted where every one leaves it out on the other side; else not seen.
- *no worse* (by a margin): reproduced where every interval lies above minus the margin; contradicted where every one
  lies below it; else not seen.
- A claim of several parts, or of one part measured from several starts: contradicted where a part is contradicted and
  none is reproduced; reproduced where at least half of them are reproduced and none is contradicted; else not seen.
- Without an interval nothing is judged: not measured. Nothing is corrected for the number of claims.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from thyme.reproduce.measures import NEEDED, Difference, Found, Interval, Measure

Verdict = Literal["reproduced", "not seen", "contradicted", "not measured"]
Rule = Literal["more", "less", "no worse"]


@dataclass(frozen=True)
class Part:
    """One thing that a claim says of the figures."""

    what: str
    rule: Rule
    measure: Measure
    """The differences that it speaks about; none where they were not measured."""
    margin: float = 0.0
    """Of ``no worse``, in the unit of the difference."""


@dataclass(frozen=True)
class Claim:
    """A claim of the paper."""

    name: str
    says: str
    """In the terms of this world."""
    paper: str
    """The paper's own figures where some correspond; empty where it has none."""
    parts: tuple[Part, ...]
    caution: str = ""
    """What must be known before more is read into the verdict."""
    cause: str = ""
    """What is known of why it was not seen, from the ablations that this repository tells of."""


def judge(rule: Rule, intervals: Sequence[Interval], margin: float = 0.0) -> Verdict:
    """The verdict on one difference; see the head of this module."""
    if not intervals:
        return "not measured"
    sign = -1 if rule == "less" else 1
    bound = -margin if rule == "no worse" else 0.0
    sides = [(min(sign * low, sign * high), max(sign * low, sign * high)) for low, high in intervals]
    if all(low > bound for low, _ in sides):
        return "reproduced"
    return "contradicted" if all(high < bound for _, high in sides) else "not seen"


def combine(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict on a claim of several differences; those that were not measured do not count."""
    told = [verdict for verdict in verdicts if verdict != "not measured"]
    if not told:
        return "not measured"
    good, bad = told.count("reproduced"), told.count("contradicted")
    if bad and not good:
        return "contradicted"
    return "reproduced" if not bad and 2 * good >= len(told) else "not seen"


@dataclass(frozen=True)
class Judged:
    """A claim, and what came of it."""

    claim: Claim
    verdict: Verdict
    parts: tuple[tuple[Part, Difference, Verdict], ...]

    @property
    def basis(self) -> str:
        """What the intervals speak about."""
        return ", ".join(dict.fromkeys(difference.basis for _, difference, _ in self.parts))


def judged(found: Found, claims: Sequence[Claim] | None = None) -> list[Judged]:
    """Judge all claims."""
    return [_judged(claim, found) for claim in (CLAIMS if claims is None else claims)]


def _judged(claim: Claim, found: Found) -> Judged:
    parts = tuple(
        (part, difference, judge(part.rule, difference.intervals, part.margin))
        for part in claim.parts
        for difference in part.measure(found)
    )
    return Judged(claim, combine([verdict for *_, verdict in parts]), parts)


def _gain(one: str, other: str, measure: str = "right", kinds: Sequence[str] | None = None) -> Measure:
    def find(found: Found) -> list[Difference]:
        if one not in found.asked or other not in found.asked or not found.asked.seeds(one, other):
            return []
        gain = found.asked.gain(one, other, measure, *(() if kinds is None else (kinds,)))
        return [] if gain is None else [gain]

    return find


def _sft(better: str, worse: str, measure: str) -> Measure:
    return lambda found: found.sft(better, worse, measure)


def _grpo(measure: str, *pairs: tuple[str, str]) -> Measure:
    return lambda found: found.grpo(measure, pairs)


_TAUS = (("tau0_mask", "tau1_mask"), ("tau0_keep", "tau1_keep"))
_POINTS = 0.02
"""How much accuracy may be lost without being called a cost: two points."""

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "code",
        "With code the model answers what it cannot answer without: the same weights, code allowed and blocked.",
        "No such counterpart in the paper; others solve 96 % of what Thyme solves with tools without them, too "
        "(arXiv 2606.02357).",
        (Part("right, kinds that need code: with code − blocked", "more", _gain("sft", "blocked", kinds=NEEDED)),),
        "These kinds were made so that a look is not enough.",
    ),
    Claim(
        "direct",
        "Learning to look by code beats learning to answer at once, on the same problems with as many steps.",
        "",
        (
            Part("right, kinds that need code: SFT − direct", "more", _gain("sft", "direct", kinds=NEEDED)),
            Part("right, easy: SFT − direct", "no worse", _gain("sft", "direct", kinds=("easy",)), 0.05),
        ),
        "Most of what it is taught cannot be seen at a look, and spoils what can: the shipped baseline was trained for "
        "longer, and is right on easy questions nearly as often as with code (README).",
    ),
    Claim(
        "taught",
        "A base does not use code for being asked to; fine-tuning teaches it.",
        "Table 5, base → all of SFT: V* 76.4 → 79.6, MME-RW-Lite perception 48.8 → 51.8, MathVista 68.2 → 68.7.",
        (Part("right, all kinds: SFT − base with the code prompt", "more", _gain("sft", "base")),),
        "The base here has never seen the words of the answer either; the paper's can answer.",
    ),
    Claim(
        "rl",
        "Reinforcement makes the fine-tuned model better.",
        "Table 6, SFT → chosen reward: mean of seven 62.0 → 65.7, V* 79.6 → 81.8, HR-Bench 8K 65.1 → 72.3.",
        (Part("right, all kinds: SFT + RL − SFT", "more", _gain("rl", "sft")),),
        cause="The fine-tuned model uses code wherever it is needed already, so that no decision is left to learn, and "
        "the tokens of code are not in the loss; see what reinforcement changed, above.",
    ),
    Claim(
        "when",
        "Reinforcement teaches when code is worth it: less where a look is enough, more where it is not.",
        "Its curves: a swift reduction of unnecessary code; answers shorten from about 700 to about 200 tokens.",
        (
            Part("code used, easy: after RL − before", "less", _gain("when", "undecided", "code", ("easy",))),
            Part("code used, kinds that need it: after − before", "more", _gain("when", "undecided", "code", NEEDED)),
            Part("right, all kinds: after − before", "more", _gain("when", "undecided")),
        ),
        "The start was taught to toss a coin for code; the reward takes 0.2 for any use of it.",
    ),
    Claim(
        "mask",
        "Masking what the sandbox gave back helps.",
        "Table 5: MME-RW-Lite perception +6.1, V* +5.8, Hallusion +8.0; HR-Bench 8K −4.4.",
        (Part("right, kinds with a picture: masked − naive", "more", _sft("mask", "naive", "perception")),),
        cause="After so few steps seeds differ more than the arms do in how far reading has begun, and one of three "
        "goes the other way (ablation_sft.md).",
    ),
    Claim(
        "last-round",
        "Training on the last round only helps a little.",
        "Table 5: MME-RW-Lite perception +0.4, reasoning +2.6, V* +0.03.",
        (Part("right, kinds with a picture: last round − all", "more", _sft("last_round", "mask", "perception")),),
        cause="The first code block of a two-round question is never a target, and code is given up there; of the "
        "other kinds seeds differ more than the arms do (ablation_sft.md).",
    ),
    Claim(
        "annealing",
        "A short stage on maths gives back what maths had lost, at no cost in perception.",
        "Table 5: MathVista +0.3, MME-RW-Lite perception +1.3.",
        (
            Part("right, arithmetic", "more", _sft("able_annealing", "able", "arithmetic")),
            Part("right, kinds with a picture", "no worse", _sft("able_annealing", "able", "perception"), _POINTS),
        ),
        "From weights that can compute; a base that cannot is told of in ablation_sft.md.",
    ),
    Claim(
        "consistency",
        "A consistency that pays only where the answer is right keeps the model from being consistently wrong.",
        "Table 6 pays consistency in this way: mean of seven 63.6 → 65.7 against outcome and format alone; no other "
        "gate was tried.",
        (
            Part(
                "consistent and wrong: gated − additive",
                "less",
                _grpo("consistent and wrong", ("tau0_mask", "additive")),
            ),
            Part("right: gated − additive", "more", _grpo("accuracy", ("tau0_mask", "additive"))),
            Part("right: gated − none", "more", _grpo("accuracy", ("tau0_mask", "ungated"))),
        ),
        cause="Every seed has fewer consistent wrong answers with the gate, by amounts that differ too much; accuracy "
        "goes both ways (ablation_grpo.md).",
    ),
    Claim(
        "ats-runs",
        "Code sampled at temperature 0 runs more often than code sampled at 1.",
        "The paper says so and has no such ablation.",
        (Part("code that runs, last steps: τ 0 − τ 1", "more", _grpo("executable rate", *_TAUS)),),
        "From the injected start an effect is one of the errors that were injected.",
    ),
    Claim(
        "ats-keeps",
        "At temperature 1 the model gives code up, at 0 it keeps using it.",
        "The paper says so and has no such ablation.",
        (Part("code used, last steps: τ 0 − τ 1", "more", _grpo("tool rate", *_TAUS)),),
    ),
    Claim(
        "ats-teaches",
        "At temperature 0 the same rollouts teach more.",
        "The paper says so and has no such ablation.",
        (Part("right at the end: τ 0 − τ 1", "more", _grpo("accuracy", *_TAUS)),),
        cause="All pairs of runs but one go the paper's way, by amounts that differ too much for three seeds; where "
        "code tokens are in the loss, temperature 1 unlearns the injected errors by itself in most (ablation_grpo.md).",
    ),
    Claim(
        "repairs",
        "Repairs in the sandbox let more of the fine-tuned model's code run, and more answers be right.",
        "The paper says so (section 2.2) and has no such ablation.",
        (
            Part("code that runs: repairs on − off", "more", _gain("sft", "bare", "executable")),
            Part("right: repairs on − off", "more", _gain("sft", "bare")),
        ),
        "Where hardly any block needs a repair, nothing can be seen: see the share of repaired blocks.",
        "Its code hardly ever needs a repair: see the share of problems with one, above, and the next claim.",
    ),
    Claim(
        "repairs-needed",
        "The same for a model whose code is in need of repair.",
        "The paper says so (section 2.2) and has no such ablation.",
        (
            Part("code that runs: repairs on − off", "more", _gain("careless", "careless-bare", "executable")),
            Part("right: repairs on − off", "more", _gain("careless", "careless-bare")),
        ),
        "By construction: it was taught to leave out its imports, which a repair makes up for.",
    ),
    Claim(
        "stop",
        "Stopping a rollout that repeats itself saves tokens and costs no right answer.",
        "The paper says so and has no such ablation.",
        (
            Part("tokens written a problem, looping start: stop on − off", "less", _gain("loop", "loop-off", "tokens")),
            Part("right, looping start: stop on − off", "no worse", _gain("loop", "loop-off"), _POINTS),
        ),
        "The start was taught to loop.",
    ),
    Claim(
        "stop-trains",
        "In training from a looping start the stop saves tokens, and the model is as good at the end.",
        "The paper says so and has no such ablation.",
        (
            Part("tokens a rollout, all steps: stop on − off", "less", lambda found: found.trained_tokens()),
            Part("right at the end: stop on − off", "no worse", _gain("rl-loop", "rl-loop-off"), 0.05),
        ),
    ),
    Claim(
        "cost",
        "Reinforcement costs more than fine-tuning.",
        "More than 1200 GPU hours after about 224.",
        (Part("CPU seconds of training: RL − SFT", "more", lambda found: found.cost("rl", "sft")),),
        "It follows from the sizes of the recipes.",
    ),
)
"""In the order in which the report has them."""
