"""Draws the packages and the arrows between them, and writes the table of docs/architecture.md, both from the code.

An arrow stands for imports. One that others imply is left out: where `serve` imports `nano` and `nano` imports
`train`, no arrow leads from `serve` to `train`. `python scripts/architecture.py` writes both anew.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from floors import FLOORS, NEIGHBOURS, PACKAGE, arrows, floor

DOCS = PACKAGE.parent / "docs"
PAGE = DOCS / "architecture.md"
PICTURE = DOCS / "diagrams" / "architecture.svg"
TABLE = re.compile(
    r"(?<=<!-- packages, written by scripts/architecture.py -->\n).*?(?=<!-- end of packages -->)", re.DOTALL
)

SHOWN = FLOORS[:-1]
"""Not ``__main__``: it only starts the command."""

BOX, LANE, GAP = 88, 10, 12
"""Width of a package, of a line that passes a floor, and between two of either."""
HEIGHT, STEP, LEFT = 28, 68, 30
CENTRED = 0.9
"""How far a place goes to the mean of its neighbours; the rest of the way is the middle of the picture's."""
BESIDE = 8
"""How many arrows the one between two packages of one floor counts for, so that they stand side by side."""

STYLE = """\
    .thyme-diagram { color: #1f2328; font: 13px system-ui, sans-serif; }
    @media (prefers-color-scheme: dark) { .thyme-diagram { color: #e6edf3; } }
    .thyme-diagram text { fill: currentColor; }
    .thyme-diagram .small { font-size: 11px; opacity: .6; }
    .thyme-diagram .middle { text-anchor: middle; }
    .thyme-diagram .box { fill: currentColor; fill-opacity: .07; stroke: currentColor; stroke-opacity: .5; }
    .thyme-diagram .line { fill: none; stroke: currentColor; stroke-opacity: .45; stroke-width: 1.2; }
    .thyme-diagram .tip { fill: currentColor; fill-opacity: .7; }"""

Arrow = tuple[str, str]
Place = tuple[str, int]
"""A package on its floor, or the line to a package where it passes a floor above."""


def told(found: Iterable[Arrow]) -> list[Arrow]:
    """The arrows that no others imply, in order."""
    below: dict[str, set[str]] = defaultdict(set)
    for source, target in found:
        below[source].add(target)

    def reached(start: str) -> set[str]:
        return {deep for target in below[start] for deep in {target, *reached(target)}}

    return sorted((a, b) for a in list(below) for b in below[a] if not any(b in reached(c) for c in below[a] - {b}))


def lines(drawn: Sequence[Arrow]) -> list[tuple[Place, Place]]:
    """Arrows in steps of one floor; those to the same package run together as soon as they meet."""
    made: set[tuple[Place, Place]] = set()
    for source, target in drawn:
        high, low = _height(source), _height(target)
        steps = [(source, high), *((target, height) for height in range(high - 1, low, -1)), (target, low)]
        made.update(pairwise(steps))
    return sorted(made)


def layout(steps: Sequence[tuple[Place, Place]]) -> dict[Place, float]:
    """The middle of every place, so that lines are short and cross seldom."""
    rows: list[list[Place]] = [[(name, height) for name in parts] for height, parts in enumerate(SHOWN)]
    for place in sorted({place for step in steps for place in step}):
        if place not in rows[place[1]]:
            rows[place[1]].append(place)
    near: dict[Place, list[Place]] = defaultdict(list)
    for one, other in steps:
        near[one].append(other)
        near[other].append(one)
    for left, right in NEIGHBOURS:
        near[left, _height(left)] += [(right, _height(right))] * BESIDE
        near[right, _height(right)] += [(left, _height(left))] * BESIDE
    middles = {place: (index - len(row) / 2) * (BOX + GAP) for row in rows for index, place in enumerate(row)}
    for turn in range(60):
        for row in rows if turn % 2 else reversed(rows):
            wanted = {place: CENTRED * sum(middles[n] for n in near[place]) / max(1, len(near[place])) for place in row}
            row.sort(key=lambda place: (wanted[place], place))
            middles.update(_apart(row, wanted))
    edge = min(x - _width(place) / 2 for place, x in middles.items())
    return {place: round(x - edge + LEFT, 1) for place, x in middles.items()}


