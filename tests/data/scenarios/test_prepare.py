"""Problems are made ready for a scenario: the same way each time, under neutral names, with true boxes and angles."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from thyme.data.drafts import Draft, Rejection
from thyme.data.scenarios import SCENARIOS
from thyme.data.scenarios.boxes import area, boxes_of, cover, shared, widened
from thyme.data.scenarios.pictures import turned, turned_box
from thyme.data.scenarios.prompts import FOLDER, functional_prompt
from thyme.data.stages.prepare import prepared
from thyme.types import ImageRecord, Problem

BOX = (400, 120, 470, 160)


def scene(mark: tuple[int, int, int, int] = BOX, size: tuple[int, int] = (800, 600)) -> Image.Image:
    image = Image.new("RGB", size, (90, 140, 200))
    ImageDraw.Draw(image).rectangle((mark[0], mark[1], mark[2] - 1, mark[3] - 1), fill=(255, 0, 0))
    return image


def problem(**changes: object) -> Problem:
    fields: dict[str, object] = {
        "id": "photo_rotated_172.png",
        "question": "What does the sign say? <image>",
        "images": (ImageRecord.of(scene(), name="answer_KX.jpg"),),
        "answer": "KX",
        "meta": {"box": list(BOX)},
    }
    return Problem.model_validate({**fields, **changes})


def text_problem() -> Problem:
    return problem(images=(), question="What is 12 * 13?", answer="156", meta={})


def draft(scenario: str, origin: Problem | None = None, seed: int = 5) -> Draft:
    chosen = origin or (text_problem() if scenario == "computation" else problem())
    return Draft(
        id=f"photos-00000001-{scenario}", scenario=scenario, seed=seed, source="photos", origin=chosen, problem=chosen
    )


def ready(scenario: str, origin: Problem | None = None, seed: int = 5) -> Draft:
    made = prepared(draft(scenario, origin, seed))
    assert isinstance(made, Draft), made
    return made


def refused(scenario: str, origin: Problem) -> str:
    made = prepared(draft(scenario, origin))
    assert isinstance(made, Rejection)
    assert made.stage == "prepare"
    return made.reason


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_prepares_the_same_each_time_under_neutral_names(name: str) -> None:
    one, same = ready(name), ready(name)
    assert one == same
    assert one.problem.id == one.id
    assert [image.name for image in one.problem.images] == ["image_1"] * len(one.problem.images)
    assert one.problem.kind == name
    assert one.origin.id == "photo_rotated_172.png"


def test_other_seeds_prepare_otherwise() -> None:
    assert len({str(ready("enhancement", seed=seed).hints["larger"]) for seed in range(20)}) > 10


def test_a_problem_without_what_a_scenario_needs_is_rejected() -> None:
    assert refused("crop", problem(meta={})) == "lacks_box"
    assert refused("crop", problem(images=())) == "lacks_box"
    assert refused("computation", problem()) == "lacks_text_only"
    assert refused("no_code", problem(answer=None)) == "lacks_answer"
    assert refused("rotation", problem(images=())) == "lacks_image"


def test_targets_that_fill_the_picture_leave_nothing_to_cut_out() -> None:
    large = problem(meta={"box": [10, 10, 790, 590]})
    assert [refused(name, large) for name in ("crop", "enhancement", "correction")] == ["large_target"] * 3


def test_two_looks_need_one_target_and_a_crop_may_have_several() -> None:
    several = problem(meta={"boxes": [list(BOX), [20, 500, 60, 530]]})
    assert [refused(name, several) for name in ("enhancement", "correction")] == ["boxes", "boxes"]
    assert len(ready("crop", several).hints["boxes"]) == 2


def test_of_several_pictures_none_is_turned_or_paled() -> None:
    two = problem(images=(ImageRecord.of(scene()), ImageRecord.of(scene())))
    assert [refused(name, two) for name in ("rotation", "contrast")] == ["several_images", "several_images"]


@settings(max_examples=20)
@given(angle=st.integers(0, 359), left=st.integers(0, 700), top=st.integers(0, 500))
def test_a_turned_box_holds_what_the_box_held(angle: int, left: int, top: int) -> None:
    mark = (left, top, left + 80, top + 60)
    image = turned(scene(mark), angle, (0, 0, 0))
    box = turned_box(mark, (800, 600), angle, image.size)
    assert box is not None
    red = np.argwhere((np.asarray(image)[..., 0] > 200) & (np.asarray(image)[..., 2] < 60))
    (top_most, left_most), (bottom, right) = red.min(axis=0), red.max(axis=0) + 1
    # Smoothing takes up to two pixels off the corners of what was drawn.
    assert all(abs(a - b) <= 3 for a, b in zip(box, (left_most, top_most, right, bottom), strict=True))


def test_a_turned_picture_comes_back_upright_with_the_angle_that_is_told() -> None:
    made = ready("rotation")
    back = made.problem.images[0].image.rotate(made.hints["back"], expand=True)
    middle = back.crop(((back.width - 800) // 2, (back.height - 600) // 2, (back.width + 800) // 2, back.height // 2))
    apart = np.abs(np.asarray(middle, int) - np.asarray(scene().crop((0, 0, 800, middle.height)), int))
    assert apart.mean() < 3
    assert 30 <= made.hints["angle"] <= 335
    assert made.problem.meta["angle"] == made.hints["angle"]


def test_a_picture_that_would_grow_too_large_is_not_turned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thyme.data.scenarios.rotation.MAX_PIXELS", 800 * 600)
    assert refused("rotation", problem(meta={"prepare": {"angles": [45]}})) == "too_large"
    assert ready("rotation", problem(meta={"prepare": {"angles": [90]}})).problem.images[0].size == (600, 800)


def test_a_source_may_fix_angles_and_contrast() -> None:
    fixed = problem(meta={"prepare": {"angles": [90, 270], "contrast": [0.04, 0.07]}})
    assert {ready("rotation", fixed, seed).hints["angle"] for seed in range(8)} == {90, 270}
    assert 0.04 <= ready("contrast", fixed).hints["contrast"] <= 0.07


def test_low_contrast_is_low() -> None:
    before, after = np.asarray(scene(), float).std(), np.asarray(ready("contrast").problem.images[0].image, float).std()
    assert after == pytest.approx(before * ready("contrast").hints["contrast"], rel=0.1)


def test_the_larger_region_holds_the_target_and_the_wrong_one_nothing_of_it() -> None:
    for seed in range(20):
        larger = tuple(ready("enhancement", seed=seed).hints["larger"])
        assert cover(larger, BOX) == 1.0
        assert area(larger) >= 4 * area(BOX)
        wrong = tuple(ready("correction", seed=seed).hints["wrong"])
        assert shared(wrong, BOX) == 0
        assert area(wrong) == area(BOX)
        assert min(wrong) >= 0
        assert wrong[2] <= 800
        assert wrong[3] <= 600


def test_nothing_wider_can_be_shown_of_a_box_as_large_as_the_picture() -> None:
    assert widened((0, 0, 90, 100), (100, 100), random.Random(0), (2.0, 3.0)) is None


def test_boxes_that_are_none_are_left_out() -> None:
    useless: list[object] = [[900, 10, 950, 30], [1, 2], None, "box", [5, 5, 5, 9], [1.0, 2.0, float("nan"), 4.0]]
    assert boxes_of(problem(meta={"boxes": useless})) == ()
    assert boxes_of(problem(meta={"boxes": [[-10.5, 10.2, 20.1, 30]]})) == ((0, 10, 21, 30),)
    assert boxes_of(text_problem()) == ()


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_teacher_is_told_what_it_needs_and_nothing_of_the_answer(name: str) -> None:
    made = ready(name)
    system, user = functional_prompt(made, SCENARIOS[name])
    assert "</code>" in system
    assert user.count("<image>") == len(made.problem.images)
    told = [value for hint in made.hints.values() for value in _numbers(hint)]
    assert all(str(value) in user for value in told)
    assert str(made.problem.answer) not in user
    assert "172" not in user
    assert f"Kind of example: {name}" in user


def test_every_prompt_file_belongs_to_a_scenario() -> None:
    files = {path.name for path in FOLDER.glob("*.txt")}
    assert files == {scenario.prompt for scenario in SCENARIOS.values()} | {"system.txt", "request.txt"}


def test_choices_are_shown_to_the_teacher_with_their_letters() -> None:
    made = ready("crop", problem(choices=("red", "blue"), answer="A"))
    assert "A. red\nB. blue" in functional_prompt(made, SCENARIOS["crop"])[1]


def _numbers(hint: object) -> list[object]:
    return [value for part in hint for value in _numbers(part)] if isinstance(hint, list) else [hint]
