"""How fast the sandbox is on this machine: session start, the cost of a calculation and of a crop, memory.

Everything is measured in turns, so that what else the machine does falls on all of it alike. `benchmarks/sandbox.py`
compares with other ways to run code; docs/benchmarks.md says how.
"""

from __future__ import annotations

import asyncio
import io
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from thyme.config.sandbox import SandboxConfig
from thyme.errors import SandboxError
from thyme.images import load_image
from thyme.sandbox.bare import BareProcess
from thyme.sandbox.base import Session
from thyme.sandbox.broker import Broker, open_sandbox
from thyme.sandbox.memory import Memory, descendants, mean_memory
from thyme.types import Execution, ImageRecord

IMAGE_SIZE = (2048, 1536)
"""Width and height of the input image, pixels."""
CROP_SIZE = (1024, 768)
"""Width and height of the picture that comes back, pixels."""

CALCULATION = """\
import math
widths = [12.5, 20.25, 8.75, 31.0, 16.5]
heights = [4.0, 9.5, 7.25, 10.0, 3.75]
areas = [w * h for w, h in zip(widths, heights)]
total = sum(areas)
mean = total / len(areas)
spread = math.sqrt(sum((a - mean) ** 2 for a in areas) / len(areas))
series = sum(1 / n ** 2 for n in range(1, 51))
print(f"{total:.2f} {mean:.3f} {spread:.3f} {series:.6f}")
"""
"""A calculation as a model writes it; needs no image."""
CROP = "crop((200, 150, 1800, 1350)).resize((1024, 768)).save('crop.jpg')\nprint('crop.jpg')"
"""What is done with an open image."""
CROP_INPUT = f"from PIL import Image\nImage.open(image_path).{CROP}"
CROP_DECODED = f"image.{CROP}"
"""The same in a process that has the image decoded as `image`."""


def sample_image(shift: int = 0) -> bytes:
    """A JPEG file of `IMAGE_SIZE` with smooth colours, edges and some noise.

    Args:
        shift: Another picture of the same kind for each value.
    """
    width, height = IMAGE_SIZE
    x, y = np.arange(width, dtype=np.int16) + 40 * shift, np.arange(height, dtype=np.int16)[:, None]
    noise = np.random.default_rng(0).integers(-10, 11, (height, width), dtype=np.int16)
    channels = (x // 8 % 256, y // 6 % 256, (x + y) // 14 % 256)
    pixels = np.stack([(channel + noise).clip(0, 255).astype(np.uint8) for channel in channels], axis=-1)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@dataclass(frozen=True)
class Timing:
    """What repeated measurements of one thing gave."""

    p50_ms: float
    p99_ms: float
    count: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Timing:
        """Quantiles of durations in seconds."""
        p50, p99 = np.quantile(np.asarray(seconds) * 1e3, [0.5, 0.99])
        return cls(float(p50), float(p99), len(seconds))


@dataclass(frozen=True)
class BenchReport:
    """Figures of one machine."""

    isolation: str
    session_pooled: Timing
    """Until a session from the pool, with a known image, can be sent code."""
    session_cold: Timing
    """The same without a pool."""
    calculation: Timing
    """`CALCULATION` in a session, until its result is here; in turns with the next, and with nothing else."""
    calculation_bare: Timing
    """The same in a plain process, by its own clock."""
    calculation_between: Timing
    """The same as `calculation`, but between session starts and crops, which leave it cold caches."""
    calculation_between_bare: Timing
    """The same in a plain process."""
    crop: Timing
    """`CROP_INPUT` in a session that has run it before, until the pixels are here."""
    crop_bare: Timing
    """`CROP_DECODED` in a plain process."""
    crop_per_minute: float
    """Crops a minute of two sessions at once, each after the other in a session that stays."""
    calculation_per_minute: float
    idle: Memory | None
    """A session before its first code; None where the kernel does not tell."""
    used: Memory | None
    """A session after a crop."""
    load: float
    """Other processes that wanted to run when it began: load average over a minute."""
    cores: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))

    def figures(self) -> dict[str, float]:
        """By name; what `--json` prints."""
        found = {
            "session_pooled_ms_p50": self.session_pooled.p50_ms,
            "session_pooled_ms_p99": self.session_pooled.p99_ms,
            "session_cold_ms_p50": self.session_cold.p50_ms,
            "session_cold_ms_p99": self.session_cold.p99_ms,
            "calc_ms_p50": self.calculation.p50_ms,
            "calc_ms_p99": self.calculation.p99_ms,
            "calc_overhead_ms_p50": self.calculation.p50_ms - self.calculation_bare.p50_ms,
            "calc_between_overhead_ms_p50": self.calculation_between.p50_ms - self.calculation_between_bare.p50_ms,
            "crop_ms_p50": self.crop.p50_ms,
            "crop_ms_p99": self.crop.p99_ms,
            "crop_bare_ms_p50": self.crop_bare.p50_ms,
            "crop_over_bare_ratio": self.crop.p50_ms / self.crop_bare.p50_ms,
            "crop_per_minute": self.crop_per_minute,
            "calc_per_minute": self.calculation_per_minute,
        }
        for memory, name in ((self.idle, "session"), (self.used, "session_after_crop")):
            if memory is not None:
                found |= {f"{name}_pss_mb": memory.pss_mb, f"{name}_private_mb": memory.private_mb}
        return found


