"""``thyme sandbox check`` and ``thyme sandbox run``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from thyme.sandbox import check


@pytest.fixture(scope="module", autouse=True)
def _some_level() -> None:
    if check().best is None:
        pytest.skip("this machine offers no level of isolation")


def thyme(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from thyme.cli import main; main()", "sandbox", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_check_says_what_there_is() -> None:
    finished = thyme("check")
    assert finished.returncode == 0, finished.stderr
    assert "taken by default: " in finished.stdout
    assert "numpy" in finished.stdout
    report = json.loads(thyme("check", "--json").stdout)
    assert report["best"] in {"namespaces", "landlock"}


def test_files_are_rounds_of_one_session(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "red").save(tmp_path / "in.png")
    (tmp_path / "a.py").write_text(
        "from PIL import Image\nx = 3\nImage.open(image_path).crop((-5, 0, 20, 10)).save('c.png')\nprint('c.png')"
    )
    (tmp_path / "b.py").write_text("print(x)\n1 / 0")
    arguments = ["run", tmp_path / "a.py", tmp_path / "b.py", "--image", tmp_path / "in.png"]
    finished = thyme(*arguments, "--save", tmp_path / "out", "--json", "--timeout", "20")
    assert finished.returncode == 0, finished.stderr
    first, second = map(json.loads, finished.stdout.splitlines())
    path = "/mnt/data/temp_processed_images/c.png"
    file = tmp_path / "out" / "round_1_image_1.png"
    assert first["images"] == [{"width": 20, "height": 10, "path": path, "file": str(file)}]
    with Image.open(file) as picture:
        assert picture.size == (20, 10)
    assert [repair["name"] for repair in first["repairs"]] == ["boundary"]
    assert first["isolation"] in {"namespaces", "landlock"}
    assert second["stdout"] == "3\n"
    assert second["error"] == {"type": "ZeroDivisionError", "message": "division by zero", "line": 2}
    text = thyme(*arguments, "--repairs", "none").stdout
    assert "round 1 of 2" in text
    assert "repaired" not in text
    assert "ZeroDivisionError (line 2): division by zero" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "{}/missing.py"], "cannot be read: No such file"),
        (["run", "{}/latin.py"], "is not UTF-8: byte 7 is 0xe9"),
        (["run", "{}/ok.py", "--repairs", "magic"], "there is no repair magic"),
        (["run", "{}/ok.py", "--image", "{}/ok.py"], "ok.py"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "latin.py").write_bytes("print('é')".encode("latin-1"))
    (tmp_path / "ok.py").write_text("print(1)")
    finished = thyme(*[argument.replace("{}", str(tmp_path)) for argument in arguments])
    assert finished.returncode == 2
    assert message in finished.stderr
    assert finished.stderr.count("\n") == 1
    assert finished.stdout == ""


def test_control_codes_of_the_code_do_not_reach_the_terminal(tmp_path: Path) -> None:
    file = tmp_path / "bell.py"
    file.write_text("print('\\x1b]0;title\\x07red')\nraise ValueError('\\x1b[2J')")
    done = thyme("run", file)
    assert "red" in done.stdout
    assert not any(ord(letter) < 32 and letter != "\n" for letter in done.stdout)
