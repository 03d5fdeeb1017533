"""The whole road by the real commands and pages: a folder of pictures becomes a set that the trainer reads."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from contextlib import ExitStack
from itertools import combinations
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from annotation_browser import box_of, choose, draw, look, ready, saved, take, until
from annotation_parts import answered, drawn, judged, written
from chromium import needs_browser
from studio_parts import Client, running

from thyme.config.training import DataSource
from thyme.train.grpo.problems import open_problems

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [needs_browser, pytest.mark.slow, pytest.mark.timeout(900)]
HUGE = (12_000, 9_000)
A = "/api/annotation"
ROLES = {"Ana": "annotate", "Ben": "second", "Eve": "expert", "Flo": "expert", "Gus": "expert"}
OPTIONS = ("KX7", "KX8", "KX9")
CATEGORIES = (("ocr", "ocr"), ("object", "object"), ("object", "attribute"), ("ocr", "ocr"))
"""Of each question as its author and as the second person sees it."""
VERDICTS = (("accept",) * 3, ("reject",) * 3, ("accept", "reject"), ("accept",) * 3)
"""Of the experts, in the order of their names; who is left out was not asked any more."""


def thyme(*words: object) -> str:
    """Run the command; what it says."""
    command = [sys.executable, "-m", "thyme", *map(str, words)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return made.stdout + made.stderr


class People:
    """Everybody in browsers of their own, with a client of the same person beside each."""

    def __init__(self, browser: Browser, url: str, folder: Path, lead: str, held: ExitStack) -> None:
        self._browser, self._url, self._held = browser, url, held
        self.pages: dict[str, Page] = {}
        self.clients: dict[str, Client] = {}
        self._come_in("Lea", lead)
        for name, role in ROLES.items():
            invited = thyme("studio", "invite", folder, name, "--role", role, "--port", url.rpartition(":")[2])
            self._come_in(name, re.findall(r"#(\S+)", invited)[0])

    def _come_in(self, name: str, token: str) -> None:
        context = self._browser.new_context()
        self._held.callback(context.close)  # a server that ends would wait for its pages
        page = context.new_page()
        page.set_viewport_size({"width": 1400, "height": 900})
        page.goto(f"{self._url}/join#{token}")
        page.click("#join [type=submit]")
        if name not in ROLES:  # the first link knows no name
            page.locator("#name").wait_for()
            page.fill("#name", name)
            page.click("#join [type=submit]")
        page.wait_for_selector("[data-queue]:not([hidden])")
        client = Client(self._url)
        self._held.callback(client.http.close)
        for cookie in context.cookies():
            client.http.cookies.set(cookie["name"], cookie["value"])
        client.person = client.get("/api/me")["person"]
        self.pages[name], self.clients[name] = page, client


def cohen(one: list[str], other: list[str]) -> float:
    """Cohen's kappa (1960), by its table: written anew here, to be compared with."""
    labels = sorted({*one, *other})
    table = np.zeros((len(labels), len(labels)))
    for first, second in zip(one, other, strict=True):
        table[labels.index(first), labels.index(second)] += 1
    table /= table.sum()
    by_chance = float(table.sum(axis=1) @ table.sum(axis=0))
    return (float(np.trace(table)) - by_chance) / (1 - by_chance)


def ask(page: Page) -> list[int]:
    """Draw a box on the huge picture, ask with options, and hand it in; the box."""
    take(page, "annotate")
    assert "12000 × 9000" in page.inner_text("#about")
    draw(page)
    page.keyboard.press("ArrowRight")
    look(page)
    page.keyboard.press("1")
    page.fill("#question", "What does the small sign say?")
    choose(page, "answer_type", "choice")
    for letter, text in zip("ABC", OPTIONS, strict=True):
        if page.locator(f'[aria-label="Option {letter}"]').count() == 0:
            page.click('[data-choice="add"]')
        page.fill(f'[aria-label="Option {letter}"]', text)
    page.check('[aria-label="A is the right one"]')
    saved(page)
    box = box_of(page)
    page.keyboard.press("Control+Enter")
    until(page, "document.querySelector('.tab .state').textContent === 'submitted'")
    return box


def walked(people: People, url: str) -> tuple[int, list[int]]:
    """The first question on its whole way, in the pages: its id and box."""
    pages = people.pages
    box = ask(pages["Ana"])
    second = pages["Ben"]
    second.reload()
    second.wait_for_selector('[data-queue="second"] button:not(:disabled)')
    id = int(take(second, "second").split("/")[-1].split("?")[0])
    assert second.locator(".a9s-annotationlayer rect").count() == 0, "neither answer nor box"
    second.keyboard.press("2")
    choose(second, "category", "ocr")
    second.keyboard.press("Control+Enter")
    second.wait_for_url("**finished**")
    lead = pages["Lea"]
    lead.reload()
    lead.wait_for_selector('[data-queue="adjudicate"] button:not(:disabled)')
    take(lead, "adjudicate")
    assert "not the author's answer" in lead.inner_text(".panel")
    lead.keyboard.press("a")
    lead.wait_for_url("**finished**")
    for name in ("Eve", "Flo", "Gus"):
        expert = pages[name]
        expert.goto(f"{url}/annotate/questions/{id}?queue=expert")
        ready(expert)
        expert.keyboard.press("a")
        expert.wait_for_url("**finished**")
    return id, box


