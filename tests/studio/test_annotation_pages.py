"""The pages of annotation in a real browser: what an author, a second person, an expert and an adjudicator do there."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from importlib.resources import files
from typing import TYPE_CHECKING

import pytest
from annotation_browser import box_of, choose, come_in, drag, draw, look, pressed, ready, saved, take, until
from annotation_parts import FIELDS, answered, judged, serving, write_collection, written
from chromium import contrasts, is_dark, needs_browser, open_tab
from studio_parts import Served

from thyme.config.annotation import AnnotationSettings

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Route

pytestmark = needs_browser
HOSTILE = "</textarea></script><script>window.owned = 1</script><img src=x onerror='window.owned = 1'>{{7*7}}"
"""What would act if it were not escaped."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Twenty images, one second person and one expert a question."""
    folder = write_collection(tmp_path_factory.mktemp("pages") / "photos", 20)
    with serving(folder, AnnotationSettings(second=1, experts=1, gold=0)) as running:
        yield running


def test_an_author_draws_moves_resizes_and_submits(browser: Browser, served: Served) -> None:
    """The share is told while the box is drawn; above 5 % nothing can be submitted; what is submitted is as drawn."""
    page = come_in(browser, served, "Ana")
    id = int(take(page, "annotate").split("/")[-1].split("?")[0])
    picture = served.client("Ana").get(f"/api/annotation/images/{id}")["picture"]
    tiles = [url for url in page.requests if "/tiles/" in url]
    assert tiles, "of another studio at this address the browser may have kept others"
    assert all(url.endswith(f"?of={picture}") for url in tiles)
    assert any(url.endswith(f"/images/{id}/lease") for url in page.requests), "whoever comes back has all its time"
    told: list[str] = []
    page.keyboard.press("b")
    drag(page, (0.3, 0.3), (0.7, 0.7), during=lambda: told.append(page.inner_text("#share")))
    until(page, "document.querySelector('.a9s-corner-handle-bottomright') !== null")
    assert "more than the 5.0 % that are allowed" in told[0], "before the mouse is let go"
    page.keyboard.press("1")
    page.fill("#question", "What does the sign say?")
    page.fill("#answer", "KX0")
    page.keyboard.press("Control+Enter")
    until(page, "document.getElementById('problem').textContent.includes('at most 5.0%')")
    assert "at most 5.0%" in page.inner_text("#faults")

    page.click("summary")
    for side, pixels in {"left": "0", "top": "0", "right": "480", "bottom": "450.9"}.items():
        page.fill(f"#{side}", pixels)
    page.keyboard.press("Tab")
    assert "5.01 % of the image, more than the 5.0 %" in page.inner_text("#share")
    assert "takes 5.01% of" in page.inner_text("#faults"), "the page's word"
    saved(page)
    assert "takes 5.01% of" in page.inner_text("#faults"), "the server's word"
    page.fill("#bottom", "450")
    page.keyboard.press("Tab")
    saved(page)
    assert "takes" not in page.inner_text("#faults"), "5 % are allowed"
    page.click("summary")

    page.keyboard.press("Escape")
    draw(page)
    small = box_of(page)
    drag(page, (0.425, 0.425), (0.525, 0.425))
    moved = box_of(page)
    assert moved[0] - small[0] == moved[2] - small[2] > 100, "moved to the right, as large as before"
    assert (moved[1], moved[3]) == (small[1], small[3])
    drag(page, (0.55, 0.45), (0.56, 0.47))
    wider = box_of(page)
    assert wider[:2] == moved[:2]
    assert wider[2] > moved[2] + 10, "its lower right corner was dragged"
    assert wider[3] > moved[3] + 10
    assert not page.locator(".a9s-rotation-handle").first.is_visible(), "boxes are upright"

    assert "look at the image as the model first sees it" in page.inner_text("#faults")
    look(page)
    saved(page)
    assert not page.locator("#lacking").is_visible()
    draw(page, (0.8, 0.8), (0.85, 0.85))
    assert "look at the image as the model first sees it" in page.inner_text("#faults"), "what is there now is another"
    look(page)
    draw(page, (0.82, 0.82), (0.87, 0.87))
    wider = box_of(page)
    saved(page)
    assert not page.locator("#lacking").is_visible()
    page.keyboard.press("Control+Enter")
    until(page, "document.querySelector('.tab .state').textContent === 'submitted'")
    kept = served.client("Ana").get(f"/api/annotation/images/{id}")["questions"][0]
    assert (kept["box"], kept["answer"], kept["category"], kept["hidden_when_small"]) == (wider, "KX0", "ocr", True)
    assert not page.locator("#question").is_enabled()
    page.messages[:] = [one for one in page.messages if "409" not in one]  # the browser notes the refusal
    assert pressed(page, "n").split("?")[0] != f"{served.url}/annotate/images/{id}"
    assert page.messages == []
    page.close()


