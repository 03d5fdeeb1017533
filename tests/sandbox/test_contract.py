"""One suite for every sandbox there is: what holds on this machine holds on a server, and on a cluster."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.util
import io
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from PIL import Image
from sandbox_serving import serving

from thyme.errors import SandboxError
from thyme.sandbox import SandboxConfig, open_sandbox
from thyme.sandbox.base import Sandbox, Session
from thyme.types import Execution, ImageRecord

pytestmark = pytest.mark.asyncio(loop_scope="module")

OUT = "/mnt/data/temp_processed_images"
TOKEN = "a-token-of-the-tests"
CONFIG = SandboxConfig(timeout_s=20, memory_mb=2048, max_sessions=16, pool=1)
Opener = Callable[[SandboxConfig], AbstractAsyncContextManager[Sandbox]]


def noise(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    shape = (height, width) if mode == "L" else (height, width, len(mode))
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8), mode=None)


PICTURE = ImageRecord.of(noise(60, 40))


def jpeg(width: int, height: int) -> ImageRecord:
    buffer = io.BytesIO()
    noise(width, height, seed=5).save(buffer, "JPEG")
    picture = Image.open(io.BytesIO(buffer.getvalue()))
    picture.load()
    return ImageRecord.of(picture, format="JPEG", encoded=buffer.getvalue())


@pytest.fixture(scope="module")
def unix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opener]:
    path = tmp_path_factory.mktemp("serve") / "s"
    with serving("--unix", path, "--timeout", 20, "--max-sessions", 16, "--pool", 1) as server:
        yield _remote(server.url)


@pytest.fixture(scope="module")
def http() -> Iterator[Opener]:
    with serving("--port", 0, "--timeout", 20, "--max-sessions", 16, "--pool", 1, token=TOKEN) as server:
        yield _remote(server.url, TOKEN)


def _remote(url: str, token: str | None = None) -> Opener:
    from thyme.sandbox.remote import open_remote

    return lambda config: open_remote(url, token, config=config)


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[Opener]:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    from ray_cluster import local_ray

    from thyme.sandbox.cluster import open_cluster

    with local_ray():
        yield lambda config: open_cluster(config, cpus=0.1)


WHERE = ["local", "unix", "http", pytest.param("ray_cluster", marks=pytest.mark.slow)]


@pytest.fixture(scope="module", params=WHERE)
def opener(request: pytest.FixtureRequest) -> Opener:
    """Opens a sandbox of one kind with settings of one's own."""
    if request.param == "local":
        return open_sandbox
    found: Opener = request.getfixturevalue(request.param)
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox(opener: Opener) -> AsyncIterator[Sandbox]:
    async with opener(CONFIG) as opened:
        yield opened


async def run(sandbox: Sandbox, *blocks: str, images: tuple[ImageRecord, ...] = (PICTURE,)) -> list[Execution]:
    async with sandbox.session(images, seed=3) as session:
        return [await session.run(block) for block in blocks]


async def test_shape_of_the_contract(sandbox: Sandbox) -> None:
    assert isinstance(sandbox, Sandbox)
    async with sandbox.session([]) as session:
        assert isinstance(session, Session)
        execution = await session.run("print('hello')")
    assert execution.isolation == sandbox.isolation
    assert sandbox.isolation in {"namespaces", "landlock"}
    assert execution.code == execution.ran == "print('hello')"
    assert execution.stdout == "hello\n"
    assert execution.duration_s > 0
    assert (execution.error, execution.images, execution.repairs) == (None, (), ())
    assert not execution.truncated
    assert not execution.session_lost


async def test_variables_and_files_live_on(sandbox: Sandbox) -> None:
    first, second, third = await run(
        sandbox,
        "def double(n):\n    return 2 * n\nbase = 21\nopen('note.txt', 'w').write('kept')",
        "print(double(base), open('note.txt').read())",
        "base += 1\nprint(double(base))",
    )
    assert [e.error for e in (first, second, third)] == [None] * 3
    assert (second.stdout, third.stdout) == ("42 kept\n", "44\n")


async def test_error_is_a_result_and_the_session_goes_on(sandbox: Sandbox) -> None:
    first, second = await run(sandbox, "x = 1\nprint('so far')\nraise ValueError('wrong €')", "print(x)")
    assert first.stdout == "so far\n"
    assert first.error is not None
    assert (first.error.type, first.error.line) == ("ValueError", 3)
    assert "wrong €" in first.error.message
    assert not first.session_lost
    assert second.stdout == "1\n"


async def test_images_come_back_in_order_with_names_and_pixels(sandbox: Sandbox) -> None:
    block = (
        "from PIL import Image\n"
        "im = Image.open(image_path)\n"
        "im.crop((10, 5, 40, 25)).save('b.png')\n"
        "im.convert('L').save('a.png')\n"
        "im.convert('RGBA').save('c d.png')\n"
        f"print('b.png')\nprint('{OUT}/a.png')\nprocessed_path = 'c d.png'"
    )
    (execution,) = await run(sandbox, block)
    assert execution.error is None
    picture = PICTURE.image
    expected = [("b.png", picture.crop((10, 5, 40, 25))), ("a.png", picture.convert("L"))]
    expected += [("c d.png", picture.convert("RGBA"))]
    assert [i.name for i in execution.images] == [f"{OUT}/{name}" for name, _ in expected]
    for image, (name, wanted) in zip(execution.images, expected, strict=True):
        assert image == ImageRecord.of(wanted, name=f"{OUT}/{name}")
        assert image.image.tobytes() == wanted.tobytes()


