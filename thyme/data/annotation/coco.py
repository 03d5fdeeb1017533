"""Annotations as COCO's JSON of objects, and back.

A question is an annotation: its box, its category, and beside COCO's own keys what was asked. Readers of COCO leave
keys that they do not know alone. Format: cocodataset.org, "Data format", 1. Object Detection; boxes are left, top,
width and height in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from thyme import __version__
from thyme.data.annotation.exchange import FACTS, annotation_of, facts_of, fields_of
from thyme.data.annotation.left_out import BAD_BOX, NO_BOX, NO_RECORD, ExchangeError, Found, LeftOut, Taken
from thyme.data.annotation.pictures import Pictures, is_number, scaled
from thyme.data.annotation.records import CATEGORIES, Annotation
from thyme.errors import StoreError

_UNKNOWN: Final = "unknown"
"""Category of drafts that have none yet."""
_NAMES: Final = (*CATEGORIES, _UNKNOWN)
_ASKED: Final = ("question", "answer", "answer_type", "choices", "hidden_when_small")


def to_coco(
    annotations: Iterable[Annotation], file_name: Callable[[Annotation], str], title: str = ""
) -> tuple[dict[str, Any], list[LeftOut]]:
    """The JSON object, and what has no place in it: drafts without a box.

    Args:
        annotations: Any.
        file_name: Path of the picture of an annotation, as readers are to find it.
        title: What the set is called.
    """
    images: dict[str, dict[str, Any]] = {}
    licences: dict[str, int] = {}
    rows: list[dict[str, Any]] = []
    left: list[LeftOut] = []
    for annotation in annotations:
        if annotation.box is None:
            left.append(LeftOut(annotation.id, NO_BOX))
            continue
        licence = licences.setdefault(annotation.licence, len(licences) + 1)
        image = {"id": len(images) + 1, "file_name": file_name(annotation), "width": annotation.image.width,
                 "height": annotation.image.height, "license": licence, "image_id": annotation.image.id}  # fmt: skip
        rows.append(_row(len(rows) + 1, annotation, images.setdefault(annotation.image.id, image)["id"]))
    now = datetime.now(UTC)
    return {
        "info": {
            "description": title or "Questions about places in large images",
            "version": __version__,
            "year": now.year,
            "date_created": now.isoformat(timespec="seconds"),
        },
        "licenses": [{"id": number, "name": name, "url": ""} for name, number in licences.items()],
        "categories": [
            {"id": number, "name": name, "supercategory": "question"} for number, name in enumerate(_NAMES, start=1)
        ],
        "images": list(images.values()),
        "annotations": rows,
    }, left


def _row(number: int, annotation: Annotation, image: int) -> dict[str, Any]:
    left, top, right, bottom = annotation.box or (0, 0, 0, 0)
    fields = fields_of(annotation)
    return {
        "id": number,
        "image_id": image,
        "category_id": _NAMES.index(annotation.category or _UNKNOWN) + 1,
        "bbox": [left, top, right - left, bottom - top],
        "area": (right - left) * (bottom - top),
        "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
        "iscrowd": 0,
        **{name: fields[name] for name in _ASKED},
        FACTS: facts_of(annotation),
    }


def from_coco(read: Any, pictures: Pictures) -> Taken:
    """Annotations of a COCO file; boxes without a question become drafts.

    Args:
        read: What the file holds.
        pictures: Of the collection.

    Raises:
        StoreError: It is no such file.
    """
    lists = ("images", "annotations")
    if not isinstance(read, Mapping) or not all(isinstance(read.get(name), list) for name in lists):
        raise StoreError('not COCO\'s JSON, which is an object with "images", "annotations" and "categories"')
    images = _by_id(read["images"])
    categories = _by_id(read.get("categories") or [])
    return Taken.of(_each(read["annotations"], images, categories, pictures))


def _by_id(rows: Any) -> dict[Any, Mapping[str, Any]]:
    found = (row for row in rows if isinstance(row, Mapping)) if isinstance(rows, list) else iter(())
    return {row["id"]: row for row in found if isinstance(row.get("id"), int | str)}


def _each(
    rows: list[Any], images: Mapping[Any, Any], categories: Mapping[Any, Any], pictures: Pictures
) -> Iterator[Found]:
    for number, row in enumerate(rows):
        where = f"annotation {row.get('id') if isinstance(row, Mapping) else number}"
        try:
            if not isinstance(row, Mapping) or not isinstance(row.get("image_id"), int | str):
                raise ExchangeError("it names no image", reason=NO_RECORD)
            image = images.get(row["image_id"], {})
            picture = pictures.find(image.get("image_id"), image.get("file_name"), image.get("coco_url"))
            box = scaled(_corners(row), (image.get("width"), image.get("height")), picture)
            key = row.get("category_id")
            category = categories.get(key, {}).get("name") if isinstance(key, int | str) else None
            fields = {**{name: row.get(name) for name in _ASKED}, "box": box, "category": category}
            yield where, *annotation_of(fields, row.get(FACTS), picture, where)
        except ExchangeError as error:
            yield where, error, False


def _corners(row: Mapping[str, Any]) -> tuple[float, float, float, float]:
    box = row.get("bbox")
    if box is None or box == []:
        raise ExchangeError("it has no bbox", reason=NO_BOX)
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        raise ExchangeError(f"its bbox is {box!r:.60}", reason=BAD_BOX)
    left, top, width, height = box
    return left, top, left + width, top + height
