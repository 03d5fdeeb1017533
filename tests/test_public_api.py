"""What others may rely on is written down, says what it is, and is what the documents speak of."""

from __future__ import annotations

import ast
import difflib
from inspect import signature
from pathlib import Path

import public_api
import pytest
from public_api import ROOT, STORED, Found, docstring, documented, file, listing, locate, public, referenced

from thyme import AsyncThyme, Thyme


def test_the_public_api_is_the_one_that_is_written_down():
    stored = STORED.read_text(encoding="utf-8") if STORED.is_file() else ""
    changed = list(difflib.unified_diff(stored.splitlines(), listing().splitlines(), "written down", "now", "", "", 0))
    told = "the public API changed; if that is meant: python tests/public_api.py, and a line in CHANGELOG.md"
    assert not changed, "\n".join([told, *changed])


def test_what_is_public_says_what_it_is():
    assert [name for name, found in public().items() if not said(found)] == []


def said(found: Found) -> bool:
    """Whether a class with its public methods, or a function, has docstrings; anything else may go without."""
    node = found.node
    if isinstance(node, ast.ClassDef):
        methods = (one for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef))
        own = [one for one in methods if one.name[0] != "_" and "overload" not in map(ast.unparse, one.decorator_list)]
        return bool(docstring(found)) and all(map(ast.get_docstring, own))
    return bool(docstring(found)) or isinstance(node, ast.Assign | ast.AnnAssign)


def test_every_package_says_in_one_sentence_what_it_is_for():
    silent = []
    for path in sorted((ROOT / "thyme").rglob("__init__.py")):
        first = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n")[0]
        if not first.endswith((".", ":")) or len(first.split()) < 4:
            silent.append(path.relative_to(ROOT).as_posix())
    assert silent == []


def test_what_the_reference_shows_is_there():
    assert [name for name in referenced() if not locate(name)] == []


def test_what_documents_name_is_there():
    assert {name: page for name, page in documented().items() if not locate(name)} == {}


# --- the rules can fail


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A made-up package with one module and one document."""
    files = {
        "thyme/__init__.py": "from thyme.deep import ask\n__all__ = ['ask']",
        "thyme/deep.py": "def ask(question: str, *, seed: int = 0) -> str:\n    '''Ask.'''\ndef _hidden(): ...",
        "docs/reference/deep.md": "::: thyme.deep",
        "docs/guide.md": "See `thyme.gone`, `thyme.deep.gone`.\n```python\nfrom thyme.deep import missing\n```\n",
        "README.md": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(public_api, "ROOT", tmp_path)
    cached = (public_api.tree, public_api.definitions, public_api.imports)
    for one in cached:
        one.cache_clear()
    yield tmp_path
    for one in cached:
        one.cache_clear()


def test_a_name_is_listed_once_with_its_signature(tree: Path):
    assert listing().removeprefix(public_api.HEADER) == (
        "\nthyme\n    def ask(question: str, *, seed: int=0) -> str\n\nthyme.deep\n    ask = thyme.ask\n"
    )


def test_a_changed_signature_changes_the_list(tree: Path):
    before = listing()
    (tree / "thyme" / "deep.py").write_text("def ask(question: str, *, seed: int = 1) -> str:\n    '''Ask.'''")
    public_api.tree.cache_clear()
    public_api.definitions.cache_clear()
    assert listing() != before


def test_names_in_documents_that_lead_nowhere_are_seen(tree: Path):
    assert file("thyme.deep")
    assert {name for name in documented() if not locate(name)} == {"thyme.deep.gone", "thyme.deep.missing"}


def test_a_function_without_a_docstring_is_seen(tree: Path):
    (tree / "thyme" / "deep.py").write_text("def ask(): ...")
    assert not said(Found("thyme.deep", "ask"))


def test_both_clients_take_the_same_arguments() -> None:
    assert signature(Thyme.__init__).parameters == signature(AsyncThyme.__init__).parameters
    for name in ("ask", "stream"):
        assert signature(getattr(Thyme, name)).parameters == signature(getattr(AsyncThyme, name)).parameters
