"""Annotation in a real browser where it is hard: a very large image, several people at once, a slow network, and a
server that is killed in the middle.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from annotation_browser import box_of, choose, come_in, draw, look, ready, saved, take, until, write
from annotation_parts import opened, serving, write_collection
from chromium import needs_browser

from thyme.config.annotation import AnnotationSettings
from thyme.config.studio import StudioConfig

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [needs_browser, pytest.mark.slow, pytest.mark.timeout(600)]
HUGE = (12_000, 9_000)
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of 108 megapixels with its tiles, and three of four megapixels."""
    return write_collection(tmp_path_factory.mktemp("together") / "photos", 4, sizes=[HUGE], tiles=True)


def answer(page: Page, words: str) -> None:
    """A second person's answer, with the category that the author gave."""
    page.fill("#answer", words)
    choose(page, "category", "ocr")
    page.keyboard.press("Control+Enter")
    page.wait_for_url(lambda url: "finished" in url or "/questions/" in url)


def test_two_annotators_and_an_adjudicator_at_once(browser: Browser, collection: Path) -> None:
    """Both annotators write at the same time, about different images, one of 108 megapixels; each answers the other's;
    one agrees, one does not; the adjudicator decides while both go on.
    """
    with serving(collection, AnnotationSettings(second=1, experts=1, gold=0)) as served:
        people = [come_in(browser, served, name, roles=("annotate", "second"), width=1400) for name in ("Ana", "Ben")]
        lead = come_in(browser, served, "Cleo", lead=True, width=1400)
        for page in people:  # neither waits for the other's answer
            page.evaluate("document.querySelector('[data-queue=annotate] button').click()")
        for page in people:
            page.wait_for_url("**/annotate/images/*")
            ready(page)
        first, second = (page.url for page in people)
        assert first != second
        large = next(page for page in people if "12000 × 9000" in page.inner_text("#about"))
        for page in people:
            page.bring_to_front()
            who = "Ana" if page is people[0] else "Ben"
            write(page, f"What does {who} see?", f"{who} 7")
        large.bring_to_front()
        box = box_of(large)
        assert max(box) > 4000, "in pixels of the original"
        large.keyboard.press("Escape")
        large.keyboard.press("p")
        large.wait_for_event("response", lambda one: "/tiles/14/" in one.url)
        large.wait_for_load_state("networkidle")
        tiles = [url for url in large.requests if "/tiles/14/" in url]
        assert 0 < len(tiles) < 60, "of the 432 tiles of the largest level only those in sight"
        for page in people:
            page.bring_to_front()
            page.keyboard.press("Control+Enter")
            until(page, "document.querySelector('.tab .state').textContent === 'submitted'")
        for page, words in ((people[0], "Ben 7"), (people[1], "something else")):
            page.bring_to_front()
            page.goto(f"{served.url}/annotate")
            page.wait_for_selector("[data-queue]:not([hidden])")
            take(page, "second")
            answer(page, words)
        lead.bring_to_front()
        lead.reload()
        lead.wait_for_selector('[data-queue="adjudicate"] button:not(:disabled)')
        take(lead, "adjudicate")
        assert "Ana 7" in lead.inner_text(".panel")
        assert "something else" in lead.inner_text(".panel")
        assert lead.locator("#picture canvas").count() > 0
        lead.keyboard.press("a")
        lead.wait_for_url("**finished**")
        found = served.client("Cleo").get("/api/annotation/progress")
        assert found["states"]["checked"] == 2, "one agreed, one decided"
        assert found["agreement"]["answers"] == 0.5
        for page in (*people, lead):
            assert page.messages == []
            page.close()


def test_a_slow_network_loses_nothing(browser: Browser, collection: Path) -> None:
    """At 400 kbit/s with half a second of delay, the form works before the picture is sharp, and all is saved."""
    with serving(collection, AnnotationSettings(second=1, experts=1, gold=0)) as served:
        page = come_in(browser, served, "Dora")
        network = page.context.new_cdp_session(page)
        network.send("Network.enable")
        slow = {"offline": False, "latency": 500, "downloadThroughput": 50_000, "uploadThroughput": 20_000}
        network.send("Network.emulateNetworkConditions", slow)
        page.set_default_timeout(120_000)
        take(page, "annotate")
        write(page, "What is written there?", "slow")
        saved(page, seconds=120)
        network.send("Network.emulateNetworkConditions", {**slow, "offline": True})
        page.fill("#answer", "slow, and away")
        until(page, "document.getElementById('saving').dataset.state === 'away'", seconds=60)
        network.send("Network.emulateNetworkConditions", slow)
        saved(page, seconds=120)
        image = page.url.split("/")[-1].split("?")[0]
        assert (
            served.client("Dora").get(f"/api/annotation/images/{image}")["questions"][0]["answer"] == "slow, and away"
        )
        page.close()


