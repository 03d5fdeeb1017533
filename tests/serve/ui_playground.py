"""What a person does on the page of the playground."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page


def drop(page: Page, *pictures: tuple[str, bytes]) -> None:
    """Drop files on the page, as a person does with a mouse."""
    files = [{"name": name, "data": base64.b64encode(data).decode()} for name, data in pictures]
    transfer = page.evaluate_handle(
        """files => { const transfer = new DataTransfer();
        for (const file of files) transfer.items.add(
          new File([Uint8Array.from(atob(file.data), c => c.charCodeAt(0))], file.name, {type: 'image/png'}));
        return transfer; }""",
        files,
    )
    for kind in ("dragenter", "dragover", "drop"):
        page.dispatch_event("#drop", kind, {"dataTransfer": transfer})


def ask(page: Page, question: str) -> None:
    page.fill("#words", question)
    page.press("#words", "Enter")


def finished(page: Page) -> None:
    page.wait_for_selector(".share:not([hidden])", timeout=20_000)