async def measure(config: SandboxConfig | None = None, n: int = 100) -> BenchReport:
    """Measure; takes about ten seconds.

    Args:
        config: What to measure. Its pool is as large as it says, and at least 1.
        n: Starts of each kind, at least 3; there are three times as many calculations, and a third as many crops.

    Raises:
        IsolationError: The level asked for is not to be had here.
        SandboxError: The code of the measurement did not run.
    """
    config = config or SandboxConfig()
    load = os.getloadavg()[0]
    data = await asyncio.to_thread(sample_image)
    image = await asyncio.to_thread(load_image, data)
    pooled_config = config.model_copy(update={"pool": max(1, config.pool)})
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "image.jpg"
        file.write_bytes(data)
        async with (
            open_sandbox(pooled_config) as pooled,
            open_sandbox(config.model_copy(update={"pool": 0})) as cold,
            BareProcess.open(file) as bare,
        ):
            samples = await _take_turns(pooled, cold, bare, image, n) | await _calculate(pooled, bare, n)
            rates = [await _rate(pooled, image, code, seconds=min(1.0, n / 100)) for code in (CROP_INPUT, CALCULATION)]
            idle, used = await session_memory(cold, image)
    timings = {name: Timing.of(seconds) for name, seconds in samples.items()}
    return BenchReport(
        isolation=pooled.isolation,
        session_pooled=timings["session_pooled"],
        session_cold=timings["session_cold"],
        calculation=timings["calculation"],
        calculation_bare=timings["calculation_bare"],
        calculation_between=timings["calculation_between"],
        calculation_between_bare=timings["calculation_between_bare"],
        crop=timings["crop"],
        crop_bare=timings["crop_bare"],
        crop_per_minute=rates[0],
        calculation_per_minute=rates[1],
        idle=idle,
        used=used,
        load=load,
    )


async def _take_turns(
    pooled: Broker, cold: Broker, bare: BareProcess, image: ImageRecord, n: int
) -> dict[str, list[float]]:
    samples: dict[str, list[float]] = {}
    async with pooled.session([image]) as session:
        turns: dict[str, Callable[[], Awaitable[float]]] = {
            "calculation_between": lambda: _run(session, CALCULATION),
            "calculation_between_bare": lambda: bare.run(CALCULATION),
            "crop": lambda: _run(session, CROP_INPUT),
            "crop_bare": lambda: bare.run(CROP_DECODED),
            "session_cold": lambda: _start(cold, image),
            "session_pooled": lambda: _start(pooled, image),
        }
        for turn in range(n + 1):
            for name, measurement in turns.items():
                if "crop" in name and turn % 3:
                    continue
                seconds = [await measurement() for _ in range(3 if "calculation" in name else 1)]
                if turn > 0:  # the first one warms up
                    samples.setdefault(name, []).extend(seconds)
            await asyncio.sleep(0.02)  # in which the pool is filled again, as it is while a model writes
    return samples


async def _calculate(broker: Broker, bare: BareProcess, n: int) -> dict[str, list[float]]:
    """A calculation in a session and in the plain process, in turns."""
    samples: dict[str, list[float]] = {"calculation": [], "calculation_bare": []}
    async with broker.session([]) as session:
        for turn in range(3 * n + 3):
            taken = {"calculation": await _run(session, CALCULATION), "calculation_bare": await bare.run(CALCULATION)}
            if turn >= 3:  # the first ones warm up
                for name, seconds in taken.items():
                    samples[name].append(seconds)
    return samples


async def _start(broker: Broker, image: ImageRecord) -> float:
    started = time.perf_counter()
    async with broker.session([image]):
        return time.perf_counter() - started


async def _run(session: Session, code: str) -> float:
    started = time.perf_counter()
    execution = await session.run(code)
    seconds = time.perf_counter() - started
    check_execution(execution, images=int(code == CROP_INPUT))
    return seconds


def check_execution(execution: Execution, images: int) -> None:
    """See that the work was done.

    Raises:
        SandboxError: The code failed, or did not give back as many pictures of `CROP_SIZE`.
    """
    sizes = [image.size for image in execution.images]
    if execution.error is not None or sizes != [CROP_SIZE] * images:
        raise SandboxError(f"the code of the measurement did not run: {execution.error}, images {sizes}")


async def _rate(broker: Broker, image: ImageRecord, code: str, seconds: float) -> float:
    """Executions a minute of two sessions at once."""

    async def worker() -> int:
        count = 0
        async with broker.session([image]) as session:
            while time.perf_counter() < end:
                await _run(session, code)
                count += 1
        return count

    started = time.perf_counter()
    end = started + seconds
    counts = await asyncio.gather(worker(), worker())
    return sum(counts) * 60 / (time.perf_counter() - started)


async def session_memory(broker: Broker, image: ImageRecord, count: int = 4) -> tuple[Memory | None, Memory | None]:
    """Memory of a session before its first code and after a crop, as the mean of several that live at once.

    Args:
        broker: One without a pool, and without other sessions.
        image: Input of all of them.
        count: How many sessions.
    """
    before = set(descendants(broker.zygote_pid))
    async with AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(broker.session([image])) for _ in range(count)]
        processes = set(descendants(broker.zygote_pid)) - before
        idle = mean_memory(processes)
        for session in sessions:
            await _run(session, CROP_INPUT)
        return idle, mean_memory(processes)
