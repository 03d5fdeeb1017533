"""Each rule finds its fault, and lets what is right pass: hand-made records of every scenario."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from drafted import BOX, SIZE, Round, calculation, cropped, finished, question, ready, street
from PIL import Image, ImageDraw, ImageOps

from thyme.data.drafts import Draft, Rejection
from thyme.data.stages.accept import accept, accepted

READ = "Now I see that the sign says KX."
AROUND = (380, 105, 490, 175)
"""A little more than the box."""


def reason(draft: Draft) -> str:
    """Why it is rejected; empty where it is accepted."""
    outcome = accepted(draft)
    if isinstance(outcome, Rejection):
        assert outcome.stage == "accept"
        assert outcome.draft is draft
        return outcome.reason
    assert outcome is draft
    return ""


def crop_record(boxes: Sequence[Sequence[int]], draft: Draft | None = None, **changes: Any) -> Draft:
    base = draft or ready("crop")
    return finished(base, [cropped(base, box, **changes) for box in boxes], READ, "KX")


# --- every scenario ---------------------------------------------------------------------------------------------------


def test_the_stage_gives_back_the_draft_or_a_rejection() -> None:
    right = crop_record([AROUND])
    assert asyncio.run(accept(right, None)) is right  # type: ignore[arg-type]  # nothing of the context is used
    wrong = asyncio.run(accept(crop_record([(10, 10, 80, 60)]), None))  # type: ignore[arg-type]  # as above
    assert isinstance(wrong, Rejection)
    assert (wrong.stage, wrong.reason) == ("accept", "misses_target")
    assert str(BOX) in wrong.note


def test_a_wrong_answer_is_rejected_and_one_without_reference_is_not() -> None:
    draft = ready("no_code")
    assert reason(finished(draft, [], "The sign says KY.", "KY")) == "wrong_answer"
    open_end = ready("crop", question(answer=None))
    assert reason(finished(open_end, [cropped(open_end, AROUND)], "The sign says KY.", "KY")) == ""


def test_tags_have_to_be_balanced_and_images_marked() -> None:
    right = crop_record([AROUND])
    first, *rest = right.segments
    open_tag = first.model_copy(update={"text": first.text.replace("<think>", "")})
    assert reason(right.model_copy(update={"segments": (open_tag, *rest)})) == "malformed"
    unmarked = [s.model_copy(update={"text": s.text.replace("<image>", "")}) for s in right.segments]
    assert reason(right.model_copy(update={"segments": tuple(unmarked)})) == "malformed"


def test_reasoning_that_ends_otherwise_than_the_answer_is_a_contradiction() -> None:
    draft = ready("no_code")
    assert reason(finished(draft, [], "The sign says KY.", "KX")) == "contradiction"
    assert reason(finished(draft, [], "I see the sign. The sign says KX.", "KX")) == ""


@pytest.mark.parametrize(
    ("printed", "said", "expected"),
    [
        ("total 156", "The code printed 156, so the answer is 156.", ""),
        ("total 156", "The code printed 165, so the answer is 156.", "claim"),
        ("156\n2.04999", "The result is 2.05. The answer is 156.", ""),
        ("156\n2.04999", "The result is 2.07. The answer is 156.", "claim"),
        ("0.451\n156", "The output is 45.1%. The answer is 156.", ""),
        ("156", "The answer is 156.", ""),
        ("product: 156", "It gives 1/2 of that. The answer is 156.", ""),
    ],
)
def test_what_the_text_says_of_the_output_is_what_was_printed(printed: str, said: str, expected: str) -> None:
    block = Round("I multiply.", "print(12 * 13)", stdout=printed)
    assert reason(finished(ready("computation"), [block], said, "156")) == expected


# --- no code ----------------------------------------------------------------------------------------------------------


def test_what_needs_no_code_is_answered_without() -> None:
    draft = ready("no_code")
    assert reason(finished(draft, [], READ, "KX")) == ""
    assert reason(finished(draft, [cropped(draft, AROUND)], READ, "KX")) == "code_used"


# --- crop -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        ([AROUND], ""),
        ([BOX], ""),
        ([(10, 10, 80, 60), AROUND], ""),
        ([(430, 105, 540, 175)], "misses_target"),
        ([(100, 400, 200, 500)], "misses_target"),
        ([(50, 40, 750, 560)], "loose_crop"),
        ([], "no_code"),
    ],
)
def test_a_crop_holds_the_target_and_not_much_more(boxes: list[tuple[int, ...]], expected: str) -> None:
    assert reason(crop_record(boxes)) == expected


def test_a_crop_is_found_by_its_pixels_where_the_code_says_nothing() -> None:
    draft = ready("crop")
    by_name = cropped(draft, AROUND)
    silent = Round(by_name.before, "part = cut_out(image_path)\npart.save(path)", by_name.images)
    assert reason(finished(draft, [silent], READ, "KX")) == ""
    plain = Round(by_name.before, "part = cut_out(image_path)", [street().crop(AROUND)])
    assert reason(finished(draft, [plain], READ, "KX")) == ""


def test_code_that_speaks_of_the_target_and_cuts_out_something_else_is_found_out() -> None:
    draft = ready("crop")
    said, other = cropped(draft, AROUND), cropped(draft, (100, 400, 210, 500))
    assert reason(finished(draft, [Round(said.before, said.code, other.images)], READ, "KX")) == "misses_target"


def test_a_picture_that_shows_no_part_of_the_original_is_no_crop() -> None:
    draft = ready("crop")
    block = cropped(draft, AROUND)
    foreign = Round(block.before, block.code, [street(9).rotate(40)])
    assert reason(finished(draft, [foreign], READ, "KX")) == "no_crop"
    whole = Round(block.before, "print(image_path)", [street()])
    assert reason(finished(draft, [whole], READ, "KX")) == "no_crop"


def test_a_crop_may_be_enhanced_and_cut_out_of_a_crop() -> None:
    draft = ready("crop")
    block = cropped(draft, AROUND)
    clearer = Round(block.before, block.code, [ImageOps.autocontrast(block.images[0])])
    assert reason(finished(draft, [clearer], READ, "KX")) == ""
    outer = Round("I look closer.", "outer = image.crop((300, 50, 600, 250))", [street().crop((300, 50, 600, 250))])
    inner = street().crop((300, 50, 600, 250)).crop((80, 55, 190, 125)).resize((440, 280))
    again = Round("Closer still.", "inner = outer.crop((80, 55, 190, 125)).resize((440, 280))", [inner])
    assert reason(finished(draft, [outer, again], READ, "KX")) == ""


def test_of_several_targets_each_is_cut_out() -> None:
    other = (20, 470, 60, 500)
    draft = ready("crop", question(meta={"boxes": [list(BOX), list(other)]}))
    assert reason(crop_record([AROUND, (5, 455, 75, 515)], draft)) == ""
    assert reason(crop_record([AROUND], draft)) == "misses_target"


def test_an_answer_that_stands_before_the_code_makes_the_code_decoration() -> None:
    early = "The sign at the top says KX, I cut it out."
    assert reason(crop_record([AROUND], before=early)) == "answer_before"
    named = ready("crop", question(question="Does the sign say KX or KY?"))
    assert reason(crop_record([AROUND], named, before="I look whether it says KX.")) == ""
    lettered = ready("crop", question(choices=("KX", "KY"), answer="A"))
    rounds = [cropped(lettered, AROUND, before="It may be KX or KY.")]
    assert reason(finished(lettered, rounds, READ, "A")) == ""
    rounds = [cropped(lettered, AROUND, before="The answer is A. I check.")]
    assert reason(finished(lettered, rounds, READ, "A")) == "answer_before"


def test_a_number_before_the_code_counts_unless_it_is_a_coordinate() -> None:
    block = "print(12 * 13)"
    before = {"I get 156.": "answer_before", "The region (156, 20, 30, 40) matters.": "", "I multiply 12 and 13.": ""}
    for text, expected in before.items():
        draft = finished(ready("computation"), [Round(text, block, stdout="156")], "The answer is 156.", "156")
        assert reason(draft) == expected, text


# --- rotation ---------------------------------------------------------------------------------------------------------


def turned_back(draft: Draft, off: int = 0, *, expand: bool = True) -> Draft:
    angle = draft.hints["back"] + off
    image = draft.problem.images[0].image.rotate(angle, expand=expand)
    code = f"image = Image.open(image_path).rotate({angle}, expand=True)"
    return finished(draft, [Round("The image is turned. I turn it back.", code, [image])], READ, "KX")


@pytest.mark.parametrize("seed", range(3))
def test_an_image_turned_upright_is_accepted_within_some_degrees(seed: int) -> None:
    draft = ready("rotation", seed=seed)
    assert [reason(turned_back(draft, off)) for off in (0, 3, -4)] == ["", "", ""]
    assert [reason(turned_back(draft, off)) for off in (9, -15, 180)] == ["not_upright"] * 3


def test_an_upright_image_may_be_cut_resized_or_a_part() -> None:
    draft = ready("rotation")
    assert reason(turned_back(draft, expand=False)) == ""
    full = draft.problem.images[0].image.rotate(draft.hints["back"], expand=True)
    x, y = (full.width - SIZE[0]) // 2, (full.height - SIZE[1]) // 2
    inner = full.crop((x, y, x + SIZE[0], y + SIZE[1]))
    for image in (full.resize((full.width // 2, full.height // 2)), inner, inner.crop((300, 60, 700, 300))):
        block = Round("I turn it upright.", "turn()", [image])
        assert reason(finished(draft, [block], READ, "KX")) == ""


def test_quarter_turns_are_told_apart() -> None:
    fixed = question(meta={"prepare": {"angles": [90, 180, 270]}})
    for seed in range(2):
        draft = ready("rotation", fixed, seed)
        assert reason(turned_back(draft)) == ""
        assert [reason(turned_back(draft, off)) for off in (90, 180, 270)] == ["not_upright"] * 3


def test_a_turned_record_without_a_turned_image_is_rejected() -> None:
    draft = ready("rotation")
    assert reason(finished(draft, [], READ, "KX")) == "no_code"
    block = Round("I turn it.", "print('done')", stdout="done")
    assert reason(finished(draft, [block], READ, "KX")) == "no_image"
    other = Round("I turn it.", "turn()", [street(1)])
    assert reason(finished(draft, [other], READ, "KX")) == "not_upright"


# --- contrast ---------------------------------------------------------------------------------------------------------


def faint(image: Image.Image | None = None, box: tuple[int, int, int, int] | None = None) -> str:
    draft = ready("contrast")
    seen = draft.problem.images[0].image
    part = seen.crop(box) if box else seen
    block = Round("It is faint. I make it clearer.", f"image.crop({box})", [part if image is None else image])
    return reason(finished(draft, [block], READ, "KX"))


def test_contrast_has_to_be_raised() -> None:
    seen = ready("contrast").problem.images[0].image
    assert faint(ImageOps.autocontrast(seen)) == ""
    assert faint(ImageOps.equalize(seen.convert("L"))) == ""
    assert faint() == "not_raised"
    assert faint(Image.blend(seen, ImageOps.autocontrast(seen), 0.05)) == "not_raised"


def test_a_part_is_held_against_its_own_place() -> None:
    seen = ready("contrast").problem.images[0].image
    box = (300, 50, 600, 250)
    assert faint(ImageOps.autocontrast(seen.crop(box)), box) == ""
    assert faint(None, box) == "not_raised"


def test_another_picture_is_no_clearer_one() -> None:
    assert faint(street(9).rotate(180)) == "other_picture"
    assert faint(Image.effect_noise(SIZE, 90)) == "other_picture"


# --- operations and computation ---------------------------------------------------------------------------------------


def test_an_operation_gives_a_value_or_a_new_image() -> None:
    draft = ready("operations")
    measured = Round("I count the dark pixels.", "print((pixels < 50).sum())", stdout="1840")
    assert reason(finished(draft, [measured], READ, "KX")) == ""
    drawn = street()
    ImageDraw.Draw(drawn).rectangle((50, 20, 760, 580), fill=(255, 0, 0))
    assert reason(finished(draft, [Round("I mark it.", "draw()", [drawn])], READ, "KX")) == ""
    assert reason(finished(draft, [cropped(draft, AROUND)], READ, "KX")) == "nothing_new"
    block = cropped(draft, AROUND)
    sized = Round(block.before, f"{block.code}\nprint(part.size)", block.images, stdout=str(block.images[0].size))
    assert reason(finished(draft, [sized], READ, "KX")) == "nothing_new"
    typed = Round("I count.", "print('There are', 1840)", stdout="There are 1840")
    assert reason(finished(draft, [typed], READ, "KX")) == "typed_in"


@pytest.mark.parametrize(
    ("code", "printed", "expected"),
    [
        ("print(12 * 13)", "156", ""),
        ("x = 12\ny = 13\nprint('product =', x * y)", "product = 156", ""),
        ("print(math.prod([12, 13]))", "156", ""),
        ("print(sum(13 for _ in range(12)))", "156.0", ""),
        ("print(156)", "156", "typed_in"),
        ("answer = '156'\nprint(answer)", "156", "typed_in"),
        ("print(12 * 14)", "168", "unlike_answer"),
        ("print(12 * 13 > 100)", "True", "unlike_answer"),
    ],
)
def test_what_was_computed_is_what_is_answered(code: str, printed: str, expected: str) -> None:
    record = finished(ready("computation"), [Round("I multiply.", code, stdout=printed)], "So it is 156.", "156")
    assert reason(record) == expected


def test_options_and_formulas_are_compared_as_far_as_they_can_be() -> None:
    lettered = ready("computation", calculation(choices=("155", "156"), answer="B"))
    block = Round("I multiply.", "print(12 * 13)", stdout="156")
    assert reason(finished(lettered, [block], "That is option B.", "B")) == ""
    assert (
        reason(finished(lettered, [Round("I add.", "print(12 + 13)", stdout="25")], "Option B.", "B"))
        == "unlike_answer"
    )
    formula = ready("computation", calculation(answer="2x+1"))
    block = Round("I expand.", "print(expand((x + 1) + x))", stdout="2*x + 1")
    assert reason(finished(formula, [block], "So it is 2x+1.", "2x+1")) == ""


def test_blocks_that_failed_compute_nothing() -> None:
    draft = ready("computation")
    failed = Round("I multiply.", "print(12 * x)", failed=True)
    again = Round("x was missing. I write it out.", "print(12 * 13)", stdout="156")
    assert reason(finished(draft, [failed], "So it is 156.", "156")) == "no_code"
    assert reason(finished(draft, [failed, again], "So it is 156.", "156")) == ""


# --- two looks --------------------------------------------------------------------------------------------------------

WIDE = (320, 60, 560, 240)


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        ([WIDE, AROUND], ""),
        ([WIDE, WIDE], "not_tighter"),
        ([WIDE], "one_look"),
        ([AROUND, AROUND], "not_tighter"),
        ([(10, 300, 250, 480), AROUND], "first_misses"),
        ([WIDE, (10, 10, 120, 80)], "misses_target"),
    ],
)
def test_the_second_look_is_narrower_than_the_first(boxes: list[tuple[int, ...]], expected: str) -> None:
    assert reason(crop_record(boxes, ready("enhancement"))) == expected


@pytest.mark.parametrize(
    ("boxes", "between", "expected"),
    [
        ([(100, 440, 210, 510), AROUND], "The sign is not here. It hangs higher up.", ""),
        ([(100, 440, 210, 510), AROUND], "I see road. I cut out the sign.", "unnoticed"),
        ([AROUND, AROUND], "This is not it.", "first_right"),
        ([(100, 440, 210, 510), (10, 10, 120, 80)], "This is not it.", "not_corrected"),
        ([(100, 440, 210, 510)], "", "not_corrected"),
        ([(100, 440, 210, 510), (50, 40, 750, 560)], "This is not it.", "loose_crop"),
    ],
)
def test_a_wrong_look_is_noticed_and_corrected(boxes: list[tuple[int, ...]], between: str, expected: str) -> None:
    draft = ready("correction")
    rounds = [cropped(draft, box, text) for box, text in zip(boxes, ("I cut out the sign.", between), strict=False)]
    assert reason(finished(draft, rounds, READ, "KX")) == expected


def test_an_even_surface_as_first_look_is_found_by_what_the_code_says() -> None:
    draft = ready("correction")
    rounds = [cropped(draft, (520, 10, 600, 60)), cropped(draft, AROUND, "Only sky, no sign. It hangs below.")]
    assert reason(finished(draft, rounds, READ, "KX")) == ""
