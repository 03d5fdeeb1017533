"""The playground's paths without a browser: who may do what, how much is kept, what every answer carries."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from importlib.resources import files
from typing import Any

import httpx
import pytest
from ui_server import SCRIPT, png

from thyme.config.serve import ServeConfig
from thyme.engines.scripted import ScriptedEngine
from thyme.sandbox import open_sandbox
from thyme.sandbox.base import Sandbox
from thyme.serve.app import create_app
from thyme.serve.runtime import AgentRuntime
from thyme.serve.ui import pages
from thyme.serve.ui.questions import Bounds, Questions
from thyme.serve.ui.security import COOKIE
from thyme.types import Problem
from thyme.view.served import HEADERS

OWN = {"sec-fetch-site": "same-origin"}
KEY = "a-key-of-thirty-two-characters-1"


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with open_sandbox() as opened:
        yield opened


def client(sandbox: Sandbox, **settings: Any) -> httpx.AsyncClient:
    app = create_app(ScriptedEngine(SCRIPT, max_side=320), sandbox, ServeConfig(ui=True, **settings))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost:8000")


def wish(question: str = "What does the sign say?", **fields: Any) -> dict[str, Any]:
    image = {"name": "sign.png", "data": base64.b64encode(png()).decode()}
    return {"question": question, "images": [image], "max_rounds": 4, **fields}


async def done(browser: httpx.AsyncClient, path: str) -> list[dict[str, Any]]:
    """All patches of a question."""
    patches = []
    async with browser.stream("GET", f"{path}/events") as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        async for line in reply.aiter_lines():
            if line.startswith("data: "):
                data = json.loads(line.removeprefix("data: "))
                patches += data if isinstance(data, list) else []
    return patches


async def test_a_question_and_what_it_leaves_behind(sandbox: Sandbox) -> None:
    async with client(sandbox) as browser:
        asked = await browser.post("/ui/questions", json=wish(), headers=OWN)
        assert asked.status_code == 201
        assert "httponly" in asked.headers["set-cookie"].lower()
        assert "samesite=strict" in asked.headers["set-cookie"].lower()
        path = asked.json()["path"]
        patches = await done(browser, path)
        assert [patch["text"] for patch in patches if patch["kind"] == "state"][-1] == "done"
        (made,) = [patch["html"] for patch in patches if patch["kind"] == "row" and "new image" in patch["html"]]
        source = made.split('href="')[1].split('"')[0]
        image = await browser.get(source)
        assert image.headers["content-type"] == "image/png"
        seen = await browser.get(f"{source}?seen=64x32")
        assert 0 < len(seen.content) < 2_000_000
        assert (await browser.get(f"{source}?seen=0x9")).status_code == 400
        assert (await browser.get(f"{source}?seen=99999x9")).status_code == 400
        assert (await browser.get(f"{path}/images/0123")).status_code == 404
        assert "attachment" in (await browser.get(f"{path}/page.html")).headers["content-disposition"]
        recent = (await browser.get("/ui/recent")).text
        assert path in recent
        assert (await browser.get("/ui/example")).status_code == 404, "only nano has a world"


async def test_odd_headers_and_addresses_are_no_failure(sandbox_free: AgentRuntime) -> None:
    """A cookie that is not ours starts a session; a place in a stream that is no number is the beginning."""
    app = create_app(sandbox_free.engine, sandbox_free.sandbox, ServeConfig(ui=True))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost:8000") as browser:
        odd = {"cookie": COOKIE.encode() + b"=" + b"\xe9" * 43}
        asked = await browser.post("/ui/questions", json=wish(), headers={**OWN, **odd})
        assert COOKIE in asked.headers["set-cookie"]
        path = asked.json()["path"]
        assert (await browser.get(path)).status_code == 200
        assert (await browser.get(f"{path}/events", headers={"last-event-id": "9" * 5000})).status_code == 200
        refused = await browser.get(f"{path}/events?after=x")
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "after")
        browser.cookies.clear()
        assert (await browser.get(path, headers=odd)).status_code == 404


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"sec-fetch-site": "same-origin"}, True),
        ({"origin": "http://localhost:8000"}, True),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"origin": "http://elsewhere.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": "http://["}, False),
        ({}, False),
    ],
)
@pytest.mark.parametrize("path", ["/ui/questions", "/ui/key", "/ui/questions/x/stop"])
async def test_only_the_own_page_may_change_anything(
    sandbox_free: AgentRuntime, headers: dict[str, str], allowed: bool, path: str
) -> None:
    app = create_app(sandbox_free.engine, sandbox_free.sandbox, ServeConfig(ui=True, cors_origins=("*",)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost:8000") as browser:
        status = (await browser.post(path, json={}, headers=headers)).status_code
        assert (status != 403) == allowed


class NoSandbox:
    """For questions that run no code."""

    isolation = "scripted"

    async def aclose(self) -> None:
        """Nothing to end."""


@pytest.fixture
def sandbox_free() -> AgentRuntime:
    return AgentRuntime(ScriptedEngine(SCRIPT, delay_s=0.001), NoSandbox(), ServeConfig(ui=True, max_concurrent=50))


async def test_two_tabs_that_ask_at_once_share_a_session(sandbox_free: AgentRuntime) -> None:
    app = create_app(sandbox_free.engine, sandbox_free.sandbox, ServeConfig(ui=True))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost:8000") as browser:
        home = await browser.get("/")
        assert "httponly" in home.headers["set-cookie"].lower()
        assert "set-cookie" not in (await browser.get("/")).headers
        both = await asyncio.gather(*(browser.post("/ui/questions", json=wish(), headers=OWN) for _ in range(2)))
        for asked in both:
            assert (await browser.get(asked.json()["path"])).status_code == 200


async def test_without_the_key_nothing_is_told(sandbox_free: AgentRuntime) -> None:
    app = create_app(sandbox_free.engine, sandbox_free.sandbox, ServeConfig(ui=True, api_keys=(KEY,)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost:8000") as browser:
        for path in ("/", "/ui/recent", "/ui/example", "/ui/questions/x", "/ui/questions/x/events"):
            assert (await browser.get(path)).status_code == 401
        assert (await browser.post("/ui/questions", json=wish(), headers=OWN)).status_code == 401
        forged = {"cookie": f"{COOKIE}={'a' * 43}"}
        assert (await browser.get("/ui/recent", headers=forged)).status_code == 401
        wrong = await browser.post("/ui/key", content=f"key=x{KEY}", headers=OWN)
        assert wrong.status_code == 401
        assert "set-cookie" not in wrong.headers
        right = await browser.post("/ui/key", content=f"key={KEY}", headers=OWN)
        assert right.status_code == 303
        assert KEY not in str(right.headers)
        assert (await browser.get("/")).status_code == 200
        assert (await browser.post("/ui/key", content="key=" + "x" * 9000, headers=OWN)).status_code == 413


async def test_every_answer_carries_the_policy(sandbox_free: AgentRuntime) -> None:
    app = create_app(sandbox_free.engine, sandbox_free.sandbox, ServeConfig(ui=True))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost:8000") as browser:
        for path in ("/", "/ui/static/playground.js", "/ui/questions/none", "/ui/recent"):
            reply = await browser.get(path)
            assert "script-src 'self'" in reply.headers["content-security-policy"]
            assert reply.headers["x-content-type-options"] == "nosniff"
            assert "unsafe" not in reply.headers["content-security-policy"]
        assert (await browser.get("/ui/static/..%2f__init__.py")).status_code == 404
        home = (await browser.get("/")).text
        assert "<script>" not in home
        assert "style=" not in home
        assert "onclick" not in home
        assert "https://" not in home.replace("http://www.w3.org", "")
    assert "frame-ancestors 'none'" in HEADERS["content-security-policy"]


@pytest.mark.parametrize(
    ("change", "status", "told"),
    [
        ({"question": " "}, 400, "the question is empty"),
        ({"question": "x" * 300}, 400, "300 characters and may have 200"),
        ({"max_rounds": 99}, 400, "at most 4 code blocks"),
        ({"text_temperature": -1}, 400, "text temperature: Input should be greater"),
        ({"seed": 2**70}, 400, "seed: Input should be less"),
        ({"unknown": 1}, 400, "unknown: Extra inputs are not permitted"),
        ({"images": [{"name": "a", "data": "?"}]}, 400, "a arrived damaged"),
        ({"images": [{"name": "\x1b[1m\n.png", "data": ""}]}, 400, "[1m.png is empty"),
    ],
)
async def test_bad_wishes_are_refused_in_plain_words(
    sandbox_free: AgentRuntime, change: dict[str, Any], status: int, told: str
) -> None:
    app = create_app(sandbox_free.engine, sandbox_free.sandbox, ServeConfig(ui=True, max_text_chars=200))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost:8000") as browser:
        reply = await browser.post("/ui/questions", json=wish() | change, headers=OWN)
        assert (reply.status_code, told in reply.json()["error"]["message"]) == (status, True), reply.text
        assert (await browser.post("/ui/questions", content="{", headers=OWN)).status_code == 415
        broken = await browser.post("/ui/questions", content="{", headers=OWN | {"content-type": "application/json"})
        assert broken.status_code == 400


def problem_of(text: str) -> Problem:
    return Problem(id="p", question=text)


async def ended(questions: Questions, session: str) -> None:
    await asyncio.gather(*(q.task for q in questions.recent(session) if q.task), return_exceptions=True)


async def test_a_bounded_number_is_kept(sandbox_free: AgentRuntime) -> None:
    """The oldest finished ones go first; running ones stay; one session does not push out another's last."""
    questions = Questions(sandbox_free, pages.templates(), Bounds(questions=5, questions_a_session=3))
    config = sandbox_free.config.rollout
    other = questions.ask("other", problem_of("exhausted"), config, 0)
    await ended(questions, "other")
    asked = []
    for index in range(4):
        asked.append(questions.ask("mine", problem_of("exhausted"), config, index))
        await ended(questions, "mine")
    assert questions.recent("mine") == asked[:0:-1]
    assert questions.recent("other") == [other]
    assert questions.find("mine", asked[0].id) is None
    assert questions.find("mine", other.id) is None
    assert questions.find("other", other.id) is other
    await questions.aclose()


