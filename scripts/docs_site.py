"""What mkdocs is told beside mkdocs.yml: navigation by pattern, equations as MathML, diagrams inside their page.

Nothing that a built page shows comes from elsewhere: a browser draws MathML by itself, a diagram that stands in its
page follows the page's light or dark, and whatever would be loaded from another address is a warning, which ends a
strict build.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from html import unescape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from latex2mathml.converter import convert

sys.path.insert(0, str(Path(__file__).parent))  # mkdocs runs a hook by its path, outside any package

from docs_commands import commands_page

log = logging.getLogger("mkdocs.hooks.docs_site")

COMMANDS = "reference/commands.md"
"""The page whose body is written from the commands themselves."""

EQUATION = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
DIAGRAM = re.compile(r'<img alt="([^"]*)" src="(?:\.\./)*(diagrams/[\w.-]+\.svg)"\s*/?>')
ELSEWHERE = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed)\b[^>]*\bsrc=["']?(?:https?:)?//[^>]*>
      | <link\b(?![^>]*rel=["']?canonical)[^>]*\bhref=["']?(?:https?:)?//[^>]*>
      | url\(\s*["']?(?:https?:)?//[^)]*\) | @import\s+["'](?:https?:)?//[^"']*["']""",
    re.VERBOSE,
)
"""What a browser would load from another address. A link that one may follow is none of it."""


def on_files(files: Any, config: Any) -> Any:
    """Put the pages that a pattern of the navigation matches in its place."""
    pages = sorted(file.src_uri for file in files.documentation_pages())
    named = set(_named(config.nav))
    config.nav = _expanded(config.nav, [page for page in pages if page not in named])
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Write the page of commands."""
    return markdown + commands_page() if page.file.src_uri == COMMANDS else markdown


def on_page_content(html: str, config: Any, **_: Any) -> str:
    """Equations become MathML, diagrams part of the page."""
    html = EQUATION.sub(lambda found: mathml(unescape(found[2]), block=found[1] == "div"), html)
    return DIAGRAM.sub(lambda found: inline(Path(config.docs_dir) / found[2], found[1]), html)


def on_post_build(config: Any, **_: Any) -> None:
    """Warn of whatever a browser would load from elsewhere."""
    site = Path(config.site_dir)
    for path in (*site.rglob("*.html"), *site.rglob("*.css")):
        for found in elsewhere(path.read_text(encoding="utf-8")):
            log.warning("%s loads from elsewhere: %s", path.relative_to(site), found[:200])


def mathml(tex: str, *, block: bool) -> str:
    """An equation as a browser draws it without a script."""
    drawn: str = convert(tex.strip(), display="block" if block else "inline")
    try:
        ElementTree.fromstring(drawn)
    except ElementTree.ParseError as error:  # what is no XML would swallow the rest of the page
        log.warning("an equation cannot be drawn: %s (%s)", tex.strip(), error)
    return f'<div class="equation">{drawn}</div>' if block else drawn


def inline(path: Path, description: str) -> str:
    """A diagram as part of its page, with its description for those who do not see it."""
    drawn = path.read_text(encoding="utf-8").replace("<svg ", f'<svg role="img" aria-label="{description}" ', 1)
    return f'<span class="diagram">{drawn}</span>'


def elsewhere(text: str) -> list[str]:
    """What of a page or a style sheet is loaded from another address."""
    return [found[0] for found in ELSEWHERE.finditer(text)]


def _named(nav: Iterable[Any]) -> Iterator[str]:
    """The pages that a navigation names one by one."""
    for entry in nav:
        if isinstance(entry, str):
            yield entry
        else:
            for inside in entry.values():
                yield from _named([inside] if isinstance(inside, str) else inside)


def _expanded(nav: Iterable[Any], pages: list[str]) -> list[Any]:
    """The same navigation with pages for patterns; a section that is left empty goes."""
    made: list[Any] = []
    for entry in nav:
        if isinstance(entry, str):
            made.extend([page for page in pages if fnmatch(page, entry)] if "*" in entry else [entry])
            continue
        ((title, inside),) = entry.items()
        if kept := inside if isinstance(inside, str) else _expanded(inside, pages):
            made.append({title: kept})
    return made
