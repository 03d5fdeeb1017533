"""The studio's pages in a real browser: what reviewers do with them, alone and at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from chromium import contrasts, is_dark, needs_browser, open_tab
from drafted import finished, question, ready, street
from studio_parts import Served, draft, no_code, serving, trajectory, write_build

from thyme.config.studio import StudioConfig
from thyme.data.drafts import Draft
from thyme.types import ImageRecord

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

pytestmark = needs_browser
WIDE = (3000, 2250)


def large(index: int) -> Draft:
    """A record about a picture of seven megapixels."""
    picture = ImageRecord.of(street().resize(WIDE), name="street.jpg")
    made = ready("no_code", question(images=(picture,), question="What is far away?", meta={}))
    made = made.model_copy(update={"id": f"photos-{index:08d}-no_code"})
    return trajectory(finished(made, [], "It is large.", "KX"))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Twenty records, most of them crops; those that a test looks for by name come last."""
    named = [large(17), draft(18, question="What is on the board?"), draft(19, question="What is on the wall?")]
    drafts = [*(draft(index) for index in range(16)), no_code(16), *named]
    with serving(write_build(tmp_path_factory.mktemp("pages") / "build", drafts)) as running:
        yield running


@pytest.fixture(scope="module")
def doubled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Three records that two people are to review."""
    out = write_build(tmp_path_factory.mktemp("doubled") / "build", [draft(index) for index in range(3)])
    with serving(out, StudioConfig(double=1.0)) as running:
        yield running


def come_in(browser: Browser, served: Served, name: str, **options: Any) -> Page:
    """Open a link as an invited person does."""
    lead = options.pop("lead", False)
    page = open_tab(browser, served.link(name, lead=lead), **options)
    page.click("#join [type=submit]")
    page.wait_for_url(f"{served.url}/")
    return page


def moved(page: Page, act: Callable[[], None]) -> str:
    """The address after something that leads to another page."""
    with page.expect_navigation():
        act()
    page.wait_for_load_state()
    return page.url


def press(page: Page, *keys: str) -> str:
    """Press keys of which the last leads to another page."""
    for key in keys[:-1]:
        page.keyboard.press(key)
    return moved(page, lambda: page.keyboard.press(keys[-1]))


def until(page: Page, condition: str) -> None:
    """Wait until an expression holds. `Page.wait_for_function` is not allowed by the pages' policy."""
    for _ in range(1200):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(25)
    raise AssertionError(f"it did not come to pass: {condition}")


SCALE = "document.querySelector('.zoom-scale').textContent"


def drawn(page: Page) -> int:
    """How many different colours the zoom shows."""
    count: int = page.evaluate(
        """() => { const canvas = document.querySelector('#zoom canvas'), size = [0, 0, canvas.width, canvas.height];
        const pixels = new Uint32Array(canvas.getContext('2d').getImageData(...size).data.buffer);
        return new Set(pixels).size; }"""
    )
    return count


# --- one reviewer -----------------------------------------------------------------------------------------------------


