"""No name, comment, prompt or word of a record gives away the angle, the box or the answer; estimates may be stated."""

from __future__ import annotations

import asyncio

import pytest
from drafted import BOX, Round, calculation, cropped, finished, question, ready, street
from hypothesis import given
from hypothesis import strategies as st

from thyme.data.drafts import Draft, Rejection
from thyme.data.leaks import Hidden, leaks, names_in, remarks
from thyme.data.stages.leaks import leaks as stage
from thyme.types import Problem, Prompt, Sampling, SeenImage, StopReason, Trajectory

TURN = "image = Image.open(image_path).rotate({back}, expand=True)\nimage.save('upright.png')\nprint('upright.png')"
SAMPLING = Sampling(text_temperature=1, code_temperature=1, max_rounds=4, max_round_tokens=512, max_tokens=1024)


def rotated(code: str = TURN, text: str = "It is turned by about {angle} degrees.", **changes: object) -> Draft:
    """A record of a picture that was turned by 188 degrees; its code turns it by 172."""
    draft = ready("rotation", question(meta={"box": list(BOX), "prepare": {"angles": [188]}}))
    facts = {"back": draft.hints["back"], "angle": draft.hints["angle"]}
    block = Round(text.format(**facts), code.replace("{back}", str(facts["back"])), [street()], **changes)  # type: ignore[arg-type]  # fields of a round
    return finished(draft, [block], "Now I see that the sign says KX.", "KX")


def found(draft: Draft) -> list[tuple[str, str]]:
    return [(leak.where, leak.what) for leak in leaks(draft)]


def test_a_record_that_states_estimates_and_copies_them_into_code_leaks_nothing() -> None:
    assert found(rotated()) == []
    crop = ready("crop")
    text = f"The sign is in the region {BOX}."
    assert found(finished(crop, [cropped(crop, BOX, text)], "It says KX.", "KX")) == []


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("# turned by 188 degrees\n" + TURN, ("leak_comment", "angle")),
        ("# turn by 172 to put it right\n" + TURN, ("leak_comment", "angle")),
        ("# turn by -188.0 degrees\n" + TURN, ("leak_comment", "angle")),
        ('"""Undo 188 degrees."""\n' + TURN, ("leak_comment", "angle")),
        (TURN.replace("upright.png", "upright_172.png"), ("leak_name", "angle")),
        (TURN.replace("upright.png", "rotated188deg.png"), ("leak_name", "angle")),
        ("rotate_188 = 1\n" + TURN, ("leak_name", "angle")),
        ("# the sign says KX\n" + TURN, ("leak_comment", "answer")),
        (TURN.replace("upright.png", "sign_kx.png"), ("leak_name", "answer")),
        ("# step 188: turn\n" + TURN, None),
        ("# 188. turn\n" + TURN, None),
        ("# put it upright, at 1880 px\n" + TURN, None),
        (TURN.replace("upright.png", "upright_1.png"), None),
    ],
)
def test_angle_and_answer_stand_in_no_comment_and_no_name(code: str, expected: tuple[str, str] | None) -> None:
    assert found(rotated(code))[:1] == ([expected] if expected else [])


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("# the box is (400, 120, 470, 160)", ("leak_comment", "box")),
        ("# x=400 y=120 w=70 h=40", ("leak_comment", "box")),
        ("# region 401, 120, 469, 160 holds it", ("leak_comment", "box")),
        ("path = 'crop_400_120_470_160.png'", ("leak_name", "box")),
        ("# cut out a region of 70 by 40", None),
        ("box = (400, 120, 470, 160)", None),
    ],
)
def test_the_box_stands_in_no_comment_and_no_name(line: str, expected: tuple[str, str] | None) -> None:
    draft = ready("crop")
    block = cropped(draft, BOX)
    draft = finished(draft, [Round(block.before, f"{line}\n{block.code}", block.images)], "It says KX.", "KX")
    assert found(draft)[:1] == ([expected] if expected else [])


