"""Annotations as Label Studio's tasks, and back.

A task is a picture, an annotation of it a question: a rectangle in percent of the picture, and for the same region (one
``id``) the texts and choices of `CONFIG`. Label Studio keeps ``data`` of a task as it is, so what it has no place for
travels there (`thyme.data.annotation.exchange.facts_of`). Format: labelstud.io/guide/task_format, and
labelstud.io/guide/export for the results.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from xml.sax.saxutils import quoteattr

from thyme.data.annotation.exchange import FACTS, annotation_of, facts_of
from thyme.data.annotation.left_out import BAD_BOX, CANCELLED, NO_RECORD, ExchangeError, Found, Taken
from thyme.data.annotation.pictures import Pictures, is_number, scaled
from thyme.data.annotation.records import ANSWER_TYPES, CATEGORIES, Annotation
from thyme.data.collect.records import Collected
from thyme.errors import StoreError

NAMES: Final = {name: name for name in ("box", "question", "answer", "answer_type", "choices", "hidden_when_small")}
"""Name of the control for each field, in `CONFIG`; a project may have others."""
_TO, _YES, _NO = "image", "yes", "no"


def _choices(name: str, options: Sequence[str]) -> str:
    inner = "".join(f"<Choice value={quoteattr(option)}/>" for option in options)
    return f'  <Choices name="{name}" toName="{_TO}" perRegion="true" choice="single">{inner}</Choices>\n'


def _text(name: str, hint: str, most: int = 1) -> str:
    said = f'maxSubmissions="{most}" editable="true" placeholder={quoteattr(hint)}'
    return f'  <TextArea name="{name}" toName="{_TO}" perRegion="true" {said}/>\n'


CONFIG: Final = (
    f'<View>\n  <Image name="{_TO}" value="$image" zoom="true" zoomControl="true"/>\n'
    f'  <RectangleLabels name="box" toName="{_TO}" canRotate="false">'
    + "".join(f"<Label value={quoteattr(category)}/>" for category in CATEGORIES)
    + "</RectangleLabels>\n"
    + _text("question", "Question about what the box shows")
    + _text("answer", "Its answer; of a multiple-choice question the text of the option")
    + _choices("answer_type", ANSWER_TYPES)
    + _text("choices", "An option of a multiple-choice question", 10)
    + _choices("hidden_when_small", (_YES, _NO))
    + "</View>\n"
)
"""Labelling interface of a project that shows what is exported, and whose export can be imported."""


def to_tasks(annotations: Iterable[Annotation], url: Callable[[Annotation], str]) -> list[dict[str, Any]]:
    """Tasks, one a picture in order of their first question.

    Args:
        annotations: Any, drafts too.
        url: What Label Studio is to load for the picture of an annotation.
    """
    tasks: dict[str, dict[str, Any]] = {}
    for number, annotation in enumerate(annotations, start=1):
        image = annotation.image
        data = {"image": url(annotation), "image_id": image.id, "width": image.width, "height": image.height}
        told = {"source": annotation.source, "licence": annotation.licence, FACTS: {}}
        empty: dict[str, Any] = {"id": len(tasks) + 1, "data": {**data, **told}, "annotations": [], "predictions": []}
        task = tasks.setdefault(image.id, empty)
        unboxed = {} if annotation.box else {"category": annotation.category}  # labels belong to rectangles
        task["data"][FACTS][annotation.id] = {**facts_of(annotation), **unboxed}
        task["annotations"].append({
            "id": number,
            "result": list(_results(annotation)),
            "ground_truth": annotation.gold,
            "was_cancelled": False,
            "lead_time": annotation.seconds,
            "created_at": _time(annotation.at),
        })  # fmt: skip
    return list(tasks.values())


def _time(at: float) -> str:
    """Seconds since 1970 as Label Studio writes them; its beginning where they are no time."""
    try:
        when = datetime.fromtimestamp(at, UTC)
    except (ValueError, OverflowError, OSError):
        when = datetime.fromtimestamp(0, UTC)
    return when.isoformat().replace("+00:00", "Z")


def _results(annotation: Annotation) -> Iterator[dict[str, Any]]:
    image, value = annotation.image, _percent(annotation)
    shared = {"id": annotation.id, "to_name": _TO, "original_width": image.width, "original_height": image.height,
              "image_rotation": 0, "origin": "manual"}  # fmt: skip

    def result(name: str, type: str, key: str, values: Sequence[str]) -> dict[str, Any]:
        return {**shared, "from_name": name, "type": type, "value": {**value, key: list(values)}}

    if annotation.box is not None:
        labels = [annotation.category] if annotation.category else []
        yield result("box", "rectanglelabels", "rectanglelabels", labels)
    for name in ("question", "answer"):
        if text := getattr(annotation, name):
            yield result(name, "textarea", "text", [text])
    yield result("answer_type", "choices", "choices", [annotation.answer_type])
    if annotation.choices:
        yield result("choices", "textarea", "text", annotation.choices)
    if annotation.hidden_when_small is not None:
        yield result("hidden_when_small", "choices", "choices", [_YES if annotation.hidden_when_small else _NO])


def _percent(annotation: Annotation) -> dict[str, float]:
    if annotation.box is None:
        return {}
    (left, top, right, bottom), (width, height) = annotation.box, annotation.image.size
    return {
        "x": left / width * 100,
        "y": top / height * 100,
        "width": (right - left) / width * 100,
        "height": (bottom - top) / height * 100,
        "rotation": 0,
    }


def from_tasks(tasks: Any, pictures: Pictures, names: Mapping[str, str] | None = None) -> Taken:
    """Annotations of an export ("JSON"; not "JSON-MIN", which has lost which text belongs to which box).

    Args:
        tasks: What the file holds.
        pictures: Of the collection.
        names: Names of a project's controls by field, where they differ from `NAMES`.

    Raises:
        StoreError: It is no such export.
    """
    if not isinstance(tasks, list) or not all(isinstance(task, Mapping) and "data" in task for task in tasks):
        raise StoreError('not Label Studio\'s JSON, which is a list of tasks with "data"; choose "JSON" when exporting')
    return Taken.of(found for task in tasks for found in _of_task(task, pictures, {**NAMES, **(names or {})}))


def _of_task(task: Mapping[str, Any], pictures: Pictures, names: Mapping[str, str]) -> Iterator[Found]:
    where, data = f"task {task.get('id')}", task["data"]
    try:
        if not isinstance(data, Mapping) or not isinstance(annotations := task.get("annotations") or [], list):
            raise ExchangeError("its data or its annotations are none", reason=NO_RECORD)
        picture = pictures.find(data.get("image_id"), data.get("image"))
    except ExchangeError as error:
        yield where, error, False
        return
    facts = data.get(FACTS)
    known = facts if isinstance(facts, Mapping) else {}
    for number, annotation in enumerate(annotations):
        place = f"{where}, annotation {number + 1}"
        if not isinstance(annotation, Mapping) or not isinstance(annotation.get("result"), list):
            yield place, ExchangeError("it has no results", reason=NO_RECORD), False
        elif annotation.get("was_cancelled"):
            yield place, ExchangeError("it was skipped", reason=CANCELLED), False
        else:
            yield from _of_annotation(place, annotation, data, known, picture, names)


@dataclass
class _Region:
    """Results that belong together."""

    texts: dict[str, list[str]] = field(default_factory=dict)
    """Texts and choices by the control's name."""
    shapes: list[Mapping[str, Any]] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    foreign: str = ""
    """Kind of a shape that is no rectangle."""


