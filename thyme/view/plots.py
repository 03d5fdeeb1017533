"""Figures as SVG that take the colours of the page around them, light or dark."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from thyme.errors import MissingExtraError
from thyme.view.terminal import clean
from thyme.view.unseen import named

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, LINE = "#010203", "#010204"
LINES = ("#010205", "#010206", "#010207", "#010208")
_COLOURS = {INK: "currentColor", LINE: "var(--line)"} | dict(
    zip(LINES, ("var(--accent)", "var(--number)", "var(--name)", "var(--keyword)"), strict=True)
)
"""Colours that a figure is drawn in, and what the page puts in their place."""
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
"""Smoothed lines differ by their dashes too, for whom colours do not tell apart."""
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": LINE,
    "text.parse_math": False,
}


@dataclass(frozen=True, slots=True)
class Plot:
    """One figure on the page. Names that came from outside stand in the title, never in the picture."""

    title: str
    svg: Markup
    keys: Sequence[str] = ()
    """Names of the lines, where there are several; at most four."""


def figure(
    salt: str,
    title: str,
    paint: Callable[[Axes], None],
    *,
    keys: Sequence[str] = (),
    size: tuple[float, float] = (3.3, 1.95),
    extra: str,
) -> Plot:
    """Draw a figure.

    Args:
        salt: Unlike those of the other figures on the page.
        title: Above the figure.
        paint: Draws, in `INK`, `LINE` and `LINES`.
        keys: Names of the colours.
        size: Width and height, inches.
        extra: That brings matplotlib, for the message where it is missing.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("the report's curves", extra) from error
    style: Any = {**_STYLE, "svg.hashsalt": salt}  # matplotlib lists every name it knows as the type
    with rc_context(style):
        drawn = Figure(figsize=size, layout="constrained")
        paint(drawn.subplots())
        return Plot(title, _svg(drawn, salt, title), keys)


def _svg(drawn: Any, salt: str, title: str) -> Markup:
    """The figure's own element, its names made unlike those of the other figures on the page."""
    buffer = io.StringIO()
    drawn.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # Its style sheet would hold for the whole page.
    text = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>", "", text, flags=re.DOTALL)
    prefix = "f" + blake2b(salt.encode(), digest_size=6).hexdigest()
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", text)
    for drawn, shown in _COLOURS.items():
        text = text.replace(drawn, shown)
    opening = f'<svg role="img" aria-label="{escape(named(clean(title)))}" '
    # Alone in this: everything else on the page goes through the escaping of the templates.
    return Markup(text.replace("<svg ", opening, 1))
