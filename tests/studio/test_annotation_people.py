"""Many people at once, leases that run out, figures, questions taken in and given out: on the database itself."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from annotation_parts import BOX
from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError

from thyme.config.annotation import AnnotationSettings
from thyme.data.annotation.records import Annotation
from thyme.studio.accounts import Person, roles_of
from thyme.studio.annotation import checks, figures, places, questions, queues
from thyme.studio.annotation.checks import Answer, Verdict
from thyme.studio.annotation.export import annotations
from thyme.studio.annotation.imports import take_annotations
from thyme.studio.annotation.questions import Fields
from thyme.studio.annotation.rows import locked
from thyme.studio.database import Database
from thyme.studio.models import Reviewer
from thyme.studio.models_annotation import CheckRow, CollectionRow, Hold, Question, Shot
from thyme.studio.refusal import Refusal
from thyme.types import ImageRecord

SETTINGS = AnnotationSettings(second=1, experts=2, gold=0)
FIELDS = Fields("What?", "KX7", "text", (), "ocr", BOX, True)
NAMES = ("Ana", "Bo", "Cy", "Di", "Ed")


def filled(database: Database, shots: int, lead: str = "") -> list[Person]:
    """Images of a collection, and people."""
    with database.write() as session:
        session.add(CollectionRow(id=1, name="photos", added=0))
        session.add_all(Reviewer(name=name, created=0) for name in NAMES)
        session.flush()
        size = {"width": 2400, "height": 1800, "format": "PNG"}
        session.add_all(Shot(id=n, collection_id=1, image=f"{n:032x}", **size) for n in range(1, shots + 1))
    usual = "annotate second expert"
    return [
        Person(n, name, name == lead, "invite", "", roles_of(usual, lead=name == lead))
        for n, name in enumerate(NAMES, 1)
    ]


def write(database: Database, author: Person, shot: int, fields: Fields = FIELDS, seconds: float = 30) -> int:
    """Id of a question that was submitted."""
    with database.write() as session:
        made = questions.begin(session, author, shot, fields, SETTINGS)
        return questions.submit(session, author, made.id, 1, seconds, SETTINGS).id


def answer(database: Database, person: Person, id: int, words: str = "KX7", category: str = "ocr") -> str:
    with database.write() as session:
        return checks.answer(session, person, id, Answer(words, category=category), SETTINGS)[1].state


def judge(database: Database, person: Person, id: int, verdict: Any = "accept") -> str:
    with database.write() as session:
        said = Verdict(verdict, "" if verdict == "accept" else "ambiguous")
        return checks.judge(session, person, id, said, SETTINGS)[1].state


def at_once(work: Callable[[Person], int], people: list[Person]) -> None:
    """Everybody works until nothing is left three times in a row; a row that somebody has locked is passed over."""
    failures: list[BaseException] = []

    def until_done(person: Person) -> None:
        misses = 0
        try:
            while misses < 3:
                misses = 0 if work(person) else misses + 1
                time.sleep(0.01 if misses else 0)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=until_done, args=(person,)) for person in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failures


def test_no_two_people_get_the_same_image_or_place(database: Database) -> None:
    """Five people write, answer and judge as fast as they can: each is checked as often as wanted, by others."""
    people = filled(database, 6)
    taken: list[int] = []

    def annotate(person: Person) -> int:
        with database.write() as session:
            shot = queues.next_shot(session, person, SETTINGS)
            if shot is None:
                return 0
            made = questions.begin(session, person, shot.id, FIELDS, SETTINGS)
            questions.submit(session, person, made.id, 1, None, SETTINGS)
            questions.finish(session, person, shot.id, "", "")
            taken.append(shot.id)
            return shot.id

    def check(person: Person) -> int:
        done = 0
        for queue in ("second", "expert"):
            with database.write() as session:
                found = queues.next_question(session, person, queue, SETTINGS)
                id = 0 if found is None else found.id
            if id:
                (answer if queue == "second" else judge)(database, person, id)
                done += 1
        return done

    at_once(annotate, people)
    assert sorted(taken) == list(range(1, 7))
    at_once(check, people)
    with database.read() as session:
        assert set(session.scalars(select(Question.state))) == {"accepted"}
        rows = session.execute(select(CheckRow.question_id, CheckRow.role, CheckRow.reviewer_id)).all()
        authors = dict(session.execute(select(Question.id, Question.author_id)).all())
        assert session.scalar(select(func.count()).select_from(Hold)) == 0
    assert Counter((question, role) for question, role, _ in rows) == {
        (question, role): count for question in authors for role, count in (("second", 1), ("expert", 2))
    }
    assert len({(question, person) for question, _, person in rows}) == len(rows)
    assert not any(authors[question] == person for question, _, person in rows)


def test_the_table_itself_refuses_a_place_twice(database: Database) -> None:
    ana, *_ = filled(database, 1)
    id = write(database, ana, 1)
    with database.write() as session:
        session.add(Hold(question_id=id, slot=0, reviewer_id=2, until=time.time() + 9))
    with pytest.raises(IntegrityError), database.write() as session:
        session.add(Hold(question_id=id, slot=0, reviewer_id=3, until=time.time() + 9))


def test_a_lease_that_ran_out_goes_to_the_next_person(database: Database) -> None:
    ana, bo, cy, *_ = filled(database, 1)
    id = write(database, ana, 1)

    def take(person: Person) -> int | None:
        with database.write() as session:
            found = queues.next_question(session, person, "second", SETTINGS)
            return None if found is None else found.id

    assert (take(bo), take(bo), take(cy)) == (id, id, None)
    with pytest.raises(Refusal, match="Bo has this question now"):
        answer(database, cy, id)
    with database.write() as session:
        session.execute(update(Hold).values(until=time.time() - 1))
    assert take(cy) == id
    with pytest.raises(Refusal, match="Cy has this question now"):
        answer(database, bo, id)
    assert answer(database, cy, id) == "checked"


def test_an_image_whose_lease_ran_out_goes_on_and_its_drafts_stay(database: Database) -> None:
    ana, bo, *_ = filled(database, 1)
    with database.write() as session:
        draft = questions.begin(session, ana, 1, Fields("Half"), SETTINGS).id
        session.get_one(Shot, 1).until = time.time() - 1
    with database.write() as session:
        found = queues.next_shot(session, bo, SETTINGS)
        assert found is not None
        assert found.holder_id == bo.id
        saved = questions.save(session, ana, draft, Fields("Whole"), 1, SETTINGS)  # nobody else's to lose
        assert (saved.question, saved.version) == ("Whole", 2)
        with pytest.raises(Refusal, match="Bo has this image now"):
            questions.begin(session, ana, 1, Fields("More"), SETTINGS)


def test_lower_demands_reach_what_waits(database: Database) -> None:
    ana, bo, cy, *_ = filled(database, 1)
    id = write(database, ana, 1)
    answer(database, bo, id)
    assert judge(database, cy, id) == "checked"
    with database.write() as session:
        checks.resettle(session, AnnotationSettings(experts=1))
        assert locked(session, id).state == "accepted"


def test_figures_are_those_of_a_calculation_by_hand(database: Database) -> None:
    ana, bo, cy, di, ed = filled(database, 4, lead="Ed")
    ids = [write(database, ana, shot, seconds=10 * shot) for shot in (1, 2, 3, 4)]
    said = (("KX7", "ocr"), ("KX7", "chart"), ("KX1", "ocr"), ("KX7", "ocr"))
    for id, (words, category) in zip(ids, said, strict=True):
        answer(database, bo, id, words, category)
    for id, verdicts in ((ids[0], "aa"), (ids[1], "ar"), (ids[3], "rr")):
        for person, verdict in zip((cy, di), verdicts, strict=True):
            judge(database, person, id, "accept" if verdict == "a" else "reject")
    judge(database, ed, ids[1], "return")
    with database.write() as session:
        session.execute(update(CheckRow).where(CheckRow.id == 1).values(created=86_400.0))
        found = figures.progress(session, "photos")
        assert figures.progress(session, "elsewhere")["people"] == []
    people = {one["name"]: one for one in found["people"]}
    assert found["states"] == {
        "draft": 1, "submitted": 0, "disputed": 1, "checked": 0, "accepted": 1, "rejected": 1,
    }  # fmt: skip
    assert (people["Ana"]["written"], people["Ana"]["returned"], people["Ana"]["seconds"]["written"]) == (4, 1, 25)
    assert next((day["day"], day["answered"]) for day in people["Bo"]["days"]) == ("1970-01-02", 1)
    assert (people["Bo"]["answered"], people["Ed"]["verdicts"], people["Bo"]["seconds"]["answered"]) == (4, 1, None)
    assert found["agreement"]["answers"] == 3 / 4
    assert found["agreement"]["categories"] == 0  # authors always said one thing: chance alone gives as much
    assert found["agreement"]["experts"] == pytest.approx(0.4)  # 2 of 3 agree; by chance (2*1 + 1*2) / 9 = 4/9


def test_figures_say_what_questions_still_wait_for(database: Database) -> None:
    """Nothing is known before the studio was started; then what was said is taken off what is wanted."""
    ana, bo, cy, *_ = filled(database, 3)
    ids = [write(database, ana, shot) for shot in (1, 2, 3)]
    with database.write() as session:
        assert figures.progress(session, "photos")["wanted"]["expert"]["lacking"] is None
        checks.resettle(session, SETTINGS)
    for id in ids[:2]:
        answer(database, bo, id)
    judge(database, cy, ids[0])
    with database.read() as session:
        wanted = figures.progress(session, "photos")["wanted"]
        assert figures.progress(session, "elsewhere")["wanted"]["expert"]["lacking"] == 0
    assert wanted["second"] == {"each": SETTINGS.second, "lacking": SETTINGS.second, "people": len(NAMES)}
    assert wanted["expert"] == {"each": SETTINGS.experts, "lacking": 2 * SETTINGS.experts - 1, "people": 0}


def record(id: str, **changed: Any) -> Annotation:
    image = ImageRecord(id=f"{1:032x}", width=2400, height=1800, mode="RGB")
    made = Annotation(id=id, image=image, question="What?", answer="KX7", category="ocr", box=BOX, author="Zoe",
                      hidden_when_small=True, at=5.0)  # fmt: skip
    return made.model_copy(update=changed)


def test_questions_from_elsewhere_wait_here_like_others(database: Database) -> None:
    filled(database, 1)
    other = record("d", image=ImageRecord(id="f" * 32, width=2400, height=1800, mode="RGB"))
    found = [record("a"), record("b", question=""), record("c", author="Ana", state="accepted"), other]
    counts = take_annotations(database, "photos", found, SETTINGS)
    assert counts == {"added": 2, "drafts": 1, "known": 0, "no_image": 1}
    assert take_annotations(database, "photos", found, SETTINGS)["known"] == 3
    kept = {one.id: one for one in annotations(database, "photos")}
    assert {id: (one.author, one.state) for id, one in kept.items()} == {
        "a": ("Zoe", "submitted"), "b": ("Zoe", "draft"), "c": ("Ana", "submitted"),
    }  # fmt: skip
    assert kept["a"] == found[0].model_copy(update={"state": "submitted", "image": kept["a"].image})
    with database.write() as session:
        zoe = session.scalars(select(Reviewer).where(Reviewer.name == "Zoe")).one()
        person = Person(zoe.id, "Zoe", False, "invite", "", ("annotate",))
        returned = queues.next_question(session, person, "returned", SETTINGS)
        assert returned is not None
        assert "ask something" in returned.returned
    assert take_annotations(database, "photos", [record("e", author="\0")], SETTINGS, author="Bo")["added"] == 1
    with pytest.raises(Refusal, match="no such collection"):
        take_annotations(database, "elsewhere", [], SETTINGS)


def test_what_is_exported_says_who_said_what(database: Database) -> None:
    ana, bo, cy, di, _ = filled(database, 1)
    id = write(database, ana, 1)
    answer(database, bo, id)
    for person in (cy, di):
        judge(database, person, id)
    with database.write() as session:
        locked(session, id).gold = True
        measured = Person(5, "Ed", False, "invite", "", ("second",))
        checks.answer(session, measured, id, Answer("KX1", category="chart"), SETTINGS)
    (found,) = annotations(database, "photos", states=("accepted",))
    assert (found.author, found.gold, found.box, found.seconds) == ("Ana", True, BOX, 30)
    assert [(check.person, check.role, check.verdict, check.agrees) for check in found.checks] == [
        ("Bo", "second", "answered", True), ("Cy", "expert", "accept", None), ("Di", "expert", "accept", None),
    ]  # fmt: skip
    assert list(annotations(database, "photos", states=("draft",))) == []
    with pytest.raises(Refusal, match="no such collection"):
        list(annotations(database, "elsewhere"))


def test_places_are_as_many_as_are_still_wanted(database: Database) -> None:
    ana, bo, cy, di, _ = filled(database, 1)
    settings = AnnotationSettings(second=2, experts=0)
    id = write(database, ana, 1)
    with database.write() as session:
        for person, place in ((bo, True), (cy, True), (di, False)):
            question = locked(session, id)
            held = places.take(session, question, person, places.places_of(session, question, "second", settings), 9)
            assert (held is not None) is place
        checks.answer(session, bo, id, Answer("KX7", category="ocr"), settings)
        assert places.places_of(session, locked(session, id), "second", settings) == 1
        assert queues.next_question(session, di, "second", settings) is None
        assert checks.answer(session, cy, id, Answer("KX7", category="ocr"), settings)[1].state == "accepted"
