"""What the formats of exchange share: which picture is meant, what an annotation is made of, what could not be taken.

Every format carries the facts that it has no place of its own for (state, checks, ...) under `FACTS`, with a
fingerprint of what was asked. Where a question was changed outside, that no longer fits, and nobody has checked it: it
waits for a second person again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import ValidationError

from thyme.config.annotation import AnnotationSettings
from thyme.data.annotation.left_out import NO_RECORD, ExchangeError
from thyme.data.annotation.pictures import inside, is_number, record_of
from thyme.data.annotation.records import ANSWER_TYPES, CATEGORIES, Annotation
from thyme.data.annotation.rules import faults
from thyme.data.collect.records import Collected
from thyme.data.sources.columns import text_of
from thyme.data.sources.lines import digest

FACTS: Final = "thyme"
"""Key under which a format carries what it has no place of its own for."""

_FIELDS: Final = ("question", "answer", "answer_type", "choices", "category", "box", "hidden_when_small")
"""What an author writes."""
_KEPT: Final = ("id", "state", "author", "checks", "source", "licence", "gold", "at", "seconds")
_NUMBER: Final = re.compile(r"[-+]?\d+([.,]\d+)*\s*%?")
_ID: Final = re.compile(r"[A-Za-z0-9][\w.:-]{0,63}")


def fields_of(annotation: Annotation) -> dict[str, Any]:
    """What its author wrote, as JSON has it."""
    return annotation.model_dump(mode="json", include=set(_FIELDS))


def facts_of(annotation: Annotation) -> dict[str, Any]:
    """What else is known of it, as JSON has it, with the fingerprint of what was asked."""
    return {**annotation.model_dump(mode="json", include=set(_KEPT)), "print": fingerprint_of(annotation)}


def fingerprint_of(annotation: Annotation) -> str:
    """Hash of what its author wrote and of the picture's name."""
    return digest([annotation.image.id, json.dumps(fields_of(annotation), sort_keys=True)])


def annotation_of(
    fields: Mapping[str, Any], facts: Any, picture: Collected, origin: str, *, stamped: bool = True
) -> tuple[Annotation, bool]:
    """An annotation of what a file says of it.

    Args:
        fields: What its author wrote, any of them; a box lies in pixels of the picture.
        facts: What `facts_of` gave, or whatever stands there in a file of somebody else.
        picture: The picture.
        origin: What tells it apart in its file; its id is made of that where it has none, so that the same file gives
            the same ids.
        stamped: Whether facts must hold the fingerprint of what was asked to be believed.

    Returns:
        The annotation, and whether it was changed since the facts were written.

    Raises:
        ExchangeError: It is none.
    """
    kept = {key: facts[key] for key in _KEPT if key in facts} if isinstance(facts, Mapping) else {}
    shared = {"source": picture.source, "licence": picture.licence, "id": digest(["annotation", picture.id, origin]),
              "state": "submitted"}  # fmt: skip
    try:
        row = {**shared, **kept, **_completed(fields), "image": record_of(picture).model_dump()}
        made = Annotation.model_validate_json(json.dumps(row))
    except (ValidationError, ValueError, TypeError) as error:
        raise ExchangeError(_why(error), reason=NO_RECORD) from error
    if not _ID.fullmatch(made.id):
        raise ExchangeError(f"{made.id!r:.90} is no id of an annotation", reason=NO_RECORD)
    if made.box is not None:
        made = made.model_copy(update={"box": inside(made.box, picture)})
    changed = stamped and bool(kept) and facts.get("print") != fingerprint_of(made)
    return (unchecked(made) if changed else made), changed


def settled(annotation: Annotation, settings: AnnotationSettings) -> Annotation:
    """It, as a draft where it breaks a rule."""
    if annotation.state in {"draft", "rejected"} or not faults(annotation, settings):
        return annotation
    return annotation.model_copy(update={"state": "draft", "gold": False})


def unchecked(annotation: Annotation) -> Annotation:
    """It, as if nobody but its author had seen it."""
    return annotation.model_copy(update={"state": "submitted", "checks": (), "gold": False})


def _completed(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields with the type of the answer where nobody said it, and an option's text in place of its letter."""
    found = {key: fields[key] for key in _FIELDS if fields.get(key) is not None}
    found["category"] = named if (named := str(found.get("category", "")).strip().lower()) in CATEGORIES else ""
    for name in ("question", "answer"):
        if is_number(found.get(name)):
            found[name] = text_of(found[name])
    answer, choices = str(found.get("answer", "")), found.get("choices") or ()
    if found.get("answer_type") not in ANSWER_TYPES:
        found["answer_type"] = _type_of(answer, choices)
    if found["answer_type"] == "choice" and answer not in choices and re.fullmatch(r"[A-Z]", answer.strip()):
        place = ord(answer.strip()) - ord("A")
        found["answer"] = choices[place] if place < len(choices) else answer
    return found


def _type_of(answer: str, choices: Sequence[Any]) -> str:
    if choices:
        return "choice"
    if answer.strip().lower() in {"yes", "no"}:
        return "yes_no"
    return "number" if _NUMBER.fullmatch(answer.strip()) else "text"


def _why(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())[:300]
    return str(error)[:300]
