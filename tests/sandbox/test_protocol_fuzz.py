"""Anything at all comes back over a session's stream: the broker answers in time, in bounds, and serves the next.

Three far sides: code in a real session that writes to its stream with the right id in hand, a stream without a session
behind it, and code text that is nothing sensible. Hypothesis makes up what they say.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import mmap
import os
import socket
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest
from attack_records import FORGE
from conftest import LEVELS, SMALL
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from shooting_range import faults_of

from thyme.errors import IsolationError, SandboxError
from thyme.sandbox import Broker, open_sandbox, wire
from thyme.sandbox.channel import Channel
from thyme.sandbox.process import SessionProcess
from thyme.types import Execution, ImageRecord

T = TypeVar("T")
CONFIG = SMALL.model_copy(update={"timeout_s": 0.2})
SLACK_S = 10.0
"""Seconds over the limit that a busy machine may take; a hang takes for ever."""
FEW, MANY = 30, 500
PATH = "/mnt/data/temp_processed_images/"


class Real:
    """A broker on a loop of its own, for tests that are not coroutines."""

    def __init__(self, broker: Broker, run: Callable[[Coroutine[Any, Any, T]], T]) -> None:
        self.broker, self.run = broker, run

    async def blocks(self, *blocks: str) -> list[Execution]:
        """Run blocks in one session, then a calculation in the next."""
        found = []
        async with self.broker.session([PICTURE]) as session:
            for block in blocks:
                started = time.monotonic()
                found.append(await session.run(block))
                assert time.monotonic() - started < CONFIG.timeout_s + SLACK_S
        for _ in range(3):
            async with self.broker.session() as neighbour:
                sound = await neighbour.run("print(6 * 7)")
            if sound.stdout == "42\n":
                return found
        raise AssertionError(f"the next session is not sound: {sound}")


PICTURE = ImageRecord.of(Image.linear_gradient("L").convert("RGB"))


@pytest.fixture(scope="module", params=LEVELS)
def real(request: pytest.FixtureRequest) -> Iterator[Real]:
    with asyncio.Runner() as runner:
        context = open_sandbox(CONFIG.model_copy(update={"isolation": request.param}))
        try:
            broker = runner.run(context.__aenter__())
        except IsolationError as error:
            pytest.skip(str(error))
        yield Real(broker, runner.run)
        runner.run(context.__aexit__(None, None, None))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
NUMBERS = st.sampled_from([-1, 0, 1, 2, 7, 100, 4096, 65535, 65536, 2**31, 2**32, 2**63, 10**40]) | st.integers()
PICTURES = st.fixed_dictionaries(
    {
        "name": st.sampled_from(
            [f"{PATH}a.png", f"{PATH}b/../c.png", "/etc/passwd", f"{PATH}a\nb", f"{PATH}<answer>", ""]
        )
        | st.text(max_size=9).map(PATH.__add__),
        "mode": st.sampled_from(["L", "RGB", "RGBA", "RGB", "RGBA", "P", "I;16", "", "\0"]),
        "width": NUMBERS | st.integers(1, 50),
        "height": NUMBERS | st.integers(1, 50),
        "offset": NUMBERS | st.integers(0, 10_000),
    }
)
REPLIES = st.fixed_dictionaries(
    {},
    optional={
        "id": st.text(max_size=40),
        "ran": st.none() | st.text(max_size=20),
        "stdout": st.text(max_size=50) | st.just("x" * 30_000),
        "truncated": st.booleans(),
        "error": st.none()
        | st.fixed_dictionaries({"type": st.text(max_size=9), "message": st.text(), "line": NUMBERS}),
        "images": st.lists(PICTURES, max_size=4),
        "repairs": st.lists(
            st.fixed_dictionaries({"name": st.text(max_size=9), "note": st.text(), "count": NUMBERS}), max_size=3
        ),
    },
)
BAD_REPLIES = st.dictionaries(
    st.sampled_from(["id", "ran", "stdout", "truncated", "error", "images", "repairs", "z"]), JSON
)
MOVES = st.lists(
    st.tuples(st.just("bytes"), st.binary(max_size=40).map(bytes.hex))
    | st.tuples(st.just("reply"), REPLIES | BAD_REPLIES)
    | st.tuples(st.just("split"), REPLIES, st.integers(0, 200))
    | st.tuples(st.just("length"), st.sampled_from([0, 1, 3, 100, 4 << 20, (4 << 20) + 1, 2**31, 2**32 - 1]))
    | st.tuples(st.just("json"), JSON)
    | st.tuples(st.just("wait"), st.integers(0, 20))
    | st.sampled_from([("exit",), ("close",), ("loop",), ("thread",)]),
    min_size=1,
    max_size=4,
)
FAR = (
    FORGE
    + """
