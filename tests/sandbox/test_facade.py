"""`thyme.sandbox.Sandbox`: the sandbox without an event loop, for scripts, notebooks and threads."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sandbox_serving import serving

from thyme.errors import ConfigError, ImageError, IsolationError, SandboxError, UsageError
from thyme.images import load_image
from thyme.sandbox import Sandbox, SandboxConfig, base

CROP = "from PIL import Image\nImage.open(image_path).crop((1, 2, 9, 12)).save('crop.png')\nprint('crop.png')"
LEVELS = ("namespaces", "landlock")


def opened(*config: SandboxConfig, **settings: Any) -> Sandbox:
    try:
        return Sandbox(*config, **settings)
    except IsolationError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with opened(timeout_s=20) as found:
        yield found


def red() -> Image.Image:
    return Image.new("RGB", (40, 30), "red")


def as_png() -> bytes:
    buffer = io.BytesIO()
    red().save(buffer, "PNG")
    return buffer.getvalue()


def test_the_ten_lines_of_the_documentation(tmp_path: Path) -> None:
    (tmp_path / "street.png").write_bytes(as_png())
    with opened() as sandbox:
        with sandbox.session(str(tmp_path / "street.png"), seed=0) as session:
            result = session.run("x = 3\n" + CROP)
            assert (result.stdout, result.error) == ("crop.png\n", None)
            assert result.images[0].image.size == (8, 10)
            assert session.run("print(x)").stdout == "3\n"
        assert sandbox.isolation in LEVELS
        assert not isinstance(sandbox, base.Sandbox), "the contract is the asynchronous one"


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(red(), id="pillow"),
        pytest.param(red().convert("P"), id="palette"),
        pytest.param(np.full((30, 40, 3), (255, 0, 0), np.uint8), id="rgb"),
        pytest.param(np.full((30, 40, 4), (255, 0, 0, 255), np.uint8), id="rgba"),
        pytest.param(as_png(), id="bytes"),
        pytest.param(bytearray(as_png()), id="bytearray"),
        pytest.param(load_image(as_png()), id="record"),
        pytest.param([red()], id="list"),
        pytest.param((image for image in [red()]), id="generator"),
    ],
)
def test_whatever_shows_a_picture_is_an_input(sandbox: Sandbox, source: Any) -> None:
    code = "from PIL import Image\ni = Image.open(image_path)\nprint(len(image_paths), i.size, i.getpixel((5, 5)))"
    assert sandbox.run(code, source).stdout == "1 (40, 30) (255, 0, 0)\n"


def test_a_grey_array_and_a_path_side_by_side(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(as_png())
    code = "import cv2\nprint([cv2.imread(p)[0, 0].tolist() for p in image_paths])"
    result = sandbox.run(code, [np.full((3, 4), 7, np.uint8), tmp_path / "a.png"])
    assert result.stdout == "[[7, 7, 7], [0, 0, 255]]\n"


def test_a_picture_of_pillow_is_put_upright_like_a_file(sandbox: Sandbox) -> None:
    image, exif = red(), Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=exif)
    code = "from PIL import Image\nprint(Image.open(image_path).size)"
    assert sandbox.run(code, Image.open(io.BytesIO(buffer.getvalue()))).stdout == "(30, 40)\n"
    assert sandbox.run(code, buffer.getvalue()).stdout == "(30, 40)\n"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (7, "a int is no picture; give a path"),
        ([None], "a NoneType is no picture"),
        (np.zeros((3, 4, 3)), r"an array of shape \(3, 4, 3\) and type float64 is no picture; give uint8"),
        (np.zeros((3, 4, 7), np.uint8), r"shape \(3, 4, 7\)"),
        (np.zeros((0, 4, 3), np.uint8), r"shape \(0, 4, 3\)"),
        ("missing.png", "missing.png: no such file"),
        (b"", "empty"),
    ],
)
def test_what_shows_none_is_named(sandbox: Sandbox, source: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        sandbox.session(source)


def test_inside_a_running_loop_as_in_a_notebook(sandbox: Sandbox) -> None:
    async def cell() -> str:
        return sandbox.run("print(1)").stdout

    assert asyncio.run(cell()) == "1\n"


def test_many_threads_share_one_sandbox() -> None:
    """More than there are places: the others wait. Each session keeps its own variables and seed."""
    found: dict[int, str] = {}

    def work(number: int) -> None:
        with sandbox.session(seed=number % 3) as session:
            session.run(f"import random\nx = {number}")
            found[number] = session.run("print(x, random.random())").stdout

    with opened(timeout_s=20, max_sessions=4) as sandbox:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(found) == [int(found[number].split()[0]) for number in range(12)]
    assert len({text.split()[1] for text in found.values()}) == 3


def test_an_interrupt_ends_the_run_and_nothing_else(sandbox: Sandbox) -> None:
    with sandbox.session() as session:
        session.run("x = 1")
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            session.run("while True: pass")
        assert session.run("print('x' in globals())").stdout == "False\n", "the interrupted process is gone"


def test_closing_ends_a_run_in_another_thread() -> None:
    sandbox = opened(timeout_s=60)
    session = sandbox.session()
    closing = threading.Timer(0.3, sandbox.close)
    closing.start()
    with contextlib.suppress(SandboxError):  # or a result that says that the process was killed: whichever comes first
        assert session.run("while True: pass").session_lost
    closing.join()
    with pytest.raises(SandboxError, match="the sandbox is closed"):
        session.run("1")


def test_what_is_closed_says_so(sandbox: Sandbox) -> None:
    session = sandbox.session()
    session.close()
    session.close()
    with pytest.raises(SandboxError, match="the session is closed"):
        session.run("1")
    other = opened()
    kept = other.session()
    other.close()
    other.close()
    assert repr(other) == "<Sandbox closed>"
    with pytest.raises(SandboxError, match="the sandbox is closed"):
        other.run("1")
    with pytest.raises(SandboxError, match="the sandbox is closed"):
        kept.run("1")
    kept.close()


def test_a_forgotten_session_gives_its_place_back() -> None:
    with opened(max_sessions=1) as sandbox:
        for _ in range(3):
            assert sandbox.session().run("print(1)").stdout == "1\n"


def test_a_session_keeps_its_sandbox() -> None:
    session = opened().session()
    assert session.run("print(1)").stdout == "1\n"


def test_a_forked_process_is_told_to_open_its_own(sandbox: Sandbox) -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            sandbox.run("1")
        except SandboxError as error:
            os.write(writing, str(error).encode())
        sandbox.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert b"forked from; open one here" in os.read(reading, 1000)
    os.close(reading)
    os.close(writing)
    assert sandbox.run("print(1)").stdout == "1\n"


@pytest.mark.parametrize("level", LEVELS)
def test_a_forgotten_sandbox_leaves_no_process_no_folder_and_no_word(tmp_path: Path, level: str) -> None:
    opened(isolation=level).close()
    code = (
        "from thyme.sandbox import Sandbox\n"
        f"sandbox = Sandbox(isolation={level!r})\n"
        "session = sandbox.session()\n"
        "print(session.run('print(1)').stdout, end='')"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )  # it also ends: the pipes are closed by all who held them
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"timeout_s": -1}, ConfigError, "timeout_s: Input should be greater than 0"),
        ({"importable": ("numpy", "scipy")}, ConfigError, "every session needs pillow, opencv-python-headless; name"),
        ({"timeout": 3}, ConfigError, "timeout: there is no such setting"),
        ({"repairs": "magic"}, UsageError, "there is no repair magic; there are"),
        ({"repairs": ","}, UsageError, "no repair is named; there are"),
        ({"config": SandboxConfig(), "timeout_s": 3}, UsageError, r"settings \(timeout_s\), not both"),
        ({"token": "secret"}, UsageError, "a token belongs to a server"),
        ({"url": "nonsense"}, UsageError, "nonsense"),
    ],
)
def test_arguments_that_cannot_be(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Sandbox(**arguments)


def test_repairs_by_name() -> None:
    with opened(repairs="none") as sandbox:
        assert sandbox.run(CROP.replace("(1, 2, 9, 12)", "(9, 2, 1, 12)"), red()).error is not None
    with opened(SandboxConfig(repairs=("boundary",))) as sandbox:
        assert sandbox.run(CROP.replace("(1, 2, 9, 12)", "(9, 2, 1, 12)"), red()).repairs[0].name == "boundary"


def test_a_server_is_used_alike(tmp_path: Path) -> None:
    opened().close()
    token = "s" * 32
    with serving("--unix", tmp_path / "s.sock", token=token) as server:
        with pytest.raises(SandboxError, match="token"):
            Sandbox(url=server.url, token="w" * 32)
        with (
            Sandbox(url=server.url, token=token, timeout_s=5) as sandbox,
            sandbox.session(red()) as session,
        ):
            result = session.run("x = 3\n" + CROP)
            assert (result.stdout, result.error, result.images[0].size) == ("crop.png\n", None, (8, 10))
            assert session.run("print(x)").stdout == "3\n"
            assert sandbox.isolation in LEVELS


def test_importing_it_pulls_no_server() -> None:
    code = "import sys, thyme.sandbox; print({'fastapi', 'uvicorn', 'httpx', 'ray', 'torch'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"