def test_a_reviewer_works_by_keys_alone(browser: Browser, served: Served) -> None:
    """In by a link, one record rejected with a reason, one accepted, one taken back; the list knows all of it."""
    page = open_tab(browser, served.link())
    page.keyboard.press("Tab")
    page.click("#join [type=submit]")
    page.fill("#name", "Ana")
    assert press(page, "Enter") == f"{served.url}/"
    page.messages.clear()  # the browser notes that the first try, without a name, was refused
    assert "20 records wait for you" in page.locator("#start").inner_text()

    first = press(page, "Enter")
    assert page.locator("h2#question").inner_text() == "What does sign 0 say?"
    for image in page.locator("main img").all():
        image.scroll_into_view_if_needed()
        assert image.evaluate("async i => { await i.decode(); return i.naturalWidth; }") > 0
    kinds = page.locator(".steps > .step").evaluate_all("steps => steps.map(step => step.classList[1])")
    assert kinds == ["thought", "code", "output", "made", "thought", "answer"], "images stand where they were made"
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert "code" in (page.locator(".step.at").get_attribute("class") or "")

    page.keyboard.press("r")
    page.keyboard.press("o")
    assert page.evaluate("document.activeElement.id") == "note", "something else has to be said"
    page.keyboard.press("Control+Enter")
    assert "Say in the note" in page.locator("#reasons .alert").inner_text()
    page.locator("#reasons input").first.focus()
    second = press(page, "3", "Enter")
    assert second != first
    assert "Rejected" in page.locator(".told").inner_text()
    third = press(page, "a")
    assert len({first, second, third}) == 3
    page.evaluate("sessionStorage.setItem('did', 'accept ' + Date.now() * 2)")
    page.keyboard.press("a")  # a key that was hit twice is no verdict on what came meanwhile
    assert press(page, "u") == second, "the last verdict is taken back, and its record comes again"
    assert press(page, "s") != second

    page.goto(f"{served.url}/?mine=reviewed")
    assert page.locator(".listing li").count() == 1
    assert "19 records wait for you" in page.locator("#start").inner_text(), "whatever of mine is listed below"
    page.goto(f"{served.url}/items/{first.split('/')[-1]}")
    review = page.locator(".reviews").inner_text()
    assert "rejected" in review
    assert "wrong part of the picture" in review
    assert "You rejected this record" in page.locator(".decide").inner_text()
    assert page.messages == []
    page.close()


def test_images_at_any_zoom(browser: Browser, served: Served) -> None:
    """A small picture comes whole and exact, with its boxes; keys lead through all pictures. No policy is broken."""
    ben = served.client("Ben")
    page = come_in(browser, served, "Ben", reduced_motion="reduce")
    by_question = {one["question"]: one["id"] for one in ben.get("/api/items")["items"]}
    page.goto(f"{served.url}/items/{by_question['What is on the wall?']}")
    page.keyboard.press("i")
    until(page, SCALE)
    assert page.locator(".zoom-caption").inner_text() == "1 of 2 · Input image 1, 800 by 600 pixels"
    page.keyboard.press("b")
    box = page.locator(".zoom-box").bounding_box()
    assert box is not None
    assert abs(box["width"] / box["height"] - 70 / 40) < 0.1, "the box of the sign"
    page.keyboard.press("1")
    until(page, f"{SCALE} === '100 %'")
    assert drawn(page) > 5
    page.keyboard.press("ArrowRight")
    until(page, "document.querySelector('.zoom-caption').textContent.startsWith('2 of 2')")
    assert page.locator(".zoom-box").count() == 0
    page.keyboard.press("a")
    assert page.locator("#zoom").is_visible(), "keys of the page behind do nothing"
    page.keyboard.press("Escape")
    assert not page.locator("#zoom").is_visible()
    assert page.messages == []
    page.close()


@pytest.mark.slow
def test_tiles_of_a_large_image(browser: Browser, served: Served) -> None:
    """Of a large picture come only the tiles in sight, reduced ones first."""
    page = come_in(browser, served, "Bea")
    page.goto(f"{served.url}/?search=far+away")
    moved(page, lambda: page.click(".listing a"))
    page.requests.clear()
    page.click("a.zoom")
    until(page, SCALE)
    page.wait_for_load_state("networkidle")
    tiles = [match[1] for url in page.requests if (match := re.search(r"/(\d+)/\d+_\d+$", url))]
    assert 0 < max(map(int, tiles), default=0) < 12, "reduced tiles first"
    page.keyboard.press("1")
    until(page, f"{SCALE} === '100 %'")
    page.wait_for_timeout(600)
    full = [url for url in page.requests if re.search(r"/12/\d+_\d+$", url)]
    assert 0 < len(full) < 6 * 5, "some of the tiles of all pixels, not all of them"
    assert not any(re.fullmatch(r".*/images/[0-9a-f]+", url) for url in page.requests)
    assert drawn(page) > 5
    assert page.messages == []
    page.close()


