"""The client: it believes a server little, and runs nothing twice when connections break."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sandbox_serving import serving

from thyme.config.sandbox import SandboxConfig
from thyme.errors import SandboxDiedError, SandboxError, UsageError
from thyme.sandbox import protocol
from thyme.sandbox.protocol import MalformedError
from thyme.sandbox.remote import open_remote, settings_of

HELLO = {"protocol": 1, "version": "9", "instance": "i", "isolation": "landlock", "max_body": 1 << 20}
OPENED = {"session": "i-" + "0" * 32, "isolation": "landlock", "timeout_s": 1.0}
ANSWER: dict[str, Any] = {
    "code": None, "ran": None, "stdout": "", "error": None, "images": [], "repairs": [], "duration_s": 0.1,
    "truncated": False, "session_lost": False, "isolation": "landlock",
}  # fmt: skip
IMAGE = {"name": "/mnt/data/a.png", "mode": "RGB", "width": 2, "height": 1}
REQUEST = "0" * 32


def frame(head: Any, body: bytes = b"") -> bytes:
    return protocol.pack(head, [body])


# --- reading answers


def read(head: Any, body: bytes = b"", config: SandboxConfig | None = None) -> Any:
    return protocol.read_answer(frame(head, body), REQUEST, "code", config or SandboxConfig())


def test_honest_answer_is_read() -> None:
    execution = read({**ANSWER, "request": REQUEST, "images": [IMAGE]}, b"abcdef")
    assert execution.code == execution.ran == "code"
    assert execution.images[0].image.tobytes() == b"abcdef"


@pytest.mark.parametrize(
    ("change", "body", "message"),
    [
        ({"request": "1" * 32}, b"", "another request"),
        ({"extra": 1}, b"", "extra"),
        ({"stdout": 5}, b"", "stdout"),
        ({"truncated": "yes"}, b"", "truncated"),
        ({"duration_s": float("inf")}, b"", "duration"),
        ({"duration_s": float("nan")}, b"", "duration"),
        ({"isolation": "none"}, b"", "isolation"),
        ({"repairs": [{"name": "Boundary!", "note": "", "count": 1}]}, b"", "repairs"),
        ({"error": {"type": "", "message": "", "line": None}}, b"", "error"),
        ({"images": [IMAGE]}, b"abcde", "not as long"),
        ({"images": [IMAGE]}, b"abcdefg", "not as long"),
        ({}, b"x", "not as long"),
        ({"images": [{**IMAGE, "name": "/etc/passwd"}]}, b"abcdef", "name"),
        ({"images": [{**IMAGE, "mode": "P"}]}, b"ab", "mode"),
        ({"images": [{**IMAGE, "width": -2}]}, b"", "width"),
        ({"images": [{**IMAGE, "width": 60_000, "height": 60_000}]}, b"", "more pictures or pixels"),
        ({"images": [IMAGE] * 17}, b"abcdef" * 17, "more pictures or pixels"),
    ],
)
def test_dishonest_answer_is_refused(change: dict[str, Any], body: bytes, message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        read({**ANSWER, "request": REQUEST, **change}, body)


@given(st.binary(max_size=300))
def test_any_bytes_are_an_answer_or_malformed(data: bytes) -> None:
    with contextlib.suppress(MalformedError):
        protocol.read_answer(data, REQUEST, "code", SandboxConfig())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*ANSWER, *IMAGE]), inner, max_size=4),
    max_leaves=8,
)


@given(st.sampled_from([*ANSWER]), JSON, st.binary(max_size=12))
def test_any_field_is_read_or_malformed(name: str, value: Any, body: bytes) -> None:
    with contextlib.suppress(MalformedError):
        execution = read({**ANSWER, "request": REQUEST, name: value}, body)
        assert sum(len(image.image.tobytes()) for image in execution.images) == len(body)


@given(st.dictionaries(st.text(max_size=4), st.integers() | st.text(), max_size=3), st.binary(max_size=50))
def test_frames_round_trip(head: dict[str, Any], body: bytes) -> None:
    packed, rest = protocol.unpack(frame(head, body))
    assert json.loads(bytes(packed)) == head
    assert bytes(rest) == body


def test_only_given_settings_are_asked_for() -> None:
    assert settings_of(SandboxConfig()) == {}
    config = SandboxConfig(timeout_s=3, repairs=("names",), max_sessions=5, isolation="landlock")
    assert settings_of(config) == {"timeout_s": 3.0, "repairs": ["names"]}


@pytest.mark.parametrize("url", ["", "unix:", "ftp://x", "localhost:80", "http://", "http://user:pw@host", "http://[x"])
async def test_what_is_no_address(url: str) -> None:
    with pytest.raises(UsageError, match="no address of a sandbox server"):
        async with open_remote(url):
            pass


# --- servers that lie


Handler = Callable[[str, str, bytes], Awaitable[tuple[int, bytes]]]


@contextlib.asynccontextmanager
async def lying(folder: Path, handler: Handler) -> AsyncIterator[str]:
    """A server that answers whatever `handler` says to method, path and body."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError), contextlib.closing(writer):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                method, path = head.split(" ")[:2]
                length = int(head.split("content-length: ")[1].split("\r\n")[0]) if "content-length: " in head else 0
                status, answer = await handler(method, path, await reader.readexactly(length))
                writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(answer)}\r\n\r\n".encode() + answer)
                await writer.drain()

    server = await asyncio.start_unix_server(talk, str(folder / "s"))
    async with server:
        yield f"unix:{folder / 's'}"