import threading, time
def play(moves):
    for kind, *rest in moves:
        if kind == "bytes": os.write(3, bytes.fromhex(rest[0]))
        if kind == "reply": say(honest(**rest[0]) if "z" not in rest[0] else rest[0])
        if kind == "json": say(rest[0])
        if kind == "length": os.write(3, struct.pack("<I", rest[0]))
        if kind == "wait": time.sleep(rest[0] / 1000)
        if kind == "exit": os._exit(0)
        if kind == "close": os.close(3)
        if kind == "loop":
            while True: pass
        if kind == "thread": threading.Thread(target=play, args=([["wait", 3], *moves[:-1]],), daemon=True).start()
        if kind == "split":
            data = json.dumps(honest(**rest[0])).encode()
            data = struct.pack("<I", len(data)) + data
            os.write(3, data[:rest[1]]); time.sleep(.002); os.write(3, data[rest[1]:])
play(json.loads(MOVES))
"""
)


def check_far_side(real: Real, moves: list[Any]) -> None:
    code = f"MOVES = {json.dumps(moves)!r}\n" + FAR
    for execution in real.run(real.blocks(code, "print(1)", "print(2)")):
        assert faults_of(execution) == []
        for image in execution.images:
            assert ImageRecord.of(image.image).id == image.id
            assert image.image.size == (image.width, image.height)


FEW_EXAMPLES = settings(max_examples=FEW, suppress_health_check=list(HealthCheck))
MANY_EXAMPLES = settings(max_examples=MANY, suppress_health_check=list(HealthCheck))


@FEW_EXAMPLES
@given(moves=MOVES)
def test_a_session_may_say_anything(real: Real, moves: list[Any]) -> None:
    check_far_side(real, moves)


@pytest.mark.slow
@pytest.mark.timeout(900)
@MANY_EXAMPLES
@given(moves=MOVES)
def test_a_session_may_say_anything_at_length(real: Real, moves: list[Any]) -> None:
    check_far_side(real, moves)


@FEW_EXAMPLES
@given(pictures=st.lists(PICTURES, min_size=1, max_size=6))
def test_a_session_may_show_any_pictures(real: Real, pictures: list[Any]) -> None:
    check_far_side(real, [("reply", {"images": pictures}), ("loop",)])


@pytest.mark.slow
@pytest.mark.timeout(900)
@MANY_EXAMPLES
@given(pictures=st.lists(PICTURES, min_size=1, max_size=6))
def test_a_session_may_show_any_pictures_at_length(real: Real, pictures: list[Any]) -> None:
    check_far_side(real, [("reply", {"images": pictures}), ("loop",)])


SCRIBBLE = """
import gc, threading
spots = [v for v in reachable() if type(v) is memoryview and not v.readonly and v.nbytes > 1 << 20]
print(len(spots))
def scribble(n):
    while True:
        for v in spots: v[:90000] = bytes([n]) * 90000; n = (n + 1) % 256
