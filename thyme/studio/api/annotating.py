"""What annotators do: lease images and questions, write, answer, judge, take back."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import Field
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from thyme.data.annotation.records import ANSWER_TYPES, CATEGORIES, AnswerType, Category
from thyme.studio.accounts import Person
from thyme.studio.annotation import checks, places, questions, queues
from thyme.studio.annotation.roles import turn_of
from thyme.studio.annotation.rows import locked, locked_shot
from thyme.studio.annotation.sights import looking
from thyme.studio.annotation.states import ASIDE, REASONS
from thyme.studio.annotation.views import question_view, shot_view, work_view
from thyme.studio.api.asking import Asking, Body, Id, Number, Shared
from thyme.studio.filters import Words
from thyme.studio.models_annotation import CollectionRow, Question, Shot
from thyme.studio.refusal import Refusal, missing
from thyme.studio.times import lease_view

router = APIRouter()

_Text = Annotated[Words, Field(max_length=10_000)]
_Short = Annotated[Words, Field(max_length=1_000)]
_Seconds = Annotated[float | None, Field(ge=0, allow_inf_nan=False)]
_Pixel = Annotated[int, Field(ge=-(1 << 31), le=1 << 31)]


class FieldsBody(Body):
    """What an author writes; what is missing is empty."""

    question: _Text = ""
    answer: _Short = ""
    answer_type: AnswerType = "text"
    choices: list[_Short] = Field([], max_length=50)
    category: Category | Literal[""] = ""
    box: tuple[_Pixel, _Pixel, _Pixel, _Pixel] | None = None
    hidden_when_small: bool | None = None

    def fields(self) -> questions.Fields:
        """As they are kept."""
        return questions.Fields(
            self.question, self.answer, self.answer_type, tuple(self.choices), self.category, self.box,
            self.hidden_when_small,
        )  # fmt: skip


class Begun(FieldsBody):
    """A new question."""

    key: Annotated[Words, Field(max_length=64)] = ""


class Saved(FieldsBody):
    """A draft, and the version that it was made from."""

    version: Number


class Submitted(Body):
    """That a draft is handed in."""

    version: Number
    seconds: _Seconds = None


class Work(Body):
    """An image or a question."""

    kind: Literal["image", "question"]
    id: Number


class Next(Body):
    """What to go on with."""

    queue: Literal["annotate", "second", "expert", "adjudicate", "returned"]
    collection: Annotated[Words, Field(max_length=200)] = ""
    category: Category | Literal[""] = ""
    release: Work | None = None

    def after(self, kind: str) -> int:
        """What is given back does not come again at once."""
        return self.release.id if self.release is not None and self.release.kind == kind else 0


class Done(Body):
    """That no more is asked about an image."""

    unsuitable: Annotated[Words, Field(max_length=100)] = ""
    note: _Text = ""


class AnswerBody(Body):
    """What a second person says."""

    answer: _Short = ""
    unanswerable: bool = False
    category: Category | Literal[""] = ""
    note: _Text = ""
    seconds: _Seconds = None

    def said(self) -> checks.Answer:
        """As it is kept."""
        return checks.Answer(self.answer, self.unanswerable, self.category, self.note, self.seconds)


class VerdictBody(Body):
    """What an expert or adjudicator says."""

    verdict: Literal["accept", "reject", "return"]
    reason: Annotated[Words, Field(max_length=100)] = ""
    note: _Text = ""
    answer: _Short | None = None
    seconds: _Seconds = None

    def said(self) -> checks.Verdict:
        """As it is kept."""
        return checks.Verdict(self.verdict, self.reason, self.note, self.answer, self.seconds)


@router.get("")
def about(studio: Shared, person: Asking) -> dict[str, Any]:
    """The rules, and what waits for this person."""
    settings = studio.config.annotation
    with studio.database.read() as session:
        query = select(CollectionRow.name, func.count(Shot.id)).outerjoin(Shot).group_by(CollectionRow.name)
        held = [{"value": name, "images": count} for name, count in session.execute(query.order_by(CollectionRow.name))]
        waiting = queues.counts(session, person, settings)
    return {
        "rules": settings.model_dump(mode="json"),
        "categories": list(CATEGORIES),
        "answer_types": list(ANSWER_TYPES),
        "collections": held,
        "roles": list(person.roles),
        "queues": waiting,
        "reasons": {"aside": ASIDE, "verdict": REASONS},
    }


@router.post("/next")
def take_next(studio: Shared, person: Asking, body: Next) -> dict[str, Any]:
    """Lease what comes next."""
    settings = studio.config.annotation
    if not queues.may(person, body.queue):
        raise Refusal(403, "role", f"you are not asked to {body.queue} here; ask who leads")
    with looking(studio.database, person, writing=True) as session:
        if body.release is not None:
            _release(session, person, body.release)
        if body.queue == "annotate":
            shot = queues.next_shot(session, person, settings, body.collection, body.after("image"))
            return {"work": None if shot is None else shot_view(session, shot, person, settings)}
        question = queues.next_question(
            session, person, body.queue, settings, body.collection, body.category, body.after("question")
        )
        return {"work": None if question is None else work_view(session, question, person, settings)}


def _release(session: Session, person: Person, work: Work) -> None:
    if work.kind == "question":
        places.release(session, work.id, person)
    else:
        places.release_shot(locked_shot(session, work.id), person)


# --- images -----------------------------------------------------------------------------------------------------------


@router.get("/images/{shot_id}")
def image(studio: Shared, person: Asking, shot_id: Id) -> dict[str, Any]:
    """An image, and this person's questions about it."""
    with studio.database.read() as session:
        shot = session.get(Shot, shot_id)
        if shot is None:
            raise missing("image")
        mine = select(Question.id).where(Question.shot_id == shot_id, Question.author_id == person.id).limit(1)
        if shot.holder_id not in {None, person.id} and lease_view(shot.until) and session.scalar(mine) is None:
            raise Refusal(409, "leased", "somebody else has this image now; take the next one")
        return shot_view(session, shot, person, studio.config.annotation)


