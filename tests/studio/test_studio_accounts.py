"""Who may come in, and from where: links, cookies, forged requests, proxies, leads."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from sqlalchemy import event, update
from studio_parts import Client, Served, http_client, no_code, serving, write_build

from thyme.config.studio import StudioConfig
from thyme.studio import accounts
from thyme.studio.accounts import Accounts, clean_name
from thyme.studio.database import Database
from thyme.studio.models import Invite
from thyme.studio.refusal import Refusal


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    out = write_build(tmp_path_factory.mktemp("accounts") / "build", [no_code(0)])
    with serving(out, StudioConfig(max_body_kb=16)) as running:
        yield running


def token_of(link: str) -> str:
    return link.partition("#")[2]


def join(served: Served, token: str, name: str = "") -> httpx.Response:
    body = {"token": token, "name": name}
    with http_client(served.url, {"origin": served.url}) as http:
        return http.post("/api/join", json=body)


def test_a_link_lets_in_once_and_its_cookie_is_out_of_reach(served: Served) -> None:
    token = token_of(served.link("Once"))
    answer = join(served, token)
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Secure" not in cookie  # it was reached without https
    assert join(served, token).status_code == 403
    assert join(served, "x" * 43).status_code == 403
    with http_client(served.url) as client:
        client.cookies.update(answer.cookies)
        assert client.get("/api/me").json()["person"]["name"] == "Once"


def test_the_database_holds_no_token(served: Served) -> None:
    pending = token_of(served.link("Later"))
    client = served.client("Held")
    (cookie,) = client.http.cookies.values()
    database = served.studio.database.url.database
    assert database is not None
    with sqlite3.connect(database) as connection:
        held = "\n".join(connection.iterdump())
    connection.close()
    assert pending not in held
    assert cookie not in held


def test_a_link_runs_out(served: Served) -> None:
    token = token_of(served.link("Late"))
    with served.studio.database.write() as session:
        session.execute(update(Invite).where(Invite.name == "Late").values(expires=time.time() - 1))
    assert join(served, token).status_code == 403


def test_nobody_takes_the_name_of_another(served: Served) -> None:
    served.client("Taken")
    token = token_of(served.link())
    assert join(served, token, "Taken").status_code == 409
    assert join(served, token, "  ").status_code == 400
    assert join(served, token, "  New   Name ").json()["person"]["name"] == "New Name"


def test_two_who_come_in_by_one_name_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes second did not find the name when they asked: now they do, and a link that names them lets them in."""
    database = Database(f"sqlite:///{tmp_path / 'studio.db'}")
    made, known = Accounts(database, StudioConfig()), accounts._named
    first, _ = made.join(made.invite(""), "Pia")
    open_link, own_link = made.invite(""), made.invite("Pia")
    unknown = iter([True, False, True])
    monkeypatch.setattr(accounts, "_named", lambda *asked: None if next(unknown, False) else known(*asked))
    with pytest.raises(Refusal, match="take another name"):
        made.join(open_link, "Pia")
    assert made.join(own_link, "")[0].id == first.id
    database.close()


def test_a_second_link_lets_the_same_person_in_from_elsewhere(served: Served) -> None:
    first, second = served.client("Twice"), served.client("Twice")
    assert first.person["id"] == second.person["id"]
    assert first.person["csrf"] != second.person["csrf"]
    second.post("/api/leave")
    assert second.http.get("/api/me").status_code == 401
    assert first.http.get("/api/me").status_code == 200


def test_changes_need_the_page(served: Served) -> None:
    """Another site's form brings the cookie, and neither the origin nor the token."""
    client, other = served.client("Page"), served.client("Other")
    token = {"x-csrf-token": client.person["csrf"]}
    send = client.http.post
    assert send("/api/undo", headers=token).status_code == 200
    assert send("/api/undo").status_code == 403
    assert send("/api/undo", headers={"x-csrf-token": other.person["csrf"]}).status_code == 403
    assert send("/api/undo", headers={**token, "origin": "https://elsewhere.example"}).status_code == 403
    assert send("/api/undo", headers={**token, "sec-fetch-site": "cross-site"}).status_code == 403
    assert send("/api/undo", headers={**token, "sec-fetch-site": "same-origin"}).status_code == 200
    assert join(served, token_of(served.link("X"))).status_code == 200
    body = {"token": token_of(served.link("Y"))}
    with http_client(served.url) as http:
        assert http.post("/api/join", json=body).status_code == 403  # it does not say where from


def test_nobody_else_gets_anything(served: Served) -> None:
    paths = ("me", "items", "items/1", "items/1/images/x", "progress", "export?build=x")
    with http_client(served.url) as http:
        for path in paths:
            assert http.get(f"/api/{path}").status_code == 401
        assert http.get("/api/items", headers={"host": "elsewhere.example"}).status_code == 403


