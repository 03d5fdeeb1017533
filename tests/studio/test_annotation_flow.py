"""The road of a question through the routes, and what each person may see and do on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from annotation_parts import BOX, FIELDS, answered, expert, judged, serving, write_collection, written
from studio_parts import Client, Served

from thyme.config.annotation import AnnotationSettings
from thyme.studio.annotation import queues

A = "/api/annotation"
REJECT = {"verdict": "reject", "reason": "guessable"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_collection(tmp_path_factory.mktemp("collections") / "photos", 2)


@pytest.fixture
def served(folder: Path, tmp_path: Path) -> Iterator[Served]:
    with serving(folder, url=f"sqlite:///{tmp_path / 'studio.db'}") as found:
        yield found


def refused(person: Client, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
    """Status and error of a request that is not answered."""
    response = person.send(method, f"{A}{path}", body)
    assert response.status_code >= 400, response.text
    return response.status_code, response.json()["error"]


def put(person: Client, id: int, version: int, **changed: Any) -> Any:
    return person.answer(person.send("PUT", f"{A}/questions/{id}", {**FIELDS, **changed, "version": version}))


def waiting(person: Client) -> dict[str, int]:
    found = person.get(A)["queues"]
    return {queue: count for queue, count in found.items() if count}


def test_from_the_image_to_acceptance(served: Served) -> None:
    """A question is written, answered by somebody who does not see the answer, and accepted by two experts."""
    ana, bo = served.client("Ana"), served.client("Bo")
    first, second = expert(served, "Eve"), expert(served, "Flo")
    assert waiting(ana) == {"annotate": 2}
    shot = ana.post(f"{A}/next", queue="annotate")["work"]
    assert (shot["kind"], shot["width"], shot["height"], shot["licence"]) == ("image", 2400, 1800, "CC-BY-4.0")
    assert shot["first_view"] == [1148, 840]
    assert shot["lease"]["seconds"] > 800
    assert waiting(bo) == {"annotate": 1}
    made = ana.post(f"{A}/images/{shot['id']}/questions", question="What")
    assert {fault["field"] for fault in made["faults"]} == {"answer", "category", "box", "hidden_when_small"}
    status, error = refused(ana, "POST", f"/questions/{made['id']}/submit", {"version": 1})
    assert (status, error["code"], error["field"]) == (409, "rule", "answer")
    saved = put(ana, made["id"], 1)
    assert (saved["version"], saved["faults"], saved["share"]) == (2, [], 60 * 30 / (2400 * 1800))
    handed = ana.post(f"{A}/questions/{made['id']}/submit", version=2, seconds=40)
    assert handed["state"] == "submitted"
    assert ana.post(f"{A}/questions/{made['id']}/submit", version=2, seconds=40) == handed  # sent twice
    assert ana.post(f"{A}/images/{shot['id']}/done")["state"] == "done"

    asked = bo.post(f"{A}/next", queue="second")["work"]
    assert (asked["role"], asked["question"]) == ("second", FIELDS["question"])
    assert (asked["answer"], asked["box"], asked["category"], asked["author"]) == ("", None, "", "")
    assert str(list(BOX)) not in str(asked)
    assert answered(bo, asked["id"], "kx7.") == {"agrees": True, "state": "checked"}

    for person, state in ((first, "checked"), (second, "accepted")):
        work = person.post(f"{A}/next", queue="expert")["work"]
        assert (work["role"], work["answer"], work["box"]) == ("expert", "KX7", list(BOX))
        assert [check["role"] for check in work["checks"]] == ["second"]  # not what the other expert said
        assert judged(person, work["id"]) == state
    assert [waiting(person) for person in (ana, bo, first, second)] == [{"annotate": 1}, {"annotate": 1}, {}, {}]


def test_a_dispute_goes_to_somebody_who_leads_and_back_to_the_author(served: Served) -> None:
    ana, bo, lea = served.client("Ana"), served.client("Bo"), served.client("Lea", lead=True)
    id = written(ana)["id"]
    assert answered(bo, id, "KX1") == {"agrees": False, "state": "disputed"}
    work = lea.post(f"{A}/next", queue="adjudicate")["work"]
    assert work["role"] == "adjudicator"
    assert (work["answer"], [check["answer"] for check in work["checks"]]) == ("KX7", ["KX1"])
    assert refused(lea, "POST", f"/questions/{id}/verdict", {"verdict": "return"})[1]["code"] == "reason"
    assert judged(lea, id, "return", reason="ambiguous", note="which sign?") == "draft"
    assert waiting(ana)["returned"] == 1
    mine = ana.post(f"{A}/next", queue="returned")["work"]
    assert mine["role"] == "author"
    assert mine["returned"].endswith("which sign?")
    put(ana, id, mine["version"], question="What does the white sign say?")
    ana.post(f"{A}/questions/{id}/submit", version=2)
    assert answered(bo, id, "KX1")["agrees"] is False
    assert judged(lea, id, "accept", answer="KX1") == "checked"
    assert ana.get(f"{A}/questions/{id}")["answer"] == "KX1"
    assert lea.post(f"{A}/undo")["work"]["state"] == "disputed"
    assert ana.get(f"{A}/questions/{id}")["answer"] == "KX7"
    assert judged(lea, id, "reject", reason="ambiguous") == "rejected"


def test_who_looked_at_a_dispute_is_not_asked_for_its_answer_later(served: Served) -> None:
    """By its page, by what is handed out, or by the list: no second person knows the answer."""
    ana, bo, cy = (served.client(name) for name in ("Ana", "Bo", "Cy"))
    lea, mia, ned, oz = (served.client(name, lead=True) for name in ("Lea", "Mia", "Ned", "Oz"))
    id = written(ana)["id"]
    answered(bo, id, "KX1")
    assert mia.get(f"{A}/questions/{id}")["answer"] == "KX7"
    assert ned.get(f"{A}/questions", state="disputed")["questions"][0]["answer"] == "KX7"
    assert oz.post(f"{A}/next", queue="adjudicate")["work"]["id"] == id
    oz.send("DELETE", f"{A}/questions/{id}/lease")
    judged(lea, id, "return", reason="ambiguous")
    mine = ana.post(f"{A}/next", queue="returned")["work"]
    ana.post(f"{A}/questions/{id}/submit", version=mine["version"])
    for lead in (lea, mia, ned, oz):
        assert lead.post(f"{A}/next", queue="second")["work"] is None
        assert waiting(lead).get("second") is None
        said = {"answer": "KX7", "category": "ocr"}
        assert refused(lead, "POST", f"/questions/{id}/answer", said)[1]["code"] == "turn"
    assert cy.post(f"{A}/next", queue="second")["work"]["id"] == id
    assert answered(cy, id, "KX2")["state"] == "disputed"
    assert judged(mia, id) == "checked", "who looked may still decide"


def test_who_judges_differently_makes_a_dispute(served: Served) -> None:
    ana, bo, lea = served.client("Ana"), served.client("Bo"), served.client("Lea", lead=True)
    eve, flo = expert(served, "Eve"), expert(served, "Flo")
    id = written(ana)["id"]
    answered(bo, id)
    assert judged(eve, id) == "checked"
    assert judged(flo, id, "reject", reason="guessable") == "disputed"
    assert judged(lea, id) == "accepted"


def test_nobody_judges_a_question_twice_or_their_own(served: Served) -> None:
    lea, ana = served.client("Lea", lead=True), served.client("Ana")
    id = written(lea)["id"]
    assert refused(lea, "POST", f"/questions/{id}/answer", {"answer": "KX7", "category": "ocr"})[1]["code"] == "turn"
    assert lea.post(f"{A}/next", queue="second")["work"] is None
    ana.post(f"{A}/next", queue="second")
    answered(ana, id)
    assert refused(ana, "POST", f"/questions/{id}/answer", {"answer": "KX8", "category": "ocr"})[1]["code"] == "turn"
    assert refused(ana, "POST", f"/questions/{id}/verdict", {"verdict": "accept"})[1]["code"] == "turn"
    assert refused(ana, "POST", "/next", {"queue": "expert"})[0] == 403
    bo = served.client("Bo", lead=True)
    assert judged(bo, id) == "checked"
    assert refused(bo, "POST", f"/questions/{id}/verdict", REJECT)[1]["code"] == "turn"
    assert refused(lea, "POST", f"/questions/{id}/verdict", {"verdict": "accept"})[1]["code"] == "turn"


def test_what_is_sent_twice_is_kept_once(served: Served) -> None:
    """The reply to an answer or verdict may be lost: sent again it is answered as before, in whatever state it is."""
    ana, bo, lea, mia = (served.client(name, lead=name > "L") for name in ("Ana", "Bo", "Lea", "Mia"))
    id = written(ana)["id"]
    assert answered(bo, id, "KX1") == answered(bo, id, "KX1") == {"agrees": False, "state": "disputed"}
    assert judged(lea, id) == judged(lea, id) == "checked"
    assert answered(bo, id, "KX1")["agrees"] is False
    eve = expert(served, "Eve")
    assert [judged(eve, id, **REJECT), judged(eve, id, **REJECT), judged(mia, id)] == ["checked", "checked", "disputed"]
    assert judged(lea, id) == "accepted", "not taken for what she said before"
    assert len(lea.get(f"{A}/questions/{id}")["checks"]) == 5
    other = {"verdict": "accept", "answer": "KX9"}
    assert refused(lea, "POST", f"/questions/{id}/verdict", other)[1]["code"] == "turn"


def test_what_nobody_said_is_not_taken_for_sent(served: Served) -> None:
    """Who comes too late is told so, and not that the answer is kept."""
    ana, bo, cy = (served.client(name) for name in ("Ana", "Bo", "Cy"))
    id = written(ana)["id"]
    answered(bo, id)
    assert refused(cy, "POST", f"/questions/{id}/answer", {"answer": "KX7", "category": "ocr"})[1]["code"] == "turn"


def test_an_image_that_another_left_with_a_draft_can_be_done(served: Served) -> None:
    """It cannot be put aside, as somebody is asking about it; but whoever has it now gets on."""
    ana, bo = served.client("Ana"), served.client("Bo")
    shot = ana.post(f"{A}/next", queue="annotate")["work"]["id"]
    assert refused(ana, "POST", f"/images/{shot}/done", {})[1]["code"] == "questions"
    made = ana.post(f"{A}/images/{shot}/questions", question="Half a qu")
    ana.send("DELETE", f"{A}/images/{shot}/lease")
    bo.post(f"{A}/images/{shot}/lease")
    assert refused(bo, "POST", f"/images/{shot}/done", {"unsuitable": "blurred"})[1]["code"] == "questions"
    assert bo.post(f"{A}/images/{shot}/done")["state"] == "done"
    put(ana, made["id"], 1)
    assert ana.post(f"{A}/questions/{made['id']}/submit", version=2)["state"] == "submitted"


def test_drafts_of_who_was_let_go_are_finished_by_who_leads(served: Served) -> None:
    ana, bo, lea = served.client("Ana"), served.client("Bo"), served.client("Lea", lead=True)
    shot = ana.post(f"{A}/next", queue="annotate")["work"]["id"]
    id = ana.post(f"{A}/images/{shot}/questions", **FIELDS)["id"]
    assert refused(bo, "POST", f"/questions/{id}/take")[0] == 403
    status, error = refused(lea, "POST", f"/questions/{id}/take")
    assert (status, error["code"]) == (409, "author")
    assert "Ana may still finish this" in error["message"]
    lea.post(f"/api/reviewers/{ana.person['id']}", active=False)
    taken = lea.post(f"{A}/questions/{id}/take")
    assert (taken["author"], taken["answer"]) == ("Lea", "KX7")
    assert lea.post(f"{A}/questions/{id}/submit", version=1)["state"] == "submitted"
    assert refused(lea, "POST", f"/questions/{id}/take")[1]["code"] == "state"
    assert lea.post(f"{A}/next", queue="second")["work"] is None, "it is hers now"
    assert bo.post(f"{A}/next", queue="second")["work"]["id"] == id


def test_what_may_still_be_asked_is_shown_to_nobody(served: Served) -> None:
    """Who leads sees no answer either while they might be asked for it; nobody else sees others' questions at all."""
    ana, bo, lea = served.client("Ana"), served.client("Bo"), served.client("Lea", lead=True)
    id = written(ana)["id"]
    (line,) = lea.get(f"{A}/questions")["questions"]
    assert (line["answer"], line["box"], line["category"]) == ("", None, "")
    assert lea.get(f"{A}/questions/{id}")["answer"] == ""
    assert bo.get(f"{A}/questions")["total"] == 0
    assert ana.get(f"{A}/questions")["questions"][0]["answer"] == "KX7"
    answered(bo, id)
    assert bo.get(f"{A}/questions/{id}")["answer"] == ""
    cy = served.client("Cy")
    assert refused(cy, "GET", f"/questions/{id}")[0] == 403
    assert lea.get(f"{A}/questions", state="checked", search="SMALL sign")["questions"][0]["answer"] == "KX7"
    assert lea.get(f"{A}/questions", author="Bo")["total"] == 0
    assert lea.get(f"{A}/questions", collection="photos", category="ocr")["total"] == 1