@pytest.mark.slow
def test_a_box_is_moved_and_resized_by_arrow_keys(browser: Browser, served: Served) -> None:
    """By pixels of the image at full zoom, by larger steps further away, never out of the image; and it is saved."""
    page = come_in(browser, served, "Kit")
    image = take(page, "annotate").split("/")[-1].split("?")[0]
    draw(page)
    drawn = box_of(page)
    page.keyboard.press("ArrowRight")
    step = box_of(page)[0] - drawn[0]
    assert step > 1, "the whole image of 2400 pixels is on the screen"
    page.keyboard.press("ArrowLeft")
    assert box_of(page) == drawn
    page.keyboard.press("p")
    page.wait_for_timeout(1000)  # until it is there
    for key, change in {
        "ArrowRight": (1, 0, 1, 0), "ArrowUp": (0, -1, 0, -1), "Control+ArrowLeft": (-10, 0, -10, 0),
        "Control+ArrowDown": (0, 10, 0, 10), "Shift+ArrowRight": (0, 0, 1, 0), "Shift+ArrowUp": (0, 0, 0, -1),
        "Control+Shift+ArrowDown": (0, 0, 0, 10),
    }.items():  # fmt: skip
        before = box_of(page)
        page.keyboard.press(key)
        assert [new - old for new, old in zip(box_of(page), before, strict=True)] == list(change), key
    left, top, right, bottom = box_of(page)
    assert page.inner_text("#share").startswith(f"{right - left} × {bottom - top} px")
    for _ in range(300):
        page.keyboard.press("Control+Shift+ArrowLeft")
        page.keyboard.press("Control+ArrowUp")
    assert box_of(page) == [left, 0, left + 1, bottom - top], "not out of the image, and no smaller than a pixel"
    page.fill("#question", "What?")
    page.keyboard.press("ArrowDown")
    assert box_of(page)[1] == 0, "the field's key"
    page.keyboard.press("Escape")
    page.focus("#picture .openseadragon-canvas")
    page.keyboard.press("ArrowDown")
    assert box_of(page)[1] == 0, "the image's key, where that has the focus"
    saved(page)
    kept = served.client("Kit").get(f"/api/annotation/images/{image}")["questions"][0]
    assert kept["box"] == box_of(page)
    page.click("#about")
    page.keyboard.press("?")
    assert "move the box by a pixel; with Shift resize it, with Ctrl by ten" in page.inner_text("#keys")
    assert page.messages == []
    page.close()


@pytest.mark.slow
def test_a_box_that_is_moved_step_by_step_wants_another_look(browser: Browser, served: Served) -> None:
    page = come_in(browser, served, "Kai")
    take(page, "annotate")
    draw(page)
    look(page)
    page.keyboard.press("ArrowRight")
    assert "look at the image as the model first sees it" not in page.inner_text("#faults")
    left, _, right, _ = box_of(page)
    while box_of(page)[0] <= right:
        page.keyboard.press("Control+ArrowRight")
    assert box_of(page)[0] > left
    assert "look at the image as the model first sees it" in page.inner_text("#faults")
    page.close()


@pytest.mark.slow
def test_options_are_built_and_plausible_ones_offered(browser: Browser, served: Served) -> None:
    """The right one is marked; offered ones are added by a click, and a removed one does not move the mark."""
    page = come_in(browser, served, "Bo")
    take(page, "annotate")
    choose(page, "answer_type", "choice")
    page.keyboard.press("4")
    page.fill("#question", "How many windows are lit?")
    page.fill('[aria-label="Option A"]', "nine")
    page.fill('[aria-label="Option B"]', "7")
    page.check('[aria-label="B is the right one"]')
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.locator(".offers button").first.wait_for()
    offered = page.locator(".offers button").first.inner_text()
    page.locator(".offers button").first.click()
    assert page.input_value('[aria-label="Option C"]') == offered != "7"
    page.click('[aria-label="Remove option A"]')
    assert page.input_value('[aria-label="Option A"]') == "7"
    assert page.is_checked('[aria-label="A is the right one"]')
    choose(page, "answer_type", "text")
    choose(page, "answer_type", "choice")
    assert page.input_value('[aria-label="Option B"]') == offered, "a slip of the mouse loses no options"
    assert page.is_checked('[aria-label="A is the right one"]')
    page.click('[data-choice="shuffle"]')
    saved(page)
    image = page.url.split("/")[-1].split("?")[0]
    stored = served.client("Bo").get(f"/api/annotation/images/{image}")["questions"][0]
    assert (stored["answer"], sorted(stored["choices"])) == ("7", sorted(["7", offered]))
    assert page.messages == []
    page.close()


