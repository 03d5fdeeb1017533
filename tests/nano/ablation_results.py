"""Made-up results of the ablation of GRPO-ATS: no model, no sandbox."""

from __future__ import annotations

import random

from thyme.nano.asked import Outcome
from thyme.nano.grpo_ablation.records import Count, GRPOArmResult, Injection, Measured, StartResult
from thyme.nano.world import KINDS


def outcomes(rng: random.Random, share: float, n: int = 4) -> tuple[Outcome, ...]:
    found = []
    for kind in KINDS:
        for index in range(n):
            blocks = rng.randint(0, 2)
            ran = rng.randint(0, blocks)
            found.append(
                Outcome(
                    id=f"{kind}-{index}",
                    kind=kind,
                    right=float(rng.random() < share),
                    labels=0.0,
                    blocks=blocks,
                    ran=ran,
                    repaired=rng.randint(0, ran),
                    consistent=rng.choice([None, 0.0, 1.0]),
                )
            )
    return tuple(found)


def arm_result(start: str, arm: str, seed: int, *, steps: int = 6, tool: float = 0.5) -> GRPOArmResult:
    rng = random.Random(f"{start}/{arm}/{seed}")
    counts = []
    for step in range(1, steps + 1) if arm != "start" else ():
        for kind in KINDS:
            coded = sum(rng.random() < tool for _ in range(8))
            blocks = coded + rng.randint(0, coded)
            ran = rng.randint(0, blocks)
            counts.append(
                Count(
                    step=step,
                    kind=kind,
                    rollouts=8,
                    coded=coded,
                    worked=min(coded, ran),
                    blocks=blocks,
                    ran=ran,
                    repaired=ran // 2,
                    scored=8,
                    reward=rng.uniform(0, 16),
                    right=float(rng.randint(0, 8)),
                    tokens=800,
                )
            )
    return GRPOArmResult(
        start=start,
        arm=arm,
        seed=seed,
        counts=tuple(counts),
        entropy=({"text": 0.5},) * steps,
        asked=outcomes(rng, 0.6),
        asked_bare=outcomes(rng, 0.4),
    )


def start_result(start: str) -> StartResult:
    rng = random.Random(start)
    injection = Injection(probability=0.1, alternatives=50, blocks=9, touched=5, tokens=400, replaced=41)
    return StartResult(
        start=start,
        weights="final" if start == "injected" else "base",
        steps=7,
        samples=80,
        trained_tokens=4000,
        last_loss=0.5,
        seconds=1.0,
        injection=injection if start == "injected" else None,
        measured=tuple(
            Measured(tau=tau, repairs=repairs, outcomes=outcomes(rng, 0.5))
            for tau in (0.0, 0.3, 1.0)
            for repairs in (True, False)
        ),
    )