def answering(run: Callable[[bytes], tuple[int, bytes]], hello: Any = HELLO) -> Handler:
    async def handler(method: str, path: str, body: bytes) -> tuple[int, bytes]:
        if path == "/v1/server":
            return 200, hello if isinstance(hello, bytes) else json.dumps(hello).encode()
        if path == "/v1/sessions":
            return 201, json.dumps(OPENED).encode()
        return (204, b"") if method == "delete" else run(body)

    return handler


@pytest.mark.parametrize(
    ("hello", "message"),
    [
        ({**HELLO, "protocol": 2, "new": 1}, r"version 9\) speaks protocol 2, this client .* 1: install the same"),
        ({**HELLO, "isolation": "none"}, "does not answer as a thyme sandbox server"),
        (b"<html>", "does not answer as a thyme sandbox server"),
        (b"[1]", "does not answer as a thyme sandbox server"),
        (b"[" * 50_000, "does not answer as a thyme sandbox server"),
        (b"x" * (2 << 20), "more than 1048576 bytes"),
    ],
)
async def test_greeting_that_makes_no_sense(tmp_path: Path, hello: Any, message: str) -> None:
    async with lying(tmp_path, answering(lambda body: (200, b""), hello)) as url:
        with pytest.raises(SandboxError, match=message):
            async with open_remote(url):
                pass


@pytest.mark.parametrize(
    ("status", "answer", "message"),
    [
        (200, b"", "answered what it may not"),
        (200, frame({**ANSWER, "request": "f" * 32}), "another request"),
        (200, struct.pack("<I", 1 << 31), "answered what it may not"),
        (500, b"oops", "HTTP status 500"),
        (403, b'{"error": {"code": "no", "message": "why"}}', "refused: why"),
        (200, b" " * 600_000, "more than"),
    ],
)
async def test_answer_that_makes_no_sense(tmp_path: Path, status: int, answer: bytes, message: str) -> None:
    config = SandboxConfig(max_total_pixels=1000, stdout_chars=100, code_chars=100, message_bytes=1 << 17)
    async with (
        lying(tmp_path, answering(lambda body: (status, answer))) as url,
        open_remote(url, config=config) as far,
        far.session() as session,
    ):
        with pytest.raises(SandboxError, match=message):
            await session.run("print(1)")


async def test_answer_that_does_not_come(tmp_path: Path) -> None:
    plain = answering(lambda body: (200, b""))

    async def handler(method: str, path: str, body: bytes) -> tuple[int, bytes]:
        if path.endswith("/runs"):
            await asyncio.sleep(20)
        return await plain(method, path, body)

    async with lying(tmp_path, handler) as url, open_remote(url, grace_s=-0.5) as far, far.session() as session:
        with pytest.raises(SandboxDiedError, match=r"did not answer within 0\.5 s"):
            await session.run("print(1)")


async def test_one_session_on_two_servers_is_an_error(tmp_path: Path) -> None:
    """A load balancer without affinity: the first time the session counts as lost, then it is said what is wrong."""
    fault = {"error": {"code": "wrong_instance", "message": "belongs to instance a, and this is b: x-thyme-affinity"}}
    async with (
        lying(tmp_path, answering(lambda body: (421, json.dumps(fault).encode()))) as url,
        open_remote(url) as far,
        far.session() as session,
    ):
        with pytest.raises(SandboxError, match=r"as soon as it was made: .*x-thyme-affinity"):
            await session.run("print(1)")


# --- connections that break


@contextlib.asynccontextmanager
async def cutting(folder: Path, target: str, cut: Callable[[bytes], str]) -> AsyncIterator[str]:
    """Passes bytes on to a real server, and cuts connections before or after what `cut` says."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_unix_connection(target)
        hit = False

        async def back() -> None:
            while (data := await there_reader.read(1 << 16)) and not hit:
                writer.write(data)
            writer.close()

        answers = asyncio.create_task(back())
        while data := await reader.read(1 << 16):
            when = cut(data)
            if when == "before":
                break
            hit = hit or when == "after"
            there_writer.write(data)
        there_writer.close()
        writer.close()
        await answers

    server = await asyncio.start_unix_server(talk, str(folder / "proxy"))
    async with server:
        yield f"unix:{folder / 'proxy'}"


@pytest.mark.parametrize("when", ["before", "after"])
async def test_run_over_a_broken_connection_happens_once(tmp_path: Path, when: str) -> None:
    """Whether the request or its answer was lost."""
    cuts = 0

    def cut(data: bytes) -> str:
        nonlocal cuts
        hit = b"n += 1" in data and cuts == 0
        cuts += hit
        return when if hit else ""

    with serving("--unix", tmp_path / "s", "--pool", 0):
        async with (
            cutting(tmp_path, str(tmp_path / "s"), cut) as url,
            open_remote(url) as sandbox,
            sandbox.session() as session,
        ):
            await session.run("n = 0")
            execution = await session.run("n += 1\nprint(n)")
            assert cuts == 1
            assert (execution.stdout, execution.session_lost) == ("1\n", False)
            assert (await session.run("print(n)")).stdout == "1\n"


async def test_run_that_breaks_twice_is_an_error_and_the_next_is_told(tmp_path: Path) -> None:
    with serving("--unix", tmp_path / "s", "--pool", 0):
        cut = {True: "after", False: ""}
        async with (
            cutting(tmp_path, str(tmp_path / "s"), lambda data: cut[b"n += 1" in data]) as url,
            open_remote(url) as sandbox,
            sandbox.session() as session,
        ):
            await session.run("n = 0")
            with pytest.raises(SandboxDiedError, match="did not answer a run"):
                await session.run("n += 1")
            execution = await session.run("print('n' in globals())")
            assert (execution.stdout, execution.session_lost) == ("False\n", True)
