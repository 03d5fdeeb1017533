"""The templates of a run's pages: those of `thyme.view` stand behind them, so that all pages look alike."""

from __future__ import annotations

from functools import cache

from jinja2 import PackageLoader, Template

from thyme.view.parts import environment
from thyme.view.terminal import clean


@cache
def template(name: str, package: str = "thyme.train.report") -> Template:
    """A template of this package, or of another one that builds on this one's.

    Args:
        name: Its file in ``templates``.
        package: Where.
    """
    loaders = [PackageLoader(found, "templates") for found in dict.fromkeys((package, "thyme.train.report"))]
    made = environment(*loaders)
    made.filters["clean"] = clean
    made.filters["count"] = count
    return made.get_template(name)


def count(number: float | None) -> str:
    """A number with groups of three digits; a dash for none."""
    return "–" if number is None else f"{number:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
