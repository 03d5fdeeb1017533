"""How the site is put together: navigation by pattern, equations, diagrams, and nothing from elsewhere."""

from __future__ import annotations

import functools
import http.server
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from chromium import needs_browser, open_browser, open_tab
from document_blocks import ROOT

pytest.importorskip("latex2mathml", reason="the extra dev is not installed")
sys.path.insert(0, str(ROOT / "scripts"))

import docs_site


def test_a_pattern_stands_for_the_pages_that_nobody_else_names() -> None:
    pages = ["a.md", "extend/one.md", "extend/two.md", "lost.md"]
    files: Any = SimpleNamespace(documentation_pages=lambda: [SimpleNamespace(src_uri=page) for page in pages])
    nav = ["a.md", {"Extend": ["extend/two.md", "extend/*.md"]}, {"Later": ["later*.md"]}, {"Found": "a.md"}]
    config = SimpleNamespace(nav=nav)
    docs_site.on_files(files, config)
    assert config.nav == ["a.md", {"Extend": ["extend/two.md", "extend/one.md"]}, {"Found": "a.md"}]


def test_equations_are_drawn_without_a_script(caplog: pytest.LogCaptureFixture) -> None:
    page = r'<p>so <span class="arithmatex">\(r &lt; 1\)</span></p><div class="arithmatex">\[\frac{1}{2}\]</div>'
    html = docs_site.on_page_content(page, SimpleNamespace(docs_dir="docs"))
    assert html.count("<math ") == 2
    assert "<mfrac>" in html
    assert "arithmatex" not in html
    assert not caplog.records
    docs_site.mathml(r"\texttt{<code>}", block=False)
    assert "cannot be drawn" in caplog.text


def test_a_diagram_becomes_part_of_its_page(tmp_path: Path) -> None:
    (tmp_path / "diagrams").mkdir()
    (tmp_path / "diagrams/a.svg").write_text('<svg viewBox="0 0 1 1"></svg>')
    config = SimpleNamespace(docs_dir=str(tmp_path))
    html = docs_site.on_page_content(
        '<img alt="What is seen" src="../diagrams/a.svg" /><img alt="" src="b.png" />', config
    )
    assert html.startswith('<span class="diagram"><svg role="img" aria-label="What is seen" viewBox="0 0 1 1">')
    assert html.endswith('<img alt="" src="b.png" />')


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://cdn.example/x.js"></script>',
        "<img alt=a src=//cdn.example/x.png>",
        '<link href="http://fonts.example/a.css" rel="stylesheet">',
        "a { background: url( 'https://x.example/a.png') }",
        '@import "https://x.example/a.css";',
    ],
)
def test_what_is_loaded_from_elsewhere_is_found(text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.html").write_text(f"<p>{text}</p>")
    with caplog.at_level(logging.WARNING):
        docs_site.on_post_build(SimpleNamespace(site_dir=str(tmp_path)))
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    "text", ['<a href="https://x.example">x</a>', '<script src="../a.js">', "url(data:image/png,)"]
)
def test_links_and_files_of_its_own_are_not(text: str) -> None:
    assert docs_site.elsewhere(text) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@needs_browser
def test_the_site_is_built_and_looks_right(tmp_path: Path) -> None:
    """No warning; on desktop and phone nothing hangs over the edge, and nothing is asked of another address."""
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path)]
    settings = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, open_browser() as browser:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        try:
            for width, scheme in ((1280, "light"), (390, "dark")):
                looked_at(browser, url, width, scheme)
        finally:
            server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        """Nothing on the terminal."""


def looked_at(browser: Any, url: str, width: int, scheme: str) -> None:
    for name in ("index", "quickstart", "how_thyme_thinks", "troubleshooting", "guides/train", "reference/commands"):
        page: Any = open_tab(browser, f"{url}{name}.html", width=width, scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, name
        assert page.evaluate("document.body.dataset.mdColorScheme") == ("slate" if scheme == "dark" else "default")
        assert not page.messages
        assert all(address.startswith((url, "data:", "blob:")) for address in page.requests), page.requests
        if name == "how_thyme_thinks":
            assert page.locator("math").count() > 10
            assert page.locator(".diagram svg").count() == 3
        page.close()
