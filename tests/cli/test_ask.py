"""`thyme ask`: what is printed, what is saved, and what is said when something is wrong."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sample_records as samples
from command_helpers import CROP, block, thyme
from PIL import Image
from typer.testing import CliRunner

from thyme.cli import app
from thyme.prompts import PACKAGED
from thyme.store import read_trajectories
from thyme.types import StopReason, Trajectory

run = CliRunner()
Make = Callable[..., str]


def ask_json(*arguments: object, said: str = "") -> Trajectory:
    """The trajectory on stdout; nothing but `said` is on stderr."""
    result = run.invoke(app, ["ask", *map(str, arguments), "--json"])
    assert result.exit_code == 0
    assert result.stderr.startswith(said) if said else not result.stderr
    return Trajectory.model_validate_json(result.stdout)


def test_transcript(street: Path, crops: str) -> None:
    """A process of its own, piped: thought, code, repair, output, size and path of the new image, answer; in order."""
    done = thyme("ask", street, "What does the sign say?", "--model", crops)
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode()
    places = [
        text.index(part)
        for part in (
            "question   What does the sign say?",
            "image      1: 640 × 400  street.png",
            "I look closer.",
            "code 1\n  from PIL import Image\n",
            "repaired   boundary: ",
            "printed    sign.png (340, 90)",
            "new image  340 × 90  /mnt/data/temp_processed_images/sign.png",
            "Now I can read it.",
            "answer     KX 47",
            "scripted · greedy · seed 0 · 1 code block · ",
        )
    ]
    assert places == sorted(places)
    assert "\x1b" not in text


def test_json_is_the_trajectory_and_nothing_else(street: Path, crops: str) -> None:
    done = thyme("ask", street, "What does the sign say?", "--model", crops, "--json", "--seed", "5")
    assert (done.returncode, done.stderr) == (0, b"")
    trajectory = Trajectory.model_validate_json(done.stdout)
    assert (trajectory.stop, trajectory.seed, len(trajectory.observations)) == (StopReason.ANSWER, 5, 1)
    assert trajectory.observations[0].execution.code == CROP
    assert str(street.parent) not in done.stdout.decode(), "no path of this machine is on the record"


def test_save_writes_record_images_and_page(street: Path, crops: str, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "saved"
    result = run.invoke(app, ["ask", str(street), "What does the sign say?", "--model", crops, "--save", str(folder)])
    assert result.exit_code == 0
    assert str(folder) in result.stderr
    (stored,) = read_trajectories(folder / "trajectory.jsonl")
    assert stored.observations[0].execution.images[0].size == (340, 90)
    assert sorted(path.name for path in (folder / "images").iterdir()) == sorted(
        f"{image.id}.png" for image in (stored.problem.images[0], stored.observations[0].execution.images[0])
    )
    page = (folder / "page.html").read_text()
    assert page.count("<img") == 2
    assert "KX 47" in page


def test_a_folder_that_cannot_be_written(street: Path, crops: str) -> None:
    result = run.invoke(app, ["ask", str(street), "What?", "--model", crops, "--save", str(street / "inside")])
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr
    assert "--save" in result.stderr


def test_a_folder_that_cannot_be_written_is_said_before_a_model_is_loaded(street: Path) -> None:
    message = wrong(street, "What?", "--model", "scripted:nowhere.json", "--save", street)
    assert "cannot be written (File exists)" in message


def test_a_full_disk_does_not_cost_the_json(street: Path, crops: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("thyme.api.result.write_trajectories", full)
    result = run.invoke(app, ["ask", str(street), "What?", "--model", crops, "--json", "--save", str(street.parent)])
    assert result.exit_code == 2
    assert "No space left" in result.stderr
    assert Trajectory.model_validate_json(result.stdout).stop is StopReason.ANSWER


def test_a_long_question_in_words_alone(scripted: Make) -> None:
    """Longer than any file name may be."""
    question = "What is 12 * 34? " * 40
    assert (
        ask_json(question, "--model", scripted("<think>408.</think>\n<answer>408</answer>")).stop is StopReason.ANSWER
    )


def test_what_is_not_utf8_or_not_in_the_terminals_alphabet(street: Path, scripted: Make, tmp_path: Path) -> None:
    model = scripted("<think>Σ 图</think>\n<answer>7</answer>")
    picture = street.rename(tmp_path / os.fsdecode(b"caf\xe9.png"))
    question = os.fsdecode(b"caf\xe9?")
    trajectory = ask_json(picture, question, "--model", model, "--save", tmp_path / "saved", said="saved in")
    assert (trajectory.problem.question, trajectory.problem.images[0].name) == ("caf\ufffd?", "caf\ufffd.png")
    done = thyme("ask", picture, question, "--model", model, environment={"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"answer     7" in done.stdout


def test_several_images_and_stdin(street: Path, scripted: Make, tmp_path: Path) -> None:
    other = tmp_path / "other.jpg"
    samples.picture(320, 200).save(other)
    model = scripted(block("print(len(image_paths), image_paths)"), "Two.</think>\n<answer>2</answer>")
    trajectory = ask_json(street, other, "How many?", "--model", model)
    assert [image.name for image in trajectory.problem.images] == ["street.png", "other.jpg"]
    assert "2 ['/mnt/data/input/image_1.png', '/mnt/data/input/image_2.jpg']" in (
        trajectory.observations[0].execution.stdout
    )
    done = thyme("ask", "-", "How many?", "--model", model, "--json", stdin=street.read_bytes())
    piped = Trajectory.model_validate_json(done.stdout).problem.images[0]
    assert (piped.name, piped.id) == ("stdin", trajectory.problem.images[0].id)


def test_a_question_in_words_alone(scripted: Make) -> None:
    model = scripted(block("print(12 * 34)"), "Done.</think>\n<answer>408</answer>")
    trajectory = ask_json("What is 12 * 34?", "--model", model)
    assert trajectory.problem.images == ()
    assert trajectory.observations[0].execution.stdout == "408\n"


def test_no_tools_blocks_code(street: Path, crops: str) -> None:
    trajectory = ask_json(street, "What?", "--model", crops, "--no-tools")
    assert not trajectory.sampling.tools
    assert trajectory.observations == ()


def test_settings_reach_the_rollout(street: Path, crops: str) -> None:
    arguments = (
        "--text-temperature",
        "0.7",
        "--code-temperature",
        "0.2",
        "--max-rounds",
        "0",
        "--isolation",
        "landlock",
    )
    trajectory = ask_json(street, "What?", "--model", crops, *arguments)
    sampling = trajectory.sampling
    assert (sampling.text_temperature, sampling.code_temperature, sampling.max_rounds) == (0.7, 0.2, 0)
    assert trajectory.stop is StopReason.MAX_ROUNDS


def test_isolation_is_the_one_asked_for(street: Path, crops: str) -> None:
    trajectory = ask_json(street, "What?", "--model", crops, "--isolation", "landlock")
    assert trajectory.observations[0].execution.isolation == "landlock"


def test_greedy_by_default(street: Path, crops: str) -> None:
    sampling = ask_json(street, "What?", "--model", crops).sampling
    assert (sampling.text_temperature, sampling.code_temperature, sampling.tools) == (0, 0, True)


def test_prompts_of_a_folder(street: Path, crops: str, tmp_path: Path) -> None:
    folder = tmp_path / "prompts"
    folder.mkdir()
    for name in ("user.txt", "user_text_only.txt"):
        (folder / name).write_text((PACKAGED / name).read_text())
    (folder / "system.txt").write_text("Speak like a lighthouse.")
    assert ask_json(street, "What?", "--model", crops, "--prompts", folder).prompt.system == "Speak like a lighthouse."


def test_failing_code_is_shown_and_the_rollout_goes_on(street: Path, scripted: Make) -> None:
    model = scripted(block("print(1 / 0)"), "It failed.</think>\n<answer>?</answer>")
    result = run.invoke(app, ["ask", str(street), "What?", "--model", model])
    assert result.exit_code == 0
    assert "error      ZeroDivisionError: division by zero in `print(1 / 0)` (line 1)" in result.stdout


def test_a_model_that_fails_is_exit_code_1_and_the_record_is_kept(street: Path, scripted: Make, tmp_path: Path) -> None:
    model = scripted(block("print(1)"))
    result = run.invoke(
        app, ["ask", str(street), "What?", "--model", model, "--json", "--save", str(tmp_path / "saved")]
    )
    assert result.exit_code == 1
    assert "thyme: the engine failed: the script has 1 continuations" in result.stderr
    assert json.loads(result.stdout)["stop"] == "error"
    assert len(list(read_trajectories(tmp_path / "saved" / "trajectory.jsonl"))) == 1


def wrong(*arguments: object) -> str:
    """The error line of a call that asks for something that cannot be; nothing is on stdout."""
    result = run.invoke(app, ["ask", *map(str, arguments)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Traceback" not in result.stderr
    return result.stderr


def test_bad_pictures_are_named(tmp_path: Path, crops: str) -> None:
    """The kinds of bad file are those of test_images.py; here, that each reaches the user before a model is loaded."""
    (tmp_path / "empty.png").touch()
    (tmp_path / "notes.png").write_text("notes")
    Image.new("RGB", (300, 200)).save(tmp_path / "large.png")
    no_model = ("--model", "scripted:nowhere.json")
    assert "gone.png: no such file" in wrong(tmp_path / "gone.png", "What?", *no_model)
    assert "is a directory" in wrong(tmp_path, "What?", *no_model)
    assert "empty.png is empty (0 bytes)" in wrong(tmp_path / "empty.png", "What?", *no_model)
    assert "notes.png is not an image" in wrong(tmp_path / "notes.png", "What?", *no_model)
    assert "60,000 pixels, more than the limit of 59,999" in wrong(
        tmp_path / "large.png", "What?", "--max-pixels", "59999", *no_model
    )


def test_a_forgotten_question(street: Path, crops: str) -> None:
    assert f"no question about {street}; write: thyme ask {street}" in wrong(street, "--model", crops)
    assert "the question is empty" in wrong(street, " ", "--model", crops)
    assert "stdin (-) holds one image" in wrong("-", "-", "What?", "--model", crops)
    assert "Missing argument 'QUESTION'" in wrong("--model", crops)


def test_bad_options_are_named(street: Path, crops: str, tmp_path: Path) -> None:
    assert "prompt folder" in wrong(street, "What?", "--model", crops, "--prompts", tmp_path / "none")
    assert "--isolation" in wrong(street, "What?", "--model", crops, "--isolation", "none")
    assert "--text-temperature" in wrong(street, "What?", "--model", crops, "--text-temperature", "-1")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("scripted:nowhere.json", "script nowhere.json cannot be read (No such file or directory)"),
        ("ftp://localhost/v1#name", "ftp://localhost/v1"),
    ],
)
def test_a_model_that_is_not_there(model: str, message: str) -> None:
    """Without an image and as text on stderr; the transcript has not begun."""
    assert message in wrong("What is 1 + 1?", "--model", model)


@pytest.mark.parametrize(
    ("content", "message"), [("{", "is not JSON"), ("[1]", "must be a list of texts"), ("3", "must be")]
)
def test_a_broken_script(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "script.json").write_text(content)
    assert message in wrong("What is 1 + 1?", "--model", f"scripted:{tmp_path}/script.json")


def test_ctrl_c_ends_model_and_sandbox(street: Path, scripted: Make) -> None:
    """While code runs: the process ends at once, without a traceback, and leaves no process of its session behind."""
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from thyme.cli import main; main()"
    )
    arguments = ["ask", str(street), "What?", "--model", scripted(block("while True: pass"))]
    arguments += ["--set", "sandbox.timeout_s=90"]
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        while b"while True" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=60)  # the code itself would run for 90 s
    finally:
        process.kill()
    assert process.returncode == 130
    assert b"Traceback" not in complaint
    assert subprocess.run(["pgrep", "-s", str(process.pid)], capture_output=True, check=False).stdout == b""
