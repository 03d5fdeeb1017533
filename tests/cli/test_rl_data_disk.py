"""``thyme rl-data`` where the disk is full or shut, or where somebody ends it: one line, and it goes on."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from exchange_parts import make_collection
from PIL import Image
from typer.testing import CliRunner

from thyme.cli import app
from thyme.data.filter import language

FORMATS = ("problems", "thyme-rl", "label-studio", "coco", "jsonl")
KILOBYTES = 40
"""That a file may have; less than a picture, a database or a Parquet file takes here."""


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["rl-data", *map(str, words)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stderr


@contextmanager
def small_files(kilobytes: int = KILOBYTES) -> Iterator[None]:
    """No file of this process may become larger, as with ``ulimit -f``."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A collection, and annotations of its pictures beside it."""
    made = make_collection(tmp_path / "photos")
    lines = [
        {"image": {"id": id}, "question": f"What is at {place}?", "answer": "a car", "category": "ocr",
         "box": [10, 10, 40, 40], "hidden_when_small": True, "state": "accepted", "author": "Ana"}
        for place in range(300)
        for id in made.items
    ]  # fmt: skip
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path / "photos"


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Rows with pictures of some 100 kB."""
    lines = []
    for place in range(4):
        Image.effect_noise((400, 300), 200 + place).save(tmp_path / f"{place}.png")
        lines.append({"image": f"{place}.png", "question": f"Which colour has the car at {place}?", "answer": "red"})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path / "rows.jsonl"


def told(stderr: str, path: Path, reason: str) -> str:
    """The last line, which is the only one of the error: it names the file, why, and the way out."""
    last = stderr.strip().splitlines()[-1]
    assert last.startswith(f"thyme: {path}"), stderr
    assert "Traceback" not in stderr
    assert reason in last
    assert "run the same command again" in last
    return last


@pytest.mark.parametrize("format", ["problems", "thyme-rl"])
def test_a_filter_that_may_write_no_more_says_so_and_goes_on(rows: Path, tmp_path: Path, format: str) -> None:
    language.language_of("The model is unpacked before the limit is set.")
    out = tmp_path / "out"
    words = ("filter", rows, "--out", out, "--quiet", "--set", "processes=1", "--set", f"format={format}")
    with small_files():
        code, stderr = run(*words)
    assert code == 1
    assert "MB; raise the limit on the size of a file" in told(stderr, out / "problems", "(File too large) after 0.")
    assert sorted(path.name for path in out.glob("*problems*")) == []
    assert run(*words)[0] == 0


def test_a_filter_without_room_for_temporary_files_says_so(rows: Path, tmp_path: Path) -> None:
    """What tells languages apart is unpacked into the folder for temporary files."""
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({KILOBYTES * 1024},) * 2)"
    words = ["rl-data", "filter", str(rows), "--out", str(tmp_path / "out"), "--quiet", "--set", "processes=1"]
    code = f"{limit}; import sys; from thyme.cli import main; sys.argv[1:] = {words!r}; main()"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert made.returncode == 1
    assert "TMPDIR" in told(made.stderr, Path(tempfile.gettempdir()), "File too large")


@pytest.mark.parametrize("format", FORMATS)
def test_an_export_that_may_write_no_more_leaves_nothing(photos: Path, tmp_path: Path, format: str) -> None:
    to = tmp_path / "made"
    words = ("export", photos, "--to", to, "--format", format, "--annotations", tmp_path / "asked.jsonl")
    with small_files(1):
        code, stderr = run(*words)
    assert code == 1
    told(stderr, to, "File too large")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["asked.jsonl", "photos"]
    assert run(*words)[0] == 0


def test_an_import_that_may_write_no_more_takes_all_or_nothing(photos: Path, tmp_path: Path) -> None:
    words = ("import", tmp_path / "asked.jsonl", photos, "--format", "jsonl")
    with small_files():
        code, stderr = run(*words)
        assert code == 1, "no fault of whoever asked"
        assert "studio.db cannot be written" in stderr
        code, stderr = run(*words, "--out", tmp_path / "out.jsonl")
        assert code == 1
        told(stderr, tmp_path / "out.jsonl", "File too large")
    assert run(*words)[0] == 0
    assert run(*words)[0] == 0, "all are known"


def test_what_a_killed_export_left_is_deleted_and_what_another_writes_is_not(photos: Path, tmp_path: Path) -> None:
    import fcntl

    left, others, strange = (tmp_path / name for name in (".made.0123abcd.tmp", ".made.89ef0123.tmp", ".made.mine.tmp"))
    for folder in (left, others, strange):
        folder.mkdir()
    descriptor = os.open(others, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        run("export", photos, "--to", tmp_path / "made", "--annotations", tmp_path / "asked.jsonl")
    finally:
        os.close(descriptor)
    assert [left.exists(), others.exists(), strange.exists()] == [False, True, True]
    assert (tmp_path / "made" / "train.jsonl").exists()


def weak(*words: object) -> list[str]:
    """A command that may write only where permissions say so, also where root runs the tests."""
    command = [sys.executable, "-m", "thyme", "rl-data", *map(str, words)]
    if os.geteuid() != 0:
        return command
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("root may write everywhere, and there is no setpriv")
    return [setpriv, "--bounding-set", "-dac_override,-dac_read_search", "--", *command]


@pytest.mark.slow
def test_folders_that_may_not_be_written(photos: Path, rows: Path, tmp_path: Path) -> None:
    """Each command names what it may not write, in one line, with exit code 1 or 2 and without a traceback."""
    shut, asked = tmp_path / "shut", tmp_path / "asked.jsonl"
    shut.mkdir()
    shut.chmod(0o555)
    commands = (
        ("filter", rows, "--out", shut / "out", "--quiet"),
        ("collect", tmp_path / "photos" / "images", "--out", shut / "out", "--quiet"),
        ("export", photos, "--to", shut / "out", "--annotations", asked),
        ("import", asked, photos, "--format", "jsonl", "--out", shut / "out" / "a.jsonl"),
    )
    for words in commands:
        made = subprocess.run(weak(*words), capture_output=True, text=True, check=False)
        assert made.returncode in {1, 2}, made.stderr
        (line,) = made.stderr.strip().splitlines()
        assert line.startswith(f"thyme: {shut}")
        assert "Permission denied" in line
        assert "another" in line, "the way out"
        assert "room" not in line, "that is not what is lacking"
    assert list(shut.iterdir()) == []


@contextmanager
def disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """A disk of its own that is soon full; skipped where none can be mounted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no disk of its own can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def grown(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_full_disk_ends_commands_in_one_line_and_each_goes_on(photos: Path, rows: Path, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.mkdir()
    for place in range(3):
        Image.effect_noise((2400, 300), 60 * place + 20).convert("RGB").save(large / f"{place}.png")
    asked = tmp_path / "asked.jsonl"
    commands = [
        ("filter", rows, "--out", "DISK/out", "--quiet", "--set", "format=problems"),
        ("filter", rows, "--out", "DISK/out", "--quiet", "--set", "format=thyme-rl"),
        ("collect", large, "--out", "DISK/out", "--quiet", "--min-sharpness", "0", "--max-text", "1"),
        *(("export", photos, "--to", "DISK/out", "--annotations", asked, "--format", format) for format in FORMATS),
        ("import", asked, photos, "--format", "jsonl", "--database", "sqlite:///DISK/studio.db"),
    ]
    for number, words in enumerate(commands):
        with disk(tmp_path / f"disk{number}", 40) as small:
            command = [sys.executable, "-m", "thyme", "rl-data"]
            command += [str(word).replace("DISK", str(small)) for word in words]
            made = subprocess.run(command, capture_output=True, text=True, check=False)
            assert made.returncode == 1, (words, made.stderr)
            (line,) = made.stderr.strip().splitlines()
            assert str(small) in line
            assert "cannot be written" in line
            assert "make room on the disk, and run the same command again" in line
            assert not [path for path in small.glob(".*") if path.name.startswith(".out.")]
            grown(small)
            made = subprocess.run(command, capture_output=True, text=True, check=False)
            assert made.returncode == 0, (words, made.stderr)


def ended(command: list[str], number: signal.Signals, after: Path) -> tuple[int, str]:
    """Exit code and stderr of a command that is ended once something is there."""
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as running:
        until = time.monotonic() + 120
        while not list(after.parent.glob(after.name)) and running.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        if number == signal.SIGINT:
            os.killpg(running.pid, number)  # as a terminal does
        else:
            running.send_signal(number)
        _, stderr = running.communicate(timeout=120)
        return running.returncode, stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_who_ends_a_command_may_repeat_it(number: signal.Signals, tmp_path: Path) -> None:
    """Nothing half written stands under its final name; the same command then does the whole work."""
    photos = make_collection(tmp_path / "photos")
    line = {"image": {"id": next(iter(photos.items))}, "answer": "a car", "category": "ocr", "box": [10, 10, 40, 40],
            "hidden_when_small": True, "state": "accepted", "author": "Ana"}  # fmt: skip
    asked, rows, large = tmp_path / "asked.jsonl", tmp_path / "rows.jsonl", tmp_path / "large"
    asked.write_text("".join(json.dumps({**line, "question": f"What is at {n}?"}) + "\n" for n in range(4000)))
    question = {"answer": "red", "image": "large/0.png"}
    rows.write_text("".join(json.dumps({**question, "question": f"Which colour at {n}?"}) + "\n" for n in range(400)))
    large.mkdir()
    for place in range(12):
        Image.effect_noise((2100, 300), 20 * place + 5).convert("RGB").save(large / f"{place}.png")
    out, to, base = tmp_path / "out", tmp_path / "made", tmp_path / "studio.db"
    commands: tuple[tuple[list[object], Path, Path], ...] = (
        (["filter", rows, "--out", out, "--set", "chunk=20"], out / "scan" / "*" / "000000.jsonl", out / "problems"),
        (["collect", large, "--out", tmp_path / "c", "--near", "-1", "--min-sharpness", "0"],
         tmp_path / "c" / "items.jsonl", tmp_path / "c" / "report.html"),
        (["export", photos.folder, "--to", to, "--annotations", asked], tmp_path / ".made.*.tmp", to),
        (["import", asked, photos.folder, "--format", "jsonl", "--database", f"sqlite:///{base}"], base,
         tmp_path / "none"),
    )  # fmt: skip
    for words, after, final in commands:
        command = [sys.executable, "-m", "thyme", "rl-data", *map(str, words)]
        if "scan" in after.parts:
            after = out / "filter.json"
        code, stderr = ended(command, number, after)
        assert code == (130 if number == signal.SIGINT else -number), (words, stderr)
        assert "Traceback" not in stderr
        assert not final.exists()
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        assert made.returncode == 0, (words, made.stderr)
        assert "Traceback" not in made.stderr
    assert len((out / "problems" / "train.jsonl").read_text().splitlines()) == 400
    assert len((to / "train.jsonl").read_text().splitlines()) == 4000
    assert len((tmp_path / "c" / "items.jsonl").read_text().splitlines()) == 12
    assert not list(tmp_path.glob(".made.*")), "what the killed one left is gone"
