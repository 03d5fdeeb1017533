"""Leases, states and figures on the database itself, with people at work in threads."""

from __future__ import annotations

import threading
import time
from collections import Counter
from itertools import product

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from studio_parts import no_code

from thyme.data.annotation.agreement import kappa
from thyme.studio import entries, figures, leases, reviews
from thyme.studio.accounts import Person
from thyme.studio.database import Database
from thyme.studio.filters import Filter
from thyme.studio.models import Build, Item, Lease, Reviewer, ReviewRow, Revision
from thyme.studio.refusal import Refusal
from thyme.studio.reviews import Said

LEASE_S = 600.0


def filled(database: Database, items: int, wanted: int = 1, people: int = 3) -> list[Person]:
    """Items of a build, and people to review them."""
    names = ["Ana", "Bo", "Cy", "Di", "Ed", "Flo"][:people]
    with database.write() as session:
        session.add(Build(id=1, name="build", added=0))
        session.add_all(Reviewer(id=n, name=name, created=0) for n, name in enumerate(names, 1))
        session.flush()
        row = {"build_id": 1, "scenario": "crop", "source": "s", "teacher": "t", "kind": "", "rounds": 1}
        session.add_all(
            Item(id=n, record=f"r-{n:08d}-crop", question="Q?", wanted=wanted, **row) for n in range(1, items + 1)
        )
    return [Person(n, name, False, "invite", "") for n, name in enumerate(names, 1)]


def take(database: Database, person: Person, after: int = 0) -> int | None:
    with database.write() as session:
        item = leases.take_next(session, [], person.id, LEASE_S, after)
        return None if item is None else item.id


def say(
    database: Database,
    person: Person,
    item: int,
    verdict: str = "accept",
    reason: str = "",
    revision: int | None = None,
) -> str:
    with database.write() as session:
        rejected = Said("reject", reason or "wrong_answer")
        said = rejected if verdict == "reject" else Said("accept", revision=revision)
        return reviews.give(session, person, item, said, LEASE_S)[1].state


@pytest.mark.parametrize("wanted", [1, 2])
def test_no_two_people_get_the_same_place(database: Database, wanted: int) -> None:
    """Four people take and review as fast as they can: each record is reviewed as often as wanted, by as many."""
    people = filled(database, 15, wanted, people=4)
    got: list[tuple[int, int]] = []
    failures: list[BaseException] = []

    def work(person: Person) -> None:
        misses = 0
        try:
            while misses < 3:  # a row that somebody has locked at the moment is passed over
                item = take(database, person)
                misses = misses + 1 if item is None else 0
                if item is None:
                    time.sleep(0.02)
                    continue
                got.append((item, person.id))
                say(database, person, item)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(person,)) for person in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert Counter(item for item, _ in got) == dict.fromkeys(range(1, 16), wanted)
    assert len(set(got)) == len(got)
    with database.read() as session:
        assert set(session.scalars(select(Item.state))) == {"accept"}


def test_the_table_itself_refuses_a_place_twice(database: Database) -> None:
    filled(database, 1)
    row = {"item_id": 1, "slot": 0, "until": time.time() + 9}
    with database.write() as session:
        session.add(Lease(reviewer_id=1, **row))
    with pytest.raises(IntegrityError), database.write() as session:
        session.add(Lease(reviewer_id=2, **row))


def test_a_lease_that_ran_out_goes_to_the_next_person(database: Database) -> None:
    ana, bo, _ = filled(database, 1)
    assert take(database, ana) == 1
    assert take(database, bo) is None
    with database.write() as session:
        session.execute(update(Lease).values(until=time.time() - 1))
    assert take(database, bo) == 1
    with pytest.raises(Refusal, match="Bo has this record now"):
        say(database, ana, 1)
    assert say(database, bo, 1) == "accept"


def test_who_was_slow_may_still_say_it_if_nobody_has_taken_over(database: Database) -> None:
    ana, *_ = filled(database, 1)
    assert take(database, ana) == 1
    with database.write() as session:
        session.execute(update(Lease).values(until=time.time() - 1))
    assert say(database, ana, 1) == "accept"


def test_the_own_record_comes_again_until_it_is_skipped(database: Database) -> None:
    ana, bo, _ = filled(database, 4)
    assert [take(database, ana), take(database, ana), take(database, bo)] == [1, 1, 2]
    assert take(database, ana, after=1) == 3
    assert take(database, ana, after=3) == 4
    assert take(database, ana, after=4) == 1  # from the beginning: it is still theirs