def test_drafts_are_kept_and_an_older_tab_is_told(served: Served) -> None:
    ana, bo = served.client("Ana"), served.client("Bo")
    shot = ana.post(f"{A}/next", queue="annotate")["work"]["id"]
    made = ana.post(f"{A}/images/{shot}/questions", question="W", key="k1")
    assert ana.post(f"{A}/images/{shot}/questions", question="W", key="k1")["id"] == made["id"]
    assert put(ana, made["id"], 1)["version"] == 2
    assert put(ana, made["id"], 1)["version"] == 2  # the same, sent again: its answer was lost on the way
    status, error = refused(ana, "PUT", f"/questions/{made['id']}", {**FIELDS, "question": "old", "version": 1})
    assert (status, error["code"], error["question"]["question"]) == (409, "version", FIELDS["question"])
    assert refused(bo, "PUT", f"/questions/{made['id']}", {**FIELDS, "version": 2})[0] == 404
    assert refused(bo, "DELETE", f"/questions/{made['id']}")[0] == 404
    assert refused(bo, "POST", f"/images/{shot}/questions", FIELDS)[1]["code"] == "leased"
    assert refused(bo, "GET", f"/images/{shot}")[1]["code"] == "leased"
    assert ana.get(f"{A}/images/{shot}")["questions"][0]["question"] == FIELDS["question"]
    assert refused(ana, "POST", f"/images/{shot}/done", {})[1]["code"] == "drafts"
    ana.answer(ana.send("DELETE", f"{A}/questions/{made['id']}"))
    assert refused(ana, "POST", f"/images/{shot}/done", {"unsuitable": "ugly"})[1]["code"] == "reason"
    assert ana.post(f"{A}/images/{shot}/done", unsuitable="blurred")["state"] == "unsuitable"


