"""Many sessions at once, processes that die, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from PIL import Image

from thyme.errors import IsolationError, SandboxError
from thyme.sandbox import Broker, SandboxConfig, check, open_sandbox
from thyme.sandbox.zygote import ZygoteProcess
from thyme.types import ImageRecord

ROOT = Path(__file__).parents[2]
LEVELS = ("namespaces", "landlock")
POOL = SandboxConfig().pool
PICTURE = ImageRecord.of(Image.new("RGB", (30, 20), "red"))


def config(level: str, **more: object) -> SandboxConfig:
    return SandboxConfig.model_validate({"isolation": level, "timeout_s": 20, **more})


@contextlib.asynccontextmanager
async def opened(level: str, **more: object):  # type: ignore[no-untyped-def]  # a fixture in all but name
    try:
        async with open_sandbox(config(level, **more)) as broker:
            yield broker
    except IsolationError as error:
        pytest.skip(str(error))


def family(broker: Broker) -> list[psutil.Process]:
    top = psutil.Process(broker.zygote_pid)
    return [top, *top.children(recursive=True)]


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def idle(level: str) -> int:
    """Processes that stand while no session is open: the pool, and the zygote with its guard at the full level."""
    return POOL + (2 if level == "namespaces" else 1)


async def count_becomes(broker: Broker, count: int) -> bool:
    """Whether so many processes are left before long: sessions that nobody waits for end by themselves."""
    for _ in range(200):
        if len(alive(family(broker))) == count:
            return True
        await asyncio.sleep(0.01)
    return False


async def all_gone(processes: list[psutil.Process]) -> bool:
    for _ in range(500):
        if not alive(processes):
            return True
        await asyncio.sleep(0.01)
    return False


@pytest.mark.parametrize("level", LEVELS)
async def test_twenty_sessions_at_once(level: str) -> None:
    async def one(broker: Broker, number: int) -> str:
        async with broker.session([PICTURE], seed=number) as session:
            await session.run(f"n = {number}")
            saved = await session.run("from PIL import Image\nImage.new('L', (n + 1, 2)).save('a.png')\nprint('a.png')")
            assert saved.images[0].size == (number + 1, 2)
            return (await session.run("print(n)")).stdout

    async with opened(level) as broker:
        printed = await asyncio.gather(*(one(broker, number) for number in range(20)))
    assert printed == [f"{number}\n" for number in range(20)]


@pytest.mark.parametrize("level", LEVELS)
async def test_one_bad_session_harms_no_other(level: str) -> None:
    async def good(broker: Broker) -> bool:
        async with broker.session([PICTURE]) as session:
            return all([(await session.run("print(sum(range(1000)))")).stdout == "499500\n" for _ in range(5)])

    async def bad(broker: Broker, code: str) -> bool:
        async with broker.session() as session:
            return (await session.run(code)).error is not None

    bombs = [
        "while True: pass",
        "import os; os._exit(1)",
        "import ctypes; ctypes.string_at(0)",
        "x = []\nwhile 1: x += [0] * 10**6",
    ]
    async with opened(level, timeout_s=2, memory_mb=512) as broker:
        results = await asyncio.gather(*(bad(broker, code) for code in bombs), *(good(broker) for _ in range(6)))
    assert all(results)


@pytest.mark.parametrize("level", LEVELS)
async def test_sessions_wait_for_their_turn(level: str) -> None:
    async with opened(level, max_sessions=2) as broker:
        most = 0

        async def one() -> None:
            nonlocal most
            async with broker.session() as session:
                most = max(most, len(broker._sessions))
                await session.run("pass")

        await asyncio.gather(*(one() for _ in range(6)))
    assert most == 2


@pytest.mark.parametrize("level", LEVELS)
async def test_killed_zygote_is_replaced(level: str) -> None:
    async with opened(level) as broker:
        async with broker.session([PICTURE]) as session:
            await session.run("x = 1")
            before = family(broker)
            os.kill(broker.zygote_pid, signal.SIGKILL)
            assert await all_gone(before), "sessions do not outlive their zygote"
            execution = await session.run("print(image_path)")
            assert (execution.stdout, execution.session_lost) == ("/mnt/data/input/image_1.png\n", True)
        async with broker.session() as session:
            assert (await session.run("print(2)")).stdout == "2\n"
        after = family(broker)
    assert before[0].pid != after[0].pid
    assert await all_gone(after)


@pytest.mark.parametrize("level", LEVELS)
async def test_zygote_killed_while_code_runs(level: str) -> None:
    async with opened(level) as broker, broker.session() as session:
        running = asyncio.create_task(session.run("import time\ntime.sleep(15)"))
        await asyncio.sleep(0.2)
        os.kill(broker.zygote_pid, signal.SIGKILL)
        execution = await running
        assert execution.error is not None
        assert (execution.error.type, execution.session_lost) == ("Killed", True)
        assert (await session.run("print(3)")).stdout == "3\n"


@pytest.mark.parametrize("level", LEVELS)
async def test_nothing_is_left_behind(level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    async with opened(level) as broker:
        async with broker.session([PICTURE]) as session:
            await session.run("1")
        await broker.settle()
        descriptors = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            async with broker.session([PICTURE]) as session:
                await session.run("import os\nos.makedirs('a/b/c')\nopen('a/b/x', 'w')")
        await broker.settle()
        assert len(os.listdir("/proc/self/fd")) <= descriptors  # fewer: garbage of an earlier test was collected
        processes = family(broker)
        assert len(alive(processes)) == idle(level)
        folder = broker._pool.zygote.folder
        assert folder is None or len(set(os.listdir(folder / "sessions")) - {"preload"}) <= POOL
    assert alive(processes) == []
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("level", LEVELS)
async def test_cancelled_run_ends_its_process(level: str) -> None:
    async with opened(level) as broker, broker.session() as session:
        await session.run("x = 1")
        running = asyncio.create_task(session.run("while True: pass"))
        await asyncio.sleep(0.1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert (await session.run("print('x' in globals())")).stdout == "False\n"


@pytest.mark.parametrize("level", LEVELS)
async def test_cancelled_start_harms_no_other(level: str) -> None:
    async def one(broker: Broker) -> None:
        async with broker.session([PICTURE]) as session:
            await session.run("1")

    async with opened(level) as broker, broker.session() as session:
        await session.run("x = 1")
        await one(broker)
        await broker.settle()
        before = broker.zygote_pid
        descriptors = len(os.listdir("/proc/self/fd"))
        for number in range(40):
            starting = [asyncio.create_task(one(broker)) for _ in range(3)]
            await asyncio.sleep(number * 0.0003)
            for task in starting:
                task.cancel()
            assert not [
                e for e in await asyncio.gather(*starting, return_exceptions=True) if isinstance(e, SandboxError)
            ]
        await one(broker)
        assert (await session.run("print(x)")).stdout == "1\n"
        assert broker.zygote_pid == before
        await broker.settle()
        assert await count_becomes(broker, idle(level) + 1)
        assert len(os.listdir("/proc/self/fd")) == descriptors


@pytest.mark.parametrize("level", LEVELS)
async def test_pixels_that_cannot_be_had_leave_no_process(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_memory(image: ImageRecord) -> int:
        raise MemoryError

    async with opened(level) as broker:
        monkeypatch.setattr(broker._inputs, "pixels", no_memory)
        async with broker.session([PICTURE]) as session:
            with pytest.raises(MemoryError):
                await session.run("print(1)")
        async with broker.session([PICTURE]):
            await asyncio.sleep(0.1)  # it fails, and nobody asks for it
        await broker.settle()
        assert await count_becomes(broker, idle(level))


async def test_an_image_without_pixels_is_decoded_in_the_session() -> None:
    buffer = io.BytesIO()
    PICTURE.image.save(buffer, "PNG")
    async with (
        open_sandbox(config("best")) as broker,
        broker.session([PICTURE.with_file(buffer.getvalue())]) as session,
    ):
        execution = await session.run("from PIL import Image\nprint(Image.open(image_path).getpixel((0, 0)))")
    assert (execution.stdout, execution.error) == ("(255, 0, 0)\n", None)


@pytest.mark.parametrize("level", LEVELS)
async def test_no_descriptors_left_is_a_failure_of_the_sandbox(level: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    failures: list[str] = []
    async with opened(level, pool=0) as broker:
        async with broker.session([PICTURE]) as session:
            await session.run("print(1)")  # what is imported at first is
        for more in range(10):
            other = ImageRecord.of(Image.new("RGB", (30, 20), (more, 0, 0)))
            free = os.dup(0)
            os.close(free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (free + more, hard))
            try:
                async with broker.session([other]) as session:
                    assert (await session.run("print(1)")).error is None, "the code is not to blame"
            except SandboxError as error:
                failures.append(str(error))
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert len(failures) >= 4
        assert all("Too many open files" in failure for failure in failures)
        async with broker.session([PICTURE]) as session:
            assert (await session.run("print(1)")).stdout == "1\n"
        assert await count_becomes(broker, idle(level) - POOL)
        assert broker.deaths == 0


async def test_too_many_inputs_are_refused_and_fifty_are_not() -> None:
    async with open_sandbox(config("best")) as broker:
        with pytest.raises(SandboxError, match="201 input images; a session takes at most 200"):
            async with broker.session([PICTURE] * 201):
                pass
        async with broker.session([PICTURE] * 200) as session:
            assert (await session.run("print(len(image_paths))")).stdout == "200\n"


@pytest.mark.parametrize("level", LEVELS)
async def test_closing_ends_open_sessions(level: str) -> None:
    async with opened(level) as broker:
        session = await broker.session().__aenter__()
        running = asyncio.create_task(session.run("while True: pass"))
        await asyncio.sleep(0.1)
        processes = family(broker)
        await broker.aclose()
        assert (await running).error is not None
        with pytest.raises(SandboxError, match="the session is closed"):
            await session.run("1")
        with pytest.raises(SandboxError, match="the sandbox is closed"):
            async with broker.session():
                pass
    assert await all_gone(processes)


@pytest.mark.parametrize("level", LEVELS)
def test_killed_host_leaves_no_processes(level: str, tmp_path: Path) -> None:
    """The host goes away without a word while code runs, and a fork of it still holds its descriptors."""
    program = (
        "import asyncio, os, time\nfrom thyme.sandbox import SandboxConfig, open_sandbox\n"
        f"async def main():\n    async with open_sandbox(SandboxConfig(isolation='{level}')) as b, b.session() as s:\n"
        "        fork = os.fork()\n        if not fork:\n            time.sleep(60)\n            os._exit(0)\n"
        "        print(b.zygote_pid, fork, flush=True)\n        await s.run('while True: pass')\nasyncio.run(main())"
    )
    host = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert host.stdout is not None
    with host.stdout:
        first = host.stdout.readline().split()
    if not first:
        host.wait()
        pytest.skip("this machine does not offer the level")
    time.sleep(0.3)
    top, fork = psutil.Process(int(first[0])), psutil.Process(int(first[1]))
    processes = [top, *top.children(recursive=True)]
    try:
        host.kill()
        host.wait()
        assert asyncio.run(all_gone(processes))
    finally:
        fork.kill()


async def test_best_takes_the_next_level_where_the_first_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    start = ZygoteProcess.start

    async def without_namespaces(config: SandboxConfig, level: str) -> ZygoteProcess:
        if level == "namespaces":
            raise IsolationError("unshare: Operation not permitted")
        return await start(config, level)

    monkeypatch.setattr(ZygoteProcess, "start", without_namespaces)
    async with opened("best") as broker:
        assert broker.isolation == "landlock"
    with pytest.raises(IsolationError, match=r"'namespaces' is not to be had here: unshare.*user\.max_user_namespaces"):
        await Broker.start(config("namespaces"))


async def test_below_landlock_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(config: SandboxConfig, level: str) -> ZygoteProcess:
        raise IsolationError("Operation not permitted")

    monkeypatch.setattr(ZygoteProcess, "start", nothing)
    with pytest.raises(IsolationError) as caught:
        await Broker.start(config("best"))
    assert "'namespaces'" in str(caught.value)
    assert "'landlock'" in str(caught.value)
    assert "/sys/kernel/security/lsm" in str(caught.value)


DENY = """
import ctypes, sys
from thyme.sandbox.jail import kernel, seccomp
numbers = seccomp.MACHINES[__import__('platform').machine()].numbers
denied = [444 if n == 'landlock' else numbers[n] for n in sys.argv[1].split(',')]
program = [(seccomp.LOAD, 0, 0, 0)]
for number in denied:
    program += seccomp.when(seccomp.JUMP_EQUAL, number, seccomp.refuse(1))
