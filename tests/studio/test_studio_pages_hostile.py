"""Nothing that a model, its code or a person wrote acts on the studio's pages; and strangers see nothing."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pytest
from chromium import needs_browser
from studio_parts import Client, Served, http_client, printed, serving, write_build

from thyme.data.drafts import Costs, Said, Verdict
from thyme.studio.ui.pages import _STATIC, STATIC, templates
from thyme.types import ExecutionError, Observation, Repair
from thyme.view.unseen import _UNSEEN

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HOSTILE = (
    "</textarea></script><script>window.owned = 1</script><img src=x onerror='window.owned = 1'>\"'&lt;b&gt;{{7*7}}"
)
"""What would act if it were not escaped; it is no tag of the markup."""
ATTRIBUTE = '" onmouseover="window.owned = 1" autofocus onfocus="window.owned = 1" x=\''
"""What would act in an attribute."""
UNSEEN = "\u202e\u2066\u200b\x08"
"""What would have a reviewer read another text than the one that is trained on."""
FOLDER = "thyme.studio.ui"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Two records; the first has hostile text wherever text can be, the second characters that nobody sees."""
    hidden = printed(1, f"a{UNSEEN}", question=f"Who{UNSEEN}?", conclusion=UNSEEN, code=f"user = 'us{UNSEEN}er'")
    evil = printed(0, HOSTILE, question=HOSTILE, conclusion=HOSTILE + ATTRIBUTE, code=f"print({HOSTILE!r})")
    segments = list(evil.segments)
    place = next(i for i, one in enumerate(segments) if isinstance(one, Observation))
    observed = segments[place]
    assert isinstance(observed, Observation)
    execution = observed.execution.model_copy(
        update={
            "code": f"# {HOSTILE}",
            "ran": f"print({HOSTILE!r})",
            "error": ExecutionError(type=HOSTILE, message=HOSTILE),
            "repairs": (Repair(name=HOSTILE, note=HOSTILE),),
        }
    )
    segments[place] = observed.model_copy(update={"execution": execution})
    images = tuple(image.model_copy(update={"name": HOSTILE + ATTRIBUTE}) for image in evil.problem.images)
    problem = evil.problem.model_copy(
        update={"answer": HOSTILE, "choices": (HOSTILE, ATTRIBUTE), "kind": HOSTILE, "images": images}
    )
    evil = evil.model_copy(
        update={
            "segments": tuple(segments),
            "problem": problem,
            "origin": problem,
            "source": HOSTILE,
            "teacher": ATTRIBUTE,
            "hints": {"boxes": [[1, 2, 30, 40], [ATTRIBUTE, 0, 0, 0]], HOSTILE: HOSTILE, "angle": ATTRIBUTE},
            "verdicts": (Verdict(judge=HOSTILE, fits=True, needed=True, reason=HOSTILE),),
            "conversation": (Said(role=HOSTILE, text=HOSTILE), Said(role="assistant", text="x")),
            "costs": Costs(),
        }
    )
    with serving(write_build(tmp_path_factory.mktemp("hostile") / "build", [evil, hidden])) as running:
        yield running


@pytest.fixture(scope="module")
def lead(served: Served) -> Client:
    """A lead who has said something hostile, invited somebody of a hostile name, and met one."""
    client = served.client("Lea", lead=True)
    client.post("/api/items/1/verdict", verdict="reject", reason="other", note=HOSTILE)
    client.post("/api/invites", name=HOSTILE[:90])
    served.client(ATTRIBUTE)
    return client


PATHS = (
    *("/", "/items/1", "/items/1/edit", "/items/2", "/progress", "/people", "/?search=%3Cscript%3E%22&scenario=%22x"),
    *("/annotate", "/annotate/images/1", "/annotate/questions/1", "/annotate/questions", "/annotate/progress"),
)