def test_large_requests_are_not_read(served: Served) -> None:
    client = served.client("Large")
    headers = {"x-csrf-token": client.person["csrf"], "content-type": "application/json"}
    assert client.http.post("/api/next", content=b" " * 20_000, headers=headers).status_code == 413
    pieces = iter([b" " * 10_000] * 3)  # no length is told
    assert client.http.post("/api/next", content=pieces, headers=headers).status_code == 413


def test_a_database_that_is_locked_is_said_to_be(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    client = served.client("Locked")
    engine = served.studio.database.engine

    def locked(connection: object, cursor: object, statement: str, *_: object) -> None:
        if "leases" in statement:
            raise sqlite3.OperationalError("database is locked")

    event.listen(engine, "before_cursor_execute", locked)
    try:
        answer = client.send("POST", "/api/next", {})
    finally:
        event.remove(engine, "before_cursor_execute", locked)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "store"


def test_two_studios_of_one_machine_keep_a_browser_in(tmp_path: Path) -> None:
    """Browsers send a cookie to every port of a host: under one name, coming in there would mean going out here."""
    names = []
    for database in ("a.db", "a.db", "b.db"):
        opened = Database(f"sqlite:///{tmp_path / database}")
        names.append(Accounts(opened, StudioConfig()).cookie)
        opened.close()
    assert names[0] == names[1], "it outlives a restart"
    assert names[0] != names[2]


def test_who_is_in_already_is_told_so_where_a_link_leads(served: Served) -> None:
    """Whoever opens the link of their invitation a second time: it is used up, and they need none."""
    client = served.client("Back")
    assert "let in already, as Back" in client.http.get("/join").text
    client.post("/api/leave")
    assert "let in already" not in client.http.get("/join").text


def test_leads_invite_and_close_out(served: Served) -> None:
    lead, plain = served.client("Lead", lead=True), served.client("Plain")
    for path in ("/api/invites", "/api/reviewers"):
        assert plain.http.get(path).status_code == 403
    link = lead.post("/api/invites", name="Guest")["link"]
    (invite,) = [one for one in lead.get("/api/invites")["invites"] if one["name"] == "Guest"]
    lead.answer(lead.send("DELETE", f"/api/invites/{invite['id']}"))
    assert join(served, token_of(link)).status_code == 403
    lead.post(f"/api/reviewers/{plain.person['id']}", active=False)
    assert plain.http.get("/api/me").status_code == 401
    with pytest.raises(Refusal, match="does not review here any more"):
        served.studio.accounts.invite("Plain")
    assert lead.send("POST", f"/api/reviewers/{lead.person['id']}", {"lead": False}).status_code == 409


@pytest.mark.parametrize("name", ["", " \t", "a\x00b", "a\u202eb", "x" * 101])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(Refusal):
        clean_name(name)


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_build(tmp_path_factory.mktemp("proxied") / "build", [no_code(0)])


def test_a_proxy_names_the_person(build: Path) -> None:
    config = StudioConfig(proxy_header="X-Forwarded-User", leads=("Ana",), public_url="https://review.example.org")
    with serving(build, config) as served, http_client(served.url) as http:
        assert http.get("/api/me").status_code == 401
        ana = http.get("/api/me", headers={"x-forwarded-user": "Ana", "host": "review.example.org"}).json()["person"]
        assert (ana["name"], ana["lead"], ana["via"]) == ("Ana", True, "proxy")
        with ThreadPoolExecutor(4) as pool:  # a page and its pictures, before anybody knows who that is
            seen = pool.map(lambda _: http.get("/api/me", headers={"x-forwarded-user": "Bo"}), range(8))
            assert {answer.status_code for answer in seen} == {200}
        assert not http.get("/api/me", headers={"x-forwarded-user": "Bo"}).json()["person"]["lead"]
        twice = [("x-forwarded-user", "Bo"), ("x-forwarded-user", "Ana")]  # one of them came from the browser
        assert http.get("/api/me", headers=twice).status_code == 401
        headers = {"x-forwarded-user": "Ana", "origin": "https://review.example.org", "host": "127.0.0.1"}
        assert http.post("/api/undo", headers=headers).status_code == 403
        assert http.post("/api/undo", headers={**headers, "x-csrf-token": ana["csrf"]}).status_code == 200
        joined = http.post("/api/join", json={"token": "x" * 43}, headers=headers)
        assert joined.status_code == 403


def test_a_proxy_is_believed_only_where_it_is(build: Path) -> None:
    config = StudioConfig(proxy_header="X-Forwarded-User", proxy_peers=("192.0.2.7",))
    headers = {"x-forwarded-user": "Ana", "x-forwarded-for": "192.0.2.7"}
    with serving(build, config) as served, http_client(served.url, headers) as http:
        assert http.get("/api/me").status_code == 401


def test_a_cookie_for_https_is_sent_over_nothing_else(build: Path) -> None:
    with serving(build, StudioConfig(public_url="https://review.example.org")) as served:
        link = served.studio.link("Sec", lead=False)
        assert link.startswith("https://review.example.org/join#")
        client = Client(served.url)
        with client.http:
            answer = client.send("POST", "/api/join", {"token": token_of(link)})
        assert "Secure" in answer.headers["set-cookie"]