def test_nothing_is_lost_with_a_closed_tab(browser: Browser, served: Served) -> None:
    """A tab is closed in the middle of a word; another tab of the browser shows it, and a saved draft stays one."""
    page = come_in(browser, served, "Cy")
    url = take(page, "annotate")
    page.fill("#question", "Half a sent")
    page.close(run_before_unload=False)
    again = page.context.new_page()
    again.goto(url)
    ready(again)
    assert again.input_value("#question") == "Half a sent"
    saved(again)
    again.fill("#question", "Half a sentence, and th")
    again.close()
    last = page.context.new_page()
    last.goto(url)
    ready(last)
    assert last.input_value("#question") == "Half a sentence, and th"
    saved(last)
    image = url.split("/")[-1].split("?")[0]
    kept = served.client("Cy").get(f"/api/annotation/images/{image}")["questions"]
    assert [one["question"] for one in kept] == ["Half a sentence, and th"], "one draft, not two"
    assert last.evaluate("Object.keys(localStorage).length") == 0, "what the server has is not kept besides"
    last.close()


@pytest.mark.slow
def test_a_save_whose_answer_is_lost_is_no_conflict(browser: Browser, served: Served) -> None:
    """What is sent arrives, its answer does not come back, and more is written: one question, and nobody is asked."""
    page = come_in(browser, served, "Wim")
    image = take(page, "annotate").split("/")[-1].split("?")[0]
    lost: list[str] = []

    def lose(route: Route) -> None:
        lost.append(route.request.method)
        route.fetch()
        page.evaluate("document.getElementById('question').value += ' more'")
        page.evaluate("document.getElementById('question').dispatchEvent(new Event('input', {bubbles: true}))")
        route.abort()

    for method in ("POST", "PUT"):
        page.route(re.compile(r"/questions(/\d+)?$"), lose, times=1)
        page.fill("#question", f"Before the {method}")
        until(page, "document.getElementById('question').value.endsWith(' more')")
        saved(page)
        assert not page.locator("#conflict").is_visible()
        kept = served.client("Wim").get(f"/api/annotation/images/{image}")["questions"]
        assert [one["question"] for one in kept] == [f"Before the {method} more"]
    assert lost == ["POST", "PUT"]
    page.close()


@pytest.mark.slow
def test_two_tabs_with_the_same_question(browser: Browser, served: Served) -> None:
    """The second to save is asked, and either text can be kept."""
    page = come_in(browser, served, "Di")
    url = take(page, "annotate")
    page.fill("#question", "First?")
    saved(page)
    other = page.context.new_page()
    other.goto(url)
    ready(other)
    other.fill("#question", "From the other tab?")
    saved(other)
    page.bring_to_front()
    page.fill("#question", "Mine?")
    page.locator("#conflict").wait_for()
    assert "From the other tab?" in page.inner_text("#theirs")
    page.click('#conflict [value="ours"]')
    saved(page)
    other.bring_to_front()
    other.fill("#answer", "late")
    other.locator("#conflict").wait_for()
    other.click('#conflict [value="theirs"]')
    saved(other)
    assert other.input_value("#question") == "Mine?"
    page.close()
    other.close()