async def test_large_image_comes_back_whole(sandbox: Sandbox) -> None:
    large = ImageRecord.of(noise(1500, 1100, seed=9))
    block = "from PIL import Image\nImage.open(image_path).save('x.bmp')\nprint('x.bmp')"
    (execution,) = await run(sandbox, block, images=(large,))
    assert [i.id for i in execution.images] == [large.id]


async def test_several_inputs_are_the_files_that_were_given(sandbox: Sandbox) -> None:
    photo = jpeg(48, 32)
    block = (
        "import hashlib\nfrom PIL import Image\nprint(image_path)\n"
        "for p in image_paths:\n    im = Image.open(p)\n    print(p, im.format, im.mode, im.size)\n"
        "print(hashlib.sha256(open(image_paths[1], 'rb').read()).hexdigest())"
    )
    grey = ImageRecord.of(noise(9, 7, "L"))
    for _ in range(2):  # the second time a server knows them
        (execution,) = await run(sandbox, block, images=(PICTURE, photo, grey))
        assert execution.error is None
        assert photo.encoded is not None
        assert execution.stdout.splitlines() == [
            "/mnt/data/input/image_1.png",
            "/mnt/data/input/image_1.png PNG RGB (60, 40)",
            "/mnt/data/input/image_2.jpg JPEG RGB (48, 32)",
            "/mnt/data/input/image_3.png PNG L (9, 7)",
            hashlib.sha256(photo.encoded).hexdigest(),
        ]


@pytest.mark.parametrize("mode", ["1", "P", "CMYK", "LA", "I;16", "F"])
async def test_input_of_any_mode(sandbox: Sandbox, mode: str) -> None:
    picture = noise(8, 6, "L").convert("I").convert("I;16") if mode == "I;16" else noise(8, 6, "L").convert(mode)
    block = "from PIL import Image\nprint(image_path, Image.open(image_path).size)"
    (execution,) = await run(sandbox, block, images=(ImageRecord.of(picture),))
    assert (execution.stdout, execution.error) == ("/mnt/data/input/image_1.png (8, 6)\n", None)


async def test_text_only(sandbox: Sandbox) -> None:
    (execution,) = await run(sandbox, "print(image_paths, 'image_path' in globals(), 6 * 7)", images=())
    assert execution.stdout == "[] False 42\n"


async def test_seed(sandbox: Sandbox) -> None:
    block = "import random\nimport numpy as np\nprint(random.random(), np.random.rand())"
    (first,), (again,) = [await run(sandbox, block) for _ in range(2)]
    assert first.stdout == again.stdout
    async with sandbox.session([], seed=-4) as session:
        assert (await session.run(block)).stdout != first.stdout


async def test_repairs_are_named(sandbox: Sandbox) -> None:
    block = (
        "```python\nim = Image.open('/data/other.png')\n"
        "im.crop((-5, 0, 20, 10)).save('/elsewhere/x.png')\nprint('/elsewhere/x.png')\n```"
    )
    (execution,) = await run(sandbox, block)
    assert execution.error is None
    assert {"fences", "names", "input_path", "output_folder", "boundary"} <= {r.name for r in execution.repairs}
    assert all(r.note and r.count >= 1 for r in execution.repairs)
    assert execution.ran != execution.code == block
    assert len(execution.images) == 1


