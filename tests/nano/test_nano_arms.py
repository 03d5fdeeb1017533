"""Every arm on the shipped weights: each takes away what it says, and what needs no code stays as it is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from thyme.agent.rollout import rollout
from thyme.config import EngineConfig, RolloutConfig, SandboxConfig
from thyme.engines import open_engine
from thyme.engines.base import Engine
from thyme.eval.arms import ARMS, NO_TOOLS, REPAIRS_OFF, RETRY, TOOLS, UNTRAINED, item_of
from thyme.eval.arms_crops import CROP_ONLY, PLACEBO
from thyme.eval.counterfactual import BLANKED, SWAPPED, WITHHELD, DonorPool, evidence
from thyme.eval.items import ItemResult
from thyme.eval.runner import derive_seed, score_trajectory
from thyme.nano import checkpoint_path
from thyme.nano.world import Kind, problem
from thyme.prompts import PromptSet
from thyme.sandbox import open_sandbox
from thyme.types import Generated, Observation, Problem, Trajectory

pytestmark = pytest.mark.timeout(600)  # of the fixture, on a busy machine; it takes some ten seconds on a quiet one

KINDS: tuple[Kind, ...] = ("zoom", "easy", "rotation", "arithmetic")
PROBLEMS = [
    *(problem("test", 3, 0, kind) for kind in KINDS),
    *(problem("test", 3, 1, kind) for kind in ("zoom", "arithmetic")),
]
CONFIG = RolloutConfig(max_rounds=2, max_round_tokens=128, max_tokens=160)
CHANGED = (CROP_ONLY, PLACEBO, WITHHELD, SWAPPED, BLANKED)
Runs = dict[str, dict[str, Trajectory]]


async def _ask(arm: str, engine: Engine, done: dict[str, Trajectory]) -> dict[str, Trajectory]:
    """Every problem under one arm, as a run of the evaluation asks them."""
    chosen, pool = ARMS[arm], DonorPool.of(done.values())
    words = PromptSet.load(checkpoint_path("final") / "prompts")
    async with open_sandbox(chosen.sandbox_config(SandboxConfig())) as sandbox:

        async def one(asked: Problem) -> Trajectory:
            donor = None
            if chosen.needs_donor:
                draws = any(execution.images for execution in evidence(done[asked.id]))
                donor = pool.choose(asked, draws=draws)
            lent = () if donor is None else evidence(done[donor.problem])
            changed = chosen.sandbox_for(sandbox, asked, lent)
            seed = derive_seed(0, asked)
            return await rollout(asked, engine, changed, chosen.rollout_config(CONFIG), prompts=words, seed=seed)

        return {t.problem.id: t for t in await asyncio.gather(*map(one, PROBLEMS))}


@pytest.fixture(scope="module")
def runs() -> Runs:
    """Trajectories by arm and problem."""

    async def work() -> Runs:
        trained = open_engine(str(checkpoint_path("final")), EngineConfig(max_batch=48))
        base = open_engine(str(checkpoint_path("base")), EngineConfig(max_batch=8))
        with_tools = await _ask(TOOLS, trained, {})
        arms = [name for name in ARMS if name not in {TOOLS, RETRY}]
        asked = [_ask(name, base if ARMS[name].untrained else trained, with_tools) for name in arms]
        found = dict(zip(arms, await asyncio.gather(*asked), strict=True))  # at once: a step costs as much for many
        await trained.aclose()
        await base.aclose()
        return {TOOLS: with_tools, **found}

    return asyncio.run(work())


def items(runs: Runs, arm: str, *kinds: Kind) -> list[ItemResult]:
    wanted = [asked for asked in PROBLEMS if asked.kind in kinds]
    found = [_made.get((arm, asked.id)) or _item(runs[arm][asked.id], asked, arm) for asked in wanted]
    _made.update({(arm, item.problem): item for item in found})
    return found


_made: dict[tuple[str, str], ItemResult] = {}
"""Looking for crops takes a moment."""


def _item(trajectory: Trajectory, asked: Problem, arm: str) -> ItemResult:
    return item_of(trajectory, asked, score_trajectory(trajectory), arm, benchmark="nano")


def right(runs: Runs, arm: str, *kinds: Kind) -> list[float | None]:
    return [item.score for item in items(runs, arm, *kinds)]


def until_evidence(trajectory: Trajectory) -> Sequence[tuple[str, str]]:
    """What the model wrote before the first observation."""
    written = []
    for segment in trajectory.segments:
        if isinstance(segment, Observation):
            break
        assert isinstance(segment, Generated)
        written.append((segment.kind, segment.text))
    return written


def test_with_tools_all_is_right_and_the_crop_covers_the_plate(runs: Runs) -> None:
    assert right(runs, TOOLS, *KINDS) == [1.0] * len(PROBLEMS)
    for item in items(runs, TOOLS, "zoom"):
        assert item.faithfulness is not None
        assert (item.faithfulness.covered, item.faithfulness.coverage, item.changed) == (True, 1.0, 0)
    assert all(not item.used_code for item in items(runs, TOOLS, "easy"))


def test_no_rollout_of_any_arm_failed(runs: Runs) -> None:
    assert [t.error for by_problem in runs.values() for t in by_problem.values()] == [None] * len(PROBLEMS) * len(runs)


@pytest.mark.parametrize("arm", [*CHANGED, REPAIRS_OFF])
def test_what_needs_no_code_is_untouched(runs: Runs, arm: str) -> None:
    for tools, other in zip(items(runs, TOOLS, "easy"), items(runs, arm, "easy"), strict=True):
        assert (other.prediction, other.score, other.blocks, other.changed) == (tools.prediction, 1.0, 0, 0)
    assert ARMS[arm].same_without_code


@pytest.mark.parametrize("arm", CHANGED)
def test_all_is_the_same_until_the_first_observation(runs: Runs, arm: str) -> None:
    for name, trajectory in runs[arm].items():
        assert until_evidence(trajectory) == until_evidence(runs[TOOLS][name])


def test_crops_only_is_the_same_where_only_crops_are_made(runs: Runs) -> None:
    for asked in PROBLEMS:
        if asked.kind in {"zoom", "easy"}:
            tools, crops = runs[TOOLS][asked.id], runs[CROP_ONLY][asked.id]
            assert [s.text for s in tools.segments] == [s.text for s in crops.segments]
            assert [[i.id for i in o.execution.images] for o in tools.observations] == [
                [i.id for i in o.execution.images] for o in crops.observations
            ]
    assert right(runs, CROP_ONLY, "rotation", "arithmetic") == [0.0] * 3, "turning and computing are no crops"


def test_random_crops_break_zoom_and_nothing_else(runs: Runs) -> None:
    assert right(runs, PLACEBO, "zoom") == [0.0, 0.0]
    assert right(runs, PLACEBO, "rotation", "arithmetic") == [1.0] * 3
    for item in items(runs, PLACEBO, "zoom"):
        assert item.changed >= 1
        assert item.repaired == 0, "what an arm did is no repair"
        assert item.faithfulness is not None
        assert item.faithfulness.covered is False


def test_blanked_breaks_what_was_seen_and_not_what_was_computed(runs: Runs) -> None:
    assert right(runs, BLANKED, "zoom", "rotation") == [0.0] * 3
    assert right(runs, BLANKED, "arithmetic") == [1.0, 1.0]


def test_withheld_breaks_all_that_code_found_out(runs: Runs) -> None:
    assert right(runs, WITHHELD, "zoom", "rotation", "arithmetic") == [0.0] * 5
    first = next(iter(runs[WITHHELD].values())).observations[0]
    assert "(no output)" in first.text
    assert not first.execution.images


def test_swapped_makes_the_answer_another_and_for_sums_that_of_the_other_problem(runs: Runs) -> None:
    assert right(runs, SWAPPED, "zoom", "rotation", "arithmetic") == [0.0] * 5
    one, other = items(runs, SWAPPED, "arithmetic")
    assert (one.prediction, other.prediction) == (other.reference, one.reference)


def test_clean_code_runs_without_repairs_and_blocked_or_untrained_models_run_none(runs: Runs) -> None:
    assert right(runs, REPAIRS_OFF, *KINDS) == right(runs, TOOLS, *KINDS)
    assert not any(item.used_code for arm in (NO_TOOLS, UNTRAINED) for item in items(runs, arm, *KINDS))
    assert right(runs, NO_TOOLS, "zoom", "rotation") == [0.0] * 3
    assert right(runs, NO_TOOLS, "easy") == [1.0]