def _of_annotation(
    place: str,
    annotation: Mapping[str, Any],
    data: Mapping[str, Any],
    known: Mapping[str, Any],
    picture: Collected,
    names: Mapping[str, str],
) -> Iterator[Found]:
    regions: dict[str, _Region] = {}
    for result in annotation["result"]:
        if isinstance(result, Mapping) and isinstance(result.get("value"), Mapping):
            _read(result, regions.setdefault(str(result.get("id")), _Region()))
    if not any(region.shapes or region.foreign for region in regions.values()) and not regions.keys() & known.keys():
        regions = {"": _merged(regions.values())}
    whole = {name: values for region in regions.values() if not region.shapes for name, values in region.texts.items()}
    marked = {id: region for id, region in regions.items() if region.shapes or region.foreign}
    for id, region in (marked or regions).items():
        where = f"{place}, region {id}"
        texts = {**whole, **region.texts} if len(marked) == 1 else region.texts
        try:
            fields = _fields({name: texts.get(control, []) for name, control in names.items()}, data)
            stored = known.get(id)
            facts = stored if isinstance(stored, Mapping) else _given(annotation)
            box = _box(region, picture)
            category = next(iter(region.labels), facts.get("category") if box is None else None)
            fields |= {"box": box, "category": category}
            yield where, *annotation_of(fields, facts, picture, where, stamped=facts is stored)
        except ExchangeError as error:
            yield where, error, False


