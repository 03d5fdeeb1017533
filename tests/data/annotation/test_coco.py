"""COCO: what is written comes back whole, COCO's own library reads it, what others wrote is understood or named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from exchange_parts import SIZE, annotations, asked, item_of, nothing_sure
from hypothesis import given, settings
from hypothesis import strategies as st

from thyme.data.annotation.coco import from_coco, to_coco
from thyme.data.annotation.pictures import Pictures
from thyme.errors import StoreError

ITEM = item_of()
PICTURES = Pictures([ITEM, item_of(1)])


def written(*given_: Any) -> Any:
    value, _ = to_coco(given_, lambda one: f"images/{one.image.id}.jpg", "Signs")
    return json.loads(json.dumps(value))


@settings(max_examples=15, deadline=None)
@given(st.lists(annotations(ITEM, boxed=True), max_size=4, unique_by=lambda one: one.id))
def test_what_is_written_comes_back_whole(given_: list[Any]) -> None:
    taken = from_coco(written(*given_), PICTURES)
    assert list(taken.annotations) == given_
    assert (taken.left_out, taken.unchecked) == ((), 0)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
def test_cocos_own_library_reads_it(tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    given_ = [asked(ITEM, "a"), asked(ITEM, "b", category="chart", box=(0, 0, 2, 3)), asked(item_of(1), "c")]
    (tmp_path / "a.json").write_text(json.dumps(written(*given_)))
    read = coco.COCO(tmp_path / "a.json")
    (image,) = read.loadImgs(read.getImgIds()[:1])
    assert (image["file_name"], image["width"], image["height"]) == (f"images/{ITEM.id}.jpg", *SIZE)
    first, second = read.loadAnns(read.getAnnIds(imgIds=[image["id"]]))
    assert (first["bbox"], first["question"]) == ([100, 20, 60, 40], given_[0].question)
    assert read.loadCats(second["category_id"])[0]["name"] == "chart"
    assert read.getAnnIds(areaRng=[5, 7]) == [second["id"]]
    assert read.annToMask(second).sum() == 6, "its outline covers what its box does"
    assert len(read.getImgIds()) == 2


def test_a_draft_without_a_box_has_no_place_in_it() -> None:
    value, left = to_coco([asked(ITEM, "a", box=None), asked(ITEM, "b")], lambda one: "x")
    assert [row["thyme"]["id"] for row in value["annotations"]] == ["b"]
    assert [(one.where, one.reason) for one in left] == [("a", "no_box")]


def test_a_question_that_was_changed_outside_has_nobodys_word_any_more() -> None:
    value = written(asked(ITEM, "a"), asked(ITEM, "b"))
    value["annotations"][0]["bbox"][0] += 1
    changed, same = from_coco(value, PICTURES).annotations
    assert (changed.box, changed.state, changed.checks) == ((101, 20, 161, 60), "submitted", ())
    assert same == asked(ITEM, "b")


def foreign(**changed: Any) -> Any:
    """A file as tools for detection write it."""
    row = {"id": 5, "image_id": 9, "category_id": 3, "bbox": [50.2, 10.1, 30.0, 20.4], "iscrowd": 0, "area": 612.0}
    return {
        "images": [{"id": 9, "file_name": "0.jpg", "width": SIZE[0] // 2, "height": SIZE[1] // 2}],
        "categories": [{"id": 3, "name": "Object"}, {"id": 4, "name": "traffic light"}],
        "annotations": [{**row, **changed}],
    }


def test_boxes_of_a_detector_become_drafts_at_the_size_of_the_picture() -> None:
    (only,) = from_coco(foreign(), PICTURES).annotations
    assert (only.box, only.category, only.question) == ((100, 20, 160, 61), "object", "")
    (other,) = from_coco(foreign(category_id=4), PICTURES).annotations
    assert other.category == "", "none of the six"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"image_id": 8}, "no_picture"),
        ({"image_id": None}, "no_record"),
        ({"image_id": [9]}, "no_record"),
        ({"bbox": []}, "no_box"),
        ({"bbox": [1, 2, 3]}, "bad_box"),
        ({"bbox": [1, 2, 0, 5]}, "bad_box"),
        ({"bbox": [1e300, 1e300, 1e308, 1e308]}, "bad_box"),
        ({"bbox": [float("inf"), 0, 1, 1]}, "bad_box"),
        ({"choices": [1, {}]}, "no_record"),
        ({"question": {"en": "?"}}, "no_record"),
        ({"thyme": {"id": "../../x", "print": ""}}, "no_record"),
    ],
)
def test_what_cannot_be_taken_is_named_with_its_reason(changed: dict[str, Any], reason: str) -> None:
    taken = from_coco(foreign(**changed), PICTURES)
    assert ([one.reason for one in taken.left_out], taken.annotations) == ([reason], ())
    assert taken.left_out[0].where == "annotation 5"


def test_a_box_of_a_turned_picture_is_not_taken() -> None:
    value = foreign()
    value["images"][0] |= {"width": SIZE[1], "height": SIZE[0]}
    assert [one.reason for one in from_coco(value, PICTURES).left_out] == ["other_size"]


def test_the_same_annotation_twice_counts_once() -> None:
    value = written(asked(ITEM, "a"))
    value["annotations"] *= 2
    taken = from_coco(value, PICTURES)
    assert (len(taken.annotations), [one.reason for one in taken.left_out]) == (1, ["twice"])


@pytest.mark.parametrize("read", [[], {"images": []}, {"annotations": {}, "images": []}, "x", None])
def test_what_is_no_coco_file_is_refused(read: Any) -> None:
    with pytest.raises(StoreError, match="COCO"):
        from_coco(read, PICTURES)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_no_file_crashes_the_reader(data: st.DataObject) -> None:
    value = foreign()
    keys = ("image_id", "category_id", "bbox", "question", "answer", "answer_type", "choices", "thyme")
    for key in data.draw(st.sets(st.sampled_from(keys), max_size=3)):
        value["annotations"][0][key] = data.draw(nothing_sure)
    for key in data.draw(st.sets(st.sampled_from(("width", "height", "file_name", "id")), max_size=2)):
        value["images"][0][key] = data.draw(nothing_sure)
    value["categories"] = data.draw(st.just(value["categories"]) | nothing_sure)
    taken = from_coco(value, PICTURES)
    assert all(one.box is None or 0 <= one.box[0] < one.box[2] <= SIZE[0] for one in taken.annotations)
