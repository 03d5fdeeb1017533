"""Each arm changes what it says and nothing else; items count what happened; faithfulness is geometry."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import crop_pictures as pictures
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont, ImageOps

from thyme.agent.rollout import rollout
from thyme.config import RolloutConfig, SandboxConfig
from thyme.engines.scripted import ScriptedEngine
from thyme.eval.arms import ARMS, NO_TOOLS, REPAIRS_OFF, RETRY, TOOLS, UNTRAINED, item_of
from thyme.eval.arms_crops import CROP_ONLY, PLACEBO, REFUSED, _elsewhere
from thyme.eval.arms_faithful import faithfulness, targets_of
from thyme.eval.counterfactual import BLANKED, SWAPPED, WITHHELD, DonorPool, evidence
from thyme.markup import observation_text
from thyme.types import (
    Execution,
    ExecutionError,
    ImageRecord,
    Observation,
    Problem,
    Prompt,
    Repair,
    Sampling,
    Score,
    StopReason,
    Timings,
    Trajectory,
    Usage,
)

SCENE = pictures.scene()
BOX = (100, 80, 260, 200)
PATH = "/mnt/data/temp_processed_images/crop_1.png"
CODE = "image = Image.open(image_path)\ncrop = image.crop((100, 80, 260, 200))"
PROBLEM = Problem(
    id="p1", question="What is it?", images=(ImageRecord.of(SCENE),), answer="A", meta={"boxes": [[120, 90, 160, 110]]}
)
CROP = ImageRecord.of(SCENE.crop(BOX), name=PATH)
TURNED = ImageRecord.of(SCENE.crop(BOX).rotate(90, expand=True), name="/mnt/data/temp_processed_images/turned.png")
ENLARGED = ImageRecord.of(SCENE.crop(BOX).resize((480, 360), Image.Resampling.LANCZOS), name="big.png")


class FakeSandbox:
    """Gives what it is told to, in turn."""

    isolation = "scripted"

    def __init__(self, *executions: Execution) -> None:
        self._executions = executions
        self.closed = False

    @asynccontextmanager
    async def session(self, images: Sequence[ImageRecord], seed: int = 0) -> AsyncIterator[FakeSession]:
        yield FakeSession(list(self._executions))

    async def aclose(self) -> None:
        self.closed = True


class FakeSession:
    def __init__(self, left: list[Execution]) -> None:
        self._left = left

    async def run(self, code: str) -> Execution:
        return self._left.pop(0)


def gave(stdout: str = "", *images: ImageRecord, error: bool = False, code: str = CODE) -> Execution:
    failure = ExecutionError(type="NameError", message="name 'imgae' is not defined", line=2) if error else None
    return Execution(code=code, ran=code, stdout=stdout, images=images, error=failure)


async def under(
    arm: str, *executions: Execution, donor: Sequence[Execution] = (), problem: Problem = PROBLEM, seed: int = 0
) -> list[Execution]:
    """What the model would read under an arm."""
    sandbox = FakeSandbox(*executions)
    changed = ARMS[arm].sandbox_for(sandbox, problem, donor)
    assert changed.isolation == "scripted"
    async with changed.session(problem.images, seed) as session:
        found = [await session.run("") for _ in executions]
    await changed.aclose()
    assert not sandbox.closed, "it was only lent"
    return found


def shown(execution: Execution) -> tuple[str, list[str], ExecutionError | None]:
    return execution.stdout, [image.id for image in execution.images], execution.error


# --- the table of arms ------------------------------------------------------------------------------------------------


def test_there_is_each_arm_and_it_differs_in_what_it_says() -> None:
    counterfactual = {WITHHELD, SWAPPED, BLANKED}
    assert set(ARMS) == {TOOLS, NO_TOOLS, CROP_ONLY, PLACEBO, REPAIRS_OFF, UNTRAINED, RETRY} | counterfactual
    assert all(name == arm.name for name, arm in ARMS.items())
    assert {name for name, arm in ARMS.items() if arm.counterfactual} == counterfactual
    config, sandbox = RolloutConfig(max_rounds=7), SandboxConfig(timeout_s=3, compat="released")
    for arm in ARMS.values():
        assert arm.rollout_config(config) == config.model_copy(update={"tools": arm.name != NO_TOOLS})
        if arm.name != REPAIRS_OFF:
            assert arm.sandbox_config(sandbox) == sandbox
    off = ARMS[REPAIRS_OFF].sandbox_config(sandbox)
    assert (off.repairs, off.compat, off.timeout_s) == ((), "none", 3)
    same = {name for name, arm in ARMS.items() if arm.same_without_code}
    assert same == {TOOLS, CROP_ONLY, PLACEBO, REPAIRS_OFF, *counterfactual}
    plain = FakeSandbox()
    for name in (TOOLS, NO_TOOLS, REPAIRS_OFF, UNTRAINED, RETRY):
        assert ARMS[name].sandbox_for(plain, PROBLEM) is plain


# --- crops only -------------------------------------------------------------------------------------------------------


async def test_crops_come_back_as_with_tools() -> None:
    made = [gave(f"{PATH}\n", CROP), gave("", ENLARGED), gave("  crop_1.png \n", CROP), gave(error=True)]
    assert await under(CROP_ONLY, *made) == made, "nothing is changed, and no note is left"


async def test_all_else_is_refused_in_a_few_words() -> None:
    made = [
        gave("the answer is 42\n"),
        gave(f"size: 3\n{PATH}\n", CROP),
        gave(f"{TURNED.name}\n", TURNED),
        gave(f"{PATH}\n{TURNED.name}\n", CROP, TURNED),
        gave("half\n", error=True),
    ]
    found = await under(CROP_ONLY, *made)
    assert [shown(execution) for execution in found] == [
        (f"{REFUSED}\n", [], None),
        (f"{PATH}\n{REFUSED}\n", [CROP.id], None),
        (f"{REFUSED}\n", [], None),
        (f"{PATH}\n{REFUSED}\n", [CROP.id], None),
        (f"{REFUSED}\n", [], made[-1].error),
    ]
    assert all(execution.repairs[-1].name == CROP_ONLY for execution in found)


async def test_a_crop_that_a_result_was_written_on_is_refused() -> None:
    drawn = SCENE.copy()
    ImageDraw.Draw(drawn).text((5, 5), "42", fill=(255, 0, 0), font=ImageFont.load_default(16))
    (found,) = await under(CROP_ONLY, gave("", ImageRecord.of(drawn)))
    assert shown(found) == (f"{REFUSED}\n", [], None)


async def test_a_turned_crop_without_any_text_is_refused_aloud_too() -> None:
    (found,) = await under(CROP_ONLY, gave("", TURNED))
    assert shown(found) == (f"{REFUSED}\n", [], None)


# --- placebo ----------------------------------------------------------------------------------------------------------


async def test_a_crop_is_replaced_by_another_place_of_the_same_picture() -> None:
    found = await under(PLACEBO, gave(f"{PATH}\n", CROP), gave("", ENLARGED))
    for execution, true in zip(found, (CROP, ENLARGED), strict=True):
        (image,) = execution.images
        assert image.size == true.size
        assert image.id != true.id
        assert image.name == true.name
    assert found[0].stdout == f"{PATH}\n"
    problem = PROBLEM.model_copy(update={"meta": {"box": [0, 0, 480, 360]}})
    told = faithfulness(trajectory(*found), problem)
    assert told is not None
    assert len(told.boxes) == 2, "the random places are crops again, and found as such"
    for box in told.boxes:
        assert (box[2] - box[0], box[3] - box[1]) == (160, 120)
        assert box[2] <= BOX[0] or box[0] >= BOX[2] or box[3] <= BOX[1] or box[1] >= BOX[3]
    big = SCENE.crop(told.boxes[1]).resize((480, 360), Image.Resampling.LANCZOS)
    apart = np.abs(np.asarray(big, int) - np.asarray(found[1].images[0].image, int))
    assert apart.mean() < 3, "enlarged as the true one was"


async def test_the_random_place_follows_from_problem_and_seed() -> None:
    first, again, other = [(await under(PLACEBO, gave("", CROP), seed=seed))[0].images[0].id for seed in (1, 1, 2)]
    assert first == again != other
    renamed = PROBLEM.model_copy(update={"id": "p2"})
    assert (await under(PLACEBO, gave("", CROP), problem=renamed, seed=1))[0].images[0].id != first


async def test_what_is_no_crop_and_the_whole_picture_stay() -> None:
    whole = ImageRecord.of(SCENE.resize((240, 180)))
    made = [gave("12\n"), gave("", TURNED), gave("", whole), gave(error=True)]
    assert await under(PLACEBO, *made) == made


@given(st.data())
def test_a_random_box_is_inside_as_large_and_apart_where_it_can_be(data: st.DataObject) -> None:
    width, height = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    box = (left, top, data.draw(st.integers(left + 1, width)), data.draw(st.integers(top + 1, height)))
    w, h = box[2] - box[0], box[3] - box[1]
    other = _elsewhere(box, (width, height), random.Random(data.draw(st.integers(0, 99))))
    if (w, h) == (width, height):
        assert other is None
        return
    assert other is not None
    assert (other[2] - other[0], other[3] - other[1]) == (w, h)
    assert min(other) >= 0
    assert other[2] <= width
    assert other[3] <= height
    overlaps = other[0] < box[2] and box[0] < other[2] and other[1] < box[3] and box[1] < other[3]
    possible = left >= w or top >= h or width - box[2] >= w or height - box[3] >= h
    assert overlaps != possible


def test_random_places_are_drawn_evenly() -> None:
    rng = random.Random(0)
    counts: dict[tuple[int, int], int] = {}
    for _ in range(4000):
        drawn = _elsewhere((2, 1, 4, 2), (6, 4), rng)
        assert drawn is not None
        counts[drawn[:2]] = counts.get(drawn[:2], 0) + 1
    free = [(x, y) for x in range(5) for y in range(4) if not (1 <= x <= 3 and y == 1)]
    assert sorted(counts) == sorted(free)
    assert min(counts.values()) > 0.7 * 4000 / len(free)


# --- counterfactuals --------------------------------------------------------------------------------------------------


async def test_withheld_takes_text_and_images_and_leaves_errors() -> None:
    found = await under(WITHHELD, gave("7\n", CROP), gave("half\n", error=True), gave())
    assert [shown(execution)[:2] for execution in found] == [("", []), ("", []), ("", [])]
    assert found[1].error is not None
    assert found[2] == gave(), "nothing to hold back"
    (cut,) = await under(WITHHELD, gave("7\n" * 99).model_copy(update={"truncated": True}))
    assert "(no output)" in observation_text(cut), "not even that it was long"
    assert [len(execution.repairs) for execution in found] == [1, 1, 0]


async def test_blanked_keeps_text_and_sizes() -> None:
    text, drawn = await under(BLANKED, gave("7\n"), gave("8\n", CROP, TURNED))
    assert text == gave("7\n")
    assert drawn.stdout == "8\n"
    assert [image.size for image in drawn.images] == [CROP.size, TURNED.size]
    assert all(image.image.getextrema() == ((128, 128),) * 3 for image in drawn.images)
    assert drawn.repairs[0].count == 2


async def test_swapped_shows_the_other_problems_rounds_in_turn() -> None:
    other = [gave("x\n", TURNED), gave("y\n")]
    made = [gave("1\n", CROP), gave("2\n", error=True), gave("3\n"), gave(), gave("4\n")]
    found = await under(SWAPPED, *made, donor=other)
    assert [(e.stdout, len(e.images)) for e in found] == [("x\n", 1), ("2\n", 0), ("y\n", 0), ("", 0), ("x\n", 1)]
    assert (found[1], found[3]) == (made[1], made[3])
    assert all(e.code == CODE and e.duration_s == 0 for e in found)


async def test_without_another_problem_the_rollout_fails_and_is_not_scored() -> None:
    script = ["<think>I look.\n<code>\nx\n</code>", "It is A.</think>\n<answer>A</answer>"]
    sandbox = ARMS[SWAPPED].sandbox_for(FakeSandbox(gave("1\n")), PROBLEM)
    failed = await rollout(PROBLEM, ScriptedEngine([script[0], script[1]]), sandbox)
    assert failed.stop is StopReason.ERROR
    assert failed.error is not None
    assert "no other problem" in failed.error.message
    item = item_of(failed, PROBLEM, Score(value=None, note="failed"), SWAPPED, benchmark="b")
    assert item.failed
    assert item.score is None


def donor_trajectory(name: str, *executions: Execution, scene: int = 0, question: str = "q") -> Trajectory:
    images = (ImageRecord.of(pictures.scene(40, 30, scene)),) if scene else ()
    return trajectory(*executions, problem=Problem(id=name, question=question, images=images), name=f"t-{name}")


def test_donors_are_other_problems_about_other_images() -> None:
    lent = [
        donor_trajectory("a", gave("1\n", CROP), scene=1),
        donor_trajectory("a-again", gave("1\n", CROP), scene=1),
        donor_trajectory("b", gave("2\n"), scene=2),
        donor_trajectory("c", gave("3\n", CROP), scene=3),
        donor_trajectory("silent", gave(), gave("no\n", error=True), scene=4),
        donor_trajectory("d", gave("4\n"), question="2 + 2"),
    ]
    pool = DonorPool.of(lent)
    assert [donor.problem for donor in pool.donors] == ["a", "a-again", "b", "c", "d"], "the silent one has nothing"
    assert pool == DonorPool.of(reversed(lent))
    own = lent[0].problem
    chosen = {donor.problem for seed in range(40) if (donor := pool.choose(own, seed=seed))}
    assert chosen == {"c"}, "an image for an image, and not of the same picture"
    texts = {donor.problem for seed in range(40) if (donor := pool.choose(own, draws=False, seed=seed))}
    assert texts == {"b", "d"}
    assert pool.choose(own, seed=3) == pool.choose(own, seed=3)
    sums = DonorPool.of([lent[-1]])
    assert sums.choose(Problem(id="other", question="2 + 2")) is None, "the same sum"
    found = sums.choose(Problem(id="other", question="3 + 3"))
    assert found is not None
    assert found.trajectory == "t-d"
    assert evidence(lent[4]) == ()
    assert DonorPool().choose(own) is None


# --- items ------------------------------------------------------------------------------------------------------------


def trajectory(*executions: Execution, problem: Problem = PROBLEM, name: str = "t1") -> Trajectory:
    return Trajectory(
        id=name,
        problem=problem,
        prompt=Prompt(system="", user=""),
        segments=tuple(Observation(execution=execution) for execution in executions),
        stop=StopReason.END,
        sampling=Sampling(text_temperature=0, code_temperature=0, max_rounds=4, max_round_tokens=9, max_tokens=9),
        usage=Usage(prompt_tokens=10, generated_tokens=20, observation_tokens=5, rounds=len(executions)),
        timings=Timings(total_s=1.5),
    )


def test_an_item_counts_blocks_repairs_and_changes_of_all_attempts() -> None:
    repaired = gave("1\n").model_copy(update={"repairs": (Repair(name="boundary", note="fitted"),)})
    changed = gave().model_copy(update={"repairs": (Repair(name=WITHHELD, note="held back"),)})
    one, two = trajectory(repaired, gave(error=True)), trajectory(changed, name="t2")
    score = Score(value=0.5, parts={"cell": 0.5}, note="rule")
    item = item_of(two, PROBLEM, score, RETRY, benchmark="bench", earlier=[one], judged=True)
    assert (item.benchmark, item.arm, item.problem, item.trajectory, item.attempts) == ("bench", RETRY, "p1", "t2", 2)
    assert (item.blocks, item.ran, item.repaired, item.changed) == (3, 2, 1, 1)
    assert (item.prompt_tokens, item.generated_tokens, item.observation_tokens) == (20, 40, 10)
    assert (item.seconds, item.score, item.parts, item.note, item.judged) == (3.0, 0.5, {"cell": 0.5}, "rule", True)
    assert item.image_sizes == ((480, 360),)
    assert item.meta == PROBLEM.meta
    assert item.model_validate_json(item.model_dump_json()) == item


# --- faithfulness -----------------------------------------------------------------------------------------------------


def told(*boxes: Sequence[float]) -> Problem:
    return PROBLEM.model_copy(update={"meta": {"boxes": [list(box) for box in boxes]}})


def test_coverage_and_overlap_by_hand() -> None:
    found = faithfulness(trajectory(gave("", CROP)), told((80, 80, 120, 100)))
    assert found is not None
    assert found.boxes == (BOX,)
    assert found.coverage == 0.5
    assert found.iou == pytest.approx(400 / (800 + 160 * 120 - 400))
    assert found.covered is True
    worse = faithfulness(trajectory(gave("", CROP)), told((80, 80, 120, 100)), bound=0.51)
    assert worse is not None
    assert worse.covered is False


def test_of_several_targets_the_one_seen_worst_counts_and_of_several_crops_the_best() -> None:
    second = ImageRecord.of(SCENE.crop((300, 200, 400, 300)))
    targets = told((100, 80, 120, 100), (390, 200, 410, 220))
    one = faithfulness(trajectory(gave("", CROP)), targets)
    both = faithfulness(trajectory(gave("", CROP), gave("", second, code="image.crop((300, 200, 400, 300))")), targets)
    assert one is not None and both is not None  # noqa: PT018 - for the type checker
    assert (one.coverage, one.covered, both.coverage) == (0.0, False, 0.5)


def test_unknown_is_none_and_not_false() -> None:
    assert faithfulness(trajectory(gave("", CROP)), PROBLEM.model_copy(update={"meta": {}})) is None
    no_code = faithfulness(trajectory(), PROBLEM)
    turned = faithfulness(trajectory(gave("", TURNED)), PROBLEM)
    printed = faithfulness(trajectory(gave("7\n")), PROBLEM)
    assert no_code is not None and turned is not None and printed is not None  # noqa: PT018 - for the type checker
    assert [(f.covered, f.coverage, f.boxes) for f in (no_code, turned, printed)] == [
        (None, None, ()),
        (None, None, ()),
        (False, None, ()),
    ]
    bare = CROP.model_validate_json(CROP.model_dump_json())
    assert faithfulness(trajectory(gave("", bare)), PROBLEM) is None, "no pixels, no verdict"


@pytest.mark.parametrize("size", [SCENE.size, (960, 720), (120, 90)])
def test_the_whole_picture_covers_nothing(size: tuple[int, int]) -> None:
    whole = ImageRecord.of(SCENE.resize(size))
    found = faithfulness(trajectory(gave("", whole)), PROBLEM)
    assert found is not None
    assert (found.covered, found.boxes) == (None, ())
    beside = faithfulness(trajectory(gave("", whole, CROP)), PROBLEM)
    assert beside is not None
    assert (beside.covered, beside.boxes) == (True, (BOX,))


def test_a_crop_in_no_certain_place_counts_for_nothing() -> None:
    tiles = pictures.tiles()
    problem = told((100, 180, 120, 200)).model_copy(update={"images": (ImageRecord.of(tiles),)})
    crop = ImageRecord.of(tiles.crop((85, 170, 150, 240)))
    unknown = faithfulness(trajectory(gave("", crop, code="made = somewhere(image)")), problem)
    named = faithfulness(trajectory(gave("", crop, code="image.crop((85, 170, 150, 240))")), problem)
    assert unknown is not None and named is not None  # noqa: PT018 - for the type checker
    assert (unknown.covered, named.covered) == (None, True)


def test_boxes_that_are_none_are_passed_over() -> None:
    for meta in ({"boxes": "1234"}, {"boxes": [[1, 2, 3]]}, {"box": [4, 4, 4, 9]}, {"boxes": [["a", 1, 2, 3]]}, {}):
        assert targets_of(PROBLEM.model_copy(update={"meta": meta})) == []
    assert targets_of(PROBLEM.model_copy(update={"meta": {"box": (1, 2, 3, 4)}})) == [(1, 2, 3, 4)]


@given(st.lists(st.integers(0, 30), min_size=8, max_size=8))
def test_coverage_is_the_share_of_pixels(values: list[int]) -> None:
    """Against masks that are counted."""
    from thyme.eval.arms_faithful import _covered, _iou

    def box(v: list[int]) -> tuple[int, int, int, int]:
        return v[0], v[1], v[0] + v[2] + 1, v[1] + v[3] + 1

    def mask(b: tuple[int, int, int, int]) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
        area = np.zeros((64, 64), bool)
        area[b[1] : b[3], b[0] : b[2]] = True
        return area

    target, crop = box(values[:4]), box(values[4:])
    one, other = mask(target), mask(crop)
    assert _covered(target, crop) == pytest.approx((one & other).sum() / one.sum())
    assert _iou(target, crop) == pytest.approx((one & other).sum() / (one | other).sum())


def test_an_inverted_crop_is_none_here_too() -> None:
    inverted = ImageRecord.of(ImageOps.invert(SCENE.crop(BOX)))
    found = faithfulness(trajectory(gave("", inverted)), PROBLEM)
    assert found is not None
    assert found.boxes == ()


async def test_code_that_prints_the_refusal_itself_gets_nothing_through() -> None:
    (found,) = await under(CROP_ONLY, gave(f"{REFUSED}\n", TURNED))
    assert found.images == ()


async def test_blank_lines_are_no_text() -> None:
    made = gave(f"\n{PATH}\n\n", CROP)
    assert await under(CROP_ONLY, made) == [made]
