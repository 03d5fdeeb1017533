"""What a session can see: the importable distributions and what they require, and nothing of this package."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

import thyme
from thyme.sandbox import Broker, runtime
from thyme.sandbox.jail.zygote import without_holes


def test_requirements_come_along_and_nothing_else() -> None:
    found = runtime.runtime_for(["pillow", "Numpy", "not-installed-anywhere"])
    names = {name for name, _ in found.packages}
    assert {"PIL", "numpy"} <= names
    assert not names & {"thyme", "pydantic", "pytest", "_pytest", "pip", "pandas"}
    assert all(os.path.isabs(path) and os.path.exists(path) for _, path in found.packages)


def test_this_package_is_never_importable() -> None:
    assert not {"thyme", "pydantic"} & {name for name, _ in runtime.runtime_for(["thyme-vl", "numpy"]).packages}


def test_site_folders_are_holes_in_what_is_visible() -> None:
    found = runtime.runtime_for(["numpy"])
    visible = [part for tree in found.trees for part in without_holes(tree, list(found.holes))]
    for path in (*sys.path, str(Path(thyme.__file__).parents[1])):
        real = os.path.realpath(path)
        if os.path.basename(real) in {"site-packages", "dist-packages"} or Path(real, "thyme").is_dir():
            assert not any(runtime.is_inside(real, [part]) for part in visible), real
    assert any(runtime.is_inside(os.path.realpath(json.__file__), [part]) for part in visible)


def test_holes_are_cut_out_exactly(tmp_path: Path) -> None:
    for folder in ("a/b/hole", "a/c", "d"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "a" / "file").touch()
    parts = without_holes(str(tmp_path), [str(tmp_path / "a/b/hole")])
    assert sorted(os.path.relpath(part, tmp_path) for part in parts) == ["a/c", "a/file", "d"]


@pytest.mark.asyncio(loop_scope="module")
async def test_this_package_cannot_be_read_by_any_path(broker: Broker) -> None:
    """Its scenes and rewards would tell a policy the answers."""
    files = [str(path) for path in Path(thyme.__file__).parent.rglob("*.py")][:200]
    code = (
        "import os\nreadable = []\nfor f in FILES:\n    try:\n        with open(f) as g: g.read()\n"
        "        readable.append(f)\n    except OSError: pass\nprint(len(readable), readable[:3])\n"
        "import sys\nprint([n for n in sys.modules if n.split('.')[0] == 'thyme'])"
    ).replace("FILES", repr(files))
    async with broker.session() as session:
        execution = await session.run(code)
    assert execution.stdout == "0 []\n[]\n"


@pytest.mark.asyncio(loop_scope="module")
async def test_only_importable_distributions_are_found(broker: Broker) -> None:
    code = (
        "import importlib.util as u\n"
        "print([n for n in ('torch', 'pydantic', 'pytest', 'typer', 'pip', 'setuptools', 'thyme') if u.find_spec(n)])\n"
        "print([n for n in ('numpy', 'cv2', 'PIL') if not u.find_spec(n)])"
    )
    async with broker.session() as session:
        assert (await session.run(code)).stdout == "[]\n[]\n"
