"""``thyme sandbox serve``: who is let in, what is refused, what ends when, and what is counted."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from PIL import Image
from sandbox_serving import client_of, code_of
from web_server import serving_here

from thyme.config.sandbox_server import SandboxServerConfig
from thyme.errors import IsolationError, SandboxError, UsageError
from thyme.hosting import Address
from thyme.sandbox import SandboxConfig, protocol
from thyme.sandbox.remote import open_remote
from thyme.sandbox.server.app import Service, make_app
from thyme.sandbox.server.guard import Guard
from thyme.sandbox.server.refusal import Refusal
from thyme.sandbox.server.serve import require_token
from thyme.types import ImageRecord

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOKEN = "sixteen-or-more-letters"
CONFIG = SandboxConfig(timeout_s=20, memory_mb=1024, max_sessions=2, pool=0)


def limits(**changes: Any) -> SandboxServerConfig:
    return SandboxServerConfig.model_validate(changes)


@contextlib.asynccontextmanager
async def started(
    folder: Path, config: SandboxConfig = CONFIG, *, token: str | None = None, tcp: bool = False, **changes: Any
) -> AsyncIterator[tuple[Service, str]]:
    """A real server on the event loop of the test; its service and its URL."""
    where = Address(port=0) if tcp else Address(unix=folder / "s")
    async with Service.start(config, limits(**changes)) as service:
        guard = Guard(make_app(service), token=token, only_loopback=tcp, metrics=service.metrics)
        async with serving_here(guard, where) as url:
            yield service, url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Service, str]]:
    """One server for the tests that leave it as it was."""
    changes = {"max_body_mb": 1, "max_inputs": 3, "max_input_pixels": 10_000, "queue_s": 0.2, "max_waiting": 1}
    async with started(tmp_path_factory.mktemp("shared"), **changes) as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plain(shared: tuple[Service, str]) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(shared[1]) as client:
        yield client


def png(width: int = 8, height: int = 6) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(buffer, "PNG")
    return buffer.getvalue()


# --- who is let in


async def test_only_who_shows_the_token_is_let_in(tmp_path: Path) -> None:
    async with started(tmp_path, token=TOKEN) as (service, url), client_of(url) as client:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": TOKEN}):
            refused = await client.get("/v1/server", headers=headers)
            assert (refused.status_code, code_of(refused)) == (401, "token")
            assert refused.headers["www-authenticate"] == "Bearer"
        assert (await client.get("/metrics")).status_code == 401
        assert (await client.post("/v1/sessions", json={})).status_code == 401
        assert (await client.get("/healthz")).json() == {"status": "alive"}
        assert (await client.get("/readyz")).json()["status"] == "ready"
        assert len(service.sessions) == 0
        with pytest.raises(SandboxError, match=r"wants a token: set THYME_SANDBOX_TOKEN"):
            async with open_remote(url):
                pass
        with pytest.raises(SandboxError, match="does not take this token"):
            async with open_remote(url, "an-other-token-of-length"):
                pass
        async with open_remote(url, TOKEN) as sandbox:
            assert sandbox.isolation == service.brokers.own.isolation


async def test_token_of_the_environment_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THYME_SANDBOX_TOKEN", TOKEN)
    async with started(tmp_path, token=TOKEN) as (_, url), open_remote(url) as sandbox:
        assert sandbox.isolation in {"namespaces", "landlock"}


async def test_without_a_token_only_localhost_may_be_named(tmp_path: Path) -> None:
    """A page in a browser, whose name was made to point here, names its own."""
    async with started(tmp_path, tcp=True) as (_, url), client_of(url) as client:
        assert (await client.get("/v1/server")).status_code == 200
        refused = await client.get("/v1/server", headers={"host": "evil.example"})
        assert (refused.status_code, code_of(refused)) == (403, "host")


@pytest.mark.parametrize("form", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_forms_of_a_browser_are_no_requests(plain: httpx.AsyncClient, form: str) -> None:
    refused = await plain.post("/v1/sessions", content=b"{}", headers={"content-type": form})
    assert (refused.status_code, code_of(refused)) == (415, "content_type")


@pytest.mark.parametrize(
    ("address", "token", "without", "message"),
    [
        (Address("0.0.0.0"), None, False, "0.0.0.0 is reachable from other machines"),
        (Address("::"), None, False, "is reachable"),
        (Address("example.org"), None, False, "is reachable"),
        (Address(), "short", False, "5 characters"),
        (Address(), "with spaces in the middle", False, "printable ASCII"),
        (Address("0.0.0.0"), None, True, None),
        (Address("0.0.0.0"), TOKEN, False, None),
        (Address("127.0.0.2"), None, False, None),
        (Address("0.0.0.0", unix=Path("/x")), None, False, None),
    ],
)
async def test_a_network_needs_a_token(address: Address, token: str | None, without: bool, message: str | None) -> None:
    if message is None:
        require_token(address, token, without)
    else:
        with pytest.raises(UsageError, match=message):
            require_token(address, token, without)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "no token"),
        (["--token-file", "{}/none"], "cannot be read"),
        (["--token-file", "{}/empty"], "is empty"),
        (["--unix", "{}/empty"], "is no socket"),
        (["--instance", "a/b"], "letters, digits"),
    ],
)
async def test_bad_usage_is_one_line_and_exit_code_2(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "empty").touch()
    command = [sys.executable, "-c", "from thyme.cli import main; main()", "sandbox", "serve"]
    given = [argument.replace("{}", str(tmp_path)) for argument in arguments]
    environment = {name: value for name, value in os.environ.items() if name != "THYME_SANDBOX_TOKEN"}
    done = subprocess.run([*command, *given], capture_output=True, text=True, timeout=60, env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


async def test_missing_extra_is_named() -> None:
    code = "import sys; sys.modules['fastapi'] = None; from thyme.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "sandbox", "serve"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "thyme: thyme sandbox serve needs the extra 'serve': pip install 'thyme-vl[serve]'\n"


async def test_importing_the_sandbox_pulls_no_network() -> None:
    code = "import sys, thyme.sandbox; print({'fastapi', 'uvicorn', 'starlette', 'httpx', 'ray'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "set()\n"


# --- plain HTTP


async def test_curl_is_enough(plain: httpx.AsyncClient) -> None:
    image = {"data": base64.b64encode(png()).decode()}
    opened = await plain.post("/v1/sessions", json={"images": [image], "seed": 1})
    assert opened.status_code == 201
    path = f"/v1/sessions/{opened.json()['session']}"
    code = "from PIL import Image\nImage.open(image_path).rotate(90, expand=True).save('r.png')\nprint('r.png')"
    answer = (await plain.post(f"{path}/runs", json={"code": code})).json()
    assert answer["error"] is None
    assert answer["stdout"] == "r.png\n"
    (found,) = answer["images"]
    assert (found["width"], found["height"], found["mode"]) == (6, 8, "RGB")
    with Image.open(io.BytesIO(base64.b64decode(found["png"]))) as picture:
        assert picture.size == (6, 8)
    assert (await plain.delete(path)).status_code == 204
    gone = await plain.post(f"{path}/runs", json={"code": "1"})
    assert (gone.status_code, code_of(gone)) == (404, "unknown_session")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "malformed"),
        (b"[" * 100_000, 400, "malformed"),
        (b'{"sed": 1}', 400, "malformed"),
        (b'{"seed": 1.5}', 400, "malformed"),
        (b'{"key": "../../etc"}', 400, "malformed"),
        (b'{"images": [{"data": "no base 64"}]}', 400, "malformed"),
        (b'{"images": [{"data": "bm8gaW1hZ2U="}]}', 422, "image"),
        (b'{"images": [{"digest": "' + b"0" * 64 + b'"}]}', 409, "unknown_images"),
        (b'{"images": [{}]}', 409, "unknown_images"),
        (b'{"images": [{}, {}, {}, {}]}', 413, "too_many_inputs"),
        (b'{"settings": {"isolation": "landlock"}}', 422, "settings"),
        (b'{"settings": {"timeout_s": 1e9}}', 422, "settings"),
        (b'{"settings": {"timeout_s": NaN}}', 422, "settings"),
        (b'{"settings": {"memory_mb": "all"}}', 422, "settings"),
        (b'{"settings": {"importable": ["torch"]}}', 422, "settings"),
        (b'{"settings": {"repairs": ["magic"]}}', 422, "settings"),
    ],
)
async def test_malformed_sessions_are_refused(
    shared: tuple[Service, str], plain: httpx.AsyncClient, body: bytes, status: int, code: str
) -> None:
    refused = await plain.post("/v1/sessions", content=body, headers={"content-type": "application/json"})
    assert (refused.status_code, code_of(refused)) == (status, code)
    assert len(shared[0].sessions) == 0


@pytest.mark.parametrize("frame", [b"", b"\x01", b"\xff\xff\xff\xff{}", b"\x02\x00\x00\x00{}extra"])
async def test_malformed_frames_are_refused(plain: httpx.AsyncClient, frame: bytes) -> None:
    refused = await plain.post("/v1/sessions", content=frame, headers={"content-type": protocol.FRAME})
    assert (refused.status_code, code_of(refused)) == (400, "malformed")


async def test_image_must_be_what_it_is_said_to_be(plain: httpx.AsyncClient) -> None:
    form = {"content-type": protocol.FRAME}
    for image in ({"format": "JPEG"}, {"digest": "0" * 64}):
        frame = protocol.pack({"images": [{**image, "size": len(png())}]}, [png()])
        refused = await plain.post("/v1/sessions", content=frame, headers=form)
        assert refused.status_code in {400, 422}
        assert code_of(refused) in {"image", "malformed"}


async def test_large_image_is_refused_by_its_header(plain: httpx.AsyncClient) -> None:
    data = bytearray(png(101, 100))[:60]  # cut off: it could not be decoded, and is not
    refused = await plain.post("/v1/sessions", json={"images": [{"data": base64.b64encode(data).decode()}]})
    assert (refused.status_code, code_of(refused)) == (422, "image")
    assert "101 x 100 = 10,100 pixels" in refused.json()["error"]["message"]


async def test_long_bodies_are_refused_early(shared: tuple[Service, str], plain: httpx.AsyncClient) -> None:
    form = {"content-type": "application/json"}
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 1 << 30:
            sent += 1 << 16
            yield b" " * (1 << 16)

    refused = await plain.post("/v1/sessions", content=endless(), headers=form)
    assert (refused.status_code, code_of(refused)) == (413, "too_large")
    assert sent < 64 << 20
    reader, writer = await asyncio.open_unix_connection(shared[1].removeprefix("unix:"))
    head = f"POST /v1/sessions HTTP/1.1\r\nhost: x\r\ncontent-type: {protocol.FRAME}\r\ncontent-length: {1 << 40}"
    writer.write(f"{head}\r\n\r\n".encode())  # and not one byte of the body
    assert (await reader.readline()).startswith(b"HTTP/1.1 413")
    writer.close()
    async with open_remote(shared[1]) as sandbox, sandbox.session() as session:
        with pytest.raises(SandboxError, match="takes requests of 1048576 bytes"):
            await session.run("#" * (2 << 20))
        assert (await session.run("print(1)")).stdout == "1\n"


async def test_slow_body_is_refused(tmp_path: Path) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(0.6)
        yield b"}"

    async with started(tmp_path, upload_s=0.2) as (_, url), client_of(url) as client:
        form = {"content-type": "application/json"}
        with contextlib.suppress(httpx.TransportError):  # the server hangs up on who is still writing
            refused = await client.post("/v1/sessions", content=slow(), headers=form)
            assert (refused.status_code, code_of(refused)) == (408, "too_slow")
        assert 'refused_total{reason="too_slow"} 1' in (await client.get("/metrics")).text


async def test_settings_of_a_session(shared: tuple[Service, str]) -> None:
    service, url = shared
    with pytest.raises(SandboxError, match=r"timeout_s = 60 is more than this server's 20"):
        async with open_remote(url, config=SandboxConfig(timeout_s=60)) as sandbox, sandbox.session():
            pass
    other = "landlock" if service.brokers.own.isolation == "namespaces" else "namespaces"
    with pytest.raises(IsolationError, match=f"not {other}"):
        async with open_remote(url, config=SandboxConfig.model_validate({"isolation": other})):
            pass
    for seconds in (5, 6, 7, 8, 9):  # one after the other: those that nobody uses make room
        async with open_remote(url, config=SandboxConfig(timeout_s=seconds)) as sandbox, sandbox.session() as session:
            assert (await session.run("print(1)")).stdout == "1\n"
    assert len(service.brokers.all()) <= service.limits.max_settings


# --- places


async def test_full_server_lets_wait_and_then_refuses(shared: tuple[Service, str], plain: httpx.AsyncClient) -> None:
    async with open_remote(shared[1], wait_s=20) as sandbox, sandbox.session() as first:
        async with sandbox.session():
            refused = await plain.post("/v1/sessions", json={})
            assert (refused.status_code, code_of(refused)) == (429, "no_place")
            assert int(refused.headers["retry-after"]) >= 1
            async with open_remote(shared[1], wait_s=0.1) as impatient:
                with pytest.raises(SandboxError, match="all 2 sessions are taken"):
                    async with impatient.session():
                        pass
            waiting = asyncio.create_task(_one(sandbox))
            await asyncio.sleep(0.3)
            assert not waiting.done()
        assert await waiting == "1\n"
        assert (await first.run("print(2)")).stdout == "2\n"


async def _one(sandbox: Any) -> str:
    async with sandbox.session() as session:
        stdout = (await session.run("print(1)")).stdout
    assert isinstance(stdout, str)
    return stdout


async def test_session_that_nobody_waits_for_is_not_kept(shared: tuple[Service, str]) -> None:
    """The client goes away while its session is being made."""
    service, url = shared
    async with open_remote(url) as sandbox:
        for delay_s in (0.0, 0.002, 0.01):
            task = asyncio.create_task(_one(sandbox))
            await asyncio.sleep(delay_s)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        async with asyncio.timeout(10):
            while len(service.sessions):
                await asyncio.sleep(0.02)


async def test_session_that_is_ended_before_it_is_open_does_not_open(shared: tuple[Service, str]) -> None:
    service, _ = shared
    key = "0123456789abcdef" * 2
    with pytest.raises(Refusal, match="there is no session"):
        await service.sessions.end(key)
    async with service.sessions.place() as place:
        with pytest.raises(Refusal, match="before it was open"):
            await service.sessions.open(place, key, (), 0, {})
    assert not len(service.sessions)


async def test_idle_session_expires_and_the_next_block_is_told(tmp_path: Path) -> None:
    async with started(tmp_path, session_ttl_s=0.3) as (service, url), open_remote(url) as sandbox:
        async with sandbox.session([ImageRecord.of(Image.new("RGB", (5, 4)))]) as session:
            assert not (await session.run("x = 1")).session_lost
            busy = await session.run("import time\ntime.sleep(0.6)\nprint(x)")
            assert busy.stdout == "1\n"  # who works is not idle
            async with asyncio.timeout(10):
                while len(service.sessions):
                    await asyncio.sleep(0.02)
            execution = await session.run("print(Image.open(image_path).size)\nprint(x)")
            assert execution.session_lost
            assert execution.stdout == "(5, 4)\n"
            assert execution.error is not None
            assert "earlier blocks are gone" in execution.error.message
            assert not (await session.run("print(1)")).session_lost
        assert "thyme_sandbox_sessions_expired_total 1" in service.metrics.text().decode()


# --- no block runs twice


async def test_same_request_is_run_once(plain: httpx.AsyncClient) -> None:
    opened = (await plain.post("/v1/sessions", json={"key": "a" * 32})).json()
    assert (await plain.post("/v1/sessions", json={"key": "a" * 32})).json() == opened
    path = f"/v1/sessions/{opened['session']}"
    await plain.post(f"{path}/runs", json={"code": "n = 0"})
    code = {"code": "import time\ntime.sleep(0.2)\nn += 1\nprint(n)", "request": "b" * 32}
    first, second = await asyncio.gather(*(plain.post(f"{path}/runs", json=code) for _ in range(2)))
    third = await plain.post(f"{path}/runs", json=code)
    assert first.json() == second.json() == third.json()
    assert first.json()["stdout"] == "1\n"
    assert (await plain.post(f"{path}/runs", json={"code": "print(n)"})).json()["stdout"] == "1\n"
    late = await plain.post(f"{path}/runs", json=code)
    assert (late.status_code, code_of(late)) == (409, "answer_gone")
    running = asyncio.create_task(plain.post(f"{path}/runs", json={"code": "import time\ntime.sleep(5)"}))
    await asyncio.sleep(0.2)
    busy = await plain.post(f"{path}/runs", json={"code": "1"})
    assert (busy.status_code, code_of(busy)) == (409, "busy")
    assert (await plain.delete(path)).status_code == 204
    assert code_of(await running) == "session_ended"


async def test_session_of_another_server(shared: tuple[Service, str], plain: httpx.AsyncClient) -> None:
    wrong = await plain.post(f"/v1/sessions/other-{'0' * 32}/runs", json={"code": "1"})
    assert (wrong.status_code, code_of(wrong)) == (421, "wrong_instance")
    assert "x-thyme-affinity" in wrong.json()["error"]["message"]
    unknown = await plain.delete(f"/v1/sessions/{shared[0].sessions.instance}-{'0' * 32}")
    assert (unknown.status_code, code_of(unknown)) == (404, "unknown_session")


async def test_other_protocol_is_refused(plain: httpx.AsyncClient) -> None:
    refused = await plain.post("/v1/sessions", json={}, headers={protocol.PROTOCOL_HEADER: "2"})
    assert (refused.status_code, code_of(refused)) == (400, "protocol")
    assert "same version" in refused.json()["error"]["message"]


# --- metrics


async def test_metrics_count_what_happened(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        _, url = await stack.enter_async_context(started(tmp_path))
        client = await stack.enter_async_context(client_of(url))
        sandbox = await stack.enter_async_context(open_remote(url))
        async with sandbox.session() as session:
            await session.run("print(np.zeros(3))")
            await session.run("1 / 0")
            await session.run("class Mine(Exception): pass\nraise Mine")
            await session.run("import os\nos._exit(0)")
            await client.get("/v1/nothing")
            await client.post("/v1/sessions", content=b"{", headers={"content-type": "application/json"})
            response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    lines = set(response.text.splitlines())
    assert {
        "thyme_sandbox_sessions 1.0",
        "thyme_sandbox_sessions_opened_total 1.0",
        "thyme_sandbox_sessions_lost_total 1.0",
        "thyme_sandbox_runs_total 4.0",
        "thyme_sandbox_run_seconds_count 4.0",
        'thyme_sandbox_repairs_total{name="names"} 1.0',
        'thyme_sandbox_errors_total{type="ZeroDivisionError"} 1.0',
        'thyme_sandbox_errors_total{type="other"} 1.0',
        'thyme_sandbox_errors_total{type="Killed"} 1.0',
        'thyme_sandbox_refused_total{reason="malformed"} 1.0',
        "thyme_sandbox_draining 0.0",
    } <= lines


async def test_pool_is_counted(tmp_path: Path) -> None:
    async with started(tmp_path, CONFIG.model_copy(update={"pool": 2})) as (service, _):
        async with asyncio.timeout(20):
            while b"thyme_sandbox_pool 2.0" not in service.metrics.text():
                await asyncio.sleep(0.02)


async def test_readiness_names_the_level(plain: httpx.AsyncClient) -> None:
    ready = (await plain.get("/readyz")).json()
    assert json.dumps(ready)
    assert ready["isolation"] in {"namespaces", "landlock"}