def test_a_skipped_record_does_not_come_back_at_once(database: Database) -> None:
    ana, *_ = filled(database, 2)
    for item in (1, 2):
        say(database, ana, item)
    with database.write() as session:
        reviews.undo(session, ana, LEASE_S)
    with database.write() as session:
        leases.release(session, 2, ana.id)
        assert leases.take_next(session, [], ana.id, LEASE_S, 2, skipped=2) is None
    assert take(database, ana) == 2


def test_undo_goes_back_step_by_step_and_opens_the_record_again(database: Database) -> None:
    ana, bo, _ = filled(database, 2)
    for item in (1, 2):
        assert take(database, ana) == item
        say(database, ana, item)
    with database.write() as session:
        assert [reviews.undo(session, ana, LEASE_S).id, reviews.undo(session, ana, LEASE_S).id] == [2, 1]
        assert reviews.undo(session, ana, LEASE_S) is None
    assert take(database, bo) is None  # both are hers again
    with database.read() as session:
        assert set(session.scalars(select(Item.state))) == {"open"}
        assert len(session.scalars(select(ReviewRow)).all()) == 2  # nothing is forgotten
    assert say(database, ana, 1, "reject") == "reject"


def test_a_second_verdict_takes_the_place_of_the_first(database: Database) -> None:
    ana, *_ = filled(database, 1)
    take(database, ana)
    assert say(database, ana, 1) == "accept"
    assert say(database, ana, 1, "reject") == "reject"
    with database.read() as session:
        assert len(reviews.standing(session, 1)) == 1


def test_two_reviews_that_differ_are_decided_by_a_lead(database: Database) -> None:
    ana, bo, cy = filled(database, 1, wanted=2)
    assert take(database, ana) == take(database, bo) == 1
    assert take(database, cy) is None
    assert say(database, ana, 1) == "open"
    assert say(database, bo, 1, "reject") == "disputed"
    with database.write() as session, pytest.raises(Refusal, match="only those who lead"):
        reviews.decide(session, cy, 1, Said("accept"))
    lead = Person(cy.id, cy.name, True, "invite", "")
    with database.write() as session:
        assert reviews.decide(session, lead, 1, Said("reject", "other", "both saw something"))[1].state == "reject"
    with database.write() as session:
        assert reviews.decide(session, lead, 1, Said("accept"))[1].state == "accept"
    with database.write() as session:
        undone = reviews.undo(session, lead, LEASE_S)
        assert undone is not None
        assert undone.state == "disputed"
    with database.read() as session:
        assert figures.agreement(session)["agreed"] == 0  # a decision is no review


def test_who_leads_and_reviews_does_not_know_the_other_review(database: Database) -> None:
    """Neither the verdict nor the text, by whatever number they ask for it; or the agreement would be none."""
    ana, _, cy = filled(database, 1, wanted=2)
    lead = Person(cy.id, cy.name, True, "invite", "")
    first = revise(database, ana, "KX")
    say(database, ana, 1, revision=first)

    def sees() -> bool:
        with database.read() as session:
            return reviews.sees_others(session, session.get_one(Item, 1), lead)

    assert not sees()
    with pytest.raises(Refusal, match="no such revision"):
        say(database, lead, 1, revision=first)
    assert say(database, lead, 1, "reject") == "disputed"
    assert sees()


def test_two_who_wrote_the_same_agree(database: Database) -> None:
    ana, bo, _ = filled(database, 2, wanted=2)
    for item, texts, state in ((1, ("KX", "KX"), "accept"), (2, ("KX", "KY"), "disputed")):
        for person, text in zip((ana, bo), texts, strict=True):
            found = say(database, person, item, revision=revise(database, person, text, item))
        assert found == state


def revise(database: Database, person: Person, answer: str, item: int = 1) -> int:
    """A record as somebody changed it."""
    with database.write() as session:
        text = no_code(0, answer=answer).model_dump_json()
        made = Revision(item_id=item, reviewer_id=person.id, created=time.time(), draft=text)
        session.add(made)
        session.flush()
        return made.id


def test_letters_of_all_alphabets_are_found_in_either_case(database: Database) -> None:
    filled(database, 2)
    with database.write() as session:
        session.execute(update(Item).where(Item.id == 2).values(question="Где ÄPFEL?"))
        for words, found in (("где", 1), ("äpfel", 1), ("ÄPFEL", 1), ("q?", 1), ("apfel", 0)):
            assert entries.listed(session, Filter(search=words), 1, 1, 9)["total"] == found


