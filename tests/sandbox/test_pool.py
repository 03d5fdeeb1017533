"""Sessions that wait in the pool, the input store, and a short soak: at both levels."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

import pytest
from PIL import Image

from thyme.errors import IsolationError, SandboxDiedError, SandboxError
from thyme.sandbox import Broker, SandboxConfig, open_sandbox
from thyme.sandbox.store import InputStore
from thyme.types import ImageRecord

LEVELS = ("namespaces", "landlock")
PICTURE = ImageRecord.of(Image.linear_gradient("L").convert("RGB"))
OTHER = ImageRecord.of(Image.radial_gradient("L").convert("RGB"))


@pytest.fixture(params=LEVELS)
async def broker(request: pytest.FixtureRequest):  # type: ignore[no-untyped-def]  # a generator
    try:
        async with open_sandbox(SandboxConfig(isolation=request.param, timeout_s=20)) as opened:
            await opened.settle()
            yield opened
    except IsolationError as error:
        pytest.skip(str(error))


def waiting(broker: Broker) -> list[str]:
    return [process.name for process in broker._pool._waiting]


async def test_a_session_comes_from_the_pool_which_is_filled_again(broker: Broker) -> None:
    before = waiting(broker)
    assert len(before) == broker.pooled == SandboxConfig().pool
    async with broker.session([PICTURE]) as session:
        assert session._process is not None
        assert session._process.name == before[0]
        await broker.settle()
        assert len(waiting(broker)) == len(before)
        assert before[0] not in waiting(broker)


async def test_sessions_that_died_while_they_waited_go_unnoticed(broker: Broker) -> None:
    for process in broker._pool._waiting:
        process._signal(signal.SIGKILL)
    async with broker.session([PICTURE]) as session:
        execution = await session.run("print(image_path)")
    assert (execution.stdout, execution.session_lost) == ("/mnt/data/input/image_1.png\n", False)


async def test_rehearsal_leaves_nothing_behind(broker: Broker) -> None:
    code = (
        "import random, os\nprint(random.random(), sorted(k for k in globals() if k[0] != '_'), os.listdir('.'))\n1/0"
    )
    async with broker.session(seed=5) as pooled:
        first = await pooled.run(code)
    cold_config = SandboxConfig.model_validate({"isolation": broker.isolation, "pool": 0})
    async with open_sandbox(cold_config) as cold, cold.session(seed=5) as session:
        assert cold.pooled == 0
        assert (await session.run(code)).model_copy(update={"duration_s": first.duration_s}) == first


async def test_seeds_and_inputs_are_those_of_the_session(broker: Broker) -> None:
    async def one(seed: int, *pictures: ImageRecord) -> str:
        async with broker.session(pictures, seed) as session:
            code = "import random\nfrom PIL import Image\nprint(random.random(), image_paths, "
            code += "[Image.open(p).getpixel((0, 0)) for p in image_paths])"
            return (await session.run(code)).stdout

    same = await asyncio.gather(one(1, PICTURE), one(1, PICTURE), one(2, PICTURE), one(1, OTHER, PICTURE), one(1))
    assert same[0] == same[1]
    assert len(set(same)) == 4


async def test_a_session_cannot_touch_an_input_that_others_share(broker: Broker) -> None:
    hostile = (
        "import os, fcntl\npath = image_path\n"
        "for action in (lambda: open(path, 'r+b'), lambda: os.truncate(path, 0), lambda: os.remove(path),\n"
        "               lambda: os.rename(path, path + '2'), lambda: os.link(path, 'mine.png'),\n"
        "               lambda: fcntl.flock(open(path, 'rb'), fcntl.LOCK_EX),\n"
        "               lambda: fcntl.lockf(open(path, 'rb'), fcntl.LOCK_SH)):\n"
        "    try:\n        action(); print('done')\n    except OSError as error:\n        pass\n"
        "os.chmod(path, 0o777); os.utime(path, (1, 1))\n"
    )
    look = "import os\nfound = os.stat(image_path)\nprint(oct(found.st_mode), found.st_size, found.st_mtime > 100)"
    async with broker.session([PICTURE]) as one, broker.session([PICTURE]) as neighbour:
        before = await neighbour.run(look)
        attempt = await one.run(hostile)
        assert (attempt.stdout, attempt.error) == ("", None)
        assert (await neighbour.run(look)).stdout == before.stdout
        assert " True" in before.stdout


async def test_zygote_killed_again_and_again_under_load(broker: Broker) -> None:
    async def one(number: int) -> bool:
        async with broker.session([PICTURE]) as session:
            return (await session.run(f"print({number})")).stdout in {f"{number}\n", ""}

    async def killer() -> None:
        for _ in range(3):
            await asyncio.sleep(0.15)
            with contextlib.suppress(ProcessLookupError):  # the new one is not there yet
                os.kill(broker.zygote_pid, signal.SIGKILL)

    load = asyncio.gather(*(one(number) for number in range(60)), return_exceptions=True)
    await killer()
    results = await load
    assert [found for found in results if found is not True and not isinstance(found, SandboxDiedError)] == []
    await broker.settle()
    assert broker.pooled == SandboxConfig().pool
    assert await one(1)


class FakeZygote:
    """Answers as a zygote does that may lose requests."""

    def __init__(self) -> None:
        self.files: set[int] = set()
        self.full = False

    async def link(
        self, name: str, files: list[tuple[int, str]], new: list[tuple[int, int]], old: list[int], timeout_s: float
    ) -> None:
        self.files -= set(old)
        if self.full:
            raise SandboxError("no space left")
        self.files |= {number for number, _ in new}
        if not {number for number, _ in files} <= self.files:
            raise SandboxError("no such file")


async def test_store_forgets_the_least_recently_used_and_sends_again_what_was_lost() -> None:
    zygote = FakeZygote()
    store = InputStore(zygote, most_bytes=25, timeout_s=1)  # type: ignore[arg-type]  # all that is used of one
    for letter in (b"a", b"b", b"a", b"c"):
        await store.link("s", [("/in/1.png", letter * 10)])
    assert zygote.files == {1, 3}, "b went, a was used since"
    zygote.files.clear()
    await store.link("s", [("/in/1.png", b"a" * 10)])
    assert len(zygote.files) == 1
    zygote.full = True
    with pytest.raises(SandboxError, match="no space"):
        await store.link("s", [("/in/1.png", b"d" * 10)])
    zygote.full = False
    await store.link("s", [("/in/1.png", b"d" * 10)])


@pytest.mark.parametrize("level", LEVELS)
async def test_short_soak(level: str) -> None:
    """The load of `make soak`, some hundred times shorter."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "benchmarks/soak.py", "--sessions", "60", "--isolation", level]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=root, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    if b"is not to be had here" in output:
        pytest.skip("this machine does not offer the level")
    assert process.returncode == 0, output.decode()
