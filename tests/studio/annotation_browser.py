"""Annotators in a real browser, for tests of the pages of annotation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from chromium import open_tab
from studio_parts import Served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SIDES = ("left", "top", "right", "bottom")


class _Context:
    """A browser whose pages may have neighbours: tabs of the same person."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser

    def new_page(self, **options: Any) -> Page:
        return self._browser.new_context(**options).new_page()


def come_in(browser: Browser, served: Served, name: str, **options: Any) -> Page:
    """Open a link as an invited person does; the queues are there when this ends."""
    roles, lead = options.pop("roles", None), options.pop("lead", False)
    token = served.studio.accounts.invite(name, lead=lead, roles=roles)
    page = open_tab(_Context(browser), f"{served.url}/join#{token}", **options)  # type: ignore[arg-type]  # all it uses
    page.click("#join [type=submit]")
    page.wait_for_url(f"{served.url}/annotate")
    page.wait_for_selector("[data-queue]:not([hidden])")
    return page


def until(page: Page, condition: str, *, seconds: float = 30) -> None:
    """Wait until an expression holds. `Page.wait_for_function` is not allowed by the pages' policy."""
    for _ in range(int(seconds * 40)):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(25)
    raise AssertionError(f"it did not come to pass: {condition}; the page says {page.inner_text('body')[:2000]}")


def ready(page: Page) -> None:
    """Wait for image or question to be shown, at rest."""
    page.wait_for_selector("main[data-ready]")
    until(page, "document.querySelector('#picture canvas') !== null")


def take(page: Page, queue: str) -> str:
    """Go on with a queue, from the start; the address that it leads to."""
    page.click(f'[data-queue="{queue}"] button:not(:disabled)')
    page.wait_for_url("**/annotate/*/*")
    ready(page)
    return page.url


def pressed(page: Page, key: str) -> str:
    """Press a key that leads to another page, and wait for that; its address."""
    with page.expect_navigation():
        page.keyboard.press(key)
    page.wait_for_load_state()
    return page.url


def drag(
    page: Page, start: tuple[float, float], end: tuple[float, float], *, during: Callable[[], None] | None = None
) -> None:
    """Drag over the image, from and to shares of its frame."""
    frame = page.locator("#picture").bounding_box()
    assert frame is not None
    points = [(frame["x"] + x * frame["width"], frame["y"] + y * frame["height"]) for x, y in (start, end)]
    page.mouse.move(*points[0])
    page.mouse.down()
    page.mouse.move(*points[1], steps=4)
    if during is not None:
        during()
    page.mouse.up()


def draw(page: Page, start: tuple[float, float] = (0.4, 0.4), end: tuple[float, float] = (0.45, 0.45)) -> None:
    """Draw a box, and wait until it is there."""
    page.keyboard.press("Escape")  # keys are no letters where no field has the focus
    page.keyboard.press("b")
    drag(page, start, end)
    until(
        page, "!document.querySelector('.drawing') && document.querySelector('.a9s-corner-handle-bottomright') !== null"
    )


def box_of(page: Page) -> list[int]:
    """Sides of the box as the page has them, pixels."""
    return [int(page.input_value(f"#{side}")) for side in SIDES]


def saved(page: Page, *, seconds: float = 30) -> None:
    """Wait until the server has all."""
    until(page, "document.getElementById('saving').dataset.state === 'saved'", seconds=seconds)


def look(page: Page) -> None:
    """Look at the image as the model first sees it, and say that the answer is hidden."""
    page.keyboard.press("Escape")
    page.keyboard.press("f")
    until(page, "!document.getElementById('first-bar').hidden")
    page.keyboard.press("h")


def write(page: Page, question: str, answer: str, category: str = "1") -> None:
    """All that a question needs, by keys and mouse."""
    draw(page)
    look(page)
    page.keyboard.press(category)
    page.fill("#question", question)
    page.fill("#answer", answer)


def choose(page: Page, name: str, value: str) -> None:
    """Choose one of the chips."""
    page.click(f'label:has(input[name="{name}"][value="{value}"])')