@pytest.mark.slow
def test_a_second_person_sees_neither_answer_nor_box(browser: Browser, served: Served) -> None:
    """They answer; where that is another answer an adjudicator decides, who sees both; then an expert accepts."""
    asked = written(served.client("Eva"), question="What is on the door?", answer="KX8")
    second = come_in(browser, served, "Fe", roles=("second",))
    address = f"{served.url}/annotate/questions/{asked['id']}"
    second.goto(f"{address}?queue=second")
    ready(second)
    assert second.inner_text("#question") == "What is on the door?"
    assert "KX8" not in second.content()
    assert second.locator(".a9s-annotationlayer rect").count() == 0
    assert not second.locator("#first").is_visible()
    second.keyboard.press("a")
    second.keyboard.type("KX9")
    second.reload()
    ready(second)
    assert second.input_value("#answer") == "KX9", "an answer that is not sent yet is there again"
    choose(second, "category", "ocr")
    second.keyboard.press("Control+Enter")
    second.wait_for_url(lambda url: not url.startswith(address))

    lead = come_in(browser, served, "Gil", lead=True)
    lead.goto(f"{address}?queue=adjudicate")
    ready(lead)
    seen = lead.inner_text(".panel")
    assert "KX8" in seen
    assert "KX9" in seen
    assert "not the author's answer" in seen
    lead.click("#answers button:has-text('KX9')")
    lead.keyboard.press("Escape")
    lead.click("[data-act=accept]")
    lead.wait_for_url(lambda url: not url.startswith(address))
    expert = come_in(browser, served, "Hal", roles=("expert",))
    expert.goto(f"{address}?queue=expert")
    ready(expert)
    assert "KX9" in expert.inner_text("#facts")
    expert.keyboard.press("r")
    expert.keyboard.press("1")
    expert.keyboard.press("Escape")
    expert.keyboard.press("a")
    expert.wait_for_url(lambda url: not url.startswith(address))
    stored = served.client("Eva").get(f"/api/annotation/questions/{asked['id']}")
    assert (stored["state"], stored["answer"]) == ("accepted", "KX9")
    assert f"/annotate/questions/{asked['id']}?" in pressed(expert, "u"), "the verdict is taken back"
    for page in (second, lead, expert):
        assert page.messages == []
        page.close()


@pytest.mark.slow
def test_an_answer_that_comes_too_late_is_not_called_kept(browser: Browser, served: Served) -> None:
    """The network is away, and somebody else answers meanwhile: the page says so, and keeps what was written."""
    asked = written(served.client("Eva"), question="What is above the door?", answer="a lamp")
    second = come_in(browser, served, "Flo", roles=("second",))
    second.goto(f"{served.url}/annotate/questions/{asked['id']}?queue=second")
    ready(second)
    second.fill("#answer", "a bell")
    choose(second, "category", "ocr")
    second.context.set_offline(True)
    second.keyboard.press("Control+Enter")
    until(second, "document.getElementById('kept').textContent.includes('The server is away')")
    served.client("Flo").send("DELETE", f"/api/annotation/questions/{asked['id']}/lease")
    assert answered(served.client("Ian"), asked["id"], "a lamp")["agrees"]
    second.context.set_offline(False)
    until(second, "document.getElementById('problem').textContent.includes('nothing of this kind is asked of you')")
    assert second.input_value("#answer") == "a bell"
    assert second.evaluate("Object.keys(localStorage).some((key) => key.startsWith('answer:'))")
    second.close()


@pytest.mark.slow
def test_what_comes_back_says_why(browser: Browser, served: Served) -> None:
    """An adjudicator sends a question back; its author finds the reason, mends it and submits it again."""
    author = come_in(browser, served, "Ida", roles=("annotate",))
    asked = written(served.client("Ida"), question="Which colour?", answer="red")
    answered(served.client("Jo"), asked["id"], "blue", "attribute")
    lead = served.client("Kim", lead=True)
    assert judged(lead, asked["id"], "return", reason="ambiguous", note="There are two doors.") == "draft"
    author.reload()
    author.wait_for_selector('[data-queue="returned"] button:not(:disabled)')
    take(author, "returned")
    assert "There are two doors" in author.inner_text("#returned")
    author.fill("#question", "Which colour has the left door?")
    author.keyboard.press("Control+Enter")
    until(author, "document.querySelector('.tab .state').textContent === 'submitted'")
    author.close()


@pytest.mark.slow
def test_lists_gold_and_figures(browser: Browser, served: Served) -> None:
    """A lead makes an accepted question measure people; the figures count it; hostile text stays text everywhere."""
    asked = written(served.client("Lu"), question=HOSTILE, answer=HOSTILE[:100], category="object")
    assert answered(served.client("Mo"), asked["id"], HOSTILE[:100], "object")["agrees"]
    assert judged(served.client("Ned", lead=True), asked["id"]) == "accepted"
    lead = come_in(browser, served, "Oz", lead=True, bypass_csp=True)
    lead.goto(f"{served.url}/annotate/questions?state=accepted&category=object")
    lead.wait_for_selector("main[data-ready]")
    assert lead.locator("#list li").count() == 1
    assert HOSTILE in lead.inner_text("#list")
    lead.get_by_text("Make gold").click()
    lead.get_by_text("Gold no more").wait_for()
    assert served.client("Oz").get("/api/annotation/questions", gold="true")["total"] == 1
    lead.click("#list a")
    ready(lead)
    assert lead.inner_text("#question") == HOSTILE
    lead.goto(f"{served.url}/annotate/progress")
    lead.wait_for_selector("main[data-ready]")
    assert "Lu" in lead.inner_text("#people")
    assert lead.locator("#days tr").count() >= 3
    assert "Answers agreed at first sight" in lead.inner_text("#agreement")
    assert lead.evaluate("window.owned") is None
    assert lead.messages == []
    lead.close()