SAME = {
    "calculation": "print(sum(range(100)))",
    "error": "def f():\n    return {}['key']\nf()",
    "syntax": "if True print(1)",
    "repair": "print(cv.imread(image_path).shape)",
    "image": "import cv2\nim = cv2.imread(image_path)\ncv2.imwrite('z.png', im[::-1])\nprint('z.png')\n1 / 0",
    "unicode": "print('\\ud800 \\u20ac \\U0001f600'.encode('utf-8', 'replace'))\n# ä\ud800",
    "empty": "",
    "much": "print('x' * 100_000)",
    "no utf": "import sys\nsys.stdout.write('\\udcff')",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def here() -> AsyncIterator[Sandbox]:
    async with open_sandbox(CONFIG) as opened:
        yield opened


@pytest.mark.parametrize("name", SAME)
async def test_result_equals_that_of_the_local_sandbox(sandbox: Sandbox, here: Sandbox, name: str) -> None:
    """Field by field, but for the seconds it took."""
    (there,), (local,) = [await run(each, SAME[name]) for each in (sandbox, here)]
    assert (there.duration_s > 0) == (local.duration_s > 0)
    # Compared as values and not as JSON, which could not hold every text that code can print.
    assert dict(there.model_copy(update={"duration_s": 0.0})) == dict(local.model_copy(update={"duration_s": 0.0}))
    assert [i.image.tobytes() for i in there.images] == [i.image.tobytes() for i in local.images]


async def test_limits_of_a_session(opener: Opener) -> None:
    limits: dict[str, Any] = {"stdout_chars": 200, "code_chars": 300, "max_images": 1, "timeout_s": 10, "repairs": ()}
    async with opener(SandboxConfig(**limits)) as sandbox:
        block = (
            "from PIL import Image\nfor n in 'ab':\n    Image.new('L', (3, 3)).save(n + '.png')\n    print(n + '.png')"
        )
        long, printed, images, unrepaired = await run(sandbox, "#" * 301, "print('x' * 5000)", block, "cv.imread('x')")
    assert long.error is not None
    assert long.error.type == "CodeTooLong"
    assert printed.truncated
    assert len(printed.stdout) < 500
    assert images.truncated
    assert len(images.images) == 1
    assert unrepaired.error is not None
    assert unrepaired.error.type == "NameError"


async def test_timeout_ends_the_session_and_the_next_block_is_told(opener: Opener) -> None:
    async with opener(SandboxConfig(timeout_s=0.7)) as sandbox:
        first, second, third, fourth = await run(
            sandbox, "x = 1", "while True: pass", "print(x)", "x = 2\nprint(x, image_path)"
        )
    assert not first.session_lost
    assert second.session_lost
    assert second.error is not None
    assert second.error.type == "Timeout"
    assert "0.7 s" in second.error.message
    assert not third.session_lost
    assert third.error is not None
    assert third.error.type == "NameError"
    assert "earlier blocks are gone" in third.error.message
    assert fourth.stdout == "2 /mnt/data/input/image_1.png\n"
    assert fourth.error is None


async def test_process_that_ends_is_a_result(sandbox: Sandbox) -> None:
    first, second = await run(sandbox, "import os\nos._exit(3)", "print('again')")
    assert first.session_lost
    assert first.error is not None
    assert first.error.type == "Killed"
    assert second.stdout == "again\n"


async def test_cancelled_run_ends_its_process_and_the_session_goes_on(sandbox: Sandbox) -> None:
    async with sandbox.session([PICTURE]) as session:
        await session.run("kept = 1")
        task = asyncio.create_task(session.run("import time\ntime.sleep(15)"))
        await asyncio.sleep(0.3)
        task.cancel()
        started = time.monotonic()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        execution = await session.run("print('kept' in globals(), image_path)")
        assert time.monotonic() - started < 10
    assert execution.stdout == "False /mnt/data/input/image_1.png\n"


async def test_eight_at_once(sandbox: Sandbox) -> None:
    async def one(number: int) -> list[str]:
        async with sandbox.session([PICTURE], seed=number) as session:
            outputs = [await session.run(f"n = {number}"), await session.run("import time\ntime.sleep(0.1)\nprint(n)")]
            outputs.append(
                await session.run("Image.open(image_path).crop((n, 0, 60, 40)).save('x.png')\nprint('x.png')")
            )
            return [outputs[1].stdout, str(outputs[2].images[0].size)]

    assert await asyncio.gather(*map(one, range(8))) == [[f"{n}\n", str((60 - n, 40))] for n in range(8)]


async def test_runs_of_one_session_take_turns(sandbox: Sandbox) -> None:
    async with sandbox.session([]) as session:
        blocks = ["order = []", *(f"order.append({n})\nprint(order)" for n in range(4))]
        executions = await asyncio.gather(*map(session.run, blocks))
    assert executions[-1].stdout == "[0, 1, 2, 3]\n"


async def test_what_is_closed_stays_closed(opener: Opener) -> None:
    async with opener(CONFIG) as sandbox:
        async with sandbox.session([]) as session:
            await session.run("1")
        with pytest.raises(SandboxError, match="closed"):
            await session.run("1")
        async with sandbox.session([]) as open_one:
            await sandbox.aclose()
            with pytest.raises(SandboxError, match="closed"):
                await open_one.run("1")
        with pytest.raises(SandboxError, match="closed"):
            async with sandbox.session([]):
                pass


async def test_more_inputs_than_anybody_takes(opener: Opener) -> None:
    tiny = [ImageRecord.of(Image.new("L", (2, 2), n % 256)) for n in range(1001)]
    async with opener(CONFIG) as sandbox:
        with pytest.raises(SandboxError, match=r"1001 input images|images: "):
            async with sandbox.session(tiny):
                pass
        execution = (await run(sandbox, "print(len(image_paths))", images=tuple(tiny[:50])))[0]
    assert execution.stdout == "50\n"


async def test_every_kind_of_sandbox_is_tested() -> None:
    """A new implementation of the contract must join this suite."""
    package = Path(__file__).parents[2] / "thyme" / "sandbox"
    openers = {line.split("(")[0].split()[-1] for f in package.glob("*.py") for line in f.read_text().splitlines()
               if line.startswith("async def open_")}  # fmt: skip
    assert openers == {"open_sandbox", "open_remote", "open_cluster"}
