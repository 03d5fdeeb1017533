"""Label Studio's tasks: what is written comes back whole, what others wrote is understood or named, nothing crashes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from exchange_parts import SIZE, annotations, asked, item_of, nothing_sure
from hypothesis import given, settings
from hypothesis import strategies as st

from thyme.data.annotation.label_studio import NAMES, from_tasks, to_tasks
from thyme.data.annotation.pictures import Pictures
from thyme.errors import StoreError

ITEM = item_of()
PICTURES = Pictures([ITEM, item_of(1)])


def through(*given: Any) -> Any:
    """What comes back of annotations, by way of the file's text."""
    return from_tasks(json.loads(json.dumps(to_tasks(given, lambda one: f"images/{one.image.id}.jpg"))), PICTURES)


@settings(max_examples=15, deadline=None)
@given(st.lists(annotations(ITEM), max_size=4, unique_by=lambda one: one.id))
def test_what_is_written_comes_back_whole(given_: list[Any]) -> None:
    taken = through(*given_)
    assert list(taken.annotations) == given_
    assert (taken.left_out, taken.unchecked) == ((), 0)


def test_pictures_are_tasks_and_questions_their_annotations() -> None:
    tasks = to_tasks([asked(ITEM, "a"), asked(item_of(1), "b"), asked(ITEM, "c", gold=True)], lambda one: "url")
    assert [[one["result"][0]["id"] for one in task["annotations"]] for task in tasks] == [["a", "c"], ["b"]]
    assert [one["ground_truth"] for one in tasks[0]["annotations"]] == [False, True]
    box = tasks[0]["annotations"][0]["result"][0]
    assert box["value"]["rectanglelabels"] == ["ocr"]
    percent = {"x": 100 / 2400 * 100, "y": 20 / 240 * 100, "width": 60 / 2400 * 100, "height": 40 / 240 * 100}
    assert {key: box["value"][key] for key in percent} == pytest.approx(percent)


def test_a_question_that_was_changed_outside_has_nobodys_word_any_more() -> None:
    tasks = to_tasks([asked(ITEM, "a", gold=True), asked(ITEM, "b")], lambda one: "url")
    texts = [r for r in tasks[0]["annotations"][0]["result"] if r["from_name"] == "answer"]
    texts[0]["value"]["text"] = ["13"]
    taken = from_tasks(tasks, PICTURES)
    changed, same = taken.annotations
    assert (changed.answer, changed.state, changed.checks, changed.gold) == ("13", "submitted", (), False)
    assert (same, taken.unchecked) == (asked(ITEM, "b"), 1)


def foreign(*results: dict[str, Any], image: str = "/data/local-files/?d=photos/trip/0.jpg", **more: Any) -> Any:
    """A task as Label Studio exports one that was made in it."""
    annotation = {
        "id": 7,
        "result": list(results),
        "was_cancelled": False,
        "lead_time": 12.5,
        "created_at": "2026-01-02T03:04:05.678900Z",
        "completed_by": {"id": 3, "email": "ana@x.org"},
    }
    return {"id": 31, "data": {"image": image}, "annotations": [{**annotation, **more}], "predictions": []}


def region(id: str, label: str = "Attribute", rotation: float = 0, **value: float) -> dict[str, Any]:
    place = {"x": 10.0, "y": 50.0, "width": 5.0, "height": 25.0, "rotation": rotation, **value}
    shown = {"original_width": SIZE[0], "original_height": SIZE[1], "image_rotation": 0}
    value_ = {**place, "rectanglelabels": [label]}
    return {"id": id, "type": "rectanglelabels", "from_name": "label", "to_name": "image", **shown, "value": value_}


def said(id: str, name: str, *texts: str) -> dict[str, Any]:
    return {"id": id, "type": "textarea", "from_name": name, "to_name": "image", "value": {"text": list(texts)}}


def test_several_regions_of_one_annotation_are_several_questions() -> None:
    task = foreign(
        region("r1"), said("r1", "question", "What colour?"), said("r1", "answer", "B"),
        said("r1", "choices", "red", "blue"), region("r2", "Ocr"), said("r2", "question", "What number?"),
        said("r2", "answer", "7"),
    )  # fmt: skip
    first, second = from_tasks([task], PICTURES).annotations
    assert (first.box, first.category) == ((240, 120, 360, 180), "attribute")
    assert (first.answer, first.choices, first.answer_type) == ("blue", ("red", "blue"), "choice")
    assert (second.answer, second.answer_type, second.category, second.state) == ("7", "number", "ocr", "submitted")
    assert (first.author, first.seconds, first.source) == ("ana@x.org", 12.5, "a camera")
    assert first.at == pytest.approx(1767323045.6789)
    assert {first.id, second.id} == {one.id for one in from_tasks([task], PICTURES).annotations}, "imported again"
    assert len({first.id, second.id}) == 2


