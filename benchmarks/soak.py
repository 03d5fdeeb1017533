"""Many sessions, some of them broken, and what is left of them: descriptors, processes, mounts, memory.

`python benchmarks/soak.py --sessions 20000 --concurrency 8 --json soak.json` exits 1 if something leaked or a sound
session got a wrong answer.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import stat
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from thyme.errors import IsolationError
from thyme.sandbox import Broker, SandboxConfig, open_sandbox
from thyme.types import ImageRecord

MIB = 1 << 20
NOISE_MIB = 24
"""Growth of memory that is no leak: allocators keep what they were once given."""
WARM_UP = 200
"""Sessions before the first look, so that everything that is kept has been made."""
BROKEN = {
    "ended": "import os\nos._exit(1)",
    "crashed": "import ctypes\nctypes.string_at(0)",
    "timeout": "while True: pass",
    "disk": "for n in range(64):\n    open(f'{n}', 'wb').write(b'0' * 2**20)",
    "memory": "x = bytearray(2**33)",
}
SAVES = (
    "from PIL import Image\npicture = Image.open(image_path)\nassert picture.size == (w, h)\n"
    "picture.crop((0, 0, 8, 8)).save('a.png')\nprint('a.png')"
)


@dataclass(frozen=True)
class State:
    """What the sandbox holds while no session is open."""

    sessions: int
    """That have ended by now."""
    descriptors: int
    processes: int
    zombies: int
    mounts: int
    """In the zygote's mount namespace; -1 where they cannot be seen."""
    pixels_mib: float
    """Memory files that the broker holds open."""
    store_mib: float
    """Input files that the zygote holds; 0 where they cannot be seen."""
    broker_mib: float
    zygote_mib: float
    folders: int
    """Of sessions, on the host."""


@dataclass
class Soak:
    """A sandbox under load, and what became of its sessions."""

    broker: Broker
    pictures: list[ImageRecord]
    concurrency: int
    kinds: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    busy_s: float = 0.0
    rng: random.Random = field(default_factory=lambda: random.Random(0))

    async def run(self, numbers: range, done: Any) -> None:
        """Run one session for each number, `concurrency` at a time, and look at what is left."""
        waiting, started = iter(numbers), time.perf_counter()

        async def work() -> None:
            for number in waiting:
                await self._one(number)
                done()

        await asyncio.gather(*(work() for _ in range(self.concurrency)))
        self.busy_s += time.perf_counter() - started
        self.states.append(await self._settled(numbers.stop))

    async def _settled(self, sessions: int) -> State:
        """The state once nothing moves any more: the zygote reaps its children within a second."""
        for attempt in range(100):
            await self.broker.settle()
            with contextlib.suppress(psutil.NoSuchProcess):  # it ended under our eyes
                found = look(self.broker, sessions)
                if attempt >= 40 or not found.zombies:
                    return found
            await asyncio.sleep(0.05)
        raise SystemExit("the zygote is not replaced")

    async def _one(self, number: int) -> None:
        picture, draw = self.rng.choice(self.pictures), self.rng.random()
        kind = "sound" if draw > 0.08 else "cancelled" if draw > 0.04 else self.rng.choice(sorted(BROKEN))
        if kind == "timeout" and self.rng.random() > 0.25:  # each takes its whole time
            kind = "ended"
        self.kinds[kind] += 1
        if kind == "sound":
            await self._sound(number, picture)
        elif kind == "cancelled":
            await self._cancelled(picture)
        else:
            await self._broken(kind, picture)

    def _expect(self, sound: bool, what: str) -> None:
        if not sound:
            self.wrong.append(what)

    async def _sound(self, number: int, picture: ImageRecord) -> None:
        """A session as most are: an input, variables that live on, a saved picture."""
        async with self.broker.session([picture], seed=number) as session:
            first = await session.run(f"n = {number}\nw, h = {picture.width}, {picture.height}\nprint(n * 2)")
            if first.session_lost:  # the zygote was killed under it
                return
            self._expect(first.stdout == f"{number * 2}\n", f"{number}: {first.stdout!r} {first.error}")
            if number % 4 == 0:
                saved = await session.run(SAVES)
                sizes = [image.size for image in saved.images]
                self._expect(saved.session_lost or sizes == [(8, 8)], f"{number}: {sizes} {saved.error}")
            last = await session.run("print(n)")
            lost = last.session_lost or (last.error is not None and "are gone" in last.error.message)
            self._expect(lost or last.stdout == f"{number}\n", f"{number}: {last.stdout!r} {last.error}")
            self.kinds["lost with its zygote"] += lost

    async def _broken(self, kind: str, picture: ImageRecord) -> None:
        """A session that comes to a bad end, and goes on with a new process."""
        async with self.broker.session([picture]) as session:
            execution = await session.run(BROKEN[kind])
            self._expect(execution.error is not None, f"{kind}: {execution.stdout!r}")
            after = await session.run("print(1)")
            self._expect(after.stdout == "1\n" or after.session_lost, f"after {kind}: {after.stdout!r} {after.error}")

    async def _cancelled(self, picture: ImageRecord) -> None:
        """A session whose task is cancelled, at its start or while its code runs."""

        async def one() -> None:
            async with self.broker.session([picture]) as session:
                await session.run("import time\ntime.sleep(5)")

        task = asyncio.ensure_future(one())
        await asyncio.sleep(self.rng.random() * 0.02)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _pictures() -> Iterator[ImageRecord]:
    noise = Image.effect_noise((96, 64), 60)
    for number in range(24):
        yield ImageRecord.of(noise.rotate(10 * number).convert("RGB"))