class Tags(HTMLParser):
    """All that a page holds, as a browser would read it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize("path", PATHS)
def test_pages_hold_no_script_and_no_style_of_their_own(lead: Client, path: str) -> None:
    """Only files of this server are run, styled by and shown, as the policy on every page demands."""
    reply = lead.http.get(path)
    assert reply.status_code == 200
    policy = reply.headers["content-security-policy"]
    for rule in ("default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"):
        assert rule in policy
    assert "unsafe" not in policy
    for tag, attributes in Tags(reply.text).found:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], (tag, attributes)
        assert tag not in {"style", "iframe", "object", "embed", "base"}
        for name in ("src", "href", "action", "formaction"):
            assert (attributes.get(name) or "/").startswith(("/", "#")), (tag, attributes)
        assert tag != "script" or (attributes["src"] or "").startswith(STATIC)


@needs_browser
def test_nothing_that_was_written_acts(served: Served, lead: Client, browser: Browser) -> None:
    """Even where the policy that stands before it is taken away."""
    cookie = dict(lead.http.cookies)
    for path in ("/", "/items/1", "/items/1/edit", "/people"):
        page = browser.new_page()
        page.context.add_cookies([{"name": name, "value": value, "url": served.url} for name, value in cookie.items()])

        def bare(route: Any) -> None:
            route.fulfill(response=route.fetch(), headers={"content-type": "text/html"})

        page.route(served.url + path, bare)
        page.goto(served.url + path)
        assert page.evaluate("window.owned") is None, path
        assert page.locator("img[src='x'], main script, [onerror], [onmouseover]").count() == 0, path
        if path == "/items/1":
            assert page.locator("body").inner_text().count("window.owned = 1") >= 10, "it is shown as the text it is"
            page.keyboard.press("i")
            page.locator("#zoom canvas").first.wait_for()
            assert HOSTILE not in page.locator("#zoom").inner_html()
        if path == "/people":
            page.wait_for_selector("#links .acts")
            assert HOSTILE[:40] in page.locator("#links").inner_text()
            assert ATTRIBUTE[:20] in page.locator("#people").inner_text()
        assert page.evaluate("window.owned") is None, path
        page.context.close()


def test_what_is_edited_is_what_was_written(lead: Client) -> None:
    """The fields of the editor hold every character of the record, and end where they should."""
    from html import unescape

    html = lead.http.get("/items/1/edit").text
    fields = [unescape(text) for text in re.findall(r"<textarea[^>]*>\n(.*?)</textarea>", html, re.DOTALL)]
    blocks = lead.get("/api/items/1")["blocks"]
    assert fields[: len(blocks)] == [block["text"] for block in blocks]
    assert any(HOSTILE in field for field in fields)


def test_what_cannot_be_seen_is_named(lead: Client) -> None:
    """Turned text, text without a width, and controls: on the pages by name, in the editor as they are."""
    for path, times in (("/", 1), ("/items/2", 5)):
        html = lead.http.get(path).text
        assert not set(UNSEEN) & set(html), path
        assert html.count("⟨U+202E⟩⟨U+2066⟩⟨U+200B⟩⟨U+0008⟩") >= times, path
    fields = re.findall(r"<textarea[^>]*>\n(.*?)</textarea>", lead.http.get("/items/2/edit").text, re.DOTALL)
    assert any(f"us{UNSEEN}er" in field for field in fields)
    assert lead.get("/api/items/2")["question"] == f"Who{UNSEEN}?"


def test_pages_that_write_themselves_name_the_same() -> None:
    """Those of annotation, whose texts come by scripts."""
    script = files(FOLDER).joinpath("static/annotate/page.js").read_text(encoding="utf-8")
    (named,) = re.findall(r"UNSEEN = /(.*)/gu;", script)
    assert re.sub(r"\\u\{(\w+)\}", r"\\U000\1", named) == _UNSEEN.pattern


def test_the_list_says_whether_something_was_skipped(lead: Client) -> None:
    assert "Nothing but what you skipped is left" in lead.http.get("/?finished").text


def test_strangers_see_nothing(served: Served, lead: Client) -> None:
    """No page but the one that lets in, and no word of a record; a proxy's header is not believed either."""
    with http_client(served.url, {"x-forwarded-user": "Lea"}) as http:
        for path in PATHS:
            reply = http.get(path)
            assert reply.status_code == 401
            assert "window.owned" not in reply.text
            assert "Not signed in" in reply.text
        assert http.get("/join").status_code == 200


def test_addresses_that_mean_nothing(served: Served, lead: Client) -> None:
    """Each gives a page that says so, or a list; none a failure."""
    guest = served.client("Moa")
    for path in (
        "/items/99",
        f"/items/{10**30}",
        "/items/1?revision=77",
        f"/items/1?revision={9**40}",
        "/items/1?revision=x",
    ):
        reply = lead.http.get(path)
        assert (reply.status_code, "Not here" in reply.text) == (404, True), path
    reply = guest.http.get("/people")
    assert (reply.status_code, "Not for you" in reply.text) == (403, True)
    for query in ("page=0", "page=99", f"page={'9' * 50}", "state=no", "rounds=x", "search=%00", f"search={'a' * 999}"):
        assert lead.http.get(f"/?{query}").status_code == 200, query
    assert lead.http.get("/ui/static/..%2Fpages.py").status_code == 404


def test_every_template_escapes() -> None:
    made = templates()
    assert made.autoescape is True
    for name in made.list_templates(extensions=["j2"]):
        source = files(FOLDER).joinpath("templates", name)
        assert not source.is_file() or "|safe" not in re.sub(r"\s", "", source.read_text(encoding="utf-8")), name


def test_openseadragon_is_what_was_published() -> None:
    """The file is the one whose sum stands beside it, and its licences are there."""
    folder = files(FOLDER).joinpath("static/openseadragon")
    content = folder.joinpath("openseadragon.min.js").read_bytes()
    noted = folder.joinpath("README.md").read_text(encoding="utf-8")
    assert hashlib.sha256(content).hexdigest() in noted
    assert content.startswith(b"//! openseadragon 6.1.1")
    assert "Redistribution and use in source and binary forms" in folder.joinpath("LICENSE.txt").read_text()
    assert "jQuery" in folder.joinpath("NOTICES.txt").read_text()
    sums = re.findall(r"^sha512  (\S+)", noted, re.MULTILINE)
    assert len(base64.b64decode(sums[0])) == 64


def test_all_files_that_pages_name_are_served(lead: Client) -> None:
    named = {match for path in PATHS for match in re.findall(rf'{STATIC}/([^"]+)', lead.http.get(path).text)}
    assert named | {"join.js"} == set(_STATIC)
    for name in _STATIC:
        reply = lead.http.get(f"{STATIC}/{name}")
        assert reply.status_code == 200
        assert reply.headers["x-content-type-options"] == "nosniff"
        again = lead.http.get(f"{STATIC}/{name}", headers={"if-none-match": reply.headers["etag"]})
        assert (again.status_code, again.content) == (304, b""), "a third of a megabyte does not come with every record"