def _merged(regions: Iterable[_Region]) -> _Region:
    """What was said of the whole picture; each control's result has an ``id`` of its own there."""
    merged = _Region()
    for region in regions:
        merged.labels.extend(region.labels)
        for name, values in region.texts.items():
            merged.texts.setdefault(name, []).extend(values)
    return merged


def _read(result: Mapping[str, Any], region: _Region) -> None:
    type, value = str(result.get("type")), result["value"]
    if type in {"rectangle", "rectanglelabels"}:
        region.shapes.append(result)
    elif type not in {"textarea", "choices", "labels"}:
        region.foreign = type
    labels = value.get(type) if type in {"rectanglelabels", "labels"} else None
    if isinstance(labels, list):
        region.labels.extend(str(label) for label in labels)
    texts = value.get("text", value.get("choices"))
    if type in {"textarea", "choices"} and texts is not None:
        found = [str(text) for text in (texts if isinstance(texts, list) else [texts])]
        region.texts.setdefault(str(result.get("from_name")), []).extend(found)


def _fields(texts: Mapping[str, list[str]], data: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a region; a question that came with the task is its own where the region has none."""
    fields: dict[str, Any] = {name: "\n".join(texts[name]) or data.get(name) for name in ("question", "answer")}
    fields["choices"] = texts["choices"] or data.get("choices")
    fields["answer_type"] = next(iter(texts["answer_type"]), data.get("answer_type"))
    said = next(iter(texts["hidden_when_small"]), "").lower()
    fields["hidden_when_small"] = {_YES: True, _NO: False}.get(said)
    return fields


def _given(annotation: Mapping[str, Any]) -> dict[str, Any]:
    """What Label Studio itself knows."""
    found: dict[str, Any] = {}
    if is_number(annotation.get("lead_time")) and annotation["lead_time"] >= 0:
        found["seconds"] = annotation["lead_time"]
    by = annotation.get("completed_by")
    if isinstance(by, Mapping):
        by = by.get("email") or by.get("id")
    if isinstance(by, str | int):
        found["author"] = str(by)
    try:
        found["at"] = datetime.fromisoformat(str(annotation.get("created_at"))).timestamp()
    except (ValueError, OverflowError):
        found["at"] = 0.0
    return found


def _box(region: _Region, picture: Collected) -> tuple[int, int, int, int] | None:
    if region.foreign:
        raise ExchangeError(f"its shape is a {region.foreign!r:.40}, not a rectangle", reason=BAD_BOX)
    if not region.shapes:
        return None
    shape = region.shapes[0]
    value = shape["value"]
    x, y, wide, high = (value.get(key) for key in ("x", "y", "width", "height"))
    turned = value.get("rotation") or 0
    if not all(map(is_number, (x, y, wide, high, turned))) or shape.get("image_rotation"):
        raise ExchangeError("its rectangle lacks numbers, or the picture was turned", reason=BAD_BOX)
    width, height = _seen(shape, picture)
    left, top, right, bottom = _upright(x, y, wide, high, turned, width / height)
    box = left / 100 * width, top / 100 * height, right / 100 * width, bottom / 100 * height
    return scaled(box, (width, height), picture)


def _seen(shape: Mapping[str, Any], picture: Collected) -> tuple[float, float]:
    """Width and height of the picture that was shown."""
    width, height = shape.get("original_width"), shape.get("original_height")
    if is_number(width) and is_number(height) and min(float(str(width)), float(str(height))) > 0:
        return float(str(width)), float(str(height))
    return picture.width, picture.height


def _upright(
    x: float, y: float, width: float, height: float, rotation: float, aspect: float
) -> tuple[float, float, float, float]:
    """The upright rectangle around one that is turned clockwise around its first corner, in percent.

    Args:
        x: Left, percent of the width.
        y: Top, percent of the height.
        width: Percent of the width.
        height: Percent of the height.
        rotation: Degrees.
        aspect: Width of the picture to its height.
    """
    if rotation % 360 == 0:
        return x, y, x + width, y + height
    cos, sin = math.cos(math.radians(rotation)), math.sin(math.radians(rotation))
    across, down = width * aspect, height  # percent of the height, so that both axes are alike
    corners = [(across * a * cos - down * b * sin, across * a * sin + down * b * cos) for a in (0, 1) for b in (0, 1)]
    xs, ys = [x + corner[0] / aspect for corner in corners], [y + corner[1] for corner in corners]
    return min(xs), min(ys), max(xs), max(ys)