def _apart(row: Sequence[Place], wanted: Mapping[Place, float]) -> dict[Place, float]:
    """As near to where they want to be as their widths allow, in their order: the least squares, by pooling."""
    offset, pools, far = {}, [], 0.0
    for before, place in zip([None, *row], row, strict=False):
        far += (_width(before) + _width(place)) / 2 + GAP if before else 0.0
        offset[place] = far
        pools.append(([place], wanted[place] - far))
        while len(pools) > 1 and pools[-2][1] > pools[-1][1]:
            (left, x), (right, y) = pools[-2:]
            pools[-2:] = [([*left, *right], (x * len(left) + y * len(right)) / (len(left) + len(right)))]
    return {place: shift + offset[place] for together, shift in pools for place in together}


def _width(place: Place) -> int:
    return BOX if _is_box(place) else LANE


def _is_box(place: Place) -> bool:
    return place[1] == _height(place[0])


def _height(part: str) -> int:
    height = floor(part)
    assert height is not None
    return height


def _top(height: int) -> int:
    return (len(SHOWN) - 1 - height) * STEP + 8


def picture() -> str:
    """The whole drawing."""
    steps = lines([arrow for arrow in told(arrows(PACKAGE)) if "__main__" not in arrow and arrow not in NEIGHBOURS])
    middles = layout(steps)
    wide = round(max(x + _width(place) / 2 for place, x in middles.items()) + 8)
    high = _top(0) + HEIGHT + 10
    inside = [*_floors(), *_neighbours(middles), *(_line(step, middles) for step in steps), *_boxes(middles)]
    head = f'<svg class="thyme-diagram" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{wide}">'
    return "\n".join([head, "  <style>", STYLE, "  </style>", *(f"  {line}" for line in inside), "</svg>", ""])


def _floors() -> list[str]:
    return [f'<text class="small" x="2" y="{_top(height) + 18}">{height + 1}</text>' for height in range(len(SHOWN))]


def _boxes(middles: Mapping[Place, float]) -> list[str]:
    made = []
    for place, x in sorted(middles.items()):
        if _is_box(place):
            top = _top(place[1])
            made.append(f'<rect class="box" x="{x - BOX / 2:g}" y="{top}" width="{BOX}" height="{HEIGHT}" rx="6"/>')
            made.append(f'<text class="middle" x="{x:g}" y="{top + 18.5}">{place[0]}</text>')
    return made


def _line(step: tuple[Place, Place], middles: Mapping[Place, float]) -> str:
    """A curve down one floor; with a tip where it arrives, straight on through the floor where it does not."""
    (one, other), (x, y) = step, (middles[step[0]], middles[step[1]])
    start, end = _top(one[1]) + HEIGHT, _top(other[1])
    bend = (start + end) / 2
    path = f'<path class="line" d="M{x:g} {start} C{x:g} {bend:g} {y:g} {bend:g} {y:g} {end}'
    if not _is_box(other):
        return f'{path} V{end + HEIGHT}"/>'
    return f'{path}"/><polygon class="tip" points="{y - 3.5:g},{end - 6} {y + 3.5:g},{end - 6} {y:g},{end}"/>'


def _neighbours(middles: Mapping[Place, float]) -> list[str]:
    """Arrows between packages of one floor."""
    made = []
    for one, other in sorted(NEIGHBOURS):
        height = _height(one)
        x, to, y = middles[one, height], middles[other, height], _top(height) + HEIGHT / 2
        side = 1 if to > x else -1
        start, end = x + side * BOX / 2, to - side * BOX / 2
        tip = f"{end - side * 6:g},{y - 3.5:g} {end - side * 6:g},{y + 3.5:g} {end:g},{y:g}"
        made.append(f'<path class="line" d="M{start:g} {y:g} H{end:g}"/><polygon class="tip" points="{tip}"/>')
    return made


# --- the page


def sentence(part: str) -> str:
    """What a package says of itself: the first sentence of its docstring, its code marks as those of a document."""
    path = PACKAGE / part / "__init__.py"
    path = path if path.is_file() else PACKAGE / f"{part}.py"
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    first = re.split(r"(?<=[.!?])\s", " ".join(text.split("\n\n")[0].split()))[0]
    return first.replace("``", "`")


def table() -> str:
    """One line a package, from the top floor down."""
    head = "| floor | package | what it is for |\n|---|---|---|\n"
    rows = [
        f"| {height + 1} | `{part}` | {sentence(part)} |\n"
        for height, parts in reversed(list(enumerate(SHOWN)))
        for part in parts
    ]
    return head + "".join(rows)


def page(text: str) -> str:
    """The page with its table as it is now."""
    assert TABLE.search(text), "the page has no place for the table of packages"
    return TABLE.sub(lambda _: f"\n{table()}\n", text)


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