def more(people: People) -> None:
    """Three other questions, so that there is something to agree about."""
    clients = people.clients
    for place in (1, 2, 3):
        author, second = CATEGORIES[place]
        id = written(clients["Ana"], question=f"What is at {place}?", category=author)["id"]
        assert answered(clients["Ben"], id, category=second)["agrees"]
        for name, verdict in zip(("Eve", "Flo", "Gus"), VERDICTS[place], strict=False):
            judged(clients[name], id, verdict, reason="guessable" if verdict == "reject" else "")
    disputed = clients["Lea"].get(f"{A}/questions", state="disputed")["questions"]
    assert judged(clients["Lea"], disputed[0]["id"]) == "accepted"


def told(page: Page, url: str) -> dict[str, str]:
    """Figures of agreement as the page shows them, by name."""
    page.goto(f"{url}/annotate/progress")
    until(page, "document.querySelectorAll('#agreement > *').length > 0")
    shown = page.locator("#agreement dt").all_inner_texts()
    return dict(zip(shown, page.locator("#agreement dd").all_inner_texts(), strict=True))


def test_from_a_folder_of_pictures_to_what_is_trained_on(browser: Browser, tmp_path: Path) -> None:
    """Collected, asked in the page with options, answered otherwise, decided, accepted by three; figures by hand."""
    photos, folder = tmp_path / "photos", tmp_path / "collection"
    photos.mkdir()
    for place, size in enumerate((HUGE, (2400, 1800))):
        drawn(place, size).save(photos / f"{place}.jpg", quality=85)
    thyme("rl-data", "collect", photos, "--out", folder, "--licence", "CC0-1.0", "--near", "-1", "--min-sharpness", 0)
    with running(folder, "--set", "annotation.experts=3", "--set", "annotation.gold=0") as server:
        with ExitStack() as held:
            people = People(browser, server.url, folder, server.link().partition("#")[2], held)
            id, box = walked(people, server.url)
            more(people)
            page = told(people.pages["Lea"], server.url)
            progress = people.clients["Lea"].get(f"{A}/progress")
        assert server.end() == 0
    compare(page, progress)
    written_out(tmp_path, folder, box, people.clients["Lea"].person["name"], id)


def compare(page: dict[str, str], progress: dict[str, Any]) -> None:
    """What the page says, with what is counted anew here."""
    categories = cohen([one for one, _ in CATEGORIES], [other for _, other in CATEGORIES])
    pairs = []
    for first, second in combinations(range(3), 2):
        both = [said for said in VERDICTS if len(said) > max(first, second)]
        pairs.append(cohen([said[first] for said in both], [said[second] for said in both]))
    assert progress["agreement"]["categories"] == pytest.approx(categories)
    assert progress["agreement"]["experts"] == pytest.approx(mean(pairs))
    assert progress["agreement"]["answers"] == 3 / 4
    assert progress["states"] | {"accepted": 3, "rejected": 1} == progress["states"]
    assert page["Categories, Cohen's kappa"] == f"{categories:.2f}"
    assert page["Experts, mean kappa of pairs"] == f"{mean(pairs):.2f}"
    assert page["Answers agreed at first sight"] == "75.0 %"
    verdicts = {one["name"]: one["verdicts"] for one in progress["people"]}
    assert [verdicts[name] for name in ("Eve", "Flo", "Gus", "Lea")] == [4, 4, 3, 2]


def written_out(tmp_path: Path, folder: Path, box: list[int], lead: str, id: int) -> None:
    """Every format, and what the trainer reads of two of them."""
    left, top, right, bottom = box
    for format in ("problems", "thyme-rl", "label-studio", "coco"):
        to = tmp_path / format
        thyme("rl-data", "export", folder, "--to", to, "--format", format)
        assert all(name not in (to / "DATASHEET.md").read_text() for name in (*ROLES, lead))
    for format in ("problems", "thyme-rl"):
        source = DataSource(format=format, path=str(tmp_path / format), max_pixels=HUGE[0] * HUGE[1])
        read = open_problems({"mine": source})
        assert len(read) == 3
        problem = next(read[place] for place in range(3) if read[place].choices)
        assert problem.images[0].size == HUGE
        assert (problem.question, problem.choices) == ("What does the small sign say?", OPTIONS)
        assert (problem.answer, problem.kind, problem.meta["box"]) == ("A", "ocr", box)
        assert (problem.meta["category"], problem.meta["licence"]) == ("ocr", "CC0-1.0")
    coco = json.loads((tmp_path / "coco" / "annotations.json").read_text())
    assert [left, top, right - left, bottom - top] in [one["bbox"] for one in coco["annotations"]]
    tasks = json.loads((tmp_path / "label-studio" / "tasks.json").read_text())
    values = [one["value"] for task in tasks for part in task["annotations"] for one in part["result"]]
    boxes = [(value["x"], value["width"]) for value in values if "width" in value]
    assert any(
        (x, width) == pytest.approx((100 * left / HUGE[0], 100 * (right - left) / HUGE[0])) for x, width in boxes
    )
