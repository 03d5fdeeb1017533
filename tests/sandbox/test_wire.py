"""A session's reply is believed only if it is exactly what an honest session says."""

from __future__ import annotations

import asyncio
import json
import mmap
import os
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thyme.sandbox import SandboxConfig, wire
from thyme.sandbox.channel import Channel
from thyme.types import image_id

CONFIG = SandboxConfig(max_images=2, max_image_pixels=10_000, max_total_pixels=12_000, stdout_chars=100)
ID = "ab" * 16
PICTURE = {"name": "/mnt/data/temp_processed_images/a.png", "mode": "RGB", "width": 10, "height": 20, "offset": 0}
HONEST: dict[str, Any] = {
    "id": ID,
    "ran": None,
    "stdout": "hello\n",
    "truncated": False,
    "error": {"type": "ValueError", "message": "no", "line": 3},
    "images": [PICTURE],
    "repairs": [{"name": "fences", "note": "took it off", "count": 1}],
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


def read(message: Any) -> wire.Reply:
    return wire.read_reply(json.dumps(message).encode(), ID, CONFIG)


def test_honest_reply_is_read() -> None:
    reply = read(HONEST)
    error = reply.execution_error()
    assert error is not None
    assert (reply.stdout, error.type, error.line) == ("hello\n", "ValueError", 3)
    assert reply.repair_records()[0].name == "fences"


@given(st.sampled_from(sorted(HONEST)), JSON)
def test_any_field_may_be_anything_and_nothing_but_a_protocol_error_comes_of_it(field: str, value: Any) -> None:
    try:
        reply = read({**HONEST, field: value})
    except wire.ProtocolError:
        return
    assert reply.id == ID


@given(st.sampled_from(sorted(PICTURE)), JSON)
def test_any_field_of_a_picture_may_be_anything(field: str, value: Any) -> None:
    try:
        reply = read({**HONEST, "images": [{**PICTURE, field: value}]})
    except wire.ProtocolError:
        return
    for image in reply.images:
        assert image.offset + image.size_bytes <= wire.shared_bytes(CONFIG)


@given(st.binary(max_size=200))
def test_any_bytes_may_come(data: bytes) -> None:
    with pytest.raises(wire.ProtocolError):
        wire.read_reply(data, ID, CONFIG)


@pytest.mark.parametrize(
    "change",
    [
        {"id": "cd" * 16},
        {"extra": 1},
        {"stdout": "x" * 400},
        {"images": [PICTURE] * 3},
        {"images": [{**PICTURE, "width": 200, "height": 200}]},
        {"images": [{**PICTURE, "width": 100, "height": 90}, {**PICTURE, "width": 100, "height": 90}]},
        {"images": [{**PICTURE, "offset": 1 << 60}]},
        {"images": [{**PICTURE, "offset": -1}]},
        {"images": [{**PICTURE, "width": 0}]},
        {"images": [{**PICTURE, "width": 2.0}]},
        {"images": [{**PICTURE, "mode": "P"}]},
        {"images": [{**PICTURE, "name": "/etc/passwd"}]},
        {"images": [{**PICTURE, "name": "/mnt/data/a\nb.png"}]},
        {"repairs": [{"name": "x y", "note": "", "count": 1}]},
        {"error": {"type": "", "message": "", "line": None}},
        {"truncated": 1},
    ],
)
def test_dishonest_reply_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(wire.ProtocolError):
        read({**HONEST, **change})


def test_nesting_and_duplicates_do_not_hurt() -> None:
    for data in (b"[" * 500_000, b'{"id":' * 100_000, b'{"id":1,"id":2}', b"1e999999", b"9" * 10_000):
        with pytest.raises(wire.ProtocolError):
            wire.read_reply(data, ID, CONFIG)


def test_replies_that_are_costly_to_refuse_are_refused_at_once() -> None:
    """Naming a million faults takes long, and whoever waits for other sessions waits as well."""
    for change in ({str(n): 0 for n in range(20_000)}, {"images": [0] * 20_000}, {"images": [[[]] * 20_000]}):
        with pytest.raises(wire.ProtocolError, match="more values than in any honest reply"):
            read({**HONEST, **change})


@pytest.mark.parametrize(
    "data",
    [
        b"[" + b"[]," * 1_300_000 + b"1]",
        b"[" * 4_000_000,
        b'"' * 3_999_999,
        b'{"a":"' + b'\\",\\"' * 10 + b'"' + b',"":1' * 500_000 + b"}",
    ],
    ids=["lists", "nested", "quotes", "keys"],
)
def test_a_million_values_are_refused_unread(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading them would keep the event loop from all other sessions for half a second."""
    monkeypatch.setattr(wire, "from_json", lambda data: pytest.fail("they were read"))
    with pytest.raises(wire.ProtocolError, match="more values than in any honest reply"):
        wire.read_reply(data, ID, CONFIG)


@given(st.text(max_size=3000), st.lists(st.text(max_size=30), max_size=200))
def test_no_honest_text_counts_as_values(text: str, more: list[str]) -> None:
    reply = read({**HONEST, "stdout": "", "ran": text + ',[{"\\' * 9000 + "".join(more)})
    assert reply.ran is not None
    assert reply.ran.startswith(text)


async def test_length_is_checked_before_anything_is_read() -> None:
    ours, theirs = socket.socketpair()
    channel = Channel(ours)
    theirs.sendall(wire.LENGTH.pack(2**32 - 1))
    with theirs, pytest.raises(wire.ProtocolError, match="4294967295 bytes"):
        await channel.receive(1000, asyncio.get_running_loop().time() + 30)
    channel.close()


def test_memory_file_of_the_pictures_keeps_its_size() -> None:
    descriptor = wire.shared_memory(1 << 20)
    try:
        for size in (0, 1 << 21):
            with pytest.raises(PermissionError):
                os.ftruncate(descriptor, size)
    finally:
        os.close(descriptor)


def test_input_file_cannot_be_changed() -> None:
    descriptor = wire.sealed_file(b"abc")
    try:
        with pytest.raises(PermissionError):
            os.pwrite(descriptor, b"x", 0)
    finally:
        os.close(descriptor)


def test_pictures_are_copied_out_and_their_pages_given_back() -> None:
    descriptor = wire.shared_memory(wire.KEPT_BYTES + (1 << 20))
    pixels = bytes(range(200)) * 3
    with mmap.mmap(descriptor, 0) as memory:
        for offset in (0, wire.KEPT_BYTES):
            memory[offset : offset + 600] = pixels
            image = wire.WireImage(name="/mnt/data/a.png", mode="RGB", width=10, height=20, offset=offset)
            (record,) = wire.take_images(memory, [image])
            assert record.image.tobytes() == pixels
            assert record.id == image_id(record.image)
            assert (record.size, record.name) == ((10, 20), "/mnt/data/a.png")
        assert memory[:600] == pixels  # the session's own
        assert os.fstat(descriptor).st_blocks * 512 == mmap.PAGESIZE
    os.close(descriptor)
