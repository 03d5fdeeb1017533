"""``thyme sandbox check`` and ``thyme sandbox run``."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from thyme.cli import app
from thyme.cli.sandbox import describe
from thyme.sandbox import LevelReport, SandboxReport, check


@pytest.fixture(scope="module", autouse=True)
def _some_level() -> None:
    if check().best is None:
        pytest.skip("this machine offers no level of isolation")


def thyme(*arguments: str | Path, stdin: bytes | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from thyme.cli import main; main()", "sandbox", *map(str, arguments)]
    done = subprocess.run(command, input=stdin or b"", capture_output=True, timeout=60, check=False)
    return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())


def test_check_says_what_there_is() -> None:
    finished = thyme("check")
    assert finished.returncode == 0, finished.stderr
    assert "taken by default: " in finished.stdout
    assert "numpy" in finished.stdout
    report = json.loads(thyme("check", "--json").stdout)
    assert report["best"] in {"namespaces", "landlock"}
    assert report["libraries"]["numpy"] == version("numpy")
    assert f"numpy {version('numpy')}" in finished.stdout


def test_check_says_how_to_get_what_is_missing() -> None:
    missing = "isolation level 'namespaces' is not to be had here: no user namespaces. It needs Linux user namespaces."
    report = SandboxReport(
        kernel="6.1",
        machine="x86_64",
        landlock=0,
        levels=(LevelReport("namespaces", available=False, reason=missing),),
        importable=("numpy",),
        libraries={"numpy": "2.0", "opencv-python": None, "pandas": None},
    )
    text = describe(report)
    assert "Landlock missing" in text
    assert f"namespaces  no: {missing}" in text
    assert "taken by default: nothing" in text
    assert "code may import: the standard library, numpy 2.0, and" in text
    assert "not installed: pandas; to get what code may use: pip install 'thyme-vl[sandbox]'" in text


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
    assert second["error"] == {"type": "ZeroDivisionError", "message": "division by zero in `1 / 0`", "line": 2}
    text = thyme(*arguments, "--repairs", "none").stdout
    assert "round 1 of 2" in text
    assert "repaired" not in text
    assert "ZeroDivisionError (line 2): division by zero" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{}/missing.py"], "cannot be read: No such file"),
        (["print(1)"], "name a file of Python, or - for stdin"),
        (["{}"], "cannot be read: Is a directory"),
        (["{}/latin.py"], "is not UTF-8: byte 7 is 0xe9"),
        (["{}/ok.py", "{}/in.png"], "in.png is a picture, not code; give it as --image"),
        (["/dev/zero"], "holds more than 16 MiB, too much for code"),
        (["-", "-"], "stdin (-) holds one round"),
        (["{}/ok.py", "--repairs", "magic"], "there is no repair magic"),
        (["{}/ok.py", "--repairs", ","], "no repair is named"),
        (["{}/ok.py", "--image", "{}/ok.py"], "ok.py"),
        (["{}/ok.py", "--image", "{}/in.png", "--max-pixels", "9"], "raise the limit with --max-pixels"),
        (["{}/ok.py", "--save", "{}/ok.py"], "name another folder with --save"),
        (["{}/ok.py", "--token", "x"], "a token belongs to a server"),
        (["{}/ok.py", "--url", "nonsense"], "'nonsense' is no address"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(folder: Path, arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["sandbox", "run", *(word.replace("{}", str(folder)) for word in arguments)])
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.mark.parametrize("option", ["--timeout=0", "--timeout=nan", "--isolation=none", "--max-pixels=0", "--jsn"])
def test_options_that_cannot_be_are_named(folder: Path, option: str) -> None:
    done = CliRunner().invoke(app, ["sandbox", "run", str(folder / "ok.py"), option])
    assert done.exit_code == 2
    assert option.split("=")[0] in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "latin.py").write_bytes("print('é')".encode("latin-1"))
    (tmp_path / "ok.py").write_text("print(1)")
    Image.new("RGB", (4, 3)).save(tmp_path / "in.png")
    return tmp_path


def test_code_comes_from_stdin_too(folder: Path) -> None:
    done = thyme("run", "-", folder / "ok.py", "--json", stdin=b"\xef\xbb\xbfprint('from stdin')")
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["stdout"] for line in done.stdout.splitlines()] == ["from stdin\n", "1\n"]


def test_a_line_comes_when_its_round_is_over(folder: Path) -> None:
    """Who follows the output sees the first round before the second has ended, and can end it all."""
    (folder / "forever.py").write_text("while True: pass")
    command = [sys.executable, "-c", "from thyme.cli import main; main()", "sandbox", "run"]
    command += [str(folder / "ok.py"), str(folder / "forever.py"), "--json", "--timeout", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["stdout"] == "1\n"
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=30)
    assert process.returncode != 0
    assert rest == ""
    assert "Traceback" not in errors


def test_control_codes_of_the_code_do_not_reach_the_terminal(tmp_path: Path) -> None:
    file = tmp_path / "bell.py"
    file.write_text("print('\\x1b]0;title\\x07red')\nraise ValueError('\\x1b[2J')")
    done = thyme("run", file)
    assert "red" in done.stdout
    assert not any(ord(letter) < 32 and letter != "\n" for letter in done.stdout)