def test_as_many_questions_about_an_image_as_are_wanted(served: Served) -> None:
    ana = served.client("Ana")
    shot = ana.post(f"{A}/next", queue="annotate")["work"]["id"]
    for _ in range(3):
        ana.post(f"{A}/images/{shot}/questions", **FIELDS)
    status, error = refused(ana, "POST", f"/images/{shot}/questions", FIELDS)
    assert (status, error["code"], error["field"]) == (409, "rule", "image")
    assert ana.post(f"{A}/next", queue="annotate")["work"]["id"] != shot


def test_who_skips_gets_another_one(served: Served) -> None:
    ana, bo = served.client("Ana"), served.client("Bo")
    first = ana.post(f"{A}/next", queue="annotate")["work"]["id"]
    assert ana.post(f"{A}/next", queue="annotate")["work"]["id"] == first
    second = ana.post(f"{A}/next", queue="annotate", release={"kind": "image", "id": first})["work"]["id"]
    assert second != first
    assert bo.post(f"{A}/next", queue="annotate")["work"]["id"] == first
    ids = {written(ana)["id"] for _ in range(2)}
    one = bo.post(f"{A}/next", queue="second")["work"]["id"]
    other = bo.post(f"{A}/next", queue="second", release={"kind": "question", "id": one})["work"]["id"]
    assert {one, other} == ids
    assert bo.post(f"{A}/next", queue="second", collection="elsewhere")["work"] is None