def test_regions_of_two_looks_and_the_contrast_are_hidden_too() -> None:
    for scenario, hint in (("enhancement", "larger"), ("correction", "wrong")):
        draft = ready(scenario)
        block = cropped(draft, draft.hints[hint])
        told = f"# first {draft.hints[hint]}\n{block.code}"
        assert found(finished(draft, [Round("", told, block.images)], "", "KX")) == [("leak_comment", "box")]
    draft = ready("contrast")
    told = f"# only {draft.hints['contrast']} is left\nprint(1)"
    assert found(finished(draft, [Round("", told, stdout="1")], "", "KX")) == [("leak_comment", "contrast")]


def test_names_of_saved_and_printed_files_are_looked_at_as_they_turned_out() -> None:
    computed = "image.save(f'{angle}.png')"
    assert ("leak_name", "angle") in found(rotated(computed, names=["out_188.png"]))
    assert ("leak_name", "angle") in found(rotated("print(path)", stdout="/tmp/x/turned-188.jpg"))


def test_names_of_the_problem_are_looked_at() -> None:
    draft = rotated()
    image = draft.problem.images[0].model_copy(update={"name": "ocr.png_rotated_image_188.png"})
    named = draft.model_copy(update={"problem": draft.problem.model_copy(update={"images": (image,)})})
    assert found(named) == [("leak_name", "angle")]


@pytest.mark.parametrize(
    "text",
    [
        "The angle is derived from the filename suffix.",
        "As the hint says, it is upside down.",
        "The ground truth box is at the top.",
        "I was told that it is turned.",
        "Using the given bounding box I look closer.",
        "The angle is provided.",
    ],
)
def test_words_that_betray_what_the_teacher_was_told_are_found(text: str) -> None:
    assert {where for where, _ in found(rotated(text=text))} == {"leak_told"}
    assert {where for where, _ in found(rotated(f"# {text}\n{TURN}"))} == {"leak_told"}


def test_a_hint_of_a_colour_is_none() -> None:
    assert found(rotated(text="There is a hint of red in the sky.")) == []


def test_a_question_of_geometry_may_speak_of_given_angles() -> None:
    draft = ready("computation", calculation(question="Angle A is 188 degrees. What is 12 * 13?"))
    block = Round("We are given angle A; the angle is given as 188.", "# angle A\nprint(12 * 13)", stdout="156")
    assert found(finished(draft, [block], "So it is 156.", "156")) == []


def test_what_the_question_says_is_no_secret_and_options_that_are_treated_alike_are_none() -> None:
    named = ready("crop", question(question="Where does it say KX?"))
    block = cropped(named, BOX)
    code = f"# the sign KX\n{block.code}"
    assert found(finished(named, [Round("", code, block.images)], "", "KX")) == []
    usual = ready("crop", question(answer="left"))
    assert (
        found(finished(usual, [Round("", f"# the left part\nleft = 1\n{block.code}", block.images)], "", "left")) == []
    )
    options = ready("crop", question(choices=("red", "blue"), answer="A"))
    alike = Round("", f"# count red and blue\n{block.code}", block.images)
    assert found(finished(options, [alike], "", "A")) == []
    single = Round("", f"# show the red sign\n{block.code}", block.images)
    assert found(finished(options, [single], "", "A")) == [("leak_comment", "answer")]


def asked(draft: Draft, user: str) -> Draft:
    image = draft.problem.images[0]
    seen = SeenImage(image=image, seen_width=image.width, seen_height=image.height)
    trajectory = Trajectory(
        id=draft.id,
        problem=draft.problem,
        prompt=Prompt(system="You may write code. (820, 410, 1060, 560)", user=user, images=(seen,)),
        segments=draft.segments,
        stop=StopReason.ANSWER,
        sampling=SAMPLING,
    )
    return draft.model_copy(update={"trajectory": trajectory})


