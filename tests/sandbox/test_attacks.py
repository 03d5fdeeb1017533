"""Every attack, at every level, as whoever runs the tests: none escapes, hangs, harms the host or the next session."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator

import psutil
import pytest
from conftest import SMALL
from PIL import Image
from shooting_range import ATTACKS, Range, open_range

from thyme.sandbox import Broker
from thyme.types import Execution, ImageRecord

pytestmark = pytest.mark.asyncio(loop_scope="module")

SOUND = "import random\nprint(6 * 7, len(str(abs)[:3]))"
INPUT = ImageRecord.of(Image.linear_gradient("L").convert("RGB"))


@pytest.fixture(scope="module")
def targets() -> Iterator[Range]:
    with open_range() as found:
        yield found


def living(broker: Broker) -> list[psutil.Process]:
    """Processes below the zygote that was started, without those that only wait to be reaped."""
    children = psutil.Process(broker.zygote_pid).children(recursive=True)
    return [child for child in children if child.status() != psutil.STATUS_ZOMBIE]


def idle_count(broker: Broker) -> int:
    """Processes that stand when no session is open: at the full level the zygote is process 1 of its namespace."""
    return SMALL.pool + (1 if broker.isolation == "namespaces" else 0)


@pytest.mark.parametrize("attack", sorted(ATTACKS))
async def test_attack_is_contained(attack: str, small_broker: Broker, targets: Range) -> None:
    async with small_broker.session([INPUT]) as session:
        await session.run("pass")  # what is kept for later sessions is made now
    await small_broker.settle()
    descriptors = len(os.listdir("/proc/self/fd"))
    started = time.monotonic()
    async with small_broker.session([INPUT], seed=1) as session:
        before = await session.run("print(open(image_path, 'rb').read()[:4])")
        async with asyncio.timeout(30):
            execution = await session.run(targets.code(attack))
        took = time.monotonic() - started
        after = await session.run("print(open(image_path, 'rb').read()[:4])")
        async with small_broker.session() as neighbour:
            sound = await neighbour.run(SOUND)
    assert targets.succeeded(attack, execution, sound) == ""
    assert before.stdout == after.stdout or after.error, "the input changed"
    assert took < 15, "far over the limit of half a second, even on a busy machine"
    await small_broker.settle()
    assert len(living(small_broker)) == idle_count(small_broker)
    assert len(os.listdir("/proc/self/fd")) <= descriptors


async def test_range_notices_an_attack_that_works(targets: Range) -> None:
    """The criteria themselves: the same code, run without a sandbox, is seen to succeed."""
    code = targets.code("09_delete_files")
    printed: list[str] = []
    exec(code.replace("print(", "report("), {"report": printed.append})
    assert printed == ["ESC:deleted"]
    assert [hit for hit, happened in targets._hits(Execution(code=code)) if happened] == ["a file is gone"]
    (targets.folder / "deleteme").touch()
