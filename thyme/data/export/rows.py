"""A record as a row of each format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from thyme.data.drafts import Draft
from thyme.data.published import images_of
from thyme.data.scenarios.correction import CORRECTION
from thyme.errors import EncodeError
from thyme.markup import IMAGE
from thyme.types import Generated, ImageRecord, Observation, Segment, Trajectory


def facts_of(draft: Draft, trajectory: Trajectory) -> dict[str, Any]:
    """What people filter by."""
    return {
        "id": draft.id,
        "scenario": draft.scenario,
        "source": draft.source,
        "teacher": draft.teacher,
        "kind": trajectory.problem.kind,
        "answer": trajectory.problem.answer,
        "rounds": len(trajectory.observations),
    }


def file_of(image: ImageRecord, id: str) -> bytes:
    """The file of a picture.

    Raises:
        EncodeError: It was not read from one.
    """
    if image.encoded is None:
        raise EncodeError(f"{id}: image {image.id} has no file of its own; read the record with its images")
    return image.encoded


def mistakes(draft: Draft, trajectory: Trajectory) -> int:
    """How many segments at the start are there only to be put right, and must not be learnt.

    In a record of `CORRECTION` that is everything up to the second-to-last observation, the wrong look (the mask
    ``released`` of `thyme sft`); in any other, up to the last block that failed.
    """
    ends = [place for place, one in enumerate(trajectory.segments, 1) if isinstance(one, Observation)]
    wrong = ends[:-1] if draft.scenario == CORRECTION.name else []
    failed = [end for end, seen in zip(ends, trajectory.observations, strict=True) if seen.execution.error is not None]
    return max([*wrong, *failed], default=0)


def messages_row(draft: Draft, trajectory: Trajectory) -> dict[str, Any]:
    """A row of messages and pictures, as chat templates and TRL take them.

    The content of a message is a list of parts, ``{type: text, text}`` or ``{type: image, text: null}``; pictures stand
    in ``images`` in that order. ``segments`` say again what the assistant's turn is made of, so that what came out of
    the sandbox can be kept out of the loss: ``{kind, text, learn}`` with the kinds ``text``, ``code`` and
    ``observation``. ``learn`` is false for these last, and for `mistakes`.
    """
    turns = [
        ("system", trajectory.prompt.system),
        ("user", trajectory.prompt.user),
        ("assistant", trajectory.response),
    ]
    return {
        "messages": [{"role": role, "content": list(_parts(text))} for role, text in turns if text],
        "images": [{"bytes": file_of(image, draft.id), "path": None} for image in images_of(trajectory)],
        "segments": [
            {"kind": segment.kind, "text": segment.text, "learn": learn}
            for learn, segment in _learnt(draft, trajectory)
        ],
        **facts_of(draft, trajectory),
    }


def _parts(text: str) -> Iterator[dict[str, str | None]]:
    for number, part in enumerate(text.split(IMAGE)):
        if number:
            yield {"type": "image", "text": None}
        if part:
            yield {"type": "text", "text": part}


def swift_row(draft: Draft, trajectory: Trajectory, paths: Sequence[str]) -> dict[str, Any]:
    """A row of ms-swift: one turn of the assistant in pieces, without loss those of the sandbox, and `mistakes`.

    ms-swift joins consecutive messages of the assistant and keeps what each says of its loss.
    """
    learnt = ((learn, segment.text) for learn, segment in _learnt(draft, trajectory))
    pieces = [{"role": "assistant", "content": text, "loss": learn} for learn, text in _joined(learnt)]
    return {"messages": [*_asked(trajectory), *pieces], "images": list(paths), **facts_of(draft, trajectory)}


def factory_row(draft: Draft, trajectory: Trajectory, paths: Sequence[str]) -> dict[str, Any]:
    """A row of LLaMA-Factory's ``sharegpt`` layout: what came out of the sandbox are turns of an ``observation``.

    LLaMA-Factory masks the loss by turns only, so that the assistant's turn ends with each code block. It has no way to
    mask some turns of the assistant: it learns `mistakes`, too.
    """
    written = ((isinstance(segment, Generated), segment.text) for segment in trajectory.segments)
    pieces = [{"role": "assistant" if own else "observation", "content": text} for own, text in _joined(written)]
    return {"messages": [*_asked(trajectory), *pieces], "images": list(paths), **facts_of(draft, trajectory)}


def _asked(trajectory: Trajectory) -> list[dict[str, Any]]:
    turns = [("system", trajectory.prompt.system), ("user", trajectory.prompt.user)]
    return [{"role": role, "content": text} for role, text in turns if text]


def _learnt(draft: Draft, trajectory: Trajectory) -> Iterator[tuple[bool, Segment]]:
    """Whether each segment is to be learnt, and the segment."""
    begin = mistakes(draft, trajectory)
    for place, segment in enumerate(trajectory.segments):
        yield place >= begin and isinstance(segment, Generated), segment


def _joined(parts: Iterable[tuple[bool, str]]) -> Iterator[tuple[bool, str]]:
    """Texts that follow one another under the same flag, as one."""
    for flag, run in groupby(parts, key=itemgetter(0)):
        yield flag, "".join(text for _, text in run)
