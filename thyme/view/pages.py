"""The templates of pages that report on a run: those of this package stand behind them, so that all look alike."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from jinja2 import PackageLoader, Template

from thyme.view.parts import environment


@dataclass(frozen=True, slots=True)
class Card:
    """A headline figure at the top of a report."""

    label: str
    value: str
    note: str = ""
    verdict: str = ""
    """``better`` or ``worse`` than what it is compared with; empty where it is not."""


@cache
def template(name: str, *packages: str) -> Template:
    """A template of a package.

    Args:
        name: Its file in ``templates``.
        packages: Where, the first that has it; this package's own stand behind them.
    """
    made = environment(*(PackageLoader(found, "templates") for found in dict.fromkeys(packages)))
    return made.get_template(name)


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, whichever reads best."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