async def test_images_are_kept_up_to_a_size(sandbox_free: AgentRuntime) -> None:
    from thyme.images import load_image

    questions = Questions(sandbox_free, pages.templates(), Bounds(image_bytes=2_000_000))
    config = sandbox_free.config.rollout
    for index in range(4):
        image = load_image(png(640, 400, f"#00000{index}"))
        questions.ask("mine", Problem(id="p", question="exhausted", images=(image,)), config, 0)
        await ended(questions, "mine")
    assert len(questions.recent("mine")) == 2
    await questions.aclose()


async def test_following_from_anywhere_gives_the_rest(sandbox_free: AgentRuntime) -> None:
    questions = Questions(sandbox_free, pages.templates())
    question = questions.ask("mine", problem_of("slowly"), sandbox_free.config.rollout, 0)
    told = []
    async for known, patches in questions.follow(question, 0):
        told += patches
        if known > 50:
            break
    async for _, patches in questions.follow(question, len(told)):
        told += patches
        if len(told) > 200:
            break
    assert told == question.patches[: len(told)]
    await questions.aclose()
    assert question.state == "stopped"
    rest = [patch async for _, patches in questions.follow(question, len(told)) for patch in patches]
    assert told + rest == question.patches
    assert "shuts down" in question.patches[-2].html


async def test_a_client_of_the_queue_that_is_refused_late_is_told(sandbox_free: AgentRuntime) -> None:
    questions = Questions(sandbox_free, pages.templates())
    question = questions.ask("mine", problem_of("slowly"), sandbox_free.config.rollout, 0)
    await asyncio.sleep(0.02)
    await sandbox_free.drain(0)
    await ended(questions, "mine")
    assert question.state == "failed"
    assert "shutting down" in question.message


def test_all_that_pages_need_is_in_the_package() -> None:
    """Templates and static files lie inside the packages, whose files the wheel takes as they are."""
    for package, path, _ in pages._STATIC.values():
        assert files(package).joinpath(path).is_file()
    for name in pages.templates().list_templates():
        if name.endswith(".j2"):
            pages.templates().get_template(name)
    assert "playground.html.j2" in pages.templates().list_templates()
