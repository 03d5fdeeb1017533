"""The page shows everything in order, holds everything it needs, and nothing that was written into it can act."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import sample_records as samples
from chromium import contrasts, is_dark, needs_browser, open_tab
from PIL import Image

from thyme.types import Generated, ImageRecord, Score, StopReason, Trajectory
from thyme.view.html import render_page
from thyme.view.pictures import MAX_SIDE, as_seen, picture

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ATTACK = (
    "<script>window.owned = 1</script><img src=x onerror='window.owned = 1'>\"'></textarea></pre>&lt;b&gt;{{ 7*7 }}"
)


# --- without a browser ------------------------------------------------------------------------------------------------


def test_the_page_is_one_file() -> None:
    page = render_page([samples.trajectory()], "Title")
    assert page.startswith("<!DOCTYPE html>")
    links = re.findall(r"(?:src|href)=\"([^\"]*)\"", page)
    assert links
    assert all(link.startswith(("data:image/", "#")) for link in links)
    assert "@import" not in page
    assert "url(" not in page
    assert "<script" not in page


def test_images_are_the_originals_where_a_browser_reads_them() -> None:
    buffer = io.BytesIO()
    samples.picture().save(buffer, "JPEG")
    with Image.open(io.BytesIO(buffer.getvalue())) as decoded:
        record = ImageRecord.of(decoded.convert("RGB"), format="JPEG", encoded=buffer.getvalue())
    assert picture(record, "alt").source == "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def shown_image(source: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))


def test_very_large_images_are_reduced_and_say_so() -> None:
    shown = picture(ImageRecord.of(Image.new("RGB", (4000, 1000), "red"), name="wide.png"), "alt")
    assert shown.caption == "wide.png · 4000 × 1000 px · reduced to 1600 × 400 on this page"
    assert shown_image(shown.source).size == (MAX_SIDE, 400) == (shown.width, shown.height)
    exact = picture(ImageRecord.of(Image.new("RGB", (MAX_SIDE, 10), "red")), "alt")
    assert exact.caption == "1600 × 10 px"


def test_tiny_images_are_enlarged_and_say_so() -> None:
    shown = picture(ImageRecord.of(Image.new("RGB", (40, 16), "red")), "alt")
    assert (shown.width, shown.height, shown.enlarged) == (160, 64, True)
    assert shown.caption.endswith("enlarged 4 times on this page")
    assert shown_image(shown.source).size == (40, 16)


def test_what_the_model_sees_is_shown_where_it_is_much_less() -> None:
    record = samples.scene()
    small = as_seen(record, (80, 50), "alt")
    assert small is not None
    assert shown_image(small.source).size == (80, 50)
    assert small.caption == "80 × 50 px · as the model first sees it · enlarged 3 times on this page"
    assert as_seen(record, (600, 375), "alt") is None
    assert as_seen(record.model_validate_json(record.model_dump_json()), (80, 50), "alt") is None


@pytest.mark.parametrize("mode", ["CMYK", "I;16", "F", "LAB", "1", "RGBA"])
def test_modes_that_browsers_do_not_know_are_shown(mode: str) -> None:
    image = samples.picture()
    if mode in {"I;16", "F"}:
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16 if mode == "I;16" else np.float32))
    else:
        image = image.convert(mode)
    assert shown_image(picture(ImageRecord.of(image), "alt").source).size == image.size


def test_a_record_without_its_pixels_is_shown_without_a_picture() -> None:
    record = ImageRecord(id="0", width=10, height=20, mode="RGB", name="far.png")
    bare = samples.trajectory(executions=())
    problem = bare.problem.model_copy(update={"images": (record,)})
    page = render_page([bare.model_copy(update={"problem": problem})], "Title")
    assert "pixels not loaded" in page


def test_one_score_for_each_trajectory() -> None:
    with pytest.raises(ValueError, match="zip"):
        render_page([samples.trajectory()], "Title", scores=[None, None])


@pytest.mark.parametrize(
    ("stop", "score", "verdict"),
    [
        (StopReason.ANSWER, Score(value=1.0), "right"),
        (StopReason.ANSWER, Score(value=0.0), "wrong"),
        (StopReason.ANSWER, Score(value=None), None),
        (StopReason.ANSWER, None, None),
        (StopReason.ERROR, Score(value=None), "failed"),
    ],
)
def test_verdict(stop: StopReason, score: Score | None, verdict: str | None) -> None:
    """Not scored is not wrong."""
    page = render_page([samples.trajectory(stop=stop)], "Title", scores=[score])
    shown = set(re.findall(r'class="verdict (\w+)"', page))
    assert shown == ({verdict} if verdict and stop is StopReason.ANSWER else set())
    assert ("1 failed" in page) == (verdict == "failed")


def test_no_trajectories_make_an_empty_page() -> None:
    assert "0 trajectories" in render_page([], "Title")


# --- in Chromium ------------------------------------------------------------------------------------------------------


def attacked() -> Trajectory:
    """Every text field that a stranger may fill holds HTML."""
    execution = samples.good_execution(f"x = '''{ATTACK}'''")
    failed = samples.failed_execution()
    assert failed.error is not None
    repair = execution.repairs[0].model_copy(update={"note": ATTACK, "name": ATTACK})
    image = ImageRecord.of(samples.picture(), name=ATTACK)
    executions = (
        execution.model_copy(update={"stdout": ATTACK, "ran": ATTACK, "repairs": (repair,), "images": (image,)}),
        failed.model_copy(update={"error": failed.error.model_copy(update={"type": ATTACK, "message": ATTACK})}),
    )
    plain = samples.trajectory(
        id=ATTACK, question=ATTACK, thought=ATTACK, answer=ATTACK, kind=ATTACK, reference=ATTACK, executions=executions
    )
    prompt = plain.prompt.model_copy(update={"system": ATTACK, "user": ATTACK})
    problem = plain.problem.model_copy(update={"choices": (ATTACK,)})
    return plain.model_copy(update={"prompt": prompt, "problem": problem, "model": ATTACK})


def open_page(browser: Browser, folder: Path, html: str, *, width: int = 1200, scheme: str = "light") -> Page:
    """Open a page from a file, in a tab that records every request and every message of the console."""
    (folder / "page.html").write_text(html, encoding="utf-8")
    return open_tab(browser, (folder / "page.html").as_uri(), width=width, scheme=scheme)


def demo_trajectories() -> list[Trajectory]:
    return [
        samples.trajectory(executions=(samples.failed_execution(), samples.good_execution())),
        samples.trajectory(executions=(), tools=False, answer="KX 41"),
        samples.trajectory(id="other", question="And the second sign?", stop=StopReason.MAX_ROUNDS),
    ]


@needs_browser
def test_order_on_the_page(browser: Browser, tmp_path: Path) -> None:
    """Question, scene, reasoning, code, repairs, output, new image, answer; then the facts; all of it visible."""
    scores = [Score(value=1.0), Score(value=0.0), Score(value=0.0)]
    page = open_page(browser, tmp_path, render_page(demo_trajectories(), "Signs", scores=scores))
    assert page.title() == "Signs"
    shown = page.locator("main").inner_text()
    places = [
        shown.index(part)
        for part in (
            "What does the sign say?", "street.png · 640 × 400 px · seen by the model at 280 × 168", "with code",
            "The sign on the right", "print(imgae.size)", "NameError", "crop = image.crop", "boundary",
            "sign.png (200, 90)", "sign.png · 200 × 90 px", "Now I can read it.", "KX 47", "code blocked", "KX 41",
            "reference: KX 47",
            "And the second sign?", "the model wanted to run code once more than allowed",
        )
    ]  # fmt: skip
    assert places == sorted(places)
    assert "<code>" not in shown
    assert page.locator("section.case").count() == 2, "attempts at one problem share its scene"
    assert page.locator("article.attempt").count() == 3
    page.locator("article.attempt").first.locator("details.facts > summary").click()
    facts = page.locator("details.facts[open]").inner_text()
    for fact in (
        "nano",
        "greedy",
        "120 prompt, 88 generated, 40 observed",
        "1.6 (1.5 model, 0.1 sandbox)",
        "namespaces",
    ):
        assert fact in facts
    assert page.messages == []
    assert [url for url in page.requests if not url.startswith(("file:", "data:"))] == []
    page.close()


@needs_browser
def test_every_image_is_decoded_and_described(browser: Browser, tmp_path: Path) -> None:
    page = open_page(browser, tmp_path, render_page(demo_trajectories(), "Signs"))
    images = page.evaluate("[...document.images].map(i => [i.complete && i.naturalWidth > 0, i.alt])")
    assert [done for done, _ in images] == [True] * 6
    assert [alt for _, alt in images] == [
        "Input image 1, 640 by 400 pixels",
        "Input image 1 as the model first sees it, 280 by 168 pixels",
        "Image made by code block 2, 200 by 90 pixels",
        "Input image 1, 640 by 400 pixels",
        "Input image 1 as the model first sees it, 280 by 168 pixels",
        "Image made by code block 1, 200 by 90 pixels",
    ]
    page.close()


@needs_browser
def test_nothing_that_was_written_acts(browser: Browser, tmp_path: Path) -> None:
    """No script runs, no element appears, no template is filled in; the text is shown as it is. The page's own policy
    is taken out first, so that escaping alone has to hold."""
    html = render_page([attacked()], ATTACK, intro=ATTACK, scores=[Score(value=0.0)])
    without_policy = re.sub(r"<meta http-equiv=.*?>\n", "", html, count=1)
    assert without_policy != html
    page = open_page(browser, tmp_path, without_policy)
    page.wait_for_timeout(100)
    assert page.evaluate("window.owned") is None
    assert page.locator("script, img[src='x'], textarea").count() == 0
    for details in page.locator("details.facts > summary, .code details > summary").all():
        details.click()
    shown = page.locator("body").inner_text()
    assert shown.count(ATTACK) >= 14
    page.close()


@needs_browser
def test_the_policy_forbids_scripts(browser: Browser, tmp_path: Path) -> None:
    html = render_page([samples.trajectory()], "Title").replace("<main", "<script>window.owned = 1</script><main", 1)
    page = open_page(browser, tmp_path, html)
    assert page.evaluate("window.owned") is None
    assert "Content Security Policy" in "".join(page.messages)
    page.close()


@needs_browser
@pytest.mark.parametrize("width", [320, 390, 1200])
def test_no_sideways_scrolling(browser: Browser, tmp_path: Path, width: int) -> None:
    wide = samples.trajectory(
        question="W" * 300, thought="x" * 500, executions=(samples.good_execution(f"value = '{'y' * 400}'"),)
    )
    page = open_page(browser, tmp_path, render_page([wide, attacked()], "T" * 200), width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_contrast_in_both_schemes(browser: Browser, tmp_path: Path, scheme: str) -> None:
    """At least 4.5 : 1 (WCAG 2.2 AA), code colours included; and the scheme really differs."""
    code = "import math  # a comment\n\n\ndef f(x: int) -> str:\n    return 'text' if x > 1.5 else None\n"
    scores = [Score(value=1.0), Score(value=0.0), None]
    trajectories = [samples.trajectory(executions=(samples.good_execution(code),)), *demo_trajectories()[1:]]
    page = open_page(browser, tmp_path, render_page(trajectories, "Signs", scores=scores), scheme=scheme)
    assert is_dark(page) == (scheme == "dark")
    found = contrasts(page)
    assert len(found) > 40
    assert {name: ratio for name, ratio in found.items() if ratio < 4.5} == {}
    page.close()


@needs_browser
def test_everything_is_reached_by_keyboard(browser: Browser, tmp_path: Path) -> None:
    """Tab reaches the skip link first, then every link, zoomable image, code block and fold; Enter opens them."""
    page = open_page(browser, tmp_path, render_page(demo_trajectories(), "Signs"))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    total = page.locator("a, summary, pre[tabindex]").locator("visible=true").count()
    reached = set()
    for _ in range(total + 2):
        reached.add(page.evaluate("[...document.querySelectorAll('*')].indexOf(document.activeElement)"))
        page.keyboard.press("Tab")
    assert len(reached) >= total
    zoom = page.locator("details.zoom").first
    zoom.locator("summary").focus()
    page.keyboard.press("Enter")
    assert zoom.get_attribute("open") is not None
    page.close()


def test_unclosed_code_is_shown_as_not_run() -> None:
    segments = (
        Generated(kind="text", text="<think>Let me see.<code>", temperature=0.0),
        Generated(kind="code", text="\n```python\nfor i in range(9):", temperature=0.0),
    )
    cut = samples.trajectory(stop=StopReason.MAX_TOKENS).model_copy(update={"segments": segments})
    page = render_page([cut], "Title")
    assert "This block did not run." in page
