"""The public API, read off the source without importing it; ``python tests/public_api.py`` writes it down anew.

Public is what a package names in ``__all__``, what the reference shows (``::: thyme.x`` in docs/reference), and what a
document imports or names in full. `public_api.txt` has all of it with its signatures, so that a change is seen.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
STORED = Path(__file__).with_suffix(".txt")

HEADER = """\
# The public API, with signatures: what `__all__` of a package, the reference or a document names.
# Written by `python tests/public_api.py`; `a = b` is the same thing under a second name.
"""

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.Assign | ast.AnnAssign


@dataclass(frozen=True)
class Found:
    """Where a name leads: a module, or what one defines."""

    module: str
    name: str = ""
    """Empty for the module itself."""

    @property
    def node(self) -> Definition | ast.Module:
        return definitions(self.module)[self.name] if self.name else tree(self.module)


# --- modules


def file(module: str) -> Path | None:
    """The file of a module, None where there is none."""
    path = ROOT / module.replace(".", "/")
    return next((found for found in (path.with_suffix(".py"), path / "__init__.py") if found.is_file()), None)


@cache
def tree(module: str) -> ast.Module:
    path = file(module)
    assert path, f"there is no module {module}"
    return ast.parse(path.read_text(encoding="utf-8"))


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Of a body and of its ``if`` and ``try``."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try):
            yield from statements([*node.body, *node.orelse])


def assigned(node: ast.stmt) -> str | None:
    """The name that an assignment is about."""
    if not isinstance(node, ast.Assign | ast.AnnAssign):
        return None
    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
    return target.id if isinstance(target, ast.Name) else None


@cache
def definitions(module: str) -> dict[str, Definition]:
    """What a module defines itself."""
    found: dict[str, Definition] = {}
    for node in statements(tree(module).body):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign) and (name := assigned(node)):
            found[name] = node
    return found


@cache
def imports(module: str) -> dict[str, str]:
    """Name in a module to the full name that it imports under it."""
    return {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in statements(tree(module).body)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def locate(full: str) -> Found | None:
    """What a full name leads to, through the imports of packages; None where nothing of that name is there.

    As in Python, what a package defines or imports hides its module of that name.
    """
    module, _, name = full.rpartition(".")
    if file(module):
        if name in definitions(module):
            return Found(module, name)
        if imports(module).get(name, full) != full:
            return locate(imports(module)[name])
    return Found(full) if file(full) else None


# --- what is public


def exported() -> Iterator[str]:
    """What packages name in ``__all__``."""
    for path in sorted((ROOT / "thyme").rglob("__init__.py")):
        module = path.parent.relative_to(ROOT).as_posix().replace("/", ".")
        if listed := definitions(module).get("__all__"):
            assert isinstance(listed, ast.Assign)
            yield from (f"{module}.{name}" for name in ast.literal_eval(listed.value))


def referenced() -> Iterator[str]:
    """What the reference shows."""
    for page in sorted((ROOT / "docs" / "reference").glob("*.md")):
        yield from re.findall(r"^::: (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE)


def documented() -> dict[str, str]:
    """What documents import in a block of Python or name in full, and the document that does first."""
    found: dict[str, str] = {}
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        text = page.read_text(encoding="utf-8")
        named = [name for name in re.findall(r"`(thyme(?:\.\w+)+)`", text) if file(".".join(name.split(".")[:2]))]
        for block in re.findall(r"^ *```py(?:thon)?\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE):
            named += imported(block)
        for name in named:
            found.setdefault(name, page.relative_to(ROOT).as_posix())
    return found


def imported(block: str) -> Iterator[str]:
    """Full names of ours that a block of Python imports; none where it is a fragment that does not parse."""
    try:
        parsed = ast.parse(textwrap.dedent(block))
    except SyntaxError:
        return
    for node in ast.walk(parsed):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "thyme":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def members(module: str) -> Iterator[str]:
    """What the reference shows of a whole module: what it defines and says something of."""
    yield from (f"{module}.{name}" for name in definitions(module) if name[0] != "_" and docstring(Found(module, name)))


def public() -> dict[str, Found]:
    """Every public name that is not a module."""
    shown = set(referenced())
    names = {*exported(), *shown, *documented()}
    for name in shown:
        if (found := locate(name)) and not found.name:
            names.update(members(found.module))
    located = {name: locate(name) for name in sorted(names)}
    return {name: found for name, found in located.items() if found and found.name}


def docstring(found: Found) -> str:
    """Of a definition; for an assignment, the string behind it."""
    node = found.node
    if isinstance(node, ast.Assign | ast.AnnAssign):
        body = list(statements(tree(found.module).body))
        after = body[body.index(node) + 1 : body.index(node) + 2]
        return next((one.value.value for one in after if _is_text(one)), "")
    return ast.get_docstring(node) or ""


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


# --- signatures


def listing() -> str:
    """The whole list as it is stored: a section a module, by the shortest name of each thing."""
    shortest: dict[Found, str] = {}
    sections: dict[str, list[str]] = {}
    for name, found in sorted(public().items(), key=lambda pair: (pair[0].count("."), pair[0])):
        module, _, last = name.rpartition(".")
        first = shortest.setdefault(found, name)
        lines = [f"{last} = {first}"] if first != name else signature(found.node, last)
        sections.setdefault(module, []).extend(f"    {line}" for line in lines)
    return HEADER + "".join(f"\n{module}\n" + "\n".join(lines) + "\n" for module, lines in sorted(sections.items()))


def signature(node: ast.AST, name: str) -> list[str]:
    """Lines of a definition: its own, and for a class those of its public members, indented."""
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(ast.unparse(base) for base in (*node.bases, *(keyword.value for keyword in node.keywords)))
        inside = [line for member in node.body if (of := member_name(member)) for line in signature(member, of)]
        return [f"class {name}({bases})" if bases else f"class {name}", *(f"    {line}" for line in inside)]
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        marks = "".join(f"@{ast.unparse(mark)} " for mark in node.decorator_list if shown(mark))
        kind = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        return [f"{marks}{kind} {name}({ast.unparse(node.args)}){returns}"]
    if isinstance(node, ast.AnnAssign):
        return [f"{name}: {ast.unparse(node.annotation)}" + (f" = {ast.unparse(node.value)}" if node.value else "")]
    return [name]


def shown(mark: ast.expr) -> bool:
    """Whether a decorator is part of how something is called."""
    return ast.unparse(mark) in {"property", "classmethod", "staticmethod", "overload", "asynccontextmanager"}


def member_name(node: ast.stmt) -> str | None:
    """Name of a member of a class that others may use."""
    name = node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else assigned(node)
    own = {"__init__", "__call__", "__enter__", "__aenter__", "__iter__", "__aiter__", "__len__", "__getitem__"}
    return name if name and (name[0] != "_" or name in own) and name != "model_config" else None


if __name__ == "__main__":
    STORED.write_text(listing(), encoding="utf-8")
