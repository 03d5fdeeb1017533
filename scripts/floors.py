"""The floors that the packages stand on, and what each file imports: for the rules and for the picture of them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "thyme"

FLOORS = (
    ("types", "errors", "tags", "pillow"),
    (
        "markup",
        "config",
        "prompts",
        "images",
        "store",
        "delimited",
        "arithmetic",
        "events",
        "background",
        "hosting",
    ),
    ("sandbox", "engines", "families"),
    ("agent", "rewards", "view"),
    ("data", "eval"),
    ("train",),
    ("nano",),
    ("models",),
    ("reproduce",),
    ("serve", "studio", "api", "doctor"),
    ("cli",),
    ("__main__",),
)
"""From the ground up; a part imports lower floors only."""

NEIGHBOURS = {("engines", "families")}
"""The one arrow between parts of one floor."""


def floor(part: str) -> int | None:
    """The floor of a part, counted from 0; None where it has none."""
    return next((height for height, parts in enumerate(FLOORS) if part in parts), None)


def sources(package: Path) -> Iterator[tuple[str, ast.Module, str]]:
    """Path inside the package, syntax tree and text of each file."""
    for path in sorted(package.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        yield path.relative_to(package).as_posix(), ast.parse(text), text


def imported(tree: ast.Module, name: str) -> Iterator[str]:
    """Absolute names of all that a file imports, at any depth; of ``from a import b`` both ``a`` and ``a.b``."""
    here = ["thyme", *name.removesuffix(".py").split("/")]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(here[: -node.level]) + "." * bool(node.module) if node.level else ""
            module = base + (node.module or "")
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def arrows(package: Path) -> set[tuple[str, str]]:
    """Which part imports which, as far as both stand on a floor."""
    found = set()
    for name, tree, _ in sources(package):
        part = name.split("/")[0].removesuffix(".py")
        targets = {module.split(".")[1] for module in imported(tree, name) if module.startswith("thyme.")}
        found |= {(part, target) for target in targets if target != part and floor(target) is not None}
    return {arrow for arrow in found if floor(arrow[0]) is not None}
