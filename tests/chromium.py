"""Debian's Chromium, driven by Playwright, for tests of pages; and what is measured on every page."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or "/usr/bin/chromium"
needs_browser = pytest.mark.skipif(
    not Path(CHROMIUM).exists() and not os.environ.get("CI"), reason="Chromium is not installed"
)


@contextmanager
def open_browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield chromium
        chromium.close()


def open_tab(browser: Browser, url: str, *, width: int = 1100, scheme: str = "light", **context: Any) -> Page:
    """A page in a session of its own that records every request and every message of the console."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, **context)
    page.requests, page.messages = [], []
    page.on("request", lambda request: page.requests.append(request.url))
    page.on("console", lambda message: page.messages.append(message.text))
    page.on("pageerror", lambda error: page.messages.append(str(error)))
    page.goto(url)
    return page


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2) of a CSS colour of the form rgb(r, g, b)."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    red, green, blue = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


_CONTRASTS = """() => [...document.querySelectorAll('body *')].flatMap(element => {
  const text = [...element.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
  if (!text || !element.getClientRects().length || element.closest('style, option, :disabled, .off')) return [];
  let behind = element;
  const clear = () => getComputedStyle(behind).backgroundColor === 'rgba(0, 0, 0, 0)';
  while (clear() && behind.parentElement) behind = behind.parentElement;
  return [[element.tagName + '.' + element.className + ' ' + element.textContent.slice(0, 30),
           getComputedStyle(element).color, getComputedStyle(behind).backgroundColor]];
})"""


def contrasts(page: Page) -> dict[str, float]:
    """Contrast of every visible text against what is behind it (WCAG 2.2; AA wants 4.5)."""
    found = {}
    for name, ink, ground in page.evaluate(_CONTRASTS):
        bright, dark = sorted((luminance(ink), luminance(ground)), reverse=True)
        found[f"{name}: {ink} on {ground}"] = (bright + 0.05) / (dark + 0.05)
    return found


def is_dark(page: Page) -> bool:
    return luminance(page.evaluate("getComputedStyle(document.body).backgroundColor")) < 0.5