def test_texts_of_the_whole_picture_belong_to_its_only_box() -> None:
    task = foreign(region("r1"), said("t1", "question", "What colour?"), said("t2", "answer", "red"))
    (only,) = from_tasks([task], PICTURES).annotations
    assert (only.question, only.answer, only.box) == ("What colour?", "red", (240, 120, 360, 180))


def test_a_question_without_a_box_is_one_and_not_as_many_as_it_has_texts() -> None:
    (only,) = from_tasks([foreign(said("t1", "question", "Why?"), said("t2", "answer", "so"))], PICTURES).annotations
    assert (only.question, only.answer, only.box) == ("Why?", "so", None)


def test_controls_may_have_other_names() -> None:
    task = foreign(region("r1"), said("r1", "frage", "Welche Farbe?"))
    (only,) = from_tasks([task], PICTURES, {"question": "frage"}).annotations
    assert only.question == "Welche Farbe?"
    assert NAMES["question"] == "question"


def test_a_turned_rectangle_becomes_the_upright_one_around_it() -> None:
    (only,) = from_tasks(
        [foreign(region("r1", rotation=90, x=50.0, y=25.0, width=5.0, height=25.0))], PICTURES
    ).annotations
    assert only.box == (1200 - 60, 60, 1200, 60 + 120), "120 x 60 pixels, turned clockwise around its first corner"


@pytest.mark.parametrize(
    "image",
    ["/data/upload/4/0a1b2c3d-0.jpg", "s3://bucket/trip/0.jpg", "trip/0.jpg", f"https://x.org/a/{ITEM.id}.jpg?s=1"],
)
def test_a_picture_is_known_by_what_label_studio_makes_of_its_name(image: str) -> None:
    (only,) = from_tasks([foreign(region("r1"), image=image)], PICTURES).annotations
    assert only.image.id == ITEM.id


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (foreign(region("r"), image="elsewhere.jpg"), "no_picture"),
        (foreign(region("r"), image="../../etc/passwd"), "no_picture"),
        (foreign(region("r"), was_cancelled=True), "cancelled"),
        (foreign({**region("r"), "original_width": 240, "original_height": 2400}), "other_size"),
        (foreign({**region("r"), "image_rotation": 90}), "bad_box"),
        (foreign(region("r", x=200.0)), "bad_box"),
        (foreign(region("r", x=float("nan"))), "bad_box"),
        (foreign({**region("r"), "type": "polygonlabels"}), "bad_box"),
        (foreign(result=None), "no_record"),
    ],
)
def test_what_cannot_be_taken_is_named_with_its_reason(task: Any, reason: str) -> None:
    taken = from_tasks([task, foreign(region("good"))], PICTURES)
    assert [one.reason for one in taken.left_out] == [reason]
    assert "task 31" in taken.left_out[0].where
    assert len(taken.annotations) == 1


def test_two_pictures_of_one_name_are_not_guessed_between() -> None:
    twins = Pictures([item_of(0), item_of(1).model_copy(update={"original": "other/0.jpg"})])
    assert twins.find("/other/0.jpg").id == item_of(1).id
    above = Pictures([item_of(0), item_of(1).model_copy(update={"original": "0.jpg"})])
    assert above.find("0.jpg").id == item_of(1).id, "a whole path, though a folder has a picture of this name"
    assert above.find("trip/0.jpg").id == item_of(0).id
    assert [one.reason for one in from_tasks([foreign(region("r"), image="0.jpg")], twins).left_out] == ["no_picture"]
    assert len(from_tasks([foreign(region("r"), image="trip/0.jpg")], twins).annotations) == 1


@pytest.mark.parametrize("read", [{}, [1], [{"image": "x", "label": []}], "tasks", None])
def test_what_is_no_export_is_refused(read: Any) -> None:
    with pytest.raises(StoreError, match="list of tasks"):
        from_tasks(read, PICTURES)


RESULT_KEYS = ("id", "type", "value", "from_name", "original_width", "original_height", "image_rotation")


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_no_file_crashes_the_reader(data: st.DataObject) -> None:
    task = foreign(
        region("r1"),
        said("r1", "question", "Why?"),
        **{
            key: data.draw(nothing_sure)
            for key in data.draw(st.sets(st.sampled_from(["lead_time", "created_at", "completed_by"])))
        },
    )
    result = task["annotations"][0]["result"][data.draw(st.integers(0, 1))]
    for key in data.draw(st.sets(st.sampled_from(RESULT_KEYS), max_size=2)):
        result[key] = data.draw(nothing_sure)
    if isinstance(result["value"], dict):
        for key in data.draw(
            st.sets(st.sampled_from(["x", "width", "rotation", "text", "rectanglelabels"]), max_size=2)
        ):
            result["value"][key] = data.draw(nothing_sure)
    task["data"] |= {
        key: data.draw(nothing_sure)
        for key in data.draw(st.sets(st.sampled_from(["image_id", "thyme", "question", "choices"])))
    }
    taken = from_tasks([task], PICTURES)
    assert all(one.box is None or 0 <= one.box[0] < one.box[2] <= SIZE[0] for one in taken.annotations)
