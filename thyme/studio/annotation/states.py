"""The state of a question that follows from what others said of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

from thyme.config.annotation import AnnotationSettings
from thyme.data.annotation.records import State

REASONS: Final[dict[str, str]] = {
    "wrong_answer": "the answer is wrong",
    "ambiguous": "several answers are right, or it is not clear what is meant",
    "not_visible": "the image does not show the answer",
    "visible_when_small": "the reduced image shows the answer already",
    "wrong_box": "the box does not hold what shows the answer, or holds too much",
    "wrong_category": "the category is another one",
    "guessable": "the answer can be guessed without the image",
    "bad_options": "the wrong options are not plausible, or one of them is right",
    "bad_language": "it is badly written, or in the wrong language",
    "unsuitable": "private, hurtful, or otherwise not to be trained on",
    "other": "something else; the note says what",
}
"""Why a question is rejected or sent back, and what it means."""

ASIDE: Final[dict[str, str]] = {
    "nothing_small": "nothing small enough is to be asked about",
    "blurred": "it is blurred, or badly compressed",
    "text_only": "it is a page or a screenshot of text",
    "duplicate": "it shows what another image shows",
    "private": "private, hurtful, or otherwise not to be trained on",
    "other": "something else; the note says what",
}
"""Why an image is put aside, and what it means."""


class Said(Protocol):
    """What somebody said, as far as the state depends on it."""

    @property
    def role(self) -> str:
        """Of `thyme.data.annotation.records.Check`."""

    @property
    def verdict(self) -> str:
        """Of the same."""

    @property
    def agrees(self) -> bool | None:
        """Whether a second person gave the author's answer."""


def state_of(checks: Iterable[Said], settings: AnnotationSettings) -> State:
    """State of a question that was submitted.

    Second persons are heard to the end, so that an adjudicator knows what all of them said; experts only until they
    differ. What an adjudicator accepts goes on to the experts, unless it is theirs already that was in dispute.

    Args:
        checks: What stands of this submission, in the order in which it was said.
        settings: How many are asked.
    """
    seconds: list[bool] = []
    experts: list[str] = []
    decided: State | None = None
    for check in checks:
        if check.role == "second":
            seconds.append(bool(check.agrees))
        elif check.role == "expert":
            experts.append(check.verdict)
            decided = None
        else:
            decided = _decided(check.verdict, final=bool(experts))
    if decided is not None and decided != "checked":
        return decided
    if decided is None and not experts:
        if len(seconds) < settings.second:
            return "submitted"
        if not all(seconds):
            return "disputed"
    return _judged(experts, settings.experts)


def _decided(verdict: str, *, final: bool) -> State:
    """What an adjudicator's word makes of a question."""
    if verdict == "accept":
        return "accepted" if final else "checked"
    return "rejected" if verdict == "reject" else "draft"


def _judged(verdicts: list[str], wanted: int) -> State:
    """What experts make of a question whose answer is agreed."""
    if len(set(verdicts)) > 1:
        return "disputed"
    if len(verdicts) < wanted:
        return "checked"
    return "rejected" if verdicts and verdicts[0] == "reject" else "accepted"