@pytest.mark.slow
def test_a_changed_record_runs_again(browser: Browser, served: Served) -> None:
    """Code is changed, runs, and its new image is shown; what the rules forbid cannot be accepted."""
    page = come_in(browser, served, "Cleo")
    page.goto(f"{served.url}/?search=board")
    press(page, "Enter")
    assert page.locator("h2#question").inner_text() == "What is on the board?"
    press(page, "e")
    code = page.locator("textarea.code")
    before = code.input_value()
    code.fill(before.replace("part.width * 4, part.height * 4", "part.width * 3, part.height * 3"))
    code.focus()
    press(page, "Control+Enter")
    assert "Changed by Cleo" in page.locator(".versions").inner_text()
    assert page.locator(".made figcaption").inner_text().endswith("390 × 240 px")

    press(page, "e")
    page.locator("textarea.code").fill("print('nothing')")
    moved(page, lambda: page.click("form#edit [type=submit]"))
    assert "cannot be accepted" in page.locator(".fault").inner_text()
    assert page.locator("[data-act=accept]").is_disabled()
    page.keyboard.press("a")

    press(page, "e")
    page.locator("[data-part=delete]").last.click()
    page.locator("textarea.answer").fill("")
    page.locator("textarea.text").first.fill("I write <code> myself.")
    page.click("form#edit [type=submit]")
    page.wait_for_selector("#problem:not([hidden])")
    assert "<code> may not stand in a text" in page.locator("#problem").inner_text()
    page.on("dialog", lambda dialog: dialog.accept())
    moved(page, lambda: page.click("form#edit a.button"))

    moved(page, lambda: page.locator(".versions a", has_text="Change").first.click())
    assert "390" in page.locator(".made figcaption").inner_text()
    page.keyboard.press("a")
    page.wait_for_url("**/?finished*")
    item = served.client("Cleo").get("/api/items", search="board")["items"][0]
    reviews = served.client("Cleo").get(f"/api/items/{item['id']}")["reviews"]
    assert [(one["verdict"], one["revision"] is not None) for one in reviews] == [("accept", True)]
    page.close()


def test_the_list_counts_anew_when_somebody_comes_back_to_it(browser: Browser, served: Served) -> None:
    """What others take meanwhile is no longer said to wait."""
    page, other = come_in(browser, served, "Kim"), served.client("Lou")
    waiting = int(page.locator("#start").inner_text().split()[0])
    taken = other.post("/api/next")["item"]["id"]
    page.evaluate("window.dispatchEvent(new Event('focus'))")
    until(page, f"document.getElementById('start').textContent.startsWith('{waiting - 1} ')")
    assert "with others now" in page.locator(".start .hint").inner_text()
    other.http.request("DELETE", f"/api/items/{taken}/lease")
    assert page.messages == []
    page.close()


@pytest.mark.slow
@pytest.mark.parametrize("path", ["", "/edit"])
def test_a_page_that_nobody_touches_gives_its_record_up(browser: Browser, served: Served, path: str) -> None:
    """The lease is renewed for a lease's time after the last movement, and no longer."""
    page = come_in(browser, served, "Ida")
    record = press(page, "Enter")
    page.clock.install()
    page.goto(record + path)
    page.requests.clear()
    page.clock.run_for(3600_000)
    assert len([url for url in page.requests if url.endswith("/lease")]) == 3
    page.keyboard.press("Escape")
    page.clock.run_for(301_000)
    assert len([url for url in page.requests if url.endswith("/lease")]) == 4
    page.close()


# --- several at once --------------------------------------------------------------------------------------------------


def test_two_reviewers_at_once_get_different_records(browser: Browser, served: Served) -> None:
    """Both press the same key at the same moment."""
    pages = [come_in(browser, served, name) for name in ("Dora", "Emil")]
    for page in pages:  # neither waits for the other's answer
        page.evaluate("document.body.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', bubbles: true}))")
    for page in pages:
        page.wait_for_url("**/items/*")
    first, second = (page.url for page in pages)
    assert first != second
    pages[1].goto(first)
    assert "Somebody else has this record now" in pages[1].locator(".decide").inner_text()
    pages[1].goto(second)
    addresses = {first, second, *(press(page, "a") for page in pages)}
    assert len(addresses) == 4, "nor do they get the other's next one"
    for page in pages:
        assert page.messages == []
        page.close()


