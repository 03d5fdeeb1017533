"""`thyme demo`: each kind of question twice, a table, a page and the records behind it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from command_helpers import block
from typer.testing import CliRunner

from thyme.cli import app
from thyme.nano.world import KINDS
from thyme.store import read_trajectories

run = CliRunner()


def test_demo(tmp_path: Path, scripted: Callable[..., str]) -> None:
    code = "from PIL import Image\nImage.open(image_path).crop((0, 0, 200, 100)).save('a.png')\nprint('a.png')"
    model = scripted(block(code), "Read.</think>\n<answer>42</answer>")
    arguments = ["demo", "--seed", "4", "--model", model, "--out", str(tmp_path / "demo")]
    result = run.invoke(app, arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "scenes of seed 4" in result.stdout
    for kind in KINDS:
        assert f"{kind}, with code" in result.stdout
        assert f"{kind}, code blocked" in result.stdout
        assert re.search(rf"^{kind} +1 +0 % ", result.stdout, re.MULTILINE)
    assert re.search(r"^all +7 +0 % +0 to  35 +100 % +86 % ", result.stdout, re.MULTILINE), "arithmetic has no image"
    stored = list(read_trajectories(tmp_path / "demo" / "trajectories.jsonl"))
    assert [t.problem.kind for t in stored[::2]] == list(KINDS)
    assert [t.sampling.tools for t in stored] == [True, False] * len(KINDS)
    page = (tmp_path / "demo" / "index.html").read_text()
    assert page.count('<article class="attempt"') == 14
    assert page.count('<section class="case"') == 7
    assert "14 trajectories · 0 right, 14 wrong" in page
    again = run.invoke(app, [*arguments[:-1], str(tmp_path / "again")])
    assert [t.problem.id for t in read_trajectories(tmp_path / "again" / "trajectories.jsonl")] == [
        t.problem.id for t in stored
    ]
    assert again.exit_code == 0


def test_a_folder_that_cannot_be_written_is_said_first(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run.invoke(app, ["demo", "--model", "scripted:nowhere.json", "--out", str(tmp_path / "file")])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "name another folder with --out" in result.stderr


def test_fresh_scenes_without_a_seed(tmp_path: Path, scripted: Callable[..., str]) -> None:
    model = scripted("<think>Hm.</think>\n<answer>42</answer>")
    seeds = set()
    for _ in range(2):
        result = run.invoke(app, ["demo", "--model", model, "--out", str(tmp_path)])
        seeds.update(re.findall(r"scenes of seed (\d+)", result.stdout))
    assert len(seeds) == 2


def test_a_failing_model_is_exit_code_1_and_the_page_is_still_written(
    tmp_path: Path, scripted: Callable[..., str]
) -> None:
    result = run.invoke(app, ["demo", "--seed", "4", "--model", scripted(), "--out", str(tmp_path)])
    assert result.exit_code == 1
    assert "nano-test-4-easy-0: failed: the script has 0 continuations" in result.stderr
    assert "14 failed" in (tmp_path / "index.html").read_text()
