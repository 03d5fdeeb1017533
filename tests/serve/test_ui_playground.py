"""The playground in a real browser: what a person does with it, and what it says when something fails."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from chromium import contrasts, needs_browser, open_tab
from ui_playground import ask, drop, finished
from ui_server import SCRIPT, Served, Unhurried, png, serving
from waiting import wait_until

from thyme.config import EngineConfig, RolloutConfig
from thyme.config.serve import ServeConfig
from thyme.engines.scripted import ScriptedEngine
from thyme.nano.world import problem
from thyme.view.pictures import original

if TYPE_CHECKING:
    from playwright.sync_api import APIResponse, Browser, Page, Route

pytestmark = needs_browser
KEY = "a-key-of-thirty-two-characters-1"


@pytest.fixture(scope="module")
def nano() -> Iterator[Served]:
    from thyme.models import open_model

    with serving(lambda: open_model("nano", EngineConfig(model="nano")), ServeConfig(ui=True)) as served:
        yield served


def natural_width(page: Page, selector: str) -> int:
    """Width of an image once its pixels are there."""
    decoded = "async i => { i.loading = 'eager'; await i.decode(); return i.naturalWidth; }"
    width: int = page.locator(selector).evaluate(decoded)
    return width


WATCH = """() => { window.seen = []; const note = what => { if (seen.at(-1) !== what) seen.push(what); };
new MutationObserver(changes => { for (const change of changes) for (const node of change.addedNodes) {
  const row = node.nodeType === 1 ? node.closest('.step') : node.parentElement && node.parentElement.closest('.step');
  if (row) note(row.classList[1] + (node.nodeType === 3 || node.tagName === 'SPAN' ? ' text' : ''));
} }).observe(document.getElementById('result'), {childList: true, subtree: true}); }"""


# --- the main way -----------------------------------------------------------------------------------------------------


def test_a_question_to_the_embedded_model(browser: Browser, nano: Served) -> None:
    """Drop a scene, ask, and see thought, code, crop and the right answer arrive in this order, piece by piece."""
    asked = problem("test", 5, 0, "zoom")
    page = open_tab(browser, nano.url)
    drop(page, ("scene.png", original(asked.images[0]).data))
    page.evaluate(WATCH)
    ask(page, asked.question)
    finished(page)
    assert page.locator(".answer strong").inner_text() == asked.answer
    rows = page.locator(".steps > .step").evaluate_all("rows => rows.map(row => row.classList[1])")
    assert rows == ["thought", "code", "output", "made", "thought", "answer"]
    seen = page.evaluate("window.seen")
    assert "thought text" in seen
    assert "code text" in seen
    order = [seen.index(what) for what in ("thought", "code", "code text", "made", "answer")]
    assert order == sorted(order), "nothing came before what caused it"
    assert page.locator(".code .kn").first.inner_text() == "from"
    assert natural_width(page, ".made img") == 192
    assert page.locator("#recent li").inner_text().split("\n")[0].startswith(asked.question)
    assert page.locator("h2[tabindex]").evaluate("h => h === document.activeElement")
    assert page.messages == []
    assert {url.partition("//")[2].partition("/")[0] for url in page.requests if url.startswith("http")} == {
        nano.url.partition("//")[2]
    }
    page.close()


def test_an_answer_about_earlier_questions_that_comes_late_counts_no_more(browser: Browser, scripted: Served) -> None:
    """The list was asked for when the question began and when it was done; the first answer comes last."""
    page = open_tab(browser, scripted.url)
    held: list[tuple[Route, APIResponse]] = []
    came: list[str] = []

    def late(route: Route) -> None:
        reply = route.fetch()
        if "running" in reply.text():
            held.append((route, reply))
            return
        route.fulfill(response=reply)
        for before, old in held:
            before.fulfill(response=old)
            came.append(old.text())

    page.route("**/ui/recent", late)
    drop(page, ("a.png", png()))
    ask(page, "What does the sign say?")
    finished(page)
    while not came:
        page.wait_for_timeout(25)
    page.wait_for_timeout(200)
    assert "running" in came[0]
    assert page.locator("#recent .kind").first.inner_text() == "done"
    page.close()


def test_an_example_is_drawn_and_other_pictures_are_warned_of(browser: Browser, nano: Served) -> None:
    page = open_tab(browser, nano.url)
    page.click("#example")
    page.wait_for_selector("#picked img")
    assert page.input_value("#words")
    page.click("#picked button")
    assert page.locator("#picked li").count() == 0
    drop(page, ("sea.png", png()))
    ask(page, "What does the red plate say?")
    page.wait_for_selector(".remark")
    assert "sea.png is no picture of nano's world" in page.locator("#question .remark").first.inner_text()
    page.close()


def test_what_was_streamed_is_what_a_reload_shows(browser: Browser, scripted: Served) -> None:
    page = open_tab(browser, scripted.url)
    drop(page, ("sign.png", png()))
    ask(page, "What does the sign say?")
    finished(page)
    streamed = page.locator(".steps").inner_text()
    assert "boundary" in streamed, "the crop leaves the image, and the repair is told"
    page.reload()
    finished(page)
    assert page.locator(".steps").inner_text() == streamed
    page.close()


def test_images_zoom_by_keyboard(browser: Browser, scripted: Served) -> None:
    """Enter opens, Enter toggles original pixels, Escape closes and gives the focus back."""
    page = open_tab(browser, scripted.url)
    drop(page, ("sign.png", png()))
    ask(page, "What does the sign say?")
    finished(page)
    page.focus(".made a.zoom")
    page.keyboard.press("Enter")
    image = page.locator("#zoom img")
    image.wait_for()
    page.wait_for_function("document.querySelector('#zoom img').naturalWidth > 0")
    assert page.locator("#zoom").evaluate("d => d.matches(':modal')")
    natural = image.evaluate("i => i.naturalWidth")
    fitted = image.evaluate("i => i.width")
    assert fitted <= 1100
    page.keyboard.press("Enter")
    assert page.locator("#zoom-pixels").get_attribute("aria-pressed") == "true"
    assert image.evaluate("i => i.width") == natural
    page.keyboard.press("Escape")
    assert not page.locator("#zoom").is_visible()
    assert page.evaluate("document.activeElement.matches('.made a.zoom')")
    page.click(".scene a.zoom")
    assert page.locator("#zoom").is_visible()
    page.click("#zoom-close")
    page.close()


def test_the_saved_file_stands_alone(browser: Browser, scripted: Served, tmp_path: Path) -> None:
    page = open_tab(browser, scripted.url)
    drop(page, ("sign.png", png()))
    ask(page, "What does the sign say?")
    finished(page)
    saved = {}
    for link in page.locator(".share a").all():
        with page.expect_download() as download:
            link.click()
        saved[download.value.suggested_filename.rpartition(".")[2]] = tmp_path / download.value.suggested_filename
        download.value.save_as(tmp_path / download.value.suggested_filename)
    page.close()
    alone = open_tab(browser, saved["html"].as_uri())
    assert alone.locator(".answer strong").inner_text() == "KX 47"
    assert alone.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert [url for url in alone.requests if not url.startswith(("file:", "data:"))] == []
    assert alone.messages == []
    alone.close()
    record = json.loads(saved["json"].read_text())
    assert record["trajectory"]["stop"] == "answer"
    wanted = {image["id"] for image in record["trajectory"]["problem"]["images"]}
    assert wanted < set(record["images"])


# --- stopping and failing ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("question", "sessions"), [("slowly", 0), ("sleeping", 1)])
def test_stop_frees_the_sandbox(browser: Browser, scripted: Served, question: str, sessions: int) -> None:
    assert scripted.sandbox is not None
    opened = scripted.sandbox.opened
    page = open_tab(browser, scripted.url)
    ask(page, question)
    page.wait_for_selector(".thought")
    if sessions:
        wait_until(lambda: scripted.sandbox.open == 1)
        page.wait_for_selector(".state:has-text('running code block 1')")
    assert page.locator(".share").is_hidden()
    page.click("[data-do=stop]")
    page.wait_for_selector(".now.over")
    assert "you stopped it" in page.locator(".steps").inner_text()
    assert scripted.sandbox.open == 0
    assert scripted.sandbox.opened == opened + sessions
    assert scripted.engine.running == 0
    assert page.locator("#submit").is_enabled()
    with page.expect_download() as download:
        page.click(".share a")
    assert "it was cancelled" in download.value.path().read_text(), "what there is can be saved"
    page.close()


def test_leaving_the_page_ends_the_question(browser: Browser) -> None:
    from fastapi import FastAPI

    from thyme.serve.runtime import AgentRuntime
    from thyme.serve.ui.playground import router
    from thyme.serve.ui.questions import Bounds

    def make_app(engine: ScriptedEngine, sandbox: object, config: ServeConfig) -> FastAPI:
        app = FastAPI(openapi_url=None)
        app.include_router(router(AgentRuntime(engine, sandbox, config), Bounds(unwatched_s=0.2)))
        return app

    make_engine = lambda: Unhurried(SCRIPT)  # noqa: E731 - an argument with a name
    with serving(make_engine, ServeConfig(ui=True, keep_alive_s=0.2), make_app=make_app) as served:
        page = open_tab(browser, served.url)
        ask(page, "slowly")
        page.wait_for_selector(".thought")
        assert served.engine.running == 1
        page.close()
        wait_until(lambda: served.engine.running == 0, 8)


UNFIT = {
    "notes.png": (b"just words", "notes.png is not an image that can be read"),
    "cut.png": (png()[:200], "cut.png is damaged or cut off"),
    "huge.png": (png(2000, 2000), "huge.png has 2000 x 2000 = 4,000,000 pixels, more than the limit of 1,000,000"),
    "heavy.png": (b"\0" * 1_600_000, "The images are too large: 2 MB, and this server takes 2 MB a question"),
}


def test_unfit_images_are_told_in_plain_words(browser: Browser, scripted: Served) -> None:
    page = open_tab(browser, scripted.url)
    for name, (data, told) in UNFIT.items():
        drop(page, (name, data))
        assert page.locator("#problem").is_hidden(), "what was told before is gone with the new image"
        ask(page, "What does the sign say?")
        page.wait_for_selector("#problem:not([hidden])")
        assert told in page.locator("#problem").inner_text()
        assert "--max-pixels" not in page.locator("#problem").inner_text()
        assert page.locator("#question").count() == 0
        assert page.locator("#submit").is_enabled()
        page.click("#picked button")
    page.close()


def test_too_many_images_are_left_out(browser: Browser, scripted: Served) -> None:
    page = open_tab(browser, scripted.url)
    drop(page, *((f"{index}.png", png()) for index in range(4)))
    assert page.locator("#picked li").count() == 3
    assert "3.png was left out" in page.locator("#problem").inner_text()
    page.close()


def test_a_question_is_needed(browser: Browser, scripted: Served) -> None:
    page = open_tab(browser, scripted.url)
    page.click("#submit")
    assert page.locator("#problem").inner_text() == "Write a question first."
    assert page.evaluate("document.activeElement.id") == "words"
    page.close()


def test_a_failing_engine_is_told(browser: Browser, scripted: Served) -> None:
    """What came before stays, the reason follows, and the trajectory can still be saved."""
    page = open_tab(browser, scripted.url)
    drop(page, ("sign.png", png()))
    ask(page, "exhausted")
    finished(page)
    assert page.locator(".made img").count() == 1
    assert "it could not go on" in page.locator(".steps > .error").last.inner_text()
    assert page.locator(".state").inner_text().strip() == "failed"
    page.reload()
    finished(page)
    before = page.url
    page.click("[data-do=again]")
    page.wait_for_url(lambda url: url != before)
    finished(page)
    assert page.locator("#picked li").count() == 1, "the image is asked about again, though the form was empty"
    page.close()


def test_a_full_queue_is_told_and_can_be_asked_again(browser: Browser, scripted: Served) -> None:
    tabs = [open_tab(browser, scripted.url) for _ in range(3)]
    for page in tabs[:2]:
        ask(page, "slowly")
        page.wait_for_selector(".thought")
    ask(tabs[2], "What does the sign say?")
    tabs[2].wait_for_selector("#problem:not([hidden])")
    assert "all 2 places are taken" in tabs[2].locator("#problem").inner_text()
    for page in tabs[:2]:
        page.bring_to_front()  # a tab behind others draws no frames, and a click waits for some
        page.click("[data-do=stop]")
        page.wait_for_selector(".now.over")
    tabs[2].bring_to_front()
    tabs[2].click("#submit")
    finished(tabs[2])
    for page in tabs:
        page.close()


def test_a_lost_connection_is_taken_up_again(browser: Browser, scripted: Served) -> None:
    """The stream breaks in the middle; the page goes on where it was, and nothing is there twice."""
    page = open_tab(browser, scripted.url)
    drop(page, ("sign.png", png()))
    cut = []

    def first_is_cut(route: object) -> None:
        if not cut:
            cut.append(route.request.url)
            route.abort("connectionreset")
        else:
            route.continue_()

    page.route("**/events*", first_is_cut)
    ask(page, "What does the sign say?")
    finished(page)
    assert cut
    assert page.locator(".steps > .answer").count() == 1
    page.close()


def test_a_server_that_is_gone_is_told(browser: Browser) -> None:
    with serving(lambda: Unhurried(SCRIPT), ServeConfig(ui=True)) as served:
        page = open_tab(browser, served.url)
        ask(page, "slowly")
        page.wait_for_selector(".thought")
        served.stop()
        page.wait_for_function("/connection lost|shuts down/.test(document.querySelector('#question').innerText)")
        page.fill("#words", "again?")
        page.evaluate("document.getElementById('submit').disabled = false")
        page.click("#submit")
        page.wait_for_selector("#problem:not([hidden])")
        assert "cannot be reached" in page.locator("#problem").inner_text()
        page.close()


# --- other ways in ----------------------------------------------------------------------------------------------------


def test_everything_by_keyboard_alone(browser: Browser, scripted: Served, tmp_path: Path) -> None:
    """Tab: skip link, name, images, question, button, settings; a key opens the picker; Shift + Enter is a line."""
    (tmp_path / "sign.png").write_bytes(png())
    page = open_tab(browser, scripted.url)
    page.on("filechooser", lambda _: None)  # Chromium is told long before the key
    reached = []
    for _ in range(6):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
        outlined = "e => getComputedStyle(e.id === 'files' ? e.parentElement : e).outlineStyle"
        assert page.locator(":focus").evaluate(outlined) != "none"
    assert reached == ["A", "A", "files", "words", "submit", "SUMMARY"]
    page.focus("#files")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files([tmp_path / "sign.png", tmp_path / "sign.png"])
    assert page.locator("#picked li").count() == 2
    assert page.evaluate("document.activeElement.id") == "words"
    page.keyboard.type("What does the sign say?")
    page.keyboard.press("Shift+Enter")
    assert page.locator("#question").count() == 0
    page.keyboard.press("Enter")
    finished(page)
    assert page.locator(".scene a.zoom").count() >= 2
    page.close()


def test_an_image_is_pasted(browser: Browser, scripted: Served) -> None:
    page = open_tab(browser, scripted.url)
    page.evaluate(
        """data => { const transfer = new DataTransfer();
        const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0));
        transfer.items.add(new File([bytes], 'clip.png', {type: 'image/png'}));
        document.getElementById('words').dispatchEvent(
          new ClipboardEvent('paste', {clipboardData: transfer, bubbles: true, cancelable: true})); }""",
        base64.b64encode(png()).decode(),
    )
    page.wait_for_selector("#picked img")
    assert page.locator("#picked .name").inner_text() == "clip.png"
    page.close()


def test_settings_reach_the_rollout(browser: Browser, scripted: Served) -> None:
    page = open_tab(browser, scripted.url)
    page.click(".settings summary")
    page.uncheck("[name=tools]")
    page.fill("[name=text_temperature]", "0.7")
    page.fill("[name=max_rounds]", "2")
    page.fill("[name=seed]", "11")
    ask(page, "slowly")
    page.wait_for_selector(".thought")
    request = scripted.engine.requests[-1]
    assert request.blocked == ("<code>",)
    assert request.temperature == 0.7
    page.click("[data-do=stop]")
    page.wait_for_selector(".now.over")
    page.fill("[name=max_rounds]", str(RolloutConfig().max_rounds + 1))
    page.click("#submit")
    assert page.evaluate("document.querySelector('[name=max_rounds]').validity.rangeOverflow")
    page.close()


def test_the_api_key_is_asked_once(browser: Browser) -> None:
    config = ServeConfig(ui=True, api_keys=(KEY,))
    with serving(lambda: ScriptedEngine(SCRIPT), config) as served:
        page = open_tab(browser, served.url)
        page.fill("#key", "wrong-" + KEY)
        page.keyboard.press("Enter")
        page.wait_for_selector("#wrong")
        assert "not a key of this server" in page.locator("#wrong").inner_text()
        assert min(contrasts(page).values()) >= 4.5
        page.fill("#key", KEY)
        page.keyboard.press("Enter")
        page.wait_for_selector("#words")
        (cookie,) = page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        assert KEY not in json.dumps(cookie)
        page.reload()
        drop(page, ("sign.png", png()))
        ask(page, "What does the sign say?")
        finished(page)
        assert natural_width(page, ".made img") > 0
        page.close()