def test_how_many_are_left_for_whom(database: Database) -> None:
    """Counted the short way, held against the rule that hands records out."""
    ana, bo, cy = filled(database, 6, wanted=2)
    for person, items in ((ana, (1, 2)), (bo, (2, 3))):
        for item in items:
            say(database, person, item)
    assert take(database, cy) == 1
    assert take(database, bo, after=3) == 4
    assert take(database, ana, after=3) == 4
    with database.write() as session:
        session.execute(update(Lease).where(Lease.item_id == 4, Lease.reviewer_id == ana.id).values(until=1.0))
    with database.read() as session:
        for person, free in ((ana, 4), (bo, 3), (cy, 5)):
            left = entries.still_open(session, Filter(), person.id)
            where = (Item.state == "open", leases.free_for(person.id))
            assert left["free"] == len(session.scalars(select(Item.id).where(*where)).all()) == free
            assert left["open"] == 5
        assert entries.still_open(session, Filter(scenario="none"), 1) == {"free": 0, "open": 0, "others": 0}
        assert entries.still_open(session, Filter(state="accept"), ana.id)["others"] == 2  # those of Bo and of Cy


@pytest.mark.parametrize("said", [Said("reject"), Said("reject", "because"), Said("reject", "other", "  ")])
def test_a_rejection_says_why(database: Database, said: Said) -> None:
    ana, *_ = filled(database, 1)
    with database.write() as session, pytest.raises(Refusal) as refused:
        reviews.give(session, ana, 1, said, LEASE_S)
    assert refused.value.status == 400


def test_the_state_follows_from_what_stands() -> None:
    def row(verdict: str, revision: int | None = None, *, decision: bool = False) -> ReviewRow:
        return ReviewRow(verdict=verdict, revision_id=revision, decision=decision)

    assert reviews.state_of([], 1) == "open"
    for one, two in product(("accept", "reject"), repeat=2):
        assert reviews.state_of([row(one), row(two)], 2) == (one if one == two else "disputed")
    assert reviews.state_of([row("accept"), row("accept", 7)], 2) == "disputed"  # of what they accept, too
    assert reviews.state_of([row("accept", 7), row("accept", 7)], 2) == "accept"
    assert reviews.state_of([row("accept"), row("reject", decision=True)], 2) == "reject"


def test_kappa_is_that_of_the_books() -> None:
    """The example of many textbooks: 20 and 15 agreed, 5 and 10 not: observed 0.7, by chance 0.5."""
    table = {("a", "a"): 20, ("a", "r"): 5, ("r", "a"): 10, ("r", "r"): 15}
    assert kappa(table) == pytest.approx(0.4)
    assert kappa({("a", "a"): 3, ("r", "r"): 4}) == 1
    assert kappa({("a", "r"): 5, ("r", "a"): 5}) == -1
    assert kappa({("a", "a"): 25, ("a", "r"): 25, ("r", "a"): 25, ("r", "r"): 25}) == 0
    assert kappa({}) is None
    assert kappa({("a", "a"): 9}) is None  # nothing else was ever said


def test_progress_and_agreement(database: Database) -> None:
    people = filled(database, 4, wanted=2)
    ana, bo, _ = people
    verdicts = {1: ("accept", "accept"), 2: ("accept", "reject"), 3: ("reject", "reject")}
    for item, (first, second) in verdicts.items():
        say(database, ana, item, first)
        say(database, bo, item, second)
    take(database, ana)
    with database.read() as session:
        found = figures.progress(session, "build")
        assert found["states"] == {"open": 1, "accept": 1, "reject": 1, "disputed": 1}
        assert found["leased"] == 1
        done = {one["name"]: (one["accepted"], one["rejected"], one["today"]) for one in found["reviewers"]}
        assert done == {"Ana": (2, 1, 3), "Bo": (1, 2, 3), "Cy": (0, 0, 0)}
        assert [one["seconds"] for one in found["reviewers"]] == [None] * 3
        agreement = figures.agreement(session, "build")
        assert (agreement["items"], agreement["agreed"]) == (3, 2)
        assert agreement["kappa"] == pytest.approx(0.4)  # observed 2/3, by chance 4/9
    say(database, bo, 2, "accept")  # once he has seen what she said
    with database.read() as session:
        assert figures.agreement(session, "build") == agreement
        assert figures.progress(session, "build")["states"]["disputed"] == 0
        assert figures.agreement(session, "other") == {
            "items": 0, "agreed": 0, "share": None, "kappa": None, "pairs": [],
        }  # fmt: skip
