"""Every limit holds, says what it was, and leaves the sandbox in order."""

from __future__ import annotations

import asyncio
import mmap
import threading
import time
from collections.abc import Sequence

import pytest
from PIL import Image

from thyme.sandbox import Broker, SandboxConfig, open_sandbox, wire
from thyme.types import Execution, ImageRecord

pytestmark = pytest.mark.asyncio(loop_scope="module")

LOST = "variables and files of earlier blocks are gone"
PICTURE = ImageRecord.of(Image.new("RGB", (30, 20), "red"))


async def run(broker: Broker, *blocks: str) -> list[Execution]:
    async with broker.session([PICTURE], seed=3) as session:
        return [await session.run(block) for block in blocks]


async def test_endless_code_is_stopped_and_the_session_starts_afresh(small_broker: Broker) -> None:
    started = time.monotonic()
    before, endless, after, later = await run(
        small_broker,
        "x = 5\nopen('note.txt', 'w').close()",
        "while True: pass",
        "print(image_path)\nprint(x)",
        "print('x' in globals())",
    )
    assert time.monotonic() - started < 10
    assert before.error is None
    assert endless.error is not None
    assert (endless.error.type, endless.session_lost) == ("Timeout", True)
    assert endless.error.message == f"the code ran longer than 0.5 s and was stopped; {LOST}"
    assert 0.4 < endless.duration_s < 5
    assert after.stdout == "/mnt/data/input/image_1.png\n"
    assert after.error is not None
    assert (after.error.type, after.error.line) == ("NameError", 2)
    assert LOST in after.error.message
    assert not after.session_lost, "it was told with the block that lost it"
    assert later.stdout == "False\n"


async def test_code_that_ends_its_process(small_broker: Broker) -> None:
    ended, after = await run(small_broker, "import os\nos._exit(0)", "print(1)")
    assert ended.error is not None
    assert (ended.error.type, ended.session_lost) == ("Killed", True)
    assert (after.stdout, after.error, after.session_lost) == ("1\n", None, False)


async def test_process_that_dies_between_two_blocks(small_broker: Broker) -> None:
    """Ended from outside, as the kernel does when memory runs out: the next block says so."""
    async with small_broker.session() as session:
        await session.run("x = 1")
        process = session._process
        assert process is not None
        process._signal(9)
        while not process.ended:
            await asyncio.sleep(0.01)
        execution = await session.run("print(x)")
        again = await session.run("print(2)")
    assert execution.error is not None
    assert (execution.session_lost, execution.error.type) == (True, "NameError")
    assert LOST in execution.error.message
    assert (again.session_lost, again.stdout) == (False, "2\n")


async def test_memory(small_broker: Broker) -> None:
    bomb, after = await run(small_broker, "keep = 1\nb = bytearray(2 << 30)", "print(keep, len(bytearray(20 << 20)))")
    assert bomb.error is not None
    assert (bomb.error.type, bomb.error.line) == ("MemoryLimit", 2)
    assert after.stdout == "1 20971520\n", "a refused allocation does not end the session"


async def test_memory_of_libraries(small_broker: Broker) -> None:
    (cv,) = await run(small_broker, "import cv2, numpy as np\ncv2.resize(np.ones((9, 9), np.uint8), (60000, 60000))")
    assert cv.error is not None
    assert cv.error.type == "MemoryLimit"


async def test_printed_text(small_broker: Broker) -> None:
    flood, after = await run(small_broker, "print('a' * 500_000 + 'end')", "print('b')")
    assert flood.truncated
    assert flood.stdout.startswith("aaaa")
    assert flood.stdout.endswith("end\n")
    assert "characters left out" in flood.stdout
    assert len(flood.stdout) < 20_200
    assert (after.stdout, after.truncated) == ("b\n", False)


async def test_files(small_broker: Broker) -> None:
    (one,) = await run(small_broker, "open('f', 'wb').write(bytes(9 << 20))")
    assert one.error is not None
    assert "File too large" in one.error.message
    many = "for i in range(5):\n    with open(f'f{i}', 'wb') as f: f.write(bytes(7 << 20))\nimport time; time.sleep(.1)"
    (all_of_them,) = await run(small_broker, many)
    assert all_of_them.error is not None
    assert all_of_them.error.type in {"OSError", "DiskLimit"}


async def test_inodes(small_broker: Broker) -> None:
    (execution,) = await run(
        small_broker, "import time\nfor i in range(300):\n    open(str(i), 'w').close()\ntime.sleep(.1)"
    )
    assert execution.error is not None
    assert execution.error.type in {"OSError", "DiskLimit"}