def test_what_others_built_on_is_not_taken_back(served: Served) -> None:
    ana, bo, eve = served.client("Ana"), served.client("Bo"), expert(served, "Eve")
    assert bo.post(f"{A}/undo")["work"] is None
    id = written(ana)["id"]
    answered(bo, id, "KX1")
    again = bo.post(f"{A}/undo")["work"]
    assert (again["id"], again["role"], again["checks"]) == (id, "second", [])
    assert answered(bo, id)["state"] == "checked"
    assert judged(eve, id) == "checked"
    assert refused(bo, "POST", "/undo")[1]["code"] == "built"
    assert eve.post(f"{A}/undo")["work"]["role"] == "expert"
    # The figures count what was said first: Bo knew better the second time.
    assert bo.get(f"{A}/progress")["agreement"]["answers"] == 0


def test_a_returned_question_that_its_author_dropped_stays_so(served: Served) -> None:
    ana, bo, lea = served.client("Ana"), served.client("Bo"), served.client("Lea", lead=True)
    id = written(ana)["id"]
    answered(bo, id, "KX1")
    judged(lea, id, "return", reason="ambiguous")
    ana.answer(ana.send("DELETE", f"{A}/questions/{id}"))
    assert ana.get(f"{A}/questions/{id}")["state"] == "rejected"  # others have spoken about it
    assert refused(lea, "POST", "/undo")[1]["code"] == "built"