SERVER = """
import sys
sys.path[:0] = sys.argv[3:]
import time
from pathlib import Path
from annotation_parts import serving
with serving(Path(sys.argv[1]), port=int(sys.argv[2])):
    print("ready", flush=True)
    time.sleep(1000)
"""


@contextmanager
def process(folder: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    """A studio in a process of its own, that can be killed."""
    command = [sys.executable, "-c", SERVER, str(folder), str(port), str(HERE), str(HERE.parent)]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert running.stdout is not None
        assert running.stdout.readline().strip() == "ready"
        yield running
    finally:
        running.kill()
        running.wait()
        assert running.stdout is not None
        running.stdout.close()


def test_a_server_killed_in_the_middle_loses_nothing(browser: Browser, tmp_path: Path) -> None:
    """Killed (SIGKILL) while somebody writes: the page says so, keeps every letter, and saves when the server is back;
    so does a tab that was closed meanwhile, and a second person's answer that was on its way.
    """
    folder = write_collection(tmp_path / "photos", 2)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    settings = AnnotationSettings(second=1, experts=2, gold=0)
    studio = opened(folder, StudioConfig(annotation=settings))
    tokens = {name: studio.accounts.invite(name) for name in ("Ana", "Ben")}
    studio.database.close()

    def enter(name: str) -> Page:
        page = browser.new_context(viewport={"width": 1100, "height": 900}).new_page()
        page.goto(f"{url}/join#{tokens[name]}")
        page.click("#join [type=submit]")
        page.wait_for_selector("[data-queue]:not([hidden])")
        return page

    with process(folder, port) as running:
        ana, ben = enter("Ana"), enter("Ben")
        address = take(ana, "annotate")
        write(ana, "What does the sign say?", "KX0")
        saved(ana)
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
    ana.fill("#question", "What does the white sign say?")
    draw(ana, (0.3, 0.3), (0.33, 0.33))
    moved = box_of(ana)
    until(ana, "document.getElementById('saving').dataset.state === 'away'")
    assert "kept in this browser" in ana.inner_text("#saving")

    with process(folder, port) as running:
        saved(ana, seconds=60)
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
    ana.fill("#answer", "KX zero")
    until(ana, "document.getElementById('saving').dataset.state === 'away'")
    ana.close()

    with process(folder, port) as running:
        ana = ana.context.new_page()
        ana.goto(address)
        ready(ana)
        assert ana.input_value("#answer") == "KX zero"
        assert ana.input_value("#question") == "What does the white sign say?"
        assert box_of(ana) == moved
        look(ana)  # once more: the box is elsewhere now
        saved(ana)
        ana.keyboard.press("Control+Enter")
        until(ana, "document.querySelector('.tab .state').textContent === 'submitted'")
        ben.reload()
        ben.wait_for_selector('[data-queue="second"] button:not(:disabled)')
        take(ben, "second")
        ben.fill("#answer", "KX zero")
        choose(ben, "category", "ocr")
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
    ben.click("#answering [type=submit]")
    until(ben, "document.getElementById('kept').textContent.includes('The server is away')")
    with process(folder, port):
        ben.wait_for_url("**finished**", timeout=60_000)
        cookies = {one["name"]: one["value"] for one in ana.context.cookies()}
        listed = httpx.get(f"{url}/api/annotation/questions", cookies=cookies).json()["questions"]
        assert [(one["question"], one["state"], one["box"]) for one in listed] == [
            ("What does the white sign say?", "checked", moved)
        ]
    ana.close()
    ben.close()


def test_an_image_left_alone_goes_to_others(browser: Browser, tmp_path: Path) -> None:
    """A lease runs out, and somebody else gets the image; who comes back finds the own draft, and no other."""
    folder = write_collection(tmp_path / "photos", 1)
    with serving(folder, AnnotationSettings(second=0, experts=0, gold=0, lease_s=2)) as served:
        ana = come_in(browser, served, "Ana")
        address = take(ana, "annotate").split("?")[0]
        ana.fill("#question", "Ana's?")
        saved(ana)
        ana.goto("about:blank")
        time.sleep(2.5)
        ben = come_in(browser, served, "Ben")
        assert take(ben, "annotate").split("?")[0] == address
        assert ben.input_value("#question") == ""
        ben.fill("#question", "Ben's?")
        saved(ben)
        ana.goto(address)
        ready(ana)
        assert ana.input_value("#question") == "Ana's?"
        assert ana.locator(".tab .state").count() == 1
        ana.close()
        ben.close()
