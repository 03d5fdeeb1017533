"""Made-up items of an evaluation, for tests of figures and reports: no model, no sandbox; seeded."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from thyme.eval.items import Faithfulness, ItemResult
from thyme.eval.manifest import BenchmarkUse, RunManifest
from thyme.types import Fingerprints, StopReason

RATES = {
    "tools": 0.78,
    "no_tools": 0.68,
    "crop_only": 0.74,
    "placebo": 0.62,
    "repairs_off": 0.75,
    "withheld": 0.55,
    "swapped": 0.5,
    "blanked": 0.58,
    "retry": 0.8,
}
"""How often an arm is right."""


def item(problem: str = "p1", arm: str = "tools", score: float | None = 1.0, **fields: Any) -> ItemResult:
    """One item, right unless told otherwise."""
    told = {"benchmark": "VStarBench", "stop": StopReason.ANSWER, "reference": "A"}
    told["prediction"] = None if score is None else "A" if score >= 0.5 else "B"
    return ItemResult(**{**told, **fields, "problem": problem, "arm": arm, "score": score})


def run_items(
    benchmark: str = "VStarBench", n: int = 120, arms: Sequence[str] = tuple(RATES), seed: int = 0
) -> list[ItemResult]:
    """Problems under several arms, which agree as arms of one model do: a hard problem is hard for all."""
    made = []
    for place in range(n):
        rng = random.Random(f"{seed}/{benchmark}/{place}")
        ease = rng.random()
        side = rng.choice([640, 1500, 3000, 5000])
        code = rng.random() < 0.7
        for arm in arms:
            made.append(_one(benchmark, place, arm, ease, side, code and arm != "no_tools", rng))
    return made


def _one(benchmark: str, place: int, arm: str, ease: float, side: int, code: bool, rng: random.Random) -> ItemResult:
    right = 0.75 * ease + 0.25 * rng.random() > 1 - RATES.get(arm, 0.6)
    blocks = rng.choice([1, 1, 2, 3]) if code else 0
    coverage = rng.choice([0.0, 0.3, 0.9, 1.0]) if code and rng.random() < 0.8 else None
    looked = Faithfulness(
        boxes=((10, 10, 200, 200),) if coverage is not None else (),
        coverage=coverage,
        iou=None if coverage is None else coverage / 3,
        covered=None if coverage is None else coverage >= 0.5,
    )
    failed = place == 5 and arm == "tools"
    return item(
        f"{place}",
        arm,
        None if failed else float(right),
        benchmark=benchmark,
        place=place,
        kind="direct_attributes" if place % 5 < 3 else "relative_position",
        meta={"boxes": [[20, 20, 60, 60]]},
        stop=StopReason.ERROR if failed else StopReason.ANSWER,
        trajectory=f"{benchmark}-{place}-{arm}",
        blocks=blocks,
        ran=max(0, blocks - (rng.random() < 0.1)),
        repaired=int(code and rng.random() < 0.2),
        changed=blocks if arm in {"withheld", "swapped", "blanked"} else 0,
        prompt_tokens=900 + side // 10,
        generated_tokens=80 + 120 * blocks + rng.randrange(60),
        observation_tokens=64 * blocks,
        seconds=1.5 + 2.2 * blocks + rng.random(),
        image_sizes=((side, side * 3 // 4),),
        seen_sizes=((min(side, 1200), min(side, 1200) * 3 // 4),),
        faithfulness=looked if code else None,
    )


def manifest(items: Sequence[ItemResult], **fields: Any) -> RunManifest:
    """What such items were made with."""
    names = list(dict.fromkeys(one.benchmark for one in items))
    uses = [
        BenchmarkUse(
            name=name,
            file=f"{name}.tsv",
            digest="3f9a6c2e81d04b57a0c2d6e91b7f3a58",
            problems=len({one.problem for one in items if one.benchmark == name}),
            published=191 if name == "VStarBench" else None,
        )
        for name in names
    ]
    told: dict[str, Any] = {
        "model": "made-up-7B",
        "benchmarks": uses,
        "arms": list(dict.fromkeys(one.arm for one in items)),
        "fingerprints": Fingerprints(model="aa11bb22", tokenizer="cc33dd44", prompts="ee55ff66"),
        "rollout": {"text_temperature": 0.0, "code_temperature": 0.0, "max_rounds": 5, "max_tokens": 4096},
        "isolation": "namespaces",
        "min_pixels": 3136,
        "max_pixels": 2408448,
        "prompts": "ee55ff66",
        "versions": {"thyme-vl": "0.1.0", "python": "3.11.2"},
        "started": "2026-11-23T12:00:00Z",
        "seconds": 5400.0,
    }
    return RunManifest(**{**told, **fields})
