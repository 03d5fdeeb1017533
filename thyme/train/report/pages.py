"""The templates of a run's pages: those of `thyme.view` stand behind them, so that all pages look alike."""

from __future__ import annotations

from jinja2 import Template

from thyme.view import pages
from thyme.view.words import count

__all__ = ["count", "template"]


def template(name: str, package: str = "thyme.train.report") -> Template:
    """A template of this package, or of another one that builds on this one's.

    Args:
        name: Its file in ``templates``.
        package: Where.
    """
    return pages.template(name, package, "thyme.train.report")