def look(broker: Broker, sessions: int) -> State:
    """Look at this process, the zygote and what is below it."""
    top = psutil.Process(broker.zygote_pid)
    below = [top, *top.children(recursive=True)]
    zygote = top
    if broker.isolation == "namespaces":
        zygote = next(iter(top.children()), None)
        if zygote is None:
            raise psutil.NoSuchProcess(top.pid, msg="what is below it has ended")
    folder = broker._pool.zygote.folder
    return State(
        sessions=sessions,
        descriptors=len(os.listdir("/proc/self/fd")),
        processes=len(below),
        zombies=sum(process.status() == psutil.STATUS_ZOMBIE for process in below),
        mounts=_mounts(zygote.pid),
        pixels_mib=_memory_files() / MIB,
        store_mib=_store(zygote.pid) / MIB,
        broker_mib=psutil.Process().memory_info().rss / MIB,
        zygote_mib=zygote.memory_info().rss / MIB,
        folders=len(os.listdir(folder / "sessions")) if folder else 0,
    )


def _mounts(pid: int) -> int:
    try:
        return len(Path(f"/proc/{pid}/mountinfo").read_text().splitlines())
    except OSError:
        return -1


def _memory_files() -> int:
    """Bytes of the files without a name that this process holds open, each counted once."""
    held = {}
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found = os.stat(f"/proc/self/fd/{descriptor}")
            if stat.S_ISREG(found.st_mode) and not found.st_nlink:
                held[found.st_dev, found.st_ino] = found.st_blocks * 512
    return sum(held.values())


def _store(pid: int) -> int:
    try:
        with os.scandir(os.path.join("/proc", str(pid), "root", "mnt/data/files")) as files:
            return sum(file.stat().st_blocks * 512 for file in files)
    except OSError:
        return 0


def leaks(states: list[State]) -> list[str]:
    """What grew from the first state to the last."""
    first, last, found = asdict(states[0]), asdict(states[-1]), []
    for name in ("descriptors", "processes", "zombies", "mounts", "folders"):
        if last[name] > first[name]:
            found.append(f"{name}: {first[name]} at the start, {last[name]} at the end")
    for name in ("broker_mib", "zygote_mib", "pixels_mib", "store_mib"):
        if last[name] > first[name] + NOISE_MIB:
            found.append(f"{name}: {first[name]:.0f} at the start, {last[name]:.0f} at the end")
    return found


def table(level: str, states: list[State]) -> Table:
    """The states side by side."""
    shown = Table(title=f"{level}: what is held while no session is open")
    shown.add_column("")
    for found in states:
        shown.add_column(f"after {found.sessions}", justify="right")
    for name in asdict(states[0]):
        if name != "sessions":
            shown.add_row(name, *(f"{asdict(found)[name]:.0f}" for found in states))
    return shown


async def soak(level: str, sessions: int, concurrency: int, progress: Progress, task: TaskID) -> dict[str, Any]:
    """Run the sessions at one level, in quarters; the zygote is killed in the middle.

    Raises:
        IsolationError: The level is not to be had here.
    """
    config = SandboxConfig.model_validate(
        {"isolation": level, "timeout_s": 2, "memory_mb": 1024, "disk_mb": 16, "file_mb": 8}
    )
    async with open_sandbox(config) as broker:
        pictures = list(_pictures())
        await Soak(broker, pictures, concurrency).run(range(min(WARM_UP, sessions)), lambda: None)
        load = Soak(broker, pictures, concurrency)
        await load.run(range(0), lambda: None)
        for quarter in range(4):
            if quarter == 2:
                asyncio.get_running_loop().call_later(0.2, os.kill, broker.zygote_pid, signal.SIGKILL)
            numbers = range(sessions * quarter // 4, sessions * (quarter + 1) // 4)
            await load.run(numbers, lambda: progress.advance(task))
    progress.console.print(table(level, load.states))
    return {
        "sessions_per_s": sessions / load.busy_s,
        "kinds": dict(load.kinds),
        "wrong": load.wrong,
        "leaks": leaks(load.states),
        "states": [asdict(state) for state in load.states],
    }


def arguments() -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sessions", type=int, default=20_000)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--isolation", choices=("both", "namespaces", "landlock"), default="both")
    parser.add_argument("--json", type=Path, help="write the figures here")
    return parser.parse_args()


def main() -> int:
    """Soak each level; 1 if something leaked, or nothing could be run."""
    asked, console, report = arguments(), Console(), {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        for level in ("namespaces", "landlock") if asked.isolation == "both" else (asked.isolation,):
            task = progress.add_task(level, total=asked.sessions)
            try:
                found = asyncio.run(soak(level, asked.sessions, asked.concurrency, progress, task))
            except IsolationError as error:
                console.print(str(error), style="yellow")
                continue
            report[level] = found
            console.print(f"{found['sessions_per_s']:.0f} sessions a second; {found['kinds']}")
            for line in (*found["leaks"], *found["wrong"][:5]):
                console.print(line, style="red")
    if asked.json:
        asked.json.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if not report or any(found["leaks"] or found["wrong"] for found in report.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
