"""The record that is stored: a function of draft, prompts and recipe, with nothing of what the teacher was told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from PIL import Image
from teacher_server import TeacherServer, draft_of, recipe_of, workplace

from thyme.data.drafts import Draft, Said
from thyme.data.stages.finish import finish
from thyme.prompts import PromptSet
from thyme.types import Generated, ImageRecord, StopReason, Trajectory

SEGMENTS = (Generated(kind="text", text="<think>I see.</think><answer>red</answer>", temperature=0.7),)
HIDDEN = "the target is at 40, 20"


def a_draft(**fields: Any) -> Draft:
    values: dict[str, Any] = {
        "segments": SEGMENTS,
        "teacher": "toy",
        "conversation": (Said(role="user", text=HIDDEN),),
    }
    return draft_of(**(values | fields))


async def finished(draft: Draft, **recipe: Any) -> Trajectory:
    async with workplace(recipe_of(TeacherServer(url="http://127.0.0.1:9/v1"), **recipe), None) as context:
        return finish(draft, context)


async def test_it_can_be_made_again_after_a_segment_was_changed() -> None:
    draft = a_draft()
    before = await finished(draft)
    assert before == await finished(draft)
    edited = (SEGMENTS[0].model_copy(update={"text": "<think>Clearly.</think><answer>red</answer>"}),)
    after = await finished(draft.model_copy(update={"segments": edited}))
    assert after == before.model_copy(update={"segments": edited})


async def test_it_holds_nothing_of_what_the_teacher_was_told() -> None:
    text = (await finished(a_draft())).model_dump_json()
    assert HIDDEN not in text
    assert "larger" not in text


async def test_pictures_keep_their_pixels_and_lose_their_names() -> None:
    pictures = (
        ImageRecord.of(Image.new("RGB", (8, 6), (1, 2, 3)), name="scan_rotated_318.jpg", format="JPEG"),
        ImageRecord.of(Image.new("L", (4, 4), 9), name="answer_is_red.png"),
    )
    draft = a_draft()
    trajectory = await finished(
        draft.model_copy(update={"problem": draft.problem.model_copy(update={"images": pictures})})
    )
    assert [image.name for image in trajectory.problem.images] == ["image_1.jpg", "image_2.png"]
    assert [image.id for image in trajectory.problem.images] == [image.id for image in pictures]
    assert [seen.image.image.getpixel((0, 0)) for seen in trajectory.prompt.images] == [(1, 2, 3), 9]
    assert "/mnt/data/input/image_1.jpg" in trajectory.prompt.user


async def test_it_says_who_wrote_it_and_how() -> None:
    teachers = {"one": {"model": "http://127.0.0.1:9/v1#toy", "temperature": 0.2, "max_tokens": 50}}
    trajectory = await finished(a_draft(), teachers=teachers, max_rounds=3)
    assert (trajectory.id, trajectory.model, trajectory.stop) == ("pictures-0-crop", "toy", StopReason.ANSWER)
    sampling = trajectory.sampling
    assert (sampling.text_temperature, sampling.max_rounds, sampling.max_round_tokens) == (0.2, 3, 50)
    assert sampling.max_tokens == 200
    assert trajectory.fingerprints.prompts
    assert (await finished(a_draft(teacher="somebody"))).model == "somebody"


async def test_it_is_asked_with_the_prompts_of_the_trained_model() -> None:
    words = PromptSet(system="Be brief.", user="{{ images[0].path }} <image> {{ question }}", user_text_only="")
    async with workplace(recipe_of(TeacherServer(url="http://127.0.0.1:9/v1")), None) as context:
        trajectory = finish(a_draft(), replace(context, prompts=words))
    assert trajectory.prompt.system == "Be brief."
    assert trajectory.prompt.user == "/mnt/data/input/image_1.png <image> Which colour has the square?"
    assert trajectory.fingerprints.prompts == words.fingerprint
