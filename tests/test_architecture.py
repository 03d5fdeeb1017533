"""The arrows point down, torch stays where it belongs, files and functions stay readable, importing stays cheap.

The rules are checked by reading the source, so a lazy import inside a function counts like any other.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import architecture
from floors import NEIGHBOURS, PACKAGE, floor, imported, sources

FRONT_DOOR = {"api"}
"""What ``thyme/__init__.py`` hands out, when it is first asked for; nothing else stands there."""

TORCH = ("engines/transformers*.py", "engines/vllm*.py", "families/*tensors.py", "train/*", "nano/*")
"""Files that may import torch."""

MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60


def wrong_arrows(package: Path) -> list[str]:
    """Imports that do not point down."""
    found = set()
    for name, tree, _ in sources(package):
        part = name.split("/")[0].removesuffix(".py")
        targets = {module.split(".")[1] for module in imported(tree, name) if module.startswith("thyme.")}
        if part == "__init__":
            upward = {target for target in targets - FRONT_DOOR if floor(target) is not None}
            found |= {f"{name} imports {target}" for target in upward}
            continue
        height = floor(part)
        if height is None:
            found.add(f"{name} belongs to no floor")
            continue
        for target in targets - {part}:
            below = floor(target)
            if below is not None and below >= height and (part, target) not in NEIGHBOURS:
                found.add(f"{name} imports {target}")
    return sorted(found)


def misplaced_torch(package: Path) -> list[str]:
    """Files that import torch and may not; torchvision may be imported nowhere."""
    found = []
    for name, tree, _ in sources(package):
        roots = {module.split(".")[0] for module in imported(tree, name)}
        allowed = any(fnmatch(name, pattern) for pattern in TORCH)
        found += [
            f"{name} imports {root}"
            for root in sorted(roots & {"torch", "torchvision"})
            if root == "torchvision" or not allowed
        ]
    return found


def long_files(folder: Path) -> list[str]:
    """Files over the budget."""
    counted = ((name, len(text.splitlines())) for name, _, text in sources(folder))
    return [f"{name} has {lines} lines" for name, lines in counted if lines > MAX_FILE_LINES]


def long_functions(folder: Path) -> list[str]:
    """Functions over the budget."""
    found = []
    for name, tree, _ in sources(folder):
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MAX_FUNCTION_LINES:
                    found.append(f"{name}: {node.name} has {length} lines")
    return found


def test_arrows_point_down():
    assert wrong_arrows(PACKAGE) == []


def test_torch_stays_where_it_belongs():
    assert misplaced_torch(PACKAGE) == []


@pytest.mark.parametrize("folder", ["thyme", "tests", "examples", "benchmarks", "scripts"])
def test_files_stay_short(folder: str):
    assert long_files(PACKAGE.parent / folder) == []


@pytest.mark.parametrize("folder", ["thyme", "examples", "benchmarks", "scripts"])
def test_functions_stay_short(folder: str):
    """A test may go on, as what a person does on a page does."""
    assert long_functions(PACKAGE.parent / folder) == []


# --- docs/architecture.md


def test_the_picture_and_the_table_are_those_of_the_code():
    """``python scripts/architecture.py`` draws and writes both anew."""
    text = architecture.PAGE.read_text(encoding="utf-8")
    assert architecture.page(text) == text
    assert architecture.PICTURE.read_text(encoding="utf-8") == architecture.picture()


def test_the_page_names_what_is_there():
    text = architecture.PAGE.read_text(encoding="utf-8")
    paths = re.findall(r"`((?!tests/|scripts/)[a-z_]+(?:/[\w.]+)+)`", text)
    assert len(paths) > 40
    assert [path for path in paths if not (PACKAGE / path).exists()] == []
    for name, path in re.findall(r"`([A-Z_]+)` in\s`([\w/.]+)`", text):
        assert re.search(rf"^{name}\b", (PACKAGE / path).read_text(encoding="utf-8"), re.MULTILINE), (name, path)


def test_every_arrow_is_drawn_or_implied(tree: Path):
    drawn = architecture.told(architecture.arrows(tree))
    assert drawn == [("agent", "engines"), ("engines", "families"), ("families", "markup"), ("markup", "types"),
                     ("nano", "train")]  # fmt: skip
    assert architecture.lines([("agent", "types")]) == [
        (("agent", 3), ("types", 2)), (("types", 1), ("types", 0)), (("types", 2), ("types", 1))]  # fmt: skip


# --- the rules can fail


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A made-up package that obeys."""
    files = {
        "__init__.py": "__version__ = '1'\ndef __getattr__(name):\n    from thyme import api",
        "types.py": "import json",
        "markup.py": "from thyme.types import Problem",
        "families/__init__.py": "from thyme import markup",
        "families/qwen_tensors.py": "import torch",
        "engines/base.py": "import thyme.families.qwen_tensors\nfrom . import scripted",
        "engines/transformers_cache.py": "import torch.nn",
        "agent/rollout.py": "from thyme.engines.base import Engine\nfrom .draft import D\nfrom ..markup import parse",
        "nano/model.py": "from torch import nn\nfrom thyme.train import sft",
        "cli/__init__.py": "from thyme import __version__",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_an_obedient_tree_passes(tree: Path):
    assert wrong_arrows(tree) == misplaced_torch(tree) == long_files(tree) == long_functions(tree) == []


@pytest.mark.parametrize(
    ("name", "text", "target"),
    [
        ("types.py", "from thyme.errors import ThymeError", "errors"),
        ("markup.py", "import thyme.config", "config"),
        ("config/load.py", "from thyme import prompts", "prompts"),
        ("engines/base.py", "def f():\n    from thyme.agent.rollout import rollout", "agent"),
        ("families/x.py", "from thyme.engines import base", "engines"),
        ("agent/x.py", "from ..view import html", "view"),
        ("agent/x.py", "from .. import cli", "cli"),
        ("train/x.py", "import thyme.nano.world as world", "nano"),
        ("__init__.py", "from thyme.types import Problem", "types"),
        ("nano/deep/x.py", "from ...cli import main", "cli"),
    ],
)
def test_a_wrong_arrow_is_seen(tree: Path, name: str, text: str, target: str):
    (tree / name).parent.mkdir(parents=True, exist_ok=True)
    (tree / name).write_text(text)
    assert wrong_arrows(tree) == [f"{name} imports {target}"]


def test_a_part_without_a_floor_is_seen(tree: Path):
    (tree / "utils.py").write_text("")
    assert wrong_arrows(tree) == ["utils.py belongs to no floor"]


@pytest.mark.parametrize(
    ("name", "text", "root"),
    [
        ("agent/x.py", "def f():\n    import torch", "torch"),
        ("families/x.py", "from torch.nn import functional", "torch"),
        ("engines/openai.py", "import torch as t", "torch"),
        ("train/x.py", "import torchvision", "torchvision"),
    ],
)
def test_misplaced_torch_is_seen(tree: Path, name: str, text: str, root: str):
    (tree / name).parent.mkdir(exist_ok=True)
    (tree / name).write_text(text)
    assert misplaced_torch(tree) == [f"{name} imports {root}"]


def test_length_is_seen(tree: Path):
    (tree / "markup.py").write_text("x = 1\n" * (MAX_FILE_LINES + 1))
    (tree / "types.py").write_text("async def f():\n" + "    x = 1\n" * MAX_FUNCTION_LINES)
    assert long_files(tree) == ["markup.py has 501 lines"]
    assert long_functions(tree) == ["types.py: f has 61 lines"]


# --- importing


def fresh(code: str) -> str:
    """Standard output of a fresh interpreter."""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return result.stdout


@pytest.mark.parametrize("module", ["thyme", "thyme.types", "thyme.config", "thyme.agent", "thyme.engines.scripted"])
def test_importing_pulls_no_torch(module: str):
    heavy = "{'torch', 'transformers', 'trl', 'datasets'}"
    assert fresh(f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))") == "[]\n"


@pytest.mark.parametrize(
    ("statement", "heavy"),
    [
        ("import thyme", {"numpy", "pydantic", "rich", "thyme.api"}),
        ("from thyme import Thyme", {"torch", "httpx", "fastapi"}),
    ],
)
def test_importing_pulls_only_what_is_asked_for(statement: str, heavy: set[str]):
    assert fresh(f"import sys; {statement}; print(sorted({heavy} & set(sys.modules)))") == "[]\n"


def test_importing_the_package_is_quick():
    """In seconds of the processor, which do not depend on what else the machine does."""
    code = "import time; start = time.process_time(); import thyme; print(time.process_time() - start)"
    assert min(float(fresh(code)) for _ in range(5)) < 0.3
