"""The viewer in a real browser, over more records than a page holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import httpx
import pytest
import sample_records as samples
from chromium import contrasts, is_dark, needs_browser, open_tab
from ui_server import HOSTILE, Served, serving

from thyme.config.serve import ServeConfig
from thyme.engines.scripted import ScriptedEngine
from thyme.eval.records import Records
from thyme.serve.ui.viewer import PER_PAGE, create_viewer
from thyme.store import write_trajectories
from thyme.types import StopReason

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = needs_browser
COUNT = 130


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """130 records: every third wrong, every fifth without code, one that ended early, one hostile, one damaged line."""
    path = tmp_path_factory.mktemp("records") / "run.jsonl"
    records = [
        samples.trajectory(
            id=f"r{index}",
            question=f"What does sign number {index} say?",
            answer="KX 41" if index % 3 == 0 else "KX 47",
            kind=("zoom", "rotation")[index % 2],
            executions=() if index % 5 == 0 else None,
            stop=StopReason.MAX_ROUNDS if index == 7 else StopReason.ANSWER,
        )
        for index in range(COUNT - 1)
    ]
    records.append(samples.trajectory(id="hostile", question=HOSTILE, answer=HOSTILE, kind=HOSTILE, thought=HOSTILE))
    write_trajectories(path, records)
    with path.open("a", encoding="utf-8") as file:
        file.write('{"id": "cut o')
    make = lambda engine, sandbox, config: create_viewer(Records.scan([path]))  # noqa: E731 - an argument
    with serving(lambda: ScriptedEngine([]), ServeConfig(), make_app=make) as served:
        yield served


def search(page: Page) -> None:
    with page.expect_navigation():
        page.click("form button")


def test_listing_paging_and_filters(browser: Browser, viewer: Served) -> None:
    page = open_tab(browser, viewer.url)
    assert page.locator("#found").inner_text() == "130 records · 85 right, 45 wrong"
    assert page.locator(".listing li").count() == PER_PAGE
    assert "1 damaged line" in page.locator("details.alert summary").inner_text()
    page.click("details.alert summary")
    assert "line 131" in page.locator("details.alert").inner_text()
    page.click("[rel=next]")
    page.click("[rel=next]")
    assert "page 3 of 3" in page.locator(".pager").inner_text()
    assert page.locator(".listing li").count() == COUNT - 2 * PER_PAGE
    page.select_option("[name=verdict]", "wrong")
    page.select_option("[name=rounds]", "0")
    search(page)
    assert "9 wrong" in page.locator("#found").inner_text()
    page.select_option("[name=verdict]", "")
    page.select_option("[name=rounds]", "")
    page.select_option("[name=stop]", "max_rounds")
    search(page)
    assert page.locator(".listing li").all_inner_texts()[0].startswith("What does sign number 7 say?")
    page.select_option("[name=stop]", "")
    page.fill("[name=search]", "NUMBER 12")
    page.press("[name=search]", "Enter")
    assert page.locator("#found").inner_text().startswith("10 records")
    page.fill("[name=search]", "not in there")
    page.press("[name=search]", "Enter")
    assert "Nothing matches" in page.locator(".listing").inner_text()
    assert page.messages == []
    page.close()


def test_a_record_with_its_neighbours_and_lazy_images(browser: Browser, viewer: Served) -> None:
    page = open_tab(browser, f"{viewer.url}/?verdict=wrong")
    page.click(".listing li:nth-child(2) a")
    assert page.locator("h2").inner_text() == "What does sign number 3 say?"
    assert page.locator(".answer .verdict").inner_text() == "wrong"
    assert "reference: KX 47" in page.locator(".answer").inner_text()
    for image in page.locator("main img").all():
        image.scroll_into_view_if_needed()
        image.evaluate("i => i.decode()")
        assert image.evaluate("i => i.naturalWidth") > 0
    assert page.locator("img:not([loading=lazy])").count() == 1, "only the dialog's, which is empty"
    page.focus(".made a.zoom")
    page.keyboard.press("Enter")
    assert page.locator("#zoom").is_visible()
    page.keyboard.press("Escape")
    page.click("[rel=next]")
    assert page.locator("h2").inner_text() == "What does sign number 6 say?", "the next one that matches"
    page.click("[rel=prev]")
    page.click("[rel=prev]")
    assert page.locator("[rel=prev]").count() == 0
    with page.expect_download() as download:
        page.click("[download]")
    assert download.value.suggested_filename == "thyme-1.html"
    page.close()


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1100, "light")])
def test_looks(browser: Browser, viewer: Served, width: int, scheme: str) -> None:
    for path in ("/", f"/records/{COUNT - 1}"):
        page = open_tab(browser, viewer.url + path, width=width, scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert is_dark(page) == (scheme == "dark")
        assert {name: ratio for name, ratio in contrasts(page).items() if ratio < 4.5} == {}
        page.close()


def test_nothing_that_was_written_acts(browser: Browser, viewer: Served) -> None:
    for path in ("/?page=3", f"/records/{COUNT - 1}"):
        page = browser.new_page()
        page.route(
            viewer.url + path,
            lambda route: route.fulfill(response=route.fetch(), headers={"content-type": "text/html"}),
        )
        page.goto(viewer.url + path)
        page.wait_for_timeout(100)
        assert page.evaluate("window.owned") is None
        assert page.locator("img[src='x'], main script").count() == 0
        assert page.locator("body").inner_text().count(HOSTILE) >= 2
        page.close()


def test_only_this_machine_by_its_own_name(viewer: Served) -> None:
    """A page elsewhere whose name leads here (DNS rebinding) gets nothing, nor does a wrong address."""
    assert httpx.get(viewer.url, headers={"host": "rebound.example"}).status_code == 400
    for path in ("/records/999", "/records/-1", "/records/0/images/none", "/records/x", "/ui/static/x"):
        reply = httpx.get(viewer.url + path)
        assert (reply.status_code, bool(reply.json()["error"]["message"])) == (
            400 if path == "/records/x" else 404,
            True,
        )
    for query in ("page=0", "page=99", "rounds=x", "search=%00", f"rounds={'9' * 5000}"):
        assert httpx.get(f"{viewer.url}/?{query}").status_code == 200