@router.post("/images/{shot_id}/lease")
def lease_image(studio: Shared, person: Asking, shot_id: Id) -> dict[str, Any]:
    """Lease an image, or renew its lease."""
    if "annotate" not in person.roles:
        raise Refusal(403, "role", "you are not asked to annotate here; ask who leads")
    with studio.database.write() as session:
        shot = locked_shot(session, shot_id)
        places.take_shot(session, shot, person, studio.config.annotation.lease_s)
        return {"lease": lease_view(shot.until)}


@router.delete("/images/{shot_id}/lease")
def release_image(studio: Shared, person: Asking, shot_id: Id) -> dict[str, Any]:
    """Give an image back."""
    with studio.database.write() as session:
        places.release_shot(locked_shot(session, shot_id), person)
    return {}


@router.post("/images/{shot_id}/done")
def done(studio: Shared, person: Asking, shot_id: Id, body: Done) -> dict[str, Any]:
    """Take an image out of the annotators' queue."""
    with studio.database.write() as session:
        shot = questions.finish(session, person, shot_id, body.unsuitable, body.note)
        return {"state": shot.state}


@router.post("/images/{shot_id}/questions")
def begin(studio: Shared, person: Asking, shot_id: Id, body: Begun) -> dict[str, Any]:
    """Begin a question."""
    settings = studio.config.annotation
    with studio.database.write() as session:
        made = questions.begin(session, person, shot_id, body.fields(), settings, body.key)
        return question_view(session, made, person, settings, "author")


# --- questions --------------------------------------------------------------------------------------------------------


@router.put("/questions/{question_id}")
def save(studio: Shared, person: Asking, question_id: Id, body: Saved) -> dict[str, Any]:
    """Save a draft."""
    settings = studio.config.annotation
    with studio.database.write() as session:
        saved = questions.save(session, person, question_id, body.fields(), body.version, settings)
        return question_view(session, saved, person, settings, "author")


@router.delete("/questions/{question_id}")
def drop(studio: Shared, person: Asking, question_id: Id) -> dict[str, Any]:
    """Drop a draft."""
    with studio.database.write() as session:
        questions.drop(session, person, question_id)
    return {}


@router.post("/questions/{question_id}/submit")
def submit(studio: Shared, person: Asking, question_id: Id, body: Submitted) -> dict[str, Any]:
    """Hand a draft in."""
    settings = studio.config.annotation
    with studio.database.write() as session:
        handed = questions.submit(session, person, question_id, body.version, body.seconds, settings)
        return question_view(session, handed, person, settings, "author")


@router.get("/questions/{question_id}")
def question(studio: Shared, person: Asking, question_id: Id) -> dict[str, Any]:
    """A question, as much of it as this person may see."""
    with looking(studio.database, person) as session:
        found = session.get(Question, question_id)
        if found is None:
            raise missing("question")
        return work_view(session, found, person, studio.config.annotation)


@router.post("/questions/{question_id}/lease")
def lease_question(studio: Shared, person: Asking, question_id: Id) -> dict[str, Any]:
    """Lease a question, or renew its lease."""
    settings = studio.config.annotation
    with studio.database.write() as session:
        found = locked(session, question_id)
        role = turn_of(session, found, person)
        if not role:
            raise Refusal(409, "turn", "nothing is asked of you about this question now; take the next one")
        wanted = places.places_of(session, found, role, settings)
        return {"lease": lease_view(places.require(session, found, person, wanted, settings.lease_s).until)}


@router.delete("/questions/{question_id}/lease")
def release_question(studio: Shared, person: Asking, question_id: Id) -> dict[str, Any]:
    """Give a question back."""
    with studio.database.write() as session:
        places.release(session, question_id, person)
    return {}


@router.post("/questions/{question_id}/answer")
def answer(studio: Shared, person: Asking, question_id: Id, body: AnswerBody) -> dict[str, Any]:
    """Answer without having seen the answer."""
    settings = studio.config.annotation
    with studio.database.write() as session:
        row, found = checks.answer(session, person, question_id, body.said(), settings)
        return {"agrees": row.agrees, "state": question_view(session, found, person, settings, "second")["state"]}


@router.post("/questions/{question_id}/verdict")
def verdict(studio: Shared, person: Asking, question_id: Id, body: VerdictBody) -> dict[str, Any]:
    """Accept, reject, or send back."""
    with studio.database.write() as session:
        _, found = checks.judge(session, person, question_id, body.said(), studio.config.annotation)
        return {"state": found.state}


@router.post("/undo")
def undo(studio: Shared, person: Asking) -> dict[str, Any]:
    """Take back what one said last."""
    settings = studio.config.annotation
    with looking(studio.database, person, writing=True) as session:
        found = checks.undo(session, person, settings)
        return {"work": None if found is None else work_view(session, found, person, settings)}