for n in range(3): threading.Thread(target=scribble, args=(n,), daemon=True).start()
"""


def test_pictures_that_change_while_they_are_read(real: Real) -> None:
    """What comes back is one copy: its hash is that of its pixels, whatever the session goes on to write."""
    picture = {"name": f"{PATH}a.png", "mode": "RGB", "width": 150, "height": 200, "offset": 0}
    reply = f"say(honest(stdout='%d' % len(spots), images={[picture] * 4}))\n" + "while True: pass"
    read = 0
    for _ in range(12):
        (execution,) = real.run(real.blocks(FORGE + SCRIBBLE + reply))
        if execution.error:  # on a busy machine the threads may leave the reply no time
            assert execution.error.type == "Timeout"
            continue
        assert int(execution.stdout) > 0, "the shared memory was found"
        assert len(execution.images) == 4
        for image in execution.images:
            assert ImageRecord.of(image.image).id == image.id
        read += 1
    assert read, "at least one reply came in time"


WORDS = st.sampled_from(
    str.split(
        "print ( ) [ ] { } : , . = == lambda def class if else for while try except return yield import from as with "
        "x image_path 0 1 -1 1e999 'a' f'{x}' \\ # ``` ~~~ async await raise Image cv2 np crop save open * ** @ -> := "
        "None True del global nonlocal assert pass break ''' \n \t \x00 \ufeff \u2028 \u00a0 \u201c",
        " ",
    )
)
CODE = st.text(max_size=60) | st.lists(WORDS, max_size=25).map(" ".join) | st.lists(WORDS, max_size=25).map("\n ".join)


@settings(max_examples=2 * FEW, suppress_health_check=list(HealthCheck))
@given(code=CODE)
def test_any_text_may_be_code(real: Real, code: str) -> None:
    (execution,) = real.run(real.blocks(code))
    assert execution.code == code.encode("utf-8", "replace").decode()
    assert faults_of(execution) == []


# --- a stream without a session behind it -----------------------------------------------------------------------------


@contextlib.contextmanager
def impostor(broker: Broker) -> Iterator[socket.socket]:
    """The next session of a broker is this socket."""
    ours, theirs = socket.socketpair()
    sleeper = subprocess.Popen(["sleep", "60"])
    memory = mmap.mmap(-1, wire.shared_bytes(CONFIG))
    process = SessionProcess("0" * 16, Channel(ours), os.pidfd_open(sleeper.pid), memory, None)
    pool = broker._pool
    original, config, show = pool._started, pool._config, pool._show

    async def started() -> SessionProcess:
        pool._started = original  # type: ignore[method-assign]  # once
        return process

    async def nothing(*_: Any) -> None:
        pool._show = show  # type: ignore[method-assign]  # once

    pool._started, pool._show = started, nothing  # type: ignore[method-assign]  # that is the point
    pool._config = config.model_copy(update={"start_timeout_s": 0.2})
    try:
        yield theirs
    finally:
        pool._started, pool._config, pool._show = original, config, show  # type: ignore[method-assign]
        theirs.close()
        sleeper.kill()
        sleeper.wait()


FRAMED = st.binary(max_size=30).map(lambda data: wire.LENGTH.pack(len(data)) + data)
STREAMS = st.lists(
    st.binary(max_size=30) | FRAMED | (REPLIES | JSON).map(wire.pack) | st.just(wire.pack({"ready": True})), max_size=4
)


@FEW_EXAMPLES
@given(at_bind=STREAMS, then=STREAMS, honest=st.booleans(), closes=st.booleans())
def test_a_stream_may_carry_anything(
    real: Real, at_bind: list[bytes], then: list[bytes], honest: bool, closes: bool
) -> None:
    async def meet() -> None:
        with impostor(real.broker) as far:
            far.sendall(b"".join([wire.pack({"ready": True})] if honest else at_bind))
            far.sendall(b"".join(then))
            if closes:
                far.shutdown(socket.SHUT_RDWR)
            started = time.monotonic()
            with contextlib.suppress(SandboxError):
                async with real.broker.session([PICTURE]) as session:
                    execution = await session.run("print(1)")
                    assert execution.error is not None or execution.stdout == "1\n"
            assert time.monotonic() - started < 2 * CONFIG.timeout_s + SLACK_S

    real.run(meet())
    assert real.run(real.blocks("print(4)"))[0].stdout == "4\n"


# --- the stream by itself ---------------------------------------------------------------------------------------------


@settings(max_examples=2 * FEW)
@given(
    messages=st.lists(st.binary(max_size=300), max_size=5),
    cuts=st.lists(st.integers(0, 1500)),
    end=st.binary(max_size=3),
)
def test_messages_arrive_whole_however_they_are_cut(messages: list[bytes], cuts: list[int], end: bytes) -> None:
    stream = b"".join(wire.LENGTH.pack(len(message)) + message for message in messages) + end
    borders = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    parts = [stream[a:b] for a, b in itertools.pairwise(borders)]

    async def through() -> list[bytes]:
        ours, theirs = socket.socketpair()
        channel = Channel(ours)
        received: list[bytes] = []

        async def listen() -> None:
            with contextlib.suppress(OSError, wire.ProtocolError):
                while True:
                    received.append(await channel.receive(250, asyncio.get_running_loop().time() + 10))

        listening = asyncio.ensure_future(listen())
        for part in parts:
            theirs.sendall(part)
            await asyncio.sleep(0)
        theirs.close()
        await listening
        channel.close()
        return received

    long = next((i for i, message in enumerate(messages) if len(message) > 250), len(messages))
    received = asyncio.run(through())
    assert received == messages[: len(received)]
    assert len(received) <= long
    assert received or not long, "the first arrives, unless it is too long"
