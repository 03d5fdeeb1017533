"""How the playground looks, on any screen and to whom, and that what strangers wrote does nothing on it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
from chromium import contrasts, is_dark, needs_browser, open_tab
from ui_playground import ask, drop, finished
from ui_server import HOSTILE, Served, png

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = needs_browser

# --- looks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_contrast(browser: Browser, scripted: Served, scheme: str) -> None:
    page = open_tab(browser, scripted.url, scheme=scheme)
    page.click(".settings summary")
    drop(page, ("sign.png", png()))
    ask(page, "What does the sign say?")
    finished(page)
    page.click("details.facts summary")
    page.fill("#words", "")
    page.click("#submit")
    assert is_dark(page) == (scheme == "dark")
    found = contrasts(page)
    assert len(found) > 40
    assert {name: ratio for name, ratio in found.items() if ratio < 4.5} == {}
    page.focus(".made a.zoom")
    page.keyboard.press("Enter")
    assert min(contrasts(page).values()) >= 4.5
    page.close()


def test_nothing_moves_for_those_who_asked_for_that(browser: Browser, scripted: Served) -> None:
    moving = {}
    for motion in ("no-preference", "reduce"):
        page = open_tab(browser, scripted.url, reduced_motion=motion)
        ask(page, "What does the sign say?")
        finished(page)  # from here on nobody but the next line touches the classes
        page.evaluate("document.querySelector('.now').classList.remove('over')")
        moving[motion] = page.evaluate("getComputedStyle(document.querySelector('.dot')).animationName")
        page.close()
    assert moving == {"no-preference": "breathe", "reduce": "none"}


@pytest.mark.parametrize("width", [320, 390])
def test_nothing_scrolls_sideways_on_a_phone(browser: Browser, scripted: Served, width: int) -> None:
    page = open_tab(browser, scripted.url, width=width)
    page.click(".settings summary")
    drop(page, ("a-long-name-of-a-picture-" * 4 + ".png", png(1200, 300)), ("2.png", png()))
    ask(page, "What does the sign say? " + "W" * 200)
    finished(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    small = page.locator("button:visible, a.button:visible").evaluate_all(
        "all => all.map(b => b.getBoundingClientRect()).filter(r => r.height < 24 || r.width < 24).length"
    )
    assert small == 0, "targets are at least 24 px (WCAG 2.2 AA)"
    ratios = page.locator(".app img[width]").evaluate_all(
        "all => all.filter(i => i.naturalWidth).map(i => (i.width / i.height) / (i.naturalWidth / i.naturalHeight))"
    )
    assert ratios
    assert np.allclose(ratios, 1, atol=0.05), "no picture is distorted"
    page.close()


def test_images_take_their_place_before_they_are_loaded(browser: Browser, scripted: Served) -> None:
    """No layout shift: what lies below a picture does not move when its pixels arrive."""
    page = open_tab(browser, scripted.url)
    page.evaluate(
        """() => { window.shift = 0; new PerformanceObserver(list => { for (const entry of list.getEntries())
        if (!entry.hadRecentInput) shift += entry.value; }).observe({type: 'layout-shift', buffered: true}); }"""
    )
    drop(page, ("sign.png", png()))
    ask(page, "What does the sign say?")
    finished(page)
    page.wait_for_timeout(200)
    assert page.evaluate("window.shift") < 0.1, "good by Core Web Vitals"
    page.close()


# --- strangers' text --------------------------------------------------------------------------------------------------


def test_nothing_that_was_written_acts(browser: Browser, scripted: Served) -> None:
    """Question, file name, thought, code, output, error and answer hold tags. The policy is taken out first, so that
    escaping alone has to hold."""
    page = browser.new_page()

    def without_policy(route: object) -> None:
        reply = route.fetch()
        headers = {name: value for name, value in reply.headers.items() if name != "content-security-policy"}
        route.fulfill(response=reply, headers=headers)

    page.route(re.compile(r"/(ui/questions/[^/]+)?$"), without_policy)
    page.goto(scripted.url)
    drop(page, (f"{HOSTILE}.png", png()))
    ask(page, f"hostile {HOSTILE}")
    finished(page)
    page.wait_for_timeout(150)
    for _ in range(2):
        assert page.evaluate("window.owned") is None
        assert page.locator("img[src='x'], .steps script, #recent script, .case script, #picked script").count() == 0
        shown = page.locator("body").inner_text()
        assert shown.count(HOSTILE) >= 6
        assert "ValueError: <b>bold</b>" in shown
        page.reload()
        finished(page)
    page.close()


def test_the_policy_stops_what_escaping_would_miss(browser: Browser, scripted: Served) -> None:
    page = open_tab(browser, scripted.url)
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.owned = 1\">')")
    page.evaluate(
        "const s = document.createElement('script'); s.textContent = 'window.owned = 1'; document.body.append(s)"
    )
    page.wait_for_timeout(100)
    assert page.evaluate("window.owned") is None
    assert "Content Security Policy" in "".join(page.messages)
    page.close()


def test_a_browser_session_lists_its_own_questions_only(browser: Browser, scripted: Served) -> None:
    mine, other = open_tab(browser, scripted.url), open_tab(browser, scripted.url)
    ask(mine, "What does the sign say?")
    finished(mine)
    path = mine.url
    other.reload()
    assert other.locator("#recent li").count() == 0
    other.goto(path)
    assert "not here any more" in other.locator("main").inner_text()
    mine.goto(scripted.url)
    assert mine.locator("#recent li").count() == 1
    mine.close()
    other.close()
