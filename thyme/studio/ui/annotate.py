"""The pages on which people ask about large images, answer, accept and decide.

What they show comes from the paths below ``/api/annotation``, which know what a person may see; the pages themselves
hold nothing but numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from fastapi import APIRouter, Request
from fastapi.responses import Response

from thyme.studio.accounts import Person

Page = Callable[[Request, Person], Response]


class Show(Protocol):
    """Makes a page of a studio."""

    def __call__(self, name: str, me: Person | None, here: str = "", status: int = 200, **values: Any) -> Response:
        """A page out of the name of its template."""


CATEGORIES: Final = {
    "ocr": "Text (OCR)",
    "attribute": "Attribute",
    "location": "Location",
    "quantity": "Quantity",
    "object": "Object",
    "chart": "Chart",
}
"""What the categories of `thyme.data.annotation.records` are called."""
ROLES: Final = {"annotate": "ask questions", "second": "answer", "expert": "accept as experts"}
"""What people may do, besides what those do who lead."""
ANSWER_TYPES: Final = {"text": "a text", "number": "a number", "yes_no": "yes or no", "choice": "one of options"}
PLACES: Final = (
    ("/annotate", "Annotate"),
    ("/annotate/questions", "Questions"),
    ("/annotate/progress", "Figures"),
)
"""Places of the studio in which collections are annotated."""
STATES: Final = {
    "draft": "draft",
    "submitted": "to be answered",
    "disputed": "disputed",
    "checked": "to be accepted",
    "accepted": "accepted",
    "rejected": "rejected",
}
IMAGES: Final = {"open": "Images to ask about", "done": "Images done", "unsuitable": "Images put aside"}
QUEUES: Final = {
    "annotate": "Images to ask about",
    "returned": "Questions sent back to you",
    "second": "Questions to answer",
    "expert": "Questions to accept",
    "adjudicate": "Disputes to decide",
}
_IMAGE_KEYS: Final = (
    ("T", "to the target, with its surroundings"),
    ("+ - 0 P", "closer, wider, the whole image, pixel by pixel"),
    ("← → ↑ ↓", "move the image, when it has the focus"),
    ("?", "these keys"),
)
AUTHOR_KEYS: Final = (
    ("B", "draw a box; Esc stops drawing"),
    ("← → ↑ ↓", "move the box by a pixel; with Shift resize it, with Ctrl by ten"),
    ("F", "the image as the model first sees it, and back"),
    ("H Y", "there: the answer is hidden; it can be seen"),
    ("Q", "write the question; Esc leaves a field"),
    ("1 – 6", "category"),
    ("G", "suggest wrong options"),
    ("Ctrl Enter", "submit the question"),
    ("C", "ask another about this image"),
    ("[ ]", "between the questions about this image"),
    ("N", "done: next image"),
    ("X", "put the image aside, with a reason"),
    ("S", "skip: leave the image to somebody else"),
    *_IMAGE_KEYS,
)
"""Keys of the page on which an image is asked about."""
JUDGE_KEYS: Final = (
    ("A", "write the answer; of experts and adjudicators: accept"),
    ("1 – 9", "choose an option"),
    ("X", "it cannot be answered"),
    ("Ctrl Enter", "send the answer"),
    ("R", "reject, then a number for the reason and Enter"),
    ("B", "send it back to its author"),
    ("S", "skip: leave it to somebody else"),
    ("U", "undo what you said last"),
    ("F", "the image as the model first sees it (not for second persons)"),
    *_IMAGE_KEYS,
)
"""Keys of the page on which a question is judged."""
HOME_KEYS: Final = (
    ("Enter", "begin with what is most urgent"),
    ("1 – 5", "go on with one of the queues"),
    ("U", "undo what you said last"),
    ("?", "these keys"),
)
_PICTURE: Final = ("openseadragon.min.js", "annotorious.min.js", "annotate_page.js", "annotate_picture.js")
_AUTHOR: Final = ("annotate_faults.js", "annotate_choices.js", "annotate_draft.js", "annotate_author.js")
_DESK: Final = ("annotate_page.js", "annotate_desk.js")
TABLES: Final = (
    (
        "people",
        "People",
        ("Name", "Written", "Sent back", "Answered", "Verdicts", "Gold right", "Seconds to write / answer / judge"),
    ),
    ("days", "Days", ("Day", "Name", "Written", "Answered", "Verdicts")),
)
"""Id, title and heads of the tables of figures."""


def routes(show: Show, guarded: Callable[[Page], Callable[[Request], Response]]) -> APIRouter:
    """The pages, for the router of all pages to include.

    Args:
        show: Makes a page out of the name of its template.
        guarded: Makes a page one for those who are let in.
    """
    made, pages = APIRouter(), _Pages(show)
    for path, page in (
        ("/annotate", pages.home),
        ("/annotate/images/{image:int}", pages.image),
        ("/annotate/questions/{question:int}", pages.question),
        ("/annotate/questions", pages.listing),
        ("/annotate/progress", pages.progress),
    ):
        made.add_api_route(path, guarded(page), methods=["GET"], response_model=None)
    return made


class _Pages:
    """The pages, with what makes them look like all others."""

    def __init__(self, show: Show) -> None:
        self._show = show

    def home(self, request: Request, me: Person) -> Response:
        """What waits for a person."""
        return self._show(
            "annotate_home.html.j2",
            me,
            "/annotate",
            scripts=_DESK,
            queues=QUEUES,
            categories=CATEGORIES,
            keys=HOME_KEYS,
            finished="finished" in request.query_params,
        )

    def image(self, request: Request, me: Person) -> Response:
        """An image, to be asked about."""
        return self._show(
            "annotate_image.html.j2",
            me,
            image=request.path_params["image"],
            scripts=_PICTURE + _AUTHOR,
            categories=CATEGORIES,
            answer_types=ANSWER_TYPES,
            keys=AUTHOR_KEYS,
        )

    def question(self, request: Request, me: Person) -> Response:
        """A question, to be answered, accepted or decided."""
        return self._show(
            "annotate_question.html.j2",
            me,
            question=request.path_params["question"],
            scripts=(*_PICTURE, "annotate_judge.js"),
            categories=CATEGORIES,
            keys=JUDGE_KEYS,
        )

    def listing(self, request: Request, me: Person) -> Response:
        """Questions that match; of others only those who lead see any."""
        return self._show(
            "annotate_list.html.j2",
            me,
            "/annotate/questions",
            scripts=_DESK,
            states=STATES,
            categories=CATEGORIES,
        )

    def progress(self, request: Request, me: Person) -> Response:
        """How far the work is, who did how much, and how far people agree."""
        return self._show(
            "annotate_progress.html.j2",
            me,
            "/annotate/progress",
            scripts=_DESK,
            images=IMAGES,
            states=STATES,
            tables=TABLES,
        )