@pytest.mark.slow
def test_a_lead_says_who_does_what(browser: Browser, served: Served) -> None:
    """A link for an expert only; who is made one more thing finds its queue."""
    lead = come_in(browser, served, "Ulf", lead=True)
    lead.goto(f"{served.url}/people")
    lead.fill("#name", "Vera")
    for role in ("annotate", "second"):
        lead.uncheck(f'#roles [value="{role}"]')
    lead.check('#roles [value="expert"]')
    lead.click("#invite [type=submit]")
    lead.wait_for_selector("#links .acts")
    vera = open_tab(browser, lead.input_value("#link"))
    vera.click("#join [type=submit]")
    vera.wait_for_selector("[data-queue]:not([hidden])")
    assert vera.locator("[data-queue]:not([hidden])").evaluate_all("all => all.map(one => one.dataset.queue)") == [
        "expert"
    ]
    lead.reload()
    row = lead.locator("#people li", has_text="Vera")
    row.get_by_text("answer", exact=True).click()
    row.locator("[aria-pressed=true]", has_text="answer").wait_for()
    vera.reload()
    vera.wait_for_selector('[data-queue="second"]:not([hidden])')
    lead.close()
    vera.close()


@pytest.mark.slow
def test_help_names_every_key_that_works(browser: Browser, served: Served) -> None:
    """The overlay opens by ? and closes by Esc; while it is open, keys do nothing else."""
    page = come_in(browser, served, "Pia")
    take(page, "annotate")
    page.keyboard.press("?")
    assert "draw a box" in page.inner_text("#keys")
    page.keyboard.press("b")
    page.keyboard.press("Escape")
    assert not page.locator("#keys").is_visible()
    assert page.locator(".canvas.drawing").count() == 0
    page.keyboard.press("x")
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    page.wait_for_load_state()
    ready(page)
    assert page.messages == []
    page.close()


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), pytest.param(1400, "light", marks=pytest.mark.slow)])
def test_looks(browser: Browser, served: Served, width: int, scheme: str) -> None:
    """Nothing is wider than the page, and every text can be read; on phones, too."""
    who = f"Quin {width}"
    page = come_in(browser, served, who, lead=True, width=width, scheme=scheme)
    image = take(page, "annotate")
    asked = written(served.client(f"Rob {width}"), question="What?", answer="this")
    answered(served.client(f"Sue {width}"), asked["id"], "that")
    for url in ("/annotate", image, f"/annotate/questions/{asked['id']}", "/annotate/questions", "/annotate/progress"):
        page.goto(url if "://" in url else served.url + url)
        page.wait_for_selector("main[data-ready], [data-queue]:not([hidden])")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, url
        assert is_dark(page) == (scheme == "dark")
        assert {name: ratio for name, ratio in contrasts(page).items() if ratio < 4.5} == {}, url
    assert page.messages == []
    page.close()


def test_strangers_see_no_page(browser: Browser, served: Served) -> None:
    page = open_tab(browser, f"{served.url}/annotate/images/1")
    assert "Not signed in" in page.inner_text("main")
    assert page.locator("#picture").count() == 0
    page.close()


def test_annotorious_is_what_was_built() -> None:
    """The files are those whose sums stand beside them; nothing in them makes code out of text."""
    folder = files("thyme.studio.ui").joinpath("static/annotorious")
    noted = folder.joinpath("README.md").read_text(encoding="utf-8")
    for name in ("annotorious.min.js", "annotorious.css"):
        assert hashlib.sha256(folder.joinpath(name).read_bytes()).hexdigest() in noted
    code = folder.joinpath("annotorious.min.js").read_text(encoding="utf-8")
    assert "new Function" not in code
    assert "webgl" not in code
    assert "Redistribution and use in source and binary forms" in folder.joinpath("LICENSE.txt").read_text()
    assert "svelte" in folder.joinpath("NOTICES.txt").read_text()


def test_fields_of_the_tests_are_those_of_the_pages() -> None:
    """What a draft sends is what the server reads."""
    code = files("thyme.studio.ui").joinpath("static/annotate/draft.js").read_text(encoding="utf-8")
    declared = code.split("const EMPTY = {")[1].split("};")[0]
    assert {part.split(":")[0].strip() for part in declared.split(",") if ":" in part} == set(FIELDS)
