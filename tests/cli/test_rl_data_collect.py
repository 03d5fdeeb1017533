"""The command makes a collection, goes on after a kill, and says in one line what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest
from command_helpers import thyme
from PIL import Image
from waiting import wait_until

from thyme.data.collect.folder import read_items, read_picture

COUNT = 12


def noise(seed: int, side: int = 600) -> Image.Image:
    """A picture that is like no other."""
    cells = np.random.default_rng(seed).integers(0, 255, (12, 12, 3)).astype(np.uint8)
    return Image.fromarray(cells).resize((side, side - 100), Image.Resampling.BILINEAR)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("in") / "photos"
    folder.mkdir()
    for seed in range(COUNT):
        noise(seed).save(folder / f"{seed:02}.png", compress_level=1)
    return folder


def running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.mark.timeout(400)
def test_after_a_kill_the_same_command_goes_on(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--min-side", "500", "--near", "-1", "--licence", "CC0-1.0", "--processes", "1"]
    command = [sys.executable, "-c", "from thyme.cli import main; main()", "rl-data", "collect", str(photos)]
    process = subprocess.Popen([*command, "--out", str(out), *options, "--quiet"], start_new_session=True)
    try:
        wait_until(lambda: process.poll() is not None or any(read_items(out)), 300)
        workers = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    finally:
        process.kill()
        process.wait()
    before = list(read_items(out))
    assert 1 <= len(before) < COUNT
    assert workers
    wait_until(lambda: not any(map(running, workers)))  # no process outlives the command

    again = thyme("rl-data", "collect", photos, "--out", out, *options, "--json")
    assert again.returncode == 0, again.stderr.decode()
    told = json.loads(again.stdout)
    assert (told["files"], told["taken"], told["rejected"]) == (COUNT, COUNT, {})
    assert Path(told["report"]).is_file()
    items = list(read_items(out))
    assert items[: len(before)] == before
    assert [item.original for item in items] == [f"{seed:02}.png" for seed in range(COUNT)]
    for item in items:
        assert (read_picture(out, item).id, item.licence) == (item.id, "CC0-1.0")
    assert {path.name for path in out.glob("tiles/*/*")} == {path.stem for path in out.glob("images/*/*")}
    assert not (out / ".work").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone", "--out", "out"], "gone: no such folder"),
        ([".", "--out", "."], "lie in each other"),
        (["in", "--out", "out", "--sidecar", "gone.csv"], "gone.csv cannot be read"),
        (["in", "--out", "out", "--near", "65"], "--near"),
        (["in"], "--out"),
    ],
)
def test_usage_is_one_line_and_exit_code_two(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from thyme.cli import main

    (tmp_path / "in").mkdir()
    noise(1, 300).save(tmp_path / "in" / "a.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["thyme", "rl-data", "collect", *arguments])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr()
    assert ended.value.code == 2
    assert message in told.err
    assert not told.out


def test_what_was_passed_over_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from thyme.cli.rl_data_collect import _say
    from thyme.data.collect.listing import listing
    from thyme.data.collect.run import Summary

    for name in ("a.png", "b.CR3", "c.cr3", "nothing", "d.\x1b[2Jpng", ".hidden"):
        (tmp_path / name).write_bytes(b"")
    others: Counter[str] = Counter()
    assert [found.name for found in listing(tmp_path, others)] == ["a.png"]
    _say(Summary(1, 0, {"unreadable": 1}, dict(others.most_common())), Path("out"), Path("out/report.html"))
    first, second, _ = capsys.readouterr().err.splitlines()
    assert first == "0 of 1 pictures taken: out (not taken: unreadable 1)"
    assert second.startswith("4 other files passed over, by ending: .cr3 2, ")
    assert "none 1" in second
    assert "\x1b" not in second