code = ctypes.create_string_buffer(seccomp.encode([*program, seccomp.answer(seccomp.ALLOW)]))
import struct
header = ctypes.create_string_buffer(struct.pack('HxxxxxxQ', len(program) + 1, ctypes.addressof(code)))
kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
kernel.prctl(kernel.PR_SET_SECCOMP, 2, ctypes.addressof(header))
import asyncio
from thyme.errors import IsolationError
from thyme.sandbox import SandboxConfig, open_sandbox
async def main():
    try:
        async with open_sandbox(SandboxConfig(isolation=sys.argv[2])) as broker, broker.session() as session:
            print(broker.isolation, (await session.run('print(6 * 7)')).stdout)
    except IsolationError as error:
        print('refused:', error)
asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("denied", "asked", "outcome"),
    [
        ("unshare,mount,pivot_root", "best", "landlock 42"),
        ("mount", "best", "landlock 42"),
        ("unshare", "namespaces", "refused: isolation level 'namespaces'"),
        ("unshare,landlock", "best", "refused: isolation level 'namespaces'"),
        ("landlock", "landlock", "refused: isolation level 'landlock'"),
    ],
)
def test_as_in_a_container(denied: str, asked: str, outcome: str) -> None:
    """Containers forbid unshare, mount or Landlock by such a filter; whatever is left is used, or nothing."""
    if check_once().best != "namespaces":
        pytest.skip("this machine is such a container itself")
    finished = subprocess.run(
        [sys.executable, "-c", DENY, denied, asked], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert finished.stdout.startswith(outcome), finished.stdout + finished.stderr


_REPORTS: list[object] = []


def check_once():  # type: ignore[no-untyped-def]  # as `check`, asked once for all tests
    if not _REPORTS:
        _REPORTS.append(check())
    return _REPORTS[0]


def test_report_says_what_there_is() -> None:
    report = check_once()
    assert [level.level for level in report.levels] == list(LEVELS)
    for level in report.levels:
        assert level.available == (not level.reason)
        assert level.available == (not level.advice)
    assert {"numpy", "PIL", "cv2"} <= set(report.importable)
    assert "thyme" not in report.importable


async def test_report_can_be_asked_for_inside_a_loop() -> None:
    assert check(SandboxConfig(start_timeout_s=30)).machine == os.uname().machine