@pytest.mark.slow
def test_two_reviews_a_dispute_and_a_lead(browser: Browser, doubled: Served) -> None:
    """Neither reviewer sees what the other said before their own verdict stands; a lead decides where they differ."""
    first, second = (come_in(browser, doubled, name) for name in ("Finn", "Gita"))
    url = press(first, "Enter")
    assert press(second, "Enter") == url, "the same record, as two reviews are wanted"
    press(first, "a")
    second.reload()
    assert second.locator(".reviews").count() == 0
    press(second, "r", "1", "Enter")
    second.goto(url)
    assert "Finn" in second.locator(".reviews").inner_text()
    assert "disputed" in second.locator(".pager").inner_text()
    assert second.locator("[data-act=accept]").count() == 1, "one may still change one's own mind"

    lead = come_in(browser, doubled, "Hans", lead=True)
    lead.goto(f"{doubled.url}/progress")
    assert "said the same of 0" in lead.locator("main").inner_text()
    lead.click("text=for a lead to decide")
    moved(lead, lambda: lead.click(".listing a"))
    assert "what you say decides" in lead.locator(".decide").inner_text()
    press(lead, "a")
    assert "accepted" in lead.locator(".pager .state").first.inner_text()
    lead.goto(f"{doubled.url}/progress")
    lead.click("[data-export]")
    until(lead, "document.querySelector('[data-export] ~ [role=status]').textContent")
    assert "1 accepted" in lead.locator("[data-export] ~ [role=status]").inner_text()
    for page in (first, second, lead):
        assert page.messages == []
        page.close()


@pytest.mark.slow
def test_links_people_and_signing_out(browser: Browser, doubled: Served) -> None:
    """A lead makes a link; it lets one person in, once; who is let in no more is out at once."""
    lead = come_in(browser, doubled, "Ida", lead=True)
    slow: list[Route] = []
    lead.route("**/api/reviewers", lambda route: slow.append(route), times=1)
    lead.goto(f"{doubled.url}/people")
    lead.fill("#name", "Jan")
    lead.click("#invite [type=submit]")  # before the lists are there
    until(lead, "document.getElementById('link').value")
    slow[0].continue_()
    lead.wait_for_selector("#links .acts")
    link = lead.input_value("#link")
    guest = open_tab(browser, link)
    moved(guest, lambda: guest.click("#join [type=submit]"))
    assert "Jan" in guest.locator(".who").inner_text()
    late = open_tab(browser, link)
    late.click("#join [type=submit]")
    late.wait_for_selector("#problem:not([hidden])")
    assert "used up" in late.locator("#problem").inner_text()
    lead.reload()
    row = lead.locator("#people li", has_text="Jan")
    row.get_by_text("Let in no more").click()
    row.get_by_text("Let in again").wait_for()
    guest.reload()
    assert "Not signed in" in guest.locator("h2").inner_text()
    moved(lead, lambda: lead.click("#leave"))
    assert "Not signed in" in lead.locator("h2").inner_text()
    for page in (lead, guest, late):
        page.close()


# --- looks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), pytest.param(1100, "light", marks=pytest.mark.slow)])
def test_looks(browser: Browser, served: Served, width: int, scheme: str) -> None:
    """Nothing is wider than the page, every text can be read, and all of it can be reached; on phones, too."""
    page = come_in(browser, served, f"Kim {width}", lead=True, width=width, scheme=scheme)
    press(page, "Enter")
    record = page.url
    for url in ("/", record, f"{record}/edit", "/progress", "/people"):
        page.goto(url if "://" in url else served.url + url)
        if url == "/people":
            page.wait_for_selector("#people li")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, url
        assert is_dark(page) == (scheme == "dark")
        assert {name: ratio for name, ratio in contrasts(page).items() if ratio < 4.5} == {}, url
    page.goto(record)
    page.click("[data-act=reject]")
    assert {name: ratio for name, ratio in contrasts(page).items() if ratio < 4.5} == {}
    button = page.locator("#reasons [type=submit]").bounding_box()
    assert button is not None
    assert button["y"] + button["height"] <= 900, "the button is in sight"
    page.keyboard.press("Escape")
    press(page, "s")
    assert page.messages == []
    page.close()