async def test_descriptors_and_threads(small_broker: Broker) -> None:
    code = (
        "import threading, time\nheld = []\ntry:\n    while len(held) < 900: held.append(open('/dev/null'))\n"
        "except OSError: print(len(held) < 64)\nn = 0\ntry:\n    while n < 900:\n"
        "        threading.Thread(target=time.sleep, args=(30,), daemon=True).start(); n += 1\n"
        "except RuntimeError: pass\nprint(n < 300)"
    )
    execution, after = await run(small_broker, code, "print(1)")
    if small_broker.isolation == "namespaces":
        assert execution.stdout == "True\nTrue\n"
    else:  # nothing counts them but the broker
        assert execution.error is not None
        assert execution.error.type == "ThreadLimit"
        assert execution.error.message == f"the code started more than 32 threads and was stopped; {LOST}"
    assert after.stdout == "1\n"


async def test_background_threads_rest_between_blocks(small_broker: Broker) -> None:
    code = (
        "import threading\nn = 0\ndef count():\n    global n\n    while True: n += 1\n"
        "threading.Thread(target=count, daemon=True).start()"
    )
    async with small_broker.session() as session:
        await session.run(code)
        first = int((await session.run("print(n)")).stdout)
        await asyncio.sleep(0.3)
        second = int((await session.run("print(n)")).stdout)
    assert second - first < first + 2_000_000, "0.3 s of counting would be millions"


async def test_code_that_is_too_long(small_broker: Broker) -> None:
    long, after = await run(small_broker, "#" * 10_000_000, "print(1)")
    assert long.error is not None
    assert long.error.type == "CodeTooLong"
    assert "10000000 characters" in long.error.message
    assert after.stdout == "1\n"


async def test_code_that_is_deeply_nested(small_broker: Broker) -> None:
    for code in ("(" * 50_000, "x=" + "-" * 50_000 + "1", "[" * 150 + "]" * 150):
        execution, after = await run(small_broker, code, "print(1)")
        assert execution.error is not None or code.startswith("[")
        assert after.stdout == "1\n"


@pytest.mark.parametrize("level", ["namespaces", "landlock"])
async def test_images_and_their_pixels(level: str, small_broker: Broker) -> None:
    if small_broker.isolation != level:
        pytest.skip("the other level")
    config = SandboxConfig(
        isolation=level, max_images=2, max_image_pixels=10_000, max_total_pixels=15_000, timeout_s=20
    )
    many = "from PIL import Image\nfor i in range(4):\n    Image.new('L', (10, 10)).save(f'{i}.png'); print(f'{i}.png')"
    large = "Image.new('L', (101, 100)).save('l.png'); Image.new('L', (9, 9)).save('s.png'); print('l.png s.png')"
    total = "for n in 'ab': Image.new('L', (100, 90)).save(n + '.png'); print(n + '.png')"
    async with open_sandbox(config) as broker:
        a, b, c = await run(broker, many, large, total)
    assert [len(a.images), a.truncated] == [2, True]
    assert [[i.name[-5:] for i in b.images], b.truncated] == [["s.png"], True]
    assert [[i.name[-5:] for i in c.images], c.truncated] == [["a.png"], True]
    assert a.error is b.error is c.error is None


async def test_pixels_that_come_back_are_no_files(small_broker: Broker) -> None:
    """The memory they come back through is not what a session may write to disk."""
    code = "from PIL import Image\nfor n in 'ab': Image.new('RGB', (2000, 1500)).save(n + '.png'); print(n + '.png')"
    async with open_sandbox(SandboxConfig(isolation=small_broker.isolation, disk_mb=1, timeout_s=20)) as broker:
        (execution,) = await run(broker, code)
    assert execution.error is None
    assert [image.size for image in execution.images] == [(2000, 1500)] * 2


async def test_pictures_are_read_without_keeping_the_event_loop(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []
    take_images = wire.take_images

    def taken(memory: mmap.mmap, images: Sequence[wire.WireImage]) -> tuple[ImageRecord, ...]:
        threads.append(threading.current_thread())
        return take_images(memory, images)

    monkeypatch.setattr(wire, "take_images", taken)
    (execution,) = await run(broker, "Image.new('L', (5, 5)).save('a.png'); print('a.png')")
    assert len(execution.images) == 1
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()


async def test_decompression_bomb_does_not_come_back(broker: Broker) -> None:
    code = (
        "from PIL import Image\nImage.new('1', (13000, 13000)).save('bomb.png')\n"
        "Image.new('L', (5, 5)).save('ok.png')\nprint('bomb.png ok.png')"
    )
    (execution,) = await run(broker, code)
    assert [image.size for image in execution.images] == [(5, 5)]
    assert execution.truncated


async def test_messages_must_hold_what_may_be_said() -> None:
    with pytest.raises(ValueError, match="message_bytes must be at least"):
        SandboxConfig(stdout_chars=10_000_000)
