"""A session's process that is ended: nothing reaches for it afterwards, as its handle may stand for another one."""

from __future__ import annotations

import asyncio
import mmap
import os
import socket
import subprocess
from typing import Any

from thyme.sandbox import wire
from thyme.sandbox.channel import Channel
from thyme.sandbox.process import _PAUSE_AFTER_S, SessionProcess


async def test_an_answer_that_comes_in_while_it_is_ended_pauses_nobody() -> None:
    ours, theirs = socket.socketpair()
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    with theirs, subprocess.Popen(["sleep", "60"]) as sleeper:
        process = SessionProcess("0" * 16, Channel(ours), os.pidfd_open(sleeper.pid), mmap.mmap(-1, 4096), None)
        asked = asyncio.create_task(process.ask({"run": "print(1)"}, 100, 30))
        while process._channel._answer is None:
            await asyncio.sleep(0.01)
        process._channel._answer.set_result(wire.pack({"answer": 1}))
        await process.kill()
        assert await asked
        await asyncio.sleep(2 * _PAUSE_AFTER_S)
    assert faults == []