def test_stored_prompts_say_nothing_but_the_question() -> None:
    draft = rotated()
    size = f"{draft.problem.images[0].width} x {draft.problem.images[0].height}"
    assert found(asked(draft, f"<image>\n/mnt/data/input/image_1.png, {size}\n{draft.problem.question}")) == []
    assert found(asked(draft, "It was turned by 188 degrees. What does the sign say?")) == [("leak_prompt", "angle")]
    box = draft.hints["boxes"][0]
    assert found(asked(draft, f"Look at {box}. What does the sign say?")) == [("leak_prompt", "box")]
    long = draft.model_copy(update={"problem": draft.problem.model_copy(update={"answer": "KX 4711"})})
    assert found(asked(long, "Prove that it is KX 4711.")) == [("leak_prompt", "answer")]


def test_the_stage_rejects_with_the_place_as_reason() -> None:
    right = rotated()
    assert asyncio.run(stage(right, None)) is right  # type: ignore[arg-type]  # nothing of the context is used
    wrong = asyncio.run(stage(rotated("# by 188 degrees\n" + TURN), None))  # type: ignore[arg-type]  # as above
    assert isinstance(wrong, Rejection)
    assert (wrong.stage, wrong.reason) == ("leaks", "leak_comment")
    assert "188" in wrong.note


def test_code_that_is_none_is_still_read_for_comments() -> None:
    assert remarks("# first\nif (\n# second") == ["first", "second"]
    assert names_in("if (") == []


@given(st.text(max_size=80))
def test_no_text_breaks_the_readers(text: str) -> None:
    hidden = Hidden.of(rotated_once())
    for read in (hidden.in_text, hidden.in_name, hidden.in_prompt):
        assert set(read(text)) <= {"angle", "contrast", "box", "answer"}
    assert isinstance(remarks(text) + names_in(text), list)


@given(
    angle=st.integers(30, 335), before=st.text("abc _-", max_size=5), after=st.sampled_from(["", "deg", "_cw", ".v2"])
)
def test_an_angle_in_a_file_name_is_always_found(angle: int, before: str, after: str) -> None:
    problem = Problem(id="p", question="?", meta={"angle": angle})
    draft = Draft(id="p", scenario="rotation", seed=0, source="s", origin=problem, problem=problem)
    hidden = Hidden.of(draft)
    for shown in (angle, 360 - angle):
        assert "angle" in set(hidden.in_name(f"/folder/{before}{shown}{after}.png"))
    other = next(n for n in range(400, 500) if n % 360 not in (angle, 360 - angle))
    assert "angle" not in set(hidden.in_name(f"/folder/{before}{other}{after}.png"))


@pytest.mark.parametrize(
    ("whole", "answer"),
    [("K7", "K7"), ("47", "47"), ("KX", "KX"), ("7K2", "7K2"), ("HH 7K", "7K"), ("3 KX", "KX"), ("HH 47", "47")],
)
def test_a_short_answer_in_a_file_name_is_found(whole: str, answer: str) -> None:
    problem = Problem(id="p", question="?", answer=whole)
    hidden = Hidden.of(Draft(id="p", scenario="crop", seed=0, source="s", origin=problem, problem=problem))
    for name in (f"/folder/crop_1_{answer}.png", f"{answer}.png", f"crop-{answer.lower()}-large.png"):
        assert "answer" in set(hidden.in_name(name)), name
    assert "answer" not in set(hidden.in_name("/folder/crop_1.png"))


def test_corners_are_named_as_everywhere_whatever_the_answer() -> None:
    problem = Problem(id="p", question="?", answer="Y2")
    hidden = Hidden.of(Draft(id="p", scenario="crop", seed=0, source="s", origin=problem, problem=problem))
    assert not list(hidden.in_name("y2"))


_ONCE: list[Draft] = []


def rotated_once() -> Draft:
    if not _ONCE:
        _ONCE.append(rotated())
    return _ONCE[0]
