"""People review records over HTTP: leases, verdicts, undo, edits that run, export; on a real server and sandbox."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from studio_parts import Client, Served, draft, no_code, serving, write_build
from studio_postgres import fresh

from thyme.config.studio import StudioConfig
from thyme.data.export.reviews import read_reviews
from thyme.data.factory.folder import find_record, load
from thyme.types import Observation


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    url = fresh(request.getfixturevalue("postgres_server")) if request.param == "postgresql" else None
    drafts = [*(draft(index) for index in range(8)), no_code(8)]
    out = write_build(tmp_path_factory.mktemp("studio") / "build", drafts)
    with serving(out, StudioConfig(lease_s=600), url=url) as running:
        yield running


@pytest.fixture(scope="module")
def ana(served: Served) -> Client:
    return served.client("Ana", lead=True)


@pytest.fixture(scope="module")
def bo(served: Served) -> Client:
    return served.client("Bo")


def next_record(client: Client, **wanted: Any) -> dict[str, Any]:
    """Leased, and opened."""
    return dict(client.get(f"/api/items/{client.post('/api/next', **wanted)['item']['id']}"))


def refused(client: Client, path: str, **body: Any) -> tuple[int, str]:
    answer = client.send("POST", path, body)
    return answer.status_code, answer.json()["error"]["code"]


def test_a_record_as_a_page_shows_it(ana: Client) -> None:
    record = next_record(ana)
    assert record["question"] == "What does sign 0 say?"
    assert record["answer"] == "KX"
    assert 590 < record["lease"]["seconds"] <= 600
    assert [step["kind"] for step in record["steps"]] == ["text", "code", "observation", "text", "answer"]
    assert [block["kind"] for block in record["blocks"]] == ["text", "code", "text", "answer"]
    assert "<" not in record["blocks"][0]["text"]  # no tags
    assert record["blocks"][1]["text"].startswith("from PIL import Image")
    assert record["revision"] is None
    (picture,) = record["steps"][2]["images"]
    assert (picture["width"], picture["height"]) == (520, 320)
    answer = ana.http.get(picture["url"])
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    tile = ana.http.get(f"{picture['url']}/10/1_0")  # 520 pixels are the second column's first eight
    assert tile.headers["content-type"] == "image/webp"
    assert ana.http.get(f"{picture['url']}/10/2_0").status_code == 404
    assert ana.http.get(f"/api/items/{record['id']}/images/{'0' * 32}").status_code == 404
    assert ana.http.get(f"/api/items/{record['id'] + 1000}").status_code == 404


def test_two_people_never_hold_the_same_record(ana: Client, bo: Client) -> None:
    hers, his = next_record(ana), next_record(bo)
    assert hers["id"] != his["id"]
    for path in ("lease", "edit", "verdict"):
        body = {"blocks": his["blocks"]} if path == "edit" else {"verdict": "accept"} if path == "verdict" else {}
        assert refused(bo, f"/api/items/{hers['id']}/{path}", **body) == (409, "leased")
    assert bo.get(f"/api/items/{hers['id']}")["leased"] == "other"  # he may look at it
    ana.answer(ana.send("DELETE", f"/api/items/{hers['id']}/lease"))
    assert bo.post(f"/api/items/{hers['id']}/lease")["lease"]["seconds"] > 500
    assert ana.post("/api/next", state="open")["item"]["id"] not in {hers["id"], his["id"]}
    bo.answer(bo.send("DELETE", f"/api/items/{hers['id']}/lease"))


def test_skipping_gives_a_record_back(ana: Client) -> None:
    first = ana.post("/api/next")["item"]["id"]
    second = ana.post("/api/next", after=first, release=first)["item"]["id"]
    assert second > first
    assert [ana.get(f"/api/items/{id}")["lease"] is None for id in (first, second)] == [True, False]


def test_code_that_a_person_wrote_runs_and_is_stored(served: Served, ana: Client) -> None:
    """The picture is the one that the new code makes; the record as it was made stays, and others do not see it yet."""
    record = next_record(ana, search="sign 5")
    blocks = record["blocks"]
    blocks[1]["text"] = blocks[1]["text"].replace("* 4", "* 3")
    edited = ana.post(f"/api/items/{record['id']}/edit", blocks=blocks)
    assert edited["fault"] == ""
    assert [one["size"] for one in sizes(edited)] == [(390, 240)]
    assert ana.http.get(edited["steps"][2]["images"][0]["url"]).status_code == 200
    assert edited["blocks"] == blocks
    assert [one["size"] for one in sizes(ana.get(f"/api/items/{record['id']}", revision=0))] == [(520, 320)]
    other = served.client("Cy")
    assert [one["size"] for one in sizes(other.get(f"/api/items/{record['id']}"))] == [(520, 320)]
    query = {"revision": edited["revision"]}
    assert other.http.get(f"/api/items/{record['id']}", params=query).status_code == 404
    said = ana.post(f"/api/items/{record['id']}/verdict", verdict="accept", revision=edited["revision"], seconds=9)
    assert said["state"] == "accept"
    ana.post("/api/export", build="build")
    out = served.studio.builds.folder("build")
    (review,) = [one for one in read_reviews(out) if one.id == record["record"]]
    assert review.record is not None
    assert review.reviewers == ("Ana",)
    loaded = load(out, review.record)
    observed = [segment for segment in loaded.segments if isinstance(segment, Observation)]
    assert [image.image.size for image in observed[0].execution.images] == [(390, 240)]
    assert loaded.trajectory is not None
    assert loaded.trajectory.segments == loaded.segments
    assert "* 3" in loaded.trajectory.response
    unchanged = find_record(out, record["record"])
    assert unchanged is not None


def sizes(record: dict[str, Any]) -> list[dict[str, Any]]:
    pictures = [image for step in record["steps"] if step["kind"] == "observation" for image in step["images"]]
    return [{"size": (one["width"], one["height"])} for one in pictures]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({1: "raise ValueError('no')"}, "error_in_code: ValueError: no"),
        ({1: "pass"}, "no_output"),
        ({3: "something else"}, ""),
    ],
)
def test_what_cannot_be_accepted_says_why(ana: Client, change: dict[int, str], fault: str) -> None:
    record = next_record(ana, search="sign 6")
    blocks = record["blocks"]
    for place, text in change.items():
        blocks[place]["text"] = text
    edited = ana.post(f"/api/items/{record['id']}/edit", blocks=blocks)
    assert edited["fault"].startswith(fault)
    assert edited["fault"]
    body = {"verdict": "accept", "revision": edited["revision"]}
    assert refused(ana, f"/api/items/{record['id']}/verdict", **body) == (409, "fault")


@pytest.mark.parametrize(
    "blocks",
    [
        [{"kind": "text", "text": "no answer"}],
        [{"kind": "answer", "text": "KX"}, {"kind": "text", "text": "more"}],
        [{"kind": "text", "text": "<code>x</code>"}, {"kind": "answer", "text": "KX"}],
        [{"kind": "code", "text": "print('</code>')"}, {"kind": "answer", "text": "KX"}],
        [{"kind": "text", "text": "<sandbox_output>"}, {"kind": "answer", "text": "KX"}],
        [{"kind": "observation", "text": "x"}, {"kind": "answer", "text": "KX"}],
        [],
    ],
)
def test_what_is_no_record_does_not_run(ana: Client, blocks: list[dict[str, str]]) -> None:
    record = next_record(ana, search="sign 6")
    assert refused(ana, f"/api/items/{record['id']}/edit", blocks=blocks)[0] == 400


def test_what_was_not_changed_is_no_revision(ana: Client) -> None:
    """So that two who accept the same are not said to differ."""
    record = next_record(ana, search="sign 7")
    edited = ana.post(f"/api/items/{record['id']}/edit", blocks=record["blocks"])
    assert (edited["revision"], edited["revisions"], edited["fault"]) == (None, [], "")


def test_verdicts_undo_filters_and_export(served: Served, ana: Client, bo: Client) -> None:
    first = next_record(bo, scenario="no_code")
    assert refused(bo, f"/api/items/{first['id']}/verdict", verdict="reject") == (400, "reason")
    assert refused(bo, f"/api/items/{first['id']}/verdict", verdict="reject", reason="other") == (400, "note")
    said = bo.post(f"/api/items/{first['id']}/verdict", verdict="reject", reason="bad_picture", note="dark")
    assert said["state"] == "reject"
    assert bo.get("/api/items", mine="reviewed")["items"][0]["mine"] == "reject"
    assert bo.post("/api/undo")["item"]["state"] == "open"
    assert bo.get("/api/items", mine="reviewed")["total"] == 0
    assert bo.get("/api/items", mine="leased", scenario="no_code")["total"] == 1
    assert bo.post("/api/undo")["item"] is None
    bo.post(f"/api/items/{first['id']}/verdict", verdict="reject", reason="bad_picture", note="dark")
    assert bo.post("/api/next", scenario="no_code")["item"] is None
    assert bo.get("/api/items", search="SIGN 3")["total"] == 1
    assert bo.get("/api/items", search="100%")["total"] == 0  # a percent sign is no wildcard
    assert bo.get("/api/items", size=2)["pages"] == 5
    assert bo.http.get("/api/items", params={"nothing": 1}).status_code == 400
    assert {one["value"] for one in bo.get("/api/choices")["scenarios"]} == {"crop", "no_code"}
    assert refused(bo, "/api/export", build="build") == (403, "lead")
    assert ana.post("/api/export", build="build")["rejected"] == 1
    lines = [json.loads(line) for line in ana.http.get("/api/export", params={"build": "build"}).text.splitlines()]
    (rejected,) = [line for line in lines if line["verdict"] == "reject"]
    assert (rejected["reason"], rejected["reviewers"]) == ("bad_picture: dark", ["Bo"])
    assert refused(ana, "/api/export", build="other") == (503, "store")
    done = {one["name"]: one for one in bo.get("/api/progress")["reviewers"]}
    assert (done["Bo"]["rejected"], done["Bo"]["undone"], done["Ana"]["edited"]) == (1, 1, 1)


def test_what_no_database_holds_is_no_record(ana: Client) -> None:
    huge = 1 << 64
    for path in (f"items/{huge}", f"items/{huge}/images/x", f"items/1?revision={huge}", "items/-1"):
        assert ana.http.get(f"/api/{path}").status_code == 400
    assert refused(ana, "/api/next", after=huge)[0] == 400
    assert ana.http.get("/api/items/1/images/x/99999999999/0_0").status_code == 404
    assert ana.get("/api/items", search="\0")["total"] == 9
    assert ana.get("/api/items", kind="\0")["total"] == 9
    assert ana.get("/api/progress", build="no such")["states"]["open"] == 0
    assert refused(ana, "/api/items/1/verdict", verdict="accept", seconds=-1)[0] == 400
    answer = ana.http.post("/api/next", content=b'{"search": "\\ud800"}', headers={"x-csrf-token": ana.person["csrf"]})
    assert answer.status_code == 400