def test_gold_measures_and_does_not_tell(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A question of known answer looks like any other, changes nothing, and counts for its person only."""
    ana, bo, lea = served.client("Ana"), served.client("Bo"), served.client("Lea", lead=True)
    eve, flo = expert(served, "Eve"), expert(served, "Flo")
    gold = written(ana)["id"]
    assert refused(lea, "POST", f"/questions/{gold}/gold", {"gold": True})[1]["code"] == "state"
    answered(bo, gold)
    for person in (eve, flo):
        judged(person, gold)
    assert refused(ana, "POST", f"/questions/{gold}/gold", {"gold": True})[0] == 403
    assert lea.post(f"{A}/questions/{gold}/gold", gold=True)["gold"] is True
    ordinary = written(ana, question="And this one?")["id"]
    monkeypatch.setattr(queues, "_draw", lambda: -1.0)
    cy = served.client("Cy")
    skipped = cy.post(f"{A}/next", queue="second", release={"kind": "question", "id": gold})["work"]["id"]
    assert skipped == ordinary, "what was skipped does not come again at once"
    cy.send("DELETE", f"{A}/questions/{ordinary}/lease")
    first = cy.post(f"{A}/next", queue="second")["work"]
    told = answered(cy, first["id"], "KX0")
    monkeypatch.setattr(queues, "_draw", lambda: 1.0)
    second = cy.post(f"{A}/next", queue="second")["work"]
    assert (first["id"], second["id"]) == (gold, ordinary)
    alike = ("kind", "role", "state", "answer", "box", "gold", "checks", "author", "returned")
    assert {name: first[name] for name in alike} == {name: second[name] for name in alike}
    assert first.keys() == second.keys()
    assert told == answered(cy, second["id"], "KX0") == {"agrees": False, "state": "disputed"}
    seen = cy.get(f"{A}/questions/{gold}"), cy.get(f"{A}/questions/{ordinary}")
    assert [(one["role"], one["state"], one["answer"]) for one in seen] == [("second", "disputed", "")] * 2
    assert lea.get(f"{A}/questions/{gold}")["state"] == "accepted"
    di = served.client("Di")
    assert di.post(f"{A}/next", queue="second")["work"] is None, "nothing waits that it could hide among"
    people = {one["name"]: one for one in lea.get(f"{A}/progress")["people"]}
    assert people["Cy"]["gold"] == {"right": 0, "of": 1}
    assert (people["Cy"]["answered"], people["Ana"]["written"], people["Eve"]["verdicts"]) == (2, 2, 1)
    assert {one["gold"] for one in cy.get(f"{A}/progress")["people"]} == {None}
    assert lea.post(f"{A}/next", queue="second")["work"] is None  # who leads has seen the answer
    assert lea.get(f"{A}/progress")["agreement"]["answers"] == 0.5


def test_what_makes_no_sense_is_refused(served: Served) -> None:
    ana = served.client("Ana")
    for path, body in (
        ("/next", {"queue": "everything"}),
        ("/images/1/questions", {"box": [1, 2, 3]}),
        ("/images/1/questions", {"category": "colour"}),
        ("/images/1/questions", {"box": [0, 0, 1 << 70, 1]}),
        ("/questions/1/answer", {"seconds": -1}),
        ("/questions/1/verdict", {"verdict": "perhaps"}),
        ("/distractors", {}),
    ):
        assert refused(ana, "POST", path, body)[0] == 400, body


def test_what_is_not_there(served: Served) -> None:
    ana = served.client("Ana")
    for path in (
        "/images/99",
        "/questions/99",
        "/images/99/picture",
        "/images/1/tiles/99/0_0",
        "/images/1/tiles/12/5_0",
    ):
        assert refused(ana, "GET", path)[0] == 404
    assert refused(ana, "POST", "/questions/99/lease")[0] == 404
    assert served.client("Bo").http.get(f"{A}/images/{1 << 70}").status_code == 400
    stranger = Client(served.url)
    with stranger.http:
        for path in ("", "/questions", "/progress", "/images/1", "/images/1/picture"):
            assert refused(stranger, "GET", path)[0] == 401


def test_text_that_databases_choke_on_is_kept(served: Served) -> None:
    ana = served.client("Ana")
    shot = ana.post(f"{A}/next", queue="annotate")["work"]["id"]
    words = "<script>\0'; DROP TABLE questions; --\N{SNOWMAN}"
    made = ana.post(f"{A}/images/{shot}/questions", question=words, choices=[words], answer_type="choice")
    assert made["question"] == words.replace("\0", "") == made["choices"][0]
    headers = {"x-csrf-token": ana.person["csrf"], "content-type": "application/json"}
    body = b'{"question": "half \\ud83d"}'  # as a page may cut a text in the middle of a character
    assert (
        ana.answer(ana.http.post(f"{A}/images/{shot}/questions", content=body, headers=headers))["question"] == "half ?"
    )


def test_roles_are_given_out_by_who_leads(served: Served) -> None:
    lea, ana = served.client("Lea", lead=True), served.client("Ana")
    assert (ana.get(A)["roles"], lea.get(A)["roles"]) == (
        ["annotate", "second"], ["annotate", "second", "expert", "adjudicate"],
    )  # fmt: skip
    lea.post(f"/api/reviewers/{ana.person['id']}", roles=["expert"])
    assert ana.get(A)["roles"] == ["expert"]
    assert refused(ana, "POST", "/next", {"queue": "annotate"})[0] == 403
    assert refused(ana, "POST", "/images/1/questions", FIELDS)[0] == 403
    assert lea.send("POST", f"/api/reviewers/{ana.person['id']}", {"roles": ["boss"]}).status_code == 400
    token = lea.post("/api/invites", name="Bo", roles=["second"])["link"].partition("#")[2]
    bo = Client(served.url)
    with bo.http:
        bo.person = bo.post("/api/join", token=token)["person"]
        assert bo.person["roles"] == ["second"]


def test_wrong_options_come_from_other_questions_too(served: Served) -> None:
    """Of one's own, and of those that nobody answers any more: a second person could ask for the answer otherwise."""
    ana, bo, cy = (served.client(name) for name in ("Ana", "Bo", "Cy"))
    lea = served.client("Lea", lead=True)
    id = written(ana, answer="Mill Lane")["id"]
    asked = {"answer": "Harbour Street", "category": "ocr", "question": "Which street?"}
    assert ana.post(f"{A}/distractors", **asked) == {"choices": ["Mill Lane"]}
    assert bo.post(f"{A}/distractors", **asked) == {"choices": []}
    answered(bo, id, "Mill Lane")
    assert cy.post(f"{A}/distractors", **asked) == {"choices": ["Mill Lane"]}
    for name in ("Eve", "Flo"):
        judged(expert(served, name), id)
    lea.post(f"{A}/questions/{id}/gold", gold=True)
    assert cy.post(f"{A}/distractors", **asked) == {"choices": []}


def test_what_was_said_is_there_after_a_restart(folder: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'studio.db'}"
    with serving(folder, url=url) as served:
        ana = served.client("Ana")
        shot = ana.post(f"{A}/next", queue="annotate")["work"]["id"]
        ana.post(f"{A}/images/{shot}/questions", question="Half a ques")
    fewer = AnnotationSettings(second=0, experts=0)
    with serving(folder, fewer, url=url) as served:
        again = served.client("Ana")
        work = again.post(f"{A}/next", queue="annotate")["work"]
        assert (work["id"], work["questions"][0]["question"]) == (shot, "Half a ques")
        id = work["questions"][0]["id"]
        put(again, id, 1)
        assert again.post(f"{A}/questions/{id}/submit", version=2)["state"] == "accepted"
